"""A run from its config to its end: what is in the store afterwards."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from experiments.cli import main
from experiments.config import resolve
from experiments.errors import ConfigError
from experiments.run import Label, Result, run
from experiments.store.location import Store, locate
from experiments.store.read import history, read_run, runs_table
from experiments.store.write import rehome

BROKEN = Path(__file__).parent / "broken_net.py"
UNJUDGED: dict[str, Any] = {"trainer.quality.metrics": []}
group = pytest.mark.xdist_group("finished run")  # which is trained once


def start(
    store: Store, options: dict[str, Any] | None = None, target: str = "vae", label: Label | None = None
) -> Result:
    settings = {"data.batch_size": 256, "trainer.max_epochs": 2, "threads": 1, **(options or {})}
    return run(resolve(target, overrides=settings), store=store, label=label)


def steps(store: Store, result: Result, key: str) -> list[int]:
    return [int(step) for step in history(store, result.run_id, [key])["step"]]


def values(store: Store, result: Result, key: str) -> list[float]:
    return [float(value) for value in history(store, result.run_id, [key])["value"]]


@pytest.fixture(scope="module")
def shared(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One store for the runs that are only looked at."""
    folder = tmp_path_factory.mktemp("finished") / "mlruns"
    folder.mkdir()
    shutil.copy(template_database, folder / "mlflow.db")
    return locate(str(folder))


@pytest.fixture(scope="module")
def finished(shared: Store) -> Result:
    """A finished run."""
    return start(shared, {}, label=Label("mine", {"purpose": "test"}, "a note"))


@group
def test_a_finished_run_has_everything_that_repeats_and_explains_it(shared: Store, finished: Result) -> None:
    store, result = shared, finished
    record = read_run(store, result.run_id)
    assert (record.status, record.name, record.note, record.kind) == ("FINISHED", "mine", "a note", "run")
    assert record.params["model.latent_dim"] == "2"
    assert record.tags["purpose"] == "test"
    assert len(record.tags["taolu.data_digest"]) == 64
    assert {"config.yaml", "command.txt", "env.json", "console.log", "latent.npz"} <= set(result.artifacts)
    assert {"checkpoints/last.ckpt", "checkpoints/best.ckpt", "media/samples/00000009.png"} <= set(result.artifacts)
    assert {"torch", "mlflow"} <= json.loads((record.folder / "env.json").read_text())["packages"].keys()
    assert (
        resolve(str(record.folder / "config.yaml")).values
        == resolve("vae", overrides={"data.batch_size": 256, "trainer.max_epochs": 2, "threads": 1}).values
    )


@group
def test_every_step_and_every_epoch_has_its_values(shared: Store, finished: Result) -> None:
    store, result = shared, finished
    assert steps(store, result, "train/loss") == list(range(10))
    assert steps(store, result, "val/elbo") == [4, 9]
    assert values(store, result, "epoch") == [0.0, 1.0]
    shares = [values(store, result, f"time/{part}_fraction") for part in ("data", "step", "validation", "logging")]
    assert np.allclose(np.sum(shares, axis=0), 1.0)


@group
def test_mlflow_reads_the_run_and_its_data(shared: Store, finished: Result) -> None:
    result = finished
    found = MlflowClient(shared.url).get_run(result.run_id)
    assert found.data.metrics["val/elbo"] == pytest.approx(result.metrics["val/elbo"])
    assert found.inputs is not None
    assert [item.dataset.name for item in found.inputs.dataset_inputs] == ["digits"]
    assert found.info.status == "FINISHED"


def test_validation_improves_in_every_epoch_of_the_shipped_config(store: Store) -> None:
    result = run(resolve("vae", overrides={"trainer.quality.metrics": []}), store=store)
    curve = values(store, result, "val/elbo")
    assert len(curve) == 20
    assert (np.diff(curve) > 0).all()


def test_a_failed_run_keeps_its_values_and_its_traceback(store: Store) -> None:
    result = start(store, {}, f"{BROKEN}:Raising")
    assert (result.status, result.exit_status) == ("FAILED", 1)
    assert read_run(store, result.run_id).status == "FAILED"
    assert "broken_net.py" in (result.folder / "traceback.txt").read_text()
    assert steps(store, result, "train/loss") == [0, 1, 2]


def test_a_quantity_that_is_no_single_number_is_refused_by_name(store: Store) -> None:
    result = start(store, {}, f"{BROKEN}:Vector")
    assert result.status == "FAILED"
    assert "training_step returned 'rows' as a tensor of shape (3,)" in result.error


def test_accumulated_batches_are_averaged_into_one_row(store: Store) -> None:
    result = start(store, {"trainer.accumulate_grad_batches": 2, "trainer.max_epochs": 1}, f"{BROKEN}:Counting")
    assert steps(store, result, "train/index") == [0, 1, 2]  # windows of 2, 2 and 1 batches
    assert values(store, result, "train/index") == [0.5, 2.5, 4.0]
    single = start(store, {"trainer.max_epochs": 1}, f"{BROKEN}:Counting")
    assert values(store, result, "train/loss")[0] == pytest.approx(values(store, single, "train/loss")[0], rel=0.2)


def test_a_module_that_logs_its_own_loss_keeps_it(store: Store) -> None:
    result = start(store, {}, f"{BROKEN}:Own")
    assert values(store, result, "train/loss") == [42.0] * 10


def test_the_step_axis_counts_batches_not_optimizer_steps(store: Store) -> None:
    result = start(store, {"trainer.max_steps": 7}, f"{BROKEN}:Fresh")
    assert steps(store, result, "train/loss") == list(range(7))


@group
def test_equal_seeds_give_equal_numbers_and_others_do_not(shared: Store, finished: Result) -> None:
    first, (again, other) = finished, (start(shared, {**UNJUDGED, "seed": seed}) for seed in (0, 1))
    assert values(shared, first, "train/loss") == values(shared, again, "train/loss")
    assert values(shared, first, "train/loss") != values(shared, other, "train/loss")


def test_no_secret_reaches_the_store(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    password, token, known = secrets.token_hex(6), f"t0ken-{secrets.token_hex(6)}", f"hf_{secrets.token_hex(10)}"
    project = tmp_path / "project"
    project.mkdir()
    git = ["git", "-C", str(project), "-c", "user.name=x", "-c", "user.email=x@y.z"]
    subprocess.run([*git, "init", "-q"], check=True)
    (project / "train.py").write_text("x = 1\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    (project / "train.py").write_text(f"url = 'postgresql://ann:{password}@db/x'\n")
    (project / "new.py").write_text(f"token = '{known}'\n")
    monkeypatch.chdir(project)
    words = ["taolu", "run", "vae", "--store", f"postgresql://ann:{password}@db/x", "--token", token]
    monkeypatch.setattr("sys.argv", words)
    result = start(
        store,
        {},
        f"{BROKEN}:Raising",
        Label(tags={"where": f"postgresql://ann:{password}@db/x"}, note=f"api_key={token}"),
    )
    assert "url = 'postgresql://ann:***@db/x'" in (result.folder / "git.patch").read_text()
    assert (result.folder / "untracked" / "new.py").exists()
    files = [path for path in store.folder.rglob("*") if path.is_file()]
    for secret in (password, token, known):
        assert [path for path in files if secret.encode() in path.read_bytes()] == []


def test_a_moved_store_opens_and_its_paths_are_mended(store: Store, tmp_path: Path) -> None:
    result = start(store, UNJUDGED)
    moved = tmp_path / "elsewhere" / "mlruns"
    moved.parent.mkdir()
    shutil.move(store.folder, moved)
    new = locate(str(moved))
    assert read_run(new, result.run_id).folder.is_dir()
    assert rehome(new) == 2  # the experiment and the run
    uri = MlflowClient(new.url).get_run(result.run_id).info.artifact_uri
    assert Path(uri) == new.run_folder(result.run_id)
    assert rehome(new) == 0


BAD = [
    ({"data.batch_size": 5000}, "data.batch_size = 5000"),
    ({"data.batch_size": 0}, "data.batch_size = 0"),
    ({"model.latent_dim": 0}, "model.latent_dim = 0"),
    ({"optimizer.lr": 0}, "optimizer.lr = 0"),
    ({"optimizer.lr": -1.0}, "optimizer.lr = -1.0"),
    ({"optimizer.lr": float("nan")}, "optimizer.lr = nan"),
    ({"data.pixels": "symmetric"}, "model.decoder = bernoulli"),
    ({"threads": 0}, "threads = 0"),
    ({"trainer.devices": "x"}, "devices x"),
    ({"trainer.strategy": "nosuch"}, "nosuch"),
    ({"trainer.accelerator": "tpu"}, "accelerator tpu"),
    ({"schedule": "cosine", "trainer.max_epochs": None, "trainer.max_time": "60"}, "schedule.steps"),
    ({"data": "images", "data.path": "nowhere.npz"}, "nowhere.npz"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_refused_and_leaves_no_run(store: Store, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        start(store, options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(runs_table(store)) == 0


def bad_images(folder: Path) -> dict[str, Path]:
    """Image files nobody can train on, by what is wrong with them."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (300, 8, 8), dtype=np.uint8), rng.integers(0, 3, 300)
    nan = (x / 255).astype(np.float32)
    nan[7, 1, 1] = np.nan
    sets: dict[str, np.ndarray] = {"NaN": nan, "every pixel": np.full_like(x, 7)}
    for name, pixels in sets.items():
        np.savez(folder / f"{name}.npz", x_train=pixels, y_train=y, x_test=pixels[:9], y_test=y[:9])
    whole = folder / "whole.npz"
    np.savez(whole, x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    (folder / "truncated.npz").write_bytes(whole.read_bytes()[:2000])
    return {**{name: folder / f"{name}.npz" for name in sets}, "truncated": folder / "truncated.npz"}


def test_bad_images_are_refused_and_leave_no_run(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for what, path in bad_images(tmp_path).items():
        words = ["run", "vae", "--data", "images", "--data.path", str(path), "--store", str(store.folder)]
        assert main(words) == 2
        error = capsys.readouterr().err
        assert [line for line in error.splitlines() if "dropped" not in line] == [error.splitlines()[-1]]
        assert what in error or str(path) in error
    assert len(runs_table(store)) == 0
