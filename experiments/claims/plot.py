"""Measured points over the law's curve, drawn once as shapes, then written as SVG or as PNG; no library draws it."""

from __future__ import annotations

import math
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from pathlib import Path as File
from typing import TYPE_CHECKING, Literal

from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from experiments.claims.words import band_in, figure
from experiments.store.words import phrase_in
from experiments.words import ENGLISH, Words, wrapped

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 78, 168, 74, 52  # margins; the legend stands on the right
INK, FAINT, PAPER, BAND = "#1f2430", "#c9ced8", "#ffffff", "#dcecdf"
COLOURS = ("#1f6fb4", "#d1603d", "#3a8f5c", "#8a5bb5", "#b58a1c", "#4fa3a5", "#a3435f", "#6b7280")
Anchor = Literal["start", "middle", "end"]
XY = tuple[float, float]


@dataclass(frozen=True)
class Path:
    """A line through points in pixels; closed and filled where `fill` is a colour."""

    points: tuple[XY, ...]
    colour: str
    width: float = 1.0
    dashed: bool = False
    fill: str = ""


@dataclass(frozen=True)
class Dot:
    """A filled circle, in pixels."""

    x: float
    y: float
    colour: str
    radius: float = 3.5


@dataclass(frozen=True)
class Text:
    """A line of text whose baseline starts, is centred or ends at (x, y); `upwards` turns it left by 90 degrees."""

    x: float
    y: float
    text: str
    anchor: Anchor = "start"
    size: int = 12
    colour: str = INK
    upwards: bool = False


Shape = Path | Dot | Text


def shapes(claim: Claim, evidence: Evidence, verdict: str, words: Words = ENGLISH) -> list[Shape]:
    """The picture: the claim as title, its figure and verdict below, points over theory; else the interval alone."""
    title, *more = wrapped(f"{claim.id}  {words.of(vars(claim), 'statement')}", 92)
    drawn: list[Shape] = [Text(LEFT - 60, 20, title, size=14)]
    if more:
        drawn.append(Text(LEFT - 60, 36, more[0] + " ..." * (len(more) > 1), size=14))
    measured = f"{phrase_in(words.language, evidence.statistic)} = {figure(vars(evidence), words)}"
    caption = words("plot_caption", figure=measured, band=band_in(words, claim.rule, claim.band), verdict=verdict)
    drawn.append(Text(LEFT - 60, 56, caption, size=12, colour="#4b5563"))
    if evidence.axes is None or not (evidence.points or evidence.theory):
        return drawn + _interval(claim, evidence, words)
    return drawn + _chart(evidence, evidence.axes, words)


# ---- the shapes -----------------------------------------------------------------------------------------------------


def _chart(evidence: Evidence, axes: Axes, words: Words) -> list[Shape]:
    ends = [end for point in evidence.points for end in (point.low, point.high) if end is not None]
    everything: list[Point | Curve] = [*evidence.points, *evidence.theory]
    xs = [item.x for item in everything]
    ys = [*(item.y for item in everything), *ends]
    scale_x, ticks_x = scale_of(xs, LEFT, WIDTH - RIGHT, axes.log_x)
    scale_y, ticks_y = scale_of(ys, HEIGHT - BOTTOM, TOP, axes.log_y)
    names = list(dict.fromkeys(item.series for item in everything))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    told = replace(axes, x=phrase_in(words.language, axes.x), y=phrase_in(words.language, axes.y))
    drawn = frame_of(told, ticks_x, ticks_y)

    def place(x: float, y: float) -> XY | None:
        spot = scale_x(x), scale_y(y)
        return spot if all(map(math.isfinite, spot)) else None

    measured = {point.series for point in evidence.points}
    for name in dict.fromkeys(item.series for item in evidence.theory):
        line = [place(item.x, item.y) for item in evidence.theory if item.series == name]
        # the law stands out from the measurement of the same name by its dark dashes
        drawn.append(Path(tuple(spot for spot in line if spot), INK if name in measured else colours[name], 1.6, True))
    for point in evidence.points:
        spot = place(point.x, point.y)
        if spot is None:
            continue
        bar = [place(point.x, end) for end in (point.low, point.high) if end is not None]
        if len(bar) == 2 and bar[0] and bar[1]:  # both ends
            drawn.append(Path((bar[0], bar[1]), colours[point.series], 1.4))
        drawn.append(Dot(*spot, colours[point.series]))
    return drawn + _legend(evidence, colours, words)


def frame_of(axes: Axes, ticks_x: Sequence[tuple[float, str]], ticks_y: Sequence[tuple[float, str]]) -> list[Shape]:
    """The lines, ticks and words around a plot."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    drawn: list[Shape] = []
    for x, label in ticks_x:
        drawn += [Path(((x, TOP), (x, bottom)), FAINT, 0.6), Text(x, bottom + 16, label, "middle", 11)]
    for y, label in ticks_y:
        drawn += [Path(((LEFT, y), (right, y)), FAINT, 0.6), Text(LEFT - 6, y + 4, label, "end", 11)]
    drawn.append(Path(((LEFT, TOP), (LEFT, bottom), (right, bottom)), INK, 1.2))
    drawn.append(Text((LEFT + right) / 2, HEIGHT - 14, axes.x, "middle"))
    drawn.append(Text(18, (TOP + bottom) / 2, axes.y, "middle", upwards=True))
    return drawn


def _legend(evidence: Evidence, colours: dict[str, str], words: Words) -> list[Shape]:
    measured = list(dict.fromkeys(point.series for point in evidence.points))
    theory = list(dict.fromkeys(item.series for item in evidence.theory))
    drawn: list[Shape] = []
    x, y = WIDTH - RIGHT + 14, TOP + 8
    for name in measured:
        text = phrase_in(words.language, name or "measured")
        drawn += [Dot(x + 8, y - 4, colours[name]), *_label(x + 22, y, text)]
        y += 18 + 13 * (len(_wrapped(text)) - 1)
    is_told = False  # that dark dashes are theory
    for name in theory:
        colour = INK if name in measured else colours[name]
        text = words("plot_theory") if not name or name in measured else phrase_in(words.language, name)
        if text == words("plot_theory") and is_told:
            continue
        is_told = is_told or text == words("plot_theory")
        drawn += [Path(((x, y - 4), (x + 17, y - 4)), colour, 1.6, True), *_label(x + 22, y, text)]
        y += 18 + 13 * (len(_wrapped(text)) - 1)
    return drawn


def _wrapped(name: str) -> list[str]:
    return textwrap.wrap(name, 20, max_lines=3, placeholder=" ...") or [""]


def _label(x: float, y: float, name: str) -> list[Shape]:
    return [Text(x, y + 13 * i, line, size=11) for i, line in enumerate(_wrapped(name))]


def _interval(claim: Claim, evidence: Evidence, words: Words) -> list[Shape]:
    """The estimate with its interval over the band that the claim allows."""
    low, high = claim.expected - claim.tolerance, claim.expected + claim.tolerance
    values = [low, high, evidence.estimate, evidence.ci_low, evidence.ci_high]
    scale, ticks = scale_of(values, LEFT, WIDTH - RIGHT, False)
    left, right = (LEFT if claim.rule == "at most" else scale(low)), scale(high)
    right = WIDTH - RIGHT if claim.rule == "at least" else right
    y, top, bottom = HEIGHT / 2, TOP + 50, HEIGHT - BOTTOM - 50
    drawn: list[Shape] = [Path(((left, top), (right, top), (right, bottom), (left, bottom)), BAND, fill=BAND)]
    drawn += frame_of(Axes(phrase_in(words.language, evidence.statistic), ""), ticks, ())
    drawn.append(Path(((scale(claim.expected), top), (scale(claim.expected), bottom)), INK, 1.6, dashed=True))
    if all(map(math.isfinite, (evidence.ci_low, evidence.ci_high))):
        drawn.append(Path(((scale(evidence.ci_low), y), (scale(evidence.ci_high), y)), COLOURS[0], 2))
    if math.isfinite(evidence.estimate):
        drawn.append(Dot(scale(evidence.estimate), y, COLOURS[0], 5))
    x = WIDTH - RIGHT + 14
    drawn += [Dot(x + 8, TOP + 4, COLOURS[0]), Text(x + 22, TOP + 8, words("plot_measured"), size=11)]
    drawn.append(Path(((x, TOP + 22), (x + 17, TOP + 22)), INK, 1.6, True))
    drawn.append(Text(x + 22, TOP + 26, words("plot_claimed"), size=11))
    return drawn


# ---- axes -----------------------------------------------------------------------------------------------------------


def scale_of(
    values: Sequence[float], start: float, end: float, log: bool
) -> tuple[Callable[[float], float], list[tuple[float, str]]]:
    """From a value to its pixel, NaN where it has none, and the ticks in pixels with their labels."""
    known = [value for value in values if math.isfinite(value) and (value > 0 or not log)] or [1.0]
    low, high = (math.log10(min(known)), math.log10(max(known))) if log else (min(known), max(known))
    room = 0.06 * (high - low) or 0.5 * abs(low) or 0.5
    low, high = low - room, high + room

    def pixel(value: float) -> float:
        if not math.isfinite(value) or (log and value <= 0):
            return math.nan
        place = ((math.log10(value) if log else value) - low) / (high - low)
        return start + place * (end - start)

    ticks = _decades(low, high) if log else _rounded(low, high)
    return pixel, [(pixel(tick), f"{tick:.6g}") for tick in ticks]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten between two logarithms, every second, third, ... where they are many; 2 and 5 where they are few.

    >>> _decades(-0.1, 2.1), _decades(0.2, 0.9)
    ([1.0, 10.0, 100.0], [2.0, 5.0])
    """
    first, last = math.ceil(low), math.floor(high)
    step = max(1, math.ceil((last - first + 1) / 7))
    powers = [10.0**power for power in range(first, last + 1, step)]
    if len(powers) >= 3:  # enough to read the axis by
        return powers
    fine = [base * 10.0**power for power in range(math.floor(low), last + 1) for base in (1, 2, 5)]
    inside = [value for value in fine if low <= math.log10(value) <= high]
    return inside if len(inside) > 1 else _rounded(10**low, 10**high)


def _rounded(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, about five of them.

    >>> _rounded(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(base * power for base in (1, 2, 5, 10) if base * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12 - math.floor(math.log10(step))) for i in range(first, last + 1)]


# ---- SVG and PNG ----------------------------------------------------------------------------------------------------


def svg(drawn: Sequence[Shape]) -> str:
    """The picture as an SVG element; it may stand in an HTML page as it is."""
    body = "".join(map(_element, drawn))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
        f'font-family="system-ui, sans-serif"><rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>{body}</svg>'
    )


def _element(shape: Shape) -> str:
    if isinstance(shape, Dot):
        return f'<circle cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.radius}" fill="{shape.colour}"/>'
    if isinstance(shape, Path):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        dashes = ' stroke-dasharray="6 4"' if shape.dashed else ""
        kind = "polygon" if shape.fill else "polyline"
        return (
            f'<{kind} points="{points}" fill="{shape.fill or "none"}" stroke="{shape.colour}" '
            f'stroke-width="{shape.width}"{dashes}/>'
        )
    turned = f' transform="rotate(-90 {shape.x:.1f} {shape.y:.1f})"' if shape.upwards else ""
    return (
        f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" font-size="{shape.size}" text-anchor="{shape.anchor}" '
        f'fill="{shape.colour}"{turned}>{escape(shape.text)}</text>'
    )


def image(drawn: Sequence[Shape], scale: int = 2, font: File | None = None) -> Image:
    """The picture in pixels.

    Args:
        drawn: its shapes.
        scale: pixels a unit of the SVG.
        font: a file with the letters of its texts; without one they are written in Pillow's own, which has ASCII.
    """
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), PAPER)
    draw = ImageDraw.Draw(picture)
    for shape in drawn:
        if isinstance(shape, Dot):
            x, y, radius = shape.x * scale, shape.y * scale, shape.radius * scale
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shape.colour)
        elif isinstance(shape, Path):
            points = [(x * scale, y * scale) for x, y in shape.points]
            if shape.fill:
                draw.polygon(points, fill=shape.fill)
            for start, end in _dashes(points, 6 * scale, 4 * scale) if shape.dashed else pairwise(points):
                draw.line((start, end), fill=shape.colour, width=max(1, round(shape.width * scale)))
        else:
            _write(picture, shape, scale, font)
    return picture


def _write(picture: Image, shape: Text, scale: int, file: File | None) -> None:
    from PIL import Image, ImageDraw, ImageFont

    size = shape.size * scale
    font = ImageFont.load_default(size) if file is None else ImageFont.truetype(str(file), size)
    text = latin(shape.text) if file is None else shape.text
    anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
    if not shape.upwards:
        ImageDraw.Draw(picture).text((shape.x * scale, shape.y * scale), text, shape.colour, font, anchor)
        return
    length, height = round(font.getlength(text)) or 1, 2 * shape.size * scale
    label = Image.new("RGB", (length, height), PAPER)
    ImageDraw.Draw(label).text((0, height - shape.size * scale // 2), text, shape.colour, font, "ls")
    label = label.rotate(90, expand=True)
    x, y = round(shape.x * scale) - height + shape.size * scale // 2, round(shape.y * scale - length / 2)
    picture.paste(label, (x, y))


def _dashes(points: Sequence[XY], on: float, off: float) -> Iterator[tuple[XY, XY]]:
    """The pieces of a dashed line; the pattern goes on around corners."""
    left, is_on = on, True
    for (x0, y0), (x1, y1) in pairwise(points):
        length, done = math.hypot(x1 - x0, y1 - y0), 0.0
        while done < length:
            step = min(left, length - done)
            if is_on:
                a, b = done / length, (done + step) / length
                yield (x0 + a * (x1 - x0), y0 + a * (y1 - y0)), (x0 + b * (x1 - x0), y0 + b * (y1 - y0))
            done, left = done + step, left - step
            if left <= 1e-9:
                is_on = not is_on
                left = on if is_on else off


def latin(text: str) -> str:
    """The text in the letters that Pillow's own font has.

    >>> latin("σ² ≤ 1e−3 × γ")
    'sigma2 <= 1e-3 x gamma'
    """
    known = {
        "≤": "<=",
        "≥": ">=",
        "−": "-",
        "–": "-",
        "×": "x",
        "·": " ",
        "∝": "~",
        "≈": "~",
        "√": "sqrt ",
        "∇": "grad ",
    }
    letters = [
        unicodedata.name(letter).rpartition(" ")[2].lower() if "GREEK" in unicodedata.name(letter, "") else letter
        for letter in "".join(known.get(letter, letter) for letter in text)
    ]
    return unicodedata.normalize("NFKD", "".join(letters)).encode("ascii", "ignore").decode()
