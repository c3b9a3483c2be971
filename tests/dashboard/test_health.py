"""The page Health, and how pages go on when the store cannot be read."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import state
from experiments.store.location import Store
from experiments.store.read import read_run
from tests.conftest import Writer
from tests.dashboard.hostile import hostile
from tests.dashboard.test_pages import no_arguments, open_app, open_page, texts

__all__ = ["no_arguments"]  # a fixture


def figures(app: AppTest) -> dict[str, str]:
    assert not app.exception
    return {str(metric.label): str(metric.value) for metric in app.metric}


def test_a_well_store_says_so(filled_store: Store) -> None:
    app = open_page("health", filled_store)
    found = figures(app)
    assert (found["Runs"], found["running"], found["Lost runs"], found["failed"]) == ("3", "1", "0", "1")
    assert app.success[0].value == "No run is lost, and no dead process left anything behind."
    assert [block.value for block in app.code] == ["taolu gc --dry_run"]


def test_lost_runs_and_their_spools_are_listed_with_what_mends_them(writer: Writer) -> None:
    hostile(writer)
    app = open_page("health", writer.store, "zh")
    found = figures(app)
    assert (found["失联的运行"], found["进行中"], found["暂存"]) == ("1", "2", "2")
    assert [block.value for block in app.code] == ["taolu runs --reap", "taolu runs", "taolu gc --dry_run"]
    lost, spools = (table.value for table in app.dataframe[:2])
    assert lost["名称"].tolist() == ["dead"]
    assert lost["步"].tolist() == ["7"]
    assert spools["名称"].tolist() == ["", "dead"]


def test_what_could_be_removed_is_asked_only_on_demand(writer: Writer) -> None:
    writer.client.delete_run(writer.run("gone"))
    writer.run("kept")
    assert "Deleted runs" not in figures(open_page("health", writer.store))
    app = open_page("health", writer.store, gc="1")
    assert (figures(app)["Deleted runs"], figures(app)["Files to free"]) == ("1", "0 B")


def test_a_page_keeps_its_last_data_under_a_banner(filled_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    database = filled_store.folder / "mlflow.db"
    assert not open_app(filled_store, monkeypatch).warning
    run_id = state.table(filled_store)["run_id"].iloc[0]
    before = state.kept(filled_store, read_run, run_id)
    database.write_bytes(b"garbage " * 999)
    app = open_app(filled_store, monkeypatch)
    assert not app.exception
    assert "Shown is what was read last" in texts(app)
    assert state.kept(filled_store, read_run, run_id) is before
    state._runs.clear()
    assert "no SQLite database" in texts(open_app(filled_store, monkeypatch)).replace("\\", "")
