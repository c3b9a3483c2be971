"""Optimizers as balls that roll: a film beside the map of basins, for any cell of it. `?run=ID` says of which run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from dashboard import charts, motion
from dashboard.address import one
from dashboard.artifacts import LARGEST_ARRAYS_MB, read_arrays
from dashboard.commands import compose, shown
from dashboard.links import go
from dashboard.state import table
from dashboard.tabs import CHART
from dashboard.tabs.selection import runs_with, unique_names
from dashboard.words import Say
from experiments.store.location import Store

if TYPE_CHECKING:
    import pandas as pd
    from streamlit.navigation.page import StreamlitPage

FILE = "paths.npz"
FILTERS = {  # address -> the parameter it chooses a value of
    "landscape": "params.model.landscape",
    "by": "params.optimizer",
    "temperature": "params.model.temperature",
}
BETAS = ("momentum", "betas", "beta1", "beta")  # how optimizers call it; a pair begins with it
WORDS = ("path_title", "motion_title", "map_title", "optimizer", "equation", "minimum", "time", "play")
ANY = ""


def page(store: Store, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """The page: which run, which of its cells, the film, the map."""
    st.title(say("paths"))
    st.caption(say("paths_about"))
    runs = runs_with(store, table(store), FILE)
    if runs.empty:
        st.info(say("paths_empty"))
        st.code("taolu run paths", language="bash")
        return
    run = _choose(runs, say)
    arrays = read_arrays(store.run_folder(run["run_id"]), FILE)
    if arrays is None or not motion.is_path(arrays):
        st.warning(say("no_paths", most=LARGEST_ARRAYS_MB))
    elif motion.is_map(arrays):
        _with_map(store, arrays, run, say)
    else:
        left, right = st.columns(2)
        _film(left, right, arrays, say, say("time"))
    if "run" in pages and st.button(say("open_run"), icon=":material/show_chart:"):
        go(pages["run"], run=[run["run_id"]])


def _choose(runs: pd.DataFrame, say: Say) -> pd.Series:
    """The run that is chosen, by its optimizer, landscape and noise."""
    places = st.columns([2, 2, 2, 3])
    for place, (key, parameter) in zip(places, FILTERS.items(), strict=False):
        values = sorted(set(runs[parameter].dropna())) if parameter in runs else []
        options = [ANY, *values]
        value = place.selectbox(
            say(f"paths_{key}"), options, format_func=lambda text: text or say("any"), **one(key, options)
        )
        if value:
            runs = runs[runs[parameter] == value]
    names = unique_names(runs)
    run_id = places[-1].selectbox(say("one_run"), list(names), format_func=names.__getitem__, **one("run", list(names)))
    chosen: pd.Series = runs[runs["run_id"] == run_id].iloc[0]
    return chosen


def _with_map(store: Store, arrays: motion.Arrays, run: pd.Series, say: Say) -> None:
    """The film of the run's own settings or of a cell, beside the map in which they are ringed."""
    kinds = ("own", "cell")
    which = st.segmented_control(
        say("paths_which"), kinds, format_func=lambda key: say(f"paths_{key}"), required=True, **one("show", kinds)
    )
    chosen, times = own_settings(run), say("time")
    if which == "cell":
        left, right = st.columns(2)
        lrs, betas = arrays["lr"], arrays["beta"]
        row, column = nearest(lrs, chosen[0]), nearest(1 - betas, 1 - chosen[1])
        with left:
            row = _pick("lr", lrs, row)
        with right:
            column = _pick("beta", betas, column)
        arrays = motion.of_cell(arrays, row, column, chosen[0])
        chosen = float(lrs[row]), float(betas[column])
        _outcome(arrays, row, column, say)
        if not len(arrays["ode_t"]):
            times = say("step")
            st.caption(say("paths_own_equation"))
            st.code(again(store, run, *chosen), language="bash", wrap_lines=True)
    left, right = st.columns(2)
    ringed = chosen if np.isfinite(chosen[0]) else None
    right.plotly_chart(charts.basin_chart(arrays, _words(say), ringed), key="basins", config=CHART)
    right.caption(say("map_hint"))
    _film(left, right, arrays, say, times)


def _film(
    left: st.delta_generator.DeltaGenerator,
    right: st.delta_generator.DeltaGenerator,
    arrays: motion.Arrays,
    say: Say,
    times: str,
) -> None:
    """The film on the left; of one coordinate, the whole path over time on the right."""
    words = {**_words(say), "time": times}
    left.plotly_chart(motion.motion_chart(arrays, words), key="film", config=CHART)
    if "y" not in arrays:
        right.plotly_chart(charts.path_chart(arrays, words), key="path", config=CHART)


def _outcome(arrays: motion.Arrays, row: int, column: int, say: Say) -> None:
    """Where the cell ended, in words."""
    basin = int(arrays["basin"][row, column])
    end = say({-1: "paths_diverged", 0: "paths_global"}.get(basin, "paths_other"))
    loss = f"{float(arrays['loss'][row, column]):.4g}"
    st.markdown(say("paths_outcome", end=end, loss=loss, steps=int(arrays["cell_step"][-1])))


def _pick(key: str, values: np.ndarray, first: int) -> int:
    """The place of the value chosen with a slider."""
    texts = [f"{value:.4g}" for value in values]
    if len(set(texts)) < 2:
        return 0
    return texts.index(st.select_slider(key, texts, **one(key, texts, texts[first])))


def nearest(values: np.ndarray, value: float) -> int:
    """The place of the value nearest in ratio; 0 where there is no number.

    >>> nearest(np.array([0.01, 0.1, 1.0]), 0.2)
    1
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.abs(np.log(values) - np.log(value))
    return int(np.nan_to_num(distance, nan=np.inf).argmin())


def own_settings(run: pd.Series) -> tuple[float, float]:
    """Learning rate and beta of the run's optimizer, NaN where they are not known."""
    key = _beta_key(run)
    return _number(run.get("params.optimizer.lr")), _number(run[f"params.optimizer.{key}"] if key else None)


def again(store: Store, run: pd.Series, lr: float, beta: float) -> str:
    """The command whose run has these settings for its own, and so the equation beside it."""
    options = {"optimizer.lr": f"{lr:.6g}"}
    if (key := _beta_key(run)) and np.isfinite(beta):
        options[f"optimizer.{key}"] = f"{beta:.6g}"
    config = str(store.run_folder(run["run_id"]) / "config.yaml")
    return shown(["run", *compose(config, options)])


def _beta_key(run: pd.Series) -> str | None:
    """How the run's optimizer calls beta."""
    return next((key for key in BETAS if isinstance(run.get(f"params.optimizer.{key}"), str)), None)


def _number(text: object) -> float:
    """The number, or the first of a list."""
    try:
        value = json.loads(str(text))
        return float(value[0] if isinstance(value, list) else value)
    except (ValueError, TypeError, IndexError):
        return float("nan")


def _words(say: Say) -> dict[str, str]:
    return {name: say(name) for name in WORDS}
