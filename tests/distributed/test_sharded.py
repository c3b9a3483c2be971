"""A language model whose weights are cut over two processes, as fsdp cuts them, against a whole one.

torch shards on processors too, Lightning's strategy does not: what is tested is what fsdp asks of the module.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn import functional as F

from lightning_modules.data.text_blocks import IGNORED
from lightning_modules.gpt2 import GPT2
from tests.distributed.pair import pair
from tests.gpt2.small import batch, module

pytestmark = pytest.mark.xdist_group("signals")  # the worker whose forkserver has imported everything
ROWS = [batch([12], [5]), batch([7, 3], [11])]  # of two processes, with 15 and 18 tokens to predict


def stepped(whole: GPT2, model: torch.nn.Module, chosen: list[int]) -> None:
    """Three steps on some of the rows: summed losses, then the mean over all tokens of all processes."""
    optimizer = whole.configure_optimizers()
    for _ in range(3):
        optimizer.zero_grad()
        for row in chosen:
            labels = ROWS[row]["labels"][:, 1:].flatten()
            logits = model(ROWS[row]["input_ids"])[:, :-1].flatten(0, 1)
            F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum").backward()  # type: ignore[no-untyped-call]
            whole._window.add((labels != IGNORED).sum())
        whole._window.scale([p for p in whole.parameters() if p.requires_grad])
        optimizer.step()


def train(folder: Path) -> None:
    """Writes how far this rank's gathered weights are from those of the whole model."""
    rank = int(os.environ["LOCAL_RANK"])
    settings = {"optimizer": {"class": "torch.AdamW", "lr": 1e-2, "weight_decay": 0.5}}
    alone, cut = module(**settings).double(), module(**settings).double()
    before = [p.detach().clone() for p in alone.parameters()]
    stepped(alone, alone, [0, 1])
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    sharded = FullyShardedDataParallel(cut, use_orig_params=True, device_id=torch.device("cpu"))
    stepped(cut, sharded, [rank])
    with FullyShardedDataParallel.summon_full_params(sharded):
        pairs = [*zip(alone.parameters(), cut.parameters(), strict=True)]
        gap = max(float((a - b).detach().abs().max()) for a, b in pairs)
    moved = min(float((a - b).detach().abs().max()) for a, b in zip(alone.parameters(), before, strict=True))
    torch.distributed.destroy_process_group()
    torch.save((gap, moved), folder / f"gap{rank}.pt")


def test_a_model_in_parts_steps_as_a_whole_one_with_weight_decay_on_the_same_weights(tmp_path: Path) -> None:
    pair(train, tmp_path, tmp_path)
    for rank in range(2):
        gap, moved = torch.load(tmp_path / f"gap{rank}.pt")
        assert gap < 1e-6 < moved
