"""The data part of models that need none: empty batches, one a step."""

from collections.abc import Iterator

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_modules.data.loader import Epoch, EpochLoader


class Steps(pl.LightningDataModule):
    """Epochs of so many steps without any data, and one validation batch: for models that are their own world.

    Args:
        steps: Steps in an epoch.
    """

    name = "steps"

    def __init__(self, steps: int = 100) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"data.steps = {steps}: must be at least 1")
        self.steps = steps

    def train_dataloader(self) -> EpochLoader[Tensor]:
        """`steps` batches of no numbers."""
        limit = self.trainer.limit_train_batches if self.trainer is not None else 1.0
        return _EmptyBatches(self.steps, limit)

    def val_dataloader(self) -> EpochLoader[Tensor]:
        """One batch of no numbers."""
        return _EmptyBatches(1)


class _EmptyBatches(EpochLoader[Tensor]):
    """`n` batches of shape (1, 0): one sample, of nothing."""

    def __init__(self, n: int, limit: float = 1.0) -> None:
        super().__init__(Epoch(), limit)
        self.n = n

    def __len__(self) -> int:
        return self.n

    def batches(self, epoch: int, start: int) -> Iterator[Tensor]:
        """What is left of the epoch."""
        for _ in range(start, self.n):
            yield torch.empty(1, 0)
