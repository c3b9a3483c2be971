"""Runs put into a store under the ids they had: SQL on MLflow's tables, for its API gives every run an id of its own.

Nothing that is there already is changed. Experiments are matched by name, data sets by name and digest.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from experiments.errors import ConfigError
from experiments.store.location import Store, redact
from experiments.store.run_documents import NAN, Document, Value, models_folder
from experiments.store.tables import _is_server
from experiments.store.write import _experiment_id, open_store

if TYPE_CHECKING:
    from sqlalchemy import Connection

Whole = tuple[Document, Iterable[list[Value]]]  # a run with its values
_COLUMNS = ("run_uuid", "key", "step", "value", "is_nan", "timestamp")
_INSERT = "INSERT INTO {} ({}) VALUES ({})"


def refuse_server(store: Store) -> None:
    """Raises ConfigError for a store behind an MLflow server, which gives every run an id of its own."""
    if _is_server(store):
        raise ConfigError(
            f"store {store.label}: an MLflow server gives every run a new id; import where its database is: "
            "--store DIR or --store postgresql://..."
        )


def write_runs(store: Store, runs: Iterable[Whole], experiments: Iterable[str]) -> None:
    """The runs in the store's database: all of them, or none.

    Args:
        store: made first if it does not exist.
        runs: that are not there yet, each with its values.
        experiments: the names of theirs; matched by name, made where missing.

    Raises ConfigError in one line where the database takes them not.
    """
    from sqlalchemy.exc import SQLAlchemyError

    refuse_server(store)
    client = open_store(store)
    numbers = {name: int(_experiment_id(client, store, name)) for name in experiments}
    try:
        with client._tracking_client.store.engine.begin() as connection:
            _Writer(connection, store, numbers).write(runs)
    except SQLAlchemyError as error:
        cause = redact(" ".join(str(getattr(error, "orig", None) or error).split())[:300])
        raise ConfigError(f"store {store.label}: cannot be written ({cause}); nothing was imported") from error


class _Writer:
    def __init__(self, connection: Connection, store: Store, experiments: Mapping[str, int]) -> None:
        self._connection = connection
        self._store = store
        self._experiments = experiments
        self._known: dict[str, set[str]] = {}

    def write(self, runs: Iterable[Whole]) -> None:
        late: list[Document] = []  # point at a run and a model, which may come after them
        for document, values in runs:
            number = self._experiments[document["experiment"]]
            self._run(document, number)
            self._values(document["run"]["run_uuid"], values)
            late += ({**row, "experiment_id": number} for row in document["model_metrics"])
        for row in late:
            dataset = self._dataset_id(row["experiment_id"], row["dataset_name"], row["dataset_digest"])
            self._insert("logged_model_metrics", [{**row, "dataset_uuid": dataset}])

    def _run(self, document: Document, number: int) -> None:
        run_id = document["run"]["run_uuid"]
        place = {"experiment_id": number, "artifact_uri": str(self._store.run_folder(run_id))}
        self._insert("runs", [{**document["run"], **place}])
        for table in ("params", "tags"):
            pairs = document[table].items()
            self._insert(table, [{"run_uuid": run_id, "key": key, "value": value} for key, value in pairs])
        last = [Value(key, *rest) for key, rest in document["last"].items()]
        self._insert("latest_metrics", [dict(zip(_COLUMNS, _metric(run_id, each), strict=True)) for each in last])
        for each in document["datasets"]:
            self._input(run_id, number, each)
        for link in document["links"]:
            self._insert("inputs", [{"input_uuid": uuid.uuid4().hex, "source_id": run_id, **link}])
        for model in document["models"]:
            [row] = model["logged_models"]
            folder = models_folder(self._store, row["model_id"])
            self._insert("logged_models", [{**row, "experiment_id": number, "artifact_location": str(folder)}])
            for table in ("logged_model_params", "logged_model_tags"):
                self._insert(table, [{**each, "experiment_id": number} for each in model[table]])

    def _values(self, run_id: str, values: Iterable[list[Value]]) -> None:
        """The values by the driver itself: SQLAlchemy would ask for a third of the time."""
        mark = "?" if self._connection.dialect.paramstyle == "qmark" else "%s"
        sql = _INSERT.format("metrics", ", ".join(_COLUMNS), ", ".join([mark] * len(_COLUMNS)))
        for rows in values:
            self._connection.exec_driver_sql(sql, [_metric(run_id, value) for value in rows])

    def _input(self, run_id: str, number: int, found: Document) -> None:
        """The run's use of a data set, which is made where the experiment has none of that name and digest."""
        dataset = found["dataset"]
        known = self._dataset_id(number, dataset["name"], dataset["digest"])
        if known is None:
            known = uuid.uuid4().hex
            self._insert("datasets", [{**dataset, "dataset_uuid": known, "experiment_id": number}])
        input_id = uuid.uuid4().hex
        ends = {"source_type": "DATASET", "source_id": known, "destination_type": "RUN", "destination_id": run_id}
        self._insert("inputs", [{"input_uuid": input_id, "step": found["step"], **ends}])
        tags = found["tags"].items()
        self._insert("input_tags", [{"input_uuid": input_id, "name": name, "value": value} for name, value in tags])

    def _dataset_id(self, number: int, name: str | None, digest: str | None) -> str | None:
        from sqlalchemy import text

        sql = "SELECT dataset_uuid FROM datasets WHERE experiment_id = :number AND name = :name AND digest = :digest"
        found = self._connection.execute(text(sql), {"number": number, "name": name, "digest": digest})
        return found.scalar()

    def _insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        """The rows, whose columns the table must have: they come from a file."""
        from sqlalchemy import inspect, text

        if not rows:
            return
        if table not in self._known:
            self._known[table] = {column["name"] for column in inspect(self._connection).get_columns(table)}
        columns = {key for row in rows for key, value in row.items() if value is not None}
        if more := columns - self._known[table]:
            raise ConfigError(
                f"store {self._store.label}: MLflow's table {table} has no column '{min(more)}', which the file has; "
                "upgrade it: pip install -U mlflow, then mlflow db upgrade"
            )
        names = sorted(columns)
        sql = _INSERT.format(table, ", ".join(names), ", ".join(f":{name}" for name in names))
        self._connection.execute(text(sql), [{name: row.get(name) for name in names} for row in rows])


def _metric(run_id: str, value: Value) -> tuple[Any, ...]:
    """A row with _COLUMNS."""
    is_nan = value.value == NAN
    return run_id, value.key, value.step, 0.0 if is_nan else value.value, is_nan, value.timestamp
