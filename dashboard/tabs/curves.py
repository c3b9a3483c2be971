"""The curves of the runs that are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from dashboard import charts
from dashboard.address import flag, many, number, one
from dashboard.curves import Line, View, along, curve_figure
from dashboard.live import refreshed
from dashboard.palette import colors
from dashboard.state import curves
from dashboard.tabs import draw_legend
from dashboard.tabs.selection import Selection, config_labels, varying_settings
from dashboard.tabs.window import draw_chart, draw_whole_range, window
from dashboard.words import Say, plain
from experiments.store.curves import Curve

if TYPE_CHECKING:
    import pandas as pd

MOST_CHARTS = 8
FIRST_CHARTS = 4
EPOCH = "epoch"
CLOCK = "clock"
AXES = ("step", EPOCH, "since_start", CLOCK)
SAME_CONFIG = "same_config"  # runs that differ in their seed alone
NONE = "none"


@dataclass(frozen=True)
class Choice:
    """What is drawn.

    Args:
        quantities: a chart each.
        axis: one of AXES, or a metric.
        by: what runs have in common that are averaged: NONE, SAME_CONFIG or a setting.
        view: how.
    """

    quantities: Sequence[str]
    axis: str
    by: str
    view: View


def draw(chosen: Selection, say: Say) -> None:
    """The tab: what is drawn and how, then a chart a quantity, drawn again while one of the runs goes on."""
    groups = charts.group_metrics(chosen.metrics)
    if not groups:
        st.info(say("no_curves_compared"))
        return
    choice = _choice(chosen, groups, say)
    if choice.quantities:
        refreshed(chosen.store, partial(_draw_charts, chosen, groups, choice, say), chosen.ids)
    else:
        st.info(say("choose_chart"))


def first_quantities(groups: Mapping[str, Sequence[str]], objectives: Sequence[str]) -> list[str]:
    """What is drawn before anything is chosen: the objectives, the loss, then what has most stages."""
    learned = [name for name in groups if not name.startswith(charts.BACKGROUND)]
    wanted = [*(charts.quantity(metric) for metric in objectives), "loss", *(learned or groups)]
    return [name for name in dict.fromkeys(wanted) if name in groups][:FIRST_CHARTS]


def _choice(chosen: Selection, groups: Mapping[str, Sequence[str]], say: Say) -> Choice:
    names = list(groups)
    quantities = st.multiselect(
        say("charts"),
        names,
        max_selections=MOST_CHARTS,
        **many("chart", names, first_quantities(groups, list(chosen.objectives))),
    )
    axes = [axis for axis in AXES if axis != EPOCH or EPOCH in chosen.metrics]
    axes += [key for key in chosen.metrics if key not in axes]
    settings = [NONE, SAME_CONFIG, *varying_settings(chosen.runs)]
    places = st.columns([2, 2, 2, 3], vertical_alignment="bottom")
    axis = places[0].selectbox(
        say("x_axis"), axes, format_func=lambda name: say(f"x_{name}") if name in AXES else name, **one("x", axes)
    )
    by = places[1].selectbox(
        say("averaged_over"),
        settings,
        format_func=lambda name: say(name) if name in (NONE, SAME_CONFIG) else name,
        help=say("averaged_help"),
        **one("by", settings),
    )
    smoothing = places[2].slider(say("smoothing"), 0.0, 0.99, step=0.01, **number("smooth", 0.0, 0.0, 0.99))
    with places[3].container(horizontal=True):
        log_x = st.toggle(say("log_x"), **flag("logx"))
        log_y = st.toggle(say("log_y"), **flag("logy"))
        clip = st.toggle(say("clip"), help=say("clip_help"), **flag("clip"))
    title = say(f"x_{axis}") if axis in AXES else axis
    view = View(title, log_x, log_y, smoothing, clip, averaged=by != NONE, has_legend=False)
    return Choice(quantities, axis, by, view)


def _draw_charts(chosen: Selection, groups: Mapping[str, Sequence[str]], choice: Choice, say: Say) -> None:
    draw_whole_range(say)
    low, high = window()
    view = replace(choice.view, low=low, high=high)
    keys = tuple(key for name in choice.quantities for key in groups[name])
    extra = () if choice.axis in AXES and choice.axis != EPOCH else (choice.axis,)
    found = curves(chosen.store, chosen.ids, list(dict.fromkeys([*keys, *extra])))
    styles = _styles(chosen, choice)
    draw_legend(dict(styles.values()))
    places = st.columns(min(2, len(choice.quantities)))
    for i, name in enumerate(choice.quantities):
        lines = list(_lines(chosen, found, groups[name], choice, styles))
        with places[i % len(places)]:
            if any(len(line.x) for line in lines):
                draw_chart(curve_figure(lines, name, view), f"curve {name}")
            else:
                st.info(say("no_values_of", name=plain(name)))
    st.caption(f"{say('width_hint')} {say('drag_hint')}")


def _styles(chosen: Selection, choice: Choice) -> dict[str, tuple[str, str]]:
    """Run id -> what it is averaged with, and its colour: a group has that of its first run."""
    if choice.by == NONE:
        return {run_id: (chosen.names[run_id], chosen.colors[run_id]) for run_id in chosen.ids}
    if choice.by == SAME_CONFIG:
        labels = config_labels(chosen)
    else:
        values = chosen.runs[f"params.{choice.by}"].fillna("–")
        labels = {
            str(run_id): f"{choice.by} {value}" for run_id, value in zip(chosen.runs["run_id"], values, strict=True)
        }
    firsts = {label: run_id for run_id, label in reversed(labels.items())}
    own = colors([firsts[label] for label in dict.fromkeys(labels.values())])
    return {run_id: (label, own[firsts[label]]) for run_id, label in labels.items()}


def _lines(
    chosen: Selection,
    found: Mapping[tuple[str, str], Curve],
    keys: Sequence[str],
    choice: Choice,
    styles: Mapping[str, tuple[str, str]],
) -> Iterator[Line]:
    """Every run's line of every metric of a quantity, those without a value left out."""
    starts = dict(zip(chosen.runs["run_id"], chosen.runs["started"], strict=True))
    for run_id in chosen.ids:
        group, color = styles[run_id]
        for key in keys:
            curve = found.get((run_id, key))
            if curve is None:
                continue
            x = _x(curve, found.get((run_id, choice.axis)), choice.axis, starts[run_id])
            if x is not None:
                stage = key.partition("/")[0] if charts.quantity(key) != key else ""
                yield Line(chosen.names[run_id], group, color, stage, x, curve.value)


def _x(curve: Curve, other: Curve | None, axis: str, started: pd.Timestamp) -> np.ndarray | None:
    """Where the curve's values stand on the horizontal axis; None where the run has nothing that says it."""
    if axis == "step":
        return curve.step.astype(float)
    if axis == "since_start":
        return curve.time
    if axis == CLOCK:
        start = started.tz_localize(None).to_datetime64().astype("datetime64[ms]")  # NaT where the run has no start
        dates: np.ndarray = start + (curve.time * 1000).astype("timedelta64[ms]")
        return dates
    return None if other is None else along(curve.step, other.step, other.value)
