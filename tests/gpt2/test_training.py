"""Whole runs of a language model: resumed in the middle of an epoch, and on two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.config import resolve
from experiments.resume import load_checkpoint, resume
from experiments.run import run
from experiments.store.location import Store
from tests.gpt2.small import inputs

ROOT = Path(__file__).parents[2]


def test_a_run_stopped_within_an_epoch_goes_on_to_the_bit(store: Store, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        **inputs("gpt2_zh", tmp_path), "model.dropout": 0.1, "data.block_size": 32, "data.batch_size": 4, "threads": 1,
        "trainer.accumulate_grad_batches": 2, "schedule.steps": 20, "trainer.limit_val_batches": 1,
        "trainer.accelerator": "cpu",
    }  # fmt: skip
    whole = run(resolve("gpt2_zh", overrides={**settings, "trainer.max_steps": 5}), store=store)
    part = run(resolve("gpt2_zh", overrides={**settings, "trainer.max_steps": 3}), store=store)
    resumed = resume(part.run_id, overrides={"trainer.max_steps": 5}, store=store)
    assert (whole.error, part.error, resumed.error) == ("", "", "")
    ends = [load_checkpoint(each.folder / "checkpoints" / "last.ckpt") for each in (whole, part)]
    assert ends[0]["epoch"] == 0
    for key, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][key])
    assert {key: resumed.metrics[key] for key in ("val/loss", "train/loss")} == {
        key: whole.metrics[key] for key in ("val/loss", "train/loss")
    }


RANKS = """
import sys, warnings
warnings.simplefilter("ignore")
import pytorch_lightning as pl, torch
from torch.utils.data import DataLoader
from tests.gpt2.small import D, V
from tests.gpt2.test_module import CPU, RAGGED, Kept, one_batch_gradient
class Mine(Kept):
    def train_dataloader(self):
        rank = self.trainer.global_rank
        return DataLoader(RAGGED[2 * rank : 2 * rank + 2], batch_size=None)
sizes = {"n_layers": 1, "width": D, "vocabulary_size": V, "block_size": 12}
model = Mine(**sizes, optimizer={"class": "sgd", "lr": 1e-18})
model.stepped_with = []
strategy = pl.strategies.DDPStrategy(process_group_backend="gloo")
options = {"accumulate_grad_batches": 2, "use_distributed_sampler": False, "devices": 2, "strategy": strategy}
trainer = pl.Trainer(**CPU, **options, precision="64-true", default_root_dir=sys.argv[1])
trainer.fit(model)
wanted = one_batch_gradient(model, RAGGED)
assert (model.stepped_with[0] - wanted).norm() < 1e-12 * wanted.norm()
found = trainer.validate(model, DataLoader(RAGGED[:2] if trainer.global_rank else RAGGED[2:], batch_size=None))
with torch.no_grad():
    terms = [model._token_losses(rows) for rows in RAGGED]
mean = sum(losses.sum() for losses, _ in terms) / sum(is_target.sum() for _, is_target in terms)
assert abs(found[0]["val/loss"] - float(mean)) < 1e-6
"""


@pytest.mark.slow
def test_two_processes_step_with_the_gradient_of_one_batch_and_validate_as_one(tmp_path: Path) -> None:
    program = tmp_path / "ranks.py"
    program.write_text(RANKS)
    command = [sys.executable, str(program), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=250, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
