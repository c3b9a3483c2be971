"""Loaders that can be left and entered at any batch: the order is a function of (seed, epoch, batch index).

Their state is the batch index alone; the epoch is Lightning's, told through `sampler.set_epoch`.
Shapes: B rows a process and batch, N rows in all.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from torch import Tensor

from lightning_modules.data.sampling import Sampling, batch_rows, checked_sampling, process

Batch = TypeVar("Batch")


class Epoch:
    """The epoch that Lightning is in, told through `set_epoch` as torch's DistributedSampler is told.

    Args:
        told: Further `set_epoch` functions to pass the number on to.
    """

    def __init__(self, *told: Callable[[int], None]) -> None:
        self.number = 0
        self.told = told

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose batches the next pass yields."""
        self.number = epoch
        for tell in self.told:
            tell(epoch)


class EpochLoader(ABC, Generic[Batch]):
    """The batches of an epoch, resumed by Lightning from `state_dict` in the middle of one.

    Args:
        sampler: Told the epoch by Lightning.
        limit: The Trainer's `limit_train_batches`. Needed for one case: a checkpoint of the last batch of an epoch
            cut short by it must not start the next epoch there.
    """

    batch_sampler = None  # Lightning looks for one beside `sampler`

    def __init__(self, sampler: Epoch, limit: float = 1.0) -> None:
        self.sampler = sampler
        self.limit = limit
        self._n_yielded = 0
        self._start = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of `epoch` from index `start` on."""

    def __iter__(self) -> Iterator[Batch]:
        # The state is reset here and not after the last batch: Lightning stops asking at len(self), so code behind the
        # last yield never runs. The epoch is read at the first next(): Lightning calls iter() before set_epoch().
        start, self._start = self._start, 0
        self._n_yielded = start
        return self._counted(start)

    def _counted(self, start: int) -> Iterator[Batch]:
        n_yielded = start
        for batch in self.batches(self.sampler.number, start):
            n_yielded += 1
            self._n_yielded = n_yielded
            yield batch

    def state_dict(self) -> dict[str, int]:
        """{"batch": number of batches of this epoch already yielded}."""
        return {"batch": self._n_yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Lets the next pass begin at batch `state["batch"]`, at 0 if that epoch had ended."""
        batch = state.get("batch")
        if not isinstance(batch, int) or batch < 0:
            raise ValueError(f"state of the training loader = {state}: must be {{'batch': i}} with i >= 0")
        # Lightning goes on with the next epoch after a checkpoint of the last batch, and does so in this same pass.
        self._start = batch if batch < self._n_batches_allowed() else 0
        self._n_yielded = self._start

    def _n_batches_allowed(self) -> int:
        if isinstance(self.limit, int):
            return min(self.limit, len(self))
        return int(len(self) * self.limit)  # rounded down, as Lightning does


class TensorLoader(EpochLoader[tuple[Tensor, ...]]):
    """Whole batches cut from tensors in memory, as tuples with one tensor of B rows for each given.

    Args:
        tensors: Equally long, (N, ...) each.
        batch_size: B, rows a process and batch.
        sampling: Order of the training rows; the ragged last global batch is dropped. None is validation: every row
            once, in the order given, shared out over the processes with the same number of batches on each.
        seed: Of the order.
        limit: The Trainer's `limit_train_batches`.
    """

    def __init__(
        self,
        tensors: tuple[Tensor, ...],
        batch_size: int,
        *,
        sampling: Sampling | None = "shuffled",
        seed: int = 0,
        limit: float = 1.0,
    ) -> None:
        super().__init__(Epoch(), limit)
        lengths = [len(tensor) for tensor in tensors]
        if len(set(lengths)) != 1:
            raise ValueError(f"tensors of {lengths} rows: must be equally many; cut them to the same rows")
        self.tensors = tensors
        self.n_rows = lengths[0]
        self.batch_size = batch_size
        self.sampling = None if sampling is None else checked_sampling(sampling)
        self.seed = seed
        check_batch_size(batch_size, self.n_rows if sampling else None, "rows")

    def __len__(self) -> int:
        if self.sampling is None:
            return len(self._edges()) - 1
        return whole_batches(self.n_rows, self.batch_size, process()[1])

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, ...]]:
        """The batches of `epoch` from index `start` on; copies, so a step may work in place."""
        if self.sampling is None:
            for batch in range(start, len(self)):
                first, last = self._share(batch)
                yield tuple(tensor[first:last].clone() for tensor in self.tensors)
            return
        rank, n_processes = process()
        mine = slice(rank * self.batch_size, (rank + 1) * self.batch_size)
        for batch in range(start, len(self)):
            step, global_size = (epoch, batch), self.batch_size * n_processes
            rows = batch_rows(self.sampling, self.seed, step, self.n_rows, global_size)[mine]
            yield tuple(tensor.index_select(0, rows) for tensor in self.tensors)

    def first_row(self, batch_index: int) -> int:
        """Number in the whole set of this process's first row of that validation batch (for `row_noise`)."""
        return self._share(batch_index)[0]

    def _share(self, batch: int) -> tuple[int, int]:
        """This process's rows of a validation batch: the r-th of k parts of the global batch."""
        rank, n_processes = process()
        edges = self._edges()
        first, size = edges[batch], edges[batch + 1] - edges[batch]
        return first + size * rank // n_processes, first + size * (rank + 1) // n_processes

    def _edges(self) -> list[int]:
        """Where the global validation batches begin, and N."""
        n_processes = process()[1]
        edges = [*range(0, self.n_rows, self.batch_size * n_processes), self.n_rows]
        if self.n_rows < n_processes:
            raise ValueError(
                f"{self.n_rows} validation rows for {n_processes} processes: each needs one; use fewer processes"
            )
        if len(edges) > 2 and edges[-1] - edges[-2] < n_processes:  # a process would get an empty last batch
            if self.batch_size > 1:
                edges[-2] = self.n_rows - n_processes
            else:
                del edges[-2]
        return edges


def check_batch_size(batch_size: int, n_rows: int | None, rows: str) -> None:
    """ValueError where `batch_size` is no number from 1 to `n_rows`.

    Args:
        batch_size: Rows a process and batch.
        n_rows: In the training set; None where it is not known yet or sets no bound.
        rows: What they are called in the message.
    """
    if batch_size < 1:
        raise ValueError(f"data.batch_size = {batch_size}: must be at least 1")
    if n_rows is not None and batch_size > n_rows:
        raise ValueError(f"data.batch_size = {batch_size}: larger than the {n_rows} {rows}; use at most {n_rows}")


def whole_batches(n_rows: int, batch_size: int, n_processes: int) -> int:
    """Training batches an epoch has on each process, the ragged last one dropped; ValueError where there is none."""
    if batch_size * n_processes > n_rows:
        raise ValueError(
            f"data.batch_size = {batch_size} on each of {n_processes} processes: larger than the {n_rows} training rows"
            f"; use at most {n_rows // n_processes}"
        )
    return n_rows // (batch_size * n_processes)
