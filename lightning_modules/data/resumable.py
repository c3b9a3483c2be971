"""Anybody's loader, made to resume exactly and to share its rows out over processes."""

import random
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset, Sampler

from lightning_modules.data.loader import Epoch, EpochLoader, TensorLoader
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
    state across epochs. On several processes each takes its part of every batch, see `Share`, so k processes of B / k
    rows take the rows that one of B takes; what draws at random from the rows differs.

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
        self._shared: DataLoader[Any] | None = None

    def __len__(self) -> int:
        return len(self._mine())

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of `epoch` from index `start` on."""
        rank, n_processes = process()
        loader = self._mine()
        _seed_everything(self.seed, (epoch, 0, 0 if n_processes > 1 else rank))
        share = getattr(loader, "batch_sampler", None)
        if isinstance(share, Share):
            share.shuffle()  # while all processes have the same generators
        batches = iter(loader)
        for batch in range(len(loader)):
            _seed_everything(self.seed, (epoch, batch, rank))
            try:
                item = next(batches)
            except StopIteration:  # a loader may promise more than it holds
                return
            if batch >= start:
                yield item

    def _mine(self) -> SizedIterable[Batch]:
        """The loader, on several processes of this one's part."""
        if process()[1] == 1:
            return self.loader
        if is_divisible(self.loader):
            self._shared = self._shared or shared(self.loader, is_training=True)  # type: ignore[arg-type]
            return self._shared
        sampler = getattr(self.loader, "sampler", None)
        if isinstance(self.loader, DataLoader) and not isinstance(sampler, DistributedSampler):
            raise ValueError(
                f"training DataLoader with a {type(sampler).__name__} and batches of its own on several processes: each"
                " would train on every row; give it a batch_size, or a torch.utils.data.DistributedSampler"
            )
        return self.loader


class Share(Sampler[list[int]]):
    """This process's part of each global batch: rows r B to (r + 1) B of k B in the order of a sampler, r the rank.

    Args:
        sampler: Of the rows.
        batch_size: B.
        is_training: All parts are equally long, so that the mean of the processes' means is that of the rows: a last
            batch that is shorter is cut to a multiple of k, left out where the loader drops it. Else every row is
            taken once, in equally many batches on each process.
        drop_last: Whether a shorter last batch is left out in training.
    """

    def __init__(self, sampler: Sampler[int], batch_size: int, *, is_training: bool, drop_last: bool = False) -> None:
        self.sampler, self.batch_size = sampler, batch_size
        self.is_training, self.drop_last = is_training, drop_last
        self._order: list[int] | None = None

    def __len__(self) -> int:
        return len(self._parts())

    def __iter__(self) -> Iterator[list[int]]:
        if self._order is None:
            self.shuffle()
        order, self._order = self._order or [], None
        for part in self._parts():
            yield order[part]

    def shuffle(self) -> None:
        """Draws the order of the next pass; all processes must come to the same."""
        if self.is_training:
            self._order = list(self.sampler)
            return
        with isolate_rng():  # whatever order a validation takes, it is the same each time and everywhere
            _seed_everything(0, (0,))
            self._order = list(self.sampler)

    def first_row(self, batch_index: int) -> int:
        """Where this process's part of that batch begins in the order."""
        return int(self._parts()[batch_index].start)

    def _parts(self) -> list[slice]:
        rank, n_processes = process()
        n_rows, size = len(self.sampler), self.batch_size * n_processes  # type: ignore[arg-type]
        if not self.is_training:
            loader = TensorLoader((torch.arange(n_rows),), self.batch_size, sampling=None)
            starts = [loader.first_row(batch) for batch in range(len(loader))]
            return [slice(start, start + len(rows)) for start, (rows,) in zip(starts, loader, strict=True)]
        parts = []
        for first in range(0, n_rows, size):
            each = min(size, n_rows - first) // n_processes
            if each == self.batch_size or (each and not self.drop_last):
                parts.append(slice(first + rank * each, first + (rank + 1) * each))
        return parts


class Validation:
    """A DataLoader of which each process sees its part of every batch, and every row is seen once.

    Not a DataLoader itself: to one Lightning gives a sampler that shows some rows twice.

    Args:
        loader: To share out; see `is_divisible`.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = shared(loader, is_training=False)
        self.dataset, self.batch_size = loader.dataset, loader.batch_size

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)

    def first_row(self, batch_index: int) -> int:
        """Number in the whole set of this process's first row of that batch, where the set is read in order."""
        share: Any = self.loader.batch_sampler
        return int(share.first_row(batch_index))


def divided(loaders: Any) -> Any:
    """Validation loaders of which each process sees its part, in whatever lists or dictionaries they come.

    Those that are no DataLoader, or have a sampler that shares them out, stay as they are.
    """
    if isinstance(loaders, list | tuple):
        return [divided(each) for each in loaders]
    if isinstance(loaders, dict):
        return {key: divided(each) for key, each in loaders.items()}
    return Validation(loaders) if is_divisible(loaders) else loaders


def is_divisible(loader: Any) -> bool:
    """Whether it is a DataLoader that makes batches of rows by their number, and no sampler of its own shares them."""
    return (
        isinstance(loader, DataLoader)
        and not isinstance(loader.dataset, IterableDataset)
        and loader.batch_size is not None
        and type(loader.batch_sampler) is BatchSampler
        and not isinstance(loader.sampler, DistributedSampler)
        and hasattr(loader.sampler, "__len__")
    )


def shared(loader: DataLoader[Any], *, is_training: bool) -> DataLoader[Any]:
    """The loader of this process's part of each global batch; see `Share`."""
    sampler: Any = loader.sampler
    share = Share(sampler, loader.batch_size or 1, is_training=is_training, drop_last=loader.drop_last)
    return DataLoader(
        loader.dataset,
        batch_sampler=share,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def _seed_everything(seed: int, step: tuple[int, ...]) -> None:
    number = draw(seed, "loader", step).initial_seed()
    torch.default_generator.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)
