"""All runs of the store, with the parameters that vary and their metrics; a click opens one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard.state import table
from dashboard.words import STATUS, Say, status_text
from experiments.store.location import Store

if TYPE_CHECKING:
    import pandas as pd
    from streamlit.navigation.page import StreamlitPage

MOST_ROWS = 500
_MOST_PARAMETERS, _MOST_METRICS = 8, 8


def page(store: Store, say: Say, run_page: StreamlitPage) -> None:
    """The page: filters, totals, table.

    Args:
        store: what is read.
        say: the words of the chosen language.
        run_page: where a click on a row leads.
    """
    runs = table(store)
    st.title(say("runs"))
    if runs.empty:
        empty(say)
        return
    found = _filters(runs, say)
    st.caption(_totals(runs, found, say))
    if found.empty:
        st.info(say("no_match"), icon=":material/filter_alt_off:")
        return
    opened = _table(found, say)
    if opened is not None:
        st.switch_page(run_page, query_params={"run": opened})


def empty(say: Say) -> None:
    """What a page says when the store holds no run: the two commands that fill it."""
    with st.container(border=True):
        st.subheader(say("empty_title"))
        st.write(say("empty_text"))
        left, right = st.columns(2)
        left.caption(say("empty_one"))
        left.code("taolu run vae", language="bash")
        right.caption(say("empty_demo"))
        right.code("taolu demo", language="bash")


def select(runs: pd.DataFrame, experiments: list[str], statuses: list[str], text: str) -> pd.DataFrame:
    """The runs of these experiments and statuses with every word of `text` somewhere in them.

    An empty list takes all. Words are looked for in name, id, experiment, note, parameters and tags.
    """
    import pandas as pd

    found = runs
    for column, wanted in (("experiment", experiments), ("status", statuses)):
        if wanted:
            found = found[found[column].isin(wanted)]
    if words := text.lower().split():
        looked_at = ["name", "run_id", "experiment", "note"]
        looked_at += [name for name in found.columns if name.startswith(("params.", "tags."))]
        texts = [found[name].fillna("").astype(str) for name in looked_at]
        hay = pd.Series(["\n".join(row).lower() for row in zip(*texts, strict=True)], index=found.index)
        for word in words:
            found = found[hay.loc[found.index].str.contains(word, regex=False)]
    return found


def varying_parameters(runs: pd.DataFrame) -> list[str]:
    """The parameter columns with more than one value among these runs (missing counts as a value)."""
    return [name for name in runs.columns if name.startswith("params.") and runs[name].nunique(dropna=False) > 1]


def metric_columns(runs: pd.DataFrame) -> list[str]:
    """The metric columns that any of these runs has, validation first, clock and machine last."""
    names = [name for name in runs.columns if name.startswith("metrics.") and runs[name].notna().any()]
    order = ("metrics.val/", "metrics.test/", "metrics.train/")
    late = ("metrics.time/", "metrics.system/")

    def rank(name: str) -> tuple[int, str]:
        first = next((i for i, prefix in enumerate(order) if name.startswith(prefix)), len(order))
        return (len(order) + 1 if name.startswith(late) else first), name

    return sorted(names, key=rank)


def _filters(runs: pd.DataFrame, say: Say) -> pd.DataFrame:
    left, middle, right = st.columns([2, 2, 2], vertical_alignment="bottom")
    experiments = left.multiselect(
        say("experiment"),
        sorted(runs["experiment"].unique()),
        key="experiment",
        placeholder=say("any"),
        bind="query-params",
    )
    statuses = [name for name in STATUS if name in set(runs["status"])]
    chosen = middle.multiselect(
        say("status"), statuses, format_func=lambda name: status_text(say, name), key="status",
        placeholder=say("any"), bind="query-params",
    )  # fmt: skip
    text = right.text_input(
        say("search"), key="q", placeholder=say("search_hint"), icon=":material/search:", bind="query-params"
    )
    return select(runs, experiments, chosen, text or "")


def _totals(runs: pd.DataFrame, found: pd.DataFrame, say: Say) -> str:
    total = f"{len(runs):,}"
    parts = [
        say("runs_shown", shown=f"{len(found):,}", total=total)
        if len(found) < len(runs)
        else say("runs_total", total=total)
    ]
    for status, key in (("RUNNING", "count_running"), ("FAILED", "count_failed")):
        if n := int((found["status"] == status).sum()):
            parts.append(say(key, n=f"{n:,}"))
    parts.append(say("newest_shown", n=MOST_ROWS) if len(found) > MOST_ROWS else say("open_hint"))
    return " · ".join(parts)


def _table(found: pd.DataFrame, say: Say) -> str | None:
    """Draws the table; the id of the run a click chose."""
    import pandas as pd

    shown = found.head(MOST_ROWS)
    parameters, metrics = varying_parameters(shown)[:_MOST_PARAMETERS], metric_columns(shown)[:_MOST_METRICS]
    view = shown[["name", "status", "experiment", "kind", "started", "seconds", *metrics, *parameters]].copy()
    view["status"] = [[status_text(say, status)] for status in view["status"]]
    if view["kind"].nunique() == 1:
        view = view.drop(columns="kind")
    view["seconds"] = pd.to_timedelta(view["seconds"].round(1), unit="s")
    for name in parameters:
        view[name] = _numbers(view[name])
    event = st.dataframe(
        view,
        hide_index=True,
        height=min(38 + 35 * len(view), 720),
        column_config=_columns(view, say),
        on_select="rerun",
        selection_mode=["single-row", "single-cell"],
        placeholder="",
        key="table",
    )
    rows = event.selection.rows or [cell[0] for cell in event.selection.cells]
    return str(shown["run_id"].iloc[rows[0]]) if rows else None


def _columns(view: pd.DataFrame, say: Say) -> dict[str, Any]:
    config = st.column_config
    statuses = [status_text(say, name) for name in STATUS]
    colors = [color for _, _, color in STATUS.values()]
    columns: dict[str, Any] = {
        "status": config.MultiselectColumn(say("status"), options=statuses, color=colors, width=110),
        "name": config.TextColumn(say("name"), width="medium"),
        "experiment": config.TextColumn(say("experiment")),
        "kind": config.TextColumn(say("kind")),
        "started": config.DatetimeColumn(say("started"), format="distance"),
        "seconds": config.NumberColumn(say("duration"), format="compact"),  # hours:minutes:seconds
    }
    for name in view.columns:
        if name.startswith("metrics."):
            columns[name] = config.NumberColumn(name.removeprefix("metrics."), format="%.5g")
        elif name.startswith("params."):
            columns[name] = config.Column(name.removeprefix("params."))
    return columns


def _numbers(column: pd.Series) -> pd.Series:
    """The column as numbers where all its values are, so that it sorts as one expects."""
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce")
    return numbers if (numbers.notna() | column.isna()).all() else column
