"""Sorted runs of keys with counts: made of unsorted keys, and merged in key order whatever memory holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mining.spill import Column

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]


class Run(NamedTuple):
    """Distinct keys, rising; how often each occurs; and a number that belongs to each."""

    keys: Column
    counts: Column
    suffix: Column


class Piece(NamedTuple):
    """A run in memory."""

    keys: Ints
    counts: Ints
    suffix: Rows


class Sorted(NamedTuple):
    """Keys in order: `places` of the entries by rising key, and at which of them each distinct key begins."""

    places: Ints
    firsts: Ints
    keys: Ints

    @property
    def counts(self) -> Ints:
        """How often each distinct key occurs."""
        return np.diff(self.firsts, append=len(self.places))


def sort_keys(keys: Ints, bound: int) -> Sorted:
    """The order of keys in [0, bound), equal ones by place.

    Key and place are sorted as one number where they fit into one, which is five times as fast as an argsort.
    """
    bits = max(len(keys) - 1, 1).bit_length()
    if (bound << bits) <= 1 << 63:
        packed = keys << bits
        packed |= np.arange(len(keys))
        packed.sort()
        places = packed & ((1 << bits) - 1)
        packed >>= bits
    else:
        places = np.argsort(keys, kind="stable")
        packed = keys[places]
    is_first = np.ones(len(packed), bool)
    np.not_equal(packed[1:], packed[:-1], out=is_first[1:])
    firsts = np.flatnonzero(is_first)
    return Sorted(places, firsts, packed[firsts])


def merge(runs: Sequence[Run], limit: int) -> Iterator[Piece]:
    """The runs as one, in pieces by rising key, each made of at most `limit` rows; counts of equal keys are added."""
    runs = [run for run in runs if len(run.keys)] or runs[:1]
    if len(runs) == 1:
        yield _read(runs[0], 0, len(runs[0].keys))
        return
    share = max(limit // len(runs), 1)
    starts = [0] * len(runs)
    while any(start < len(run.keys) for start, run in zip(starts, runs, strict=True)):
        # A piece ends where the first of the runs has given its share.
        heads = [run.keys[start : start + share + 1] for start, run in zip(starts, runs, strict=True)]
        bound = min((int(head[share]) for head in heads if len(head) > share), default=None)
        taken = [len(head) if bound is None else int(np.searchsorted(head, bound)) for head in heads]
        ends = [start + number for start, number in zip(starts, taken, strict=True)]
        yield _added([_read(*place) for place in zip(runs, starts, ends, strict=True)])
        starts = ends


def _read(run: Run, start: int, end: int) -> Piece:
    keys, counts, suffix = (column[start:end] for column in run)
    return Piece(keys, counts.astype(np.int64), suffix)


def _added(parts: Sequence[Piece]) -> Piece:
    keys, counts, suffix = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = sort_keys(keys, int(keys.max()) + 1)
    return Piece(order.keys, np.add.reduceat(counts[order.places], order.firsts), suffix[order.places[order.firsts]])
