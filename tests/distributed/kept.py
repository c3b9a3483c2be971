"""The shipped modules, which also say at the end of a fit what each process has of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules.classifier import Classifier
from lightning_modules.data.sampling import draw
from lightning_modules.gan import GAN
from lightning_modules.gpt2 import GPT2
from lightning_modules.vae import VAE


class Telling(pl.LightningModule):
    """Keeps each rank's state and means beside the run."""

    def on_train_end(self) -> None:
        """Writes them."""
        folder = Path(self.trainer.default_root_dir)
        torch.save(self.state_dict(), folder / f"state.rank{os.environ.get('LOCAL_RANK', 'none')}.pt")


class ToldVAE(Telling, VAE):
    """A VAE."""


class ToldClassifier(Telling, Classifier):
    """A classifier."""


class ToldGAN(Telling, GAN):
    """A GAN."""


class ToldGPT2(Telling, GPT2):
    """A language model."""


class Foreign(Telling):
    """Somebody's module that knows of no other process, and whose learning rate follows what it logs."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Linear(5, 3)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch), batch_size=len(batch[0]))
        self.log("val/rows", float(len(batch[0])), reduce_fx="sum")

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/loss"}}


class Rows(pl.LightningDataModule):
    """Somebody's data in plain loaders, in another order every epoch.

    Args:
        batch_size: a process.
    """

    def __init__(self, batch_size: int = 16) -> None:
        super().__init__()
        self.batch_size = batch_size
        x = torch.randn(202, 5, generator=draw(0, "rows"))
        y = (x[:, 0] > 0).long() + (x[:, 1] > 0)
        self.parts = TensorDataset(x[:165], y[:165]), TensorDataset(x[165:], y[165:])

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.parts[0], self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.parts[1], self.batch_size)
