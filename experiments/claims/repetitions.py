"""Evidence with its plot from repetitions that are independent of one another; one step of an optimizer by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.optim import Optimizer

from experiments.claims.intervals import jackknife, slope
from experiments.claims.registry import Axes, Curve, Evidence, Point

F64 = torch.float64


def mean_evidence(
    statistic: str,
    values: ArrayLike,
    points: Sequence[Point] = (),
    theory: Sequence[Curve] = (),
    axes: Axes | None = None,
) -> Evidence:
    """The mean of independent repetitions with Student's 95 % interval.

    >>> found = mean_evidence("mean", [1.0, 3.0])
    >>> found.estimate, round(found.ci_high, 2), found.n
    (2.0, 14.71, 2)
    """
    mean = jackknife(np.asarray(values, dtype=float), float)
    return Evidence(statistic, mean.estimate, mean.low, mean.high, mean.n, tuple(points), tuple(theory), axes)


def exact_evidence(
    statistic: str,
    value: float,
    n: int,
    points: Sequence[Point] = (),
    theory: Sequence[Curve] = (),
    axes: Axes | None = None,
) -> Evidence:
    """A figure without sampling error: of a recursion that draws nothing, or an extreme over n cases."""
    return Evidence(statistic, value, value, value, n, tuple(points), tuple(theory), axes)


def mean_points(x: ArrayLike, columns: ArrayLike, series: str = "") -> list[Point]:
    """A point with its interval for each of the K places x: the mean of a column of `columns` (R, K)."""
    places, means = np.asarray(x, dtype=float), np.asarray(columns, dtype=float).T
    found = [(place, jackknife(column, float)) for place, column in zip(places.tolist(), means, strict=True)]
    return [Point(place, mean.estimate, mean.low, mean.high, series) for place, mean in found]


def slopes(x: ArrayLike, y: ArrayLike) -> list[float]:
    """Least-squares slope in x (K,) of each row of y (R, K).

    >>> slopes([0, 1, 2], [[1, 3, 5], [0, 0, 0]])
    [2.0, 0.0]
    """
    return [slope(np.asarray(x, dtype=float), row) for row in np.asarray(y, dtype=float)]


def take_step(optimizer: Optimizer, thetas: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """One step of an optimizer over `thetas` with these gradients."""
    for theta, gradient in zip(thetas, gradients, strict=True):
        theta.grad = gradient
    optimizer.step()
