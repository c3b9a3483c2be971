"""Conditional databases: the baskets that hold a prefix, cut down to the items that may follow it.

Legend: a *class* is all frequent sets with one prefix, its *members*; a *group* is one basket that holds the prefix, as
the members found in it. Members are numbered through all classes of a block, the classes one after the other. A *cell*
is a pair of members of one class, first < second: a candidate of the next level. A *triple* is a cell and a basket.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mining.bitmaps import spread
from mining.lattice import Ints, Lattice

TRIPLES = 1 << 19  # of several classes that are looked at in one go
MANY = 1 << 23  # of one class: beyond, its prefixes are taken in turns, which bounds memory
CACHED = 1 << 15  # triples of a slice: 256 kB, which a second-level cache holds beside what is counted
BUCKETS = 1 << 21  # of hashed counts, at most twice as many


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


def children(block: Block, lattice: Lattice, minimum: int) -> Iterator[Block]:
    """The blocks of the next level; their members are added to the lattice."""
    for part in _parts(block):
        lattice.check()
        child = _extend(block, part, lattice, minimum)
        if child is not None:
            yield child


@dataclass(frozen=True)
class Part:
    """Some groups of a block, each from some member on: (n,) first entry, entries that are prefixes, entries in all."""

    starts: Ints
    prefixes: Ints
    lengths: Ints


def _parts(block: Block) -> Iterator[Part]:
    """The groups in parts of about TRIPLES, a prefix never divided, the most frequent prefixes first."""
    triples = block.lengths * (block.lengths - 1) // 2
    if not len(triples):
        return
    if triples.sum() <= TRIPLES:
        yield Part(block.starts, block.lengths - 1, block.lengths)
        return
    owner = block.class_of_groups()
    borders = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1], True])
    weights = np.add.reduceat(triples, borders[:-1])
    for first, last in reversed(_chunks(weights)):
        groups = slice(borders[first], borders[last])
        starts, lengths = block.starts[groups], block.lengths[groups]
        if last - first > 1 or weights[first] <= 2 * TRIPLES or weights[first] <= MANY:
            yield Part(starts, lengths - 1, lengths)
        else:
            yield from _parts_of_class(block.entries, starts, lengths)


def _parts_of_class(entries: Ints, starts: Ints, lengths: Ints) -> Iterator[Part]:
    """The groups of one class, cut by prefixes."""
    members = entries.take(spread(starts, lengths)).astype(np.int64)
    groups = np.repeat(np.arange(len(starts)), lengths)
    followers = np.repeat(np.cumsum(lengths), lengths) - np.arange(1, len(members) + 1)
    low = int(members.min())
    weights = np.bincount(members - low, followers)
    ends = lengths
    for first, _ in reversed(_chunks(weights)):
        begins = np.bincount(groups, members < low + first, minlength=len(starts)).astype(np.int64)
        some = np.flatnonzero((begins < ends) & (lengths - begins > 1))
        prefixes = np.minimum(ends.take(some), lengths.take(some) - 1) - begins.take(some)
        yield Part((starts + begins).take(some), prefixes, (lengths - begins).take(some))
        ends = begins


def _chunks(weights: Ints) -> list[tuple[int, int]]:
    """Ranges of about TRIPLES together, at least one each."""
    through = np.cumsum(weights)
    chunk = ((through - weights / 2) / TRIPLES).astype(np.int64)
    borders = np.flatnonzero(np.r_[True, chunk[1:] != chunk[:-1], True]).tolist()
    return list(pairwise(borders))


def _argsort(keys: Ints) -> Ints:
    """The stable order of small keys; sorting numbers that carry their place is several times as fast as an argsort."""
    shift = len(keys).bit_length()
    packed = keys.astype(np.int64) << shift
    packed |= np.arange(len(keys))
    packed.sort()
    packed &= (1 << shift) - 1
    return packed


def _extend(block: Block, part: Part, lattice: Lattice, minimum: int) -> Block | None:
    """The classes of some prefixes; None if nothing is frequent or nothing can follow."""
    candidates = Candidates(block, part)
    frequent, counts, numbers, lengths = candidates.frequent(minimum)
    if not len(frequent):
        return None
    owner, member = candidates.members(frequent)
    codes = block.codes.take(member)
    node = lattice.add(block.level + 1, block.nodes.take(owner), codes, counts)
    if not lattice.allows(block.level + 2):
        return None
    long = np.flatnonzero(lengths > 1)  # a basket with one follower has no pair of them
    if not len(long):
        return None
    lengths = lengths.astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    long = long.take(_argsort(candidates.prefixes().take(long)))
    classes = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1], True])
    above = block.nodes.take(owner[classes[:-1]])
    nodes = np.arange(node, node + len(codes))
    return Block(block.level + 1, codes, nodes, classes, above, numbers, starts.take(long), lengths.take(long))


class Candidates:
    """The cells of a part, a slice at a time: what a second-level cache holds is read several times for free."""

    def __init__(self, block: Block, part: Part) -> None:
        cells = block.cells
        order = _argsort(part.prefixes * (int(part.lengths.max()) + 1) + part.lengths)
        part = Part(part.starts.take(order), part.prefixes.take(order), part.lengths.take(order))
        self._shapes = _shapes(part)
        self._tables = [
            block.entries.take(part.starts[s.groups, None] + np.arange(s.length)).astype(np.int64) for s in self._shapes
        ]
        self._low = min(int(table[:, 0].min()) for table in self._tables)
        tops = (int(table[:, s.prefixes - 1].max()) for s, table in zip(self._shapes, self._tables, strict=True))
        self._firsts = cells[self._low : max(tops) + 2]  # first cell of each prefix, and the end
        self._base = self._firsts[0]
        self._shift = self._firsts - np.arange(self._low, self._low + len(self._firsts)) - (1 + self._base)
        self._own = [
            self._shift.take(t[:, : s.prefixes] - self._low) for s, t in zip(self._shapes, self._tables, strict=True)
        ]

    def frequent(self, minimum: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Frequent cells, their counts, the cell number of each triple kept, and how many each prefix entry kept."""
        n_cells = int(self._firsts[-1] - self._base)
        shapes = zip(self._shapes, self._tables, strict=True)
        n_triples = sum(len(table) * len(_pairs(s.prefixes, s.length)[0]) for s, table in shapes)
        if n_cells > max(1 << 20, n_triples):
            # a bucket's triples, were they even, are a quarter of what a frequent cell has
            n_buckets = 1 << min(max(4 * n_triples // minimum, 1 << 10), BUCKETS).bit_length()
            return self._frequent_of_many(minimum, n_buckets)
        counts = np.zeros(n_cells, np.int32)
        for cells in self._unordered():
            np.add.at(counts, cells, np.int32(1))
        enough = counts >= minimum
        frequent = np.flatnonzero(enough)
        number = np.full(n_cells, -1, np.int32)
        number[frequent] = np.arange(len(frequent), dtype=np.int32)
        numbers, lengths = [], []
        for shape, rows in self._slices():
            some = number.take(rows)
            kept = some >= 0
            lengths.append(_sums(kept, shape))
            numbers.append(some.ravel().take(np.flatnonzero(kept)))
        return frequent, counts.take(frequent), np.concatenate(numbers), np.concatenate(lengths)

    def _frequent_of_many(self, minimum: int, n_buckets: int) -> tuple[Ints, Ints, Ints, Ints]:
        """With too many cells for a table, hashed counts come first (Park, Chen & Yu 1995); what passes is sorted."""
        counts = np.zeros(n_buckets, np.int32)
        for cells in self._unordered():
            np.add.at(counts, cells & (n_buckets - 1), np.int32(1))
        passes = counts >= minimum
        where, some = [], []
        for shape, rows in self._slices():
            places = np.flatnonzero(passes.take(rows & (n_buckets - 1)))
            where.append((shape, rows.shape, places))
            some.append(rows.ravel().take(places))
        cells = np.concatenate(some)
        order = _argsort(cells)
        cells = cells.take(order)
        starts = np.flatnonzero(np.r_[True, cells[1:] != cells[:-1]][: len(cells)])
        counts = np.diff(np.append(starts, len(cells)))
        enough = counts >= minimum
        numbers = np.empty(len(cells), np.int32)
        numbers[order] = np.repeat(np.where(enough, np.cumsum(enough) - 1, -1), counts)
        good, at, lengths = numbers >= 0, 0, []
        for shape, size, places in where:
            kept = np.zeros(size, bool)
            kept.ravel()[places] = good[at : at + len(places)]
            lengths.append(_sums(kept, shape))
            at += len(places)
        return cells.take(starts[enough]), counts[enough], numbers.take(np.flatnonzero(good)), np.concatenate(lengths)

    def members(self, cells: Ints) -> tuple[Ints, Ints]:
        """First and second member of each cell."""
        own = np.searchsorted(self._firsts[:-1] - self._base, cells, side="right") - 1
        return own + self._low, cells - self._shift.take(own)

    def prefixes(self) -> Ints:
        """(n_prefix_entries,) the member of each, in the order of the slices."""
        return np.concatenate([t[:, : s.prefixes].ravel() for s, t in zip(self._shapes, self._tables, strict=True)])

    def _slices(self) -> Iterator[tuple[Shape, NDArray[np.int64]]]:
        """(n_groups, n_pairs) cells."""
        for shape, table, own in zip(self._shapes, self._tables, self._own, strict=True):
            first, second = _pairs(shape.prefixes, shape.length)
            step = max(CACHED // len(first), 1)
            for at in range(0, len(table), step):
                rows = table[at : at + step].take(second, axis=1)
                rows += own[at : at + step].take(first, axis=1)
                yield shape, rows

    def _unordered(self) -> Iterator[NDArray[np.int64]]:
        """The same cells, flat: a pair of places after the other, which copies long runs instead of single numbers."""
        for shape, table, own in zip(self._shapes, self._tables, self._own, strict=True):
            first, second = _pairs(shape.prefixes, shape.length)
            step = max(CACHED // len(first), 1)
            for at in range(0, len(table), step):
                rows = np.ascontiguousarray(table[at : at + step].T).take(second, axis=0)
                rows += np.ascontiguousarray(own[at : at + step].T).take(first, axis=0)
                yield rows.ravel()


@dataclass(frozen=True)
class Shape:
    """Groups of a part that are alike: which, and how many prefixes and entries each has."""

    groups: slice
    prefixes: int
    length: int


def _shapes(part: Part) -> list[Shape]:
    """The shapes of a part whose like groups are neighbours."""
    new = (part.prefixes[1:] != part.prefixes[:-1]) | (part.lengths[1:] != part.lengths[:-1])
    borders = np.flatnonzero(np.r_[True, new, True]).tolist()
    return [Shape(slice(a, b), int(part.prefixes[a]), int(part.lengths[a])) for a, b in pairwise(borders)]


@lru_cache(maxsize=256)
def _pairs(prefixes: int, length: int) -> tuple[Ints, Ints]:
    """The pairs first < second < length with first < prefixes, in order."""
    first, second = np.nonzero(np.arange(prefixes)[:, None] < np.arange(length))
    return first, second


def _sums(kept: NDArray[np.bool_], shape: Shape) -> NDArray[np.float32]:
    """How many triples of each prefix of each group are kept, (n_groups * n_prefixes,)."""
    return (kept.astype(np.float32) @ _is_first(shape.prefixes, shape.length)).ravel()


@lru_cache(maxsize=256)
def _is_first(prefixes: int, length: int) -> NDArray[np.float32]:
    """(n_pairs, prefixes) whether a pair starts there."""
    starts: NDArray[np.bool_] = _pairs(prefixes, length)[0][:, None] == np.arange(prefixes)
    return starts.astype(np.float32)
