"""A module that says where it is and stays there a while, so that a signal can meet it there."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn


class SlowNet(pl.LightningModule):
    """A linear classifier.

    Args:
        diary: file that gets a line at each place: init, setup, train N, validation N, save N.
        linger: the place to stay at for 4 seconds.
    """

    def __init__(self, diary: str, linger: str = "") -> None:
        super().__init__()
        self.diary = Path(diary)
        self.linger = linger
        self.saves = 0
        self.net = nn.Linear(64, 10)
        self.reach("init")

    def reach(self, place: str) -> None:
        with self.diary.open("a") as file:
            file.write(f"{place}\n")
        if place == self.linger:
            time.sleep(4)

    def setup(self, stage: str) -> None:
        self.reach("setup")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        time.sleep(0.01)
        self.reach(f"train {self.current_epoch} {batch_idx}")
        return nn.functional.cross_entropy(self.net(x.flatten(1)), y)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.reach(f"validation {self.current_epoch} {batch_idx}")
        self.log("val/loss", nn.functional.cross_entropy(self.net(x.flatten(1)), y))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.saves += 1
        self.reach(f"save {self.saves}")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)
