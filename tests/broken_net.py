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


class EpochEnd(Linear):
    """Two optimizers by hand, schedulers and a counter moved at the end of an epoch, dropout and BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.first = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.2))
        self.net = nn.Linear(16, 10)
        self.epochs = nn.Buffer(torch.zeros(()))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        for optimizer in optimizers:
            loss = nn.functional.cross_entropy(self.net(self.first(x.flatten(1))), y)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss.detach()

    def on_train_epoch_end(self) -> None:
        self.epochs.add_(1)
        schedulers: Any = self.lr_schedulers()
        for scheduler in schedulers:
            scheduler.step()

    def configure_optimizers(self) -> Any:
        optimizers = [torch.optim.SGD(self.first.parameters(), 0.1), torch.optim.Adam(self.net.parameters(), 0.01)]
        return optimizers, [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5) for optimizer in optimizers]


class Plateau(Linear):
    """A learning rate that halves whenever the validation loss does not fall by ten."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=10.0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/loss"}}
