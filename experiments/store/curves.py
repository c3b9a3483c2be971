"""Curves short enough to draw, by min-max: a spike or a gap of one step is still seen among a million."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Curve(NamedTuple):
    """One metric of one run, by step: whole numbers, each once.

    Args:
        step: (N,), int64.
        value: (N,), NaN and infinity as they were.
        time: (N,), seconds since the run's start.
    """

    step: NDArray[np.int64]
    value: NDArray[np.float64]
    time: NDArray[np.float64]


def curve_of(step: NDArray[Any], value: NDArray[Any], timestamp: NDArray[Any], start: int) -> Curve:
    """The curve of points as MLflow stores them, sorted by step: infinity is the largest number there.

    Where a step stands twice, as after a resume, the later value counts: by timestamp, then by order.

    Args:
        step: (N,).
        value: (N,), NaN where it is.
        timestamp: (N,), in milliseconds since 1970.
        start: of the run, likewise.
    """
    if (step[1:] == step[:-1]).any():
        order = np.lexsort((timestamp, step))  # stable
        step, value, timestamp = step[order], value[order], timestamp[order]
        last = np.append(step[1:] != step[:-1], True)
        step, value, timestamp = step[last], value[last], timestamp[last]
    is_infinite = np.abs(value) >= sys.float_info.max
    value = np.where(is_infinite, np.copysign(np.inf, value), value) if is_infinite.any() else value.copy()
    return Curve(step.astype(np.int64), value, (timestamp - start) / 1000)


def window(curve: Curve, low: float, high: float) -> Curve:
    """The points with low <= step <= high and one more on either side, so that drawn lines run to the edge."""
    begin, end = np.searchsorted(curve.step, [low, high], side="left")
    end += int(end < len(curve.step) and curve.step[end] == high)
    inside = slice(max(begin - 1, 0), end + 1)
    return Curve(curve.step[inside], curve.value[inside], curve.time[inside])


def minmax(steps: ArrayLike, values: ArrayLike, n_points: int = 800) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The steps and values to draw, in order, at most `n_points` of them (at least 5).

    Consecutive points are put into buckets of equal size. Of each bucket its smallest and largest finite value and its
    first value that is not finite (a gap in the drawn line) are kept, and the first and last point of all. A curve
    that is short enough comes back as it is.

    >>> minmax(range(1000), [0.0] * 500 + [9.0] + [0.0] * 499, n_points=6)[1].max()
    np.float64(9.0)
    """
    x, y = np.asarray(steps), np.asarray(values, dtype=float)
    if n_points < 5:
        raise ValueError(f"n_points = {n_points}: must be at least 5: both ends and three of one bucket")
    if len(y) <= n_points:
        return x, y
    finite = np.isfinite(y)
    per_bucket = 2 if finite.all() else 3
    size = -(-len(y) // ((n_points - 2) // per_bucket))  # rounded up
    ends = np.array([0, len(y) - 1])
    low, high = (_first_smallest(np.where(finite, signed, np.inf), size) for signed in (y, -y))
    kept = [ends, low, high]
    if per_bucket == 3:
        gaps = _first_smallest(finite.astype(float), size)
        kept.append(gaps[~finite[gaps]])
    index: NDArray[np.intp] = np.unique(np.concatenate(kept))
    return x[index], y[index]


def _first_smallest(values: NDArray[np.float64], size: int) -> NDArray[np.intp]:
    """The index of the first smallest value of every bucket of `size`; the last bucket may be shorter."""
    n_buckets = -(-len(values) // size)
    padded = np.pad(values, (0, n_buckets * size - len(values)), constant_values=np.inf)
    first: NDArray[np.intp] = padded.reshape(n_buckets, size).argmin(axis=1) + np.arange(n_buckets) * size
    return first
