"""A sweep: its trials by time, what explains their values, the trials on the way, and the map over rate and batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from dashboard import address
from dashboard.charts import DRAWABLE
from dashboard.links import go
from dashboard.live import EVERY_SECONDS, refreshed
from dashboard.relations import MOST_AXES, parallel_figure, short
from dashboard.state import curves, kept
from dashboard.sweeps import (
    fit_law,
    grid_figure,
    history_figure,
    importance_figure,
    intermediate_figure,
    law_figure,
)
from dashboard.tabs import CHART, draw_open_tab
from dashboard.words import WORDS, Say, plain
from experiments.store.location import Store
from experiments.store.studies import (
    StudyRecord,
    find_study,
    importances,
    latest,
    ranked,
    study_names,
    study_url,
    trials_table,
)

if TYPE_CHECKING:
    import pandas as pd
    from streamlit.navigation.page import StreamlitPage

_MOST_LINES = 60  # trials drawn on the way: more hide each other
_MOST_VALUES = 12  # of a setting one can hold fast


@dataclass(frozen=True)
class Chosen:
    """A study and the objective looked at.

    Args:
        store: where it lies.
        study: it.
        objective: place among its objectives.
        metric: name of that objective.
        trials: `trials_table` of it, the value as `value`, infinite and enormous ones NaN.
    """

    store: Store
    study: StudyRecord
    objective: int
    metric: str
    trials: pd.DataFrame

    @property
    def direction(self) -> str:
        """Min or max."""
        return self.study.directions[self.objective]

    @property
    def done(self) -> pd.DataFrame:
        """The completed trials that have a value."""
        return self.trials[(self.trials["state"] == "COMPLETE") & self.trials["value"].notna()]

    @property
    def best(self) -> int | None:
        """Number of the best trial, None where none has completed."""
        values = self.done.set_index("number")["value"]
        return None if values.empty else int(str(values.idxmax() if self.direction == "max" else values.idxmin()))

    @property
    def settings(self) -> list[str]:
        """Columns of settings that vary."""
        return [
            name
            for name in self.trials.columns
            if name.startswith("params.") and self.trials[name].astype("str").nunique() > 1
        ]


def page(store: Store, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """The page.

    Args:
        store: what is read.
        say: the words of the chosen language.
        pages: every page by name, to link to.
    """
    st.title(say("sweeps"))
    names = kept(store, _names)[::-1]  # the newest first
    if not names:
        with st.container(border=True):
            st.subheader(say("sweeps_none"))
            st.write(say("sweeps_none_text"))
            st.code(
                "taolu sweep classifier --grid optimizer.lr=.01,.03,.1 --grid data.batch_size=16,64,256",
                language="bash",
            )
            st.code("taolu sweep sgd_batch_lr", language="bash")
        return
    left, right = st.columns([3, 2])
    name = left.selectbox(say("study"), names, **address.one("study", names))
    study = kept(store, _study, name)
    metrics = [column for column in trials_table(study).columns if column.startswith("values.")]
    metric = right.selectbox(say("metric"), metrics, format_func=short_value, **address.one("objective", metrics))
    refreshed(store, partial(_body, store, name, metric, say, pages), [study.run_id])
    if store.database is not None:
        st.subheader(say("optuna_title"))
        st.write(say("optuna_text"))
        st.code(f"optuna-dashboard {study_url(store)}", language="bash", wrap_lines=True)


def _body(store: Store, name: str, metric: str, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """What the study has come to by now."""
    study = kept(store, _study, name)
    trials = trials_table(study)
    values = trials[metric].to_numpy(float)
    trials["value"] = np.where(np.abs(values) < DRAWABLE, values, np.nan)
    metrics = [column for column in trials.columns if column.startswith("values.")]
    chosen = Chosen(store, study, metrics.index(metric), short_value(metric), trials)
    _summary(chosen, say, pages)
    draws = {
        "study_history": partial(_history, chosen, say),
        "importance": partial(_importance, chosen, say),
        "parallel": partial(_parallel, chosen, say),
        "intermediate": partial(_intermediate, chosen, say),
        "grid": partial(_grid, chosen, say),
    }
    draw_open_tab(say, draws)
    _trials(chosen, say, pages)


def short_value(column: str) -> str:
    """An objective's column as a person knows it.

    >>> short_value("values.val/loss")
    'val/loss'
    """
    return column.removeprefix("values.")


@st.cache_data(ttl=EVERY_SECONDS, max_entries=8, show_spinner=False)
def _names(store: Store) -> list[str]:
    return study_names(store)


@st.cache_resource(ttl=EVERY_SECONDS, max_entries=8, show_spinner=False)
def _study(store: Store, name: str) -> StudyRecord:
    return find_study(store, name)


@st.cache_data(max_entries=32, show_spinner=False)
def _shares(store: Store, name: str, objective: int, n_trials: int) -> dict[str, float]:
    """Computed again when there are more trials."""
    return importances(store, name, objective)


def _summary(chosen: Chosen, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    states = chosen.trials["state"].value_counts()
    with st.container(horizontal=True):
        st.metric(say("trials"), f"{len(chosen.trials):,}", width=110)
        for state, count in states.items():
            st.metric(_word(say, str(state)), f"{count:,}", width=130)
        best = chosen.best
        if best is not None:
            value = chosen.done.set_index("number")["value"][best]
            st.metric(say("best_trial"), f"{value:.5g}", width="content")
    claim = chosen.study.design.get("verdict")
    with st.container(horizontal=True):
        if chosen.study.run_id and st.button(say("open_sweep_run"), icon=":material/show_chart:", type="tertiary"):
            go(pages["run"], run=[chosen.study.run_id])
        if isinstance(claim, str) and claim:
            text = say("open_sweep_claim", claim=plain(claim, 40))
            if st.button(text, icon=":material/balance:", type="tertiary"):
                go(pages["claims"], claim=[claim])


# ---- tabs -----------------------------------------------------------------------------------------------------------


def _history(chosen: Chosen, say: Say) -> None:
    words = {key: say(key) for key in ("best_so_far", "trial_complete", "trial_other", "trial")}
    words["title"] = say("history_of", metric=chosen.metric)
    st.plotly_chart(
        history_figure(chosen.trials, f"values.{chosen.metric}", chosen.direction, words), key="history", config=CHART
    )
    if missing := int(chosen.trials["value"].isna().sum()):
        st.caption(say("diverged_count", n=missing))


def _importance(chosen: Chosen, say: Say) -> None:
    shares = _shares(chosen.store, chosen.study.name, chosen.objective, len(chosen.done))
    if not shares:
        st.info(say("importance_none"))
        return
    words = {"title": say("importance_title", metric=chosen.metric)}
    st.plotly_chart(importance_figure(shares, words), key="importance", config=CHART)
    st.caption(say("importance_hint", n=len(chosen.done)))


def _parallel(chosen: Chosen, say: Say) -> None:
    done = chosen.done
    if done.empty:
        st.info(say("study_parallel_none"))
        return
    share = st.slider(say("best_share"), 1, 100, format="%d %%", **address.number("top", 100, 1, 100))
    ordered = done.sort_values("value", ascending=chosen.direction == "min")
    top = ordered.head(max(1, math.ceil(len(done) * share / 100)))
    axes = chosen.settings[: MOST_AXES - 1]
    column = f"metrics.{chosen.metric}"
    figure = parallel_figure(top.rename(columns={"value": column}), axes, column, lowest=chosen.direction == "min")
    st.plotly_chart(figure, key="parallel", config=CHART)
    st.caption(say("study_parallel_hint", n=len(top), total=len(done)))


def _intermediate(chosen: Chosen, say: Say) -> None:
    """The objective's curves of the trials' runs: of the pruned, the best and the newest ones."""
    trials = [trial for trial in latest(chosen.study.trials) if trial.run_ids]
    first = [trial.number for trial in ranked(trials, chosen.direction)[:1]] if chosen.objective == 0 else []
    best = chosen.best if chosen.best is not None else next(iter(first), None)
    shown = sorted(trials, key=lambda trial: (trial.number != best, trial.state != "PRUNED", -trial.number))[
        :_MOST_LINES
    ]
    found = curves(chosen.store, [trial.run_ids[-1] for trial in shown], [chosen.metric])
    lines = [
        (trial.number, trial.state, found[trial.run_ids[-1], chosen.metric])
        for trial in shown
        if (trial.run_ids[-1], chosen.metric) in found
    ]
    if not lines:
        st.info(say("intermediate_none", metric=plain(chosen.metric)))
        return
    kinds = ("trial_best", "trial_complete", "trial_pruned", "trial_other")
    words = {key: say(key) for key in (*kinds, "trial", "step")} | {"metric": chosen.metric}
    words["title"] = say("intermediate_title", metric=chosen.metric)
    st.plotly_chart(intermediate_figure(lines, best, words), key="intermediate", config=CHART)
    if len(trials) > len(shown):
        st.caption(say("first_trials", n=len(shown), total=len(trials)))


def _grid(chosen: Chosen, say: Say) -> None:
    """The map over rate and batch size, the other settings averaged over or held."""
    names = {end: _ending(chosen.settings, end) for end in ("lr", "batch_size")}
    if None in names.values():
        st.info(say("grid_none"))
        return
    done = chosen.done
    others = [
        name
        for name in chosen.settings
        if name not in names.values() and name != "params.seed" and done[name].astype("str").nunique() <= _MOST_VALUES
    ]
    for place, column in zip(others, st.columns(len(others)) if others else (), strict=True):
        options = ["", *sorted(done[place].astype("str").unique())]
        held = column.selectbox(
            say("where", name=short(place)),
            options,
            format_func=lambda value: value or say("any"),
            **address.one(f"hold_{short(place)}", options),
        )
        done = done[done[place].astype("str") == held] if held else done
    cells = _cells(done, str(names["lr"]), str(names["batch_size"]))
    if cells["lr"].nunique() < 2 or cells["batch"].nunique() < 2:
        st.info(say("grid_none"))
        return
    words = {"batch_size": say("batch_size"), "metric": chosen.metric}
    left, right = st.columns(2)
    title = {"title": say("grid_title", metric=chosen.metric)}
    left.plotly_chart(grid_figure(cells, words | title), key="grid", config=CHART)
    title = {"title": say("law_title", metric=chosen.metric)}
    law = fit_law(*(cells[name].to_numpy(float) for name in ("lr", "batch", "value")))
    right.plotly_chart(law_figure(cells, law, words | title), key="law", config=CHART)
    if law is None:
        st.caption(say("law_no_fit"))
        return
    figures = {"a": law.a, "a_half": law.a_half, "b": law.b, "b_half": law.b_half}
    figures |= {"sum": law.total, "sum_half": law.total_half}
    told = {name: f"{value:.3g}" for name, value in figures.items()}
    st.caption(plain(say("law_fit", n=law.n, metric=chosen.metric, **told), 600))


def _word(say: Say, word: str) -> str:
    """A trial's state or end in the visitor's language; what another program wrote there as it is."""
    key = f"trial_{word.lower().replace(' ', '_')}"
    return say(key) if key in WORDS["en"] else plain(word, 40)


def _ending(names: list[str], end: str) -> str | None:
    """The first setting whose last part is this."""
    return next((name for name in names if name.rpartition(".")[2] == end), None)


def _cells(done: pd.DataFrame, rate: str, batch: str) -> pd.DataFrame:
    """Columns lr, batch and value of the trials where all are numbers, the first two positive."""
    import pandas as pd

    columns = {"lr": done[rate], "batch": done[batch], "value": done["value"]}
    cells = pd.DataFrame({name: pd.to_numeric(column, errors="coerce") for name, column in columns.items()})
    cells = cells.astype(float).replace([np.inf, -np.inf], np.nan).dropna()
    return cells[(cells["lr"] > 0) & (cells["batch"] > 0)]


# ---- the table ------------------------------------------------------------------------------------------------------


def _trials(chosen: Chosen, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """A row a trial, the best first; a click opens its run."""
    order = chosen.trials.sort_values("value", ascending=chosen.direction == "min", na_position="last")
    columns = [
        "number",
        "state",
        "end",
        *(name for name in order.columns if name.startswith("values.")),
        *chosen.settings,
        "seconds",
        "error",
    ]
    order = order.assign(**{name: order[name].map(partial(_word, say)) for name in ("state", "end")})
    view = order[columns].rename(columns={name: short(short_value(name)) for name in columns})
    st.subheader(say("trials"))
    event = st.dataframe(
        view,
        hide_index=True,
        column_config={
            "number": st.column_config.NumberColumn(say("trial"), format="%d"),
            "state": st.column_config.TextColumn(say("state")),
            "end": st.column_config.TextColumn(say("trial_end")),
            "seconds": st.column_config.NumberColumn(say("trial_seconds"), format="%.1f"),
            "error": st.column_config.TextColumn(say("trial_error")),
        },
        selection_mode="single-cell",
        on_select="rerun",
        key=f"trials of {chosen.study.name}",
    )
    st.caption(say("trials_hint"))
    cells = event["selection"]["cells"]
    if cells and (run_id := str(order["run_id"].iloc[cells[0][0]])):
        go(pages["run"], run=[run_id])
