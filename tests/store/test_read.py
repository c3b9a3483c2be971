from __future__ import annotations

import math
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.errors import ConfigError
from experiments.store import read
from experiments.store.location import Store, locate
from experiments.store.tables import (
    Selection,
    client_points,
    client_tables,
    read_points,
    read_tables,
    schema_revisions,
)
from tests.conftest import START, Writer


def names(store: Store, *, deleted: bool = False) -> list[str]:
    return list(read.runs_table(store, deleted=deleted)["name"])


def test_a_row_holds_a_run_with_parameters_metrics_and_tags_apart(writer: Writer) -> None:
    run_id = writer.run("a", params={"lr": "0.1"}, metrics={"lr": [0.1, 0.05]}, tags={"lr": "x", "mlflow.user": "ann"})
    row = read.runs_table(writer.store).iloc[0]
    assert row[["run_id", "name", "experiment", "kind", "status"]].tolist() == [run_id, "a", "vae", "run", "FINISHED"]
    assert row[["params.lr", "metrics.lr", "tags.lr"]].tolist() == ["0.1", 0.05, "x"]
    assert (row["started"], row["seconds"]) == (pd.Timestamp(START, unit="ms", tz="UTC"), 90)
    assert not [name for name in row.index if "mlflow" in name]


def test_runs_stand_newest_first_and_deleted_ones_apart(writer: Writer) -> None:
    ids = [writer.run(name, start=start) for name, start in (("old", 0), ("new", 20), ("middle", 10))]
    assert names(writer.store) == ["new", "middle", "old"]
    writer.client.delete_run(ids[1])
    assert (names(writer.store), names(writer.store, deleted=True)) == (["middle", "old"], ["new"])


def test_kinds_select_runs_and_a_run_without_the_tag_is_a_run(writer: Writer) -> None:
    writer.run("plain")
    writer.run("claim", tags={"taolu.kind": "claim"}, start=1, metrics={"only/claims": [1.0]})
    table = read.runs_table(writer.store, kinds=("run",))
    assert list(table["name"]) == ["plain"]
    assert "metrics.only/claims" not in table


def test_nan_and_infinity_come_back_as_they_were_logged(writer: Writer) -> None:
    run_id = writer.run("a", metrics={"x": [1, math.nan, math.inf, -math.inf], "y": [1, math.nan], "z": [-math.inf]})
    table, record = read.runs_table(writer.store), read.read_run(writer.store, run_id)
    expected = [-math.inf, math.nan, -math.inf]
    np.testing.assert_array_equal(table[["metrics.x", "metrics.y", "metrics.z"]].iloc[0].to_numpy(float), expected)
    np.testing.assert_array_equal([record.metrics[key] for key in "xyz"], expected)
    values = read.history(writer.store, run_id, ["x"])["value"]
    np.testing.assert_array_equal(values, [1, math.nan, math.inf, -math.inf])


def test_hostile_and_unicode_names_are_only_text(writer: Writer) -> None:
    bad = "<script>alert('x')</script>'; DROP TABLE runs; --"
    run_id = writer.run(
        bad, experiment="实验 %_'", metrics={"验证/ppl": [1.0]}, params={"p": "x" * 6000}, tags={"t": bad}
    )
    table = read.runs_table(writer.store)
    shown = [table[column][0] for column in ("name", "experiment", "metrics.验证/ppl", "tags.t")]
    assert shown == [bad, "实验 %_'", 1.0, bad]
    assert str(table.loc[0, "params.p"]) == "x" * 6000
    assert read.find_run(writer.store, bad) == read.find_run(writer.store, "best:实验 %_':验证/ppl") == run_id


def test_the_record_holds_what_the_database_says(writer: Writer) -> None:
    run_id = writer.run("a", params={"p": "1"}, metrics={"m": [2.0]}, tags={"t": "3", "mlflow.note.content": "good"})
    writer.client.delete_run(run_id)
    record = read.read_run(writer.store, run_id)
    assert (record.name, record.params, record.metrics, record.note) == ("a", {"p": "1"}, {"m": 2.0}, "good")
    assert (record.deleted, record.seconds, record.tags["t"]) == (True, 90, "3")
    assert record.folder == writer.store.folder / "artifacts" / run_id / "artifacts"


def test_a_running_run_has_no_end(writer: Writer) -> None:
    record = read.read_run(writer.store, writer.run("a", status="RUNNING"))
    assert (record.ended, record.seconds, record.status) == (None, None, "RUNNING")


def test_an_unknown_id_is_refused(store: Store) -> None:
    with pytest.raises(ConfigError, match="holds no run 'abc'"):
        read.read_run(store, "abc")


def test_of_a_step_that_stands_twice_the_later_value_counts(writer: Writer) -> None:
    run_id = writer.run("a")
    for value, time, step in ((1.0, 0, 0), (2.0, 1, 1), (9.0, 5, 1), (8.0, 3, 0), (7.0, 3, 0)):
        writer.client.log_metric(run_id, "m", value, START + time * 1000, step)
    table = read.history(writer.store, run_id)
    assert table.to_dict("list") == {"key": ["m", "m"], "step": [0, 1], "value": [7.0, 9.0], "time": [3.0, 5.0]}


def test_histories_of_many_runs_are_sorted_and_chosen_by_key(writer: Writer) -> None:
    ids = sorted(writer.run(name, metrics={"a": [1, 2], "b": [3]}, start=7) for name in "xy")
    table = read.histories(writer.store, ids, ["b", "a", "none"])
    assert list(zip(table["run_id"], table["key"], table["step"], strict=True)) == [
        (run_id, key, step) for run_id in ids for key, step in (("a", 0), ("a", 1), ("b", 0))
    ]
    assert table["time"].tolist() == [0, 1, 0, 0, 1, 0]
    assert read.history(writer.store, ids[0], ["b"])["value"].tolist() == [3]
    assert read.history(writer.store, ids[0], []).empty


def test_a_handle_is_an_id_a_prefix_a_name_or_the_last(writer: Writer) -> None:
    first = writer.run("first", experiment="vae")
    last = writer.run("last one", experiment="gan", start=10)
    writer.run("hidden", experiment="_features", start=20, tags={"taolu.kind": "features"})
    writer.run("judged", experiment="gan", start=30, tags={"taolu.kind": "evaluation"})
    handles = [first, first[:8], first[:8].upper(), "first", "last:vae"]
    assert [read.find_run(writer.store, handle) for handle in handles] == [first] * 5
    assert [read.find_run(writer.store, handle) for handle in ("last", "last:gan", "last one")] == [last] * 3
    assert read.find_run(writer.store, "last:_features") == read.find_run(writer.store, "hidden")


def test_the_best_run_follows_the_stated_direction(writer: Writer) -> None:
    tags = {"taolu.objective": "val/elbo max"}
    low = writer.run("low", metrics={"val/elbo": [-9.0, -2.0], "val/nll": [5.0]}, tags=tags)
    high = writer.run("high", metrics={"val/elbo": [-1.0], "val/nll": [7.0]}, tags=tags)
    writer.run("failed", status="FAILED", metrics={"val/elbo": [0.0]}, tags=tags)
    writer.run("infinite", metrics={"val/elbo": [math.inf], "val/nll": [math.nan]}, tags=tags)
    handles = ["val/elbo", "val/elbo:max", "val/nll:max", "val/elbo:min", "val/nll"]
    found = [read.find_run(writer.store, f"best:vae:{handle}") for handle in handles]
    assert found == [high, high, high, low, low]


def test_deleted_runs_are_found_only_when_asked_for(writer: Writer) -> None:
    gone, _ = writer.run("gone"), writer.run("kept")
    writer.client.delete_run(gone)
    assert read.find_run(writer.store, "gone", deleted=True) == gone
    with pytest.raises(ConfigError, match="no run 'gone'"):
        read.find_run(writer.store, "gone")


@pytest.mark.parametrize(
    ("handle", "message"),
    [
        ("stedy", r"no run 'stedy' \(did you mean 'steady'\?\); give a unique prefix"),
        ("abc", "run 'abc': too short for a prefix"),
        ("twin", r"run 'twin' fits 6 runs: (\w{12} \(vae\), ){4}\w{12} \(vae\) and 1 more; give more of the id"),
        ("last:vea", r"unknown experiment 'vea' \(did you mean 'vae'\?\)"),
        ("best:vae:val/elb", r"unknown metric 'val/elb' \(did you mean 'val/elbo'\?\)"),
        ("best:vae", "write best:EXPERIMENT:METRIC"),
        ("best:vae:x", "no finished run of experiment 'vae' has a finite x"),
        ("best:gan:x", "experiment 'gan' holds no finished run"),
    ],
)
def test_a_handle_that_names_no_run_is_refused(writer: Writer, handle: str, message: str) -> None:
    for i in range(6):
        writer.run("twin", start=i)
    writer.run("steady", metrics={"val/elbo": [1.0], "x": [math.nan]})
    writer.run("g", experiment="gan", status="FAILED", metrics={"x": [1.0]})
    with pytest.raises(ConfigError, match=message):
        read.find_run(writer.store, handle)


def test_an_ambiguous_prefix_lists_the_runs(writer: Writer) -> None:
    ids = [writer.run("a"), writer.run("b")]
    with sqlite3.connect(writer.store.folder / "mlflow.db") as connection:
        for i, run_id in enumerate(ids):
            connection.execute("UPDATE runs SET run_uuid = ? WHERE run_uuid = ?", (f"abcdef{i}" + "0" * 25, run_id))
    with pytest.raises(ConfigError, match=r"run 'abcd' fits 2 runs: abcdef000000 \(vae\), abcdef100000 \(vae\)"):
        read.find_run(writer.store, "abcd")


def test_the_client_reads_the_same_as_sql(filled_store: Store) -> None:
    every = Selection(stage=None)
    by_sql, by_client = read_tables(filled_store, every), client_tables(filled_store, every)
    assert by_sql.runs == by_client.runs
    assert sorted(by_sql.params) == sorted(by_client.params)
    assert sorted(by_sql.tags) == sorted(by_client.tags)
    assert len(by_sql.metrics) == len(by_client.metrics) > 0
    ids = [row.run_id for row in by_sql.runs]
    finite = [
        sorted(point for point in points if not point.is_nan)
        for points in (read_points(filled_store, ids, ["train/loss"]), client_points(filled_store, ids, ["train/loss"]))
    ]
    assert finite[0] == finite[1]


def test_a_store_that_does_not_exist_is_empty_and_not_created(tmp_path: Path) -> None:
    store = locate(str(tmp_path / "none"))
    assert read.runs_table(store).empty
    assert read.history(store, "abc").empty
    with pytest.raises(ConfigError, match="holds no run yet; start one: taolu run vae"):
        read.find_run(store, "last")
    assert not store.folder.exists()


def test_a_new_store_without_a_run_gives_a_table_without_rows(store: Store) -> None:
    assert list(read.runs_table(store).columns[:5]) == ["run_id", "name", "experiment", "kind", "status"]
    assert read.runs_table(store).empty


def test_an_empty_file_is_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    assert read.runs_table(locate(str(tmp_path))).empty


def test_garbage_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database " * 1000)
    with pytest.raises(
        ConfigError, match=r"mlflow\.db is no SQLite database .*; restore it or name another store"
    ) as caught:
        read.runs_table(locate(str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("CREATE TABLE studies (id INTEGER)")
    with pytest.raises(ConfigError, match="holds no MLflow tables"):
        read.runs_table(locate(str(tmp_path)))


def test_a_newer_schema_is_refused(store: Store) -> None:
    with sqlite3.connect(store.folder / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fffffffffff0'")
    expected = (
        r"schema revision fffffffffff0 is newer than the installed MLflow [\d.]+ knows; upgrade it: pip install -U"
    )
    with pytest.raises(ConfigError, match=expected):
        read.runs_table(store)


def test_the_schema_of_the_installed_mlflow_is_known(template_database: Path) -> None:
    with sqlite3.connect(template_database) as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    assert revision in schema_revisions()[1]


def test_a_locked_database_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.store.tables._WAIT_SECONDS", 0.05)
    holder = sqlite3.connect(store.folder / "mlflow.db", isolation_level=None)
    holder.execute("PRAGMA journal_mode=DELETE")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ConfigError, match="is locked by another process; try again"):
        read.runs_table(store)
    holder.close()


def test_a_missing_driver_is_named_without_the_password(tmp_path: Path) -> None:
    store = Store("postgresql+pg8000://ann:hunter2@db/x", tmp_path)  # a driver nothing here depends on
    with pytest.raises(ConfigError, match=r"ann:\*\*\*@db/x: the driver 'pg8000' is missing; pip install pg8000"):
        read.runs_table(store)


def test_a_store_on_a_path_with_signs_of_urls_opens(store: Store, tmp_path: Path) -> None:
    moved = tmp_path / "100% 套路?#&" / "mlruns"
    shutil.copytree(store.folder, moved)
    assert read.runs_table(Store(f"sqlite:///{moved}/mlflow.db", moved)).empty


def test_reading_cannot_write(store: Store) -> None:
    before = (store.folder / "mlflow.db").read_bytes()
    read.runs_table(store)
    assert (store.folder / "mlflow.db").read_bytes() == before


def test_reading_loads_neither_mlflow_nor_torch(filled_store: Store) -> None:
    code = (
        "import sys; from experiments.store import read, location\n"
        "store = location.locate(sys.argv[1]); run = read.find_run(store, 'last')\n"
        "read.runs_table(store), read.read_run(store, run), read.history(store, run)\n"
        "print({'mlflow', 'optuna', 'torch', 'streamlit'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(filled_store.folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2], env=os.environ
    )
    assert done.stdout == "set()\n"
