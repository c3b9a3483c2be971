"""Anybody's loader, made to resume exactly."""

import random
from collections.abc import Iterator
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from lightning_modules.data.loader import Epoch, EpochLoader
from lightning_modules.data.sampling import draw, process

Batch = TypeVar("Batch")
Item = TypeVar("Item", covariant=True)


class SizedIterable(Protocol[Item]):
    """What `Resumable` asks of a loader."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Item]: ...


class Resumable(EpochLoader[Batch]):
    """The batches of a loader whose shuffle and augmentations become functions of (seed, epoch, batch index, rank).

    Before each batch the global generators of torch, numpy and random are set, so nothing needs restoring; batches
    already done are loaded again and dropped. Exact with workers too, unless `persistent_workers` keeps their random
    state across epochs.

    Args:
        loader: A DataLoader, or anything with `__len__` and `__iter__`.
        seed: The run's.
        limit: The Trainer's `limit_train_batches`.
    """

    def __init__(self, loader: SizedIterable[Batch], seed: int = 0, limit: float = 1.0) -> None:
        batch_sampler = getattr(loader, "batch_sampler", None)
        samplers = (getattr(loader, "sampler", None), getattr(batch_sampler, "sampler", None))
        functions = (getattr(sampler, "set_epoch", None) for sampler in dict.fromkeys(samplers))
        super().__init__(Epoch(*(function for function in functions if function is not None)), limit)
        if not hasattr(loader, "__len__"):
            raise ValueError(f"training loader {type(loader).__name__} has no length: give it a __len__ to resume")
        self.loader = loader
        self.seed = seed
        self.batch_size = getattr(loader, "batch_size", None)

    def __len__(self) -> int:
        return len(self.loader)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of `epoch` from index `start` on."""
        rank, n_processes = process()
        if n_processes > 1 and isinstance(self.loader, DataLoader):
            _check_that_rows_are_shared_out(self.loader)
        _seed_everything(self.seed, (epoch, 0, rank))  # iter() may draw the shuffle
        batches = iter(self.loader)
        for batch in range(len(self)):
            _seed_everything(self.seed, (epoch, batch, rank))
            try:
                item = next(batches)
            except StopIteration:  # a loader may promise more than it holds
                return
            if batch >= start:
                yield item


def _seed_everything(seed: int, step: tuple[int, ...]) -> None:
    number = draw(seed, "loader", step).initial_seed()
    torch.default_generator.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)


def _check_that_rows_are_shared_out(loader: DataLoader[object]) -> None:
    # Lightning adds a DistributedSampler to a bare DataLoader only, not to a wrapped one.
    if isinstance(loader.sampler, RandomSampler | SequentialSampler):
        raise ValueError(
            f"training DataLoader with a {type(loader.sampler).__name__} on several processes: each would train on"
            " every row; give it a torch.utils.data.DistributedSampler"
        )
