from __future__ import annotations

import sqlite3

import pandas as pd
import pytest

from experiments.errors import ConfigError
from experiments.store import cache
from experiments.store.cache import CurvesCache, RunsCache
from experiments.store.location import Store
from experiments.store.read import read_curves, runs_table
from tests.conftest import START, Writer


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of one run counts as large, so that only what changed is read."""
    monkeypatch.setattr(cache, "_FEW_RUNS", 0)


@pytest.mark.usefixtures("many")
def test_a_refreshed_table_is_the_table_read_anew(writer: Writer) -> None:
    first = writer.run("a", status="RUNNING", params={"lr": "1"}, metrics={"val/x": [1.0]}, tags={"t": "1"})
    gone, _ = writer.run("b", start=5, params={"n": "2"}), writer.run("c", start=5)
    runs = RunsCache(writer.store)
    assert runs.table().equals(runs_table(writer.store))
    read_whole = runs._whole_at
    writer.client.log_metric(first, "val/x", float("nan"), START + 9_000, 9)
    writer.client.log_metric(first, "a new one", 2.0, START, 0)
    writer.client.set_tag(first, "t", "changed in place")
    pd.testing.assert_frame_equal(runs.table(), runs_table(writer.store))
    writer.client.delete_run(gone)
    writer.client.set_terminated(first)
    writer.run("d", start=3, params={"lr": "3", "n": "9"}, tags={"u": "2"})
    found, wanted = runs.table(), runs_table(writer.store)
    pd.testing.assert_frame_equal(found[wanted.columns], wanted)  # and a column that the deleted run alone had
    assert runs._whole_at == read_whole  # only what changed was read


@pytest.mark.usefixtures("many")
def test_rows_that_were_numbered_anew_are_read_whole(writer: Writer) -> None:
    ids = [writer.run(name, metrics={"x": [1.0, 2.0]}) for name in "ab"]
    runs = RunsCache(writer.store)
    runs.table()
    read_whole = runs._whole_at
    with sqlite3.connect(writer.store.folder / "mlflow.db") as connection:
        connection.execute("DELETE FROM metrics WHERE run_uuid = ?", (ids[1],))
    runs.table()
    assert runs._whole_at > read_whole


@pytest.mark.usefixtures("many")
def test_forgetting_shows_a_tag_of_an_ended_run_at_once(writer: Writer) -> None:
    run_id = writer.run("a", tags={"t": "1"})
    runs = RunsCache(writer.store)
    runs.table()
    writer.client.set_tag(run_id, "t", "2")
    assert runs.table()["tags.t"].tolist() == ["1"]  # for some seconds
    runs.forget()
    assert runs.table()["tags.t"].tolist() == ["2"]


def test_an_unchanged_store_is_read_once(filled_store: Store) -> None:
    runs, curves = RunsCache(filled_store), CurvesCache(filled_store)
    ids = tuple(runs.table()["run_id"])
    assert runs.table() is runs.table()
    once, again = curves.curves(ids, ("train/loss",)), curves.curves(ids, ("train/loss",))
    assert all(again[series] is curve for series, curve in once.items())


def test_curves_are_those_read_anew_whatever_was_asked_before(writer: Writer) -> None:
    ids = tuple(writer.run(name, status="RUNNING", metrics={"a": [1.0, 2.0], "b": [3.0]}) for name in "xy")
    curves = CurvesCache(writer.store)

    def check(run_ids: tuple[str, ...], keys: tuple[str, ...] | None) -> None:
        found, wanted = curves.curves(run_ids, keys), read_curves(writer.store, run_ids, keys)
        assert found.keys() == wanted.keys()
        for series, curve in wanted.items():
            assert all((mine == other).all() for mine, other in zip(found[series], curve, strict=True))

    for run_ids, keys in ((ids[:1], ("a",)), (ids, ("a", "none")), (ids[1:], None), (ids, ("b",)), (ids, ())):
        check(run_ids, keys)
    untouched = curves.curves(ids)[ids[1], "a"]
    writer.client.log_metric(ids[0], "a", 5.0, START + 9_000, 2)
    check(ids, None)
    assert curves.curves(ids)[ids[1], "a"] is untouched


def test_the_oldest_curves_make_room(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [writer.run(name, metrics={"a": [1.0] * 6}) for name in "xyz"]
    monkeypatch.setattr(cache, "_MOST_POINTS", 13)
    curves = CurvesCache(writer.store)
    for run_id in ids:
        assert len(curves.curves((run_id,))) == 1
    assert [series[0] for series in curves._curves] == ids[1:]


def test_a_store_that_cannot_be_read_any_more_shows_what_it_had(
    filled_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_RETRY_SECONDS", 0)
    runs, database = RunsCache(filled_store), filled_store.folder / "mlflow.db"
    table, content = runs.table(), database.read_bytes()
    database.write_bytes(b"garbage " * 999)
    assert runs.table() is table
    assert "is no SQLite database" in str(runs.trouble)
    database.unlink()
    assert runs.table() is table
    assert "its database is gone" in str(runs.trouble)
    database.write_bytes(content)
    assert len(runs.table()) == 3
    assert runs.trouble is None


def test_a_database_that_comes_back_as_it_was_is_no_trouble_any_more(filled_store: Store) -> None:
    runs, database = RunsCache(filled_store), filled_store.folder / "mlflow.db"
    table = runs.table()
    away = database.rename(database.with_name("away"))
    assert runs.table() is table
    assert runs.trouble is not None
    away.rename(database)
    assert runs.table() is table
    assert runs.trouble is None


def test_a_store_that_was_never_read_is_refused_and_an_empty_one_is_not(store: Store) -> None:
    assert RunsCache(Store(f"sqlite:///{store.folder}/none.db", store.folder)).table().empty
    (store.folder / "mlflow.db").write_bytes(b"garbage " * 999)
    with pytest.raises(ConfigError, match="no SQLite database"):
        RunsCache(store).table()
    with pytest.raises(ConfigError, match="no SQLite database"):
        CurvesCache(store).curves(("a",))
