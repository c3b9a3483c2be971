"""Processes that train together: they end at the same step, fail together, and leave nobody behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from experiments.cli import main
from experiments.config import resolve
from experiments.errors import ConfigError
from experiments.failure import refuse_other_settings
from experiments.group import Group, join
from experiments.resume import load_checkpoint, steps_done
from experiments.store.location import Store
from experiments.store.read import RunRecord, find_run, history, read_run, runs_table
from experiments.trainer import TrainerOptions
from tests.processes import wait_for
from tests.ranks import Pair

NET = f"{Path(__file__).parent / 'rank_net.py'}:RankNet"
OUTSIDE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_NTASKS", "SLURM_PROCID", "TORCHELASTIC_RUN_ID", "MASTER_PORT")
pytestmark = pytest.mark.xdist_group("signals")  # one worker: each that starts processes imports everything once


def words(store: Store, folder: Path, *more: str, epochs: int = 60) -> list[str]:
    """Of a run of two processes, five steps an epoch."""
    data = ["--data.batch_size", "128", "--trainer.limit_train_batches", "5", "--trainer.limit_val_batches", "2"]
    where = ["--trainer.devices", "2", "--trainer.accelerator", "cpu", "--threads", "1", "--store", str(store.folder)]
    own = ["--model.diary", str(folder / "diary.txt"), "--trainer.max_epochs", str(epochs)]
    return ["run", NET, *data, *where, *own, *more]


def last(store: Store) -> RunRecord:
    """The newest run."""
    return read_run(store, find_run(store, "last"))


def saved(record: RunRecord) -> int:
    """Steps in the run's checkpoint."""
    return steps_done(load_checkpoint(record.folder / "checkpoints" / "last.ckpt"))


def assert_traceback(record: RunRecord, error: str) -> None:
    assert record.status == "FAILED"
    assert error in (record.folder / "traceback.txt").read_text()


def test_a_signal_to_one_process_ends_both_at_one_step_with_everything_kept(store: Store, tmp_path: Path) -> None:
    pair = Pair(words(store, tmp_path), tmp_path / "first")
    wait_for(tmp_path / "diary.txt", "0 train 1 2")
    pair.send(1, signal.SIGTERM)
    assert pair.statuses() == [143, 143]
    record = last(store)
    done = saved(record)
    assert (record.status, record.tags["taolu.processes"]) == ("KILLED", "2")
    assert history(store, record.run_id, ["train/loss"])["step"].tolist() == list(range(done))
    assert (f"KILLED {record.name}" in pair.said[0], pair.said[1]) == (True, "")


def test_a_process_that_fails_ends_the_run_with_its_traceback(store: Store, tmp_path: Path) -> None:
    pair = Pair(words(store, tmp_path, "--model.fault", "raise 1 train 1 3"), tmp_path)
    assert pair.statuses() == [1, 1]
    assert_traceback(last(store), "ArithmeticError: bad luck")
    assert "failed: rank 1: ArithmeticError: bad luck" in pair.said[0]
    assert pair.said[1] == ""


def test_a_process_that_is_killed_ends_the_run_within_ten_seconds(store: Store, tmp_path: Path) -> None:
    pair = Pair(words(store, tmp_path, "--model.fault", "9 1 train 1 3"), tmp_path)
    wait_for(tmp_path / "diary.txt", "1 train 1 3")
    began = time.monotonic()
    pair.processes[0].join(60)
    assert time.monotonic() - began < 10
    assert pair.statuses() == [1, -9]
    assert_traceback(last(store), "another process of the run is gone, and left no word")


def test_tasks_of_slurm_are_one_run_that_is_preempted_goes_on_and_is_finished(store: Store, tmp_path: Path) -> None:
    command = words(store, tmp_path, "--id", "job 7", epochs=4)
    first = Pair([*command, "--model.pause", ".1"], tmp_path / "1", slurm=True)
    wait_for(tmp_path / "diary.txt", "0 train 1 1")
    first.send(0, signal.SIGUSR1)
    first.send(1, signal.SIGUSR1)
    assert first.statuses() == [75, 75]
    assert last(store).tags["taolu.preempted"].startswith('{"signal": "SIGUSR1", "step":')
    assert Pair([*command, "--model.pause", ".1"], tmp_path / "2", slurm=True).statuses() == [0, 0]
    finished = Pair([*command, "--model.pause", ".1"], tmp_path / "3", slurm=True)
    assert finished.statuses() == [0, 0]
    assert "is finished; look: taolu show" in finished.said[0]
    assert [run["status"] for run in runs_table(store).to_dict("records")] == ["FINISHED"]


@pytest.mark.slow
def test_processes_that_lightning_starts_end_with_rank_zero(store: Store, tmp_path: Path) -> None:
    with (tmp_path / "said.txt").open("w") as said:
        command = [sys.executable, "-m", "experiments", *words(store, tmp_path, "--id", "a")]
        process = subprocess.Popen(command, stdout=said, stderr=said, env=alone())
        wait_for(tmp_path / "diary.txt", "1 train 1 2", 120)
        others = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        assert process.wait(60) == 75
    assert psutil.wait_procs(others, timeout=10)[1] == []
    assert last(store).status == "KILLED"
    assert "Traceback" not in (tmp_path / "said.txt").read_text()


def alone() -> dict[str, str]:
    """The environment of a process that nobody else started."""
    return {key: value for key, value in os.environ.items() if key not in OUTSIDE}


@pytest.mark.parametrize(
    ("variables", "options", "found"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "3"}, TrainerOptions(), Group()),
        ({}, TrainerOptions(devices=2, accelerator="cpu"), Group(0, 2, 2)),
        (
            {"LOCAL_RANK": "0", "WORLD_SIZE": "3"},
            TrainerOptions(devices=2, accelerator="cpu"),
            "trainer.devices 2 x num_nodes 1 = 2 processes, but 3 were started; give --trainer.devices 3",
        ),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, TrainerOptions(accelerator="cpu"), "give --trainer.devices 2"),
        ({}, TrainerOptions(num_nodes=2, accelerator="cpu"), "trainer.num_nodes = 2: somebody must start the proces"),
    ],
    ids=["tasks of a sweep", "Lightning starts them", "too many", "devices forgotten", "two machines"],
)
def test_a_process_knows_who_it_trains_with(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], options: TrainerOptions, found: Group | str
) -> None:
    for name in OUTSIDE:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    try:
        got: Group | str = join(options)
    except ConfigError as error:
        got = str(error)
    assert got == found or (isinstance(found, str) and found in str(got))


def test_a_process_that_was_given_other_settings_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(resolve("vae").to_yaml())
    monkeypatch.setenv("RANK", "1")
    refuse_other_settings(resolve("vae"), tmp_path)
    with pytest.raises(ConfigError, match="seed = 3 on rank 1, 0 on rank zero; give both the same command"):
        refuse_other_settings(resolve("vae", ["--seed", "3"]), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["0 train 1 2", "0 validation 1 0"])
@pytest.mark.parametrize(
    ("to", "signum", "status"),
    [((0, 1), signal.SIGINT, 130), ((0, 1), signal.SIGTERM, 143), ((0,), signal.SIGTERM, 143)],
)
def test_a_signal_leaves_an_exact_checkpoint_wherever_it_comes(
    store: Store, tmp_path: Path, place: str, to: tuple[int, ...], signum: int, status: int
) -> None:
    pair = Pair(words(store, tmp_path), tmp_path)
    wait_for(tmp_path / "diary.txt", place)
    for rank in to:
        pair.send(rank, signum)
    assert pair.statuses() == [status, status]
    record = last(store)
    assert record.status == "KILLED"
    assert history(store, record.run_id, ["train/loss"])["step"].tolist() == list(range(saved(record)))
    assert "Traceback" not in "".join(pair.said)


@pytest.mark.slow
def test_resume_goes_on_with_both_processes(store: Store, tmp_path: Path) -> None:
    assert Pair(words(store, tmp_path, epochs=1), tmp_path / "first").statuses() == [0, 0]
    more = ["resume", "last", "--trainer.max_epochs", "3", "--store", str(store.folder)]
    assert Pair(more, tmp_path / "second").statuses() == [0, 0]
    assert history(store, last(store).run_id, ["train/loss"])["step"].tolist() == list(range(15))
    assert len(runs_table(store)) == 1


@pytest.mark.slow
def test_a_failure_of_rank_zero_ends_the_others_without_a_word(store: Store, tmp_path: Path) -> None:
    pair = Pair(words(store, tmp_path, "--model.fault", "raise 0 train 1 3"), tmp_path)
    assert pair.statuses() == [1, 1]
    assert_traceback(last(store), "ArithmeticError: bad luck")
    assert pair.said[1] == ""


@pytest.mark.slow
def test_a_run_whose_rank_zero_was_killed_is_reaped(store: Store, tmp_path: Path) -> None:
    pair = Pair(words(store, tmp_path, "--model.fault", "9 0 train 1 3"), tmp_path)
    assert pair.statuses() == [-9, 1]
    assert pair.said[1] == ""
    assert last(store).status == "RUNNING"
    main(["runs", "--reap", "--store", str(store.folder)])
    assert last(store).status == "FAILED"


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_processes_that_lightning_starts_do_not_outlive_one_that_is_killed(
    store: Store, tmp_path: Path, lost: int
) -> None:
    command = [sys.executable, "-m", "experiments", *words(store, tmp_path)]
    with (tmp_path / "said.txt").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=alone())
        wait_for(tmp_path / "diary.txt", "1 train 1 2", 120)
        others = psutil.Process(process.pid).children(recursive=True)
        child = next(each for each in others if "run" in each.cmdline())
        (child if lost else process).kill()
        assert process.wait(30) == (1 if lost else -9)
    assert psutil.wait_procs(others, timeout=15)[1] == []
    text = (tmp_path / "said.txt").read_text()
    assert "Traceback" not in text
    assert ("failed: rank 1 ended with status -9 (killed by the system" in text) == bool(lost)


@pytest.mark.slow
def test_the_time_of_a_run_is_over_for_all_at_one_step(store: Store, tmp_path: Path) -> None:
    assert Pair(words(store, tmp_path, "--trainer.max_time", "1"), tmp_path).statuses() == [0, 0]
    record = last(store)
    assert record.status == "FINISHED"
    assert history(store, record.run_id, ["train/loss"])["step"].tolist() == list(range(saved(record)))


@pytest.mark.slow
def test_torchrun_starts_one_run(store: Store, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, "-m", "experiments", *words(store, tmp_path, "--id", "a", epochs=2)]
    for _ in range(2):
        done = subprocess.run(command, env=alone(), capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
    assert "is finished; look: taolu show" in done.stdout
    assert [run["status"] for run in runs_table(store).to_dict("records")] == ["FINISHED"]


@pytest.mark.slow
def test_a_failure_under_torchrun_is_the_runs(store: Store, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, "-m", "experiments", *words(store, tmp_path, "--model.fault", "raise 1 train 1 3")]
    assert subprocess.run(command, env=alone(), capture_output=True, timeout=200).returncode == 1
    assert_traceback(last(store), "ArithmeticError: bad luck")


@pytest.mark.slow
def test_stop_ends_a_run_of_two_processes_of_a_worker(store: Store, tmp_path: Path) -> None:
    here = ["--store", str(store.folder)]
    assert main(["queue", "add", *words(store, tmp_path)[1:]]) == 0
    command = [sys.executable, "-m", "experiments", "worker", "--once", *here]
    with (tmp_path / "worker.txt").open("w") as said:
        worker = subprocess.Popen(command, stdout=said, stderr=said, env=alone())
        wait_for(tmp_path / "diary.txt", "1 train 1 2", 120)
        assert main(["stop", "last", *here]) == 0
        assert worker.wait(60) == 1
    assert last(store).status == "KILLED"
