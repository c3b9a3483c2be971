from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dashboard.curves import FEW, MANY_POINTS, THICK, THIN, Line, View, along, curve_figure, mean_band, smoothed

STEP = View("step")
BLUE, ORANGE = "#0072B2", "#E69F00"


def line(y: list[float] | np.ndarray, name: str = "a", *, stage: str = "", group: str = "", color: str = BLUE) -> Line:
    """A line over the steps 0, 1, 2, ..."""
    return Line(name, group or name, color, stage, np.arange(len(y), dtype=float), np.asarray(y, dtype=float))


@settings(deadline=None, max_examples=50)  # the first one imports pandas and SciPy
@given(hnp.arrays(float, st.integers(1, 30), elements=st.floats(-1e3, 1e3)), st.floats(0.01, 0.99))
def test_smoothing_is_the_weighted_mean_of_what_came_before(values: np.ndarray, weight: float) -> None:
    def mean(i: int) -> float:
        weights = weight ** np.arange(i, -1, -1)
        return float(weights @ values[: i + 1] / weights.sum())

    np.testing.assert_allclose(smoothed(values, weight), [mean(i) for i in range(len(values))], rtol=1e-8, atol=1e-8)


def test_smoothing_passes_over_what_is_not_finite() -> None:
    values = smoothed(np.array([1.0, math.nan, 1.0, math.inf, 1.0]), 0.9)
    np.testing.assert_array_equal(values, [1.0, np.nan, 1.0, np.inf, 1.0])


def test_another_metric_is_an_axis_only_where_it_was_recorded() -> None:
    found = along(np.arange(5), np.array([1, 3]), np.array([10.0, 20.0]))
    np.testing.assert_array_equal(found, [np.nan, 10, 15, 20, np.nan])
    assert np.isnan(along(np.arange(2), np.array([0]), np.array([np.nan]))).all()


@settings(deadline=None, max_examples=50)  # the first one imports pandas and SciPy
@given(hnp.arrays(float, (3, 7), elements=st.floats(-1e3, 1e3)))
def test_a_band_over_equal_steps_is_mean_and_deviation(rows: np.ndarray) -> None:
    x, mean, deviation, count = mean_band([(np.arange(7.0), row) for row in rows])
    np.testing.assert_allclose(x, np.arange(7))
    np.testing.assert_allclose(mean, rows.mean(0), atol=1e-9)
    np.testing.assert_allclose(deviation, rows.std(0, ddof=1), atol=1e-6)
    assert set(count) == {3}


def test_a_member_counts_only_between_its_own_ends() -> None:
    x, mean, deviation, count = mean_band(
        [(np.array([0.0, 2.0]), np.array([0.0, 2.0])), (np.array([1.0, 4.0]), np.array([3.0, 3.0]))]
    )
    np.testing.assert_array_equal(x, [0, 1, 2, 4])
    np.testing.assert_array_equal(mean, [0, 2, 2.5, 3])
    np.testing.assert_array_equal(count, [1, 2, 2, 1])
    np.testing.assert_allclose(deviation, [0, math.sqrt(2), math.sqrt(0.5), 0])


def test_a_long_band_is_drawn_on_a_grid_and_an_empty_one_not_at_all() -> None:
    long = np.linspace(0, 1, 5_000)
    x, mean, _, _ = mean_band([(long, 2 * long)], n_points=50)
    np.testing.assert_allclose(mean, 2 * x)
    assert len(x) == 50
    assert len(mean_band([(np.array([0.0]), np.array([np.nan]))])[0]) == 0


def test_values_that_are_not_finite_leave_a_gap_and_are_counted() -> None:
    trace = curve_figure([line([1, math.nan, 3, math.inf, 5], "train")], "x", STEP).data[0]
    np.testing.assert_array_equal(trace.y, [1, np.nan, 3, np.nan, 5])
    assert (trace.connectgaps, trace.name) == (False, "train (NaN/∞ ×2)")


def test_every_planted_spike_survives_in_a_hundred_long_curves() -> None:
    values = np.zeros((100, 10_000))
    values[np.arange(100), np.random.default_rng(0).integers(0, 10_000, 100)] = 9
    traces = curve_figure([line(row, str(i)) for i, row in enumerate(values)], "x", STEP).data
    assert all(max(trace.y) == 9 and len(trace.y) <= 800 for trace in traces)
    assert {trace.type for trace in traces} == {"scattergl"}  # 80,000 points


def test_few_points_are_drawn_without_webgl() -> None:
    assert MANY_POINTS > 8 * 800  # a run's page has eight charts
    assert curve_figure([line([1, 2])], "x", STEP).data[0].type == "scatter"


def test_axes_carry_the_step_and_the_unit() -> None:
    figure = curve_figure([line([1, 2])], "kl", View("步"))
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("步", "nats")


def test_nothing_a_user_wrote_is_markup_in_a_figure() -> None:
    name = "<a href='javascript:alert(1)'>x</a><script>"
    for view in (STEP, View(name, averaged=True)):
        text = curve_figure([line([1.0], name)], name, view).to_json()
        assert "<a " not in text.replace("\\u003c", "<")
        assert "&lt;a " in text.replace("\\u0026", "&")


def test_training_is_thin_beside_validation_and_thick_alone() -> None:
    both = curve_figure([line([1, 2], stage="train"), line([3, 4], stage="val")], "kl", STEP).data
    assert [trace.line.width for trace in both] == [THIN, THICK]
    assert [trace.showlegend for trace in both] == [True, False]  # one entry a run
    assert curve_figure([line([1, 2], stage="train")], "kl", STEP).data[0].line.width == THICK


def test_a_smoothed_line_lies_over_what_it_was_made_of() -> None:
    noisy = np.random.default_rng(0).normal(size=FEW + 1)
    raw, smooth = curve_figure([line(noisy)], "x", View("step", smoothing=0.9)).data
    np.testing.assert_array_equal(raw.y, noisy)
    np.testing.assert_allclose(smooth.y, smoothed(noisy, 0.9))
    assert raw.opacity < 1
    assert len(curve_figure([line(noisy[:FEW])], "x", View("step", smoothing=0.9)).data) == 1  # few are left alone


def test_a_mean_has_a_band_and_faint_members() -> None:
    lines = [line([1, 2], "a", group="g"), line([3, 6], "b", group="g"), line([9, 9], "c", group="h", color=ORANGE)]
    first, second, band, mean, *others = curve_figure(lines, "x", View("step", averaged=True)).data
    assert first.opacity == second.opacity < 1
    np.testing.assert_allclose(mean.y, [2, 4])
    np.testing.assert_allclose(mean.customdata, [[math.sqrt(2), 2], [math.sqrt(8), 2]])
    assert (mean.name, band.fill, band.fillcolor) == ("g (n = 2)", "toself", "rgba(0,114,178,0.18)")
    assert [trace.line.color for trace in others if trace.name] == [ORANGE, ORANGE]


def test_means_over_dates_stay_dates() -> None:
    days = np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[ms]")
    figure = curve_figure([Line("a", "a", BLUE, "", days, np.ones(2))], "x", View("date", averaged=True))
    np.testing.assert_array_equal(np.asarray(figure.data[2].x, dtype="datetime64[ms]"), days)


def test_a_logarithmic_axis_is_refused_where_a_value_is_not_positive() -> None:
    logs = View("step", log_x=True, log_y=True)
    assert curve_figure([line([1, math.nan, 2])], "x", logs).layout.yaxis.type == "log"
    figure = curve_figure([line([1, -2])], "x", logs)
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", None)


def test_a_window_keeps_every_point_inside_and_one_on_either_side() -> None:
    figure = curve_figure([line(np.arange(10_000.0))], "x", View("step", low=100, high=199))
    np.testing.assert_array_equal(figure.data[0].y, np.arange(99, 201))
    assert figure.layout.xaxis.range == (100, 199)
    between = curve_figure([line([1, 2, 3])], "x", View("step", low=1.2, high=1.4, log_x=True))
    np.testing.assert_array_equal(between.data[0].y, [2, 3])
    np.testing.assert_allclose(between.layout.xaxis.range, np.log10([1.2, 1.4]))
    back = Line("a", "a", BLUE, "", np.array([3.0, 1.0, 2.0]), np.arange(3.0))
    np.testing.assert_array_equal(curve_figure([back], "x", View("x", low=2, high=9)).data[0].y, [0, 2])


@pytest.mark.parametrize("is_log", [False, True])
def test_clipping_leaves_out_the_outermost_hundredths(is_log: bool) -> None:
    values = np.linspace(1, 2, 1_000)
    values[500] = 1e9
    low, high = curve_figure([line(values)], "x", View("step", log_y=is_log, clip=True)).layout.yaxis.range
    assert high < (math.log10(2.2) if is_log else 2.2)
    assert low > (-0.1 if is_log else 0.9)


def test_numbers_too_large_for_an_axis_are_gaps() -> None:
    trace = curve_figure([line([1e308, 1, -1e308])], "x", View("step", clip=True)).data[0]
    np.testing.assert_array_equal(trace.y, [np.nan, 1, np.nan])
    assert trace.name == "a (NaN/∞ ×2)"


def test_nothing_to_draw_makes_an_empty_chart() -> None:
    view = View("step", clip=True, averaged=True, log_y=True)
    assert len(curve_figure([line([]), line([math.nan], "b")], "x", view).data) == 1
