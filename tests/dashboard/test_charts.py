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


@pytest.mark.parametrize(
    ("name", "unit"),
    [("val_seconds", "s"), ("system/rank0/cpu_percent", "%"), ("time/samples_per_second", "samples/s"), ("x", "")],
)
def test_a_quantity_names_its_unit(name: str, unit: str) -> None:
    assert charts.unit(name) == unit


def test_a_long_label_is_cut_before_it_is_escaped() -> None:
    assert charts.label("<" * 100, 3) == "&lt;&lt;…"


def test_the_table_of_values_counts_what_is_not_finite() -> None:
    table = charts.value_table(points(train__x=[3, 1, math.nan], val__x=[math.inf]))
    assert table.columns.tolist() == ["metric", "last", "smallest", "largest", "points", "not_finite"]
    np.testing.assert_array_equal(table.drop(columns="metric").to_numpy(float)[0], [np.nan, 1, 3, 3, 1])
    np.testing.assert_array_equal(table.drop(columns="metric").to_numpy(float)[1], [np.inf, np.nan, np.nan, 1, 1])


WORDS = {name: name for name in ("path_title", "map_title", "optimizer", "equation", "minimum", "time")}


def paths(dim: int) -> dict[str, np.ndarray]:
    """A path of two points in `dim` dimensions, and a map of 2 x 3 cells."""
    line = np.array([[0.0] * dim, [1.0] * dim])
    axes = {"x": np.linspace(-1, 2, 4), **({"y": np.linspace(0, 5, 6)} if dim == 2 else {})}
    return {
        **{"t": np.array([0.0, 0.5]), "theta": line, "ode_t": np.array([0.0, 0.5]), "ode_theta": 2 * line, **axes},
        **{"L": np.ones((6, 4) if dim == 2 else 4), "minima": np.ones((2, dim)), "lr": np.array([0.01, 0.1])},
        **{"beta": np.array([0.0, 0.9, 0.99]), "basin": np.array([[0, 1, -1], [0, 0, 2]]), "loss": np.ones((2, 3))},
    }


def test_a_path_in_the_plane_lies_on_its_landscape() -> None:
    figure = charts.path_chart(paths(2), WORDS)
    assert [trace.type for trace in figure.data] == ["contour", "scatter", "scatter", "scatter"]
    assert [trace.name for trace in figure.data[1:]] == ["minimum", "equation", "optimizer"]
    assert figure.data[3].y.tolist() == [0, 1]
    assert (figure.layout.xaxis.range, figure.layout.yaxis.range) == ((-1, 2), (0, 5))


def test_a_path_on_a_line_is_drawn_over_time() -> None:
    figure = charts.path_chart(paths(1), WORDS)
    assert [(trace.name, trace.x.tolist(), trace.y.tolist()) for trace in figure.data] == [
        ("equation", [0, 0.5], [0, 2]),
        ("optimizer", [0, 0.5], [0, 1]),
    ]
    assert figure.layout.xaxis.title.text == "time"


def test_a_map_has_lr_to_the_right_beta_upwards_and_one_colour_for_all_poor_minima() -> None:
    figure = charts.basin_chart(paths(1), WORDS)
    cells = figure.data[0]
    assert cells.z.tolist() == [[0, 0], [1, 0], [-1, 1]]
    assert cells.customdata[2].tolist() == [[-1, 1], [2, 1]]
    np.testing.assert_allclose(cells.y, [1, 0.1, 0.01])
    assert figure.layout.yaxis.autorange == "reversed"


def test_a_map_without_momentum_is_a_strip() -> None:
    strip = {**paths(1), "beta": np.array([np.nan]), "basin": np.array([[0], [1]]), "loss": np.ones((2, 1))}
    figure = charts.basin_chart(strip, WORDS)
    assert (figure.data[0].y, figure.layout.yaxis.visible) == ((1.0,), False)
