"""The plot, in both of its forms."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from experiments.claims.plot import image, scale_of, shapes, svg
from experiments.claims.registry import PLANTED, Axes, Curve, Evidence, Point, imported

[CLAIM, *_] = imported(PLANTED)
SVG = "{http://www.w3.org/2000/svg}"


def measured(log: bool) -> Evidence:
    points = [Point(x, 3 / x, 2 / x, 4 / x, "B & <C>") for x in (1.0, 10.0, 100.0)]
    return Evidence(
        "slope",
        -1.0,
        -1.1,
        -0.9,
        9,
        (*points, Point(5.0, math.nan), Point(7.0, -1.0, -2.0, 0.0)),
        tuple(Curve(x, 3 / x, "law") for x in (1.0, 100.0)),
        Axes("B", "Var, σ²", log, log),
    )


def test_svg_holds_points_bars_and_the_law_at_their_places() -> None:
    root = ET.fromstring(svg(shapes(CLAIM, measured(log=True), "fails")))
    x, y = ([float(dot.get(key, "")) for dot in root.iter(f"{SVG}circle")][:3] for key in ("cx", "cy"))
    assert abs((x[2] - x[1]) - (x[1] - x[0])) < 0.2  # equal steps on logarithmic axes
    assert y[0] < y[1] < y[2]  # downwards
    dashed = [line for line in root.iter(f"{SVG}polyline") if line.get("stroke-dasharray")]
    assert dashed[0].get("points") == f"{x[0]:.1f},{y[0]:.1f} {x[2]:.1f},{y[2]:.1f}"
    words = " ".join(text.text or "" for text in root.iter(f"{SVG}text"))
    assert all(part in words for part in ("B & <C>", "law", "Var, σ²", "slope = -1 [-1.1, -0.9]", "fails", CLAIM.id))


def test_what_an_axis_cannot_show_is_left_out() -> None:
    linear, logarithmic = (svg(shapes(CLAIM, measured(log), "fails")).count("<circle") for log in (False, True))
    assert (linear, logarithmic) == (4 + 2, 3 + 2)  # and two in the legend


def test_evidence_without_points_shows_its_interval_over_the_band() -> None:
    drawn = svg(shapes(CLAIM, Evidence("slope", -1.0, -1.1, -0.9, 9), "fails"))
    assert "<polygon" in drawn
    assert svg(shapes(CLAIM, Evidence("slope", math.nan, math.nan, math.nan, 9), "undetermined")).endswith("</svg>")


def test_png_is_the_same_picture_in_pixels() -> None:
    picture = np.asarray(image(shapes(CLAIM, measured(log=True), "fails"), scale=1))
    blue = (picture == (0x1F, 0x6F, 0xB4)).all(-1)
    assert picture.shape == (420, 720, 3)
    assert blue[:, :552].sum() > 3 * 30  # three dots and bars left of the legend


@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=6), st.booleans())
def test_every_value_falls_inside_the_frame_and_ticks_are_few(values: list[float], log: bool) -> None:
    pixel, ticks = scale_of(values, 100, 500, log)
    assert all(100 <= pixel(value) <= 500 for value in values)
    assert all(99 <= place <= 501 for place, _ in ticks)
    assert len(ticks) <= 14
