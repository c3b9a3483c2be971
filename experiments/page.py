"""A report as one HTML file that needs no network: tables, curves and pictures, all inside."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.claims.plot import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    XY,
    Shape,
    Text,
    frame_of,
    scale_of,
    svg,
)
from experiments.claims.plot import Path as Line
from experiments.claims.registry import Axes
from experiments.claims.report import STYLE
from experiments.report import HEADS, Report
from experiments.store.curves import minmax
from experiments.store.files import list_files
from experiments.store.groups import varying
from experiments.store.read import histories

MOST_CURVES, POINTS = 60, 300  # drawn in one picture; of one curve
MOST_CHARTS, MOST_LABELS = 8, 16
LARGEST_PICTURES = 20_000_000  # bytes of all that are taken in
FIGURES = "figure{display:inline-block;margin:.5rem}figure img{max-width:22rem;image-rendering:pixelated}"


def html(found: Report) -> str:
    """The page: table, tests, what the configs differ in, curves, pictures, and every run."""
    made = f"taolu report, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    made += f"; left out: {found.left_out}" if found.left_out else ""
    parts = [*_tables(found), *_configs(found), *_charts(found), *_pictures(found), *_runs(found)]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(found.title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}{FIGURES}</style></head><body>'
        f"<h1>{escape(found.title)}</h1><p class=soft>{escape(made)}</p>{''.join(parts)}</body></html>\n"
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _tables(found: Report) -> Iterator[str]:
    yield "<h2>Last values, over seeds</h2>" + _table(HEADS, [figure.cells() for figure in found.figures])
    if found.contrasts:
        rows = [[each.group, each.metric, each.sentence] for each in found.contrasts]
        yield f"<h2>Minus {escape(found.groups[0].label)}, seed by seed</h2>"
        yield _table(["group", "metric", "paired difference"], rows)
        yield "<p class=soft>Student's t of the differences between runs of one seed; p corrected by Holm.</p>"


def _configs(found: Report) -> Iterator[str]:
    configs = [group.config for group in found.groups]
    keys = varying(configs)
    if keys:
        heads = ["key", *(f"group {i + 1}" for i in range(len(configs)))]
        rows = [[key, *(config.get(key, "") for config in configs)] for key in keys]
        yield "<h2>What the configs differ in</h2>" + _table(heads, rows)
    shared = [[key, value] for key, value in configs[0].items() if key not in keys and value not in ("null", "false")]
    yield f"<details><summary>What they share</summary>{_table(['key', 'value'], shared)}</details>"
    for what, tag in (("commits of the code", "taolu.git_commit"), ("contents of the data", "taolu.data_digest")):
        values = sorted({each.tags[tag][:12] for group in found.groups for each in group.members if tag in each.tags})
        if len(values) > 1:
            yield f"<p><b>Not alike:</b> the runs have {len(values)} {what}: {escape(', '.join(values[:5]))}</p>"


def _runs(found: Report) -> Iterator[str]:
    rows = [
        [str(i + 1), each.name, each.run_id[:8], each.seed, group.label]
        for i, group in enumerate(found.groups)
        for each in group.members
    ]
    table = _table(["group", "name", "run", "seed", "config"], rows)
    yield f"<details><summary>{len(rows)} runs</summary>{table}</details>"


# ---- curves ---------------------------------------------------------------------------------------------------------


def _charts(found: Report) -> Iterator[str]:
    members = [(i, each) for i, group in enumerate(found.groups) for each in group.members]
    drawn = members[:: math.ceil(len(members) / MOST_CURVES)]
    keys = list(dict.fromkeys([*(figure.metric for figure in found.figures), "train/loss"]))[:MOST_CHARTS]
    table = histories(found.store, [each.run_id for _, each in drawn], keys)
    curves = dict(iter(table.groupby(["key", "run_id"])))
    labels = [group.label for group in found.groups]
    yield "<h2>Curves</h2>"
    if len(drawn) < len(members):
        yield f"<p class=soft>{len(drawn)} of {len(members)} runs are drawn.</p>"
    for key in keys:
        lines = [(i, curves[key, each.run_id]) for i, each in drawn if (key, each.run_id) in curves]
        if any(len(curve) > 1 for _, curve in lines):
            yield svg(chart(key, lines, labels))


def chart(metric: str, curves: Sequence[tuple[int, pd.DataFrame]], labels: Sequence[str]) -> list[Shape]:
    """The curves of one metric over steps, a colour a group.

    Args:
        metric: its name.
        curves: number of the group, and columns step and value.
        labels: of the groups.
    """
    short = [(i, *minmax(curve["step"], curve["value"], POINTS)) for i, curve in curves]
    reach = [float(x) for _, steps, _ in short for x in (steps[0], steps[-1])]
    scale_x, ticks_x = scale_of(reach, LEFT, WIDTH - RIGHT, False)
    ends = [y for _, _, values in short for y in _range(values)]
    scale_y, ticks_y = scale_of(ends, HEIGHT - BOTTOM, TOP, False)
    drawn: list[Shape] = [Text(LEFT - 60, 40, metric, size=14), *frame_of(Axes("step", ""), ticks_x, ticks_y)]
    for i, steps, values in short:
        line = [(scale_x(float(x)), scale_y(float(y))) for x, y in zip(steps, values, strict=True)]
        drawn += [Line(tuple(piece), COLOURS[i % len(COLOURS)], 1.2) for piece in _pieces(line)]
    for row, i in enumerate(sorted({i for i, _, _ in short})[:MOST_LABELS]):
        x, y, text = WIDTH - RIGHT + 14, TOP + 8 + 18 * row, labels[i]
        drawn.append(Line(((x, y - 4), (x + 17, y - 4)), COLOURS[i % len(COLOURS)], 2.5))
        drawn.append(Text(x + 22, y, text if len(text) <= 24 else f"{text[:22]}...", size=11))
    return drawn


def _range(values: np.ndarray) -> tuple[float, float]:
    """The least and largest finite value; NaN where there is none."""
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)


def _pieces(line: Sequence[XY]) -> Iterator[list[XY]]:
    """The line without what is not finite: a gap stays a gap."""
    piece: list[XY] = []
    for point in line:
        if math.isfinite(point[1]):
            piece.append(point)
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


# ---- pictures -------------------------------------------------------------------------------------------------------


def _pictures(found: Report) -> Iterator[str]:
    room, left_out, figures = LARGEST_PICTURES, 0, []
    for group in found.groups:
        member = group.members[0]
        for name, path in last_pictures(found.store.run_folder(member.run_id)).items():
            content = path.read_bytes()
            if len(content) > room:
                left_out += 1
                continue
            room -= len(content)
            caption = escape(f"{group.label}: {name}, step {int(path.stem)}, {member.name}")
            source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
            figures.append(
                f'<figure><img alt="{caption}" src="{source}"><figcaption class=soft>{caption}</figcaption></figure>'
            )
    if figures:
        yield "<h2>Pictures</h2><p class=soft>The last of the first run of each group.</p>" + "".join(figures)
    if left_out:
        yield f"<p class=soft>{left_out} further pictures are left out: more than {LARGEST_PICTURES / 1e6:.0f} MB.</p>"


def last_pictures(folder: Path) -> dict[str, Path]:
    """Name -> file of the last picture of each name that a run has."""
    found = {}
    for name in list_files(folder):  # sorted, and steps have leading zeros
        if match := re.fullmatch(r"media/(.+)/\d+\.png", name):
            found[match[1]] = folder / name
    return found
