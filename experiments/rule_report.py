"""What is said of itemsets and rules: to people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.words import ENGLISH, Words
from mining.apriori import Itemsets

if TYPE_CHECKING:
    import pyarrow as pa

    from experiments.mining_run import Job

SHOWN = 10
COLUMNS = ("support", "confidence", "lift", "holm")


def by_length(found: Itemsets) -> dict[int, int]:
    """How many itemsets there are of each length."""
    return {length: int(n) for length, n in enumerate(np.bincount(found.lengths)) if n}


def record(found: Itemsets, n_rules: int, job: Job) -> None:
    """Counts as metrics; itemsets_of_length has the length as its step."""
    values = {"baskets": found.n_baskets, "items": len(found.names), "min_count": found.minimum, "rules": n_rules}
    values |= {"itemsets": len(found), "longest": max(by_length(found), default=0), "complete": int(found.complete)}
    job.record(values)
    for length, n in by_length(found).items():
        job.record({"itemsets_of_length": n}, step=length)


def plain(found: Itemsets, table: pa.Table) -> dict[str, Any]:
    """For JSON."""
    return {
        "baskets": found.n_baskets,
        "notes": found.notes,
        "min_count": found.minimum,
        "itemsets": len(found),
        "itemsets_by_length": by_length(found),
        "complete": found.complete,
        "rules": table.num_rows,
        "best": table.slice(0, SHOWN).to_pylist(),
    }


def lines(found: Itemsets, table: pa.Table, seconds: float, words: Words = ENGLISH) -> Iterator[str]:
    """For people: itemsets, their lengths, the first rules."""
    share = found.minimum / max(found.n_baskets, 1)
    counts = {"n": len(found), "least": found.minimum, "baskets": found.n_baskets}
    yield words("itemsets_found", **counts, share=share, seconds=seconds)
    if not found.complete:
        yield words("incomplete")
    yield "  ".join(words("of_length", length=length, n=n) for length, n in (by_length(found) or {1: 0}).items())
    yield words("rules_best" if table.num_rows > SHOWN else "rules_found", n=table.num_rows)
    yield from rule_lines(table.slice(0, SHOWN).to_pylist(), words=words)


def rule_lines(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = COLUMNS, words: Words = ENGLISH
) -> Iterator[str]:
    """Rules as a table."""
    if rows:
        import pandas as pd

        from experiments.listing import column_lines

        table = pd.DataFrame([{"rule": arrow(row), **{k: row[k] for k in columns}} for row in rows])
        yield from column_lines(table, words)


def arrow(row: Mapping[str, Any]) -> str:
    """The rule in words.

    >>> arrow({"antecedents": ["tea", "milk"], "consequents": ["jam"]})
    'tea + milk -> jam'
    """
    return " -> ".join(" + ".join(map(str, row[side])) for side in ("antecedents", "consequents"))
