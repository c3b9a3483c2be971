"""Modules that go wrong, or do things their own way."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn


class Linear(pl.LightningModule):
    """A linear classifier with an optimizer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(64, 10)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.net(x.flatten(1)), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Raising(Linear):
    """Raises at the fourth batch."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        if batch_idx == 3:
            raise RuntimeError("the fourth batch is cursed; token = 'hf_abcdefghijklmnopqrst'")
        return self.loss(batch)


class Counting(Linear):
    """Returns the batch index as a quantity, and its rows as a loss nobody minimises."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Any]:
        return {"loss": self.loss(batch), "index": float(batch_idx), "detached": torch.tensor(2.0)}


class Vector(Linear):
    """Returns a whole batch of losses as a quantity."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"loss": self.loss(batch), "rows": torch.zeros(3)}


class Own(Linear):
    """Logs its loss itself, under our name for it."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.log("train/loss", 42.0)
        return self.loss(batch)


class Fresh(Linear):
    """Optimises by hand, twice a batch, as a GAN does."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        optimizer = self.optimizers()
        for _ in range(2):
            loss = self.loss(batch)
            optimizer.zero_grad()  # type: ignore[union-attr]
            self.manual_backward(loss)
            optimizer.step()  # type: ignore[union-attr]
        return loss.detach()
