"""The page Overview."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pandas as pd
import pytest

from dashboard.views.overview import Progress, main_metric, progress
from experiments.store.heartbeat import heartbeat
from experiments.store.location import Store
from tests.conftest import START, Writer
from tests.dashboard.test_pages import no_arguments, open_page, texts

__all__ = ["no_arguments"]  # a fixture
BEGIN = datetime.fromtimestamp(1000, UTC)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_empty_store_names_the_commands_that_fill_it(store: Store, language: str) -> None:
    app = open_page("overview", store, language)
    assert not app.exception
    assert [block.value for block in app.code] == ["taolu run vae", "taolu demo"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_overview_shows_what_runs_what_failed_and_what_is_best(filled_store: Store, language: str) -> None:
    app = open_page("overview", filled_store, language)
    assert not app.exception
    assert [tile.value for tile in app.metric][:5] == ["3", "1", "0", "1", "0"]
    assert app.metric[6].label == "train\\/loss"
    assert app.metric[6].value == "4"
    assert app.code[0].value == "RuntimeError: loss is *not* finite"
    best = app.dataframe[0].value
    assert best[["experiment", "name", "metric", "runs"]].values.tolist() == [["vae", "steady", "val/elbo", 1]]
    assert [button.label for button in app.button] == ["going", "broken"]


def test_a_run_at_work_tells_how_far_it_is(writer: Writer) -> None:
    beat = json.loads(heartbeat(step=25, total_steps=100)) | {"time": START / 1000 + 50}
    writer.run("half", status="RUNNING", tags={"taolu.heartbeat": json.dumps(beat)})
    app = open_page("overview", writer.store)
    assert not app.exception
    assert "vae · step 25 of 100 · 2 min 30 s left" in texts(app)


def test_runs_whose_process_is_gone_are_counted_as_lost(writer: Writer) -> None:
    gone = json.loads(heartbeat(step=25, total_steps=100)) | {"pid_start": 1.0}
    writer.run("gone", status="RUNNING", tags={"taolu.heartbeat": json.dumps(gone)})
    app = open_page("overview", writer.store)
    assert [tile.value for tile in app.metric][1:5:3] == ["0", "1"]
    assert "taolu runs --reap" in app.warning[0].value


@pytest.mark.parametrize(
    ("beat", "expected"),
    [
        ({"step": 25, "total_steps": 100, "time": 1050.0}, Progress(25, 100, 150.0)),
        ({"step": 0, "total_steps": 100, "time": 1050.0}, Progress(0, 100, None)),
        ({"step": 7, "total_steps": None, "time": 1050.0}, Progress(7, None, None)),
        ({"step": 120, "total_steps": 100, "time": 1050.0}, Progress(120, 100, None)),
        ({"step": 7}, None),
        ([1], None),
    ],
)
def test_the_time_left_is_foretold_by_the_pace_so_far(beat: object, expected: Progress | None) -> None:
    assert progress(json.dumps(beat), BEGIN) == expected
    assert progress("{", BEGIN) is None
    assert progress(float("nan"), BEGIN) is None


def test_the_main_metric_is_the_stated_one_then_the_loss_then_any() -> None:
    row = {"tags.taolu.objective": "val/a max", "metrics.val/a": float("nan"), "metrics.system/x": 1.0}
    assert main_metric(pd.Series(row)) is None
    assert main_metric(pd.Series({**row, "metrics.b": 1.0})) == "b"
    assert main_metric(pd.Series({**row, "metrics.b": 1.0, "metrics.train/loss": 1.0})) == "train/loss"
    assert main_metric(pd.Series({**row, "metrics.train/loss": 1.0, "metrics.val/a": 1.0})) == "val/a"
