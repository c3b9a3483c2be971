"""`taolu run --dry_run`: origins of values, time and size foretold, and the next run's verdict on that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import main
from experiments.config import resolve
from experiments.forecast import forecast, n_validations, origins
from experiments.run import run
from experiments.store.location import Store
from experiments.store.read import read_run, runs_table
from experiments.trainer import TrainerOptions

HERE = Path(__file__).parent
SMALL = ["--trainer.max_epochs", "2", "--threads", "1"]


def foretold(store: Store, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert main(["run", *words, "--dry_run", "--json", "--store", str(store.folder)]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_time_comes_from_steps_taken_now_then_from_the_stores_own_runs(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["classifier", "--optimizer.lr", "0.1", *SMALL]
    first = foretold(store, capsys, *words)
    assert len(runs_table(store)) == 0
    assert (first["steps"], first["batches"], first["validations"], first["parameters"]) == (88, 44, 2, 2410)
    assert first["cost"]["source"] == "from steps just taken"
    result = run(resolve(words[0], words[1:]), store=store)
    scored = json.loads(read_run(store, result.run_id).tags["taolu.forecast"])
    assert scored["seconds"] == first["cost"]["seconds"]
    assert scored["actual"] == pytest.approx(result.seconds, abs=1e-3)
    files = {file.stat().st_ino: file.stat().st_size for file in (result.folder / "checkpoints").glob("*.ckpt")}
    assert sum(files.values()) <= first["cost"]["checkpoint_bytes"] <= 2.2 * max(files.values())

    longer = foretold(
        store, capsys, "classifier", "--optimizer.lr", "0.3", "--trainer.max_epochs", "20", "--threads", "1"
    )
    assert longer["cost"]["source"] == "from 1 run of this shape"
    assert longer["cost"]["seconds"] == pytest.approx(10 * read_run(store, result.run_id).metrics["time/wall_seconds"])
    assert longer["values"]["optimizer.lr"] == {"value": 0.3, "origin": "command line", "before": "0.1"}
    assert longer["values"]["trainer.max_epochs"]["before"] == "2"
    assert [key for key, each in longer["values"].items() if each["before"]] == ["optimizer.lr", "trainer.max_epochs"]
    assert longer["last_run"].startswith(result.run_id[:8])

    wider = foretold(store, capsys, "classifier", "--model.hidden_dim", "64", *SMALL)
    assert wider["cost"]["source"] == "from steps just taken"
    assert len(runs_table(store)) == 1


def test_a_value_is_the_default_the_files_or_typed(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("data: {sampling: with_replacement}\n")
    words = ["--config", str(tmp_path / "more.yaml"), "--optimizer", "torch.SGD", "--optimizer.momentum=0.9"]
    found = origins(resolve("classifier", words), "classifier", words)
    shown = (
        "optimizer",
        "optimizer.momentum",
        "optimizer.lr",
        "data.sampling",
        "data.batch_size",
        "model.depth",
        "seed",
    )
    assert [found[key] for key in shown] == [
        "command line", "command line", "default", "YAML", "YAML", "default", "default",
    ]  # fmt: skip


def test_a_critics_values_are_the_optimizers_where_it_has_none() -> None:
    target, words = f"{HERE / 'user_net.py'}:TwoNets", ["--optimizer.lr", "0.2", "--critic_optimizer.eps", "1e-7"]
    found = origins(resolve(target, words), target, words)
    assert found["critic_optimizer.lr"] == found["critic_optimizer.eps"] == found["model"] == "command line"
    assert found["critic_optimizer.betas"] == "default"


@pytest.mark.parametrize(
    ("options", "steps", "count"),
    [
        ({"max_epochs": 3}, 30, 3),
        ({"max_epochs": None, "max_steps": 25}, 25, 3),
        ({"val_check_interval": 0.5}, 30, 6),
        ({"val_check_interval": 4}, 30, 7),
        ({"limit_val_batches": 0}, 30, 0),
        ({"limit_train_batches": 5}, 15, 3),
        ({"accumulate_grad_batches": 2}, 15, 3),
        ({}, None, None),
    ],
)
def test_validations_are_counted(options: dict[str, Any], steps: int | None, count: int | None) -> None:
    assert n_validations(TrainerOptions(**options), steps, 10) == count


def test_what_is_unknown_is_called_so(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--trainer.max_epochs", "null", "--trainer.max_time", "60"]
    assert main(["run", "classifier", *words, "--dry_run", "--store", str(store.folder)]) == 0
    out = capsys.readouterr().out
    assert "steps unknown" in out
    assert "time unknown" in out
    assert "classifier: no run was made" in out
    broken = f"{HERE / 'broken_net.py'}:Vector"
    cost = forecast(resolve(broken), broken, [], store).cost
    assert (cost.seconds, cost.checkpoint_bytes) == (None, None)
    assert "tensor of shape (3,)" in cost.source


def test_a_secret_is_not_shown(store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = (HERE / "dropout_net.py").read_text(encoding="utf-8")
    (tmp_path / "secretive.py").write_text(text.replace("lr: float = 0.01", "lr: float = 0.01, api_key: str = ''"))
    words = [f"{tmp_path / 'secretive.py'}:DropoutNet", "--model.api_key", "hunter2x9", *SMALL]
    assert main(["run", *words, "--dry_run", "--store", str(store.folder)]) == 0
    assert "hunter2x9" not in capsys.readouterr().out
    assert not any("hunter2x9" in file.read_text() for file in (store.folder / "checks").iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("classifer --dry_run", "unknown experiment 'classifer'"),
        ("classifier --dry_run --optimizer.lr 0", "optimizer.lr = 0.0: must be greater than 0"),
        ("classifier --dry_run --trainer.val_check_interval 99", "an epoch has 44 batches"),
        ("classifier --dry_run=1", "--dry_run: takes no value"),
        ("classifier --dryrun", "unknown option '--dryrun' (did you mean '--dry_run'?)"),
    ],
)
def test_bad_input_costs_one_line_and_writes_nothing(
    store: Store, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    assert main(["run", *line.split(), "--store", str(store.folder)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), message in err) == ("", 1, True)
    assert not (store.folder / "checks").exists()
