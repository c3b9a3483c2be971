"""Baskets: each a set of items, held as one sorted CSR table of item ids."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Baskets:
    """Baskets as a table of item ids in compressed rows.

    Args:
        items: the item of each id; ids are numbered by first appearance.
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
    def of(cls, rows: Iterable[Iterable[Hashable]]) -> Baskets:
        """Baskets of any iterable of iterables of hashables, read once.

        None and NaN are missing: left out and counted. Raises ValueError for a string given as a basket.

        >>> Baskets.of([["tea", "milk"], ["tea", "tea"], []]).notes
        Counter({'duplicates': 1, 'empty': 1})
        """
        baskets = [row if isinstance(row, (list, tuple)) else _entries(row, at) for at, row in enumerate(rows)]
        lengths = np.fromiter(map(len, baskets), np.int64, len(baskets))
        if (values := _integers(baskets, lengths)) is not None:
            return cls._from_ids(values[0], lengths, values[1])
        ids: defaultdict[Hashable, int] = defaultdict(itertools.count().__next__)
        entries = itertools.chain.from_iterable(baskets)
        try:
            indices = np.fromiter(map(ids.__getitem__, entries), np.int32, int(lengths.sum()))
        except TypeError:
            raise ValueError(_unhashable(baskets)) from None
        return cls._from_ids(list(ids), lengths, indices)

    @classmethod
    def _from_ids(
        cls, items: list[Hashable], lengths: NDArray[np.int64], indices: NDArray[np.signedinteger]
    ) -> Baskets:
        """Baskets of unsorted ids: missing items removed, duplicates counted once, rows sorted."""
        notes: Counter[str] = Counter()
        keys = np.repeat(np.arange(len(lengths), dtype=np.int64) * max(len(items), 1), lengths) + indices
        missing = [at for at, item in enumerate(items) if item is None or item != item]
        if missing:
            gone = np.zeros(len(items), bool)
            gone[missing] = True
            kept = ~gone[indices]
            notes["missing"] = int(len(kept) - kept.sum())
            keys = keys[kept]
            items = [item for item, is_gone in zip(items, gone.tolist(), strict=True) if not is_gone]
            rows, old = np.divmod(keys, len(gone))
            keys = rows * max(len(items), 1) + (np.cumsum(~gone) - 1)[old]
        keys.sort()
        fresh = np.ones(len(keys), bool)
        np.not_equal(keys[1:], keys[:-1], out=fresh[1:])
        if not fresh.all():
            notes["duplicates"] = int(len(fresh) - fresh.sum())
            keys = keys[fresh]
        if len(keys) < int(lengths.sum()):
            lengths = np.bincount(keys // max(len(items), 1), minlength=len(lengths))
        codes = keys - np.repeat(np.arange(len(lengths)) * len(items), lengths)
        counts = lengths
        if empty := int((counts == 0).sum()):
            notes["empty"] = empty
        return cls(items, np.concatenate(([0], np.cumsum(counts))), codes.astype(np.int32), notes)


def _integers(
    baskets: list[list[Hashable] | tuple[Hashable, ...]], lengths: NDArray[np.int64]
) -> tuple[list[Hashable], NDArray[np.int64]] | None:
    """Items by first appearance and the id of each entry, if all entries are integers of a narrow range, else None.

    A sum is an int only if all its terms are; looking into it is quicker than hashing every entry.
    """
    try:
        if type(sum(itertools.chain.from_iterable(baskets))) is not int:  # type: ignore[arg-type]
            return None
        values = np.fromiter(itertools.chain.from_iterable(baskets), np.int64, int(lengths.sum()))
    except (TypeError, OverflowError):
        return None
    if not len(values) or (low := int(values.min())) + 4 * len(values) + 1000 < (high := int(values.max())):
        return None
    values -= low
    first = np.full(high - low + 1, len(values))
    first[values[::-1]] = np.arange(len(values))[::-1]  # where an index stands twice, the last value is kept
    order = np.argsort(first, kind="stable")[: int((first < len(values)).sum())]
    first[order] = np.arange(len(order))
    return (order + low).tolist(), first.take(values)


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
