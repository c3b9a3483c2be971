"""What is left out of a step is what nobody looks at."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from experiments.lean import HOOKS, NoProfiler, denormals_flushed, idle_hooks_skipped


class Line(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 1)
        self.norms: list[float] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = self.layer(batch).square().mean()
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        assert self.layer.weight.grad is not None
        self.norms.append(float(self.layer.weight.grad.norm()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Counting(pl.Callback):
    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.batches += 1


def trained(counting: Counting, *, lean: bool) -> Line:
    module = Line()
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        callbacks=[counting, pl.Callback()],
        profiler=NoProfiler() if lean else None,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = DataLoader(torch.arange(60.0).reshape(5, 4, 3) / 60, batch_size=None)  # type: ignore[arg-type,var-annotated]
    if not lean:
        trainer.fit(module, batches)
        return module
    with idle_hooks_skipped(trainer, module):
        assert vars(module)["on_train_batch_start"] is None
        trainer.fit(module, batches)
    return module


@pytest.mark.filterwarnings("ignore:.*does not have many workers|.*GPU available")
def test_a_lean_training_is_the_same_training_and_calls_every_hook_somebody_wrote() -> None:
    plain_count, lean_count = Counting(), Counting()
    plain, lean = trained(plain_count, lean=False), trained(lean_count, lean=True)
    torch.testing.assert_close(lean.layer.weight, plain.layer.weight, rtol=0, atol=0)
    assert lean.norms == plain.norms
    assert lean_count.batches == plain_count.batches == 5
    assert not set(HOOKS) & set(vars(lean)), "the module is as it was"
    assert not set(HOOKS) & set(vars(lean_count))


def test_numbers_below_the_smallest_normal_one_count_as_zero_only_inside() -> None:
    tiny = torch.tensor(1e-40)
    with denormals_flushed():
        assert tiny * 1 == 0
        with denormals_flushed():
            pass
        assert tiny * 1 == 0
    assert tiny * 1 > 0
