"""What the store knows of its runs, as tables and records: read-only, without MLflow, one statement a table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import ConfigError, did_you_mean, unknown
from experiments.store.curves import Curve, curve_of
from experiments.store.location import Store
from experiments.store.names import decode
from experiments.store.tables import RunRow, Selection, Tables, Taker, read_series, read_tables, take_tables

if TYPE_CHECKING:
    import pandas as pd

NOTE = "mlflow.note.content"
HANDLE = "a unique prefix of an id (4 characters or more), a name, last, last:EXPERIMENT or best:EXPERIMENT:METRIC"
_SHORTEST_PREFIX = 4
_NOT_MODELS = ("evaluation", "features", "claim")  # `last` and `best` mean the run a person started


@dataclass(frozen=True)
class RunRecord:
    """All that the store's database says of one run.

    Args:
        status: MLflow's word: RUNNING, FINISHED, FAILED, KILLED or SCHEDULED.
        seconds: None while the run is going on.
        metrics: last values.
        tags: MLflow's own (mlflow.*) included.
        note: the text a person wrote about the run.
        folder: where its files lie; it may not exist.
    """

    run_id: str
    name: str
    experiment: str
    kind: str
    status: str
    started: datetime | None
    ended: datetime | None
    seconds: float | None
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    note: str
    deleted: bool
    folder: Path


def runs_table(store: Store, *, kinds: tuple[str, ...] | None = None, deleted: bool = False) -> pd.DataFrame:
    """One row a run, newest first, as wide as its parameters, metrics and tags.

    Args:
        store: may be empty or not exist yet: the table then has no row.
        kinds: values of the tag taolu.kind; None takes every kind.
        deleted: the deleted runs instead of the others.

    Columns: run_id, name, experiment, kind, status, started and ended (UTC), seconds (NaN while running), note, then
    `params.<key>` (text), `metrics.<key>` (last value) and `tags.<key>` (without MLflow's own).
    """
    return wide_table(store, Selection(kinds=kinds, stage=_stage(deleted)))


def wide_table(store: Store, selection: Selection) -> pd.DataFrame:
    """The selected runs as `runs_table` gives them."""
    import pandas as pd

    takers: dict[str, Taker] = {"tags": _spread_tags, "params": _spread, "metrics": _spread_metrics}
    runs, tags, params, metrics = take_tables(store, selection, takers)
    times = {
        "started": pd.to_datetime(pd.Series([row.start for row in runs], dtype="Int64"), unit="ms", utc=True),
        "ended": pd.to_datetime(pd.Series([row.end for row in runs], dtype="Int64"), unit="ms", utc=True),
    }
    note = tags.pop(NOTE, [None] * len(runs))
    return pd.DataFrame(
        {
            "run_id": [row.run_id for row in runs],
            "name": [row.name or "" for row in runs],
            "experiment": [row.experiment for row in runs],
            "kind": [row.kind for row in runs],
            "status": [row.status for row in runs],
            **times,
            "seconds": pd.Series([_seconds(row) for row in runs], dtype=float),
            "note": pd.Series([text or "" for text in note], dtype=str),
            **{f"params.{key}": column for key, column in sorted(params.items())},
            **{f"metrics.{key}": column for key, column in sorted(metrics.items())},
            **{f"tags.{key}": column for key, column in sorted(tags.items())},
        }
    )


def find_run(store: Store, handle: str, *, deleted: bool = False) -> str:
    """The id of the run that `handle` names.

    Args:
        store: where to look.
        handle: an id, a unique prefix of one (4 characters or more), a run's name, `last`, `last:EXPERIMENT`, or
            `best:EXPERIMENT:METRIC`, then `:min` or `:max` where the runs' tag taolu.objective does not say it
            (without either: min).
        deleted: look among the deleted runs instead of the others.

    `last` and `best` pass over claims, evaluations and feature extractors, which are no models of a person's, and bare
    `last` over a sweep's trials and experiments whose name begins with _. A best value is finite and of a finished run.
    """
    selection = Selection(stage=_stage(deleted))
    runs = read_tables(store, selection, ()).runs
    if not runs:
        what = "deleted run" if deleted else "run yet; start one: taolu run vae"
        raise ConfigError(f"store {store.label} holds no {what}")
    word, _, rest = handle.partition(":")
    if word == "last":
        return _last(runs, rest or None)
    if word == "best" and rest:
        return _best(store, runs, rest, _stage(deleted))
    return _named(store, runs, handle)


def read_run(store: Store, run_id: str) -> RunRecord:
    """The record of the run with this full id, deleted or not."""
    tables = read_tables(store, Selection(run_id=run_id, stage=None))
    if not tables.runs:
        raise ConfigError(f"store {store.label} holds no run '{run_id}'; see what it holds: taolu runs")
    row = tables.runs[0]
    tags = {key: value for _, key, value in tables.tags}
    return RunRecord(
        run_id=row.run_id,
        name=row.name or "",
        experiment=row.experiment,
        kind=row.kind,
        status=row.status,
        started=_moment(row.start),
        ended=_moment(row.end),
        seconds=_seconds(row),
        params={decode(key): value for _, key, value in tables.params},
        metrics={decode(key): _number(value) for _, key, value in tables.metrics},
        tags=tags,
        note=tags.get(NOTE, ""),
        deleted=row.stage == "deleted",
        folder=store.run_folder(row.run_id),
    )


def history(store: Store, run_id: str, keys: Sequence[str] | None = None) -> pd.DataFrame:
    """Every value of one run's metrics (of `keys`, or all): the columns of `histories` without run_id."""
    return histories(store, [run_id], keys).drop(columns="run_id")


def histories(store: Store, run_ids: Sequence[str], keys: Sequence[str] | None = None) -> pd.DataFrame:
    """Every value of the runs' metrics, sorted by run_id, key, step.

    Columns: run_id, key, step, value, time (seconds since the run's start). Where a step stands twice, as after a
    resume, the later value counts: by timestamp, then by insertion.
    """
    return curve_table(read_curves(store, run_ids, keys))


def curve_table(found: Mapping[tuple[str, str], Curve]) -> pd.DataFrame:
    """The curves as `histories` gives them."""
    import numpy as np
    import pandas as pd

    curves = sorted(found.items())
    lengths = [len(curve.step) for _, curve in curves]
    names = {
        name: np.repeat(np.array([series[i] for series, _ in curves], dtype=object), lengths)
        for i, name in enumerate(("run_id", "key"))
    }
    none = np.empty(0)
    return pd.DataFrame(
        {name: pd.Series(values, dtype="str") for name, values in names.items()}
        | {"step": np.concatenate([none.astype(np.int64), *(curve.step for _, curve in curves)])}
        | {"value": np.concatenate([none, *(curve.value for _, curve in curves)])}
        | {"time": np.concatenate([none, *(curve.time for _, curve in curves)])}
    )


def read_curves(
    store: Store, run_ids: Sequence[str], keys: Sequence[str] | None = None
) -> dict[tuple[str, str], Curve]:
    """(run id, metric) -> its curve, for the metrics of `keys`, or all; without those that a run has not logged."""
    found = read_series(store, run_ids, keys)
    starts = _starts(store, run_ids) if found else {}
    return {
        (run_id, decode(key)): curve_of(rows[:, 0], rows[:, 1], rows[:, 2], starts.get(run_id, 0))
        for (run_id, key), rows in found.items()
    }


def _starts(store: Store, run_ids: Sequence[str]) -> dict[str, int]:
    runs = read_tables(store, Selection(run_ids=tuple(run_ids), stage=None), ()).runs
    return {row.run_id: row.start or 0 for row in runs}


def _spread(rows: Iterable[tuple[str, str, Any]], runs: list[RunRow]) -> dict[str, list[Any]]:
    """Key -> one value a run, None where the run has none; rows of other runs are passed over.

    A hot path: 200,000 metrics at 10,000 runs.
    """
    index, size = {row.run_id: i for i, row in enumerate(runs)}, len(runs)
    columns: dict[str, list[Any]] = {}
    for run_id, key, value in rows:
        try:
            columns[key][index[run_id]] = value
        except KeyError:
            if run_id in index:
                columns[key] = [None] * size
                columns[key][index[run_id]] = value
    return {decode(key): column for key, column in columns.items()}


def _spread_tags(rows: Iterable[tuple[str, str, str]], runs: list[RunRow]) -> dict[str, list[Any]]:
    """The same without MLflow's own tags, but for the note."""
    columns = _spread(rows, runs)
    return {key: column for key, column in columns.items() if not key.startswith("mlflow.") or key == NOTE}


def _spread_metrics(rows: Iterable[tuple[str, str, float | None]], runs: list[RunRow]) -> dict[str, Any]:
    """Key -> array with one number a run, NaN where it has none."""
    import numpy as np

    arrays = {key: np.array(column, dtype=float) for key, column in _spread(rows, runs).items()}
    for array in arrays.values():
        array[np.abs(array) >= sys.float_info.max] *= np.inf  # MLflow stores infinity as the largest number
    return arrays


def _number(value: float | None) -> float:
    if value is None:
        return float("nan")
    return value * float("inf") if abs(value) >= sys.float_info.max else value


def _seconds(row: RunRow) -> float | None:
    return None if row.start is None or row.end is None else (row.end - row.start) / 1000


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def _stage(deleted: bool) -> str:
    return "deleted" if deleted else "active"


def _last(runs: list[RunRow], experiment: str | None) -> str:
    if experiment is not None:
        _check_experiment(runs, experiment)
    for row in runs:  # newest first
        wanted = row.experiment == experiment if experiment is not None else not row.experiment.startswith("_")
        passed = (*_NOT_MODELS, "trial") if experiment is None else _NOT_MODELS  # a person started the sweep, not it
        if wanted and (row.kind not in passed or experiment in ("_features", "claims")):
            return row.run_id
    raise ConfigError("no run of that kind yet; start one: taolu run vae")


def _best(store: Store, runs: list[RunRow], rest: str, stage: str) -> str:
    direction = next((word for word in ("min", "max") if rest.endswith(f":{word}")), None)
    experiment, colon, metric = rest.removesuffix(f":{direction}").rpartition(":")
    if not colon:
        raise ConfigError(f"'best:{rest}': write best:EXPERIMENT:METRIC, such as best:vae:val/elbo")
    _check_experiment(runs, experiment)
    tables = read_tables(store, Selection(experiment=experiment, stage=stage), ("tags", "metrics"))
    finished = {row.run_id for row in tables.runs if row.status == "FINISHED" and row.kind not in _NOT_MODELS}
    if not finished:
        raise ConfigError(f"experiment '{experiment}' holds no finished run; see what it holds: taolu runs")
    known = {decode(key) for _, key, _ in tables.metrics}
    if metric not in known:
        raise unknown("metric", metric, known)
    values = {run_id: _number(value) for run_id, key, value in tables.metrics if decode(key) == metric}
    finite = {key: value for key, value in values.items() if key in finished and isfinite(value)}
    if not finite:
        raise ConfigError(f"no finished run of experiment '{experiment}' has a finite {metric}")
    choose: Callable[..., str] = max if (direction or _direction(tables, metric)) == "max" else min
    return choose(finite, key=finite.__getitem__)


def _direction(tables: Tables, metric: str) -> str:
    """The direction the newest run states for this metric in its tag taolu.objective (`val/elbo max`), else min."""
    stated = {run_id: value.split() for run_id, key, value in tables.tags if key == "taolu.objective"}
    for row in tables.runs:
        match stated.get(row.run_id):
            case [name, ("min" | "max") as direction] if name == metric:
                return direction
    return "min"


def _check_experiment(runs: list[RunRow], experiment: str) -> None:
    names = {row.experiment for row in runs}
    if experiment not in names:
        raise unknown("experiment", experiment, names)


def _named(store: Store, runs: list[RunRow], handle: str) -> str:
    """The run with this id, name, or prefix of an id, in that order."""
    ids = {row.run_id for row in runs}
    if handle in ids:
        return handle
    found = [row for row in runs if row.name == handle and handle]
    if not found and len(handle) < _SHORTEST_PREFIX:
        raise ConfigError(f"run '{handle}': too short for a prefix; give {HANDLE}")
    found = found or [row for row in runs if row.run_id.startswith(handle.lower())]
    if not found:
        hint = did_you_mean(handle, {*(row.name or "" for row in runs), *ids, "last"})
        raise ConfigError(f"store {store.label}: no run '{handle}'{hint}; give {HANDLE}")
    if len(found) > 1:
        listed = ", ".join(f"{row.run_id[:12]} ({row.experiment})" for row in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise ConfigError(f"run '{handle}' fits {len(found)} runs: {listed}{more}; give more of the id")
    return found[0].run_id
