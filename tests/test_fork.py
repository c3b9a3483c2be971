"""A fork: the parent's exact state, what is changed in force from the first step on, the parent as it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from experiments.cli import main
from experiments.config import resolve
from experiments.errors import ConfigError
from experiments.fork import fork
from experiments.pairs import Effect, Pair, against_parent, independent_runs
from experiments.rerun import rerun
from experiments.resume import load_checkpoint, resume, steps_done
from experiments.run import Result, run
from experiments.store.location import Store, locate
from experiments.store.read import history, read_run, runs_table
from lightning_modules.data.digits import Digits
from lightning_modules.data.sampling import epoch_order

HERE = Path(__file__).parent
NET, OWN, DROPOUT, EPOCH_END = "fork_net:ForkNet", "fork_net:OwnRates", "dropout_net:DropoutNet", "broken_net:EpochEnd"
BATCHES = 5  # of 256 rows in an epoch of digits
SETTINGS = {
    "data.batch_size": 256,
    "trainer.max_epochs": 3,
    "trainer.quality_every": 99,
    "trainer.quality.metrics": [],
    "threads": 1,
}
MOMENTUM = {"optimizer": "momentum", "optimizer.lr": 0.1, "optimizer.beta": 0.9}
SLOW = pytest.mark.slow
MADE: dict[tuple[Any, ...], Result] = {}


@pytest.fixture(scope="module")
def store(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One for all tests here, which share parents; users' modules lie beside it, outside of this repository."""
    folder = tmp_path_factory.mktemp("fork") / "mlruns"
    folder.mkdir()
    shutil.copy(template_database, folder / "mlflow.db")
    for name in ("fork_net", "dropout_net", "broken_net"):
        shutil.copy(HERE / f"{name}.py", folder.parent)
    return locate(str(folder))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside this repository, whose files may change while the tests run."""
    monkeypatch.chdir(tmp_path)


def start(store: Store, options: dict[str, Any] | None = None, target: str = NET) -> Result:
    """A run, made once."""
    key = (store.url, target, *sorted((options or {}).items()))
    if key not in MADE:
        place, colon, name = target.partition(":")
        spec = f"{store.folder.parent / place}.py:{name}" if colon else target
        MADE[key] = run(resolve(spec, overrides={**SETTINGS, **(options or {})}), store=store)
        assert (MADE[key].status, MADE[key].error) == ("FINISHED", "")
    return MADE[key]


def forked(store: Store, parent: Result, options: dict[str, Any] | None = None, **more: Any) -> Result:
    result = fork(parent.run_id, overrides={"trainer.max_steps": None, **(options or {})}, store=store, **more)
    assert (result.status, result.error) == ("FINISHED", "")
    return result


def series(store: Store, result: Result, key: str) -> dict[int, float]:
    table = history(store, result.run_id, [f"train/{key}"])
    return dict(zip(table["step"], table["value"], strict=True))


def values(store: Store, result: Result) -> dict[tuple[str, int], float]:
    table = history(store, result.run_id)
    table = table[~table["key"].str.startswith("time/")]
    return {(key, step): value for key, step, value in zip(table["key"], table["step"], table["value"], strict=True)}


def read_result(store: Store, run_id: str) -> Result:
    return Result(run_id, "", "", "", "", 0.0, {}, [], store.run_folder(run_id))


def state(result: Result, name: str = "last") -> dict[str, Any]:
    return load_checkpoint(result.folder / "checkpoints" / f"{name}.ckpt")


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


def assert_same_end(left: Result, right: Result) -> None:
    for key in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert_equal(state(left)[key], state(right)[key])


STOP = """from tests.fork_net import ForkNet


class Stopping(ForkNet):
    def training_step(self, batch, batch_idx):
        raise RuntimeError("not yet")
        return super().training_step(batch, batch_idx)
"""


# ---- nothing changed ------------------------------------------------------------------------------------------------


SCHEDULED = {"schedule": "cosine", "schedule.steps": 15, "schedule.warmup_steps": 6}


@pytest.mark.parametrize(
    ("target", "more", "stop"),
    [
        pytest.param("vae", SCHEDULED, 1, marks=SLOW),
        ("vae", SCHEDULED, 5),
        pytest.param("vae", SCHEDULED, 8, marks=SLOW),
        pytest.param(DROPOUT, {}, 4, marks=SLOW),
        (EPOCH_END, {}, 5),
        pytest.param(EPOCH_END, {}, 8, marks=SLOW),
    ],
)
def test_a_fork_that_changes_nothing_equals_the_parents_own_continuation(
    store: Store, target: str, more: dict[str, Any], stop: int
) -> None:
    whole = start(store, more, target)
    parent = start(store, {**more, "trainer.max_steps": stop}, target)
    child = forked(store, parent)
    assert_same_end(whole, child)
    expected = {key: value for key, value in values(store, whole).items() if key[1] >= stop}
    assert {key: value for key, value in values(store, child).items() if key in expected} == expected


def test_the_parent_stays_as_it_was(store: Store) -> None:
    parent = start(store, {"trainer.max_steps": 7}, "vae")

    def everything() -> Any:
        files = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in parent.folder.rglob("*.*")}
        return files, values(store, parent), read_run(store, parent.run_id)

    before = everything()
    forked(store, parent, {"optimizer.lr": 1e-2})
    assert everything() == before


def test_what_it_began_with_is_recorded(store: Store) -> None:
    parent = start(store, {"trainer.max_steps": 7})
    child = forked(store, parent, {"optimizer.lr": 0.05}, reset=["data"])
    record = read_run(store, child.run_id)
    assert (record.kind, record.experiment, record.tags["taolu.parent"]) == ("run", "fork_net", parent.run_id)
    assert json.loads(record.tags["taolu.fork"]) == {
        "from": "last",
        "from_step": 7,
        "changed": {"optimizer.lr": [0.001, 0.05], "trainer.max_steps": [7, None]},
        "reset": ["data"],
    }
    assert sorted(path.name for path in (child.folder / "checkpoints").iterdir()) == [
        "best.ckpt",
        "best.json",
        "last.ckpt",
    ]


# ---- what is changed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "key", "before", "after"),
    [
        ({"optimizer.lr": 0.03}, "lr", 0.1, 0.03),
        ({"optimizer.weight_decay": 0.01}, "weight_decay", 0.0, 0.01),
        ({"optimizer.beta": 0.5}, "beta", 0.9, 0.5),
        ({"data.batch_size": 64}, "rows", 256, 64),
        ({"optimizer": "torch.Adam", "optimizer.lr": 0.02}, "beta1", None, 0.9),
        pytest.param(
            {"optimizer": "torch.SGD", "optimizer.lr": 0.02, "optimizer.momentum": 0.7},
            "momentum",
            None,
            0.7,
            marks=SLOW,
        ),
    ],
)
def test_a_changed_value_is_in_force_from_the_first_step_on(
    store: Store, options: dict[str, Any], key: str, before: float | None, after: float
) -> None:
    parent = start(store, {**MOMENTUM, "trainer.max_steps": 7})
    child = forked(store, parent, options)
    told = series(store, child, key)
    assert set(series(store, parent, key).values()) == ({before} if before is not None else set())
    assert min(told) == 7
    assert set(told.values()) == {after}


def test_other_settings_and_the_moments_stay_when_one_is_changed(store: Store) -> None:
    parent = start(store, {"trainer.max_steps": 7}, "vae")
    child = forked(store, parent, {"optimizer.lr": 1e-12, "trainer.max_steps": 8})
    old, new = state(parent)["optimizer_states"][0], state(child)["optimizer_states"][0]
    assert {key for key, value in new["param_groups"][0].items() if value != old["param_groups"][0][key]} == {"lr"}
    assert int(new["state"][0]["step"]) == 8
    for name, weight in state(parent)["state_dict"].items():
        torch.testing.assert_close(weight, state(child)["state_dict"][name])


def test_a_users_own_optimizer_takes_the_models_new_setting(store: Store) -> None:
    parent = start(store, {"trainer.max_steps": 7}, DROPOUT)
    child = forked(store, parent, {"model.lr": 0.5, "trainer.max_steps": 8})
    assert state(child)["optimizer_states"][0]["param_groups"][0]["lr"] == 0.5


def test_an_option_that_needs_more_moments_begins_them_anew_and_says_so(store: Store) -> None:
    parent = start(store, {"optimizer": "torch.Adam", "trainer.max_steps": 7})
    said: list[str] = []
    child = forked(store, parent, {"optimizer.amsgrad": True}, say=said.append)
    assert int(state(child)["optimizer_states"][0]["state"][0]["step"]) == 15 - 7
    assert "torch.optim.adam.Adam: its state is new, as the parent's has no max_exp_avg_sq" in said


def test_another_optimizer_begins_with_a_new_state_and_says_so(store: Store) -> None:
    parent = start(store, {**MOMENTUM, "trainer.max_steps": 7})
    said: list[str] = []
    forked(store, parent, {"optimizer": "adam", "trainer.max_steps": 8}, say=said.append)
    assert any("optimizers.momentum.Momentum -> " in line and line.endswith("its state is new") for line in said)


COSINE = {"schedule": "cosine", "schedule.steps": 20, "optimizer.lr": 0.1}


def cosine(step: int, steps: int = 20, lr: float = 0.1) -> float:
    return float(lr * (1 + np.cos(np.pi * step / steps)) / 2)


@pytest.mark.parametrize(
    ("first", "options", "expected"),
    [
        (COSINE, {"optimizer.lr": 0.3}, cosine(7, lr=0.3)),
        (COSINE, {"schedule.steps": 40}, cosine(7, 40)),
        (COSINE, {"schedule": "constant"}, 0.1),
        pytest.param(COSINE, {"schedule": "step", "schedule.every": 3, "schedule.gamma": 0.5}, 0.025, marks=SLOW),
        pytest.param(COSINE, {"optimizer": "torch.SGD", "optimizer.lr": 0.3}, cosine(7, lr=0.3), marks=SLOW),
        ({"optimizer.lr": 0.1}, COSINE, cosine(7)),
        ({**COSINE, "schedule.steps": None}, {"trainer.max_epochs": 4}, cosine(7, 20)),
    ],
)
def test_a_schedule_stands_where_it_would_had_it_been_there_from_the_start(
    store: Store, first: dict[str, Any], options: dict[str, Any], expected: float
) -> None:
    parent = start(store, {**first, "trainer.max_steps": 7})
    assert series(store, forked(store, parent, options), "lr")[7] == pytest.approx(expected, rel=1e-12)


@SLOW
def test_momentum_that_follows_the_rate_follows_the_new_one(store: Store) -> None:
    settings = {**MOMENTUM, "schedule": "step", "schedule.every": 4, "schedule.gamma": 0.25}
    parent = start(store, {**settings, "schedule.scale_momentum": True, "trainer.max_steps": 7})
    child = forked(store, parent, {"optimizer.beta": 0.5})
    assert series(store, child, "beta")[7] == pytest.approx(1 - 0.5 * 0.25**0.5)
    assert series(store, child, "lr")[7] == pytest.approx(0.025)


@pytest.mark.parametrize(("kind", "expected"), [pytest.param("step", 0.2, marks=SLOW), ("plateau", 0.4)])
def test_a_schedule_of_torchs_keeps_what_it_has_done_to_a_new_rate(store: Store, kind: str, expected: float) -> None:
    parent = start(store, {"model.kind": kind, "model.lr": 0.1, "trainer.max_steps": 7}, OWN)
    child = forked(store, parent, {"model.lr": 0.4}, start=7)
    assert series(store, child, "lr")[7] == pytest.approx(expected)


def test_a_plateau_that_has_cut_the_rate_has_cut_the_new_one(store: Store) -> None:
    parent = start(store, {"model.kind": "plateau", "model.lr": 0.1, "trainer.max_steps": 12}, OWN)
    assert series(store, parent, "lr")[11] == pytest.approx(0.05)
    assert series(store, forked(store, parent, {"model.lr": 0.4}), "lr")[12] == pytest.approx(0.2)


# ---- data -----------------------------------------------------------------------------------------------------------


def rows_sum(epoch: int, first: int, last: int, seed: int = 0) -> float:
    data = Digits(batch_size=256)
    images = data._train[0]
    return float(images[epoch_order(seed, epoch, len(images))[first:last]].double().sum())


@pytest.mark.parametrize(
    ("stop", "size", "epoch", "first"),
    [
        (3, 128, 0, 768),
        (3, 512, 0, 512),
        pytest.param(3, 500, 0, 500, marks=SLOW),
        pytest.param(5, 128, 1, 0, marks=SLOW),
        pytest.param(7, 128, 1, 512, marks=SLOW),
    ],
)
def test_another_batch_size_goes_on_with_the_rows_not_yet_seen(
    store: Store, stop: int, size: int, epoch: int, first: int
) -> None:
    """Of 1,437 rows; where no whole batch of new ones is left, the epoch's last one is taken."""
    parent = start(store, {"trainer.max_steps": stop})
    child = forked(store, parent, {"data.batch_size": size})
    assert series(store, child, "pixels")[stop] == pytest.approx(rows_sum(epoch, first, first + size))
    assert max(series(store, child, "pixels")) + 1 - stop == (1437 // size) * 3 - epoch * (1437 // size) - first // size
    assert {step for key, step in values(store, child) if key == "val/loss"} >= {max(series(store, child, "pixels"))}


def test_windows_of_accumulation_begin_at_the_fork(store: Store) -> None:
    parent = start(store, {"trainer.max_steps": 3})
    child = forked(store, parent, {"trainer.accumulate_grad_batches": 2})
    steps = sorted(series(store, child, "loss"))
    assert steps == list(range(3, 3 + 1 + 3 + 3))  # the epoch's last batch, then windows of 2, 2 and 1


def test_order_and_noise_are_the_parents_unless_another_seed_is_given(store: Store) -> None:
    parent = start(store, {"trainer.max_steps": 5})
    same, other = forked(store, parent, {"optimizer.lr": 0.01}), forked(store, parent, {"seed": 3})
    assert series(store, same, "pixels")[5] == pytest.approx(rows_sum(1, 0, 256))
    assert series(store, other, "pixels")[5] == pytest.approx(rows_sum(1, 0, 256, seed=3))


# ---- reset ----------------------------------------------------------------------------------------------------------


def test_a_reset_of_the_optimizer_drops_its_moments_alone(store: Store) -> None:
    parent = start(store, {**COSINE, "optimizer": "adam", "trainer.max_steps": 7})
    child = forked(store, parent, reset=["optimizer"])
    assert state(child)["optimizer_states"][0]["state"][0]["step"] == 15 - 7
    assert series(store, child, "lr")[7] == pytest.approx(cosine(7))


def test_a_reset_of_the_schedule_begins_it_anew_over_what_is_left(store: Store) -> None:
    parent = start(store, {**COSINE, "schedule.steps": None, "optimizer": "adam", "trainer.max_steps": 7})
    child = forked(store, parent, reset=["schedule"])
    told = series(store, child, "lr")
    assert told[7] == pytest.approx(0.1)
    assert told[11] == pytest.approx(cosine(4, 8))
    assert state(child)["optimizer_states"][0]["state"][0]["step"] == 15


@pytest.mark.parametrize(
    ("stop", "changes", "reset", "total"),
    [
        (None, {"trainer.max_epochs": 5, "data.batch_size": 512}, (), 19),  # 15, then 2 epochs of 2
        (8, {"trainer.max_epochs": 3, "data.batch_size": 512}, (), 11),  # of the second epoch's rows one batch is left
        (8, {"trainer.max_epochs": 2}, ("data",), 18),
        (8, {"trainer.max_epochs": 3}, (), 15),
    ],
)
def test_an_open_schedule_ends_with_the_forks_own_last_step(
    store: Store, stop: int | None, changes: dict[str, Any], reset: tuple[str, ...], total: int
) -> None:
    parent = start(store, {"schedule": "cosine", "optimizer": "sgd", "optimizer.lr": 0.4, "trainer.max_steps": stop})
    told: list[str] = []
    result = forked(store, parent, changes, reset=reset, say=told.append)
    begun = stop or 15
    expected = {step: 0.2 * (1 + np.cos(np.pi * step / total)) for step in range(begun, total)}
    assert series(store, result, "lr") == pytest.approx(expected)
    assert f"step {total}/{total} " in told[-2]


def test_a_reset_of_the_data_begins_with_the_first_epoch_and_counts_steps_on(store: Store) -> None:
    parent = start(store, {"trainer.max_steps": 7})
    child = forked(store, parent, {"trainer.max_epochs": 2}, reset=["data"])
    told = series(store, child, "pixels")
    assert sorted(told) == list(range(7, 7 + 2 * BATCHES))
    assert told[7] == pytest.approx(rows_sum(0, 0, 256))
    assert told[7 + BATCHES] == pytest.approx(rows_sum(1, 0, 256))
    assert {step for key, step in values(store, child) if key == "val/loss"} == {11, 16}
    assert steps_done(state(child)) == 17


# ---- where it begins, and what becomes of it ------------------------------------------------------------------------


def test_it_begins_at_last_best_or_a_step_that_was_kept(store: Store) -> None:
    parent = start(store, {"trainer.max_steps": 8}, "vae")  # best after the validation at 5 steps, or the last
    best = steps_done(state(parent, "best"))
    for asked, step in (("best", best), (8, 8)):
        child = forked(store, parent, {"trainer.max_steps": 9}, start=asked)
        assert json.loads(read_run(store, child.run_id).tags["taolu.fork"])["from_step"] == step


def test_a_fork_is_resumed_and_forked_like_any_run(store: Store) -> None:
    parent = start(store, {"optimizer.lr": 0.1, "trainer.max_steps": 3})
    whole = forked(store, parent, {"optimizer.lr": 0.2})
    short = forked(store, parent, {"optimizer.lr": 0.2, "trainer.max_steps": 6})
    assert_same_end(whole, forked(store, short))
    resumed = resume(short.run_id, overrides={"trainer.max_steps": 99}, store=store)
    assert_same_end(whole, resumed)


@pytest.mark.parametrize(
    ("more", "reset"),
    [
        ({}, ("data",)),
        pytest.param({"data.batch_size": 100}, (), marks=SLOW),
        pytest.param({"optimizer": "torch.Adam", "schedule": "cosine"}, (), marks=SLOW),
    ],
)
def test_a_fork_stopped_before_its_first_step_is_resumed_with_its_own_settings(
    store: Store, more: dict[str, Any], reset: tuple[str, ...], tmp_path: Path
) -> None:
    parent = start(store, {**MOMENTUM, "trainer.max_steps": 3})
    whole = forked(store, parent, {**more, "trainer.max_epochs": 2}, reset=reset)
    path = tmp_path / "stop.py"
    path.write_text(STOP, encoding="utf-8")
    settings = {**more, "trainer.max_epochs": 2, "trainer.max_steps": None, "model": f"{path}:Stopping"}
    stopped = fork(parent.run_id, overrides=settings, reset=reset, store=store)
    assert stopped.error == "RuntimeError: not yet"
    path.write_text(STOP.replace("raise", "pass  # raise"), encoding="utf-8")
    assert_same_end(whole, resume(stopped.run_id, store=store))


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        ({}, {"start": 3}, r"no state after 3 steps; it keeps last \(after 7 steps\), best \(after \d steps\): give"),
        ({}, {"start": "first"}, "keeps no state 'first'; it keeps last"),
        (
            {},
            {"reset": ["optimiser"]},
            r"unknown part to reset 'optimiser' \(did you mean 'optimizer'\?\); allowed: data",
        ),
        (
            {"optimizer.lr": 0.1},
            {},
            "the state after 7 steps, 1 epochs is where the run's limits end it; give the fork more",
        ),
        ({"trainer.max_steps": 9, "optimizer.lr": -1}, {}, "optimizer.lr = -1"),
        (
            {"trainer.max_steps": 9, "model.hidden_dim": 7},
            {},
            r"model.hidden_dim 32 -> 7: the weights do not fit, network.1.bias is \(32,\) in the checkpoint and \(7,\)",
        ),
        ({"trainer.max_steps": 9, "model.hiden_dim": 7}, {}, "did you mean"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_and_nothing_is_written(
    store: Store, options: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    parent = start(store, {"trainer.max_steps": 7, "trainer.val_check_interval": 5, "trainer.limit_val_batches": 1})
    before = len(runs_table(store))
    with pytest.raises(ConfigError, match=message) as caught:
        fork(parent.run_id, overrides=options, store=store, **more)
    assert "\n" not in str(caught.value)
    assert len(runs_table(store)) == before


def test_a_run_without_a_checkpoint_cannot_be_forked(store: Store) -> None:
    parent = start(store, {"trainer.max_steps": 1, "trainer.keep.last": False, "trainer.limit_val_batches": 0})
    with pytest.raises(ConfigError, match="keeps no checkpoint; start again with: taolu rerun"):
        fork(parent.run_id, store=store)


def test_an_early_stopped_run_needs_more_patience(store: Store) -> None:
    settings = {"trainer.early_stopping.patience": 1, "trainer.early_stopping.min_delta": 100.0}
    parent = start(store, {**settings, "trainer.max_epochs": 9})
    with pytest.raises(ConfigError, match=r"give the fork more, as in --trainer.early_stopping.patience 2"):
        fork(parent.run_id, overrides={"optimizer.lr": 0.1}, store=store)


def test_data_that_changed_are_refused_unless_others_are_asked_for(store: Store, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (400, 8, 8), dtype=np.uint8)

    def write(name: str, offset: int) -> str:
        np.savez(tmp_path / name, x_train=images // 2 + offset, y_train=np.arange(400) % 10)
        return str(tmp_path / name)

    parent = start(
        store, {"data": "images", "data.path": write("a.npz", 0), "data.batch_size": 50, "trainer.max_steps": 3}
    )
    write("a.npz", 1)
    with pytest.raises(ConfigError, match=r"data: its content has changed since the run \(sha256"):
        fork(parent.run_id, overrides={"trainer.max_steps": 4}, store=store)
    said: list[str] = []
    forked(store, parent, {"data.path": write("b.npz", 2), "trainer.max_steps": 4}, say=said.append)
    assert any(line.startswith("data: its content is not the parent's (sha256") for line in said)


def test_a_fork_cannot_be_rerun_from_its_config_alone(store: Store) -> None:
    child = forked(store, start(store, {"trainer.max_steps": 3}), {"trainer.max_steps": 4})
    with pytest.raises(ConfigError, match=r"began as a fork.*taolu fork"):
        rerun(child.run_id, store=store)


# ---- against the parent ---------------------------------------------------------------------------------------------


def test_a_change_is_measured_in_pairs_that_share_state_order_and_noise(store: Store) -> None:
    parent = start(store, {**MOMENTUM, "trainer.max_steps": 5})
    change = {"optimizer.lr": 0.05, "trainer.max_steps": 8}
    effect = against_parent(parent.run_id, overrides=change, seeds=2, store=store)
    assert [pair.seed for pair in effect.pairs] == [0, 1]
    first, own = effect.pairs[0], forked(store, parent, {"trainer.max_steps": 8})
    assert first.parent == own.metrics["val/loss"]
    assert first.changed == forked(store, parent, change).metrics["val/loss"]
    gaps = [pair.changed - pair.parent for pair in effect.pairs if pair.changed and pair.parent]
    test, found = stats.ttest_1samp(gaps, 0).confidence_interval(), effect.plain()
    assert [found[key] for key in ("low", "high", "mean")] == pytest.approx([test.low, test.high, np.mean(gaps)])
    pixels = [series(store, read_result(store, run_id), "pixels") for pair in effect.pairs for run_id in pair.run_ids]
    assert pixels[0] == pixels[1] != pixels[2] == pixels[3]
    tags = read_run(store, first.run_ids[1]).tags
    assert (tags["taolu.parent"], tags["mlflow.parentRunId"]) == (parent.run_id, parent.run_id)
    assert json.loads(tags["taolu.against"]) == {"arm": "changed", "seed": 0}
    assert effect.changes == ("optimizer.lr 0.1 -> 0.05",)


def test_the_table_says_what_a_change_does_and_what_pairing_saves() -> None:
    pairs = tuple(Pair(i, i + 0.0, i + 1 + 0.1 * (i % 2), ("a", "b")) for i in range(4))
    effect = Effect("0" * 32, "val/elbo", "max", ("optimizer.lr 1 -> 2",), (*pairs, Pair(4, 1.0, None, ("a", "b"))))
    *table, lost, sentence, saved = effect.lines()
    assert len(table) == 6
    assert lost == "1 of 5 pairs have no finite val/elbo on both sides and are left out"
    assert sentence.startswith(
        "val/elbo (max): optimizer.lr 1 -> 2: +1.05, 95 % interval [+0.9581, +1.142], 4 pairs: better"
    )
    assert saved.startswith(f"8 paired runs; about {effect.plain()['independent_runs']} independent ones")


def test_independent_runs_follow_from_the_variances() -> None:
    rng = np.random.default_rng(0)
    shared = rng.standard_normal(20_000)
    a, b = shared + 0.5 * rng.standard_normal(20_000), shared + 0.5 * rng.standard_normal(20_000)
    assert independent_runs(a, b) == pytest.approx(2 * 20_000 * (1.25 + 1.25) / 0.5, rel=0.05)
    assert independent_runs(a, a) is None


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        ({"trainer.max_steps": 8}, {}, "nothing is changed against the parent"),
        ({"trainer.max_steps": 8, "optimizer.lr": 0.1}, {"seeds": 1}, "at least 2 pairs"),
        ({"trainer.max_steps": 8, "seed": 5}, {}, "--seed: the pairs have the run's own seed"),
        ({"trainer.max_steps": 8, "model.hidden_dim": 7}, {}, "the weights do not fit"),
    ],
)
def test_pairs_that_cannot_be_are_refused_and_nothing_is_written(
    store: Store, options: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    parent = start(store, {"trainer.max_steps": 5})
    before = len(runs_table(store))
    with pytest.raises(ConfigError, match=message):
        against_parent(parent.run_id, overrides=options, store=store, **more)
    assert len(runs_table(store)) == before


def test_a_model_without_an_objective_has_no_effect_to_measure(store: Store) -> None:
    parent = start(store, {"trainer.max_steps": 5}, DROPOUT)
    with pytest.raises(ConfigError, match="its model states no objective"):
        against_parent(parent.run_id, overrides={"trainer.max_steps": 8, "model.lr": 0.1}, store=store)


# ---- the command ----------------------------------------------------------------------------------------------------


def test_the_command_forks_and_prints_one_object(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    parent = start(store, {"trainer.max_steps": 5}, "vae")
    place = ["--store", str(store.folder)]
    words = [
        "fork",
        parent.run_id[:8],
        *place,
        "--optimizer.lr",
        "0.01",
        "--trainer.max_steps",
        "6",
        "--reset",
        "optimizer",
    ]
    assert main([*words, "--name", "hotter", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (printed["name"], printed["status"], printed["kind"]) == ("hotter", "FINISHED", "run")
    assert json.loads(read_run(store, printed["run_id"]).tags["taolu.fork"])["reset"] == ["optimizer"]
    assert main([*words, "--against", "parent", "--seeds", "2", "--json"]) == 0
    effect = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (effect["metric"], effect["n"], len(effect["pairs"])) == ("val/elbo", 2, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fork"], "name the run first, as in: taolu fork last"),
        (["fork", "last", "--against", "best"], "--against best: must be parent"),
        (["fork", "last", "--seeds", "3"], "--seeds: belongs to --against parent"),
        (["fork", "last", "--against", "parent", "--seeds", "x"], "--seeds x: must be a whole number"),
        (["fork", "last", "--fron", "best"], "unknown option '--fron' (did you mean '--from'?)"),
        (["fork", "nothing"], "no run 'nothing'"),
    ],
)
def test_bad_input_of_the_command_costs_a_line_and_exit_status_2(
    store: Store, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    start(store, {"trainer.max_steps": 7})
    before = len(runs_table(store))
    assert main([*words, "--store", str(store.folder)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert len(runs_table(store)) == before
