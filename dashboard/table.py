"""What the page Runs shows of the table of runs: which rows, which columns, in which order, in which groups. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from experiments.store.columns import FUNCTIONS, NAME, OBJECTIVE, PREFIXES, WORDS, Columns

if TYPE_CHECKING:
    import pandas as pd

    Extremes = Callable[[str], pd.DataFrame]  # of a metric: smallest and largest by run id

EXTREMES = ("best", "min", "max")  # val/elbo:best, beside val/elbo, which is the last value
FIXED = ("name", "status", "experiment", "kind", "started", "seconds")
_SEARCHED = ("name", "run_id", "experiment", "note")
ARCHIVED = "tags.taolu.archived"
_MOST_METRICS, _MOST_PARAMETERS = 4, 8
_NOT_MODELS = ("claim", "features", "evaluation")
_OBJECTIVE_TAG = "tags.taolu.objective"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes cells that begin so for formulas


# ---- rows -----------------------------------------------------------------------------------------------------------


def select(runs: pd.DataFrame, experiments: Sequence[str], statuses: Sequence[str], text: str) -> pd.DataFrame:
    """The runs of these experiments and statuses with every word of `text` somewhere in them.

    An empty list takes all. Words are looked for in name, id, experiment, note, parameters and tags.
    """
    import pandas as pd

    found = runs
    for column, wanted in (("experiment", experiments), ("status", statuses)):
        if wanted:
            found = found[found[column].isin(wanted)]
    for word in text.split():
        fits = pd.Series(False, index=found.index)
        for name in found.columns:
            if name in _SEARCHED or name.startswith(("params.", "tags.")):
                fits |= found[name].astype("str").str.contains(word, case=False, regex=False, na=False)
        found = found[fits]
    return found


def ordered(found: pd.DataFrame, sort: str, keys: pd.Series[Any]) -> pd.DataFrame:
    """The runs sorted by their keys, the largest first where `sort` begins with -; runs without a key stand last."""
    keys = keys.loc[found.index].sort_values(ascending=not sort.startswith("-"), kind="stable", na_position="last")
    return found.loc[keys.index]


# ---- columns --------------------------------------------------------------------------------------------------------


def metric_columns(runs: pd.DataFrame) -> list[str]:
    """The metric columns that any of these runs has, validation first, clock and machine last."""
    names = [name for name in runs.columns if name.startswith("metrics.") and runs[name].notna().any()]
    order = ("metrics.val/", "metrics.test/", "metrics.train/")
    late = ("metrics.time/", "metrics.system/")

    def rank(name: str) -> tuple[int, str]:
        first = next((i for i, prefix in enumerate(order) if name.startswith(prefix)), len(order))
        return (len(order) + 1 if name.startswith(late) else first), name

    return sorted(names, key=rank)


def objectives(runs: pd.DataFrame) -> dict[str, str]:
    """Metric -> min or max, as the runs state it, the most frequent first."""
    if _OBJECTIVE_TAG not in runs:
        return {}
    pairs = [str(text).rpartition(" ") for text in runs[_OBJECTIVE_TAG].value_counts().index]
    return {metric: direction for metric, _, direction in pairs if f"metrics.{metric}" in runs}


def main_metrics(runs: pd.DataFrame) -> list[str]:
    """The metrics the runs are judged by; where they state none, the first there is."""
    return [*objectives(runs)][:_MOST_METRICS] or [
        name.removeprefix("metrics.") for name in metric_columns(runs.head(500))[:1]
    ]


def varying_parameters(runs: pd.DataFrame) -> list[str]:
    """The parameter columns with more than one value among these runs (missing counts as a value)."""
    return [name for name in runs.columns if name.startswith("params.") and _varies(runs[name])]


def _varies(column: pd.Series[Any]) -> bool:
    first = column.iloc[0] if len(column) else None
    return bool(column.notna().any()) if first is None or first != first else not bool((column == first).all())


def default_columns(runs: pd.DataFrame) -> list[str]:
    """What is shown of these runs when nobody has chosen: the main metrics, then the parameters that vary.

    Of many such parameters, those set in most of the runs. What is no training does not count beside what is one.
    """
    runs = runs[~runs["kind"].isin(_NOT_MODELS)] if not runs["kind"].isin(_NOT_MODELS).all() else runs
    known = Columns(runs).names
    varying = sorted(varying_parameters(runs), key=lambda name: runs[name].isna().sum())[:_MOST_PARAMETERS]
    return [*main_metrics(runs), *(_shortest(name, known) for name in varying)]


def offered_columns(runs: pd.DataFrame) -> list[str]:
    """Every name a column may be asked for by: metrics with their extremes, parameters, tags."""
    known = Columns(runs).names
    metrics = [_shortest(name, known) for name in metric_columns(runs)]
    others = [name for name in runs.columns if name.startswith(PREFIXES[:2])]
    return [
        OBJECTIVE,
        *(f"{name}{which}" for name in metrics for which in ("", *(f":{each}" for each in EXTREMES))),
        *(_shortest(name, known) for name in sorted(others)),
        "note",
        "run_id",
    ]


def _shortest(full: str, known: dict[str, str]) -> str:
    """The name without params. or tags. where that means this column."""
    short = full.partition(".")[2]
    return short if known.get(short) == full else full


class Sheet:
    """The table of runs, its columns by any of their names, each worked out once.

    Args:
        runs: as the store gives it; whole, so that a column is of one type whatever is filtered.
        extremes: reads the extremes of a metric.
    """

    def __init__(self, runs: pd.DataFrame, extremes: Extremes) -> None:
        self.runs = runs
        self._extremes = extremes
        self._known: dict[str, pd.Series[Any]] = {}

    def column(self, name: str) -> pd.Series[Any]:
        """One value a run; of a metric's `best` the one its runs' objective means, the smallest where none says it.

        Raises ConfigError for a name there is not.
        """
        if name not in self._known:
            self._known[name] = self._extreme(name) if _extreme_of(name, self.runs) else self._series(name)
        return self._known[name]

    def frame(self, rows: pd.Index[Any], names: Sequence[str]) -> pd.DataFrame:
        """These columns of some of the runs."""
        import pandas as pd

        return pd.DataFrame({name: self.column(name).loc[rows] for name in names}, index=rows)

    def _series(self, name: str) -> pd.Series[Any]:
        return Columns(self.runs).series(name, "columns")

    def _extreme(self, name: str) -> pd.Series[Any]:
        metric, which = name.removeprefix("metrics.").rsplit(":", 1)
        is_largest = which == "max" or (which == "best" and objectives(self.runs).get(metric) == "max")
        return self.runs["run_id"].map(self._extremes(metric)["largest" if is_largest else "smallest"])


def _extreme_of(name: str, runs: pd.DataFrame) -> bool:
    metric, _, which = name.removeprefix("metrics.").rpartition(":")
    return which in EXTREMES and f"metrics.{metric}" in runs


def best_of_each(runs: pd.DataFrame) -> pd.DataFrame:
    """The best finished run of each experiment, by the objective its newest run states; newest experiments first.

    Columns experiment, run_id, name, metric, value, runs (finished ones with a finite value), started.
    """
    import numpy as np
    import pandas as pd

    columns = ["experiment", "run_id", "name", "metric", "value", "runs", "started"]
    rows = []
    done = runs[(runs["status"] == "FINISHED") & ~runs["kind"].isin(_NOT_MODELS)]
    for experiment, family in done.groupby("experiment", sort=False):
        stated = family[_OBJECTIVE_TAG].dropna() if _OBJECTIVE_TAG in family else family["name"].head(0)
        metric, _, direction = str(stated.iloc[0]).rpartition(" ") if len(stated) else ("", "", "")
        if f"metrics.{metric}" not in family:
            continue
        values = family[f"metrics.{metric}"]
        values = values[np.isfinite(values)]
        if len(values):
            row = family.loc[values.idxmax() if direction == "max" else values.idxmin()]
            rows.append((experiment, row["run_id"], row["name"], metric, values[row.name], len(values), row["started"]))
    return pd.DataFrame(rows, columns=columns)


# ---- groups ---------------------------------------------------------------------------------------------------------


def grouped(frame: pd.DataFrame, by: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """One row a group: what it is grouped by, the number of runs, mean and sample standard deviation of each metric.

    Args:
        frame: a row a run.
        by: columns of it. Runs without a value make a group of their own.
        metrics: columns of it, averaged over their finite values.

    Columns `by NAME`, `runs`, `mean NAME`, `sd NAME`: a parameter may be called runs.
    """
    import numpy as np
    import pandas as pd

    keys = [frame[name].rename(f"by {name}") for name in by]
    result: dict[str, pd.Series[Any]] = {"runs": frame.groupby(keys, dropna=False).size()}
    for name in metrics:
        finite = frame[name].where(np.isfinite(frame[name])).groupby(keys, dropna=False)
        result |= {f"mean {name}": finite.mean(), f"sd {name}": finite.std(ddof=1)}
    return pd.DataFrame(result).reset_index()


def expression(values: dict[str, Any]) -> str | None:
    """The filter that takes the runs with these values; None where the filter's grammar has no way to write one.

    >>> expression({"optimizer.lr": 0.001, "data": "digits"})
    "optimizer.lr == 0.001 and data == 'digits'"
    """
    parts = [_equals(name, value) for name, value in values.items()]
    return None if None in parts else " and ".join(filter(None, parts))


def _equals(name: str, value: Any) -> str | None:
    is_plain = bool(re.fullmatch(NAME, name)) and name not in (*WORDS, *FUNCTIONS)
    written = name if is_plain else f"`{name}`"
    if "`" in name:
        return None
    if value is None or value != value:
        return f"{written}.isna()" if is_plain else None
    if isinstance(value, str):
        quote = next((mark for mark in "'\"" if mark not in value), None)
        return f"{written} == {quote}{value}{quote}" if quote and value.isprintable() else None
    return f"{written} == {value!r}" if math.isfinite(value) else None


# ---- leaving --------------------------------------------------------------------------------------------------------


def csv(frame: pd.DataFrame) -> bytes:
    """The table as CSV in UTF-8 with a mark that spreadsheets know it by; no text in it can be taken for a formula.

    >>> import pandas
    >>> csv(pandas.DataFrame({"a": ["=1+1", "-1"]})).decode("utf-8-sig").split()
    ['a', "'=1+1", '-1']
    """
    import pandas as pd

    safe = frame.rename(columns=_harmless)
    for i, name in enumerate(frame.columns):
        if not (pd.api.types.is_numeric_dtype(frame[name]) or pd.api.types.is_datetime64_any_dtype(frame[name])):
            safe.isetitem(i, frame[name].map(_harmless, na_action="ignore").array)
    return safe.to_csv(index=False).encode("utf-8-sig")


def _harmless(text: Any) -> Any:
    if not isinstance(text, str) or not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
