"""Which rows, columns and groups the page Runs shows."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.table import (
    Sheet,
    best_of_each,
    csv,
    default_columns,
    expression,
    grouped,
    metric_columns,
    offered_columns,
    ordered,
    select,
    varying_parameters,
)
from experiments.store.columns import Choice

NAN = float("nan")


def runs(**columns: Any) -> pd.DataFrame:
    """A table of runs as the store gives it, of these columns and those that are always there."""
    n = len(next(iter(columns.values())))
    usual: dict[str, Any] = {
        "run_id": [f"{i:032x}" for i in range(n)],
        "name": [f"run {i}" for i in range(n)],
        "experiment": ["vae"] * n,
        "kind": ["run"] * n,
        "status": ["FINISHED"] * n,
        "started": pd.date_range("2026-01-01", periods=n, tz="UTC")[::-1],
        "seconds": [1.0] * n,
        "note": [""] * n,
    }
    return pd.DataFrame({**usual, **columns})


def test_filters_select_by_experiment_status_and_words() -> None:
    columns = ["run_id", "name", "experiment", "status", "note", "params.lr", "tags.t"]
    rows = [["1", "a", "vae", "FINISHED", "", "0.1", None], ["2", "b", "gan", "FAILED", "[odd]", None, "x"]]
    table = pd.DataFrame(rows, columns=columns)
    assert select(table, [], [], "").equals(table)
    assert select(table, ["vae"], [], "")["run_id"].tolist() == ["1"]
    assert select(table, [], ["FAILED"], "")["run_id"].tolist() == ["2"]
    assert select(table, [], [], "GAN [odd")["run_id"].tolist() == ["2"]
    assert select(table, ["vae"], [], "odd").empty


def test_validation_stands_before_training_and_the_clock_last() -> None:
    names = [f"metrics.{name}" for name in ("time/x", "train/a", "other", "val/b", "system/y")]
    table = pd.DataFrame([[1.0] * 5 + [float("nan")]], columns=[*names, "metrics.none"])
    found = [name.removeprefix("metrics.") for name in metric_columns(table)]
    assert found == ["val/b", "train/a", "other", "system/y", "time/x"]


def test_the_largest_stand_first_where_a_minus_says_so_and_runs_without_a_value_last() -> None:
    table = runs(**{"metrics.val/x": [2.0, NAN, 3.0, 1.0]})
    keys = table["metrics.val/x"]
    assert ordered(table, "val/x", keys).index.tolist() == [3, 0, 2, 1]
    assert ordered(table, "-val/x", keys).index.tolist() == [2, 0, 3, 1]


def test_a_parameter_varies_where_runs_have_it_with_different_values_or_not_at_all() -> None:
    table = runs(**{"params.a": ["1", "1"], "params.b": ["1", "2"], "params.c": [None, "1"], "params.d": [None, None]})
    assert varying_parameters(table) == ["params.b", "params.c"]


def test_the_main_metrics_and_what_varies_are_shown_at_first() -> None:
    table = runs(
        **{
            "kind": ["run", "run", "claim"],
            "tags.taolu.objective": ["val/elbo max", "val/elbo max", None],
            "params.lr": ["0.1", "0.2", None],
            "params.claim": [None, None, "5655-S1"],
            "metrics.val/elbo": [-1.0, -2.0, NAN],
            "metrics.train/loss": [1.0, 2.0, NAN],
        }
    )
    assert default_columns(table) == ["val/elbo", "lr"]
    assert default_columns(table.drop(columns="tags.taolu.objective")) == ["val/elbo", "lr"]
    assert default_columns(table.tail(1)) == []


def test_a_parameter_and_a_metric_of_one_name_are_both_offered() -> None:
    table = runs(**{"params.lr": ["0.1"], "metrics.lr": [0.2], "tags.t": ["x"]})
    names = offered_columns(table)
    assert {"lr", "lr:best", "lr:min", "lr:max", "params.lr", "t", "objective"} <= set(names)
    sheet = Sheet(table, lambda key: pd.DataFrame())
    assert [sheet.column(name)[0] for name in ("lr", "params.lr", "t")] == [0.2, 0.1, "x"]


def test_the_best_value_is_the_one_the_objective_means() -> None:
    table = runs(**{"metrics.a": [1.0, 2.0], "metrics.b": [1.0, 2.0], "tags.taolu.objective": ["a max", None]})
    asked = []

    def extremes(key: str) -> pd.DataFrame:
        asked.append(key)
        return pd.DataFrame({"smallest": [-5.0], "largest": [5.0]}, index=[table["run_id"][0]])

    sheet = Sheet(table, extremes)
    found = sheet.frame(table.index, ["a:best", "b:best", "a:min", "b:max"])
    assert found.iloc[0].tolist() == [5.0, -5.0, -5.0, 5.0]
    assert found.iloc[1].isna().all()
    sheet.frame(table.index, ["a:best"])
    assert len(asked) == 4  # each column is worked out once


def test_a_group_has_mean_and_sample_deviation_of_its_finite_values() -> None:
    frame = pd.DataFrame({"lr": [0.1, 0.1, 0.1, NAN], "val/x": [1.0, 3.0, math.inf, 7.0]})
    found = grouped(frame, ["lr"], ["val/x"])
    assert found["runs"].tolist() == [3, 1]
    assert found["mean val/x"].tolist() == [2.0, 7.0]
    assert np.isclose(found["sd val/x"][0], math.sqrt(2))
    assert math.isnan(found["sd val/x"][1])
    assert math.isnan(found["by lr"][1])


def test_names_of_a_users_own_stand_beside_those_of_the_table() -> None:
    table = runs(
        **{"params.runs": ["a", "a"], "metrics.name": [1.0, 2.0], "metrics.x": [1.0, 1.0], "metrics.x sd": [3.0, 4.0]}
    )
    assert {"metrics.name", "metrics.name:best", "runs", "x sd"} <= set(offered_columns(table))
    sheet = Sheet(table, lambda key: pd.DataFrame({"smallest": [0.0], "largest": [9.0]}, index=[table["run_id"][0]]))
    assert sheet.column("metrics.name:max")[0] == 9
    found = grouped(sheet.frame(table.index, ["runs", "x", "x sd"]), ["runs"], ["x", "x sd"])
    assert found.iloc[0].tolist() == ["a", 2, 1.0, 0.0, 3.5, pytest.approx(math.sqrt(0.5))]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)


@settings(max_examples=30)
@given(st.lists(TEXTS, min_size=1, max_size=4), st.sampled_from(["a", "optimizer.b", "验证", "x y", "val/é", "not"]))
def test_the_filter_of_a_group_takes_its_runs_and_no_others(values: list[str], name: str) -> None:
    table = runs(**{f"tags.{name}": [*values, "another value", None]})
    wanted = expression({name: values[0]})
    if wanted is not None:
        column = Sheet(table, lambda key: pd.DataFrame()).column(name)
        found = Choice(wanted).rows(table)
        assert found.index.tolist() == table.index[(column == values[0]).to_numpy(bool)].tolist()


def test_the_filter_of_a_group_can_ask_for_numbers_and_for_nothing() -> None:
    table = runs(**{"params.lr": ["0.1", "1e-3", None], "metrics.val/x": [0.1 + 0.2, NAN, 1.0]})
    for values, expected in (({"lr": 0.001}, [1]), ({"lr": NAN}, [2]), ({"val/x": 0.1 + 0.2, "lr": 0.1}, [0])):
        assert Choice(expression(values)).rows(table).index.tolist() == expected
    for unwritable in ({"`": "x"}, {"a b": None}, {"a": math.inf}, {"a": "'\""}):
        assert expression(unwritable) is None


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "=cmd|'/c calc'!A0"])
def test_no_text_of_a_csv_can_be_taken_for_a_formula(text: str) -> None:
    read = pd.read_csv(io.BytesIO(csv(pd.DataFrame({text: [text, "x"]}))))
    assert read.columns.tolist() == [f"'{text}"]
    assert read.iloc[:, 0].tolist() == [f"'{text}", "x"]


def test_numbers_of_a_csv_stay_numbers() -> None:
    frame = pd.DataFrame({"a": [-1.5, NAN], "b": ["-1e-3", "名"], "c": pd.to_datetime(pd.Series(["2026-01-01", None]))})
    assert csv(frame).decode("utf-8-sig").splitlines() == ["a,b,c", "-1.5,-1e-3,2026-01-01", ",名,"]


def test_the_best_of_each_experiment_is_by_the_objective_its_newest_run_states() -> None:
    table = runs(
        **{
            "experiment": ["vae", "vae", "gan", "gan", "claims"],
            "kind": ["run", "trial", "run", "run", "claim"],
            "status": ["FINISHED", "FINISHED", "FINISHED", "FAILED", "FINISHED"],
            "tags.taolu.objective": ["val/a max", "val/b min", "val/b min", "val/b min", None],
            "metrics.val/a": [1.0, 2.0, NAN, NAN, NAN],
            "metrics.val/b": [9.0, 9.0, 4.0, 1.0, NAN],
        }
    )
    best = best_of_each(table)
    assert best[["experiment", "name", "metric", "value", "runs"]].values.tolist() == [
        ["vae", "run 1", "val/a", 2.0, 2],
        ["gan", "run 2", "val/b", 4.0, 1],
    ]
    assert best_of_each(table.drop(columns="tags.taolu.objective")).empty
