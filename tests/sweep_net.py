"""A module that does as it is told: trains, raises, diverges or takes its time."""

import time
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn


class SweepNet(pl.LightningModule):
    """A linear classifier of digits.

    Args:
        lr: of gradient descent.
        what: it does.
        pause: seconds a step takes.
        diary: gets a line at each step: the process and the epoch.
        betas: nothing.
        seed: of the weights.
    """

    objective = ("val/loss", "min")

    def __init__(
        self,
        lr: float = 0.1,
        what: Literal["train", "raise", "diverge"] = "train",
        pause: float = 0.0,
        diary: str | None = None,
        betas: tuple[float, float] = (0.0, 0.0),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Linear(64, 10)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Any]:
        x, y = batch
        if self.hparams["what"] == "raise":
            raise ValueError("as told")
        if self.hparams["diary"]:
            with Path(self.hparams["diary"]).open("a") as file:
                file.write(f"epoch {self.current_epoch}\n")
        time.sleep(self.hparams["pause"])
        loss = nn.functional.cross_entropy(self.net(x.flatten(1)), y)
        if self.hparams["what"] == "diverge":
            loss = loss * float("inf")
        return {"loss": loss, "lr": self.hparams["lr"]}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val/loss", nn.functional.cross_entropy(self.net(x.flatten(1)), y))
        self.log("val/other", torch.tensor(1.0))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.hparams["lr"])
