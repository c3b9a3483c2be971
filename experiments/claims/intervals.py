"""Figures with honest 95 % intervals: from repetitions that are independent of one another, and from nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.claims.registry import Evidence


@dataclass(frozen=True)
class Interval:
    """An estimate and its two-sided 95 % interval.

    Args:
        estimate: the figure.
        low: lower end.
        high: upper end.
        n: independent repetitions behind it.
    """

    estimate: float
    low: float
    high: float
    n: int

    def evidence(self, statistic: str) -> Evidence:
        """This interval as evidence without a plot."""
        return Evidence(statistic, self.estimate, self.low, self.high, self.n)


def exact(value: float, n: int = 1) -> Interval:
    """A figure without sampling error.

    >>> exact(2.0)
    Interval(estimate=2.0, low=2.0, high=2.0, n=1)
    """
    return Interval(value, value, value, n)


def jackknife(blocks: np.ndarray, statistic: Callable[[np.ndarray], float], n_intervals: int = 1) -> Interval:
    """A function of means, and Student's t interval from what it becomes when each block is left out in turn.

    Args:
        blocks: (R, ...) means of R independent blocks of equal size.
        statistic: of the mean over blocks, of shape (...).
        n_intervals: intervals that shall hold all at once, with probability 95 % (Bonferroni); 1 = this one alone.

    Raises ValueError for fewer than two blocks. Source: Efron & Stein 1981; for a plain mean it is the t interval.

    >>> jackknife(np.array([1.0, 2.0, 3.0]), float)  # 2 +- 4.303 sd / sqrt(3)
    Interval(estimate=2.0, low=-0.484..., high=4.484..., n=3)
    """
    from scipy.special import stdtrit

    n = len(blocks)
    if n < 2:
        raise ValueError(f"blocks: {n} found; an interval needs at least 2 independent ones")
    total = blocks.sum(0)
    left_out = np.array([statistic((total - block) / (n - 1)) for block in blocks])
    estimate = statistic(total / n)
    error = float(np.sqrt((n - 1) / n * np.square(left_out - left_out.mean()).sum()))
    half = float(stdtrit(n - 1, 1 - 0.025 / n_intervals)) * error
    return Interval(float(estimate), float(estimate) - half, float(estimate) + half, n)


def farthest(intervals: Sequence[Interval], target: float) -> Interval:
    """The interval whose estimate lies farthest from the target."""
    return max(intervals, key=lambda interval: abs(interval.estimate - target))


def slope(x: Sequence[float] | np.ndarray, y: np.ndarray) -> float:
    """Least-squares slope of y in x.

    >>> slope([0.0, 1.0, 2.0], np.array([1.0, 3.0, 5.0]))
    2.0
    """
    centred = np.asarray(x, dtype=float) - np.mean(x)
    return float(centred @ y / (centred @ centred))


def in_blocks(values: np.ndarray, n_blocks: int) -> np.ndarray:
    """Means (n_blocks, ...) of equally many independent values (n, ...) each; a rest is left out.

    Raises ValueError for fewer values than blocks.

    >>> in_blocks(np.arange(7.0), 3)
    array([0.5, 2.5, 4.5])
    """
    size = len(values) // n_blocks
    if size == 0:
        raise ValueError(f"{len(values)} values cannot fill {n_blocks} blocks; draw at least {n_blocks}")
    means: np.ndarray = values[: size * n_blocks].reshape(n_blocks, size, *values.shape[1:]).mean(1)
    return means
