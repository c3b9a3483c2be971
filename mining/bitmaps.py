"""Depth-first joins on bitmaps: the baskets of a set are one bit each, and a join is an AND."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mining.lattice import Ints, Lattice

WORDS = 1 << 17  # of bitmaps made in one go: 1 MB, which a second-level cache holds
Visit = Callable[[NDArray[np.uint64], Ints, int], None]


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


def deepen(members: Members, lattice: Lattice, minimum: int, visit: Visit | None = None) -> None:
    """Adds every frequent set that joins members of a class, and theirs, and so on.

    Args:
        members: the classes to start from.
        lattice: where to add.
        minimum: baskets a set must be in.
        visit: is given each new set's bits, its number and its length.
    """
    stack = [(members, 0)]
    while stack:
        members, start = stack.pop()
        if not lattice.allows(members.level + 1):
            continue
        lattice.check()
        partners = np.repeat(members.classes[1:], np.diff(members.classes))
        partners -= np.arange(1, len(partners) + 1)
        through = np.cumsum(partners[start:])
        stop = start + max(int(np.searchsorted(through, WORDS // members.bits.shape[1], side="right")), 1)
        if stop < len(partners):
            stack.append((members, stop))
        partners = partners[start:stop]
        left = np.repeat(np.arange(start, stop), partners)
        joined = _joined(members, left, spread(np.arange(start, stop) + 1, partners), lattice, minimum, visit)
        if joined is not None:
            stack.append((joined, 0))


def _joined(
    members: Members, left: Ints, right: Ints, lattice: Lattice, minimum: int, visit: Visit | None
) -> Members | None:
    """The frequent ones among some joins, in the classes of their left; None if no class has two."""
    both = members.bits.take(left, axis=0)
    both &= members.bits.take(right, axis=0)
    counts = popcounts(both)
    keep = np.flatnonzero(counts >= minimum)
    if not len(keep):
        return None
    left, level = left.take(keep), members.level + 1
    codes = members.codes.take(right.take(keep))
    first = lattice.add(level, members.nodes.take(left), codes, counts.take(keep))
    nodes = np.arange(first, first + len(keep))
    if visit is not None:
        visit(both.take(keep, axis=0), nodes, level)
    borders = np.flatnonzero(np.r_[True, left[1:] != left[:-1], True])
    sizes = np.diff(borders)
    alone = sizes == 1
    if alone.any():
        others = np.flatnonzero(np.repeat(~alone, sizes))
        keep, codes, nodes = keep.take(others), codes.take(others), nodes.take(others)
        borders = np.concatenate(([0], np.cumsum(sizes[~alone])))
    return Members(both.take(keep, axis=0), codes, nodes, borders, level) if len(keep) else None


def spread(starts: Ints, lengths: Ints) -> Ints:
    """The numbers starts[0], starts[0] + 1, ... of each range, one range after the other.

    >>> spread(np.array([5, 0]), np.array([3, 2])).tolist()
    [5, 6, 7, 0, 1]
    """
    ends = np.cumsum(lengths)
    numbers = np.repeat(starts - ends + lengths, lengths)
    numbers += np.arange(len(numbers))
    return numbers
