"""Itemsets as they are found: a tree, each set its prefix and one item more, and cubes, a prefix with many subsets."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]


@dataclass(frozen=True)
class Budget:
    """What mining may cost; whoever reaches a bound gets what is found by then, marked incomplete.

    Args:
        itemsets: how many to find.
        seconds: of wall time.
        megabytes: of itemsets, as they are held.
    """

    itemsets: float = float("inf")
    seconds: float = float("inf")
    megabytes: float = 4000.0

    def __post_init__(self) -> None:
        for name in ("itemsets", "seconds", "megabytes"):
            if not (value := getattr(self, name)) > 0:
                raise ValueError(f"budget: {name} = {value}; must be above 0; leave it out for no bound")


class OverBudget(Exception):  # noqa: N818 (a signal between miner and lattice, not an error of the caller)
    """A bound of the budget is reached."""


@dataclass(frozen=True)
class CubePart:
    """Itemsets of one length: each a prefix of the tree and one of the subsets of the cube's items."""

    level: int
    prefixes: Ints
    subsets: Ints
    counts: Ints
    table: Ints  # (n_subsets, n_items) the items of each subset


class Lattice:
    """The itemsets found so far.

    Args:
        budget: at which bounds `add` raises OverBudget.
        max_length: of an itemset; whoever adds keeps to it.
        progress: is told the number of itemsets found.
    """

    def __init__(
        self, budget: Budget, max_length: int | None = None, progress: Callable[[int], None] | None = None
    ) -> None:
        self.budget, self.max_length, self.progress = budget, max_length, progress
        self._tree: list[list[tuple[Ints, Ints, Ints]]] = [[]]
        self._sizes = [1]  # level 0 is the empty set, parent of the single items
        self._cubes: list[list[CubePart]] = [[]]
        self.n_itemsets = 0
        self._hidden = 0
        self._bytes = 0.0
        self._began = time.monotonic()

    def add(self, level: int, parents: Ints, items: Ints, counts: Ints) -> int:
        """Number of the first of these sets among those of its level; its parents are numbers of the level before."""
        self._grow(level)
        first = self._sizes[level]
        self._tree[level].append((parents, items, counts))
        self._sizes[level] += len(items)
        self._spend(len(items), level)
        return first

    def add_cube(self, part: CubePart) -> None:
        """Sets that are nobody's prefix."""
        level = part.level + part.table.shape[1]
        self._grow(level)
        self._cubes[level].append(part)
        self._spend(len(part.counts), level)

    def allows(self, level: int) -> bool:
        """Whether sets of this length are asked for."""
        return self.max_length is None or level <= self.max_length

    def hide(self, level: int) -> None:
        """Leaves the sets shorter than this out of `arrays`: they only lead to those that were asked for."""
        self._hidden = level - 1
        self.n_itemsets = self._sizes[level]

    def check(self) -> None:
        """Raises OverBudget, if it is; tells the progress."""
        if self.progress is not None:
            self.progress(self.n_itemsets)
        spent = (self.n_itemsets, time.monotonic() - self._began, self._bytes / 1e6)
        if any(have > bound for have, bound in zip(spent, vars(self.budget).values(), strict=True)):
            raise OverBudget

    def _grow(self, level: int) -> None:
        while len(self._sizes) <= level:
            self._sizes.append(0)
            self._tree.append([])
            self._cubes.append([])

    def _spend(self, n: int, level: int) -> None:
        self.n_itemsets += n
        self._bytes += n * (32.0 + 2 * level)  # here, and once more in `arrays`

    def arrays(self, ids: Ints) -> tuple[Ints, NDArray[np.int32], Ints]:
        """The items of all sets one after the other, the sets' lengths and counts; shorter sets come first.

        Args:
            ids: the item behind each code the sets were added with; its type is that of the result.
        """
        totals = [
            len_tree + sum(len(p.counts) for p in cubes)
            for len_tree, cubes in zip(self._sizes, self._cubes, strict=True)
        ]
        totals[: self._hidden + 1] = [0] * (self._hidden + 1)
        lengths = np.repeat(np.arange(len(totals), dtype=np.int32), totals)
        items = np.empty(int(lengths.sum(dtype=np.int64)), ids.dtype)
        counts: list[Ints] = []
        tables = [np.empty((1, 0), ids.dtype)]  # (n_sets, level) of the tree's levels
        at = 0
        for level in range(1, len(totals)):
            hidden = level <= self._hidden
            size = (self._sizes[level] if hidden else totals[level]) * level
            block = np.empty((size // level, level), ids.dtype) if hidden else items[at : at + size].reshape(-1, level)
            self._fill(block, level, ids, tables)
            tables.append(block[: self._sizes[level]])
            if not hidden:
                counts += [c for _, _, c in self._tree[level]] + [part.counts for part in self._cubes[level]]
                at += size
        return items, lengths, np.concatenate(counts) if counts else np.empty(0, np.int64)

    def _fill(self, block: Ints, level: int, ids: Ints, tables: list[Ints]) -> None:
        """The sets of one length, as rows of `block`: first those of the tree, then the cubes'."""
        at = 0
        for parents, codes, _ in self._tree[level]:
            rows = block[at : at + len(codes)]
            rows[:, :-1] = tables[-1].take(parents, axis=0)
            rows[:, -1] = ids.take(codes)
            at += len(codes)
        for part in self._cubes[level]:
            rows = block[at : at + len(part.counts)]
            rows[:, : part.level] = tables[part.level].take(part.prefixes, axis=0)
            rows[:, part.level :] = ids.take(part.table).take(part.subsets, axis=0)
            at += len(part.counts)
