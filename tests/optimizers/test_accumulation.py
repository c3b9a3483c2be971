"""Gradients accumulated over micro-batches of any length, against those of one batch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.optimizers.accumulation import TokenWindow, token_mean_factor

N_WORDS = 7


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(N_WORDS, 5), nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, N_WORDS)).double()


def documents(lengths: Sequence[int]) -> list[Tensor]:
    draws = torch.Generator().manual_seed(1)
    return [torch.randint(N_WORDS, (n + 1,), generator=draws) for n in lengths]


def summed_loss(net: nn.Module, ids: Tensor) -> Tensor:
    return F.cross_entropy(net(ids[:-1]), ids[1:], reduction="sum")


def gradients(net: nn.Module) -> Tensor:
    return torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in net.parameters()])


def one_batch(lengths: Sequence[int]) -> Tensor:
    """The gradient of all token losses' mean, by one backward pass."""
    net = model()
    losses = torch.stack([summed_loss(net, ids) for ids in documents(lengths)])
    (losses.sum() / sum(lengths)).backward()  # type: ignore[no-untyped-call]
    return gradients(net)


ragged = st.lists(st.integers(1, 12), min_size=1, max_size=6)


@settings(max_examples=20, deadline=None)
@given(lengths=ragged, divided=st.booleans())
def test_a_window_of_ragged_micro_batches_gives_the_gradient_of_one_batch(lengths: list[int], divided: bool) -> None:
    net, window, k = model(), TokenWindow(), len(lengths) if divided else 1
    for ids in documents(lengths):
        (summed_loss(net, ids) / k).backward()  # type: ignore[no-untyped-call]
        window.add(torch.tensor(len(ids) - 1) if divided else len(ids) - 1)
    assert window.scale(net.parameters(), divided_by=k) == sum(lengths)
    torch.testing.assert_close(gradients(net), one_batch(lengths), rtol=1e-12, atol=1e-12)


def test_the_mean_of_means_is_another_gradient() -> None:
    net, lengths = model(), [16, 8, 3, 1]
    for ids in documents(lengths):
        (summed_loss(net, ids) / (len(ids) - 1) / len(lengths)).backward()  # type: ignore[no-untyped-call]
    exact = one_batch(lengths)
    assert (gradients(net) - exact).norm() > 0.3 * exact.norm()


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(ragged.filter(lambda rank: len(rank) >= 2), min_size=2, max_size=3))
def test_ranks_that_average_their_gradients_give_the_gradient_of_one_batch(lengths: list[list[int]]) -> None:
    k, every = 2, [n for rank in lengths for n in rank[:2]]
    micro_batches = iter(documents(every))
    per_rank = []
    for _ in lengths:
        net = model()
        for _ in range(k):
            (summed_loss(net, next(micro_batches)) / k).backward()  # type: ignore[no-untyped-call]
        per_rank.append(gradients(net))
    averaged = torch.stack(per_rank).mean(0)
    scaled = averaged * token_mean_factor(sum(every), divided_by=k, world_size=len(lengths))
    torch.testing.assert_close(scaled, one_batch(every), rtol=1e-12, atol=1e-12)


def test_the_next_window_starts_from_nothing() -> None:
    net, window = model(), TokenWindow()
    window.add(5)
    window.scale(net.parameters())
    summed_loss(net, documents([3])[0]).backward()  # type: ignore[no-untyped-call]
    window.add(3)
    assert window.scale(net.parameters()) == 3
    torch.testing.assert_close(gradients(net), one_batch([3]), rtol=1e-12, atol=1e-12)


def test_a_window_without_tokens_leaves_the_zero_gradient() -> None:
    w = torch.ones(2, requires_grad=True)
    (w * 0).sum().backward()  # type: ignore[no-untyped-call]
    assert TokenWindow().scale([w]) == 0
    assert w.grad is not None
    assert w.grad.tolist() == [0, 0]


class Documents(pl.LightningModule):
    """One document a batch; its gradients as they are before each step."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.window = model(), TokenWindow()
        self.stepped_with: list[Tensor] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.window.add(batch.shape[1] - 1)
        return summed_loss(self.net, batch[0])

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.window.scale(self.parameters(), divided_by=self.trainer.accumulate_grad_batches)

    def optimizer_step(self, *args: object, **kwargs: object) -> None:
        super().optimizer_step(*args, **kwargs)  # type: ignore[arg-type]
        self.stepped_with.append(gradients(self.net))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("clip", [None, 1e-3])
def test_lightning_steps_and_clips_with_the_gradient_of_one_batch(clip: float | None) -> None:
    lengths, module = [9, 1, 4, 7, 2], Documents()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, accumulate_grad_batches=3, gradient_clip_val=clip, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(documents(lengths)))  # type: ignore[arg-type]
    expected = [one_batch_of(documents(lengths)[:3]), one_batch_of(documents(lengths)[3:])]
    for found, exact in zip(module.stepped_with, expected, strict=True):
        wanted = exact if clip is None else exact * clip / (exact.norm() + 1e-6)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def one_batch_of(batch: list[Tensor]) -> Tensor:
    """As `one_batch`, of given documents."""
    net = model()
    losses = torch.stack([summed_loss(net, ids) for ids in batch])
    (losses.sum() / sum(len(ids) - 1 for ids in batch)).backward()  # type: ignore[no-untyped-call]
    return gradients(net)


def test_counts_and_divisors_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="n_tokens = -1: must be at least 0"):
        token_mean_factor(-1)
    with pytest.raises(ValueError, match=r"divided_by = 0: must be positive and finite"):
        token_mean_factor(1, divided_by=0)


RANK = """
import sys, torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tests.optimizers.test_accumulation import TokenWindow, documents, gradients, model, one_batch, summed_loss
rank, lengths = int(sys.argv[1]), [9, 1, 4, 7]
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
net, window = model(), TokenWindow()
parallel = DistributedDataParallel(net)
for k, ids in enumerate(documents(lengths)[2 * rank : 2 * rank + 2]):
    window.add(len(ids) - 1)
    if k == 0:
        with parallel.no_sync():
            summed_loss(parallel, ids).backward()
    else:
        summed_loss(parallel, ids).backward()
assert window.scale(parallel.parameters()) == sum(lengths)
torch.testing.assert_close(gradients(net), one_batch(lengths), rtol=1e-12, atol=1e-12)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_of_ddp_give_the_gradient_of_one_batch(tmp_path: object) -> None:
    ranks = [subprocess.Popen([sys.executable, "-c", RANK, str(rank), f"{tmp_path}/meet"]) for rank in range(2)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
