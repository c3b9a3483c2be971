"""A stored config run again: identical, or what differs and from which step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.config import resolve
from experiments.errors import ConfigError
from experiments.rerun import rerun
from experiments.resume import resume
from experiments.run import Result, run
from experiments.store.location import Store
from experiments.store.read import read_run
from experiments.store.write import open_store


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside this repository, whose files may change while the tests run."""
    monkeypatch.chdir(tmp_path)


def start(store: Store, folder: Path, **options: object) -> Result:
    """A run of a module a user wrote into the folder."""
    path = folder / "net.py"
    if not path.exists():
        path.write_text(Path(__file__).with_name("dropout_net.py").read_text(encoding="utf-8"), encoding="utf-8")
    overrides = {"data.batch_size": 256, "trainer.max_epochs": 2, "threads": 1, **options}
    return run(resolve(f"{path}:DropoutNet", overrides=overrides), store=store)


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "net.py"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_rerun_is_identical_to_the_bit(store: Store, tmp_path: Path) -> None:
    first = start(store, tmp_path)
    second, comparison = rerun(first.run_id, store=store)
    assert comparison.sentence == f"identical: all {comparison.n_values} values are equal to the bit"
    assert comparison.n_values >= 12  # 10 losses, 2 validations
    assert read_run(store, second.run_id).tags["taolu.rerun_of"] == first.run_id


def test_a_rerun_of_the_vae_is_identical_to_the_bit(store: Store) -> None:
    overrides = {"trainer.max_steps": 14, "trainer.quality.metrics": [], "threads": 2}
    first = run(resolve("vae", overrides=overrides), store=store)
    assert rerun(first.run_id, store=store)[1].first_step is None


def test_a_rerun_says_that_the_code_changed_and_from_which_step(store: Store, tmp_path: Path) -> None:
    first = start(store, tmp_path)
    edit(tmp_path, "nn.Dropout(0.3)", "nn.Dropout(0.3 if True else 0.2)")
    _, same = rerun(first.run_id, store=store)
    assert same.sentence.endswith("equal to the bit, although: code/net.py changed")
    edit(
        tmp_path, "x, y = batch\n        return", "x, y = batch\n        x = x * (1 + (batch_idx == 3))\n        return"
    )
    _, other = rerun(first.run_id, store=store)
    assert (other.first_step, other.metric) == (3, "train/loss")
    assert other.sentence.startswith("differs from step 3 on (train/loss; at most ")
    assert other.sentence.endswith(": code/net.py changed")


def test_a_rerun_says_that_packages_and_threads_changed(store: Store, tmp_path: Path) -> None:
    first = start(store, tmp_path)
    path = first.folder / "env.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["packages"]["torch"] = "1.0"
    path.write_text(json.dumps({**stored, "threads": 64, "host": "elsewhere"}), encoding="utf-8")
    causes = rerun(first.run_id, store=store)[1].causes
    assert "threads 64 -> 1" in causes
    assert any(cause.startswith("host elsewhere -> ") for cause in causes)
    assert any(cause.startswith("packages: torch 1.0 -> ") for cause in causes)


def test_a_rerun_says_that_the_data_changed(store: Store, tmp_path: Path) -> None:
    first = start(store, tmp_path)
    open_store(store).set_tag(first.run_id, "taolu.data_digest", "0" * 64)
    assert "the data's digest differs" in rerun(first.run_id, store=store)[1].causes


def test_a_resumed_run_and_its_rerun_are_compared_where_both_have_values(store: Store, tmp_path: Path) -> None:
    first = start(store, tmp_path, **{"trainer.max_steps": 2})
    resume(first.run_id, overrides={"trainer.max_steps": 7}, store=store)
    assert rerun(first.run_id, store=store)[1].sentence.startswith("identical: all ")


def test_a_failed_run_and_its_rerun_are_compared_as_far_as_it_came(store: Store, tmp_path: Path) -> None:
    start(store, tmp_path, **{"trainer.max_steps": 1})
    edit(tmp_path, "x, y = batch\n        return", "x, y = batch\n        assert batch_idx < 3\n        return")
    first = start(store, tmp_path)
    assert first.status == "FAILED"
    edit(tmp_path, "assert batch_idx < 3", "assert batch_idx < 30")
    _, comparison = rerun(first.run_id, store=store)
    assert comparison.first_step is None
    assert comparison.n_values >= 3


def test_a_run_that_does_not_exist_cannot_be_run_again(store: Store) -> None:
    with pytest.raises(ConfigError, match="holds no run yet"):
        rerun("last", store=store)


def test_a_run_without_a_config_cannot_be_run_again(store: Store, tmp_path: Path) -> None:
    first = start(store, tmp_path, **{"trainer.max_steps": 1})
    (first.folder / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"has no config\.yaml"):
        rerun(first.run_id, store=store)
