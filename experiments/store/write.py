"""Writing runs through MLflow's public API: the schema created once under a lock, runs, values, notes, states."""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from experiments.errors import ConfigError
from experiments.store.files import write_text
from experiments.store.location import Store, redact, redact_value
from experiments.store.names import encode
from experiments.store.spool import Point
from experiments.store.tables import schema_revisions

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH = 1000  # MLflow's limit on metrics a call
PARAMS = 100  # and on parameters
LONGEST_PARAM = 6000
BUSY_MS = 20_000
SHARED = ".servers"  # in the store's folder: servers whose runs' files lie there too, one a line


def open_store(store: Store) -> MlflowClient:
    """A client on the store, created first if it does not exist: safely, whoever else does so at the same time.

    Raises ConfigError when the store cannot be written or its schema is not the installed MLflow's.
    """
    _check_folder(store)
    if store.database is not None:
        from filelock import FileLock

        with FileLock(store.folder / ".schema.lock"):  # MLflow's migration dies when two processes run it at once
            if not store.database.exists() or store.database.stat().st_size == 0:
                _create_database(store)
            _check_database(store)
    elif store.url.startswith("postgresql"):
        _create_schema(store)
    return _client(store.url)


def _create_schema(store: Store) -> None:
    """MLflow's tables in PostgreSQL, made by one process while the others, of any machine, wait.

    Raises ConfigError when the server cannot be reached.
    """
    from sqlalchemy import create_engine, inspect, text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(store.url)
        with engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                connection.execute(text("SELECT pg_advisory_lock(7294)"))  # given back when the connection closes
                _client(store.url).search_experiments(max_results=1)
        engine.dispose()
    except (SQLAlchemyError, ImportError) as error:
        reason = redact(" ".join(str(error).split())[:300])
        hint = "is the server there, and pip install 'taolu[postgres]' done?"
        raise ConfigError(f"store {store.label}: cannot be opened ({reason}); {hint}") from error


def _client(url: str) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # no request leaves the machine
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the delivery tries again, and stays stoppable
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    for name in ("mlflow.store.db.utils", "alembic", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations between MLflow and SQLAlchemy, nothing a user can act on
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=url)


def release_connections(store: Store) -> None:
    """Closes this process's connections to the store's database: a process forked now inherits none."""
    if not store.url.startswith("http"):
        _client(store.url)._tracking_client.store.engine.dispose()


def _check_folder(store: Store) -> None:
    try:
        store.artifacts.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store.folder):
            pass
        if store.database is None:
            _mark_shared(store)
    except FileNotFoundError as error:  # its parents were to be made too: a folder of the system's, such as /proc
        place = next(folder for folder in store.folder.parents if folder.is_dir())
        raise ConfigError(
            f"store {store.folder}: {place} takes no new folder; choose another with --store DIR"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"store {store.folder}: cannot be written ({error.strerror}); choose another with --store DIR"
        ) from error


def _mark_shared(store: Store) -> None:
    """Notes that files of a server's runs lie in the folder: to another database they would seem to be nobody's."""
    marker = store.folder / SHARED
    labels = marker.read_text(encoding="utf-8").splitlines() if marker.exists() else []
    if store.label not in labels:
        write_text(marker, "\n".join([*labels, store.label]) + "\n")


def _create_database(store: Store) -> None:
    """The schema, built beside its place and moved there, so that a process killed half-way leaves nothing broken."""
    assert store.database is not None
    part = store.folder / ".mlflow.db.part"
    part.unlink(missing_ok=True)
    client = _client(f"sqlite:///{part}")
    client.search_experiments(max_results=1)
    client._tracking_client.store.engine.dispose()
    with closing(sqlite3.connect(part)) as connection:
        connection.execute(
            "PRAGMA journal_mode=WAL"
        )  # stays in the file: readers and writers no longer block each other
    part.replace(store.database)


def _check_database(store: Store) -> None:
    assert store.database is not None
    try:
        with closing(sqlite3.connect(store.database, timeout=BUSY_MS / 1000)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            found = (
                connection.execute("SELECT version_num FROM alembic_version").fetchone()
                if "alembic_version" in tables
                else None
            )
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.Error as error:
        raise ConfigError(f"store {store.database}: {error}; choose another with --store DIR") from error
    head, known = schema_revisions()
    if found is None:
        raise ConfigError(f"store {store.database}: an SQLite file, but not MLflow's; choose another with --store DIR")
    if found[0] not in known:
        raise ConfigError(
            f"store {store.database}: its schema {found[0]} is newer than the installed MLflow knows; "
            "upgrade it (pip install -U mlflow) or choose another store with --store DIR"
        )
    if found[0] != head:
        raise ConfigError(
            f"store {store.database}: its schema {found[0]} is older than MLflow's {head}; "
            f"run: mlflow db upgrade {redact(store.url)}"
        )


class RunWriter:
    """One run being recorded.

    Args:
        store: where.
        run_id: of a run that exists.
        client: on the store.
    """

    def __init__(self, store: Store, run_id: str, client: MlflowClient) -> None:
        self.store = store
        self.run_id = run_id
        self.client = client
        run = client.get_run(run_id)
        self.name = str(run.info.run_name)
        self.tags_before = dict(run.data.tags)
        self.folder = store.run_folder(run_id)
        self.folder.mkdir(parents=True, exist_ok=True)

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters, whole: what exceeds MLflow's 6,000 characters lies in params/ and is named by its digest."""
        from mlflow.entities import Param

        items = [
            Param(encode(key), self._fitting(key, as_text(redact_value(key, value)))) for key, value in values.items()
        ]
        for start in range(0, len(items), PARAMS):
            self.client.log_batch(self.run_id, params=items[start : start + PARAMS])

    def _fitting(self, key: str, text: str) -> str:
        if len(text) <= LONGEST_PARAM:
            return text
        name = f"params/{encode(key).replace('/', ':2f:')}.txt"
        write_text(self.folder / name, text)
        return f"{len(text)} characters in {name}, sha256 {hashlib.sha256(text.encode()).hexdigest()}"

    def metrics(self, points: Iterable[Point]) -> None:
        """Metric values, at most 1,000 a call."""
        from mlflow.entities import Metric

        items = [Metric(encode(key), value, milliseconds, step) for key, value, milliseconds, step in points]
        for start in range(0, len(items), BATCH):
            self.client.log_batch(self.run_id, metrics=items[start : start + BATCH], synchronous=True)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Tags, set or replaced."""
        from mlflow.entities import RunTag

        items = [RunTag(key, as_text(redact_value(key, value))[:8000]) for key, value in values.items()]
        for start in range(0, len(items), PARAMS):
            self.client.log_batch(self.run_id, tags=items[start : start + PARAMS])

    def dataset(self, name: str, digest: str, source: str, profile: str) -> None:
        """The data the run read, as MLflow's input; MLflow takes 36 characters of the digest, a tag has all 64."""
        from mlflow.entities import Dataset, DatasetInput

        entity = Dataset(name[:500], digest[:36], "local", redact(source), None, profile)
        self.client.log_inputs(self.run_id, [DatasetInput(entity, [])])
        self.tags({"taolu.data_digest": digest})

    def text(self, name: str, content: str, *, is_redacted: bool = False) -> None:
        """A text artifact, whole or not at all; secrets redacted by their look, unless that is done by key already."""
        write_text(self.folder / name, content if is_redacted else redact(content))

    def finish(self, status: str) -> None:
        """The run's end: FINISHED, FAILED or KILLED. Over http the files are uploaded now."""
        if self.store.database is None and self.store.url.startswith("http"):
            self.client.log_artifacts(self.run_id, str(self.folder))
        self.client.set_terminated(self.run_id, status)


def create_run(
    store: Store, experiment: str, name: str | None, tags: Mapping[str, str], *, client: MlflowClient | None = None
) -> RunWriter:
    """A new run, RUNNING, in the experiment of that name; called `<experiment>-<start of its id>` if not named.

    Whoever creates many gives the `client` that `open_store` returned.
    """
    client = client or open_store(store)
    safe = {key: redact_value(key, value) for key, value in tags.items()}
    # A name always: MLflow draws its own from `random`, whose seed is the run's, so equal seeds had equal names.
    run = client.create_run(_experiment_id(client, store, experiment), run_name=name or experiment, tags=safe)
    if name is None:
        client.update_run(run.info.run_id, name=f"{experiment}-{run.info.run_id[:4]}")
    return RunWriter(store, run.info.run_id, client)


def reopen_run(store: Store, run_id: str) -> RunWriter:
    """A run of the store, RUNNING again."""
    client = open_store(store)
    client.update_run(run_id, status="RUNNING")
    return RunWriter(store, run_id, client)


def delete_run(store: Store, run_id: str) -> None:
    """The run marked deleted; its files and values stay until restored or collected."""
    open_store(store).delete_run(run_id)


def restore_run(store: Store, run_id: str) -> None:
    """The run no longer marked deleted."""
    open_store(store).restore_run(run_id)


def _experiment_id(client: MlflowClient, store: Store, name: str) -> str:
    from mlflow.exceptions import MlflowException

    for attempt in range(5):
        found = client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        try:
            # Given explicitly: MLflow's default is relative to whoever asks. A server keeps its own place.
            location = None if store.url.startswith("http") else str(store.artifacts)
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another process created it between the two calls
            time.sleep(0.05 * (attempt + 1))
    raise ConfigError(f"store {store.label}: experiment '{name}' can be neither found nor created")


def rehome(store: Store) -> int:
    """Number of rows whose absolute artifact paths were rewritten because the store's folder has moved.

    MLflow's own pages follow those paths; ours never do.
    """
    if store.database is None or not store.database.exists():
        return 0
    from filelock import FileLock

    changed = 0
    with (
        FileLock(store.folder / ".schema.lock"),
        closing(sqlite3.connect(store.database, timeout=BUSY_MS / 1000)) as connection,
    ):
        if connection.execute("SELECT 1 FROM runs WHERE status = 'RUNNING' AND lifecycle_stage = 'active'").fetchone():
            return 0  # a live run of the old place may still write there
        for experiment_id, old in connection.execute(
            "SELECT experiment_id, artifact_location FROM experiments"
        ).fetchall():
            if old and old.endswith("/artifacts") and old != str(store.artifacts):
                connection.execute(
                    "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                    (str(store.artifacts), experiment_id),
                )
                changed += 1
        for run_id, old in connection.execute("SELECT run_uuid, artifact_uri FROM runs").fetchall():
            new = str(store.run_folder(run_id))
            if old and old.endswith(f"/{run_id}/artifacts") and old != new and "://" not in old:
                connection.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (new, run_id))
                changed += 1
        connection.commit()
    return changed


def as_text(value: Any) -> str:
    """A value as YAML would write it, and as parameters are stored.

    >>> as_text(None), as_text(True), as_text(0.1)
    ('null', 'true', '0.1')
    """
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
