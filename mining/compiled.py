"""The miner's innermost loops for numba, which is optional: the same results as with NumPy, sooner.

Without numba the loops are plain Python, which is how they can be read and tested; `kernels` compiles them, and what
is compiled stays on disk beside this file.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from mining.bitmaps import Joined
from mining.conditional import CELLS, Block, Found, Part, count_triples, part_range
from mining.lattice import Ints
from mining.search import Kernels

ROOM = 1 << 24  # triples of a class: four bytes each, of which only those that are kept are touched
Bits = NDArray[np.uint64]


def is_installed() -> bool:
    """Whether numba can be imported."""
    return importlib.util.find_spec("numba") is not None


@lru_cache(maxsize=1)
def kernels() -> Kernels:
    """The loops, compiled. Raises ValueError if numba is not installed."""
    if not is_installed():
        raise ValueError("engine = 'numba': numba is not installed; pip install 'taolu[numba]', or use engine='numpy'")
    compiled = import_module("numba").njit(cache=True, nogil=True)
    by_cell, by_prefix, mark, join = compiled(_by_cell), compiled(_by_prefix), compiled(_mark), compiled(_join)

    def followers(block: Block, part: Part, minimum: int) -> Found:
        starts, ends = part.starts, part.starts + part.lengths
        lasts = starts + part.prefixes
        low, top = part_range(block, part)
        cells = block.cells[low : top + 2]
        n_triples = count_triples(part)
        if cells[-1] - cells[0] > min(CELLS, n_triples // 4):
            return Found(*by_prefix(block.entries, starts, lasts, ends, low, top, n_triples, minimum))
        return Found(*by_cell(block.entries, starts, lasts, ends, low, cells - cells[0], n_triples, minimum))

    def marks(members: Ints, ranks: Ints, lengths: Ints, shape: tuple[int, int]) -> Bits:
        bits = np.zeros(shape, np.uint64)
        mark(members, ranks, lengths, bits)
        return bits

    def joins(bits: Bits, ends: Ints, start: int, minimum: int) -> Joined:
        left, right, counts, both = join(bits, ends, start, minimum)
        return left, right, counts, both

    return Kernels(followers, marks, joins, ROOM)


def _by_cell(  # type: ignore[no-untyped-def]  # noqa: C901 (numba compiles a function a time)
    entries: Ints, starts: Ints, lasts: Ints, ends: Ints, low: int, cells: Ints, n_triples: int, minimum: int
):
    """The fields of `Found`: all baskets are gone through twice, to count in a table of cells and to cut.

    What may be written is written, and the place is kept by an addition: a processor foretells no such branches.

    Args:
        entries: of the block.
        starts: (n_groups,) first entry of each group of the part.
        lasts: (n_groups,) the end of its prefixes.
        ends: (n_groups,) its end.
        low: the first prefix.
        cells: (n_prefixes + 1,) the first cell of each prefix, from 0, and the number of cells.
        n_triples: of the part.
        minimum: baskets a cell must be in.
    """
    n_prefixes = len(cells) - 1
    shift = cells[:-1] - np.arange(low, low + n_prefixes) - 1
    table = np.zeros(cells[-1], np.int32)
    n_entries = 0
    for g in range(len(starts)):
        n_entries += lasts[g] - starts[g]
        for at in range(starts[g], lasts[g]):
            base = shift[entries[at] - low]
            for follower in range(at + 1, ends[g]):
                table[base + entries[follower]] += 1
    room = min(n_triples // minimum, len(table))
    first, second, found = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int32)
    n_cells = n_kept = n_groups = 0
    for own in range(n_prefixes):
        for cell in range(cells[own], cells[own + 1]):
            if table[cell] >= minimum:
                first[n_cells], second[n_cells], found[n_cells] = own + low, cell - shift[own], table[cell]
                n_kept += table[cell]
                table[cell] = n_cells
                n_cells += 1
            else:
                table[cell] = -1
    kept, n_kept = np.empty(n_kept + 1, np.int32), 0
    owners, begins = np.empty(n_entries + 1, np.int32), np.empty(n_entries + 1, np.int64)
    sizes, places = np.empty(n_entries + 1, np.int32), np.zeros(n_prefixes + 1, np.int64)
    for g in range(len(starts)):
        for at in range(starts[g], lasts[g]):
            own = entries[at] - low
            base = shift[own]
            begin = n_kept
            for follower in range(at + 1, ends[g]):
                kept[n_kept] = cell = table[base + entries[follower]]
                n_kept += cell >= 0
            size = n_kept - begin
            owners[n_groups], begins[n_groups], sizes[n_groups] = own, begin, size
            is_long = size > 1  # a basket with one follower has no pair of them
            places[own + 1] += is_long
            n_groups += is_long
            n_kept -= size * (size == 1)
    places = np.cumsum(places)
    group_starts, group_lengths = np.empty(n_groups, np.int64), np.empty(n_groups, np.int64)
    for g in range(n_groups):
        place = places[owners[g]]
        group_starts[place], group_lengths[place] = begins[g], sizes[g]
        places[owners[g]] += 1
    moved, n_kept = np.empty(n_kept, np.int32), 0  # entries in the order in which they will be read
    for g in range(n_groups):
        begin, group_starts[g] = group_starts[g], n_kept
        for at in range(begin, begin + group_lengths[g]):
            moved[n_kept] = kept[at]
            n_kept += 1
    return first[:n_cells], second[:n_cells], found[:n_cells], moved, group_starts, group_lengths


def _by_prefix(  # type: ignore[no-untyped-def]  # noqa: C901
    entries: Ints, starts: Ints, lasts: Ints, ends: Ints, low: int, top: int, n_triples: int, minimum: int
):
    """The same for more cells than fit a table: the baskets of a prefix are gone through, then of the next (Uno 2004).

    `top` is the last prefix; the others are those of `_by_cell`.
    """
    firsts = np.zeros(top - low + 2, np.int64)
    for g in range(len(starts)):
        for at in range(starts[g], lasts[g]):
            firsts[entries[at] - low + 1] += 1
    firsts = np.cumsum(firsts)
    places = np.empty(firsts[-1], np.int64)  # where each prefix stands, and the end of the group
    borders = np.empty(firsts[-1], np.int64)
    free = firsts.copy()
    highest = 0
    for g in range(len(starts)):
        highest = max(highest, entries[ends[g] - 1])
        for at in range(starts[g], lasts[g]):
            own = entries[at] - low
            places[free[own]] = at
            borders[free[own]] = ends[g]
            free[own] += 1
    counts = np.zeros(highest + 1, np.int32)
    number = np.full(highest + 1, -1, np.int32)
    touched = np.empty(highest + 2, np.int64)
    room = n_triples // minimum
    first, second, found = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int32)
    kept = np.empty(n_triples + 1, np.int32)
    group_starts, group_lengths = np.empty(firsts[-1], np.int64), np.empty(firsts[-1], np.int64)
    n_cells = n_kept = n_groups = 0
    for own in range(top - low + 1):
        if firsts[own + 1] - firsts[own] < minimum:
            continue
        n_touched = 0
        for o in range(firsts[own], firsts[own + 1]):
            for at in range(places[o] + 1, borders[o]):
                member = entries[at]
                touched[n_touched] = member
                n_touched += counts[member] == 0
                counts[member] += 1
        start, n_frequent = n_cells, 0
        for t in range(n_touched):
            member = touched[t]
            if counts[member] >= minimum:
                touched[n_frequent] = member
                n_frequent += 1
            else:
                counts[member] = 0
        frequent = np.sort(touched[:n_frequent])
        for member in frequent:
            first[n_cells], second[n_cells], found[n_cells] = own + low, member, counts[member]
            number[member] = n_cells
            counts[member] = 0
            n_cells += 1
        if n_frequent > 1:
            for o in range(firsts[own], firsts[own + 1]):
                begin = n_kept
                for at in range(places[o] + 1, borders[o]):
                    cell = number[entries[at]]
                    kept[n_kept] = cell
                    n_kept += cell >= 0
                if n_kept - begin > 1:
                    group_starts[n_groups], group_lengths[n_groups] = begin, n_kept - begin
                    n_groups += 1
                else:
                    n_kept = begin  # a basket with one follower has no pair of them
        for cell in range(start, n_cells):
            number[second[cell]] = -1
    return (
        first[:n_cells].copy(),
        second[:n_cells].copy(),
        found[:n_cells].copy(),
        kept[:n_kept].copy(),
        group_starts[:n_groups].copy(),
        group_lengths[:n_groups].copy(),
    )


def _mark(members: Ints, ranks: Ints, lengths: Ints, bits: Bits) -> None:
    """Sets the bits that `mining.bitmaps.marks` returns."""
    at = 0
    for g in range(len(ranks)):
        word, bit = ranks[g] >> 6, np.uint64(1) << np.uint64(ranks[g] & 63)
        for _ in range(lengths[g]):
            bits[members[at], word] |= bit
            at += 1


def _join(bits: Bits, ends: Ints, start: int, minimum: int):  # type: ignore[no-untyped-def]
    """What `mining.bitmaps.joins` returns; a join is written over the one before unless that is frequent."""
    room = 0
    for i in range(start, len(ends)):
        room += ends[i] - i - 1
    n_words = bits.shape[1]
    left, right, counts = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int32)
    both = np.empty((room + 1, n_words), np.uint64)
    n = 0
    for i in range(start, len(ends)):
        for j in range(i + 1, ends[i]):
            count = np.int64(0)
            for w in range(n_words):
                x = bits[i, w] & bits[j, w]
                both[n, w] = x
                # the usual sum in parallel, which compilers know as one instruction
                x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
                x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
                x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
                count += np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))
            if count >= minimum:
                left[n], right[n], counts[n] = i, j, count
                n += 1
    return left[:n].copy(), right[:n].copy(), counts[:n].copy(), both[:n].copy()
