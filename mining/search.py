"""Every frequent itemset: tidlists while classes are sparse, bitmaps once dense, cubes where nearly all is frequent."""

from __future__ import annotations

import numpy as np

from mining.bitmaps import Members, deepen, spread
from mining.conditional import Block, children
from mining.cube import mine_dense
from mining.lattice import Ints, Lattice

WIDE, LARGE = 8, 20_000  # words of a bitmap, and words its joins read, from which a class is tried as a cube
TRIPLE, JOIN, WORD, ENTRY = 10.0, 12.0, 1.0, 4.0  # nanoseconds, as measured; only their ratios matter


def search(block: Block, lattice: Lattice, minimum: int) -> None:
    """Adds every frequent set of two or more members of the block's classes."""
    stack = [iter([block])]
    while stack:
        current = next(stack[-1], None)
        if current is None:
            stack.pop()
            continue
        rest = _dense_classes(current, lattice, minimum)
        if rest is not None:
            stack.append(children(rest, lattice, minimum))


def _dense_classes(block: Block, lattice: Lattice, minimum: int) -> Block | None:
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
    dense = joins + ENTRY * n_entries <= TRIPLE * n_triples
    if dense.any():
        widths = _width(n_words)
        for width in np.unique(widths[dense & (n_rows > 0)]):
            _bitmaps(block, owner, n_rows, dense & (widths == width), int(width), lattice, minimum)
    if dense.all():
        return None
    return block.only(~dense.take(owner)) if dense.any() else block


def _width(n_words: Ints) -> Ints:
    """Words of a bitmap, rounded up to 1, 2, 3, 4, 6, 8, 12, ... so that classes of like size go together."""
    steps = np.unique(np.r_[1 << np.arange(24), 3 << np.arange(23)])
    return steps[np.searchsorted(steps, n_words)]


def _bitmaps(block: Block, owner: Ints, n_rows: Ints, chosen: Ints, width: int, lattice: Lattice, minimum: int) -> None:
    """Mines some classes on bitmaps of `width` words over their own baskets: the large alone, the others together."""
    groups = np.flatnonzero(chosen.take(owner))
    rank = groups - (np.cumsum(n_rows) - n_rows).take(owner.take(groups))  # of a basket in its class
    lengths = block.lengths.take(groups)
    sizes = np.diff(block.classes)
    members = np.flatnonzero(np.repeat(chosen, sizes))
    renumbered = np.empty(len(block.codes), np.int64)
    renumbered[members] = np.arange(len(members))
    word = renumbered.take(block.entries.take(spread(block.starts.take(groups), lengths))) * width
    word += np.repeat(rank >> 6, lengths)
    flat = np.zeros(len(members) * width, np.uint64)
    np.add.at(flat, word, np.repeat(np.uint64(1) << (rank & 63).astype(np.uint64), lengths))
    bits = flat.reshape(-1, width)
    codes, nodes = block.codes.take(members), block.nodes.take(members)
    sizes, rows, prefixes = sizes[chosen], n_rows[chosen], block.prefixes[chosen]
    classes = np.concatenate(([0], np.cumsum(sizes)))
    is_large = (sizes * (sizes - 1) // 2 * width > LARGE) & (width >= WIDE)
    for at in np.flatnonzero(is_large).tolist():
        part = slice(classes[at], classes[at + 1])
        mine_dense(
            Members(bits[part], codes[part], nodes[part], np.array([0, sizes[at]]), block.level),
            int(rows[at]),
            int(prefixes[at]),
            lattice,
            minimum,
        )
    if not is_large.all():
        rest = np.flatnonzero(np.repeat(~is_large, sizes)) if is_large.any() else slice(None)
        ends = np.concatenate(([0], np.cumsum(sizes[~is_large])))
        deepen(Members(bits[rest], codes[rest], nodes[rest], ends, block.level), lattice, minimum)
