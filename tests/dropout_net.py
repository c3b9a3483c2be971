"""A module as a user writes one: dropout, its own optimizer, nothing of ours."""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn


class DropoutNet(pl.LightningModule):
    """A classifier with dropout.

    Args:
        width: hidden units.
        lr: learning rate.
    """

    def __init__(self, width: int = 16, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        torch.rand(3)  # a careless draw from the global generator, as foreign code makes
        self.log("val/loss", nn.functional.cross_entropy(self.net(x), y))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.lr)
