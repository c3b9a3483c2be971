"""Depth-first joins on bitmaps: the baskets of a set are one bit each, and a join is an AND."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mining.lattice import Ints, Lattice

WORDS = 1 << 17  # of bitmaps made in one go: 1 MB, which a second-level cache holds
Visit = Callable[[NDArray[np.uint64], Ints, int], None]
Joined = tuple[Ints, Ints, Ints, NDArray[np.uint64]]
Join = Callable[[NDArray[np.uint64], Ints, int, int], Joined]


def popcounts(bits: NDArray[np.uint64]) -> Ints:
    """(n,) bits set in each row of (n, W)."""
    ones = np.bitwise_count(bits)
    n_words = bits.shape[1]
    if n_words == 1:
        return ones[:, 0].astype(np.int32)
    # a product with ones is several times as fast as a sum along short rows; float32 is exact below 2^24 baskets
    kind = np.float32 if n_words < 1 << 18 else np.float64
    counts: Ints = (ones.astype(kind) @ np.ones(n_words, kind)).astype(np.int32)
    return counts


@dataclass(frozen=True)
class Members:
    """Frequent sets in classes of like prefix.

    Args:
        bits: (n_members, W) the baskets of each.
        codes: (n_members,) its last item.
        nodes: (n_members,) its number in the lattice.
        classes: (n_classes + 1,) first member of each class.
        level: length of the sets.
    """

    bits: NDArray[np.uint64]
    codes: Ints
    nodes: Ints
    classes: Ints
    level: int


def deepen(members: Members, lattice: Lattice, minimum: int, join: Join, visit: Visit | None = None) -> None:
    """Adds every frequent set that joins members of a class, and theirs, and so on.

    Args:
        members: the classes to start from.
        lattice: where to add.
        minimum: baskets a set must be in.
        join: `joins`, or one that gives the same.
        visit: is given each new set's bits, its number and its length.
    """
    stack = [(members, 0)]
    while stack:
        members, start = stack.pop()
        if not lattice.allows(members.level + 1):
            continue
        lattice.check()
        ends = np.repeat(members.classes[1:], np.diff(members.classes))
        through = np.cumsum((ends - np.arange(1, len(ends) + 1))[start:])
        stop = start + max(int(np.searchsorted(through, WORDS // members.bits.shape[1], side="right")), 1)
        if stop < len(ends):
            stack.append((members, stop))
        joined = _add(members, join(members.bits, ends[:stop], start, minimum), lattice, visit)
        if joined is not None:
            stack.append((joined, 0))


def joins(bits: NDArray[np.uint64], ends: Ints, start: int, minimum: int) -> Joined:
    """Left, right, count and bits of the frequent joins of some members with those after them.

    Args:
        bits: (n_members, W) the baskets of each.
        ends: (stop,) the end of each one's class.
        start: the first that is joined; `stop` is the end.
        minimum: baskets a join must be in.
    """
    places = np.arange(start, len(ends))
    partners = ends[start:] - places - 1
    left, right = np.repeat(places, partners), spread(places + 1, partners)
    both = bits.take(left, axis=0)
    both &= bits.take(right, axis=0)
    counts = popcounts(both)
    keep = np.flatnonzero(counts >= minimum)
    return left.take(keep), right.take(keep), counts.take(keep), both.take(keep, axis=0)


def _add(members: Members, joined: Joined, lattice: Lattice, visit: Visit | None) -> Members | None:
    """Adds some joins; those that can be joined again, in the classes of their left, or None."""
    left, right, counts, both = joined
    if not len(left):
        return None
    level = members.level + 1
    codes = members.codes.take(right)
    first = lattice.add(level, members.nodes.take(left), codes, counts)
    nodes = np.arange(first, first + len(left))
    if visit is not None:
        visit(both, nodes, level)
    borders = np.flatnonzero(np.concatenate(([True], left[1:] != left[:-1], [True])))
    sizes = np.diff(borders)
    alone = sizes == 1
    if alone.any():
        others = np.flatnonzero(np.repeat(~alone, sizes))
        both, codes, nodes = both.take(others, axis=0), codes.take(others), nodes.take(others)
        borders = np.concatenate(([0], np.cumsum(sizes[~alone])))
    return Members(both, codes, nodes, borders, level) if len(nodes) else None


def marks(members: Ints, ranks: Ints, lengths: Ints, shape: tuple[int, int]) -> NDArray[np.uint64]:
    """Bitmaps of the members, of that shape: group g, the `ranks[g]`-th basket, holds the next `lengths[g]` members."""
    word = members * shape[1]
    word += np.repeat(ranks >> 6, lengths)
    bits = np.zeros(shape, np.uint64)
    np.add.at(bits.reshape(-1), word, np.repeat(np.uint64(1) << (ranks & 63).astype(np.uint64), lengths))
    return bits


def spread(starts: Ints, lengths: Ints) -> Ints:
    """The numbers starts[0], starts[0] + 1, ... of each range, one range after the other.

    >>> spread(np.array([5, 0]), np.array([3, 2])).tolist()
    [5, 6, 7, 0, 1]
    """
    ends = np.cumsum(lengths)
    numbers = np.repeat(starts - ends + lengths, lengths)
    numbers += np.arange(len(numbers))
    return numbers
