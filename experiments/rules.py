"""`taolu rules`: the rules of a run filtered, applied to a basket, or compared with another run's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.errors import ConfigError, unknown
from experiments.rule_report import rule_lines
from experiments.store.location import Store
from experiments.store.read import find_run, read_run

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = "rules.parquet"
SIDES = ("antecedents", "consequents")
CHANGES = 20  # of a comparison, as text


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
    found = table.filter(pa.array(kept))
    if not wanted.sort:
        return found
    name = wanted.sort.removeprefix("-")
    if name not in table.column_names or name in SIDES:
        raise unknown("column", name, [column for column in table.column_names if column not in SIDES])
    return found.sort_by([(name, "descending" if wanted.sort.startswith("-") else "ascending")])


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

    lost: list[dict[str, Any]]
    won: list[dict[str, Any]]
    changed: list[dict[str, Any]]
    n_equal: int

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"lost": self.lost, "won": self.won, "changed": self.changed, "equal": self.n_equal}

    def lines(self) -> Iterator[str]:
        """For people."""
        for what, rows in (("only in the first", self.lost), ("only in the second", self.won)):
            yield f"{len(rows):,} rules {what}"
            yield from rule_lines(rows[:CHANGES])
        yield f"{len(self.changed):,} rules in both with other figures, {self.n_equal:,} as they were"
        columns = ("confidence", "confidence after", "lift", "lift after")
        yield from rule_lines(self.changed[:CHANGES], columns)


def difference(before: pa.Table, after: pa.Table) -> Difference:
    """What a second run has other than a first."""
    first, second = ({_key(row): row for row in table.to_pylist()} for table in (before, after))
    lost = [row for key, row in first.items() if key not in second]
    won = [row for key, row in second.items() if key not in first]
    changed = []
    for key, row in first.items():
        other = second.get(key)
        if other is not None and (row["confidence"], row["lift"]) != (other["confidence"], other["lift"]):
            figures = {"confidence after": other["confidence"], "lift after": other["lift"]}
            changed.append({**{name: row[name] for name in (*SIDES, "confidence", "lift")}, **figures})
    changed.sort(key=lambda row: -abs(row["confidence after"] - row["confidence"]))
    return Difference(lost, won, changed, len(first) - len(lost) - len(changed))


def _key(row: Mapping[str, Any]) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(map(str, row[side])) for side in SIDES)


def write_rules(table: pa.Table, path: Path) -> None:
    """The rules as CSV for spreadsheets, or as Parquet, by the ending.

    Raises ConfigError for another ending, or a folder that is not there.
    """
    import pyarrow.parquet as pq

    from experiments.mining_run import write_csv
    from experiments.store.files import atomic_path

    if path.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"--out {path}: must end in .csv or .parquet")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.absolute().parent}; make it first")
    with atomic_path(path) as part:
        if path.suffix == ".csv":
            write_csv(table, part, {})
        else:
            pq.write_table(table, part)
