from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules.data.loader import TensorLoader, check_batch_size
from lightning_modules.data.sampling import Sampling
from tests.data.recording import one_of, resumed_sequences, train

ROWS = torch.arange(10.0)
VALIDATION = TensorLoader((ROWS,), 4, sampling=None)


def rows_of(loader: TensorLoader) -> list[list[float]]:
    return [batch[0].tolist() for batch in loader]


def test_a_batch_holds_the_same_rows_of_every_tensor() -> None:
    for x, y in TensorLoader((ROWS, ROWS.long() * 2), 3):
        assert torch.equal(x * 2, y)


def test_a_shuffled_epoch_has_distinct_rows_and_drops_the_ragged_batch() -> None:
    batches = rows_of(TensorLoader((ROWS,), 3))
    assert [len(batch) for batch in batches] == [3, 3, 3]
    assert len(set(chain(*batches))) == 9


def test_the_order_follows_seed_and_epoch_and_nothing_else() -> None:
    loader, same, other = TensorLoader((ROWS,), 3), TensorLoader((ROWS,), 3), TensorLoader((ROWS,), 3, seed=1)
    first = rows_of(loader)
    loader.sampler.set_epoch(1)
    assert rows_of(loader) != first
    loader.sampler.set_epoch(0)
    assert rows_of(loader) == first == rows_of(same)
    assert rows_of(other) != first


@pytest.mark.parametrize("sampling", ["shuffled", "with_replacement", "without_replacement"])
def test_processes_together_train_on_the_batches_of_one(sampling: Sampling) -> None:
    parts = []
    for rank in range(3):
        with one_of(3, rank):
            parts.append(rows_of(TensorLoader((ROWS,), 1, sampling=sampling)))
    together = [list(chain(*batches)) for batches in zip(*parts, strict=True)]
    assert together == rows_of(TensorLoader((ROWS,), 3, sampling=sampling))


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5))
def test_validation_takes_every_row_once_in_equally_many_batches(
    n_rows: int, batch_size: int, n_processes: int
) -> None:
    n_processes = min(n_processes, n_rows)
    rows: list[float] = []
    counts = set()
    for rank in range(n_processes):
        with one_of(n_processes, rank):
            loader = TensorLoader((torch.arange(n_rows),), batch_size, sampling=None)
            batches = rows_of(loader)
            assert [batch[0] for batch in batches] == [loader.first_row(index) for index in range(len(loader))]
        counts.add(len(batches))
        rows += chain(*batches)
    assert sorted(rows) == list(range(n_rows))
    assert len(counts) == 1


def test_validation_on_one_process_keeps_order_and_the_ragged_batch() -> None:
    assert rows_of(VALIDATION) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_batches_are_copies_that_a_step_may_overwrite() -> None:
    for loader in (TensorLoader((ROWS,), 3), VALIDATION):
        next(iter(loader))[0].fill_(-1)
    assert ROWS.min() == 0


def test_a_pass_after_one_that_stopped_at_the_length_is_full() -> None:
    loader = TensorLoader((ROWS,), 3)
    batches = iter(loader)
    for _ in range(len(loader)):  # as Lightning does: never asks once more
        next(batches)
    assert loader.state_dict() == {"batch": 3}
    assert len(rows_of(loader)) == 3


def test_the_state_is_the_number_of_batches_yielded_and_enters_an_epoch_there() -> None:
    loader, resumed = TensorLoader((ROWS,), 3), TensorLoader((ROWS,), 3)
    batches = iter(loader)
    assert loader.state_dict() == {"batch": 0}
    next(batches)
    resumed.load_state_dict(loader.state_dict())
    assert resumed.state_dict() == {"batch": 1}
    assert rows_of(resumed) == [batch[0].tolist() for batch in batches]
    assert len(rows_of(resumed)) == 3  # the pass after the resumed one


def test_the_state_of_a_finished_epoch_begins_the_next_one() -> None:
    loader = TensorLoader((ROWS,), 3)
    loader.load_state_dict({"batch": 3})
    assert len(rows_of(loader)) == 3


@pytest.mark.parametrize("sampling", ["shuffled", "with_replacement", "without_replacement"])
def test_a_run_stopped_after_any_batch_resumes_with_the_same_batches(sampling: Sampling, tmp_path: Path) -> None:
    pairs = resumed_sequences(lambda: TensorLoader((ROWS,), 3, sampling=sampling), VALIDATION, tmp_path)
    assert len(pairs) == 9
    for expected, seen in pairs:
        assert seen == expected


@pytest.mark.parametrize("setting", [{"val_check_interval": 2}, {"hook": "on_validation_end"}])
def test_a_run_with_validation_resumes_with_the_same_batches(setting: dict[str, Any], tmp_path: Path) -> None:
    for expected, seen in resumed_sequences(lambda: TensorLoader((ROWS,), 3), VALIDATION, tmp_path, **setting):
        assert seen == expected


@pytest.mark.parametrize("limit", [2, 0.67])
def test_a_run_of_limited_epochs_resumes_with_the_same_batches(limit: float, tmp_path: Path) -> None:
    pairs = resumed_sequences(
        lambda: TensorLoader((ROWS,), 3, limit=limit), VALIDATION, tmp_path, limit_train_batches=limit
    )
    assert len(pairs) == 6
    for expected, seen in pairs:
        assert seen == expected


def test_a_finished_run_is_extended_by_the_epochs_that_follow(tmp_path: Path) -> None:
    whole = train(TensorLoader((ROWS,), 3), VALIDATION, max_epochs=4)
    first = train(TensorLoader((ROWS,), 3), VALIDATION, max_epochs=2, folder=tmp_path, hook="on_train_epoch_end")
    last_checkpoint = first.saved[-1][0]
    rest = train(TensorLoader((ROWS,), 3), VALIDATION, max_epochs=4, checkpoint=last_checkpoint)
    assert first.seen + rest.seen == whole.seen


def test_a_checkpoint_of_an_epochs_last_batch_skips_that_epochs_validation(tmp_path: Path) -> None:
    # Lightning 2.6.6 counts the epoch as done; whoever saves in on_train_batch_end has to know.
    whole = train(TensorLoader((ROWS,), 3), VALIDATION, max_epochs=2, folder=tmp_path, num_sanity_val_steps=0)
    resumed = train(
        TensorLoader((ROWS,), 3), VALIDATION, max_epochs=2, checkpoint=whole.saved[2][0], num_sanity_val_steps=0
    )
    assert (whole.n_validated, resumed.n_validated) == (6, 3)


def test_tensors_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^tensors of \[10, 9\] rows: must be equally many; cut them"):
        TensorLoader((ROWS, ROWS[1:]), 3)


def test_a_batch_larger_than_the_rows_of_all_processes_is_refused() -> None:
    message = "^data.batch_size = 6 on each of 2 processes: larger than the 10 training rows; use at most 5$"
    with one_of(2, 0), pytest.raises(ValueError, match=message):
        len(TensorLoader((ROWS,), 6))


def test_more_processes_than_validation_rows_are_refused() -> None:
    message = "^10 validation rows for 11 processes: each needs one; use fewer processes$"
    with one_of(11, 0), pytest.raises(ValueError, match=message):
        len(VALIDATION)


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [
        (0, "^data.batch_size = 0: must be at least 1$"),
        (11, "^data.batch_size = 11: larger than the 10 rows; use at most 10$"),
    ],
)
def test_a_batch_size_out_of_range_is_refused(batch_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_batch_size(batch_size, 10, "rows")


@pytest.mark.parametrize("state", [{}, {"batch": -1}, {"batch": "3"}])
def test_a_state_of_another_form_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be \{'batch': i\} with i >= 0$"):
        TensorLoader((ROWS,), 3).load_state_dict(state)
