"""Stores behind a server: PostgreSQL and MLflow's own, real ones, started here."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.config import resolve
from experiments.logger import Logger
from experiments.resume import resume
from experiments.run import run
from experiments.store.location import Store, locate
from experiments.store.read import find_run, history, read_run, runs_table
from tests.logging_script import write_points
from tests.processes import fork

pytestmark = pytest.mark.xdist_group("processes")
PASSWORD = secrets.token_hex(8)
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin")) + [Path(p) for p in os.environ["PATH"].split(":")]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URL of an empty database on a PostgreSQL server of our own."""
    binaries = next((folder for folder in BINARIES if (folder / "postgres").exists()), None)
    if binaries is None:
        pytest.skip("no PostgreSQL server on this machine: apt-get install postgresql")
    psycopg = pytest.importorskip("psycopg", reason="no driver: pip install 'taolu[postgres]'")
    root = os.geteuid() == 0
    user = {"user": "postgres"} if root else {}  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="taolu-postgres-"))
    if root:
        shutil.chown(folder, "postgres")
    port, quiet = free_port(), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    data = [str(binaries / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", "taolu", "-E", "UTF8"]
    subprocess.run(data, check=True, cwd=folder, **quiet, **user)  # type: ignore[call-overload]
    command = [str(binaries / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-k", str(folder)]
    options = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    server = subprocess.Popen([*command, *options], cwd=folder, **quiet, **user)  # type: ignore[call-overload]
    try:
        for _ in range(200):
            try:
                with psycopg.connect(f"postgresql://taolu@127.0.0.1:{port}/postgres", autocommit=True) as connection:
                    connection.execute("CREATE DATABASE runs")
                break
            except psycopg.OperationalError:
                time.sleep(0.1)
        yield f"postgresql://taolu:{PASSWORD}@127.0.0.1:{port}/runs"
    finally:
        server.send_signal(signal.SIGINT)  # ends open connections; SIGTERM waits for them
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


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
    options = {"data.batch_size": 256, "trainer.max_epochs": 1, "trainer.quality_every": 9, "threads": 1}
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
