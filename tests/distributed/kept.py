"""The shipped modules, which also say at the end of a fit what each process has of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytorch_lightning as pl
import torch

from lightning_modules.classifier import Classifier
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
