"""Counting n-grams level by level: each block of a text gives a sorted run a level, and the runs are merged.

A (k + 1)-gram is a key: the row of its first k units times `base`, plus the number of its last unit, from 1. A block
is an array of codes with a 0 behind each segment. `level-<k>` holds the k-grams that are frequent: `keys`, `counts` and
`suffix`, the row of the last k - 1 units; `entropy-<k>` holds `left` and `right`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mining.corpus import LATIN
from mining.runs import Ints, Piece, Rows, Run, merge, sort_keys
from mining.spill import Shelf, put

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
Progress = Callable[[str, int, int], None]

EXACT = 1e-12  # nats; less is the rounding of 0: a rarest neighbour among 1e9 gives 2e-8


def count_levels(
    shelf: Shelf,
    n_blocks: int,
    n: int,
    min_count: int,
    *,
    mergeable: bool,
    limit: int,
    map: Map,  # noqa: A002 (it is what it is called everywhere else)
    progress: Progress,
) -> None:
    """Puts all levels up to n on the shelf that holds `block-<number>`; what is there already is not counted again.

    Args:
        shelf: of the blocks: `codes`, and how often each code occurs: `distinct` and `counts`.
        n_blocks: on it.
        n: greatest length.
        min_count: rarer n-grams are left out.
        mergeable: whether the (n + 1)-grams are kept too.
        limit: rows merged in one go.
        map: over the blocks.
        progress: called with what is counted, blocks done, and blocks.
    """
    if not shelf.has("level-1"):
        _count_units(shelf, n_blocks, min_count)
    base = len(shelf.read("alphabet")["codes"]) + 1
    for k in range(1, n + 1):
        if not shelf.has(f"entropy-{k}"):
            step = _Step(shelf, k, base, n_blocks, is_last=k == n, is_pruned=min_count > 1)
            for done, _ in enumerate(map(step, range(n_blocks)), 1):
                progress(f"{k + 1}-grams", done, n_blocks)
            runs, lefts = ([_run(shelf, f"{kind}-{k + 1}-{at}") for at in range(n_blocks)] for kind in ("run", "left"))
            keep = 1 if k == n and mergeable else min_count if k < n else None
            close_level(shelf, k, base, merge(runs, limit), merge(lefts, limit), keep)
        for number in range(n_blocks):
            for name in (f"run-{k}", f"local-{k}", f"left-{k + 1}", *((f"run-{k + 1}",) if k == n else ())):
                shelf.drop(f"{name}-{number}")


def close_level(
    shelf: Shelf, k: int, base: int, run: Iterable[Piece], left: Iterable[Piece], min_count: int | None
) -> None:
    """Puts the (k + 1)-grams that are frequent on the shelf, none if None, and the entropies of the k-grams.

    The entropy of what stands beside an n-gram of count N is ln N - sum(c ln c) / N over its neighbours' counts c; an
    edge, a neighbour of its own each time, adds nothing to the sum. The sums run in the order of the keys, whatever
    blocks the keys come from, so that all bits are equal.

    Args:
        shelf: holds `level-<k>`.
        k: the level.
        base: of the keys.
        run: pieces of the merged (k + 1)-grams that begin with a frequent k-gram.
        left: pieces of the others that end with one: keys of the k-gram and the unit before it.
        min_count: of the (k + 1)-grams.
    """
    totals = shelf.read(f"level-{k}")["counts"][:]
    left_sums, right_sums = np.zeros(len(totals)), np.zeros(len(totals))
    with shelf.write(f"level-{k + 1}") as append:
        for piece in run:
            several = np.flatnonzero(piece.counts > 1)
            sums = _information(piece.counts[several])
            np.add.at(right_sums, piece.keys[several] // base, sums)
            suffix = piece.suffix[several]
            np.add.at(left_sums, suffix[suffix >= 0], sums[suffix >= 0])
            kept = piece.counts >= (min_count or np.iinfo(np.int64).max)
            append(**{name: array if kept.all() else array[kept] for name, array in piece._asdict().items()})
    for piece in left:
        several = np.flatnonzero(piece.counts > 1)
        np.add.at(left_sums, piece.keys[several] // base, _information(piece.counts[several]))
    put(shelf, f"entropy-{k}", left=_entropies(totals, left_sums), right=_entropies(totals, right_sums))


def _information(counts: Ints) -> NDArray[np.float64]:
    values = counts.astype(np.float64)
    return values * np.log(values)


def _entropies(totals: Ints, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    entropies: NDArray[np.float64] = np.log(totals) - sums / totals
    entropies[entropies < EXACT] = 0
    return entropies


def _run(shelf: Shelf, name: str) -> Run:
    return Run(**shelf.read(name))


def _count_units(shelf: Shelf, n_blocks: int, min_count: int) -> None:
    """The alphabet of all blocks, and the units that are frequent: keys are places in the alphabet, from 1."""
    counts = np.zeros(LATIN + 1, np.int64)
    for number in range(n_blocks):
        block = shelf.read(f"block-{number}")
        counts[block["distinct"][:]] += block["counts"][:]
    counts[0] = 0
    alphabet = np.flatnonzero(counts).astype(np.int32)
    put(shelf, "alphabet", codes=alphabet)
    kept = np.flatnonzero(counts[alphabet] >= min_count)
    put(shelf, "level-1", keys=kept + 1, counts=counts[alphabet[kept]], suffix=np.full(len(kept), -1, np.int32))


@dataclass(frozen=True)
class _Step:
    """Counts in a block the (k + 1)-grams whose first or last k units are frequent.

    An object, not a closure, so that processes can be given it.
    """

    shelf: Shelf
    k: int
    base: int
    n_blocks: int
    is_last: bool
    is_pruned: bool

    def __call__(self, number: int) -> int:
        """The block's number; leaves `run-<k + 1>-<number>` and more on the shelf, unless it is there."""
        if self.shelf.has(f"run-{self.k + 1}-{number}"):
            return number
        units = self._units(number)
        rows = self._rows(number, units)
        self._count_left(number, units, rows)
        self._count_right(number, units, rows)
        return number

    def _units(self, number: int) -> Rows:
        """The block's units as places in the alphabet, from 1; 0 is an edge."""
        alphabet = self.shelf.read("alphabet")["codes"][:]
        table = np.zeros(LATIN + 1, np.int32)
        table[alphabet] = np.arange(1, len(alphabet) + 1)
        units: Rows = table[self.shelf.read(f"block-{number}")["codes"][:]]
        return units

    def _rows(self, number: int, units: Rows) -> Rows:
        """The row of the k-gram that begins at each place of the block; -1 where it is not frequent, or none."""
        keys = self.shelf.read(f"level-{self.k}")["keys"][:]
        if self.k == 1:
            table = np.full(self.base, -1, np.int32)
            table[keys] = np.arange(len(keys))
            return table[units]
        own = self.shelf.read(f"run-{self.k}-{number}")["keys"][:]
        local: Rows = self.shelf.read(f"local-{self.k}-{number}")["rows"][:]
        if len(own) == len(keys) and self.n_blocks == 1:
            return local
        found = np.searchsorted(keys, own).astype(np.int32)
        found[found == len(keys)] = 0
        found[keys[found] != own if len(keys) else slice(None)] = -1
        return np.append(found, np.int32(-1))[local]  # -1 stays -1

    def _count_right(self, number: int, units: Rows, rows: Rows) -> None:
        places = np.flatnonzero(rows >= 0)
        following = units[places + self.k]
        inside = following > 0
        places = places[inside]
        keys = rows[places].astype(np.int64)
        keys *= self.base
        keys += following[inside]
        order = sort_keys(keys, self._bound())
        places = places[order.places]
        if not self.is_last:
            local = np.full(len(rows), -1, np.int32)
            local[places] = np.repeat(np.arange(len(order.keys), dtype=np.int32), order.counts)
            put(self.shelf, f"local-{self.k + 1}-{number}", rows=local)
        suffix = rows[places[order.firsts] + 1]
        put(
            self.shelf,
            f"run-{self.k + 1}-{number}",
            keys=order.keys,
            counts=order.counts.astype(np.int32),
            suffix=suffix,
        )

    def _count_left(self, number: int, units: Rows, rows: Rows) -> None:
        """(k + 1)-grams that begin with a rare k-gram and end with a frequent one."""
        places = np.flatnonzero((rows[:-1] < 0) & (rows[1:] >= 0) & (units[:-1] > 0)) if self.is_pruned else slice(0)
        keys = rows[1:][places].astype(np.int64) * self.base + units[:-1][places]
        order = sort_keys(keys, self._bound())
        counts = order.counts.astype(np.int32)
        put(self.shelf, f"left-{self.k + 1}-{number}", keys=order.keys, counts=counts, suffix=np.zeros_like(counts))

    def _bound(self) -> int:
        return len(self.shelf.read(f"level-{self.k}")["counts"]) * self.base
