"""Baskets drawn as by IBM's Quest generator: patterns that recur, some overlapping, none kept whole.

Source: Agrawal & Srikant 1994, section 2.4.3; T10 I4 there is `basket_size=10, pattern_size=4`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mining.baskets import Baskets

LANES, STRETCH = 4096, 16  # streams drawn side by side, and baskets each fills
CHUNK = LANES * STRETCH
ORDERS = 64  # random orders of a pattern's items: which items a placement loses is looked up, not drawn
Ints = NDArray[np.integer]


@dataclass(frozen=True)
class Quest:
    """A source of baskets over the items 0 to n_items - 1; the first n of more baskets are the same.

    Args:
        basket_size: mean of the Poisson size of a basket; items that two of its patterns share count twice.
        pattern_size: mean of the Poisson size of a pattern.
        n_items: that can be drawn.
        n_patterns: that recur, with exponential weights.
        correlation: mean share of a pattern's items that come from the pattern before it.
        corruption: mean chance that a placed pattern loses an item, then another, ...
        seed: of everything.
    """

    basket_size: float = 10.0
    pattern_size: float = 4.0
    n_items: int = 1000
    n_patterns: int = 2000
    correlation: float = 0.5
    corruption: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for sizes and numbers nothing can be drawn with."""
        least = {"basket_size": 1, "pattern_size": 1, "n_items": 2, "n_patterns": 1, "seed": 0}
        for name, bound in least.items():
            if not bound <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} = {getattr(self, name)}: must be at least {bound}")
        for name in ("correlation", "corruption"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must lie in [0, 1]")

    def baskets(self, n_baskets: int) -> Baskets:
        """So many baskets.

        >>> made = Quest(seed=1).baskets(1000)
        >>> len(made), 8 < len(made.indices) / len(made) < 12
        (1000, True)
        """
        parts = list(self.chunks(n_baskets))
        lengths = np.concatenate([np.diff(part.indptr) for part in parts] or [np.empty(0, np.int64)])
        indices = np.concatenate([part.indices for part in parts] or [np.empty(0, np.int32)])
        return Baskets(range(self.n_items), np.concatenate(([0], np.cumsum(lengths))), indices)

    def chunks(self, n_baskets: int) -> Iterator[Baskets]:
        """The same, 65,536 at a time."""
        if n_baskets < 0:
            raise ValueError(f"n_baskets = {n_baskets}: must be at least 0")
        patterns = _Patterns.draw(self)
        for number, first in enumerate(range(0, n_baskets, CHUNK)):
            rng = np.random.default_rng((self.seed, number + 1))
            keys = np.sort(patterns.expand(rng, *_placements(rng, patterns, self.basket_size)))
            last = min(CHUNK, n_baskets - first)
            keys = keys[: np.searchsorted(keys, last * self.n_items)]
            keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))] if len(keys) else keys
            rows, items = np.divmod(keys, self.n_items)
            lengths = np.bincount(rows, minlength=last)
            yield Baskets(range(self.n_items), np.concatenate(([0], np.cumsum(lengths))), items.astype(np.int32))


@dataclass(frozen=True)
class _Patterns:
    """What recurs.

    Args:
        n_items: of the source.
        lengths: (n_patterns,) items in each.
        orders: (n_patterns, ORDERS, longest) its items, in random orders.
        weights: (n_patterns,) probability of being drawn, summed up.
        log_corruption: (n_patterns,) logarithm of the chance to lose one more item.
    """

    n_items: int
    lengths: Ints
    orders: Ints
    weights: NDArray[np.float64]
    log_corruption: NDArray[np.float64]

    @classmethod
    def draw(cls, source: Quest) -> _Patterns:
        rng = np.random.default_rng((source.seed, 0))
        lengths = np.clip(rng.poisson(source.pattern_size, source.n_patterns), 1, source.n_items)
        shares = np.minimum(rng.exponential(source.correlation, source.n_patterns), 1)
        orders = np.zeros((source.n_patterns, ORDERS, int(lengths.max())), np.int32)
        before = np.empty(0, np.int64)
        for at, (length, share) in enumerate(zip(lengths.tolist(), shares.tolist(), strict=True)):
            kept = rng.permutation(before)[: round(share * length)]
            others = rng.permutation(np.setdiff1d(rng.choice(source.n_items, length, replace=False), kept))
            before = np.concatenate((kept, others))[:length]
            orders[at, :, :length] = rng.permuted(np.tile(before, (ORDERS, 1)), axis=1)
        weights = np.cumsum(rng.exponential(size=source.n_patterns))
        corruption = np.clip(rng.normal(source.corruption, np.sqrt(0.1), source.n_patterns), 1e-9, 1 - 1e-9)
        return cls(source.n_items, lengths, orders, weights / weights[-1], np.log(corruption))

    def pick(self, rng: np.random.Generator, n: int) -> tuple[Ints, Ints]:
        """(n,) patterns, and how many items of each are left: another is lost while a draw lies below its chance."""
        picked = np.searchsorted(self.weights, rng.random(n), side="right")
        lost = np.log1p(-rng.random(n)) / self.log_corruption[picked]
        return picked, np.maximum(self.lengths[picked] - lost.astype(np.int64), 0)

    def expand(self, rng: np.random.Generator, rows: Ints, picked: Ints, kept: Ints) -> Ints:
        """Row x n_items + item of every item placed."""
        starts = np.ravel_multi_index((picked, rng.integers(0, ORDERS, len(picked)), 0), self.orders.shape)
        within = np.arange(int(kept.sum())) - np.repeat(np.cumsum(kept) - kept, kept)
        items = self.orders.ravel().take(np.repeat(starts, kept) + within)
        return np.repeat(rows * self.n_items, kept) + items


def _placements(rng: np.random.Generator, patterns: _Patterns, basket_size: float) -> tuple[Ints, Ints, Ints]:
    """Which pattern stands in which basket with how many of its items.

    A pattern that does not fit is put there all the same in half the cases, else moved to the next basket; one without
    anything else keeps it. Each lane fills its own baskets, one after the other, as the source does with all.
    """
    room_of = np.maximum(rng.poisson(basket_size, CHUNK + 1), 1)
    basket = np.arange(0, CHUNK, STRETCH)
    last = basket + STRETCH
    room = room_of[basket]
    is_empty = np.ones(LANES, bool)
    picked, kept = patterns.pick(rng, LANES)
    placed = []
    while len(basket):
        fits = kept <= room
        put = fits | is_empty | (rng.random(len(basket)) < 0.5)
        placed.append((basket[put], picked[put], kept[put]))
        room = room - kept
        done = ~fits | (room == 0)
        is_empty &= kept == 0
        basket = basket + done
        room = np.where(done, room_of[basket], room)
        is_empty |= done
        fresh = patterns.pick(rng, len(basket))
        picked, kept = np.where(put, fresh[0], picked), np.where(put, fresh[1], kept)
        going = basket < last
        lanes = (basket, last, room, is_empty, picked, kept)
        basket, last, room, is_empty, picked, kept = lanes if going.all() else (each[going] for each in lanes)
    rows, which, left = (np.concatenate(each) for each in zip(*placed, strict=True))
    return rows, which, left
