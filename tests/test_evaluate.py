"""An evaluation: the numbers of the run's own validation for the same state, or those on other data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import taolu
from experiments.cli import main
from experiments.config import resolve
from experiments.errors import ConfigError
from experiments.evaluate import evaluate
from experiments.fork import fork
from experiments.load import load
from experiments.run import Result, run
from experiments.store.location import Store, locate
from experiments.store.read import find_run, history, read_run, runs_table
from lightning_modules.data.digits import Digits
from tests.conftest import Writer
from tests.dropout_net import DropoutNet

HERE = Path(__file__).parent
DROPOUT = "dropout_net:DropoutNet"
SETTINGS = {"data.batch_size": 256, "trainer.max_epochs": 3, "trainer.quality_every": 99, "threads": 1}
MADE: dict[tuple[Any, ...], Result] = {}
pytestmark = pytest.mark.xdist_group("evaluate")  # one store, one extractor, one run of each kind


@pytest.fixture(scope="module")
def store(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One for all tests here, which share models; users' modules lie beside it, outside of this repository."""
    folder = tmp_path_factory.mktemp("evaluate") / "mlruns"
    folder.mkdir()
    shutil.copy(template_database, folder / "mlflow.db")
    for name in ("dropout_net", "broken_net"):
        shutil.copy(HERE / f"{name}.py", folder.parent)
    return locate(str(folder))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside this repository, whose files may change while the tests run."""
    monkeypatch.chdir(tmp_path)


def start(store: Store, options: dict[str, Any] | None = None, target: str = "vae") -> Result:
    """A run, made once."""
    key = (store.url, target, *sorted((options or {}).items()))
    if key not in MADE:
        place, colon, name = target.partition(":")
        spec = f"{store.folder.parent / place}.py:{name}" if colon else target
        MADE[key] = run(resolve(spec, overrides={**SETTINGS, **(options or {})}), store=store)
        assert (MADE[key].status, MADE[key].error) == ("FINISHED", "")
    return MADE[key]


def validated(store: Store, result: Result) -> dict[str, dict[int, float]]:
    """Every validation quantity by step."""
    table = history(store, result.run_id)
    found: dict[str, dict[int, float]] = {}
    for key, step, value in zip(table["key"], table["step"], table["value"], strict=True):
        if key.startswith("val/"):
            found.setdefault(key, {})[step] = value
    return found


def images(folder: Path, name: str = "other.npz", size: int = 8, n: int = 60, classes: int = 10) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (n, size, size), dtype=np.uint8)
    np.savez(folder / name, x_train=pixels, y_train=np.arange(n) % classes)
    return str(folder / name)


@pytest.mark.parametrize("target", ["vae", "classifier", DROPOUT])
def test_the_last_checkpoint_gives_the_numbers_of_the_runs_last_validation(store: Store, target: str) -> None:
    parent = start(store, {}, target)
    child = evaluate(parent.run_id, checkpoint="last", store=store)
    last = {key: {14: series[14]} for key, series in validated(store, parent).items()}
    assert validated(store, child) == last


def test_the_best_checkpoint_gives_the_numbers_of_the_best_validation(store: Store) -> None:
    parent = start(store, {"optimizer.lr": 0.5, "trainer.max_epochs": 4})
    curve = validated(store, parent)["val/elbo"]
    step = max(curve, key=curve.__getitem__)
    assert validated(store, evaluate(parent.run_id, store=store))["val/elbo"] == {step: curve[step]}


def test_an_evaluation_is_a_run_of_its_own_beside_its_model(store: Store) -> None:
    parent = start(store, {"trainer.max_epochs": 1})
    before = read_run(store, parent.run_id), sorted(parent.folder.rglob("*"))
    child = evaluate(parent.run_id, checkpoint="last", metrics=["val/kl"], store=store)
    record = read_run(store, child.run_id)
    assert (record.kind, record.experiment, record.status) == ("evaluation", "vae", "FINISHED")
    assert record.tags["taolu.parent"] == parent.run_id
    assert json.loads(record.tags["taolu.evaluation"]) == {"checkpoint": "last", "step": 4, "metrics": ["val/kl"]}
    assert [key for key in record.metrics if not key.startswith("time/")] == ["val/kl"]
    assert json.loads((child.folder / "metrics.json").read_text(encoding="utf-8")) == {
        "parent": parent.run_id,
        "checkpoint": "last",
        "step": 4,
        "metrics": {"val/kl": record.metrics["val/kl"]},
    }
    assert before == (read_run(store, parent.run_id), sorted(parent.folder.rglob("*")))
    assert find_run(store, "last") != child.run_id


def test_other_data_of_the_models_shape_give_other_numbers(store: Store, tmp_path: Path) -> None:
    parent = start(store, {"trainer.max_epochs": 1})
    options = ["--data", "images", "--data.path", images(tmp_path), "--data.batch_size", "10"]
    child = evaluate(parent.run_id, options, store=store)
    assert child.status == "FINISHED"
    assert child.metrics["val/elbo"] < parent.metrics["val/elbo"]  # noise is no digits
    params, digest = read_run(store, child.run_id).params, read_run(store, child.run_id).tags["taolu.data_digest"]
    assert (params["data"], params["model.latent_dim"]) == ("images", "2")
    assert digest != read_run(store, parent.run_id).tags["taolu.data_digest"]


def test_a_run_of_fit_is_evaluated_on_data_that_are_given(store: Store) -> None:
    parent = taolu.fit(
        DropoutNet(), Digits(batch_size=256), trainer={"max_epochs": 1}, threads=1, store=str(store.folder), say=print
    )
    with pytest.raises(ConfigError, match=r"taolu.fit, which alone has its data; give some: --data NAME, or in Python"):
        evaluate(parent.run_id, store=store)
    by_name = evaluate(parent.run_id, ["--data", "digits", "--data.batch_size", "256"], store=store)
    by_object = taolu.evaluate(parent.run_id, data=Digits(batch_size=256), store=str(store.folder), say=print)
    assert by_name.metrics["val/loss"] == by_object.metrics["val/loss"] == parent.metrics["val/loss"]


def test_a_run_that_has_no_model_is_refused_by_its_kind(writer: Writer) -> None:
    parent = writer.run("model")
    for kind, message in {
        "sweep": "is a sweep, whose trials have the models: name one of those",
        "evaluation": f"is an evaluation of run {parent[:8]}, which has the model: name {parent[:8]}",
        "claim": "is of kind claim and has no model; name a run, as in last:vae",
    }.items():
        writer.run(kind, tags={"taolu.kind": kind, "taolu.parent": parent})
        for verb in (evaluate, fork, load):
            with pytest.raises(ConfigError, match=message):
                verb(kind, store=writer.store)


def test_a_validation_that_raises_is_a_failed_run(store: Store, tmp_path: Path) -> None:
    text = (HERE / "dropout_net.py").read_text(encoding="utf-8")
    (tmp_path / "net.py").write_text(text, encoding="utf-8")
    settings = {**SETTINGS, "trainer.max_epochs": 1}
    parent = run(resolve(f"{tmp_path / 'net.py'}:DropoutNet", overrides=settings), store=store)
    (tmp_path / "net.py").write_text(text.replace("torch.rand(3)", "raise KeyError('lost')"), encoding="utf-8")
    child = evaluate(parent.run_id, store=store)
    assert (child.status, child.exit_status, child.error) == ("FAILED", 1, "KeyError: 'lost'")
    assert "traceback.txt" in child.artifacts


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        ([], {"metrics": ["val/ebo"]}, r"unknown metric 'val/ebo' \(did you mean 'val/elbo'\?\); allowed: val/active"),
        ([], {"checkpoint": "bset"}, "checkpoint 'bset': must be best or last"),
        (
            ["--trainer.max_epochs", "9"],
            {},
            "trainer.max_epochs: 1 in the run, now 9; an evaluation may have other data",
        ),
        (["--model.beta", "2"], {}, "unknown option '--model.beta'"),
        (["--data", "digit"], {}, "did you mean 'digits'"),
        (["--trainer.limit_val_batches", "0"], {}, "nothing to evaluate"),
        ([], {"data": 3}, "data: int is no loader to validate on"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_a_line_and_nothing_is_written(
    store: Store, options: list[str], more: dict[str, Any], message: str
) -> None:
    parent = start(store, {"trainer.max_epochs": 1})
    before = len(runs_table(store))
    with pytest.raises(ConfigError, match=message) as caught:
        evaluate(parent.run_id, options, store=store, **more)
    assert "\n" not in str(caught.value)
    assert len(runs_table(store)) == before


@pytest.mark.parametrize(
    ("target", "size", "classes", "message"),
    [
        ("vae", 12, 10, "data: its shape is 1x12x12, and the model of run [0-9a-f]{8} takes 1x8x8"),
        ("classifier", 8, 12, "data: it has 12 classes, and the model of run [0-9a-f]{8} tells 10"),
        (
            DROPOUT,
            12,
            10,
            r"data: the model does not take it \(RuntimeError: mat1 and mat2 shapes cannot be multiplied",
        ),
    ],
)
def test_data_the_model_does_not_take_are_refused(
    store: Store, tmp_path: Path, target: str, size: int, classes: int, message: str
) -> None:
    parent = start(store, {"trainer.max_epochs": 1}, target)
    options = ["--data", "images", "--data.path", images(tmp_path, size=size, classes=classes)]
    before = len(runs_table(store))
    with pytest.raises(ConfigError, match=message):
        evaluate(parent.run_id, [*options, "--data.validation_fraction", "0.5", "--data.batch_size", "10"], store=store)
    assert len(runs_table(store)) == before


def test_a_model_without_a_validation_cannot_be_evaluated(store: Store) -> None:
    parent = start(store, {"trainer.max_epochs": 1}, "broken_net:Counting")
    with pytest.raises(ConfigError, match="Counting has no validation_step to evaluate with"):
        evaluate(parent.run_id, store=store)


def test_the_command_evaluates_and_prints_one_object(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    parent = start(store, {"trainer.max_epochs": 1})
    words = ["evaluate", parent.run_id[:8], "--store", str(store.folder)]
    assert main([*words, "--checkpoint", "last", "--metrics", "val/elbo,val/kl", "--name", "again", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (printed["name"], printed["kind"], printed["status"]) == ("again", "evaluation", "FINISHED")
    assert printed["metrics"]["val/elbo"] == parent.metrics["val/elbo"]
    assert "metrics.json" in printed["artifacts"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate"], "name the run first, as in: taolu evaluate last"),
        (["evaluate", "RUN", "--metrics", "val/klo"], "did you mean 'val/kl'"),
        (["evaluate", "RUN", "--checkpoint", "newest"], "checkpoint 'newest': must be best or last"),
        (["evaluate", "RUN", "more"], "unexpected word 'more'"),
    ],
)
def test_bad_input_of_the_command_costs_a_line_and_exit_status_2(
    store: Store, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace("RUN", start(store, {"trainer.max_epochs": 1}).run_id) for word in words]
    before = len(runs_table(store))
    assert main([*words, "--store", str(store.folder)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert len(runs_table(store)) == before
