"""The rules of a run: read, filtered by items, measures or a basket, and compared with another run's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.errors import ConfigError, unknown
from experiments.store.location import Store
from experiments.store.read import find_run, read_run

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = "rules.parquet"
SIDES = ("antecedents", "consequents")


@dataclass(frozen=True)
class Wanted:
    """Which rules.

    Args:
        items: that stand on either side.
        antecedents: that stand before the arrow.
        consequents: that stand behind it.
        least: measure -> the least it may be.
        most: measure -> the most.
        basket: the antecedent lies in it, and the consequent does not.
        sort: a column; with - in front the largest first; "" keeps the order of the run: by confidence.
    """

    items: tuple[str, ...] = ()
    antecedents: tuple[str, ...] = ()
    consequents: tuple[str, ...] = ()
    least: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)
    basket: tuple[str, ...] = ()
    sort: str = ""


def read_rules(store: Store, handle: str) -> pa.Table:
    """The table of a run's rules, the most confident first.

    Args:
        store: where.
        handle: of a run of kind rules; `last` is the last of these.

    Raises ConfigError where the run has no rules.
    """
    import pyarrow.parquet as pq

    record = read_run(store, find_run(store, "last:mine-apriori" if handle == "last" else handle))
    file = record.folder / TABLE
    if not file.is_file():
        raise ConfigError(f"run {record.run_id[:8]} {record.name} has no rules; mine some: taolu mine apriori FILE")
    return pq.read_table(file)


def chosen(table: pa.Table, wanted: Wanted) -> pa.Table:
    """The rules that are wanted.

    Raises ConfigError for an item that no rule has, and for a column there is not.
    """
    import pyarrow as pa

    kept = np.ones(table.num_rows, bool)
    for item in wanted.items:
        kept &= _known(item, [_counts(table, side, (item,)) for side in SIDES]) > 0
    for side, items in ((SIDES[0], wanted.antecedents), (SIDES[1], wanted.consequents)):
        for item in items:
            kept &= _known(item, [_counts(table, side, (item,))]) > 0
    for bounds, sign in ((wanted.least, 1), (wanted.most, -1)):
        for name, bound in bounds.items():
            kept &= sign * table[name].to_numpy() >= sign * bound
    if wanted.basket:
        lengths = {side: _lengths(table, side) for side in SIDES}
        inside = {side: _counts(table, side, wanted.basket) for side in SIDES}
        kept &= (inside[SIDES[0]] == lengths[SIDES[0]]) & (inside[SIDES[1]] < lengths[SIDES[1]])
    if not wanted.sort:
        return table.filter(pa.array(kept))
    name = wanted.sort.removeprefix("-")
    if name not in table.column_names or name in SIDES:
        raise unknown("column", name, [column for column in table.column_names if column not in SIDES])
    rows, sign = np.flatnonzero(kept), -1 if wanted.sort.startswith("-") else 1
    order = np.argsort(sign * table[name].to_numpy()[rows].astype(float), kind="stable")  # NaN last either way
    return table.take(pa.array(rows[order]))  # once: the lists of items are what takes long


def _known(item: str, counts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    total: NDArray[np.int64] = np.sum(counts, axis=0)
    if len(total) and not total.any():
        raise ConfigError(f"no rule has the item '{item}' there; items are written as in the baskets")
    return total


def _counts(table: pa.Table, side: str, items: Sequence[str]) -> NDArray[np.int64]:
    """(n_rules,) how many of the items stand on a side."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = table[side].combine_chunks()
    is_one = pc.is_in(lists.flatten().cast(pa.string()), value_set=pa.array(list(items), pa.string()))
    owners = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    return np.bincount(owners[is_one.to_numpy(zero_copy_only=False)], minlength=table.num_rows)


def _lengths(table: pa.Table, side: str) -> NDArray[np.int64]:
    import pyarrow.compute as pc

    lengths: NDArray[np.int64] = pc.list_value_length(table[side]).to_numpy()
    return lengths


@dataclass(frozen=True)
class Difference:
    """Two runs' rules.

    Args:
        lost: rules of the first alone.
        won: of the second alone.
        changed: rules of both, with confidence and lift in each, the largest change of confidence first.
        n_equal: rules of both whose confidence and lift are the same.
    """

    lost: pa.Table
    won: pa.Table
    changed: pa.Table
    n_equal: int

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        tables = {"lost": self.lost, "won": self.won, "changed": self.changed}
        return {**{name: table.to_pylist() for name, table in tables.items()}, "equal": self.n_equal}


def difference(before: pa.Table, after: pa.Table) -> Difference:
    """What a second run has other than a first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys, later_keys = _keys(before), _keys(after)
    place = pc.index_in(keys, value_set=later_keys)
    is_shared = pc.is_valid(place)
    lost, won = before.filter(pc.invert(is_shared)), after.filter(pc.invert(pc.is_in(later_keys, value_set=keys)))
    both, later = before.filter(is_shared), after.take(place.filter(is_shared))
    names = ("confidence", "lift")
    (old, old_lift), (new, new_lift) = ([table[name].to_numpy() for name in names] for table in (both, later))
    both = both.select([*SIDES, *names])
    for name, values in zip(names, (new, new_lift), strict=True):
        both = both.append_column(f"{name} after", pa.array(values))
    moved = np.flatnonzero((old != new) | (old_lift != new_lift))
    order = moved[np.argsort(-np.abs(new - old)[moved], kind="stable")]
    return Difference(lost, won, both.take(pa.array(order)), len(old) - len(moved))


def _keys(table: pa.Table) -> pa.Array:
    """(n_rules,) a text a rule, the same for the same items."""
    import pyarrow.compute as pc

    sides = [pc.binary_join(_texts(table[side].combine_chunks()), "\x1f") for side in SIDES]
    return pc.binary_join_element_wise(*sides, "\x1e")


def _texts(lists: pa.ListArray) -> pa.ListArray:
    """Lists of texts in the order of their bytes: a table's lists of texts already are, those of numbers are not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_integer(lists.type.value_type):
        return lists
    flat = lists.flatten().cast(pa.string())
    order = pa.table({"list": pc.list_parent_indices(lists), "item": flat})
    rows = pc.sort_indices(order, [("list", "ascending"), ("item", "ascending")])
    return pa.ListArray.from_arrays(pc.subtract(lists.offsets, lists.offsets[0]), flat.take(rows))
