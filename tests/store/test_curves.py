from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.store.curves import Curve, curve_of, minmax, window

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300)
WITH_GAPS = st.lists(
    st.one_of(st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf, -np.inf])), min_size=1, max_size=300
)
BUDGETS = st.integers(5, 60)


@given(VALUES, BUDGETS)
def test_the_extremes_and_both_ends_are_kept(values: list[float], n_points: int) -> None:
    steps, kept = minmax(range(len(values)), values, n_points)
    assert (kept.min(), kept.max()) == (min(values), max(values))
    assert (steps[0], steps[-1]) == (0, len(values) - 1)


@given(WITH_GAPS, BUDGETS)
def test_what_is_kept_is_a_part_of_the_curve_in_order_within_the_budget(values: list[float], n_points: int) -> None:
    steps, kept = minmax(range(len(values)), values, n_points)
    assert len(steps) <= n_points
    assert (np.diff(steps) > 0).all()
    assert np.array_equal(kept, np.array(values)[steps], equal_nan=True)


@given(WITH_GAPS, BUDGETS)
def test_finite_extremes_survive_among_values_that_are_not_finite(values: list[float], n_points: int) -> None:
    _, kept = minmax(range(len(values)), values, n_points)
    finite, kept_finite = ([value for value in some if np.isfinite(value)] for some in (values, kept))
    assert (min(kept_finite, default=0), max(kept_finite, default=0)) == (
        min(finite, default=0),
        max(finite, default=0),
    )


@given(st.integers(1, 9_998), st.sampled_from([np.nan, np.inf]))
def test_one_gap_among_ten_thousand_values_is_kept(place: int, value: float) -> None:
    values = np.linspace(0, 1, 10_000)
    values[place] = value
    steps, _ = minmax(range(10_000), values)
    assert place in steps


def test_every_spike_of_thirty_curves_is_kept() -> None:
    places = np.random.default_rng(0).integers(0, 10_000, 30)
    curves = np.random.default_rng(1).normal(size=(30, 10_000))
    curves[np.arange(30), places] = 100
    assert all(minmax(range(10_000), curve, 320)[1].max() == 100 for curve in curves)


def test_a_short_curve_comes_back_as_it_is() -> None:
    steps, values = minmax([3, 7], [1.0, 2.0])
    assert (list(steps), list(values)) == ([3, 7], [1.0, 2.0])


def test_an_empty_curve_stays_empty() -> None:
    assert [len(part) for part in minmax([], [])] == [0, 0]


def test_a_budget_below_five_points_is_refused() -> None:
    with pytest.raises(ValueError, match="must be at least 5"):
        minmax([0], [0.0], 4)


def test_the_later_value_of_a_doubled_step_counts() -> None:
    step, value, at = (np.array(each, dtype=float) for each in ([0, 1, 1, 1, 2], [5, 1, 2, 3, 4], [0, 9, 7, 9, 8]))
    curve = curve_of(step, value, at * 1000, 1000)
    assert (curve.step.tolist(), curve.value.tolist(), curve.time.tolist()) == ([0, 1, 2], [5, 3, 4], [-1, 8, 7])


def test_infinity_comes_back_as_it_was() -> None:
    value = np.array([np.nan, sys.float_info.max, -sys.float_info.max, 1e308])
    curve = curve_of(np.arange(4.0), value, np.zeros(4), 0)
    np.testing.assert_array_equal(curve.value, [np.nan, np.inf, -np.inf, 1e308])


@pytest.mark.parametrize(
    ("low", "high", "steps"),
    [(3, 5, [2, 4, 6]), (4, 4, [2, 4, 6]), (-9, 0, [0, 2]), (8, 99, [6, 8]), (50, 60, [8]), (-9, 99, [0, 2, 4, 6, 8])],
)
def test_a_window_has_one_more_point_on_either_side(low: float, high: float, steps: list[int]) -> None:
    step, zero = np.arange(0, 10, 2), np.zeros(5)
    assert window(Curve(step, zero, zero), low, high).step.tolist() == steps
