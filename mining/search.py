"""Every frequent itemset: tidlists while classes are sparse, bitmaps once dense, cubes where nearly all is frequent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mining.bitmaps import Join, Members, deepen, joins, marks, spread
from mining.conditional import LONG, TRIPLES, Block, Follow, children, followers
from mining.cube import mine_dense
from mining.lattice import Ints, Lattice

WIDE, LARGE = 8, 20_000  # words of a bitmap, and words its joins read, from which a class is tried as a cube
A_TRIPLE, JOIN, WORD, ENTRY = 10.0, 12.0, 1.0, 4.0  # nanoseconds, as measured; only their ratios matter
COPIED, PREFIX = 3.0, 20_000.0  # of a triple in long baskets, and of each prefix then


@dataclass(frozen=True)
class Kernels:
    """The three functions nearly all time is spent in; those of `mining.compiled` give the same."""

    follow: Follow = followers
    mark: Callable[[Ints, Ints, Ints, tuple[int, int]], NDArray[np.uint64]] = marks
    join: Join = joins
    room: int = 2 * TRIPLES  # triples up to which a class is not cut by prefixes


def search(block: Block, lattice: Lattice, minimum: int, kernels: Kernels) -> None:
    """Adds every frequent set of two or more members of the block's classes."""
    stack = [iter([block])]
    while stack:
        current = next(stack[-1], None)
        if current is None:
            stack.pop()
            continue
        rest = _dense_classes(current, lattice, minimum, kernels)
        if rest is not None:
            stack.append(children(rest, lattice, minimum, kernels.follow, kernels.room))


def _dense_classes(block: Block, lattice: Lattice, minimum: int, kernels: Kernels) -> Block | None:
    """Mines the classes that are cheaper as bitmaps; what remains of the block."""
    owner = block.class_of_groups()
    lengths = block.lengths
    n_classes = len(block.classes) - 1
    n_rows = np.bincount(owner, minlength=n_classes)
    n_words = -(-n_rows // 64)
    n_triples = np.bincount(owner, lengths * (lengths - 1) / 2, minlength=n_classes)
    n_entries = np.bincount(owner, lengths, minlength=n_classes)
    sizes = np.diff(block.classes)
    joins = sizes * (sizes - 1) / 2 * (JOIN + WORD * n_words)
    copied = np.where(n_triples > LONG * n_entries, COPIED * n_triples + PREFIX * sizes, np.inf)
    dense = joins + ENTRY * n_entries <= np.minimum(A_TRIPLE * n_triples, copied)
    if dense.any():
        widths = _width(n_words)
        for width in np.unique(widths[dense & (n_rows > 0)]):
            chosen = dense & (widths == width)
            members, rows, prefixes = _members(block, owner, n_rows, chosen, int(width), kernels)
            _mine(members, rows, prefixes, lattice, minimum, kernels.join)
    if dense.all():
        return None
    return block.only(~dense.take(owner)) if dense.any() else block


def _width(n_words: Ints) -> Ints:
    """Words of a bitmap, rounded up to 1, 2, 3, 4, 6, 8, 12, ... so that classes of like size go together."""
    steps = np.unique(np.r_[1 << np.arange(24), 3 << np.arange(23)])
    return steps[np.searchsorted(steps, n_words)]


def _members(
    block: Block, owner: Ints, n_rows: Ints, chosen: Ints, width: int, kernels: Kernels
) -> tuple[Members, Ints, Ints]:
    """Some classes as bitmaps of `width` words over their own baskets; how many these are; the classes' prefixes."""
    groups = np.flatnonzero(chosen.take(owner))
    ranks = groups - (np.cumsum(n_rows) - n_rows).take(owner.take(groups))  # of a basket in its class
    lengths = block.lengths.take(groups)
    sizes = np.diff(block.classes)
    members = np.flatnonzero(np.repeat(chosen, sizes))
    renumbered = np.empty(len(block.codes), np.int64)
    renumbered[members] = np.arange(len(members))
    entries = renumbered.take(block.entries.take(spread(block.starts.take(groups), lengths)))
    bits = kernels.mark(entries, ranks, lengths, (len(members), width))
    classes = np.concatenate(([0], np.cumsum(sizes[chosen])))
    made = Members(bits, block.codes.take(members), block.nodes.take(members), classes, block.level)
    return made, n_rows[chosen], block.prefixes[chosen]


def _mine(members: Members, rows: Ints, prefixes: Ints, lattice: Lattice, minimum: int, join: Join) -> None:
    """Mines classes of like width: the large alone, the others together."""
    bits, codes, nodes, classes = members.bits, members.codes, members.nodes, members.classes
    sizes, width = np.diff(classes), bits.shape[1]
    is_large = (sizes * (sizes - 1) // 2 * width > LARGE) & (width >= WIDE)
    for at in np.flatnonzero(is_large).tolist():
        some = slice(classes[at], classes[at + 1])
        one = Members(bits[some], codes[some], nodes[some], np.array([0, sizes[at]]), members.level)
        mine_dense(one, int(rows[at]), int(prefixes[at]), lattice, minimum, join)
    if not is_large.all():
        rest = np.flatnonzero(np.repeat(~is_large, sizes)) if is_large.any() else slice(None)
        ends = np.concatenate(([0], np.cumsum(sizes[~is_large])))
        deepen(Members(bits[rest], codes[rest], nodes[rest], ends, members.level), lattice, minimum, join)
