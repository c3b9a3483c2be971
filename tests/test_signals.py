"""What a signal leaves behind: real processes, real signals."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.resume import load_checkpoint, steps_done
from experiments.store.location import Store
from experiments.store.read import find_run, history, read_run, runs_table
from tests.processes import start, wait_for

NET = f"{Path(__file__).parent / 'slow_net.py'}:SlowNet"
BATCHES = 5  # of 256 rows
pytestmark = pytest.mark.xdist_group("signals")  # one worker: each that starts processes imports everything once


class Command:
    """`taolu run` of the slow module in a process of its own."""

    def __init__(self, store: Store, folder: Path, linger: str = "") -> None:
        self.store = store
        self.diary = folder / "diary.txt"
        self.output = folder / "output.txt"
        options = ["--data.batch_size", "256", "--trainer.max_epochs", "40", "--threads", "1"]
        where = ["--model.diary", str(self.diary), "--model.linger", linger]
        self.process = start(["run", NET, *options, *where, "--store", str(store.folder)], self.output)

    def send(self, signum: int, at: str) -> None:
        wait_for(self.diary, at)
        assert self.process.pid is not None
        os.kill(self.process.pid, signum)

    def status(self) -> int | None:
        self.process.join(60)
        return self.process.exitcode


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_training_at_the_next_batch_with_everything_kept(
    store: Store, tmp_path: Path, signum: int, status: int
) -> None:
    command = Command(store, tmp_path)
    command.send(signum, at="train 1 2")
    assert command.status() == status
    record = read_run(store, find_run(store, "last"))
    done = steps_done(load_checkpoint(record.folder / "checkpoints" / "last.ckpt"))
    losses = history(store, record.run_id, ["train/loss"])
    assert record.status == "KILLED"
    assert BATCHES + 3 <= done <= BATCHES + 5
    assert losses["step"].tolist() == list(range(done))


def test_a_signal_inside_a_validation_ends_it_and_keeps_the_state_before_it(store: Store, tmp_path: Path) -> None:
    command = Command(store, tmp_path)
    command.send(signal.SIGTERM, at="validation 1 0")
    assert command.status() == 143
    record = read_run(store, find_run(store, "last"))
    assert record.status == "KILLED"
    assert steps_done(load_checkpoint(record.folder / "checkpoints" / "last.ckpt")) in (2 * BATCHES, 2 * BATCHES + 1)


def test_a_signal_before_the_fit_kills_the_run(store: Store, tmp_path: Path) -> None:
    command = Command(store, tmp_path, linger="setup")
    command.send(signal.SIGTERM, at="setup")
    assert command.status() == 143
    assert read_run(store, find_run(store, "last")).status == "KILLED"
    assert "train 0 0" not in command.diary.read_text()


def test_a_signal_before_there_is_a_run_leaves_none(store: Store, tmp_path: Path) -> None:
    command = Command(store, tmp_path, linger="init")
    command.send(signal.SIGINT, at="init")
    assert command.status() == 130
    assert len(runs_table(store)) == 0


def test_a_second_interrupt_ends_at_once(store: Store, tmp_path: Path) -> None:
    command = Command(store, tmp_path, linger="train 1 1")
    command.send(signal.SIGINT, at="train 1 1")
    wait_for(command.output, "ending at the next batch; Ctrl-C again ends at once")
    command.send(signal.SIGINT, at="train 1 1")
    command.process.join(10)
    assert command.process.exitcode == 130
    assert read_run(store, find_run(store, "last")).status == "KILLED"


def test_kill_during_a_save_leaves_the_previous_checkpoint(store: Store, tmp_path: Path) -> None:
    command = Command(store, tmp_path, linger="save 3")
    command.send(signal.SIGKILL, at="save 3")
    assert command.status() == -signal.SIGKILL
    run_id = find_run(store, "last")
    folder = store.run_folder(run_id) / "checkpoints"
    assert [path.name for path in folder.glob(".last.ckpt.*.part")] != []
    assert steps_done(load_checkpoint(folder / "last.ckpt")) == 2 * BATCHES
    arguments = ["resume", run_id, "--trainer.max_epochs", "41", "--store", str(store.folder)]
    resumed = start(arguments, tmp_path / "resumed.txt")
    wait_for(command.diary, "train 3 0")
    assert resumed.pid is not None
    os.kill(resumed.pid, signal.SIGTERM)
    resumed.join(60)
    assert resumed.exitcode == 143


def test_a_live_run_is_neither_resumed_nor_deleted(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command(store, tmp_path)
    wait_for(command.diary, "train 1 0")
    for verb in ("resume", "delete"):
        assert main([verb, "last", "--store", str(store.folder)]) == 2
        assert "is running (process" in capsys.readouterr().err
    command.send(signal.SIGTERM, at="train 1 0")
    assert command.status() == 143
