from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from dashboard import charts


def points(**metrics: list[float]) -> pd.DataFrame:
    """Metric `train__x` is train/x; steps count from 0."""
    rows = [
        (key.replace("__", "/"), step, value) for key, values in metrics.items() for step, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["key", "step", "value"]).sort_values(["key", "step"], ignore_index=True)


def test_train_and_val_of_one_quantity_share_a_chart() -> None:
    keys = ["val/kl", "train/kl", "val/elbo", "lipschitz/upper", "lipschitz/lower", "loss"]
    assert charts.group_metrics(keys) == {
        "kl": ["train/kl", "val/kl"],
        "loss": ["loss"],
        "elbo": ["val/elbo"],
        "lipschitz/lower": ["lipschitz/lower"],
        "lipschitz/upper": ["lipschitz/upper"],
    }


def test_what_a_clock_decides_stands_last() -> None:
    assert next(iter(charts.group_metrics(["time/data_fraction", "system/rank0/cpu_percent", "val/z"]))) == "z"


def test_a_line_has_the_colour_of_its_stage() -> None:
    figure = charts.curve_chart(points(train__kl=[1, 2], val__kl=[3, 4]), "kl")
    assert [(line.name, line.line.color) for line in figure.data] == [
        ("train", charts.STAGES["train"]),
        ("val", charts.STAGES["val"]),
    ]


def test_axes_carry_the_step_and_the_unit() -> None:
    figure = charts.curve_chart(points(val__kl=[1, 2]), "kl", step_word="步")
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("步", "nats")


@pytest.mark.parametrize(
    ("name", "unit"),
    [("val_seconds", "s"), ("system/rank0/cpu_percent", "%"), ("time/samples_per_second", "samples/s"), ("x", "")],
)
def test_a_quantity_names_its_unit(name: str, unit: str) -> None:
    assert charts.unit(name) == unit


def test_values_that_are_not_finite_leave_a_gap_and_are_counted() -> None:
    line = charts.curve_chart(points(train__x=[1, math.nan, 3, math.inf, 5]), "x").data[0]
    np.testing.assert_array_equal(line.y, [1, np.nan, 3, np.nan, 5])
    assert (line.connectgaps, line.name) == (False, "train (NaN/∞ ×2)")


def test_a_spike_survives_in_a_long_curve() -> None:
    line = charts.curve_chart(points(train__x=[0.0] * 4_000 + [9.0] + [0.0] * 4_000), "x").data[0]
    assert len(line.y) <= 800
    assert line.y.max() == 9


def test_nothing_a_user_wrote_is_markup_in_a_figure() -> None:
    name = "<a href='javascript:alert(1)'>x</a><script>"
    text = charts.curve_chart(points(**{name: [1.0]}), name).to_json()
    assert "\\u003ca " not in text
    assert "<a " not in text
    assert "&lt;a " in text


def test_a_long_label_is_cut_before_it_is_escaped() -> None:
    assert charts.label("<" * 100, 3) == "&lt;&lt;…"


def test_the_table_of_values_counts_what_is_not_finite() -> None:
    table = charts.value_table(points(train__x=[3, 1, math.nan], val__x=[math.inf]))
    assert table.columns.tolist() == ["metric", "last", "smallest", "largest", "points", "not_finite"]
    np.testing.assert_array_equal(table.drop(columns="metric").to_numpy(float)[0], [np.nan, 1, 3, 3, 1])
    np.testing.assert_array_equal(table.drop(columns="metric").to_numpy(float)[1], [np.inf, np.nan, np.nan, 1, 1])
