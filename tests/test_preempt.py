"""`taolu run --id KEY`: the same command, given again, is the same run, whoever took the machine away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import taolu
from experiments.cli import main
from experiments.store.heartbeat import TAG
from experiments.store.location import Store
from experiments.store.read import RunRecord, find_run, history, read_run, runs_table
from experiments.store.write import open_store
from tests.processes import start, wait_for

NET = f"{Path(__file__).parent / 'slow_net.py'}:SlowNet"
SCRIPT = Path(__file__).parents[1] / "docs" / "slurm.sh"
pytestmark = pytest.mark.xdist_group("signals")  # one worker: each that starts processes imports everything once


def words(store: Store, folder: Path, *more: str, epochs: int = 40) -> list[str]:
    """Of a run with the id `job 7`; five steps an epoch."""
    own = ["--model.diary", str(folder / "diary.txt"), "--data.batch_size", "256", "--threads", "1"]
    length = ["--trainer.max_epochs", str(epochs)]
    return ["run", NET, *own, *length, "--id", "job 7", "--store", str(store.folder), *more]


def last(store: Store) -> RunRecord:
    """The newest run."""
    return read_run(store, find_run(store, "last"))


def test_a_preempted_run_goes_on_with_the_same_command_until_it_is_finished(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words(store, tmp_path, epochs=20)
    for n, (signum, place) in enumerate([(signal.SIGUSR1, "train 1 2"), (signal.SIGTERM, "train 4 0")], 1):
        process = start(command, tmp_path / f"{n}.txt")
        wait_for(tmp_path / "diary.txt", place)
        assert process.pid is not None
        os.kill(process.pid, signum)
        process.join(60)
        assert process.exitcode == 75
        record = last(store)
        assert record.status == "KILLED"
        assert json.loads(record.tags["taolu.preempted"])["signal"] == signum.name
    assert main(command) == main(command) == 0
    assert "is finished; look: taolu show" in capsys.readouterr().out
    assert [run["status"] for run in runs_table(store).to_dict("records")] == ["FINISHED"]
    assert history(store, record.run_id, ["train/loss"])["step"].tolist() == list(range(100))
    assert {"resume.1", "resume.2"} <= {*last(store).tags}


def test_of_two_equal_commands_at_once_one_runs_and_the_other_is_refused(store: Store, tmp_path: Path) -> None:
    command = words(store, tmp_path, epochs=3)
    both = [start(command, tmp_path / f"{n}.txt") for n in range(2)]
    for process in both:
        process.join(60)
    assert sorted(str(process.exitcode) for process in both) == ["0", "2"]
    said = "".join((tmp_path / f"{n}.txt").read_text() for n in range(2))
    assert "another process is starting this run just now" in said or "is running (process" in said
    assert len(runs_table(store)) == 1


def run(store: Store, tmp_path: Path, **more: Any) -> RunRecord:
    """One more call of the Python door, a run of 3 steps."""
    options = {"model.diary": str(tmp_path / "diary.txt"), "trainer.max_steps": 3, "threads": 1, **more}
    result = taolu.run(NET, id="job 7", store=store.url, say=silent, **options)
    return read_run(store, result.run_id)


def silent(line: str) -> None:
    """Says nothing."""


def test_the_python_door_returns_the_run_there_is_and_extends_it(store: Store, tmp_path: Path) -> None:
    first = run(store, tmp_path)
    again = run(store, tmp_path)
    longer = run(store, tmp_path, **{"trainer.max_steps": 5})
    assert first.run_id == again.run_id == longer.run_id
    assert "resume.1" not in again.tags
    assert json.loads(longer.tags["resume.1"])["changed"] == {"trainer.max_steps": [3, 5]}


def test_other_settings_under_the_same_id_are_refused_by_name(store: Store, tmp_path: Path) -> None:
    first = run(store, tmp_path)
    with pytest.raises(ValueError, match=f"--id job 7 is run {first.run_id[:8]}: seed: 0 in the run, now 1; "):
        run(store, tmp_path, seed=1)
    with pytest.raises(ValueError, match="--id job 7: is a run of experiment slow_net; give classifier another"):
        taolu.run("classifier", id="job 7", store=store.url, say=silent)


def test_a_run_that_had_no_checkpoint_passes_its_id_on(store: Store, tmp_path: Path) -> None:
    first = run(store, tmp_path)
    (first.folder / "checkpoints" / "last.ckpt").unlink()
    open_store(store).set_terminated(first.run_id, "KILLED")
    second = run(store, tmp_path)
    assert second.run_id != first.run_id
    assert (second.status, second.tags["taolu.id"]) == ("FINISHED", "job 7")
    assert "taolu.id" not in read_run(store, first.run_id).tags


def test_a_run_of_a_machine_that_fell_silent_goes_on_here(store: Store, tmp_path: Path) -> None:
    first = run(store, tmp_path)
    client = open_store(store)
    client.update_run(first.run_id, status="RUNNING")
    beat = {"host": "elsewhere", "pid": 1, "pid_start": 0.0, "time": time.time() - 58, "step": 2}
    client.set_tag(first.run_id, TAG, json.dumps(beat))
    again = run(store, tmp_path, **{"trainer.max_steps": 4})
    assert (again.run_id, again.status) == (first.run_id, "FINISHED")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--id", ""], "--id: needs a value"),
        (["--id", "x" * 251], "must be 1 to 250 characters, and no secret"),
        (["--needed"], "--id and --needed: give one"),
    ],
    ids=["empty", "long", "with --needed"],
)
def test_an_id_that_cannot_be_used_is_refused(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(words(store, tmp_path, *more)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("signum", "status", "requeued"),
    [(signal.SIGUSR1, 75, "requeue 7\n"), (signal.SIGTERM, 75, "requeue 7\n"), (None, 0, "")],
    ids=["USR1", "TERM", "finished"],
)
def test_the_script_for_slurm_passes_signals_on_and_requeues_what_was_preempted(
    tmp_path: Path, signum: int | None, status: int, requeued: str
) -> None:
    ends = "trap 'sleep .3; exit 75' USR1 TERM" if signum else ":"
    stays = "while :; do sleep .05; done" if signum else ":"
    fake(tmp_path / "srun", 'echo "$@" > srun.txt; while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"')
    fake(tmp_path / "taolu", f"{ends}; touch ready; {stays}")
    fake(tmp_path / "scontrol", 'echo "$@" >> requeued.txt')
    job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"}
    path = f"{tmp_path}:{os.environ['PATH']}"
    process = subprocess.Popen([SCRIPT, "vae", "--seed", "1"], cwd=tmp_path, env={**job, "PATH": path})
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    if signum is not None:
        process.send_signal(signum)
    assert process.wait(20) == status
    told = tmp_path / "requeued.txt"
    assert (told.read_text() if told.exists() else "") == requeued
    options = "--id slurm-7 --trainer.devices 2 --trainer.num_nodes 1"
    assert (tmp_path / "srun.txt").read_text().endswith(f"taolu run vae --seed 1 {options}\n")


def fake(path: Path, text: str) -> None:
    """A command of that name."""
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
