"""Runs removed from the database for good, and its file made smaller.

MLflow's own `mlflow gc` is not called: it also removes every deleted experiment, leaves the rows of inputs and data
sets behind, and deletes files at the path MLflow stored, which in a copied store is the original's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from experiments.errors import ConfigError
from experiments.store.location import Store
from experiments.store.studies import DATABASE as STUDIES
from experiments.store.tables import _connection
from experiments.store.write import BUSY_MS, open_store, release_connections

# What MLflow 3.17 leaves of a run it removes.
_WITHOUT_RUN = """
DELETE FROM inputs WHERE source_type LIKE 'RUN%' AND source_id NOT IN (SELECT run_uuid FROM runs);
DELETE FROM inputs WHERE destination_type LIKE 'RUN%' AND destination_id NOT IN (SELECT run_uuid FROM runs);
DELETE FROM input_tags WHERE input_uuid NOT IN (SELECT input_uuid FROM inputs);
DELETE FROM logged_model_metrics WHERE run_id NOT IN (SELECT run_uuid FROM runs);
DELETE FROM datasets WHERE dataset_uuid NOT IN (SELECT source_id FROM inputs)
  AND dataset_uuid NOT IN (SELECT dataset_uuid FROM logged_model_metrics WHERE dataset_uuid IS NOT NULL)
"""


def refuse_server(store: Store) -> None:
    """Raises ConfigError for a store behind an MLflow server, which removes nothing for good."""
    if store.url.startswith("http"):
        raise ConfigError(
            f"store {store.label}: an MLflow server removes nothing for good; run mlflow gc where its database is"
        )


def deleted_at(store: Store) -> dict[str, float]:
    """Id -> when it was marked deleted, in seconds since 1970, of every deleted run; 0 where MLflow does not say."""
    with _connection(store) as connection:
        if connection is None:
            return {}
        rows = connection.exec_driver_sql("SELECT run_uuid, deleted_time FROM runs WHERE lifecycle_stage = 'deleted'")
        return {str(run_id): (milliseconds or 0) / 1000 for run_id, milliseconds in rows}


def erase_runs(store: Store, run_ids: Iterable[str]) -> list[str]:
    """The ids of those removed from all tables: runs restored since are left alone.

    A run is removed whole or not at all; the rows that a kill, or `mlflow gc`, left of others go too.
    """
    from sqlalchemy import text

    tracking = open_store(store)._tracking_client.store
    erased = []
    for run_id in run_ids:
        if tracking.get_run(run_id).info.lifecycle_stage == "deleted":
            tracking._hard_delete_run(run_id)  # what `mlflow gc` calls
            erased.append(run_id)
    with tracking.engine.begin() as connection:
        for statement in _WITHOUT_RUN.split(";"):
            connection.execute(text(statement))
    release_connections(store)
    return erased


def vacuum(store: Store) -> list[str]:
    """Makes the store's SQLite files as small as they can be; one line for each that could not be.

    PostgreSQL does that by itself.
    """
    failures = []
    for database in _databases(store):
        try:
            with closing(sqlite3.connect(database, timeout=BUSY_MS / 1000)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            failures.append(f"{database} stays as large as it is ({error}); try again when no run is going on")
    return failures


def database_bytes(store: Store) -> int:
    """Size of the store's SQLite files with their journals."""
    files = [Path(f"{database}{mark}") for database in _databases(store) for mark in ("", "-wal", "-shm")]
    return sum(file.stat().st_size for file in files if file.exists())


def _databases(store: Store) -> list[Path]:
    if store.database is None:
        return []
    return [path for path in (store.database, store.folder / STUDIES) if path.exists()]
