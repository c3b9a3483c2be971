"""Dense classes: all subsets of a class's most frequent members counted at once, below each set of the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mining.bitmaps import Join, Members, deepen
from mining.lattice import CubePart, Ints, Lattice

WIDEST = 12  # members of a cube: 4096 subsets, whose counts for 64 sets a second-level cache holds
CELLS = 1 << 18  # of several cubes counted in one go
FULL = 1 / 16  # share of a cube that must be frequent for it to beat single joins


def superset_sums(cube: Ints) -> None:
    """In place, over the first axis: cell s becomes the sum of the cells of all supersets of s.

    >>> cube = np.array([1, 10, 100, 1000])
    >>> superset_sums(cube)
    >>> cube.tolist()
    [1111, 1010, 1100, 1000]
    """
    n = len(cube)
    for bit in range(n.bit_length() - 1):
        pairs = cube.reshape(n >> (bit + 1), 2, 1 << bit, *cube.shape[1:])
        pairs[:, 0] += pairs[:, 1]


class Cube:
    """The subsets of a class's last members, counted below any set of the others.

    Args:
        has: (n_members, n_rows) 0 or 1, the class's members in its baskets.
        n_items: how many of the last members make the cube.
        codes: (n_members,) the members' last items.
        lattice: where to add.
        minimum: baskets a set must be in.
    """

    def __init__(self, has: NDArray[np.uint8], n_items: int, codes: Ints, lattice: Lattice, minimum: int) -> None:
        weights = np.int32(1) << np.arange(n_items, dtype=np.int32)[::-1]  # the last member is bit 0
        rows = weights @ has[len(has) - n_items :].astype(np.int32)
        self.order = np.argsort(rows, kind="stable")  # equal baskets side by side
        rows = rows[self.order]
        self.ends = np.flatnonzero(np.r_[rows[1:] != rows[:-1], True]) + 1
        self.subsets = rows[self.ends - 1]
        self.n_items, self.lattice, self.minimum = n_items, lattice, minimum
        self.kind = np.uint16 if len(rows) < 1 << 16 else np.int32
        whole = np.zeros(1 << n_items, np.int64)
        whole[self.subsets] = np.diff(self.ends, prepend=0)
        superset_sums(whole)
        self.whole = whole
        sizes = np.bitwise_count(np.arange(len(whole)))
        self.by_size = [np.flatnonzero((sizes == q) & (whole >= minimum)) for q in range(n_items + 1)]
        cube_codes = codes[len(has) - n_items :]
        self.tables = [_members(masks, n_items, size, cube_codes) for size, masks in enumerate(self.by_size)]

    def add_whole(self, node: int, level: int) -> None:
        """Adds the subsets of two or more members, below the class's own prefix."""
        for size in range(2, self.n_items + 1):
            self._add(self.whole[self.by_size[size]][:, None], np.array([node]), level, size)

    def visit(self, bits: NDArray[np.uint64], nodes: Ints, level: int) -> None:
        """Adds the subsets below each of some sets.

        Args:
            bits: (n, W) their baskets, in the order `self.order`.
            nodes: (n,) their numbers in the lattice.
            level: their length.
        """
        step = max(CELLS >> self.n_items, 16)
        for at in range(0, len(nodes), step):
            self.lattice.check()
            self._below(bits[at : at + step], nodes[at : at + step], level)

    def _below(self, bits: NDArray[np.uint64], nodes: Ints, level: int) -> None:
        """One chunk of `visit`: baskets of equal subset are neighbours, so counting them is a difference of ranks."""
        words = np.zeros((bits.shape[1] + 1, len(bits)), np.uint64)
        words[:-1] = bits.T
        through = np.zeros((len(words) + 1, len(bits)), np.int32)
        np.cumsum(np.bitwise_count(words), axis=0, out=through[1:])
        word, bit = self.ends >> 6, (self.ends & 63).astype(np.uint64)
        inside = words.take(word, axis=0)
        inside &= ((np.uint64(1) << bit) - np.uint64(1))[:, None]
        ranks = through.take(word, axis=0)
        ranks += np.bitwise_count(inside)
        cube = np.zeros((1 << self.n_items, len(bits)), self.kind)
        cube[self.subsets[0]] = ranks[0]
        cube[self.subsets[1:]] = ranks[1:] - ranks[:-1]
        superset_sums(cube)
        for size in range(1, self.n_items + 1):
            if not self.lattice.allows(level + size):
                break
            self._add(cube.take(self.by_size[size], axis=0), nodes, level, size)

    def _add(self, counts: Ints, nodes: Ints, level: int, size: int) -> None:
        """Adds the frequent ones of (n_subsets, n_nodes) counts."""
        if not self.lattice.allows(level + size):
            return
        found = np.flatnonzero(counts.ravel() >= self.minimum)
        if len(found):
            subsets, below = np.divmod(found, len(nodes))
            part = CubePart(
                level, nodes.take(below), subsets, counts.ravel().take(found).astype(np.int32), self.tables[size]
            )
            self.lattice.add_cube(part)


def _members(masks: Ints, n_items: int, size: int, codes: Ints) -> Ints:
    """(n_masks, size) the items of each mask, the cube's first item first."""
    chosen = masks[:, None] >> np.arange(n_items)[::-1] & 1
    table: Ints = np.tile(codes, (len(masks), 1))[chosen.astype(bool)].reshape(len(masks), size)
    return table


def mine_dense(members: Members, n_rows: int, node: int, lattice: Lattice, minimum: int, join: Join) -> None:
    """Adds every frequent set of two or more members of one class, by a cube where that pays.

    Args:
        members: of the class.
        n_rows: baskets in all.
        node: number of their common prefix.
        lattice: where to add.
        minimum: baskets a set must be in.
        join: as in `deepen`.
    """
    n_items = min(WIDEST, len(members.codes))
    has = np.unpackbits(members.bits.view(np.uint8), axis=1, count=n_rows, bitorder="little")
    cube = Cube(has, n_items, members.codes, lattice, minimum)
    if sum(map(len, cube.by_size)) < FULL * 2**n_items:
        deepen(members, lattice, minimum, join)
        return
    cube.add_whole(node, members.level - 1)
    if others := len(members.codes) - n_items:
        packed = np.packbits(has[:others, cube.order], axis=1, bitorder="little")
        padded = np.zeros((others, members.bits.shape[1] * 8), np.uint8)
        padded[:, : packed.shape[1]] = packed
        bits, nodes = padded.view(np.uint64), members.nodes[:others]
        cube.visit(bits, nodes, members.level)
        rest = Members(bits, members.codes[:others], nodes, np.array([0, others]), members.level)
        deepen(rest, lattice, minimum, join, cube.visit)
