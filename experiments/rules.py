"""What `taolu rules` says and writes of rules and of what two runs differ in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.errors import ConfigError
from experiments.rule_report import rule_lines
from experiments.store.rules import Difference
from experiments.words import ENGLISH, Words

if TYPE_CHECKING:
    import pyarrow as pa

CHANGES = 20  # of a comparison, as text


def difference_lines(found: Difference, words: Words = ENGLISH) -> Iterator[str]:
    """What two runs differ in, for people."""
    for what, rows in (("lost", found.lost), ("won", found.won)):
        yield words(f"rules_{what}", n=rows.num_rows)
        yield from rule_lines(rows.slice(0, CHANGES).to_pylist(), words=words)
    yield words("rules_changed", n=found.changed.num_rows, equal=found.n_equal)
    columns = ("confidence", "confidence after", "lift", "lift after")
    yield from rule_lines(found.changed.slice(0, CHANGES).to_pylist(), columns, words)


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
