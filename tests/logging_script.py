"""Somebody's own Lightning script with the three lines of ours, to be met by faults."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from experiments.logger import Logger, Recorder


class Wave(pl.LightningModule):
    """Returns the step and seven further quantities of it; tells the diary each step.

    Args:
        diary: gets a line a step.
        pause: seconds a step takes.
        fail_at: step that raises; -1 = none.
        nan_at: step whose quantities are not finite; -1 = none.
    """

    def __init__(self, diary: str, pause: float, fail_at: int, nan_at: int) -> None:
        super().__init__()
        self.diary = Path(diary)
        self.pause, self.fail_at, self.nan_at = pause, fail_at, nan_at
        self.net = nn.Linear(1, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Any]:
        if batch_idx == self.fail_at:
            raise RuntimeError("planned")
        time.sleep(self.pause)
        with self.diary.open("a") as file:
            file.write(f"{batch_idx}\n")
        wave = {f"wave{k}": math.sin(batch_idx / (k + 1)) for k in range(6)}
        wave["odd"] = (math.nan, math.inf, -math.inf)[batch_idx % 3] if batch_idx >= self.nan_at >= 0 else 0.0
        return {"loss": self.net(batch[0]).square().mean(), "step": float(batch_idx), **wave}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


def train(store: str, diary: str, steps: int, pause: float = 0.0, fail_at: int = -1, nan_at: int = -1) -> None:
    """A run of `steps` steps with eight quantities a step, recorded by our logger in a plain Trainer."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is born ignoring it
    torch.set_num_threads(1)
    logger = Logger("script", store=store)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=logger,
        callbacks=[Recorder()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=Path(diary).parent,
    )
    trainer.fit(Wave(diary, pause, fail_at, nan_at), DataLoader(TensorDataset(torch.ones(steps, 1))))


def write_points(store: str, n_points: int) -> None:
    """A run of `n_points` values, written by the logger alone."""
    logger = Logger("race", store=store)
    now = time.time_ns() // 1_000_000
    logger.record([("x", float(step), now, step) for step in range(n_points)])
    logger.finish("FINISHED")
    logger.close()


def write_for(store: str, seconds: float, per_second: int, out: str) -> None:
    """Values at a steady rate; the process's memory every second goes to the file `out`."""
    import psutil

    logger, process = Logger("rate", store=store), psutil.Process()
    end, step = time.monotonic() + seconds, 0
    with Path(out).open("w") as file:
        while time.monotonic() < end:
            now = time.time_ns() // 1_000_000
            logger.record([("x", float(step + k), now, step + k) for k in range(per_second // 20)])
            step += per_second // 20
            time.sleep(0.05)
            if step % per_second == 0:
                file.write(f"{process.memory_info().rss}\n")
                file.flush()
    logger.finish("FINISHED")
    logger.close()
    Path(f"{out}.points").write_text(str(step))
