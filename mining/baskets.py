"""Baskets: each a set of items, held as one sorted CSR table of item ids."""

from __future__ import annotations

import itertools
import marshal
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = 1 << 13  # sorted together


@dataclass(frozen=True, eq=False)
class Baskets:
    """Baskets as a table of item ids in compressed rows.

    Args:
        items: the item of each id; rare items have the smaller ids.
        indptr: (n_baskets + 1,), int64; basket r is `indices[indptr[r] : indptr[r + 1]]`.
        indices: (n_entries,), int32, rising within a basket, no item twice.
        notes: what was found and mended: `duplicates` and `missing` entries, `empty` baskets.
    """

    items: Sequence[Hashable]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    notes: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @classmethod
    def of(cls, rows: Any, *, missing_as: Hashable = None) -> Baskets:
        """Baskets of any iterable of iterables of hashables, read once; of a pandas or Arrow table, a sparse matrix.

        Args:
            rows: the baskets. None and NaN in them are missing: left out and counted.
            missing_as: an item that shall stand for what is missing instead.

        Raises ValueError for a string given as a basket, TypeError for an item that is not hashable.

        >>> Baskets.of([["tea", "milk"], ["tea", "tea"], []]).notes
        Counter({'duplicates': 1, 'empty': 1})
        """
        if isinstance(rows, str):
            raise ValueError(f"baskets = {rows!r}: a collection of baskets is needed; files are read by read_baskets")
        if not isinstance(rows, (list, tuple)):
            from mining.frames import other_baskets

            if (found := other_baskets(rows)) is not None:
                return found
        baskets = list(rows)
        if not {*map(type, baskets)} <= {list, tuple}:
            baskets = [_entries(row, at) for at, row in enumerate(baskets)]
        if (integers := _integers(baskets)) is not None:
            return cls._from_ids(*integers)
        lengths = np.fromiter(map(len, baskets), np.int64, len(baskets))
        ids: defaultdict[Hashable, int] = defaultdict(itertools.count().__next__)
        entries = itertools.chain.from_iterable(baskets)
        try:
            indices = np.fromiter(map(ids.__getitem__, entries), np.int32, int(lengths.sum()))
        except TypeError:
            raise TypeError(_unhashable(baskets)) from None
        items = list(ids)
        if missing_as is not None:
            names: dict[Hashable, int] = {}
            named = (missing_as if item is None or item != item else item for item in items)
            indices = np.array([names.setdefault(name, len(names)) for name in named], np.int32).take(indices)
            items = list(names)
        return cls._from_ids(items, lengths, indices)

    def without_empty(self) -> Baskets:
        """The baskets that hold something; `notes` still tell how many did not."""
        lengths = np.diff(self.indptr)
        return replace(self, indptr=np.concatenate(([0], np.cumsum(lengths[lengths > 0]))))

    @classmethod
    def _from_ids(
        cls, items: Sequence[Hashable], lengths: NDArray[np.int64], indices: NDArray[np.signedinteger]
    ) -> Baskets:
        """Baskets of unsorted ids: missing items removed, duplicates counted once, ids by rising count, rows sorted."""
        notes: Counter[str] = Counter()
        counts = np.bincount(indices, minlength=len(items))
        if not isinstance(items, range):
            missing = [at for at, item in enumerate(items) if item is None or item != item]
            if missing:
                notes["missing"] = int(counts[missing].sum())
                counts[missing] = 0
        order = np.argsort(counts, kind="stable")[len(counts) - np.count_nonzero(counts) :]
        number = np.full(len(items), -1, np.int32)
        number[order] = np.arange(len(order), dtype=np.int32)
        codes = number.take(indices)
        if notes["missing"]:
            lengths, codes = _kept(codes >= 0, lengths, codes)
        sort_rows(codes, lengths, len(order))
        again = codes[1:] == codes[:-1]
        starts = np.cumsum(lengths)[:-1]
        again[starts[(starts > 0) & (starts < len(codes))] - 1] = False  # the first entry of a basket
        if again.any():
            notes["duplicates"] = int(again.sum())
            lengths, codes = _kept(np.r_[True, ~again], lengths, codes)
        if empty := int((lengths == 0).sum()):
            notes["empty"] = empty
        items = [items[at] for at in order.tolist()]
        return cls(items, np.concatenate(([0], np.cumsum(lengths))), codes, +notes)


def _kept(
    kept: NDArray[np.bool_], lengths: NDArray[np.int64], codes: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Lengths and entries of the baskets without some entries."""
    through = np.concatenate(([0], np.cumsum(kept)))
    ends = np.cumsum(lengths)
    return through[ends] - through[ends - lengths], codes[kept]


def sort_rows(codes: NDArray[np.int32], lengths: NDArray[np.integer], n_items: int) -> None:
    """Sorts the entries of each basket, in place: a few baskets at a time are one sort of 32-bit numbers in a cache."""
    ends = np.cumsum(lengths)
    step = min((1 << 32) // max(n_items, 1), ROWS)
    for first in range(0, len(lengths), step):
        some = lengths[first : first + step]
        part = codes[ends[first] - some[0] : ends[first + len(some) - 1]].view(np.uint32)
        base = np.repeat(np.arange(len(some), dtype=np.uint32) * np.uint32(n_items), some)
        part += base
        part.sort()
        part -= base


def _integers(
    baskets: list[list[Hashable] | tuple[Hashable, ...]],
) -> tuple[range, NDArray[np.int64], NDArray[np.int32]] | None:
    """Items, lengths and the place of each entry among the items, if all are integers of a narrow range, else None.

    Python's own serialization writes a list or tuple as a tag and its length, a small integer as a tag and its value,
    five bytes each, and all else with other tags: much quicker than looking at every entry from Python.
    """
    first = next(filter(None, baskets), None)
    if first is None or type(first[0]) is not int:
        return None
    try:
        words = np.frombuffer(marshal.dumps(baskets, 2), np.dtype([("tag", "u1"), ("value", "<i4")]))
    except ValueError:  # something it cannot write, or that is not five bytes long
        return None
    is_entry = words["tag"] == ord("i")
    heads = np.flatnonzero(~is_entry)
    lengths = words["value"][heads[1:]].astype(np.int64)
    of_rows = np.array_equal(np.diff(heads, append=len(words))[1:], lengths + 1) and len(lengths) == len(baskets)
    if not of_rows or not np.isin(words["tag"][heads], (ord("["), ord("("))).all():
        return None
    values = words["value"][is_entry]
    low, high = int(values.min()), int(values.max())
    if high - low > 4 * len(values) + 1000:
        return None
    return range(low, high + 1), lengths, values - np.int32(low)


def _entries(row: object, at: int) -> list[Hashable]:
    """A basket as a list; strings, which are iterables too, are refused."""
    if isinstance(row, (str, bytes)) or not isinstance(row, Iterable):
        raise ValueError(
            f"basket {at} is {row!r}: a basket is a collection of items; write [{row!r}] for a single item"
        )
    return list(row)


def _unhashable(baskets: list[list[Hashable] | tuple[Hashable, ...]]) -> str:
    """Which basket holds which item that cannot be counted."""
    for at, row in enumerate(baskets):
        for item in row:
            try:
                hash(item)
            except TypeError:
                return f"basket {at} holds {item!r}, which is not hashable; items are numbers, strings, tuples, ..."
    raise AssertionError
