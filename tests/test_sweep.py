"""Sweeps as commands: real processes, stores and signals."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from experiments.store.location import Store
from experiments.store.read import histories, runs_table
from experiments.store.studies import StudyRecord, find_study, latest, read_study
from tests.processes import start, wait_for

NET = f"{Path(__file__).parent / 'sweep_net.py'}:SweepNet"
SMALL = ["--data.batch_size", "512", "--trainer.max_epochs", "2"]
pytestmark = pytest.mark.xdist_group("signals")  # one worker: each that starts processes imports everything once


class Sweep:
    """`taolu sweep` of the module in a process of its own."""

    def __init__(self, store: Store, output: Path, *arguments: str, target: str = NET, name: str = "mine") -> None:
        self.output = output
        where = ["--store", str(store.folder), "--name", name]
        self.process = start(["sweep", target, *arguments, *where], output)

    def status(self) -> int | None:
        self.process.join(120)
        return self.process.exitcode

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.output.read_text().splitlines()[-1])
        return found


def trials(store: Store, name: str = "mine") -> Any:
    table = runs_table(store, kinds=("trial",))
    return table[table["tags.taolu.study"] == name]


def ends(study: StudyRecord) -> list[tuple[str, str]]:
    return [(trial.state, trial.end) for trial in study.trials]


def test_a_grid_is_tried_whole_and_goes_on_over_more_seeds_and_a_wider_space(store: Store, tmp_path: Path) -> None:
    grid = ["--grid", "model.lr=.1,.3", "--grid", "model.betas=[0,0],[.5,.5]"]
    first = Sweep(store, tmp_path / "first", *SMALL, *grid, "--workers", "2", "--json")
    assert first.status() == 0, first.output.read_text()
    found = first.json()
    assert (found["status"], found["complete"], found["trials"]["done"]) == ("FINISHED", True, 4)
    assert found["best"]["point"]["model.lr"] == 0.3
    runs, parent = trials(store), found["run_id"]
    assert set(runs["status"]) == {"FINISHED"}
    assert set(runs["tags.taolu.trial"]) == {"0", "1", "2", "3"}
    assert set(runs["experiment"]) == {"mine"}
    losses = histories(store, list(runs["run_id"]), ["train/loss"])
    assert losses[losses["step"] == 0]["value"].nunique() == 1  # equal weights and batches: the cells are paired
    folder = store.run_folder(parent)
    assert {"sweep.yaml", "env.json", "command.txt"} <= {path.name for path in folder.iterdir()}
    assert (store.run_folder(runs["run_id"].iloc[0]) / "env.json").samefile(folder / "env.json")
    kept = [run for run in runs["run_id"] if (store.run_folder(run) / "checkpoints").exists()]
    assert kept == found["best"]["run_ids"]

    again = Sweep(store, tmp_path / "again", *SMALL, *grid)
    assert again.status() == 2
    assert "study 'mine' exists, with 4 trials done; go on with --resume" in again.output.read_text()
    other = Sweep(store, tmp_path / "other", *SMALL, "--grid", "model.lr=.1,.5", *grid[2:], "--resume")
    assert other.status() == 2
    assert "differs: model.lr: [0.3] no longer in it" in other.output.read_text()

    wider = ["--grid", "model.lr=.1,.3", "--grid", "model.betas=[0,0],[.5,.5],[.9,.9]", "--seeds", "2"]
    more = Sweep(store, tmp_path / "more", *SMALL, *wider, "--resume", "--json", "--workers", "2")
    assert more.status() == 0, more.output.read_text()
    assert more.json()["run_id"] == parent
    study = find_study(store, "mine")
    assert len(study.trials) == len(trials(store)) == 2 * 3 * 2
    assert ends(study) == [("COMPLETE", "complete")] * 12
    assert read_study(store, "mine (being extended)") is None


def test_what_raised_is_tried_once_more_and_what_diverged_is_a_result(store: Store, tmp_path: Path) -> None:
    arguments = [*SMALL, "--grid", "model.what=diverge,raise,train"]
    assert Sweep(store, tmp_path / "0", *arguments).status() == 1
    study = find_study(store, "mine")
    assert ends(study) == [("COMPLETE", "diverged"), ("FAIL", "error"), ("COMPLETE", "complete")]
    assert study.trials[0].values == (float("inf"),)
    assert study.trials[1].error == "ValueError: as told"
    for attempt in ("1", "2"):
        assert Sweep(store, tmp_path / attempt, *arguments, "--resume").status() == 1
        study = find_study(store, "mine")
        assert ends(study)[3:] == [("FAIL", "error")]
        assert study.trials[3].retry_of == 1
    assert len(latest(study.trials)) == 3
    assert "trial 3 (model.what raise" in (tmp_path / "2").read_text()


def test_a_killed_worker_costs_nothing_but_time(store: Store, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    options = ["--data.batch_size", "512", "--trainer.max_epochs", "3", "--model.pause", "0.3"]
    sweep = Sweep(store, tmp_path / "0", *options, "--model.diary", str(diary), "--grid", "model.lr=.1,.2", "--json")
    wait_for(diary, "epoch 1")
    running = next(trial for trial in find_study(store, "mine").trials if trial.state == "RUNNING")
    os.kill(running.owner["pid"], signal.SIGKILL)
    assert sweep.status() == 0, sweep.output.read_text()
    study = find_study(store, "mine")
    assert ends(study) == [("FAIL", "killed"), ("COMPLETE", "complete"), ("COMPLETE", "complete")]
    assert sorted(trials(store)["status"]) == ["FAILED", "FINISHED", "FINISHED"]
    assert {trial.retry_of for trial in study.trials} == {None, 0}
    assert sweep.json()["trials"] == {"done": 2, "failed": 0, "running": 0}


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_sweep_that_can_be_gone_on_with(store: Store, tmp_path: Path, signum: int, status: int) -> None:
    diary = tmp_path / "diary"
    n_epochs = "2" if signum == signal.SIGINT else "20"  # gone on with to the end, or not
    arguments = ["--data.batch_size", "512", "--model.pause", "0.6", "--model.diary", str(diary)]
    arguments += ["--trainer.max_epochs", n_epochs, "--grid", "model.lr=.1,.2"]
    sweep = Sweep(store, tmp_path / "0", *arguments)
    wait_for(diary, "epoch 1")
    assert sweep.process.pid is not None
    os.kill(sweep.process.pid, signum)
    assert sweep.status() == status
    assert ends(find_study(store, "mine")) == [("FAIL", "stopped")]
    assert "KILLED" in list(trials(store)["status"])
    assert runs_table(store, kinds=("sweep",))["status"].tolist() == ["KILLED"]
    if signum == signal.SIGINT:
        assert Sweep(store, tmp_path / "1", *arguments, "--resume").status() == 0
        states = [trial.state for trial in latest(find_study(store, "mine").trials)]
        assert states == ["COMPLETE", "COMPLETE"]


def test_workers_end_with_a_killed_sweep_and_it_can_be_gone_on_with(store: Store, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    arguments = ["--data.batch_size", "512", "--model.pause", "0.2", "--model.diary", str(diary)]
    arguments += ["--trainer.max_epochs", "2", "--grid", "model.lr=.1,.2"]
    sweep = Sweep(store, tmp_path / "0", *arguments)
    wait_for(diary, "epoch 1")
    assert sweep.process.pid is not None
    os.kill(sweep.process.pid, signal.SIGKILL)
    for _ in range(200):
        if trials(store)["status"].tolist() == ["KILLED"]:
            break
        time.sleep(0.1)
    assert ends(find_study(store, "mine")) == [("FAIL", "stopped")]
    assert Sweep(store, tmp_path / "1", *arguments, "--resume").status() == 0


def test_a_sampler_and_a_pruner_of_optuna_and_more_trials_later(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"experiment: {NET}\n"
        "settings: {data.batch_size: 512, trainer.max_epochs: 4, seed: 3}\n"
        "space: {model.lr: {low: 0.0001, high: 1, log: true}}\n"
        "sampler: random\npruner: {class: median, n_startup_trials: 1, n_warmup_steps: 0}\nn_trials: 4\n"
    )
    assert Sweep(store, tmp_path / "0", target=str(file)).status() == 0
    assert len(find_study(store, "mine").trials) == 4
    assert Sweep(store, tmp_path / "1", "--resume", "--n_trials", "6", "--workers", "2", target=str(file)).status() == 0
    study = find_study(store, "mine")
    assert len({trial.params["model.lr"] for trial in study.trials}) == len(study.trials) == 6
    assert {trial.end for trial in study.trials} == {"complete", "pruned"}
    pruned = trials(store).query("`tags.taolu.trial_end` == 'pruned'")
    assert set(pruned["status"]) == {"FINISHED"}
    shown = Sweep(store, tmp_path / "shown", "--show", target="mine")
    assert shown.status() == 0
    assert "optuna-dashboard sqlite:///" in shown.output.read_text()


def test_time_is_kept_and_seeds_are_averaged(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"experiment: {NET}\nsettings: {{data.batch_size: 512, trainer.max_epochs: 2}}\n"
        "space: {model.lr: [0.1, 0.2]}\nsampler: random\nrepeats: 2\nn_trials: 1\n"
        "objectives:\n- {metric: val/loss, reduce: best}\n"
        "- {metric: train/lr, direction: max, reduce: mean_last_k, k: 2}\n"
    )
    assert Sweep(store, tmp_path / "0", target=str(file)).status() == 0
    (trial,) = find_study(store, "mine").trials
    runs = trials(store)
    assert sorted(runs["params.seed"]) == ["0", "1"]
    lowest = histories(store, list(runs["run_id"]), ["val/loss"]).groupby("run_id")["value"].min()
    assert trial.values == pytest.approx((lowest.mean(), trial.params["model.lr"]))

    options = ["--data.batch_size", "512", "--trainer.max_epochs", "50", "--model.pause", "0.1"]
    limits = ["--trial_timeout", "1", "--timeout", "1", "--sampler", "tpe"]
    slow = Sweep(store, tmp_path / "1", *options, "--grid", "model.lr=.1,.2", *limits, name="slow")
    assert slow.status() == 0, slow.output.read_text()
    (trial,) = find_study(store, "slow").trials
    assert (trial.state, trial.end, len(trial.values)) == ("PRUNED", "timed out", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "model.lrr=.1"], "did you mean 'model.lr'?"),
        (["--grid", "model.lr=.1", "--sampler", "tpa"], "unknown sampler 'tpa' (did you mean 'tpe'?)"),
        (["--grid", "model.lr=.1", "--pruner", "medan"], "unknown pruner 'medan' (did you mean 'median'?)"),
        (["--grid", "model.lr=.1", "--workers", "-1"], "must be a whole number of at least 0"),
        (["--grid", "model.lr=.1", "--timeout", "-1"], "--timeout -1.0: must be greater than 0"),
    ],
)
def test_nothing_is_written_for_what_cannot_be_swept(
    store: Store, tmp_path: Path, arguments: list[str], message: str
) -> None:
    sweep = Sweep(store, tmp_path / "output", *SMALL, *arguments)
    assert sweep.status() == 2
    assert message in sweep.output.read_text().splitlines()[-1]
    assert not (store.folder / "optuna.db").exists()
    assert len(runs_table(store)) == 0


def test_an_objective_nobody_records_and_a_dry_run_write_nothing(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    text = f"experiment: {NET}\nsettings: {{trainer.max_epochs: 1}}\nspace: {{model.lr: [0.1, 0.2]}}\nsampler: grid\n"
    file.write_text(text + "objectives: {metric: val/lose, direction: min}\n")
    sweep = Sweep(store, tmp_path / "0", target=str(file))
    assert sweep.status() == 2
    assert "unknown metric 'val/lose' (did you mean 'val/loss'?)" in sweep.output.read_text()
    file.write_text(text)
    dry = Sweep(store, tmp_path / "1", "--dry_run", "--json", "--seeds", "3", target=str(file))
    assert dry.status() == 0
    assert dry.json()["planned"] == 6
    assert dry.json()["points"] == ["model.lr 0.1", "model.lr 0.2"]
    assert not (store.folder / "optuna.db").exists()
    assert len(runs_table(store)) == 0


def test_a_store_nobody_can_write_is_refused(tmp_path: Path) -> None:
    nowhere = Store("sqlite:////proc/nowhere/mlflow.db", Path("/proc/nowhere"))
    sweep = Sweep(nowhere, tmp_path / "output", *SMALL, "--grid", "model.lr=.1")
    assert sweep.status() == 2
    assert "takes no new folder" in sweep.output.read_text()
