"""Workers on a queue: real processes, killed and told to end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments.queue import add, listed
from experiments.run import Label
from experiments.store.location import Store
from experiments.store.read import read_run, runs_table
from experiments.worker import Place, places
from tests.processes import start, wait_for

NET = f"{Path(__file__).parent / 'sweep_net.py'}:SweepNet"
HELD = f"{Path(__file__).parent / 'held_net.py'}:HeldNet"
LONG = ["--trainer.max_epochs", "1000", "--model.pause", "0.05"]
TINY = ["--data.batch_size", "512", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]
processes = pytest.mark.xdist_group("signals")  # one worker: each that starts processes imports everything once


def fill(store: Store, count: int, *words: str, target: str = NET) -> None:
    for number in range(count):
        add(target, [*TINY, *words, "--model.lr", str((number + 1) / 100)], store=store, label=Label())


class Worker:
    """`taolu worker` in a process of its own."""

    def __init__(self, store: Store, output: Path, *words: str) -> None:
        self.output = output
        self.process = start(["worker", *(words or ("--once", "--workers", "1")), "--store", str(store.folder)], output)

    def send(self, signum: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signum)

    def status(self) -> int | None:
        self.process.join(500)
        return self.process.exitcode


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What is found as soon as something is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise TimeoutError


def running(store: Store) -> list[dict[str, Any]]:
    return [row for row in listed(store, 50) if row["state"] == "running" and row["run_id"]]


def states(store: Store) -> list[str]:
    return [row["state"] for row in listed(store, 50)]


def finished(store: Store) -> list[str]:
    """The learning rates of finished runs, by which their items are told apart."""
    table = runs_table(store)
    done = table[table["status"] == "FINISHED"]
    return sorted(done["params.model.lr"], key=float) if len(done) else []


def rates(count: int) -> list[str]:
    return [str((number + 1) / 100) for number in range(count)]


@processes
def test_what_is_taken_by_a_killed_worker_is_run_by_another_and_nothing_twice(store: Store, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    fill(store, 4, "--model.hold", str(hold), target=HELD)
    first = Worker(store, tmp_path / "first")
    wait_for(hold.with_suffix(".diary"), "held")
    [row] = running(store)
    first.send(signal.SIGKILL)
    os.kill(row["pid"], signal.SIGKILL)
    first.process.join()
    hold.unlink()
    second = Worker(store, tmp_path / "second", "--once", "--workers", "2")
    assert second.status() == 0, second.output.read_text()
    assert "its process had died; it waits again" in second.output.read_text()
    assert states(store) == ["done"] * 4
    assert finished(store) == rates(4)
    assert read_run(store, row["run_id"]).status == "FAILED"
    assert listed(store, 50)[0]["runs"][0] == row["run_id"]


@processes
def test_a_run_that_dies_takes_no_worker_with_it(store: Store, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    fill(store, 2, "--model.hold", str(hold), target=HELD)
    worker = Worker(store, tmp_path / "output")
    wait_for(hold.with_suffix(".diary"), "held")
    os.kill(running(store)[0]["pid"], signal.SIGKILL)
    hold.unlink()
    assert worker.status() == 0, worker.output.read_text()
    assert finished(store) == rates(2)
    assert len(runs_table(store)) == 3


@processes
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_and_its_item_waits_again(store: Store, tmp_path: Path, signum: int, status: int) -> None:
    fill(store, 1, *LONG, "--model.diary", str(tmp_path / "diary"))
    worker = Worker(store, tmp_path / "output", "--workers", "1")
    wait_for(tmp_path / "diary", "epoch 0")
    worker.send(signum)
    assert worker.status() == status, worker.output.read_text()
    assert states(store) == ["waiting"]
    assert runs_table(store)["status"].tolist() == ["KILLED"]


@processes
def test_what_fails_or_is_refused_does_not_keep_the_worker_from_the_rest(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    fill(store, 1)
    monkeypatch.chdir(tmp_path)
    gone.rmdir()
    fill(store, 1, "--model.what", "raise")
    add(NET, [*TINY, "--model.lr", "0.5"], store=store, label=Label("mine", {"for": "test"}, "α"))
    worker = Worker(store, tmp_path / "output")
    assert worker.status() == 1
    assert states(store) == ["failed", "failed", "done"]
    absent, failed, done = listed(store, 50)
    assert absent["error"].startswith("FileNotFoundError")
    assert failed["error"] == "ValueError: as told"
    record = read_run(store, done["run_id"])
    assert (record.name, record.tags["for"], record.note) == ("mine", "test", "α")
    assert (record.params["threads"], record.tags["taolu.config"]) == ("1", "sweep_net")
    assert "--model.lr 0.5" in (record.folder / "command.txt").read_text()
    assert "FINISHED mine" in (record.folder / "console.log").read_text()


@processes
def test_stop_ends_the_run_and_its_item_and_the_worker_goes_on(store: Store, tmp_path: Path) -> None:
    fill(store, 1, *LONG, "--model.diary", str(tmp_path / "diary"))
    add(NET, [*TINY, "--model.lr", "0.5"], store=store, label=Label())
    worker = Worker(store, tmp_path / "output")
    wait_for(tmp_path / "diary", "epoch 0")
    [row] = running(store)
    stopping = start(["stop", row["run_id"], "--store", str(store.folder)], tmp_path / "stopped")
    stopping.join(60)
    assert stopping.exitcode == 0
    assert (
        f"run {row['run_id'][:8]} sweep_net-{row['run_id'][:4]} KILLED; go on: taolu resume"
        in (tmp_path / "stopped").read_text()
    )
    assert worker.status() == 1
    assert [(row["state"], row["error"]) for row in listed(store, 50)] == [("failed", "stopped"), ("done", "")]


@processes
def test_a_worker_waits_for_what_is_queued_later(store: Store, tmp_path: Path) -> None:
    worker = Worker(store, tmp_path / "output", "--workers", "1")
    until(lambda: "works on the queue" in worker.output.read_text() if worker.output.exists() else False)
    fill(store, 1)
    until(lambda: finished(store))
    worker.send(signal.SIGTERM)
    assert worker.status() == 143
    assert states(store) == ["done"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@processes
def test_two_workers_drain_twenty_items_though_one_is_killed(store: Store, tmp_path: Path) -> None:
    fill(store, 20, "--model.pause", "0.2")
    workers = [Worker(store, tmp_path / str(number)) for number in range(2)]
    until(lambda: len(finished(store)) >= 4)
    workers[0].send(signal.SIGKILL)
    for row in running(store)[:1]:
        os.kill(row["pid"], signal.SIGKILL)
    assert workers[1].status() == 0, workers[1].output.read_text()
    late = Worker(store, tmp_path / "late")  # whatever was taken in the moment the other one ended
    assert late.status() == 0
    assert states(store).count("done") == 20
    assert finished(store) == rates(20)
    table = runs_table(store)
    assert set(table["status"]) <= {"FINISHED", "FAILED", "KILLED"}


@pytest.mark.parametrize(
    ("devices", "workers", "found"),
    [(None, None, [Place()]), (None, 2, [Place(threads=1)] * 2)],
)
def test_places(devices: str | None, workers: int | None, found: Sequence[Place]) -> None:
    assert places(devices, workers) == found
