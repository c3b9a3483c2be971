"""What goes on in the store: runs at work, recent failures, the best of each family, and whether all is well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import streamlit as st

from dashboard import artifacts, live
from dashboard import table as tables
from dashboard.links import go
from dashboard.palette import colors, swatch
from dashboard.state import curves, table
from dashboard.views.runs import empty
from dashboard.words import Say, ago, plain, size_text, span
from experiments.store.curves import minmax
from experiments.store.heartbeat import TAG
from experiments.store.location import Store

if TYPE_CHECKING:
    import pandas as pd
    from streamlit.navigation.page import StreamlitPage

MOST_RUNNING, MOST_FAILURES, MOST_FAMILIES = 12, 5, 40
_SPARK_POINTS = 60


class Progress(NamedTuple):
    """How far a run is.

    Args:
        step: the last it told of.
        total: steps in all; None where it has no end but the user's.
        seconds_left: by the pace so far; None where nothing is known.
    """

    step: int
    total: int | None
    seconds_left: float | None


def page(store: Store, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """The page."""
    st.title(say("overview"))
    if table(store).empty:
        empty(say)
        return
    live.refreshed(store, partial(_now, store, say, pages))
    runs = table(store)
    _best(runs, say, pages)
    _failures(store, runs, say, pages)


def _now(store: Store, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """Figures of the store, and a card for each run at work."""
    runs = table(store)
    going = live.going(runs)
    lost = int((runs["status"] == "RUNNING").sum()) - int(going.sum())
    waiting = sum(1 for _ in (store.folder / "queue" / "waiting").glob("*.yaml"))
    with st.container(horizontal=True):
        tile = partial(st.metric, border=True, width=134)
        tile(say("all_runs"), f"{len(runs):,}")
        tile(say("RUNNING"), f"{int(going.sum()):,}")
        tile(say("waiting"), f"{waiting:,}", help=say("waiting_help"))
        tile(say("FAILED"), f"{int((runs['status'] == 'FAILED').sum()):,}")
        tile(say("lost"), f"{lost:,}", help=say("lost_help"))
        if store.database is not None and store.database.is_file():
            tile(say("database"), size_text(store.database.stat().st_size))
    if lost:
        st.warning(say("lost_hint", n=lost), icon=":material/heart_broken:")
    rows = runs[going]
    if rows.empty:
        return
    st.subheader(say("at_work"))
    cards = st.columns(3)
    for i, (_, row) in enumerate(rows.head(MOST_RUNNING).iterrows()):
        with cards[i % 3].container(border=True):
            _card(store, row, say, pages)
    if len(rows) > MOST_RUNNING:
        st.caption(say("and_more", n=len(rows) - MOST_RUNNING))


def _card(store: Store, row: pd.Series[Any], say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """One run at work: how far it is, how long it takes, and how its main metric goes."""
    _link(str(row["run_id"]), str(row["name"]), pages)
    known = progress(row.get(f"tags.{TAG}"), row["started"])
    told = [plain(str(row["experiment"]))]
    if known is not None:
        told.append(
            say("step_of", step=f"{known.step:,}", total=f"{known.total:,}") if known.total else f"{known.step:,}"
        )
        if known.seconds_left is not None:
            told.append(say("left", span=span(say, known.seconds_left)))
        if known.total:
            st.progress(min(known.step / known.total, 1.0))
    st.caption(" · ".join(told))
    key = main_metric(row)
    curve = None if key is None else curves(store, [str(row["run_id"])], [key]).get((str(row["run_id"]), key))
    if key is not None and curve is not None:
        _, shown = minmax(curve.step, curve.value, _SPARK_POINTS)
        finite = shown[np.isfinite(shown)]
        st.metric(plain(key), f"{curve.value[-1]:.5g}", chart_data=finite if len(finite) > 1 else None)


def progress(beat: object, started: datetime) -> Progress | None:
    """How far a run is by its heartbeat, None where that says nothing.

    Args:
        beat: the tag, JSON.
        started: when the run began.
    """
    try:
        found = json.loads(str(beat))
        step, total = int(found["step"]), found["total_steps"]
        total = None if total is None else int(total)
        spent = float(found["time"]) - started.timestamp()
    except (ValueError, TypeError, KeyError):
        return None
    is_foreseen = total is not None and 0 < step <= total and spent > 0
    return Progress(step, total, spent * (total - step) / step if is_foreseen and total is not None else None)


def main_metric(row: pd.Series[Any]) -> str | None:
    """The metric a run of the table is judged by; until it has a value, its loss, or else the first there is."""
    keys = [str(name).removeprefix("metrics.") for name in row.index if str(name).startswith("metrics.")]
    keys = [key for key in keys if row[f"metrics.{key}"] == row[f"metrics.{key}"]]
    stated = str(row.get("tags.taolu.objective", "")).rpartition(" ")[0]
    wanted = [key for key in (stated, "train/loss") if key in keys]
    return next(iter([*wanted, *(key for key in keys if not key.startswith(("system/", "time/")))]), None)


def _best(runs: pd.DataFrame, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """The best finished run of each experiment."""
    best = tables.best_of_each(runs)
    if best.empty:
        return
    st.subheader(say("best_of_each"))
    best = best.head(MOST_FAMILIES)
    ids = best["run_id"].tolist()
    view = best.drop(columns="run_id")
    view.insert(0, "colour", [swatch(color) for color in colors(ids).values()])
    config = st.column_config
    event = st.dataframe(
        view,
        hide_index=True,
        column_config={
            "colour": config.ImageColumn("", width=30),
            "experiment": config.TextColumn(say("experiment")),
            "name": config.TextColumn(say("run")),
            "metric": config.TextColumn(say("metric")),
            "value": config.NumberColumn(say("value"), format="%.5g"),
            "runs": config.NumberColumn(say("of_runs"), format="%d"),
            "started": config.DatetimeColumn(say("started"), format="distance"),
        },
        selection_mode="single-cell",
        on_select="rerun",
        key="best",
    )
    if event["selection"]["cells"]:
        go(pages["run"], run=[ids[event["selection"]["cells"][0][0]]])
    with st.container(horizontal=True, vertical_alignment="center"):
        if len(ids) > 1 and st.button(say("compare_n", n=len(ids)), icon=":material/stacked_line_chart:"):
            go(pages["compare"], runs=ids)
        st.caption(say("best_hint"))


def _failures(store: Store, runs: pd.DataFrame, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """The newest failed runs with what their traceback ends in."""
    failed = runs[runs["status"] == "FAILED"].head(MOST_FAILURES)
    if failed.empty:
        return
    st.subheader(say("failures"))
    now = datetime.now(UTC)
    for _, row in failed.iterrows():
        with st.container(border=True):
            _link(str(row["run_id"]), str(row["name"]), pages)
            trace = artifacts.read_tail(store.run_folder(str(row["run_id"])), "traceback.txt")
            last = trace.splitlines()[-1] if trace else say("no_traceback")
            st.caption(f"{plain(str(row['experiment']))} · {ago(say, row['started'], now)}")
            st.code(last[:400], language=None, wrap_lines=True)


def _link(run_id: str, name: str, pages: Mapping[str, StreamlitPage]) -> None:
    """The run's name in its colour, which leads to its page."""
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        st.image(swatch(colors([run_id])[run_id]), width=16)
        if st.button(plain(name or run_id[:8], 60), key=f"open {run_id}", type="tertiary"):
            go(pages["run"], run=[run_id])
