import numpy as np
import pytest
from scipy import stats

from experiments.claims.intervals import exact, farthest, in_blocks, jackknife, slope


def test_jackknife_of_a_mean_is_students_interval() -> None:
    values = np.random.default_rng(0).standard_normal(12)
    low, high = stats.t.interval(0.95, 11, loc=values.mean(), scale=stats.sem(values))
    found = jackknife(values, float)
    np.testing.assert_allclose([found.estimate, found.low, found.high], [values.mean(), low, high])


def test_jackknife_interval_of_a_ratio_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    found = [jackknife(rng.exponential(size=(40, 2)), lambda m: float(m[0] / m[1])) for _ in range(400)]
    covered = np.mean([one.low <= 1 <= one.high for one in found])
    assert 0.91 < covered < 0.98  # 0.95 +- 3 standard errors of 400 trials, and a little skew


def test_simultaneous_intervals_are_wider() -> None:
    values = np.random.default_rng(2).standard_normal(30)
    alone, among = jackknife(values, float), jackknife(values, float, n_intervals=12)
    assert among.low < alone.low < alone.estimate == among.estimate < alone.high < among.high


def test_one_block_gives_no_interval() -> None:
    with pytest.raises(ValueError, match="at least 2 independent ones"):
        jackknife(np.ones((1, 3)), lambda m: float(m[0]))


def test_slope_is_numpys_line() -> None:
    x, y = np.random.default_rng(3).standard_normal((2, 20))
    assert slope(x, y) == pytest.approx(np.polyfit(x, y, 1)[0])


def test_blocks_hold_equally_many_values() -> None:
    values = np.arange(14.0).reshape(7, 2)
    np.testing.assert_allclose(in_blocks(values, 3), [[1, 2], [5, 6], [9, 10]])


def test_farthest_is_measured_on_both_sides() -> None:
    assert farthest([exact(1.1), exact(0.8), exact(1.15)], 1.0) == exact(0.8)
