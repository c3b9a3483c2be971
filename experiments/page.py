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
from experiments.report import Report, heads
from experiments.store.curves import minmax
from experiments.store.files import list_files
from experiments.store.groups import varying
from experiments.store.read import histories
from experiments.words import Words

MOST_CURVES, POINTS = 60, 300  # drawn in one picture; of one curve
MOST_CHARTS, MOST_LABELS = 8, 16
LARGEST_PICTURES = 20_000_000  # bytes of all that are taken in
FIGURES = "figure{display:inline-block;margin:.5rem}figure img{max-width:22rem;image-rendering:pixelated}"


def html(found: Report, words: Words) -> str:
    """The page: table, tests, what the configs differ in, curves, pictures, and every run."""
    made = f"taolu report, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    made += words("report_left_out", what=left_out) if (left_out := found.left_out(words)) else ""
    parts = [part for section in (_tables, _configs, _charts, _pictures, _runs) for part in section(found, words)]
    title = escape(found.title(words))
    return (
        f'<!doctype html><html lang="{words.language}"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}{FIGURES}</style></head><body>'
        f"<h1>{title}</h1><p class=soft>{escape(made)}</p>{''.join(parts)}</body></html>\n"
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _tables(found: Report, words: Words) -> Iterator[str]:
    yield _title(words("report_values")) + _table(heads(words), [figure.cells(words) for figure in found.figures])
    if found.contrasts:
        rows = [[each.group, each.metric, each.sentence(words)] for each in found.contrasts]
        yield _title(words("report_tests", first=found.groups[0].label))
        yield _table(_named(words, "group", "metric", "paired"), rows)
        yield f"<p class=soft>{words('report_tests_hint')}</p>"


def _title(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def _named(words: Words, *names: str) -> list[str]:
    return [words(f"report_{name}") for name in names]


def _configs(found: Report, words: Words) -> Iterator[str]:
    configs = [group.config for group in found.groups]
    keys = varying(configs)
    if keys:
        groups = [words("report_group_n", n=i + 1) for i in range(len(configs))]
        rows = [[key, *(config.get(key, "") for config in configs)] for key in keys]
        yield _title(words("report_differ")) + _table([*_named(words, "key"), *groups], rows)
    shared = [[key, value] for key, value in configs[0].items() if key not in keys and value not in ("null", "false")]
    table = _table(_named(words, "key", "value"), shared)
    yield f"<details><summary>{words('report_share')}</summary>{table}</details>"
    for what, tag in (("report_commits", "taolu.git_commit"), ("report_digests", "taolu.data_digest")):
        values = sorted({each.tags[tag][:12] for group in found.groups for each in group.members if tag in each.tags})
        if len(values) > 1:
            told = words(what, n=len(values), values=", ".join(values[:5]))
            yield f"<p><b>{words('report_not_alike')}</b> {escape(told)}</p>"


def _runs(found: Report, words: Words) -> Iterator[str]:
    rows = [
        [str(i + 1), each.name, each.run_id[:8], each.seed, group.label]
        for i, group in enumerate(found.groups)
        for each in group.members
    ]
    table = _table(_named(words, "group", "name", "run", "seed", "config"), rows)
    yield f"<details><summary>{words('report_runs', n=len(rows))}</summary>{table}</details>"


# ---- curves ---------------------------------------------------------------------------------------------------------


def _charts(found: Report, words: Words) -> Iterator[str]:
    members = [(i, each) for i, group in enumerate(found.groups) for each in group.members]
    drawn = members[:: math.ceil(len(members) / MOST_CURVES)]
    keys = list(dict.fromkeys([*(figure.metric for figure in found.figures), "train/loss"]))[:MOST_CHARTS]
    table = histories(found.store, [each.run_id for _, each in drawn], keys)
    curves = dict(iter(table.groupby(["key", "run_id"])))
    labels = [group.label for group in found.groups]
    yield _title(words("report_curves"))
    if len(drawn) < len(members):
        yield f"<p class=soft>{words('report_drawn', n=len(drawn), total=len(members))}</p>"
    for key in keys:
        lines = [(i, curves[key, each.run_id]) for i, each in drawn if (key, each.run_id) in curves]
        if any(len(curve) > 1 for _, curve in lines):
            yield svg(chart(key, lines, labels, words))


def chart(metric: str, curves: Sequence[tuple[int, pd.DataFrame]], labels: Sequence[str], words: Words) -> list[Shape]:
    """The curves of one metric over steps, a colour a group.

    Args:
        metric: its name.
        curves: number of the group, and columns step and value.
        labels: of the groups.
        words: of the language.
    """
    short = [(i, *minmax(curve["step"], curve["value"], POINTS)) for i, curve in curves]
    reach = [float(x) for _, steps, _ in short for x in (steps[0], steps[-1])]
    scale_x, ticks_x = scale_of(reach, LEFT, WIDTH - RIGHT, False)
    ends = [y for _, _, values in short for y in _range(values)]
    scale_y, ticks_y = scale_of(ends, HEIGHT - BOTTOM, TOP, False)
    drawn: list[Shape] = [
        Text(LEFT - 60, 40, metric, size=14),
        *frame_of(Axes(words("report_step"), ""), ticks_x, ticks_y),
    ]
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


def _pictures(found: Report, words: Words) -> Iterator[str]:
    room, left_out, figures = LARGEST_PICTURES, 0, []
    for group in found.groups:
        member = group.members[0]
        for name, path in last_pictures(found.store.run_folder(member.run_id)).items():
            content = path.read_bytes()
            if len(content) > room:
                left_out += 1
                continue
            room -= len(content)
            told = words("report_caption", group=group.label, name=name, step=int(path.stem), run=member.name)
            caption = escape(told)
            source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
            figures.append(
                f'<figure><img alt="{caption}" src="{source}"><figcaption class=soft>{caption}</figcaption></figure>'
            )
    if figures:
        yield f"{_title(words('report_pictures'))}<p class=soft>{words('report_pictures_hint')}</p>{''.join(figures)}"
    if left_out:
        told = words("report_pictures_left", n=left_out, megabytes=LARGEST_PICTURES / 1e6)
        yield f"<p class=soft>{told}</p>"


def last_pictures(folder: Path) -> dict[str, Path]:
    """Name -> file of the last picture of each name that a run has."""
    found = {}
    for name in list_files(folder):  # sorted, and steps have leading zeros
        if match := re.fullmatch(r"media/(.+)/\d+\.png", name):
            found[match[1]] = folder / name
    return found
