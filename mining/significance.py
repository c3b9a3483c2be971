"""Whether a rule is more than chance: Fisher's exact test, corrections for many tests, intervals of a support."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mining.lattice import Ints

Floats = NDArray[np.float64]


def fisher(both: Ints, antecedent: Ints, consequent: Ints, n_baskets: int) -> Floats:
    """P(as many baskets with both, or more), if antecedent and consequent were drawn independently: one-sided.

    Args:
        both: (n,) baskets with both sides.
        antecedent: (n,) with the antecedent.
        consequent: (n,) with the consequent.
        n_baskets: in all.

    Source: Fisher 1935; the tail of a hypergeometric distribution, relative error about 1e-10.

    >>> round(float(fisher(np.array([3]), np.array([4]), np.array([4]), 8)[0]), 6)  # the lady tasting tea
    0.242857
    """
    if not len(both):
        return np.empty(0)
    tables, place = np.unique(np.stack([both, antecedent, consequent]).astype(np.int64), axis=1, return_inverse=True)
    x, a, c = tables
    upper = x * float(n_baskets) > a * c.astype(float)  # above the mean terms fall upwards, else downwards
    tail = np.where(upper, x, x - 1)
    step = np.where(upper, 1, -1)
    total = np.exp(_log_hypergeometric(tail, a, c, n_baskets)) * _series(tail, step, a, c, n_baskets)
    total[(tail < np.maximum(0, a + c - n_baskets))] = 0.0  # nothing lies below the smallest overlap
    return np.clip(np.where(upper, total, 1 - total), 0.0, 1.0)[place.ravel()]


def _log_hypergeometric(k: Ints, a: Ints, c: Ints, n: int) -> Floats:
    """Natural log of the chance of k baskets with both."""
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, n + 1)))))

    def choose(m: Ints, r: Ints) -> Floats:
        r = np.clip(r, 0, m)
        result: Floats = log_factorial[m] - log_factorial[r] - log_factorial[m - r]
        return result

    return choose(a, k) + choose(n - a, c - k) - choose(np.full_like(c, n), c)


def _series(k: NDArray[Any], step: Ints, a: NDArray[Any], c: NDArray[Any], n: int) -> Floats:
    """The sum of the terms from k on in the direction of `step`, relative to the first."""
    total = np.ones(len(k))
    active = np.arange(len(k))
    up = step > 0
    term, k, a, c = np.ones(len(k)), *(v.astype(float) for v in (k, a, c))
    while len(active):
        over, under = (a - k) * (c - k), (k + 1) * (n - a - c + k + 1)  # term k + 1 to term k
        over_down, under_down = k * (n - a - c + k), (a - k + 1) * (c - k + 1)
        term = term * np.where(up, over, over_down) / np.where(up, under, under_down)
        total[active] += np.maximum(term, 0)
        k = k + np.where(up, 1, -1)
        going = term > 1e-17 * total[active]
        active, term, k, up, a, c = (v[going] for v in (active, term, k, up, a, c))
    return total


def holm(p: Floats, n_tests: int | None = None) -> Floats:
    """Adjusted p-values: rejecting those at most alpha errs at all with probability at most alpha (Holm 1979).

    Args:
        p: (n,) of the tests at hand.
        n_tests: how many there were, if the others were dropped unseen.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    factors = (n_tests or len(p)) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


def benjamini_hochberg(p: Floats, n_tests: int | None = None) -> Floats:
    """Adjusted p-values: of those at most q, a share of at most q is false on average (Benjamini & Hochberg 1995).

    Args:
        p: (n,) of the tests at hand.
        n_tests: how many there were; the others are taken to lie above, which is on the safe side.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.04, 0.04]
    """
    order = np.argsort(p)
    scaled = p[order] * (n_tests or len(p)) / np.arange(1, len(p) + 1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def wilson(counts: Ints, n_baskets: int, z: float = 1.959963984540054) -> tuple[Floats, Floats]:
    """Ends of the interval of a support at normal quantile z (95 %), Wilson 1927.

    >>> [round(float(end[0]), 4) for end in wilson(np.array([10]), 100)]
    [0.0552, 0.1744]
    """
    share = counts / n_baskets
    middle = (share + z * z / (2 * n_baskets)) / (1 + z * z / n_baskets)
    half = z / (1 + z * z / n_baskets) * np.sqrt(share * (1 - share) / n_baskets + (z / (2 * n_baskets)) ** 2)
    return middle - half, middle + half
