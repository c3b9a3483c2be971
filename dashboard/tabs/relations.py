"""Figures of the compared runs against their settings and one another: parallel coordinates, a scatter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from dashboard.address import flag, many, number, one
from dashboard.charts import DRAWABLE
from dashboard.relations import MOST_AXES, is_wide, parallel_figure, scatter_figure, short, spearman
from dashboard.tabs import CHART
from dashboard.tabs.selection import Selection
from dashboard.words import Say, plain
from experiments.store.columns import Columns

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_SETTINGS = 6


def numeric(chosen: Selection, names: Sequence[str]) -> pd.DataFrame:
    """The runs' columns of these names, numbers where all values are; with run_id and unique names."""
    columns = Columns(chosen.runs)
    found = {name: columns.series(name, "") for name in names}
    return pd.DataFrame({"run_id": chosen.ids, "name": [chosen.names[run_id] for run_id in chosen.ids], **found})


def draw_parallel(chosen: Selection, say: Say) -> None:
    """The tab of parallel coordinates: settings that vary, then metrics; colour is the last."""
    metrics = _metrics(chosen)
    settings = [f"params.{name}" for name in _settings(chosen)]
    if not metrics or len(chosen.runs) < 2:
        st.info(say("too_few_compared"))
        return
    left, middle, right = st.columns([2, 3, 2], vertical_alignment="bottom")
    color_by = left.selectbox(say("colored_by"), metrics, format_func=short, **one("color", metrics))
    offered = [*settings, *(name for name in metrics if name != color_by)]
    first = settings[:FIRST_SETTINGS] or offered[:1]
    axes = middle.multiselect(
        say("axes"), offered, format_func=short, max_selections=MOST_AXES - 1, **many("axis", offered, first)
    )
    best = right.slider(say("best_share"), 1, 100, format="%d %%", **number("best", 100, 1, 100))
    table = numeric(chosen, [*axes, color_by])
    table = table[table[color_by].abs() < DRAWABLE]
    lowest = chosen.objectives.get(short(color_by), "min") == "min"
    kept = table.sort_values(color_by, ascending=lowest).head(max(1, math.ceil(len(table) * best / 100)))
    if kept.empty:
        st.info(say("no_values_of", name=plain(short(color_by))))
        return
    st.plotly_chart(parallel_figure(kept, axes, color_by, lowest=lowest), key="parallel", config=CHART)
    told = say(
        "parallel_hint", n=len(kept), total=len(chosen.runs), best=say("smallest_best" if lowest else "largest_best")
    )
    st.caption(told)


def draw_scatter(chosen: Selection, say: Say) -> None:
    """The tab of the scatter: any two numbers of the runs, with trend and rank correlation."""
    metrics = _metrics(chosen)
    table = numeric(chosen, [*(f"params.{name}" for name in _settings(chosen)), *metrics, "seconds"])
    names = [name for name in table.columns[2:] if pd.api.types.is_numeric_dtype(table[name])]
    if not metrics or len(chosen.runs) < 2:
        st.info(say("too_few_compared"))
        return
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    x = left.selectbox(say("x_axis"), names, format_func=short, **one("sx", names))
    y = middle.selectbox(say("y_axis"), names, format_func=short, **one("sy", names, metrics[0]))
    with right.container(horizontal=True):
        log_x = st.toggle(say("log_x"), **flag("slogx", is_wide(table[x].to_numpy(float))))
        log_y = st.toggle(say("log_y"), **flag("slogy", is_wide(table[y].to_numpy(float))))
    figure = scatter_figure(table, x, y, chosen.colors, log_x=log_x, log_y=log_y)
    st.plotly_chart(figure, key="scatter", config=CHART)
    found = spearman(table[x].to_numpy(float), table[y].to_numpy(float))
    if found is None:
        st.caption(say("no_spearman"))
    else:
        p = "" if math.isnan(found.p) else f", p = {found.p:.2g}"
        st.caption(say("spearman", rho=f"{found.rho:.3f}", n=found.n, p=p))


def _metrics(chosen: Selection) -> list[str]:
    """Columns of last values, those that most runs have first; of as many the objectives, then validation."""
    counts = {key: int(chosen.runs[f"metrics.{key}"].notna().sum()) for key in chosen.metrics}
    have = [key for key, count in counts.items() if count]
    order = sorted(have, key=lambda key: (-counts[key], key not in chosen.objectives, not key.startswith("val/"), key))
    return [f"metrics.{key}" for key in order]


def _settings(chosen: Selection) -> list[str]:
    """Parameters with two values or more among the runs that have a metric."""
    runs = chosen.runs[chosen.runs[_metrics(chosen)].notna().any(axis=1)]
    names = [name for name in runs.columns if name.startswith("params.")]
    return [name.removeprefix("params.") for name in names if runs[name].nunique() > 1]
