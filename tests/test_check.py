"""`taolu check`: what it finds, what it warns of, and whether the next run bears it out."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import taolu
from experiments.check import Report, check
from experiments.cli import main
from experiments.completion import complete
from experiments.config import experiment_names, resolve
from experiments.predictions import digest, has_diverged, keep, kept
from experiments.resume import resume
from experiments.run import run
from experiments.store.location import Store, locate
from experiments.store.read import read_run, runs_table
from tests.gpt2.small import inputs

HERE = Path(__file__).parent
BROKEN = HERE / "broken_net.py"
NET = f"{HERE / 'dropout_net.py'}:DropoutNet"


def checked(store: Store, target: str, **options: Any) -> Report:
    return check(resolve(target, overrides={key.replace("__", "."): value for key, value in options.items()}), store)


def tag(store: Store, run_id: str, name: str) -> Any:
    return json.loads(read_run(store, run_id).tags.get(name, "null"))


# ---- what is foretold -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lr", "is_too_large"), [(5.0, True), (0.2, False)])
def test_a_too_large_lr_is_warned_of_and_the_run_says_whether_rightly(
    store: Store, lr: float, is_too_large: bool
) -> None:
    config = resolve("classifier", overrides={"optimizer.lr": lr, "trainer.max_epochs": 4, "threads": 1})
    report = check(config, store)
    assert any(warning.startswith("lr 5 > 2/lambda_max = 3.") for warning in report.warnings) == is_too_large
    assert (report.error, report.exit_status, report.warned) == ("", 0, is_too_large)
    assert len(runs_table(store)) == 0
    again = {"optimizer.lr": lr, "trainer.max_epochs": 4, "threads": 1, "seed": 1}
    result = run(resolve("classifier", overrides=again), store=store)
    found = {"warned": is_too_large, "diverged": is_too_large, "right": True}
    assert tag(store, result.run_id, "taolu.check") == found


def test_the_limit_is_that_of_the_optimizer(store: Store) -> None:
    report = checked(store, "classifier", optimizer="momentum", optimizer__lr=0.01, optimizer__beta=0.9)
    assert report.measured["limit"] * report.measured["lambda_max"] == pytest.approx(2 * (1 + 0.9))
    assert report.warnings == ()


def test_a_batch_far_beyond_the_noise_scale_is_a_waste_but_no_danger(store: Store) -> None:
    report = checked(store, "classifier", data__batch_size=1400, trainer__max_epochs=20)
    [warning] = report.warnings
    assert warning.startswith("batch 1400 is ")
    assert "x the noise scale (" in warning
    assert not report.warned


def test_an_adaptive_optimizer_has_no_limit_but_a_loss_that_breaks(store: Store) -> None:
    report = checked(store, "vae", optimizer__lr=1.0)
    assert [warning[:13] for warning in report.warnings] == ["train/loss is"]
    assert report.warned
    assert any("no limit of lr follows" in note for note in report.notes)


def test_a_module_without_per_sample_loss_is_checked_without_measuring(store: Store) -> None:
    report = checked(store, NET, trainer__max_epochs=2)
    assert report.notes == ("lambda_max and gradient noise are not measured: DropoutNet has no per_sample_loss(batch)",)
    assert (report.warnings, report.error) == ((), "")
    assert "2 steps, a validation" in report.passed


def test_what_no_store_can_keep_is_found_out_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    report = checked(locate(str(tmp_path / "file")), NET, trainer__max_steps=3)
    assert "file: cannot be written, and no run will say whether this was right" in report.notes[-1]
    assert report.exit_status == 0


STOPPING = """import signal

from lightning_modules.classifier import Classifier


class Net(Classifier):
    def training_step(self, batch, batch_idx):
        if self.current_epoch == 1:
            signal.raise_signal(signal.SIGTERM)
        return super().training_step(batch, batch_idx)
"""


def test_a_run_that_was_stopped_says_at_its_end_whether_the_warning_was_right(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(STOPPING, encoding="utf-8")
    config = resolve(f"{file}:Net", overrides={"data.batch_size": 256, "trainer.max_epochs": 3})
    keep(store, config, "check", {"warned": True})
    keep(store, config, "forecast", {"seconds": 1.0})
    stopped = run(config, store=store)
    assert (stopped.status, tag(store, stopped.run_id, "taolu.check")) == ("KILLED", None)
    file.write_text(STOPPING.replace("signal.raise_signal(signal.SIGTERM)", "pass"), encoding="utf-8")
    resume(stopped.run_id, store=store)
    assert tag(store, stopped.run_id, "taolu.check") == {"warned": True, "diverged": False, "right": False}
    assert tag(store, stopped.run_id, "taolu.forecast") is None  # of one session's time


@pytest.mark.parametrize("name", ["Fresh", "EpochEnd"])
def test_modules_that_optimise_by_hand_are_checked(store: Store, name: str) -> None:
    assert (checked(store, f"{BROKEN}:{name}").error, checked(store, f"{BROKEN}:{name}").warnings) == ("", ())


def test_accumulated_steps_and_no_validation_are_taken_as_they_are(store: Store) -> None:
    report = checked(
        store, "classifier", trainer__accumulate_grad_batches=4, trainer__limit_val_batches=0, trainer__max_steps=12
    )
    assert report.passed[1] == "2 steps"
    assert report.measured["steps"] == 14
    assert report.measured["batch"] == 128


# ---- what fails -----------------------------------------------------------------------------------------------------


def test_a_step_that_raises_is_told_with_its_place_and_status_1(store: Store) -> None:
    report = checked(store, f"{BROKEN}:Vector")
    assert report.exit_status == 1
    assert "training_step returned 'rows' as a tensor of shape (3,)" in report.error
    later = checked(store, f"{BROKEN}:Raising")  # beyond the two steps, in the second of training
    assert later.error.startswith(f"{BROKEN}:")
    assert "RuntimeError: the fourth batch is cursed" in later.error
    assert not (store.folder / "checks").exists()


def test_a_checkpoint_that_cannot_be_rebuilt_is_told(store: Store, tmp_path: Path) -> None:
    text = (HERE / "dropout_net.py").read_text(encoding="utf-8")
    text = text.replace("self.lr = lr", "self.lr = lr\n        self.save_hyperparameters({'width': width + 1})")
    (tmp_path / "wider.py").write_text(text, encoding="utf-8")
    report = checked(store, f"{tmp_path / 'wider.py'}:DropoutNet")
    assert report.error.startswith("reload: Error(s) in loading state_dict for DropoutNet: size mismatch")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "name the experiment first: taolu check classifier|"),
        ("--json", "name the experiment first"),
        ("clasifier", "unknown experiment 'clasifier' (did you mean 'classifier'?)"),
        ("classifier extra", "unexpected word 'extra'"),
        ("classifier --optimizer.lr 0", "optimizer.lr = 0.0: must be greater than 0"),
        ("classifier --sotre x", "unknown option '--sotre' (did you mean '--store'?)"),
        ("classifier --data.batch_size 100000", "larger than the 1437 training images"),
    ],
)
def test_bad_input_costs_one_line_and_writes_nothing(
    store: Store, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    before = sorted(store.folder.rglob("*"))
    assert main(["check", *line.split(), *(["--store", str(store.folder)] if line else [])]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), message in err) == ("", 1, True)
    assert sorted(store.folder.rglob("*")) == before


# ---- what stays -----------------------------------------------------------------------------------------------------


def test_the_command_shows_warnings_with_status_0_and_leaves_one_file(
    store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    words = ["check", "classifier", "--optimizer.lr", "9", "--trainer.max_epochs", "3", "--store", str(store.folder)]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["warned"] is True
    assert found["measured"]["lr"] == 9.0
    assert main(words) == 0
    assert "warning  lr 9 > 2/lambda_max" in capsys.readouterr().out
    assert len(list((store.folder / "checks").iterdir())) == 1
    assert [path for path in tmp_path.iterdir() if path.name.startswith("taolu-")] == []


def test_python_and_the_shell_know_the_verbs(store: Store) -> None:
    assert taolu.check("classifier", store=str(store.folder), **{"trainer.max_steps": 3}).measured["steps"] == 5
    assert complete(["check", "cl"]) == complete(["find", "cl"]) == ["classifier"]


def test_seed_and_threads_are_no_part_of_what_is_foretold_of(store: Store) -> None:
    config = resolve("vae")
    same = resolve("vae", overrides={"seed": 3}).with_threads(2)
    other = resolve("vae", overrides={"optimizer.lr": 0.1})
    assert digest(config) == digest(same) != digest(other)
    assert keep(store, config, "check", {"warned": True})
    assert keep(store, config, "forecast", {"seconds": 2.0})
    assert kept(store, same) == {"check": {"warned": True}, "forecast": {"seconds": 2.0}}
    assert kept(store, other) == {}


@pytest.mark.parametrize(
    ("losses", "is_wrong"),
    [
        ([2.3, 8.0, *[2.32, 2.29] * 20], True),  # killed by a step: back at chance
        ([2.3, 8.0, *[0.5, 0.6] * 20], False),  # a catapult
        ([2.3, 2.4, 2.2] * 20, False),  # noise, learning nothing
        ([2.3 - 0.001 * i for i in range(50)], False),
        ([2.0 * 1.5**i for i in range(50)], True),
        ([2.3, math.inf, 1.0], True),
        ([2.3, 9.0], False),  # too short to tell
        ([], False),
    ],
)
def test_divergence_is_a_rise_out_of_the_noise_that_stays(losses: list[float], is_wrong: bool) -> None:
    assert has_diverged(losses) == is_wrong


@pytest.mark.slow
@pytest.mark.parametrize("name", experiment_names())
def test_a_shipped_config_is_checked_within_ten_cpu_seconds_and_sound(name: str, tmp_path: Path) -> None:
    before = os.times()
    given = [f"--{key}={json.dumps(value)}" for key, value in inputs(name, tmp_path).items()]
    command = [sys.executable, "-m", "experiments", "check", name, "--store", str(tmp_path / "mlruns"), *given]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system <= 10
    assert done.stdout.splitlines()[-1] == f"{name}: nothing against it"
