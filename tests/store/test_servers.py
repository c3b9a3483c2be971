"""Stores behind a server: PostgreSQL and MLflow's own, real ones, started here."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.arrival import import_package
from experiments.collect import collect
from experiments.config import resolve
from experiments.design import read_design
from experiments.errors import ConfigError
from experiments.logger import Logger
from experiments.move import export
from experiments.objectives import Objective
from experiments.resume import resume
from experiments.run import run
from experiments.store.location import Store, locate
from experiments.store.outage import patiently
from experiments.store.read import find_run, history, read_run, runs_table
from experiments.store.studies import find_study, study_url
from experiments.store.write import RunWriter, open_store
from experiments.sweep import Queue
from tests.conftest import Writer
from tests.logging_script import write_points
from tests.postgres import PASSWORD, free_port, served
from tests.processes import fork, start

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URL of an empty database on a PostgreSQL server of our own."""
    with served() as server:
        yield server.url


@pytest.fixture(scope="module")
def mlflow_server(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an MLflow server of our own."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(template_database, folder / "mlflow.db")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    where = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        [*command, *where], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def a_run_and_its_resumption_behave_as_in_a_folder(store: Store) -> str:
    options = {"data.batch_size": 256, "trainer.max_epochs": 1, "trainer.quality.metrics": [], "threads": 1}
    result = run(resolve("vae", overrides=options), store=store)
    resume(result.run_id, overrides={"trainer.max_epochs": 2}, store=store)
    record = read_run(store, find_run(store, "last:vae"))
    assert (record.run_id, record.status, record.name) == (result.run_id, "FINISHED", result.name)
    assert history(store, result.run_id, ["train/loss"])["step"].tolist() == list(range(10))
    assert record.params["model.latent_dim"] == "2"
    assert "resume.1" in record.tags
    return result.run_id


def test_postgresql_behaves_as_a_folder_does(postgres: str, tmp_path: Path) -> None:
    store = locate(postgres, str(tmp_path / "files"))
    processes = [fork(write_to, postgres, str(tmp_path / "files")) for _ in range(3)]  # on no schema yet
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [len(history(store, run_id)) for run_id in runs_table(store)["run_id"]] == [100] * 3
    run_id = a_run_and_its_resumption_behave_as_in_a_folder(store)
    assert (store.run_folder(run_id) / "checkpoints" / "last.ckpt").exists()
    files = [path.read_bytes() for path in store.folder.rglob("*") if path.is_file()]
    assert not any(PASSWORD.encode() in content for content in files)


def write_to(url: str, folder: str) -> None:
    logger = Logger("race", store=url, store_dir=folder)
    logger.record([("x", float(step), 1_790_000_000_000, step) for step in range(100)])
    logger.finish("FINISHED")
    logger.close()


def test_an_mlflow_server_behaves_as_a_folder_does(mlflow_server: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    store = locate(mlflow_server, str(tmp_path / "files"))
    run_id = a_run_and_its_resumption_behave_as_in_a_folder(store)
    names = {item.path for item in MlflowClient(mlflow_server).list_artifacts(run_id)}
    assert {"config.yaml", "checkpoints", "console.log"} <= names


def test_values_written_by_many_processes_through_a_server_all_arrive(mlflow_server: str) -> None:
    processes = [fork(write_points, mlflow_server, 500) for _ in range(2)]
    for process in processes:
        process.join(120)
    table = runs_table(locate(mlflow_server))
    race = table[table["experiment"] == "race"]
    assert len(race) == 2
    assert set(race["status"]) == {"FINISHED"}


def test_a_run_behind_a_server_moves_to_a_folder_with_the_files_only_the_server_has(
    mlflow_server: str, store: Store, tmp_path: Path
) -> None:
    logger = Logger("moving", store=mlflow_server, store_dir=str(tmp_path / "files"))
    server = locate(mlflow_server, str(tmp_path / "files"))
    logger.record([("x", value, 1_790_000_000_000, step) for step, value in enumerate([0.1, math.nan, math.inf])])
    run_id = find_run(server, "last:moving")
    (server.run_folder(run_id) / "notes.txt").write_text("some")
    logger.finish("FINISHED")
    logger.close()
    shutil.rmtree(server.artifacts)
    export(server, [run_id], tmp_path / "one.zip")
    assert import_package(tmp_path / "one.zip", store).runs == (run_id,)
    assert history(store, run_id).equals(history(server, run_id))
    moved, before = read_run(store, run_id), read_run(server, run_id)
    assert (moved.tags, moved.params, moved.started, moved.ended) == (
        before.tags, before.params, before.started, before.ended,
    )  # fmt: skip
    assert (moved.folder / "notes.txt").read_text() == "some"
    with pytest.raises(ConfigError, match="an MLflow server gives every run a new id; import where its database is"):
        import_package(tmp_path / "one.zip", server)


def test_a_sweep_keeps_its_study_in_a_second_database(postgres: str, tmp_path: Path) -> None:
    files, output = tmp_path / "files", tmp_path / "output"
    net = f"{Path(__file__).parents[1] / 'sweep_net.py'}:SweepNet"
    small = ["--data.batch_size", "512", "--trainer.max_epochs", "1", "--grid", "model.lr=.1,.3"]
    where = ["--store", postgres, "--store_dir", str(files), "--name", "served"]
    process = start(["sweep", net, *small, *where], output)
    process.join(120)
    assert process.exitcode == 0, output.read_text()
    store = locate(postgres, str(files))
    assert study_url(store).endswith("/runs_optuna")
    assert [trial.state for trial in find_study(store, "served").trials] == ["COMPLETE"] * 2
    assert not list(files.rglob("optuna.db"))
    assert not any(PASSWORD.encode() in path.read_bytes() for path in files.rglob("*") if path.is_file())


def test_whoever_lost_the_studys_lock_finds_out_and_takes_its_trial_again(postgres: str, tmp_path: Path) -> None:
    import psycopg
    from sqlalchemy.exc import DBAPIError

    design = read_design("vae", [], {"grid": ["optimizer.lr=.1,.2"], "name": "locked"})
    queue = Queue(
        locate(postgres, str(tmp_path / "files")), replace(design, objectives=(Objective("val/elbo", "max"),))
    )
    with queue.locked() as holds:
        holds()
        with psycopg.connect(postgres, autocommit=True) as connection:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'runs_optuna'"
            connection.execute(others)
        with pytest.raises(DBAPIError):
            holds()
    taken = [patiently(lambda: queue.take(None)) for _ in range(3)]
    assert [trial.point for trial in taken if trial] == [
        {"optimizer.lr": 0.1, "seed": 0},
        {"optimizer.lr": 0.2, "seed": 0},
    ]
    queue.release()


def test_a_server_that_does_not_answer_is_refused_in_one_line(tmp_path: Path) -> None:
    store = locate(f"postgresql://taolu:{PASSWORD}@127.0.0.1:{free_port()}/runs", str(tmp_path / "files"))
    with pytest.raises(ConfigError, match=r"cannot be opened .*Connection refused") as raised:
        find_study(store, "any")
    assert PASSWORD not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_gc_on_postgresql_removes_deleted_runs_for_good_and_nothing_else(postgres: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    store = locate(postgres, str(tmp_path / "files"))
    open_store(store)
    writer = Writer(store, MlflowClient(postgres))
    used, kept = writer.run("used"), writer.run("kept", metrics={"train/loss": [2.0, 1.0]})
    writer.run("fork", tags={"taolu.parent": used})
    gone = [writer.run(f"gone {i}", params={"p": "x"}, metrics={"m": [1.0] * 9}, tags={"t": "y"}) for i in range(3)]
    for run_id in (used, kept, *gone):
        RunWriter(store, run_id, writer.client).dataset("digits", run_id, "here", "{}")
        writer.file(run_id, "checkpoints/last.ckpt", bytes(5_000))
    for run_id in (used, *gone):
        writer.client.delete_run(run_id)
    before, curve = counts(postgres), history(store, kept)
    assert {table: rows for table, rows in before.items() if mentions(postgres, table, gone[0])}.keys() >= TABLES
    planned = collect(store, dry_run=True)
    assert counts(postgres) == before
    found = collect(store)
    assert found.file_bytes == planned.file_bytes == 15_000
    assert {each.run_id for each in found.waste} == {*gone}
    assert f"run {used[:8]} used: needed by run" in "\n".join(found.kept)
    assert not [table for table in before for run_id in gone if mentions(postgres, table, run_id)]
    assert before["runs"] - counts(postgres)["runs"] == 3
    assert before["metrics"] - counts(postgres)["metrics"] == 27
    assert history(store, kept).equals(curve)
    assert all(mentions(postgres, table, run_id) for table in ("runs", "inputs", "datasets") for run_id in (used, kept))
    assert sorted(path.name for path in store.artifacts.iterdir()) == sorted([used, kept])
    assert collect(store).waste == ()


TABLES = {"runs", "metrics", "latest_metrics", "params", "tags", "inputs", "datasets"}


def counts(url: str) -> dict[str, int]:
    """Rows of every table."""
    import psycopg

    with psycopg.connect(url) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone() for (name,) in names}
    return {name: row[0] for name, row in rows.items() if row}


def mentions(url: str, table: str, run_id: str) -> bool:
    """A row of the table holds the run's id."""
    import psycopg

    with psycopg.connect(url) as connection:
        row = connection.execute(f'SELECT EXISTS (SELECT FROM "{table}" t WHERE t::text LIKE %s)', [f"%{run_id}%"])
        return bool((row.fetchone() or [False])[0])
