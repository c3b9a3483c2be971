"""Pictures of rules: support against confidence, and the graph of the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path as File
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from experiments.claims.plot import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Dot,
    Path,
    Shape,
    Text,
    frame_of,
    image,
    scale_of,
)
from experiments.claims.registry import Axes
from experiments.fonts import HINT, font_for, needs_font
from mining.rules import Rules
from mining.spring import spring

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_DOTS = 4000  # drawn
MOST_EDGES = 30  # rules in the graph
LONGEST = 24  # letters of a label
SHADES = ("#cfd8e6", "#9fc0dd", "#6fa3cf", "#3f7fbb", "#d1903d", "#d1603d", "#a32f2f")  # from no lift upwards
Floats = NDArray[np.float64]


def scatter(made: Rules) -> Image:
    """Each rule by support and confidence, coloured by lift; of many, an even choice with the highest lifts on top."""
    support, confidence, lift = (made.measure(name) for name in ("support", "confidence", "lift"))
    order = np.argsort(lift, kind="stable")
    order = order[np.unique(np.linspace(0, len(order) - 1, min(MOST_DOTS, len(order))).astype(int))]
    x, ticks_x = scale_of(support[order].tolist(), LEFT, WIDTH - RIGHT, log=True)
    y, ticks_y = scale_of(confidence[order].tolist(), HEIGHT - BOTTOM, TOP, log=False)
    shades, legend = _shades(lift)
    drawn: list[Shape] = [Text(LEFT - 60, 24, f"{len(made):,} rules", size=14)]
    drawn += frame_of(Axes("support, share of the baskets", "confidence"), ticks_x, ticks_y)
    drawn += [Dot(x(support[at]), y(confidence[at]), SHADES[shades[at]], 2.5) for at in order.tolist()]
    return image(drawn + legend)


def _shades(lift: Floats) -> tuple[NDArray[np.integer], list[Shape]]:
    """Number of the shade of each rule, and what the shades mean: steps of equal ratio."""
    logs = np.log2(np.maximum(lift, 2.0**-10))
    top = max(float(logs.max(initial=0)), 0.1)
    shades = np.clip((logs / top * len(SHADES)).astype(int), 0, len(SHADES) - 1)
    left = WIDTH - RIGHT + 14
    drawn: list[Shape] = [Text(left, TOP + 8, "lift", size=11)]
    for number, colour in enumerate(SHADES):
        least = 2 ** (top * number / len(SHADES))
        drawn += [
            Dot(left + 8, TOP + 26 + 18 * number, colour),
            Text(left + 22, TOP + 30 + 18 * number, f"from {least:.3g}", size=11),
        ]
    return shades, drawn


def graph(made: Rules, names: Sequence[str], say: Callable[[str], None], fonts: Sequence[File] | None = None) -> Image:
    """The first rules as a graph: items are words, a rule is a dot between its antecedent's and its consequent's items.

    Args:
        made: the best first.
        names: of the items by id.
        say: told once where no installed font has the letters; items are then numbers.
        fonts: folders to look for fonts in; default the system's.
    """
    best = made.where(np.arange(min(MOST_EDGES, len(made))))
    sides = [_sides(best, numbers) for numbers in (best.antecedents, best.consequents)]
    items = sorted({item for side in sides for ids in side for item in ids})
    labels = [_short(names[item]) for item in items]
    font = None
    if needs_font(labels):
        font = font_for(labels) if fonts is None else font_for(labels, fonts)
        if font is None:
            say(HINT)
            labels = [f"#{item}" for item in items]
    place = {item: at for at, item in enumerate(items)}
    edges = [(place[item], len(items) + at) for at, ids in enumerate(sides[0]) for item in ids]
    edges += [(len(items) + at, place[item]) for at, ids in enumerate(sides[1]) for item in ids]
    spots = _spread(spring(len(items) + len(best), edges))
    shades, legend = _shades(best.measure("lift"))
    drawn: list[Shape] = [Text(LEFT - 60, 24, f"the first {len(best)} of {len(made):,} rules", size=14)]
    for start, end in edges:
        drawn += _arrow(spots[start], spots[end], is_head=end < len(items))
    drawn += [Dot(*spots[len(items) + at], SHADES[shades[at]], 5) for at in range(len(best))]
    drawn += [Text(*spots[at], label, "middle", 12) for at, label in enumerate(labels)]
    return image(drawn + legend, font=font)


def _sides(made: Rules, numbers: NDArray[np.integer]) -> list[list[int]]:
    """Ids of the items of some itemsets."""
    starts = (np.cumsum(made.itemsets.lengths, dtype=np.int64) - made.itemsets.lengths).take(numbers)
    ends = starts + made.itemsets.lengths.take(numbers)
    return [made.itemsets.items[a:b].tolist() for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]


def _short(name: str) -> str:
    return (
        name
        if len(name) <= LONGEST
        else f"{name[: LONGEST - 1]}…"
        if not name.isascii()
        else f"{name[: LONGEST - 2]}.."
    )


def _spread(spots: Floats) -> list[tuple[float, float]]:
    """Places over the whole picture, room left for words."""
    low, high = spots.min(axis=0), spots.max(axis=0)
    share = (spots - low) / np.maximum(high - low, 1e-9)
    x = LEFT - 10 + share[:, 0] * (WIDTH - RIGHT - LEFT - 20)
    y = TOP - 20 + share[:, 1] * (HEIGHT - TOP - 10)
    return [(float(a), float(b)) for a, b in zip(x, y, strict=True)]


def _arrow(start: tuple[float, float], end: tuple[float, float], is_head: bool) -> list[Shape]:
    """A line; with a head half-way where it leads to a consequent."""
    drawn: list[Shape] = [Path((start, end), "#9aa3b2", 1.0)]
    if is_head:
        angle = math.atan2(end[1] - start[1], end[0] - start[0])
        tip = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        wings = [(tip[0] - 7 * math.cos(angle + turn), tip[1] - 7 * math.sin(angle + turn)) for turn in (-0.45, 0.45)]
        drawn.append(Path((tip, *wings), "#6b7280", fill="#6b7280"))
    return drawn
