"""What is recorded arrives: whatever ends the process, whatever the database does. Real processes, signals, locks."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import time
from contextlib import closing
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from experiments.cli import main
from experiments.logger import GATHER_STEPS, Logger
from experiments.store.location import Store, locate
from experiments.store.read import find_run, history, read_run, runs_table
from experiments.store.replay import reap, replay
from experiments.store.spool import spool_folder
from tests.logging_script import train, write_for, write_points
from tests.processes import fork, wait_for

pytestmark = pytest.mark.xdist_group("processes")


class Script:
    """The script training in a process of its own."""

    def __init__(self, store: Store, folder: Path, steps: int = 400, pause: float = 0.005, fail_at: int = -1) -> None:
        self.store = store
        self.diary = folder / "diary.txt"
        self.process: BaseProcess = fork(train, str(store.folder), str(self.diary), steps, pause, fail_at)

    def send(self, signum: int, at: int) -> None:
        wait_for(self.diary, str(at))
        assert self.process.pid is not None
        os.kill(self.process.pid, signum)

    def end(self) -> None:
        self.process.join(120)
        assert self.process.exitcode is not None

    @property
    def steps(self) -> int:
        """Steps that returned from training_step, as the diary has them."""
        return len(self.diary.read_text().splitlines())

    def recorded(self, key: str = "train/step") -> list[int]:
        return [int(step) for step in history(self.store, find_run(self.store, "last"), [key])["step"]]

    def status(self) -> str:
        return read_run(self.store, find_run(self.store, "last")).status


def test_a_script_with_our_three_lines_is_recorded_whole(store: Store, tmp_path: Path) -> None:
    script = Script(store, tmp_path, steps=230, pause=0.0)
    script.end()
    assert script.recorded() == list(range(230))
    assert script.recorded("train/odd") == list(range(230))
    assert script.status() == "FINISHED"
    assert list(spool_folder(store).glob("*.jsonl")) == []


def test_an_exception_loses_no_step_before_it(store: Store, tmp_path: Path) -> None:
    script = Script(store, tmp_path, pause=0.0, fail_at=100)
    script.end()
    assert script.recorded() == list(range(100))
    assert script.status() == "FAILED"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_loses_no_step_before_it(store: Store, tmp_path: Path, signum: int) -> None:
    script = Script(store, tmp_path)
    script.send(signum, at=120)
    script.end()
    assert script.steps - 1 <= len(script.recorded()) <= script.steps  # the step under way may not have ended
    assert script.recorded() == list(range(len(script.recorded())))
    assert script.status() == "KILLED"


def test_kill_loses_at_most_the_steps_not_yet_gathered_and_a_replay_twice_is_a_replay_once(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Script(store, tmp_path)
    script.send(signal.SIGKILL, at=180)
    script.end()
    (spool,) = spool_folder(store).glob("*.jsonl")
    content = spool.read_bytes()
    assert main(["runs", "--reap", "--store", str(store.folder)]) == 0
    said = capsys.readouterr().err
    assert "values of a killed process delivered" in said
    assert "FAILED: its process is gone" in said
    recorded = script.recorded()
    assert recorded == list(range(len(recorded)))
    assert script.steps - GATHER_STEPS <= len(recorded) <= script.steps
    assert script.status() == "FAILED"
    assert list(spool_folder(store).glob("*.jsonl")) == []
    spool.write_bytes(content)
    replay(store)
    client = MlflowClient(store.url)
    rows = client.get_metric_history(find_run(store, "last"), "train/step")
    assert len(rows) == len({row.step for row in rows})


def test_a_locked_database_delays_and_loses_nothing(store: Store, tmp_path: Path) -> None:
    script = Script(store, tmp_path, steps=600)
    wait_for(script.diary, "50")
    with closing(sqlite3.connect(store.folder / "mlflow.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        before = script.steps
        time.sleep(5)
        assert script.steps > before + 20  # the training went on
        connection.rollback()
    script.end()
    assert script.recorded() == list(range(600))
    assert script.status() == "FINISHED"


def away(store: Store, script: Script, seconds: float) -> None:
    database = store.folder / "mlflow.db"
    for name in ("mlflow.db", "mlflow.db-wal", "mlflow.db-shm"):
        if (store.folder / name).exists():
            (store.folder / name).rename(store.folder / f"away-{name}")
    time.sleep(seconds)
    assert script.process.is_alive()
    assert not database.exists()  # nobody made an empty one in its place
    for path in store.folder.glob("away-*"):
        path.rename(store.folder / path.name.removeprefix("away-"))


@pytest.mark.parametrize("seconds", [1.5, pytest.param(20, marks=pytest.mark.slow)])
def test_a_database_that_goes_away_gets_everything_when_it_is_back(
    store: Store, tmp_path: Path, seconds: float
) -> None:
    script = Script(store, tmp_path, steps=int(200 * (seconds + 2)))
    wait_for(script.diary, "50")
    away(store, script, seconds)
    script.end()
    assert script.recorded() == list(range(int(200 * (seconds + 2))))
    assert script.status() == "FINISHED"


def test_eight_processes_that_start_together_on_no_store_record_everything(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "mlruns"
    processes = [fork(write_points, str(folder), 1000) for _ in range(8)]
    for process in processes:
        process.join(180)
    store = locate(str(folder))
    table = runs_table(store)
    assert [process.exitcode for process in processes] == [0] * 8
    assert len(table) == 8
    assert set(table["status"]) == {"FINISHED"}
    assert [len(history(store, run_id)) for run_id in table["run_id"]] == [1000] * 8
    with closing(sqlite3.connect(store.folder / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.slow
def test_a_thousand_values_a_second_for_a_minute_arrive_in_flat_memory(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "memory.txt"
    process = fork(write_for, str(store.folder), 60.0, 1000, str(out))
    process.join(180)
    memory = [int(line) for line in out.read_text().splitlines()]
    points = int(Path(f"{out}.points").read_text())
    assert len(history(store, find_run(store, "last"), ["x"])) == points >= 50_000
    assert max(memory[10:]) - memory[10] < 20e6


def record(store: Store, metrics: dict[str, float], step: int = 0) -> str:
    logger = Logger("values", store=str(store.folder))
    logger.log_metrics(metrics, step)
    logger.finish("FINISHED")
    assert logger.close()
    assert logger.version is not None
    return logger.version


def test_numbers_that_are_not_finite_come_back_as_they_were(store: Store) -> None:
    values = {"nan": math.nan, "inf": math.inf, "minus": -math.inf, "largest": 1e300}
    run_id = record(store, values, step=7)
    record_read = read_run(store, run_id)
    assert math.isnan(record_read.metrics.pop("nan"))
    assert record_read.metrics == {"inf": math.inf, "minus": -math.inf, "largest": 1e300}
    assert record_read.tags["taolu.first_nonfinite_step"] == "7"


@pytest.mark.parametrize(
    "name", ["验证/ppl", "a@b", "loss%", "a:b", "a//b", "../up", "/top", "📉", "Ω = 2π", "tab\tin", "x" * 240]
)
def test_any_name_comes_back_as_it_was(store: Store, name: str) -> None:
    run_id = record(store, {name: 1.5})
    assert read_run(store, run_id).metrics == {name: 1.5}
    assert history(store, run_id, [name])["value"].tolist() == [1.5]


def test_a_vector_is_refused_by_name(store: Store) -> None:
    logger = Logger("values", store=str(store.folder))
    with pytest.raises(ValueError, match=r"metric 'rows' is of shape \(3,\): only single numbers are recorded"):
        logger.log_metrics({"rows": torch.zeros(3)})  # type: ignore[dict-item]
    logger.close()


def test_a_long_parameter_is_kept_whole_beside_its_digest(store: Store) -> None:
    logger = Logger("values", store=str(store.folder))
    logger.log_hyperparams({"prompt": "长" * 7000, "lr": 0.1})
    logger.log_metrics({"lr": 0.2})
    logger.close()
    record_read = read_run(store, str(logger.version))
    assert record_read.params["prompt"].startswith("7000 characters in params/prompt.txt, sha256 ")
    assert (record_read.folder / "params" / "prompt.txt").read_text() == "长" * 7000
    assert (record_read.params["lr"], record_read.metrics["lr"]) == ("0.1", 0.2)


def test_epoch_is_written_when_it_changes(store: Store) -> None:
    logger = Logger("values", store=str(store.folder))
    for step in range(6):
        logger.log_metrics({"x": 1.0, "epoch": step // 3}, step)
    logger.close()
    assert history(store, str(logger.version), ["epoch"])["step"].tolist() == [0, 3]


def test_a_full_disk_of_the_spool_is_said_and_tagged_and_stops_nothing(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = Logger("values", store=str(store.folder))
    assert logger.experiment is not None
    os.close(logger._delivery.spool._file.fileno())  # the file system took it away
    full = os.open("/dev/full", os.O_WRONLY)
    assert full == logger._delivery.spool._file.fileno()
    logger._delivery._last_beat = 0.0
    for step in range(10):
        logger.log_metrics({"x": float(step)}, step)
    logger.flush()
    assert "cannot be written" in capfd.readouterr().err
    assert len(history(store, str(logger.version), ["x"])) == 10
    logger.close()


def test_a_run_of_a_dead_process_is_failed_and_one_elsewhere_is_stale(store: Store) -> None:
    here = MlflowClient(store.url)
    experiment = here.create_experiment("dead", artifact_location=str(store.artifacts))
    gone = '{"time": 1.0, "host": "%s", "pid": 999999, "pid_start": 1.0, "step": 3, "total_steps": 9}'
    mine = here.create_run(experiment, tags={"taolu.heartbeat": gone % os.uname().nodename}).info.run_id
    other = here.create_run(experiment, tags={"taolu.heartbeat": gone % "another-host"}).info.run_id
    assert {(dead.run_id, dead.reaped) for dead in reap(store)} == {(mine, True), (other, False)}
    assert read_run(store, mine).status == "FAILED"
    assert read_run(store, other).status == "RUNNING"
