"""A module that says on which rank it is where, and fails there if told to."""

import os
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor, nn


class RankNet(pl.LightningModule):
    """A linear classifier.

    Args:
        diary: file that gets a line at each place: RANK train EPOCH BATCH, RANK validation EPOCH BATCH.
        fault: what happens at a place, as "raise 1 train 0 3", or the number of a signal instead of raise.
        pause: seconds a step takes.
    """

    def __init__(self, diary: str, fault: str = "", pause: float = 0.02) -> None:
        super().__init__()
        self.diary = Path(diary)
        self.fault = fault
        self.pause = pause
        self.net = nn.Linear(64, 10)

    def reach(self, place: str) -> None:
        with self.diary.open("a") as file:
            file.write(f"{place}\n")
        time.sleep(self.pause)
        kind, _, where = self.fault.partition(" ")
        if where != place:
            return
        if kind == "raise":
            raise ArithmeticError("bad luck")
        os.kill(os.getpid(), int(kind))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.reach(f"{self.global_rank} train {self.current_epoch} {batch_idx}")
        return nn.functional.cross_entropy(self.net(batch[0].flatten(1)), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.reach(f"{self.global_rank} validation {self.current_epoch} {batch_idx}")
        self.log("val/loss", nn.functional.cross_entropy(self.net(batch[0].flatten(1)), batch[1]), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)
