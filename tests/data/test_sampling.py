import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.data.sampling import (
    Sampling,
    batch_rows,
    checked_sampling,
    draw,
    epoch_order,
    noise,
    process,
    row_noise,
)
from tests.data.recording import one_of

ARGUMENTS = st.tuples(
    st.integers(-3, 30), st.text("ab|,'/\\1", max_size=4), st.lists(st.integers(0, 30), max_size=3).map(tuple)
)


@given(ARGUMENTS, ARGUMENTS)
def test_draws_are_equal_exactly_where_their_arguments_are(
    first: tuple[int, str, tuple[int, ...]], second: tuple[int, str, tuple[int, ...]]
) -> None:
    assert (draw(*first).initial_seed() == draw(*second).initial_seed()) == (first == second)


def test_a_draw_takes_numpy_integers_for_pythons() -> None:
    assert draw(3, "z", (1, 2)).initial_seed() == draw(np.int64(3), "z", (np.int32(1), 2)).initial_seed()  # type: ignore[arg-type]


def test_the_same_arguments_give_the_same_numbers() -> None:
    assert torch.equal(noise(1, "z", (2, 3), 5, 4), noise(1, "z", (2, 3), 5, 4))


def test_noise_is_standard_normal() -> None:
    sample = noise(0, "z", 0, 1000, 100)
    assert abs(sample.mean()) < 5 / 100_000**0.5  # five standard errors
    assert abs(sample.var() - 1) < 5 * (2 / 100_000) ** 0.5
    assert sample.dtype == torch.float32


@given(st.integers(1, 5), st.integers(1, 7), st.sampled_from([(), (3,), (2, 2)]))
def test_processes_together_see_the_noise_of_one(n_processes: int, n_rows: int, shape: tuple[int, ...]) -> None:
    parts = []
    for rank in range(n_processes):
        with one_of(n_processes, rank):
            parts.append(noise(7, "z", (0, 1), n_rows, *shape))
    assert torch.equal(torch.cat(parts), noise(7, "z", (0, 1), n_rows * n_processes, *shape))


@given(st.integers(0, 900), st.integers(0, 600))
def test_row_noise_belongs_to_the_row_number(first_row: int, n_rows: int) -> None:
    whole = row_noise(1, "z", 0, 1500, 2)
    assert torch.equal(row_noise(1, "z", first_row, n_rows, 2), whole[first_row : first_row + n_rows])


def test_row_noise_is_not_the_noise_of_a_step_of_the_same_stream() -> None:
    assert not torch.equal(row_noise(1, "z", 0, 256, 2), noise(1, "z", 0, 256, 2))


def test_row_noise_has_no_equal_rows() -> None:
    assert len({tuple(row) for row in row_noise(1, "z", 0, 1000, 2).tolist()}) == 1000


def test_draws_leave_the_global_generators_alone() -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    noise(0, "z", 0, 3, 3), row_noise(0, "z", 0, 3), batch_rows("without_replacement", 0, (0, 0), 10, 3)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_shuffled_batches_cut_one_permutation_an_epoch() -> None:
    rows = torch.cat([batch_rows("shuffled", 0, (4, batch), 12, 3) for batch in range(4)])
    assert torch.equal(rows, epoch_order(0, 4, 12))
    assert sorted(rows.tolist()) == list(range(12))
    assert not torch.equal(rows, epoch_order(0, 5, 12))
    assert not torch.equal(rows, epoch_order(1, 4, 12))


@given(st.integers(1, 300), st.data())
def test_rows_without_replacement_are_distinct(n_rows: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, n_rows))
    rows = batch_rows("without_replacement", 0, (0, 3), n_rows, size)
    assert len(set(rows.tolist())) == size
    assert 0 <= rows.min() <= rows.max() < n_rows


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_fresh_rows_are_uniform_and_independent_between_steps(sampling: Sampling) -> None:
    draws = torch.stack([batch_rows(sampling, 0, (0, step), 10, 3) for step in range(4000)])
    share = torch.bincount(draws.flatten(), minlength=10) / 12_000
    pairs = torch.bincount(draws[:-1, 0] * 10 + draws[1:, 0], minlength=100) / 3999
    assert (share - 0.1).abs().max() < 5 * (0.1 * 0.9 / 12_000) ** 0.5  # five standard errors
    assert (pairs - 0.01).abs().max() < 5 * (0.01 * 0.99 / 3999) ** 0.5


def test_without_torch_distributed_there_is_one_process() -> None:
    assert process() == (0, 1)


def test_an_unknown_order_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        ValueError,
        match=r"^data.sampling = 'shufled': unknown order \(did you mean 'shuffled'\?\); allowed: shuffled, with_repl",
    ):
        checked_sampling("shufled")
