import random
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, RandomSampler, TensorDataset

from lightning_modules.data.loader import TensorLoader
from lightning_modules.data.resumable import Resumable, divided
from tests.data.recording import one_of, resumed_sequences

VALIDATION = TensorLoader((torch.arange(6.0),), 4, sampling=None)


class Augmented(Dataset[Tensor]):
    """Row numbers, shifted at random by all three global generators."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, row: int) -> Tensor:
        return row + torch.rand(()) + float(np.random.rand()) + random.random()


def shuffling(num_workers: int = 0) -> DataLoader[Tensor]:
    return DataLoader(Augmented(), batch_size=3, shuffle=True, drop_last=True, num_workers=num_workers)


def values_of(loader: Resumable[Tensor]) -> list[list[float]]:
    return [batch.tolist() for batch in loader]


def test_a_run_on_a_shuffling_augmenting_loader_resumes_with_the_same_batches(tmp_path: Path) -> None:
    pairs = resumed_sequences(lambda: Resumable(shuffling(), seed=3), VALIDATION, tmp_path)
    assert len(pairs) == 9
    for expected, seen in pairs:
        assert seen == expected


def test_a_run_of_limited_epochs_resumes_with_the_same_batches(tmp_path: Path) -> None:
    make = lambda: Resumable(shuffling(), seed=3, limit=2)  # noqa: E731
    for expected, seen in resumed_sequences(make, VALIDATION, tmp_path, limit_train_batches=2):
        assert seen == expected


def test_the_order_follows_seed_and_epoch() -> None:
    loader, other = Resumable(shuffling(), seed=1), Resumable(shuffling(), seed=2)
    first = values_of(loader)
    assert values_of(loader) == first
    loader.sampler.set_epoch(1)
    assert values_of(loader) != first
    assert values_of(other) != first


def test_batches_loaded_by_workers_resume_too() -> None:
    whole = values_of(Resumable(shuffling(num_workers=1), seed=1))
    resumed = Resumable(shuffling(num_workers=1), seed=1)
    resumed.load_state_dict({"batch": 2})
    assert values_of(resumed) == whole[2:]


def test_any_sized_iterable_is_wrapped() -> None:
    resumed: Resumable[Tensor] = Resumable([torch.tensor([0.0]), torch.tensor([1.0])])
    resumed.load_state_dict({"batch": 1})
    assert values_of(resumed) == [[1.0]]


def test_the_epoch_reaches_the_wrapped_loaders_own_sampler() -> None:
    sampler: DistributedSampler[Tensor] = DistributedSampler(Augmented(), num_replicas=2, rank=0)
    loader = Resumable(DataLoader(Augmented(), batch_size=2, sampler=sampler))
    loader.sampler.set_epoch(5)
    assert sampler.epoch == 5


def test_a_loader_without_a_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^training loader generator has no length: give it a __len__ to resume$"):
        Resumable(batch for batch in [torch.zeros(1)])  # type: ignore[arg-type]


@pytest.mark.parametrize("drop_last", [False, True])
def test_processes_together_train_on_the_rows_of_one(drop_last: bool) -> None:
    def rows(size: int) -> list[list[float]]:
        plain = DataLoader(TensorDataset(torch.arange(11.0)), size, shuffle=True, drop_last=drop_last)
        loader: Resumable[list[Tensor]] = Resumable(plain, seed=3)
        loader.sampler.set_epoch(1)
        return [batch[0].tolist() for batch in loader]

    parts = []
    for rank in range(2):
        with one_of(2, rank):
            parts.append(rows(2))
    together = [[*first, *second] for first, second in zip(*parts, strict=True)]
    alone = rows(4)
    assert together == [alone[0], alone[1], *([] if drop_last else [alone[2][:2]])]  # of 3 rows, 1 for each


def test_a_loader_that_shows_every_process_every_row_is_refused() -> None:
    batches = BatchSampler(RandomSampler(Augmented()), 2, drop_last=False)
    loader = DataLoader(Augmented(), sampler=batches, batch_size=None)
    message = (
        "^training DataLoader with a BatchSampler and batches of its own on several processes: each would train on"
    )
    with one_of(2, 0), pytest.raises(ValueError, match=message):
        values_of(Resumable(loader))


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.booleans())
def test_validation_shows_every_row_to_one_process_in_equally_many_batches(
    n_rows: int, batch_size: int, n_processes: int, shuffle: bool
) -> None:
    n_processes = min(n_processes, n_rows)
    rows: list[float] = []
    counts = set()
    for rank in range(n_processes):
        with one_of(n_processes, rank):
            loader = divided([DataLoader(TensorDataset(torch.arange(n_rows)), batch_size, shuffle=shuffle)])[0]
            batches = [batch[0].tolist() for batch in loader]
            assert shuffle or [batch[0] for batch in batches] == [loader.first_row(i) for i in range(len(loader))]
        counts.add(len(batches))
        rows += chain(*batches)
    assert sorted(rows) == list(range(n_rows))
    assert len(counts) == 1
