"""Exact resume: whatever stopped a run, going on gives the weights of a run that never stopped, to the bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.checkpoints import Checkpoints
from experiments.config import resolve
from experiments.errors import ConfigError
from experiments.resume import load_checkpoint, resume
from experiments.run import Result, run
from experiments.store.location import Store, locate
from experiments.store.read import history, read_run

NET = f"{Path(__file__).parent / 'dropout_net.py'}:DropoutNet"
BATCHES = 5  # of 256 rows in an epoch of digits
EPOCHS = 3


WHOLE: dict[str, tuple[Result, dict[tuple[str, int], float]]] = {}


def start(store: Store, options: dict[str, Any] | None = None, target: str = NET) -> Result:
    settings = {
        "data.batch_size": 256,
        "trainer.max_epochs": EPOCHS,
        "trainer.quality_every": 99,
        "trainer.quality.metrics": [],
        "threads": 1,
        **(options or {}),
    }
    return run(resolve(target, overrides=settings), store=store)


def go_on(store: Store, result: Result, options: dict[str, Any]) -> Result:
    return resume(result.run_id, overrides=options, store=store)


def assert_same_end(left: Result, right: Result) -> None:
    assert (left.error, right.error) == ("", "")
    a, b = (load_checkpoint(result.folder / "checkpoints" / "last.ckpt") for result in (left, right))
    assert_equal(a["state_dict"], b["state_dict"])
    assert_equal(a["optimizer_states"], b["optimizer_states"])
    assert_equal(a["lr_schedulers"], b["lr_schedulers"])


def assert_equal(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_equal(left, right)
    else:
        assert a == b


def values(store: Store, result: Result) -> dict[tuple[str, int], float]:
    table = history(store, result.run_id)
    table = table[~table["key"].str.startswith(("time/", "system/"))]  # what a clock decides, to be sampled too
    return {(key, step): value for key, step, value in zip(table["key"], table["step"], table["value"], strict=True)}


def never_stopped(
    store: Store, options: dict[str, Any] | None = None, target: str = NET
) -> tuple[Result, dict[tuple[str, int], float]]:
    """The run nobody stopped, and its values; trained once for all tests that start alike."""
    key = f"{target} {options}"
    if key not in WHOLE:
        whole = start(store, options, target)
        WHOLE[key] = whole, values(store, whole)
    return WHOLE[key]


@pytest.mark.parametrize(
    ("threads", "stop"),
    [*((1, stop) for stop in range(1, 2 * BATCHES + 2)), *((2, stop) for stop in (1, BATCHES, BATCHES + 3))],
)
def test_resume_after_any_step_equals_never_stopping(store: Store, threads: int, stop: int) -> None:
    stopped = start(store, {"threads": threads, "trainer.max_steps": stop})
    resumed = go_on(store, stopped, {"trainer.max_steps": BATCHES * EPOCHS})
    whole, expected = never_stopped(store, {"threads": threads, "trainer.max_steps": BATCHES * EPOCHS})
    assert_same_end(whole, resumed)
    assert {key: value for key, value in values(store, resumed).items() if key in expected} == expected


def test_a_run_resumed_after_every_step_equals_never_stopping(store: Store) -> None:
    last = BATCHES + 3
    whole, _ = never_stopped(store, {"trainer.max_steps": last}, "vae")
    result = start(store, {"trainer.max_steps": 1}, "vae")
    for limit in range(2, last + 1):
        result = go_on(store, result, {"trainer.max_steps": limit})
    assert_same_end(whole, result)


@pytest.mark.parametrize("target", [NET, "vae"])
def test_a_finished_run_can_be_extended_twice(store: Store, target: str) -> None:
    whole, expected = never_stopped(store, {}, target)
    result = start(store, {"trainer.max_epochs": 1}, target)
    for epochs in (2, 3):
        result = go_on(store, result, {"trainer.max_epochs": epochs})
    assert_same_end(whole, result)
    assert values(store, result) == expected


# A batch of 256, 512 and 1024 rows: epochs of 5, 2 and 1 steps.
GROWING = {
    "data.batch_growth": 2,
    "optimizer": "momentum",
    "optimizer.lr": 1e-3,
    "optimizer.beta": 0.9,
    "schedule": "recipe",
    "schedule.steps": 8,
    "schedule.scale_momentum": True,
}


@pytest.mark.parametrize(
    ("more", "stops"),
    [
        ({}, (2, 5, 6, 8)),
        (
            {
                "trainer.val_check_interval": 0.5,
                "trainer.limit_train_batches": 4,
                "trainer.accumulate_grad_batches": 2,
            },
            (1, 2, 3, 4),
        ),
    ],
    ids=["plain", "limits, windows and validations within epochs"],
)
def test_a_growing_batch_with_its_rate_and_momentum_resumes_within_epochs_and_between(
    store: Store, more: dict[str, Any], stops: tuple[int, ...]
) -> None:
    whole = start(store, {**GROWING, **more}, "vae")
    expected = values(store, whole)
    assert max(step for _, step in expected) == stops[-1] - 1
    result = start(store, {**GROWING, **more, "trainer.max_steps": stops[0]}, "vae")
    for limit in stops[1:]:
        result = go_on(store, result, {"trainer.max_steps": limit})
    assert_same_end(whole, result)
    assert {key: value for key, value in values(store, result).items() if key in expected} == expected


def test_a_run_is_extended_by_epochs_of_larger_batches(store: Store) -> None:
    whole = start(store, GROWING, "vae")
    result = go_on(store, start(store, {**GROWING, "trainer.max_epochs": 1}, "vae"), {"trainer.max_epochs": EPOCHS})
    assert_same_end(whole, result)
    assert values(store, result) == values(store, whole)


def test_an_early_stopped_run_goes_on_with_more_patience(store: Store) -> None:
    settings = {
        "trainer.early_stopping.monitor": "val/loss",
        "trainer.early_stopping.min_delta": 100.0,
        "trainer.max_epochs": 6,
    }
    whole = start(store, {**settings, "trainer.early_stopping.patience": 4})
    stopped = start(store, {**settings, "trainer.early_stopping.patience": 2})
    assert max(step for _, step in values(store, stopped)) == 3 * BATCHES - 1
    resumed = go_on(store, stopped, {"trainer.early_stopping.patience": 4})
    assert_same_end(whole, resumed)
    assert values(store, resumed) == values(store, whole)


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_resume_at_the_end_of_an_accumulation_window(store: Store, stop: int) -> None:
    settings = {"trainer.accumulate_grad_batches": 2, "trainer.max_epochs": 2}  # windows of 2, 2 and 1 batches
    whole, _ = never_stopped(store, settings)
    resumed = go_on(store, start(store, {**settings, "trainer.max_steps": stop}), {"trainer.max_steps": 6})
    assert_same_end(whole, resumed)


@pytest.mark.parametrize("stop", [2, 3, 4, 6])
def test_resume_around_validations_within_an_epoch(store: Store, stop: int) -> None:
    whole, expected = never_stopped(store, {"trainer.val_check_interval": 2}, "vae")
    stopped = start(store, {"trainer.val_check_interval": 2, "trainer.max_steps": stop}, "vae")
    resumed = go_on(store, stopped, {"trainer.max_steps": BATCHES * EPOCHS})
    assert_same_end(whole, resumed)
    assert {key: value for key, value in values(store, resumed).items() if key in expected} == expected


@pytest.mark.parametrize("kind", ["EpochEnd", "Plateau"])
@pytest.mark.parametrize("stop", [3, 5, 7, 10])
def test_what_happens_at_an_epochs_end_happens_in_a_resumed_run_too(store: Store, kind: str, stop: int) -> None:
    target = f"{Path(__file__).parent / 'broken_net.py'}:{kind}"
    whole, _ = never_stopped(store, {}, target)
    resumed = go_on(store, start(store, {"trainer.max_steps": stop}, target), {"trainer.max_steps": 15})
    assert_same_end(whole, resumed)


def test_best_is_the_state_at_the_best_validation(store: Store) -> None:
    result = start(store, {}, "vae")
    best = load_checkpoint(result.folder / "checkpoints" / "best.ckpt")
    curve = history(store, result.run_id, ["val/elbo"])
    step = int(curve["step"][int(curve["value"].argmax())])
    assert best["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"] == step


def test_what_changed_is_recorded(store: Store) -> None:
    resumed = go_on(store, start(store, {"trainer.max_epochs": 1}), {"trainer.max_epochs": 2})
    tag = json.loads(read_run(store, resumed.run_id).tags["resume.1"])
    assert tag == {"from_step": BATCHES, "changed": {"trainer.max_epochs": [1, 2]}}


@pytest.fixture(scope="module")
def finished(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Result]:
    """A finished run of two epochs, and its store."""
    folder = tmp_path_factory.mktemp("finished") / "mlruns"
    folder.mkdir()
    shutil.copy(template_database, folder / "mlflow.db")
    store = locate(str(folder))
    return store, start(store, {"trainer.max_epochs": 2})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model.lr": 0.5}, "model.lr: 0.01 in the run, now 0.5"),
        ({"data.batch_size": 128}, "data.batch_size: 256 in the run, now 128"),
        ({"seed": 1}, "seed: 0 in the run, now 1"),
        ({"trainer.max_epochs": 1}, "a limit of a resumed run may only grow"),
        ({}, "is finished; to extend it give it more"),
    ],
)
def test_a_resumed_run_may_only_grow(finished: tuple[Store, Result], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        go_on(*finished, options)


def test_a_schedule_over_the_runs_own_length_cannot_be_extended(store: Store) -> None:
    result = start(store, {"schedule": "cosine"}, "vae")
    with pytest.raises(ConfigError, match="schedule cosine was drawn over the run's own length"):
        go_on(store, result, {"trainer.max_epochs": 6})


def test_a_schedule_of_given_length_can_be_extended_exactly(store: Store) -> None:
    settings = {"schedule": "cosine", "schedule.steps": 40}
    result = start(store, {**settings, "trainer.max_epochs": 1}, "vae")
    assert_same_end(start(store, settings, "vae"), go_on(store, result, {"trainer.max_epochs": EPOCHS}))


def test_a_run_without_a_checkpoint_cannot_be_resumed(store: Store) -> None:
    result = start(store)
    (result.folder / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(ConfigError, match=r"no checkpoint .*last\.ckpt; start again with: taolu rerun"):
        go_on(store, result, {"trainer.max_epochs": 9})


def test_a_damaged_checkpoint_is_named(store: Store) -> None:
    result = start(store)
    path = result.folder / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ConfigError, match=r"last\.ckpt is damaged"):
        go_on(store, result, {"trainer.max_epochs": 9})


def test_checkpoints_hold_plain_values_only(store: Store) -> None:
    state = torch.load(start(store, {}, "vae").folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["callbacks"][Checkpoints.__qualname__]["seconds"] > 0
