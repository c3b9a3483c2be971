"""Curves short enough to draw, by min-max: a spike or a gap of one step is still seen among a million."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


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
