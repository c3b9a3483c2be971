"""A run as a plain document, without what means something in one database only: numbers of experiments, paths."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from experiments.errors import ConfigError
from experiments.store.location import Store
from experiments.store.tables import _client, _connection, _is_server

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from sqlalchemy import Connection

Document = dict[str, Any]
ROWS = 1_000  # values a statement, and a line of metrics.jsonl
NAN = "NaN"  # stands for a value that is none; MLflow keeps infinity as the largest number
_VALUES = "SELECT key, step, value, is_nan, timestamp FROM metrics WHERE run_uuid = :id ORDER BY {}"
_ROWS = "SELECT * FROM {} WHERE {}"
_HERE = ("experiment_id", "artifact_uri", "artifact_location", "dataset_uuid")  # columns with a meaning in one database
_UNKNOWN = {"source_type": "UNKNOWN", "source_name": "", "entry_point_name": "", "source_version": ""}  # as MLflow sets


class Value(NamedTuple):
    """One logged value, as in metrics.jsonl; the time in milliseconds since 1970."""

    key: str
    step: int
    value: float | str
    timestamp: int


class Reader(Protocol):
    """Reads runs of one store."""

    def document(self, run_id: str) -> Document:
        """All that the database says of the run but for the values of its metrics before the last."""
        ...

    def values(self, run_id: str) -> Iterator[list[Value]]:
        """Every logged value of the run, in the order of insertion, at most ROWS at a time."""
        ...


@contextmanager
def reader(store: Store) -> Iterator[Reader]:
    """Reads runs of a store that exists.

    Raises ConfigError where it cannot be read.
    """
    if _is_server(store):
        with _client(store) as client:
            yield _ClientReader(client)
        return
    with _connection(store) as connection:
        if connection is None:
            raise ConfigError(f"store {store.label} holds no run yet; start one: taolu run vae")
        yield _SqlReader(connection)


class _SqlReader:
    def __init__(self, connection: Connection) -> None:
        from sqlalchemy import inspect

        self._connection = connection
        self._tables = set(inspect(connection).get_table_names())
        self._order = "rowid" if connection.dialect.name == "sqlite" else "ctid"

    def document(self, run_id: str) -> Document:
        [run] = self._rows("runs", "run_uuid = :id", id=run_id)
        [experiment] = self._rows("experiments", "experiment_id = :id", id=run["experiment_id"])
        return {
            "experiment": experiment["name"],
            "run": _portable(run),
            "params": self._pairs("params", run_id),
            "tags": self._pairs("tags", run_id),
            "last": {
                row["key"]: list(_value(row["key"], row["step"], row["value"], row["is_nan"], row["timestamp"])[1:])
                for row in self._rows("latest_metrics", "run_uuid = :id", id=run_id)
            },
            "datasets": _sorted(self._dataset(row) for row in self._inputs("destination", "RUN", run_id)),
            "links": _sorted(map(_link, self._inputs("source", "RUN_%", run_id))),
            "models": self._models(run_id),
            "model_metrics": self._models_metrics(run_id),
        }

    def values(self, run_id: str) -> Iterator[list[Value]]:
        from sqlalchemy import text

        statement = text(_VALUES.format(self._order)).execution_options(stream_results=True)
        for rows in self._connection.execute(statement, {"id": run_id}).partitions(ROWS):
            yield [_value(*row) for row in rows]

    def _rows(self, table: str, where: str, **values: Any) -> list[dict[str, Any]]:
        """The rows with all their columns; none of a table that an older schema lacks."""
        from sqlalchemy import text

        if table not in self._tables:
            return []
        result = self._connection.execute(text(_ROWS.format(table, where)), values)
        return [dict(row) for row in result.mappings()]

    def _pairs(self, table: str, run_id: str) -> dict[str, str]:
        return dict(sorted((row["key"], row["value"]) for row in self._rows(table, "run_uuid = :id", id=run_id)))

    def _inputs(self, end: str, kind: str, run_id: str) -> list[dict[str, Any]]:
        return self._rows("inputs", f"{end}_type LIKE :kind AND {end}_id = :id", kind=kind, id=run_id)

    def _dataset(self, row: Mapping[str, Any]) -> Document:
        [dataset] = self._rows("datasets", "dataset_uuid = :id", id=row["source_id"])
        tags = self._rows("input_tags", "input_uuid = :id", id=row["input_uuid"])
        pairs = sorted((tag["name"], tag["value"]) for tag in tags)
        return {"dataset": _portable(dataset), "step": row.get("step", 0), "tags": dict(pairs)}

    def _models(self, run_id: str) -> list[Document]:
        found = []
        for row in self._rows("logged_models", "source_run_id = :id", id=run_id):
            sides = {
                table: _sorted(map(_portable, self._rows(table, "model_id = :id", id=row["model_id"])))
                for table in ("logged_model_params", "logged_model_tags")
            }
            found.append({"logged_models": [_portable(row)], **sides})
        return _sorted(found)

    def _models_metrics(self, run_id: str) -> list[Document]:
        return _sorted(map(_portable, self._rows("logged_model_metrics", "run_id = :id", id=run_id)))


class _ClientReader:
    """The same through MLflow's client: for a tracking server, whose tables cannot be reached."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def document(self, run_id: str) -> Document:
        run = self._client.get_run(run_id)
        if run.outputs and run.outputs.model_outputs:
            raise ConfigError(f"run {run_id[:8]}: its logged models can be exported only where the database is")
        info = run.info
        about: Document = {"run_uuid": run_id, "name": info.run_name, "user_id": info.user_id, "status": info.status}
        times = {"start_time": info.start_time, "end_time": info.end_time}
        return {
            "experiment": self._client.get_experiment(info.experiment_id).name,
            "run": {**about, **times, "lifecycle_stage": info.lifecycle_stage, "deleted_time": None, **_UNKNOWN},
            "params": dict(sorted(run.data.params.items())),
            "tags": dict(sorted(run.data.tags.items())),
            "last": {each.key: list(_logged(each)[1:]) for each in run.data._metric_objs},
            "datasets": _sorted(self._datasets(run)),
            "links": [],
            "models": [],
            "model_metrics": [],
        }

    def values(self, run_id: str) -> Iterator[list[Value]]:
        for key in self._client.get_run(run_id).data.metrics:
            found = self._client.get_metric_history(run_id, key)
            for start in range(0, len(found), ROWS):
                yield [_logged(each) for each in found[start : start + ROWS]]

    def _datasets(self, run: Run) -> Iterator[Document]:
        for each in run.inputs.dataset_inputs if run.inputs else ():
            source = each.dataset
            dataset: Document = {
                "name": source.name,
                "digest": source.digest,
                "dataset_source_type": source.source_type,
            }
            dataset |= {"dataset_source": source.source, "dataset_schema": source.schema or None}
            tags = dict(sorted((tag.key, tag.value) for tag in each.tags))
            yield {"dataset": {**dataset, "dataset_profile": source.profile or None}, "step": 0, "tags": tags}


def _value(key: str, step: int, value: float, is_nan: Any, timestamp: int) -> Value:
    return Value(key, step, NAN if is_nan else value, timestamp)


def _logged(metric: Metric) -> Value:
    return _value(metric.key, metric.step, metric.value, metric.value != metric.value, metric.timestamp)


def _portable(row: Mapping[str, Any]) -> Document:
    return {key: value for key, value in row.items() if key not in _HERE}


def _link(row: Mapping[str, Any]) -> Document:
    """A model that the run made or used."""
    return {key: row[key] for key in ("source_type", "destination_type", "destination_id", "step")}


def _sorted(documents: Iterable[Document]) -> list[Document]:
    return sorted(documents, key=repr)


# ---- what differs ---------------------------------------------------------------------------------------------------


def fingerprint(values: Iterable[list[Value]]) -> dict[str, tuple[int, int]]:
    """Of each metric how many values it has, and a sum that two sets of values share only if they are equal.

    In whatever order: PostgreSQL puts rows where it has room.
    """
    found: dict[str, tuple[int, int]] = {}
    for key, step, value, timestamp in itertools.chain.from_iterable(values):
        count, total = found.get(key, (0, 0))
        found[key] = (count + 1, (total + hash((step, -1 if value == NAN else value, value == NAN, timestamp))) % 2**64)
    return found


def difference(given: Any, present: Any, place: str = "") -> str:
    """The first field in which two documents differ, with both values; empty for equal ones.

    >>> difference({"tags": {"a": "1", "b": "2"}}, {"tags": {"a": "1", "b": "3"}})
    "tags.b is '2' in the file and '3' in the store"
    """
    if isinstance(given, dict) and isinstance(present, dict):
        for key in sorted({*given, *present}):
            if found := difference(given.get(key), present.get(key), f"{place}.{key}".lstrip(".")):
                return found
        return ""
    if isinstance(given, list) and isinstance(present, list) and len(given) == len(present):
        return next((found for pair in zip(given, present, strict=True) if (found := difference(*pair, place))), "")
    is_equal = given == present or (given != given and present != present)  # NaN
    return "" if is_equal else f"{place} is {_shown(given)} in the file and {_shown(present)} in the store"


def comparable(document: Document) -> Document:
    """The document without what the store knows of its data sets already: to MLflow name and digest say which it is."""
    named = [
        {**each, "dataset": {key: each["dataset"][key] for key in ("name", "digest")}} for each in document["datasets"]
    ]
    return {**document, "datasets": _sorted(named)}


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextmanager
def downloaded(store: Store, run_id: str) -> Iterator[Path]:
    """The folder of a run's files: the store's own, or a copy of what only the server has."""
    folder = store.run_folder(run_id)
    if folder.is_dir() or not _is_server(store):
        yield folder
        return
    with TemporaryDirectory() as place, _client(store) as client:
        yield Path(client.download_artifacts(run_id, "", place))


def models_folder(store: Store, model_id: str) -> Path:
    """The files of a logged model, where MLflow puts them."""
    return store.artifacts / "models" / model_id / "artifacts"
