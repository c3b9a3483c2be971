"""Writing runs: the schema made once, whoever else does so; stores that cannot be written refused in one line."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from experiments.errors import ConfigError
from experiments.store.location import Store, locate
from experiments.store.read import history, read_run, runs_table
from experiments.store.tables import schema_revisions
from experiments.store.write import create_run, delete_run, open_store, reopen_run, restore_run


def test_the_database_schema_is_the_newest_this_mlflow_knows(store: Store) -> None:
    with closing(sqlite3.connect(store.folder / "mlflow.db")) as connection:
        (found,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    head, known = schema_revisions()
    assert found == head
    assert head in known


def test_a_store_of_a_newer_schema_is_refused(store: Store) -> None:
    with closing(sqlite3.connect(store.folder / "mlflow.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fffffffffff1'")
        connection.commit()
    with pytest.raises(ConfigError, match="its schema fffffffffff1 is newer than the installed MLflow knows"):
        open_store(store)


def test_a_file_that_is_no_database_is_refused_and_kept(store: Store) -> None:
    path = store.folder / "mlflow.db"
    path.write_bytes(b"my thesis" * 1000)
    with pytest.raises(ConfigError, match="file is not a database"):
        open_store(store)
    assert path.read_bytes() == b"my thesis" * 1000


def test_a_database_of_something_else_is_refused(store: Store) -> None:
    path = store.folder / "mlflow.db"
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE thesis (chapter TEXT)")
    with pytest.raises(ConfigError, match="an SQLite file, but not MLflow's"):
        open_store(store)


def test_a_store_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"cannot be written .*; choose another with --store DIR"):
        open_store(locate(str(tmp_path / "file" / "mlruns")))


def test_what_a_killed_creation_left_is_made_anew(tmp_path: Path, template_database: Path) -> None:
    store = locate(str(tmp_path / "mlruns"))
    store.folder.mkdir()
    shutil.copy(template_database, store.folder / ".mlflow.db.part")
    open_store(store)
    assert len(runs_table(store)) == 0


def test_a_run_is_named_after_its_experiment_and_id(store: Store) -> None:
    writer = create_run(store, "vae", None, {})
    assert writer.name == f"vae-{writer.run_id[:4]}"


def test_long_parameters_are_kept_and_secrets_are_not(store: Store) -> None:
    writer = create_run(store, "vae", None, {"where": "https://ann:hunter2@host/x"})
    writer.params({"long": "x" * 5000, "url": "https://ann:hunter2@host/x", "flag": True, "nothing": None})
    record = read_run(store, writer.run_id)
    assert len(record.params["long"]) == 5000
    assert record.params["url"] == "https://ann:***@host/x"
    assert record.tags["where"] == "https://ann:***@host/x"
    assert (record.params["flag"], record.params["nothing"]) == ("true", "null")


def test_more_values_than_a_call_takes_all_arrive(store: Store) -> None:
    writer = create_run(store, "vae", None, {})
    writer.metrics([("x", float(step), 1_790_000_000_000, step) for step in range(2500)])
    assert len(history(store, writer.run_id)) == 2500


def test_delete_and_restore_lose_nothing(store: Store) -> None:
    writer = create_run(store, "vae", None, {})
    writer.metrics([("x", 1.0, 1_790_000_000_000, 0)])
    delete_run(store, writer.run_id)
    assert len(runs_table(store)) == 0
    assert len(runs_table(store, deleted=True)) == 1
    restore_run(store, writer.run_id)
    assert len(history(store, writer.run_id)) == 1


def test_a_reopened_run_is_running(store: Store) -> None:
    writer = create_run(store, "vae", None, {})
    writer.finish("KILLED")
    reopen_run(store, writer.run_id)
    assert read_run(store, writer.run_id).status == "RUNNING"


def test_secrets_are_hidden_by_their_key_and_numbers_are_not(store: Store) -> None:
    writer = create_run(store, "secrets", None, {"my_secret": "s3cr3t"})
    writer.params({"model.api_key": "hunter2x9", "model.eos_token": 50256, "max_token": 1024})
    writer.tags({"hf_token": "hunter2x9", "purpose": "paper"})
    record = read_run(store, writer.run_id)
    assert record.params == {"model.api_key": "***", "model.eos_token": "50256", "max_token": "1024"}
    assert [record.tags[key] for key in ("my_secret", "hf_token", "purpose")] == ["***", "***", "paper"]


def test_a_text_that_is_redacted_already_stays_as_it_is(store: Store) -> None:
    writer = create_run(store, "secrets", None, {})
    writer.text("config.yaml", "password: 1234", is_redacted=True)
    writer.text("note.txt", "password: 1234")
    assert [(writer.folder / name).read_text() for name in ("config.yaml", "note.txt")] == [
        "password: 1234",
        "password: ***",
    ]


def test_a_place_that_takes_no_folder_is_refused() -> None:
    with pytest.raises(ConfigError, match="store /proc/x/y: /proc takes no new folder; choose another"):
        open_store(locate("/proc/x/y"))
