"""Conditional databases: the baskets that hold a prefix, cut down to the items that may follow it.

Legend: a *class* is all frequent sets with one prefix, its *members*; a *group* is one basket that holds the prefix, as
the members found in it. Members are numbered through all classes of a block, the classes one after the other. A *cell*
is a pair of members of one class, first < second: a candidate of the next level. A *triple* is a cell and a basket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mining.bitmaps import spread
from mining.lattice import Ints, Lattice

TRIPLES = 1 << 19  # of several classes that are looked at in one go
CELLS = 1 << 20  # counted in one table
MANY, LONG = 1 << 12, 64  # triples of a prefix, and of a prefix in a basket, from which it is counted on its own
CACHED = 1 << 15  # triples of a slice: 256 kB, which a second-level cache holds beside what is counted


@dataclass(frozen=True)
class Block:
    """Classes of one level.

    Args:
        level: length of the members' itemsets.
        codes: (n_members,) the last item of each.
        nodes: (n_members,) its number in the lattice.
        classes: (n_classes + 1,) first member of each class.
        prefixes: (n_classes,) number of each class's prefix in the lattice, at the level before.
        entries: members found, rising in each group.
        starts: (n_groups,) first entry of each; the groups of a class are neighbours, classes rising.
        lengths: (n_groups,) entries of each, two or more.
    """

    level: int
    codes: Ints
    nodes: Ints
    classes: Ints
    prefixes: Ints
    entries: Ints
    starts: Ints
    lengths: Ints

    @cached_property
    def cells(self) -> Ints:
        """(n_members + 1,) the first cell of each member, and the number of cells."""
        partners = np.repeat(self.classes[1:], np.diff(self.classes)) - np.arange(1, len(self.codes) + 1)
        return np.concatenate(([0], np.cumsum(partners)))

    def class_of_groups(self) -> Ints:
        """(n_groups,)."""
        owner = np.repeat(np.arange(len(self.classes) - 1), np.diff(self.classes))
        return owner.take(self.entries.take(self.starts))

    def only(self, kept: NDArray[np.bool_]) -> Block:
        """The block with some of its groups; its members stay, so that numbers keep their meaning."""
        starts, lengths = self.starts[kept], self.lengths[kept]
        return Block(self.level, self.codes, self.nodes, self.classes, self.prefixes, self.entries, starts, lengths)


@dataclass(frozen=True)
class Part:
    """Some groups of a block, each from some member on: (n,) first entry, entries that are prefixes, entries in all."""

    starts: Ints
    prefixes: Ints
    lengths: Ints


@dataclass(frozen=True)
class Found:
    """Frequent cells by rising prefix, and the groups that are left of a part.

    Args:
        first: (n_cells,) the prefix of each.
        second: (n_cells,) the member that follows.
        counts: (n_cells,).
        entries: numbers of cells, rising in each group.
        starts: (n_groups,) first entry of each group; those of a prefix are neighbours, prefixes rising.
        lengths: (n_groups,) entries of each, two or more.
    """

    first: Ints
    second: Ints
    counts: Ints
    entries: Ints
    starts: Ints
    lengths: Ints


Follow = Callable[[Block, Part, int], Found]


def children(block: Block, lattice: Lattice, minimum: int, follow: Follow, room: int) -> Iterator[Block]:
    """The blocks of the next level; their members are added to the lattice."""
    for part in _parts(block, room):
        lattice.check()
        child = _extend(block, part, lattice, minimum, follow)
        if child is not None:
            yield child


def _parts(block: Block, room: int) -> Iterator[Part]:
    """The groups in parts of about TRIPLES, a prefix never divided, the most frequent prefixes first."""
    triples = block.lengths * (block.lengths - 1) // 2
    if not len(triples):
        return
    if triples.sum() <= TRIPLES:
        yield Part(block.starts, block.lengths - 1, block.lengths)
        return
    owner = block.class_of_groups()
    borders = np.flatnonzero(np.concatenate(([True], owner[1:] != owner[:-1], [True])))
    weights = np.add.reduceat(triples, borders[:-1])
    for first, last in reversed(_chunks(weights)):
        groups = slice(borders[first], borders[last])
        starts, lengths = block.starts[groups], block.lengths[groups]
        which = owner[borders[first]]
        n_cells = block.cells[block.classes[which + 1]] - block.cells[block.classes[which]]
        if last - first > 1 or weights[first] <= room or n_cells <= CELLS:
            yield Part(starts, lengths - 1, lengths)
        else:
            yield from _parts_of_class(block.entries, starts, lengths)


def _parts_of_class(entries: Ints, starts: Ints, lengths: Ints) -> Iterator[Part]:
    """The groups of one class, cut by prefixes: what follows each entry is a group of its own, with one prefix."""
    at = spread(starts, lengths - 1)
    rest = np.repeat((starts + lengths).astype(np.int32), lengths - 1) - at
    members, order = _sort(entries.take(at))
    at, rest = at.take(order), rest.take(order)
    borders = np.flatnonzero(np.concatenate(([True], members[1:] != members[:-1], [True])))
    for first, last in reversed(_chunks(np.add.reduceat(rest - 1, borders[:-1]))):
        some = slice(borders[first], borders[last])
        yield Part(at[some], np.ones(borders[last] - borders[first], np.int64), rest[some])


def _chunks(weights: Ints) -> list[tuple[int, int]]:
    """Ranges of about TRIPLES together, at least one each."""
    through = np.cumsum(weights)
    chunk = ((through - weights / 2) / TRIPLES).astype(np.int64)
    borders = np.flatnonzero(np.r_[True, chunk[1:] != chunk[:-1], True]).tolist()
    return list(pairwise(borders))


def _argsort(keys: Ints) -> Ints:
    """The stable order of keys."""
    return _sort(keys)[1]


def _sort(keys: Ints) -> tuple[Ints, Ints]:
    """Keys in stable order, and their places; numbers that carry their place sort many times as fast as an argsort."""
    shift = len(keys).bit_length()
    if int(keys.max(initial=0)).bit_length() + shift > 63:
        order = np.argsort(keys, kind="stable")
        return keys.take(order), order
    packed = keys.astype(np.int64) << shift
    packed |= np.arange(len(keys))
    packed.sort()
    ordered = packed >> shift
    packed &= (1 << shift) - 1
    return ordered, packed


def _extend(block: Block, part: Part, lattice: Lattice, minimum: int, follow: Follow) -> Block | None:
    """The classes of some prefixes; None if nothing is frequent or nothing can follow."""
    found = follow(block, part, minimum)
    if not len(found.counts):
        return None
    codes = block.codes.take(found.second)
    node = lattice.add(block.level + 1, block.nodes.take(found.first), codes, found.counts)
    if not lattice.allows(block.level + 2) or not len(found.starts):
        return None
    owner = found.first
    classes = np.flatnonzero(np.concatenate(([True], owner[1:] != owner[:-1], [True])))
    above = block.nodes.take(owner[classes[:-1]])
    nodes = np.arange(node, node + len(codes))
    return Block(block.level + 1, codes, nodes, classes, above, found.entries, found.starts, found.lengths)


def followers(block: Block, part: Part, minimum: int) -> Found:
    """The frequent cells of a part, and the baskets of each prefix cut down to them."""
    low, top = part_range(block, part)
    if count_triples(part) > max(MANY * (top - low + 1), LONG * int(part.prefixes.sum())):
        return _prefix_by_prefix(block, part, minimum)
    candidates = Candidates(block, part)
    cells, counts, numbers, lengths = candidates.frequent(minimum)
    first, second = candidates.members(cells)
    long = np.flatnonzero(lengths > 1)  # a basket with one follower has no pair of them
    lengths = lengths.astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    long = long.take(_argsort(candidates.prefixes().take(long)))
    return Found(first, second, counts, numbers, starts.take(long), lengths.take(long))


def part_range(block: Block, part: Part) -> tuple[int, int]:
    """The first and the last prefix of a part."""
    return int(block.entries.take(part.starts).min()), int(block.entries.take(part.starts + part.prefixes - 1).max())


def count_triples(part: Part) -> int:
    """How many triples a part has."""
    return int((part.prefixes * (2 * part.lengths - part.prefixes - 1)).sum()) // 2


def _prefix_by_prefix(block: Block, part: Part, minimum: int) -> Found:
    """`followers` for long baskets: what follows a prefix is copied in long runs, and counted on its own."""
    at = spread(part.starts, part.prefixes)
    ends = np.repeat(part.starts + part.lengths, part.prefixes)
    members, order = _sort(block.entries.take(at))
    at, ends = at.take(order), ends.take(order)
    borders = np.flatnonzero(np.concatenate(([True], members[1:] != members[:-1], [True]))).tolist()
    number = np.full(int(block.entries.max()) + 1, -1, np.int32)
    empty = np.empty(0, np.int64)
    cells, entries, sizes, n_cells = [(empty, empty, empty)], [empty.astype(np.int32)], [empty], 0
    for begin, end in pairwise(borders):
        runs = [block.entries[a + 1 : z] for a, z in zip(at[begin:end].tolist(), ends[begin:end].tolist(), strict=True)]
        row = np.concatenate(runs)
        counts = np.bincount(row)
        frequent = np.flatnonzero(counts >= minimum)
        cells.append((np.full(len(frequent), members[begin]), frequent, counts.take(frequent)))
        if len(frequent) > 1:
            number[frequent] = np.arange(n_cells, n_cells + len(frequent), dtype=np.int32)
            numbers = number.take(row)
            number[frequent] = -1
            kept = numbers >= 0
            through = np.concatenate(([0], np.cumsum(kept)))
            entries.append(numbers[kept])
            sizes.append(np.diff(through.take(np.cumsum([0, *map(len, runs)]))))
        n_cells += len(frequent)
    lengths = np.concatenate(sizes)
    long = np.flatnonzero(lengths > 1)
    first, second, found = (np.concatenate(column) for column in zip(*cells, strict=True))
    starts = np.cumsum(lengths) - lengths
    return Found(first, second, found, np.concatenate(entries), starts.take(long), lengths.take(long))


class Candidates:
    """The cells of a part, a slice at a time, which a second-level cache holds: a pair of places after the other.

    A slice is (n_pairs, n_groups): what is copied and added are long runs, whatever the length of a basket.
    """

    def __init__(self, block: Block, part: Part) -> None:
        order = _argsort(part.prefixes * (int(part.lengths.max()) + 1) + part.lengths)
        part = Part(part.starts.take(order), part.prefixes.take(order), part.lengths.take(order))
        self._n_triples = count_triples(part)
        self._low, top = part_range(block, part)
        self._firsts = block.cells[self._low : top + 2]  # first cell of each prefix, and the end
        self._base = self._firsts[0]
        self._shift = self._firsts - np.arange(self._low, self._low + len(self._firsts)) - (1 + self._base)
        self._tables = [
            (shape, block.entries.take(part.starts[shape.groups] + np.arange(shape.length)[:, None]).astype(np.int64))
            for shape in _shapes(part)
        ]
        self._own = [self._shift.take(table[: shape.prefixes] - self._low) for shape, table in self._tables]

    def frequent(self, minimum: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Frequent cells, their counts, the cell number of each triple kept, and how many each prefix entry kept."""
        n_cells = int(self._firsts[-1] - self._base)
        many = n_cells > max(CELLS, self._n_triples)
        if many:
            cells, counts, of_triples = self._sorted(minimum)
        else:
            counts = np.zeros(n_cells, np.int32)
            for _, rows in self._slices():
                np.add.at(counts, rows.ravel(), np.int32(1))
            cells = np.flatnonzero(counts >= minimum)
            counts = counts.take(cells)
            number = np.full(n_cells, -1, np.int32)
            number[cells] = np.arange(len(cells), dtype=np.int32)
        numbers, lengths, at = [], [], 0
        for shape, rows in self._slices():
            some = of_triples[at : at + rows.size].reshape(rows.shape) if many else number.take(rows)
            at += rows.size
            kept = some >= 0
            lengths.append(_sums(kept, shape))
            numbers.append(some.T[kept.T])
        return cells, counts, np.concatenate(numbers), np.concatenate(lengths)

    def _sorted(self, minimum: int) -> tuple[Ints, Ints, Ints]:
        """Frequent cells, their counts, and each triple's cell number or -1, by sorting, for very many cells."""
        keys = np.concatenate([rows.ravel() for _, rows in self._slices()])
        cells, order = _sort(keys)
        starts = np.flatnonzero(np.concatenate(([True], cells[1:] != cells[:-1])))
        counts = np.diff(np.append(starts, len(keys)))
        enough = counts >= minimum
        starts, counts = starts[enough], counts[enough]
        of_triples = np.full(len(keys), -1, np.int32)
        of_triples[order.take(spread(starts, counts))] = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        return cells.take(starts), counts, of_triples

    def members(self, cells: Ints) -> tuple[Ints, Ints]:
        """First and second member of each cell."""
        own = np.searchsorted(self._firsts[:-1] - self._base, cells, side="right") - 1
        return own + self._low, cells - self._shift.take(own)

    def prefixes(self) -> Ints:
        """(n_prefix_entries,) the member of each, in the order of the slices."""
        return np.concatenate([table[: shape.prefixes].T.ravel() for shape, table in self._tables])

    def _slices(self) -> Iterator[tuple[Shape, NDArray[np.int64]]]:
        for (shape, table), own in zip(self._tables, self._own, strict=True):
            if shape.prefixes == 1:
                yield shape, table[1:] + own
                continue
            first, second = shape.pairs
            rows = table.take(second, axis=0)
            rows += own.take(first, axis=0)
            yield shape, rows


@dataclass(frozen=True)
class Shape:
    """Like groups of a part, no more than a cache holds: which, and how many prefixes and entries each has."""

    groups: slice
    prefixes: int
    length: int

    @property
    def pairs(self) -> tuple[Ints, Ints]:
        """First and second place of each pair, (n_pairs,)."""
        return _pairs(self.prefixes, self.length)


def _shapes(part: Part) -> Iterator[Shape]:
    """The shapes of a part whose like groups are neighbours."""
    new = (part.prefixes[1:] != part.prefixes[:-1]) | (part.lengths[1:] != part.lengths[:-1])
    borders = np.flatnonzero(np.concatenate(([True], new, [True]))).tolist()
    for start, end in pairwise(borders):
        prefixes, length = int(part.prefixes[start]), int(part.lengths[start])
        step = max(CACHED // len(_pairs(prefixes, length)[0]), 1)
        for at in range(start, end, step):
            yield Shape(slice(at, min(at + step, end)), prefixes, length)


@lru_cache(maxsize=256)
def _pairs(prefixes: int, length: int) -> tuple[Ints, Ints]:
    """The pairs first < second < length with first < prefixes, in order."""
    first, second = np.nonzero(np.arange(prefixes)[:, None] < np.arange(length))
    return first, second


@lru_cache(maxsize=256)
def _borders(prefixes: int, length: int) -> list[tuple[int, int]]:
    """Where the pairs of each prefix start and end."""
    places = np.searchsorted(_pairs(prefixes, length)[0], np.arange(prefixes + 1))
    return list(pairwise(places.tolist()))


def _sums(kept: NDArray[np.bool_], shape: Shape) -> Ints:
    """How many triples of each prefix of each group are kept, (n_groups * n_prefixes,)."""
    kind = np.uint8 if shape.length < 256 else np.int32
    sums = np.empty((shape.prefixes, kept.shape[1]), kind)
    for (start, end), own in zip(_borders(shape.prefixes, shape.length), sums, strict=True):
        np.add.reduce(kept[start:end].view(np.uint8), axis=0, dtype=kind, out=own)
    return sums.T.ravel()
