from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from dashboard.relations import is_wide, means_figure, parallel_figure, scatter_figure, spearman, trend
from experiments.store.groups import Group, Member, mean_of

BAD = "<a href='javascript:alert(1)'>x</a>"
few_values = st.integers(-3, 3).map(float)  # ties too


@settings(deadline=None, max_examples=50)  # the first one imports pandas and SciPy
@given(hnp.arrays(float, (2, 12), elements=few_values))
def test_a_rank_correlation_is_scipys(sides: np.ndarray) -> None:
    x, y = sides
    found = spearman(x, y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert found is None
        return
    known = stats.spearmanr(x, y)
    assert found is not None
    assert found.rho == pytest.approx(known.statistic, abs=1e-9)
    assert found.p == pytest.approx(known.pvalue, abs=1e-6)


def test_a_rank_correlation_passes_over_what_is_not_finite() -> None:
    found = spearman(np.array([1.0, 2.0, 3.0, np.nan]), np.array([3.0, 2.0, 1.0, 0.0]))
    assert found is not None
    assert (found.rho, found.n) == (-1.0, 3)
    assert spearman(np.array([1.0]), np.array([1.0])) is None


def test_a_trend_between_logarithmic_axes_is_a_power() -> None:
    x = np.array([0.01, 0.1, 1.0, -1.0])
    ends, values = trend(x, 3 * np.abs(x) ** 0.5, log_x=True, log_y=True)
    np.testing.assert_allclose(ends, [0.01, 1.0])
    np.testing.assert_allclose(values, [0.3, 3.0])
    assert len(trend(np.array([1.0, 1.0]), np.array([1.0, 2.0]))[0]) == 0


def runs(columns: Mapping[str, Sequence[object]]) -> pd.DataFrame:
    """Runs 0, 1, 2, ... with these columns."""
    n = len(next(iter(columns.values())))
    return pd.DataFrame({"run_id": [str(i) for i in range(n)], "name": [BAD] * n, **columns})


def test_a_scatter_has_a_point_a_run_in_its_colour_and_a_trend() -> None:
    table = runs({"params.lr": [1.0, 2.0, 3.0], "metrics.val/x": [2.0, 4.0, math.inf]})
    colors = {"0": "#000000", "1": "#111111", "2": "#222222"}
    line, points = scatter_figure(table, "params.lr", "metrics.val/x", colors).data
    np.testing.assert_allclose([line.x, line.y], [[1, 2], [2, 4]])
    assert points.marker.color == ("#000000", "#111111")
    assert "<a" not in points.text[0]


def test_an_axis_of_parallel_coordinates_has_decades_words_or_numbers() -> None:
    columns: dict[str, list[object]] = {
        "params.lr": [1e-4, 1e-2, 1e-1],
        "params.kind": ["b", None, BAD],
        "params.n": [1, 2, 3],
    }
    table = runs({**columns, "metrics.x": [3.0, 2.0, math.nan]})
    trace = parallel_figure(table, list(columns), "metrics.x", lowest=True).data[0]
    lr, kind, n, last = trace.dimensions
    np.testing.assert_allclose(lr["values"], [-4, -2])
    assert lr.ticktext == ("0.0001", "0.001", "0.01")
    assert (kind["values"], kind.ticktext) == ((0.0, 1.0), ("b", "–"))
    assert [axis.label for axis in (lr, kind, n, last)] == ["lr", "kind", "n", "x"]
    np.testing.assert_array_equal(trace.line.color, [3, 2])
    assert not trace.line.reversescale


def test_what_is_wide_spans_two_decades_above_zero() -> None:
    assert is_wide(np.array([0.01, 1.0, np.nan]))
    assert not is_wide(np.array([0.02, 1.0]))
    assert not is_wide(np.array([np.nan]))


def member(seed: str, value: float) -> Member:
    """A finished run of the metric val/x."""
    return Member(seed, seed, "e", "FINISHED", pd.Timestamp(0), seed, {}, {"val/x": value}, {})


def test_a_group_shows_its_members_and_its_mean_with_the_interval() -> None:
    groups = [Group(BAD, {}, tuple(member(str(i), float(i)) for i in range(3))), Group("b", {}, (member("9", 7.0),))]
    means = [mean_of(group.values("val/x").values()) for group in groups]
    words = {"seed": "seed", "mean": "mean"}
    points, mean, _, alone = means_figure(groups, means, "val/x", {"0": "#000000", "9": "#999999"}, words).data
    assert points.x.tolist() == [0, 1, 2]
    assert mean.x.tolist() == [1]
    assert mean.error_x.array[0] == pytest.approx(stats.t.ppf(0.975, 2) / math.sqrt(3))
    assert (alone.x.tolist(), alone.error_x.array) == ([7], (0,))
    text = means_figure(groups, means, "val/x", {"0": "#000000", "9": "#999999"}, words).layout.yaxis.ticktext
    assert "<a" not in text[0]
