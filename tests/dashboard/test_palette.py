from __future__ import annotations

import base64
import io
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dashboard.palette import COLORS, colors, swatch

# What is left of linear RGB without one kind of cone: Machado, Oliveira & Fernandes 2009, severity 1.
EYES = {
    "all cones": np.eye(3),
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "tritanopia": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}
IDS = st.lists(st.uuids().map(lambda each: each.hex), min_size=1, max_size=12, unique=True)


def linear(color: str) -> np.ndarray:
    """Linear RGB of #RRGGBB (IEC 61966-2-1)."""
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB, under D65."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / np.array([0.9505, 1, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eye", EYES)
def test_any_two_colours_are_told_apart_by_every_eye(eye: str) -> None:
    seen = [lab(np.clip(np.array(EYES[eye]) @ linear(color), 0, 1)) for color in COLORS]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) >= 16


@pytest.mark.parametrize("page", ["#FFFFFF", "#0E1117"])
def test_every_colour_stands_out_from_a_light_and_a_dark_page(page: str) -> None:
    luminance = [float(np.array([0.2126, 0.7152, 0.0722]) @ linear(color)) + 0.05 for color in (page, *COLORS)]
    assert min(max(each, luminance[0]) / min(each, luminance[0]) for each in luminance[1:]) >= 2


@settings(max_examples=30)
@given(IDS)
def test_a_run_added_at_the_end_changes_no_other_colour(ids: list[str]) -> None:
    found = colors(ids)
    assert list(found) == ids
    assert colors(ids[:-1]) == {run_id: found[run_id] for run_id in ids[:-1]}
    assert colors([*ids, *ids]) == found


@settings(max_examples=30)
@given(IDS)
def test_colours_are_used_evenly(ids: list[str]) -> None:
    counts = [list(colors(ids).values()).count(color) for color in COLORS]
    assert max(counts) - min(counts) <= 1


def test_a_swatch_is_a_disc_of_the_colour() -> None:
    kind, _, data = swatch("#0072B2").partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == "data:image/png;base64"
    assert image.getpixel((32, 32)) == (0, 0x72, 0xB2, 255)
    assert image.getpixel((0, 0)) == (0, 0, 0, 0)
