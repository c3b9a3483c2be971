"""What a resumed run may change, what it is told, and what it is refused for."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

import taolu
from experiments.config import resolve
from experiments.errors import ConfigError
from experiments.rerun import rerun
from experiments.resume import Progress, changes, load_checkpoint, progress_of, reached, refuse_finished, resume
from experiments.run import Result, run, silent
from experiments.store.files import write_text
from experiments.store.heartbeat import TAG, heartbeat, refuse_live
from experiments.store.location import Store
from experiments.store.read import RunRecord, read_run
from experiments.store.write import open_store
from experiments.trainer import EarlyStopping, TrainerOptions
from tests.conftest import Writer

NET = f"{Path(__file__).parent / 'dropout_net.py'}:DropoutNet"
KEYED = """
from tests.dropout_net import DropoutNet


class Keyed(DropoutNet):
    def __init__(self, api_key: str, pad_token: int = 7) -> None:
        super().__init__()
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside this repository, whose files may change while the tests run."""
    monkeypatch.chdir(tmp_path)


def start(store: Store, options: dict[str, Any], target: str = NET) -> Result:
    settings = {"data.batch_size": 256, "trainer.max_epochs": 2, "threads": 1, **options}
    return run(resolve(target, overrides=settings), store=store)


@pytest.fixture
def finished(writer: Writer) -> RunRecord:
    return read_run(writer.store, writer.run("done"))


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [(10, None, True), (None, 10, False), (10, 9, False), (10, 11, True), (10, 10, True)],
)
@pytest.mark.parametrize("key", ["trainer.max_epochs", "trainer.max_steps", "trainer.early_stopping.patience"])
def test_no_limit_is_the_largest_limit(key: str, old: int | None, new: int | None, allowed: bool) -> None:
    if allowed:
        assert changes({key: old}, {key: new}) == ({key: (old, new)} if old != new else {})
    else:
        with pytest.raises(ConfigError, match="a limit of a resumed run may only grow"):
            changes({key: old}, {key: new})


def test_a_monitor_without_patience_has_patience_3() -> None:
    old = {"trainer.early_stopping.monitor": "val/loss", "trainer.early_stopping.patience": None}
    assert changes(old, {**old, "trainer.early_stopping.patience": 6})
    with pytest.raises(ConfigError, match="3 in the run, now 2"):
        changes(old, {**old, "trainer.early_stopping.patience": 2})


@pytest.mark.parametrize(
    ("options", "changed", "said"),
    [
        (TrainerOptions(max_epochs=2), {}, "--trainer.max_epochs 4 "),
        (TrainerOptions(max_epochs=9, max_steps=10), {}, "--trainer.max_steps 20 "),
        (TrainerOptions(max_epochs=9, max_time="0:30"), {}, "--trainer.max_time 60 "),
        (TrainerOptions(max_epochs=2, max_steps=10), {}, "--trainer.max_epochs 4 --trainer.max_steps 20 "),
        (TrainerOptions(max_epochs=2, max_steps=99), {"trainer.max_steps": (10, 99)}, "--trainer.max_epochs 4 "),
        (TrainerOptions(max_epochs=9, early_stopping=EarlyStopping(patience=2)), {}, "early_stopping.patience 4 "),
        (
            TrainerOptions(max_epochs=9, early_stopping=EarlyStopping("val/loss")),
            {"trainer.max_epochs": (5, 9)},
            "early_stopping.patience 6 ",
        ),
        (TrainerOptions(max_epochs=9), {}, "--trainer.max_epochs 4 "),
    ],
)
def test_a_finished_run_is_told_which_limit_ended_it(
    finished: RunRecord, options: TrainerOptions, changed: dict[str, tuple[Any, Any]], said: str
) -> None:
    with pytest.raises(ConfigError, match="is finished; to extend it give it more") as caught:
        refuse_finished(finished, options, changed, Progress(steps=10, epochs=2, seconds=31.0))
    assert said in str(caught.value)


def test_a_finished_run_goes_on_where_every_limit_leaves_something_to_do(finished: RunRecord) -> None:
    options = TrainerOptions(max_epochs=3, early_stopping=EarlyStopping(patience=5))
    done = Progress(steps=10, epochs=2, seconds=31.0)
    refuse_finished(finished, options, {"trainer.max_epochs": (2, 3)}, done)


def test_a_state_far_beyond_its_limits_is_told_twice_what_it_has() -> None:
    limits = TrainerOptions(max_epochs=5, max_steps=900, max_time="2")
    told = {"trainer.max_epochs": "520", "trainer.max_steps": "1800", "trainer.max_time": "126"}
    assert reached(limits, Progress(steps=901, epochs=260, seconds=62.3)) == told


def test_a_checkpoint_says_how_far_the_run_was(store: Store) -> None:
    result = start(store, {"trainer.max_steps": 7})
    half = progress_of(load_checkpoint(result.folder / "checkpoints" / "last.ckpt"))
    resume(result.run_id, overrides={"trainer.max_steps": 10}, store=store)
    whole = progress_of(load_checkpoint(result.folder / "checkpoints" / "last.ckpt"))
    assert (half.steps, half.epochs, whole.steps, whole.epochs) == (7, 1, 10, 2)  # 5 batches an epoch
    assert 0 < half.seconds < whole.seconds


def test_the_limits_of_the_last_session_count(store: Store) -> None:
    result = start(store, {"trainer.max_steps": 2})
    resume(result.run_id, overrides={"trainer.max_steps": 4}, store=store)
    with pytest.raises(ConfigError, match=r"give it more, as in --trainer\.max_steps 8 "):
        resume(result.run_id, store=store)


def test_a_secret_is_given_again(store: Store, tmp_path: Path) -> None:
    (tmp_path / "keyed.py").write_text(KEYED, encoding="utf-8")
    settings = {"model.api_key": "hunter2x9", "trainer.max_steps": 1}
    target = f"{tmp_path / 'keyed.py'}:Keyed"
    result = start(store, settings, target)
    config = resolve(target, overrides={"data.batch_size": 256, "trainer.max_epochs": 2, **settings}).with_threads(1)
    write_text(result.folder / "config.yaml", config.redacted().to_yaml())
    message = r"model\.api_key was kept secret; give it again: --model\.api_key VALUE"
    with pytest.raises(ConfigError, match=message):
        resume(result.run_id, overrides={"trainer.max_steps": 2}, store=store)
    with pytest.raises(ConfigError, match=message):
        rerun(result.run_id, store=store)
    again, _ = rerun(result.run_id, ["--model.api_key", "hunter2x9"], store=store)
    given: dict[str, Any] = {"store": store.url, "say": silent, "model.api_key": "hunter2x9"}
    door = taolu.rerun(result.run_id, **given)
    more = resume(result.run_id, overrides={"trainer.max_steps": 2, "model.api_key": "hunter2x9"}, store=store)
    record = read_run(store, more.run_id)
    assert {again.status, door.status, more.status} == {"FINISHED"}
    assert (record.params["model.api_key"], record.params["model.pad_token"]) == ("***", "7")
    assert json.loads(record.tags["resume.1"])["changed"] == {"trainer.max_steps": [1, 2]}
    assert "hunter2x9" not in (more.folder / "config.yaml").read_text(encoding="utf-8")


def test_a_rerun_changes_nothing(store: Store) -> None:
    result = start(store, {"trainer.max_steps": 1})
    with pytest.raises(ConfigError, match=r"model\.lr: 0\.01 in the run, now 0\.5; rerun repeats a run as it was"):
        rerun(result.run_id, ["--model.lr", "0.5"], store=store)


def test_data_whose_content_changed_is_refused(store: Store) -> None:
    result = start(store, {"trainer.max_steps": 1})
    open_store(store).set_tag(result.run_id, "taolu.data_digest", "0" * 64)
    with pytest.raises(ConfigError, match=r"data: its content has changed since the run \(sha256 00000000\.\. -> "):
        resume(result.run_id, overrides={"trainer.max_steps": 2}, store=store)


def test_what_differs_from_the_session_before_is_said(store: Store) -> None:
    result = start(store, {"trainer.max_steps": 1})
    path = result.folder / "env.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**stored, "packages": {**stored["packages"], "torch": "1.0"}}), encoding="utf-8")
    lines: list[str] = []
    resume(result.run_id, overrides={"trainer.max_steps": 2}, store=store, say=lines.append)
    assert any(line.startswith("not as in the session before: packages: torch 1.0 -> ") for line in lines)


def test_two_resumes_of_one_run_do_not_meet(store: Store) -> None:
    result = start(store, {"trainer.max_steps": 1})
    with (
        FileLock(result.folder.parent / ".resume.lock"),
        pytest.raises(ConfigError, match=f"run {result.run_id[:8]} is being resumed by another process"),
    ):
        resume(result.run_id, overrides={"trainer.max_steps": 2}, store=store)
    assert resume(result.run_id, overrides={"trainer.max_steps": 2}, store=store).status == "FINISHED"


@pytest.mark.parametrize(("age", "refused"), [(5, True), (90, False)])
def test_a_run_of_another_host_lives_as_long_as_it_is_heard_of(writer: Writer, age: float, refused: bool) -> None:
    beat = {**json.loads(heartbeat(3, 10)), "host": "far", "time": time.time() - age}
    record = read_run(writer.store, writer.run("there", status="RUNNING", tags={TAG: json.dumps(beat)}))
    if refused:
        with pytest.raises(ConfigError, match="is running on far"):
            refuse_live(record)
    else:
        refuse_live(record)


def test_a_checkpoint_with_an_object_in_it_is_named(tmp_path: Path) -> None:
    torch.save({"it": Progress(1, 1, 1.0)}, tmp_path / "last.ckpt")
    with pytest.raises(ConfigError, match=r"holds an object of experiments\.resume\.Progress.*save_hyperparameters"):
        load_checkpoint(tmp_path / "last.ckpt")


def test_a_checkpoint_that_is_no_checkpoint_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"my thesis")
    with pytest.raises(ConfigError, match=r"last\.ckpt is damaged"):
        load_checkpoint(tmp_path / "last.ckpt")
