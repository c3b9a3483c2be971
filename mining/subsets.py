"""Itemsets found again: which number a set has among all that are known."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from mining.lattice import Ints

Keys = NDArray[np.uint64]


class Index:
    """Numbers of itemsets by their items, whatever their order.

    A set's key is the sum of its items' random 64-bit codes (Zobrist 1970), so that the key of a part of it is a
    difference. Keys of the known sets are made distinct; so a part that is known is never taken for another.

    Args:
        tables: by length, the (n, length) items and (n,) counts; sets are numbered in this order.
    """

    def __init__(self, tables: dict[int, tuple[Ints, Ints]]) -> None:
        self.tables = tables
        n_items = 1 + max((int(table.max()) for table, _ in tables.values()), default=-1)
        sizes = [len(table) for table, _ in tables.values()]
        self.n_itemsets = sum(sizes)
        self.firsts = dict(zip(tables, itertools.accumulate(sizes, initial=0), strict=False))
        for seed in itertools.count():
            self.code = np.random.default_rng(seed).integers(1 << 64, size=n_items, dtype=np.uint64)
            self.keys = {length: self._keys(table) for length, (table, _) in tables.items()}
            self._known = {length: _Known(keys, self.firsts[length]) for length, keys in self.keys.items()}
            if all(known.distinct for known in self._known.values()):
                break

    def _keys(self, table: Ints) -> Keys:
        keys = np.zeros(len(table), np.uint64)
        for column in table.T:
            keys += self.code.take(column)
        return keys

    def find(self, keys: Keys, length: int) -> Ints:
        """Number of each set among all, by its key and length; -1 where it is not known."""
        known = self._known.get(length)
        return np.full(len(keys), -1) if known is None else known.find(keys)

    def without_superset(self, equal_counts: bool) -> NDArray[np.bool_]:
        """(n_itemsets,) whether no set of one item more is known to hold it, or none with the same count."""
        kept = np.ones(self.n_itemsets, bool)
        all_counts = np.concatenate([counts for _, counts in self.tables.values()] or [np.empty(0, np.int64)])
        for length, (table, counts) in self.tables.items():
            for column in table.T:
                part = self.find(self.keys[length] - self.code.take(column), length - 1)
                known = part >= 0
                part = part[known]
                kept[part[all_counts.take(part) == counts[known]] if equal_counts else part] = False
        return kept


class _Known:
    """Numbers of some keys: the sorted keys, and where those start that have the same first bits.

    Keys are as good as random; with more than twice as many places as keys, few places have several.
    """

    def __init__(self, keys: Keys, first: int) -> None:
        order = np.argsort(keys)
        self._keys = np.append(keys.take(order), np.uint64(2**64 - 1))
        self._numbers = np.append(order + first, -1)
        self.distinct = bool((self._keys[1:-1] != self._keys[:-2]).all())
        bits = len(keys).bit_length() + 1
        self._shift = np.uint64(64 - bits)
        sizes = np.bincount((self._keys[:-1] >> self._shift).view(np.int64), minlength=1 << bits)
        self._starts = np.cumsum(sizes, dtype=np.int32) - sizes.astype(np.int32)
        self._most = int(sizes.max())

    def find(self, keys: Keys) -> Ints:
        """Number of each key; -1 where it is not known."""
        at = self._starts.take((keys >> self._shift).view(np.int64))
        for _ in range(self._most - 1):
            at += self._keys.take(at) < keys
        return np.where(self._keys.take(at) == keys, self._numbers.take(at), -1)
