"""`run --needed`: only what the same config, data and code have not brought to its end before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import main
from experiments.store.location import Store
from experiments.store.read import find_run, read_run, runs_table
from experiments.store.write import delete_run, open_store

TINY = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--threads", "1"]
BARE_DATA = """
import pytorch_lightning as pl
from lightning_modules.data.digits import Digits


class Bare(pl.LightningDataModule):
    def __init__(self):
        super().__init__()
        self.own = Digits(batch_size=512)

    def train_dataloader(self):
        return self.own.train_dataloader()

    def val_dataloader(self):
        return self.own.val_dataloader()
"""


class Needed:
    """`taolu run --needed` of a file in a folder of its own, outside of any repository."""

    def __init__(self, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
        self.store = store
        self.capsys = capsys
        self.said = ""

    def run(self, *words: str) -> str:
        """The id of the run that it ends with."""
        target = ["net.py:SweepNet", "--data.batch_size", "512"] if "--data" not in words else ["net.py:SweepNet"]
        arguments = ["run", *target, *TINY, *words, "--needed", "--json", "--store", str(self.store.folder)]
        assert main(arguments) == 0
        out, self.said = self.capsys.readouterr()
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        assert found["status"] == "FINISHED"
        return str(found["run_id"])


@pytest.fixture
def needed(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Needed:
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).parent / "sweep_net.py", "net.py")
    return Needed(store, capsys)


def test_what_was_finished_is_shown_instead_of_run_again(needed: Needed) -> None:
    first = needed.run()
    assert needed.run() == first
    assert f"not needed: run {first[:8]} net-{first[:4]} is finished; look: taolu show {first[:8]}" in needed.said
    assert len(runs_table(needed.store)) == 1


def test_another_config_is_run(needed: Needed) -> None:
    first = needed.run()
    assert needed.run("--seed", "1") != first
    assert needed.run("--model.lr", "0.3") != first
    assert needed.run() == first


def test_other_code_is_run_and_said(needed: Needed) -> None:
    first = needed.run()
    with Path("net.py").open("a") as file:
        file.write("\n# edited\n")
    assert needed.run() != first
    assert f"run {first[:8]} net-{first[:4]} has the same config, but not the same code" in needed.said


def test_data_whose_content_cannot_be_told_is_run(needed: Needed) -> None:
    Path("bare.py").write_text(BARE_DATA)
    first = needed.run("--data", "bare.py:Bare")
    assert needed.run("--data", "bare.py:Bare") != first
    assert "has the same config, but its data has no digest" in needed.said


def test_other_data_is_run(needed: Needed) -> None:
    first = needed.run()
    open_store(needed.store).set_tag(first, "taolu.data_digest", "0" * 64)
    assert needed.run() != first
    assert "has the same config, but not the same data" in needed.said


@pytest.mark.parametrize("tag", ["taolu.parent", "taolu.door"])
def test_what_did_not_begin_at_its_first_step_or_has_no_config_does_not_count(needed: Needed, tag: str) -> None:
    first = needed.run()
    open_store(needed.store).set_tag(first, tag, "x")
    assert needed.run() != first


def test_failed_and_deleted_runs_do_not_count(needed: Needed) -> None:
    first = needed.run()
    open_store(needed.store).set_terminated(first, "FAILED")
    second = needed.run()
    assert second != first
    delete_run(needed.store, second)
    assert needed.run() not in (first, second)
    assert read_run(needed.store, find_run(needed.store, "last")).status == "FINISHED"
