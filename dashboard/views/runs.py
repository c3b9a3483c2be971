"""All runs of the store: filtered, sorted, grouped, with the columns one asks for; chosen ones are compared."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard import address, live, marking
from dashboard import table as tables
from dashboard.links import go
from dashboard.palette import colors, swatch
from dashboard.state import kept, table
from dashboard.words import STATUS, Say, plain, status_text
from experiments.store.columns import Choice, FilterError
from experiments.store.extremes import extremes
from experiments.store.location import Store

if TYPE_CHECKING:
    import pandas as pd
    from streamlit.navigation.page import StreamlitPage

ROWS = 200  # a page of the table
MOST_CHOSEN = 100
NEWEST = "-started"
SWATCH = ""  # the column of colours; no parameter or metric is called so
NARROW = 170  # pixels: two widgets stand beside each other on a telephone


@dataclass(frozen=True)
class Wanted:
    """Which runs a visitor wants to see.

    Args:
        experiments: their names; empty = any.
        statuses: MLflow's words; empty = any.
        text: words to be found in the run.
        filter: an expression; empty = none.
        archived: those put aside, too.
    """

    experiments: list[str]
    statuses: list[str]
    text: str
    filter: str
    archived: bool

    def rows(self, runs: pd.DataFrame) -> pd.DataFrame:
        """These runs, newest first.

        Raises FilterError for a filter that cannot be used.
        """
        found = tables.select(runs, self.experiments, self.statuses, self.text)
        if not self.archived and tables.ARCHIVED in found:
            found = found[found[tables.ARCHIVED].isna()]
        return found[found.index.isin(Choice(self.filter).rows(runs).index)] if self.filter else found


def page(store: Store, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """The page: filters, totals, table, and what can be done with the chosen runs.

    Args:
        store: what is read.
        say: the words of the chosen language.
        pages: every page by name, to link to.
    """
    st.title(say("runs"))
    if table(store).empty:
        empty(say)
        return
    wanted = _wanted(table(store), say)
    live.refreshed(store, partial(_listing, store, wanted, say, pages))


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


# ---- which runs -----------------------------------------------------------------------------------------------------


def _wanted(runs: pd.DataFrame, say: Say) -> Wanted:
    """What the widgets say."""
    experiments = sorted(runs["experiment"].unique())
    present = set(runs["status"])
    names = {name: status_text(say, name) for name in STATUS if name in present}
    row = st.container(horizontal=True, vertical_alignment="bottom")
    return Wanted(
        row.multiselect(
            say("experiment"), experiments, placeholder=say("any"), width=NARROW,
            **address.many("experiments", experiments),
        ),
        row.multiselect(
            say("status"), [*names], format_func=names.__getitem__, placeholder=say("any"), width=NARROW,
            **address.many("status", [*names]),
        ),
        row.text_input(
            say("search"), placeholder=say("search_hint"), icon=":material/search:", width=240, **address.text("q")
        )
        or "",
        (
            row.text_input(
                say("filter"), placeholder=say("filter_hint"), help=say("filter_help"), icon=":material/filter_alt:",
                **address.text("filter"),
            )
            or ""
        ).strip(),
        tables.ARCHIVED in runs and st.toggle(say("with_archived"), **address.flag("archived")),
    )  # fmt: skip


def _unreadable(expression: str, error: FilterError, say: Say) -> None:
    """The filter's mistake, with a mark under the characters at fault."""
    if error.start is not None:
        st.code(f"{expression}\n{marked(expression, error.start, error.end or error.start)}", language=None)
    st.error(f"**{say('filter_wrong')}** {plain(error.reason, 900)}", icon=":material/error:")


def marked(expression: str, start: int, end: int) -> str:
    """A line that, below the expression in a font of fixed width, points at its characters from start to end.

    >>> marked("名 == 3 and x", 11, 12)
    '            ^'
    """
    from rich.cells import cell_len  # Chinese characters are two columns wide

    return " " * cell_len(expression[:start]) + "^" * max(cell_len(expression[start:end]), 1)


# ---- the table ------------------------------------------------------------------------------------------------------


def _listing(store: Store, wanted: Wanted, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """Settings of the table, totals, the table, what can be done with it."""
    runs = table(store)
    try:
        found = wanted.rows(runs)
    except FilterError as error:
        _unreadable(wanted.filter, error, say)
        return
    if found.empty:
        st.caption(_totals(runs, found, say))
        st.info(say("no_match"), icon=":material/filter_alt_off:")
        return
    cells = _sheet(store, id(runs), runs)
    names, by, sort = _settings(runs, found, say)
    if by:
        st.caption(_totals(runs, found, say))
        shown = cells.frame(found.index, [*dict.fromkeys([*by, *names])])
        _groups(shown, by, say)
    else:
        if sort != NEWEST:
            found = tables.ordered(found, sort, cells.column(sort.removeprefix("-")))
        _runs(store, cells, found, names, say, pages)
    st.download_button(
        say("csv", n=f"{len(found):,}"), partial(_csv, cells, found, names), "runs.csv", "text/csv",
        icon=":material/download:", on_click="ignore",
    )  # fmt: skip


@st.cache_resource(max_entries=4, show_spinner=False)
def _sheet(store: Store, state: int, _runs: pd.DataFrame) -> tables.Sheet:
    """The columns of the store's table in one state, which its object's identity tells: the sheet keeps that alive."""
    return tables.Sheet(_runs, partial(kept, store, extremes))


def _settings(runs: pd.DataFrame, found: pd.DataFrame, say: Say) -> tuple[list[str], list[str], str]:
    """Columns, what is grouped by, and the order."""
    offered, usual = tables.offered_columns(runs), tables.default_columns(found)
    row = st.container(horizontal=True, vertical_alignment="bottom")
    names = row.multiselect(
        say("columns"), offered, help=say("columns_help"), **address.many("columns", offered, usual)
    )
    sorts = [sign + name for name in (*tables.FIXED, *names) for sign in ("-", "")]
    words = _titles(say)

    def arrow(sort: str) -> str:
        name = sort.removeprefix("-")
        return f"{words.get(name, name)} {'↓' if sort.startswith('-') else '↑'}"

    sort = row.selectbox(say("sort"), sorts, format_func=arrow, width=NARROW, **address.one("sort", sorts, NEWEST))
    keys = ["experiment", "status", "kind", *(name for name in offered if ":" not in name and name not in _UNGROUPED)]
    by = row.multiselect(
        say("group_by"), keys, placeholder=say("nothing"), width=NARROW, **address.many("rows_by", keys)
    )
    return [name for name in names if name not in by], by, sort


def _titles(say: Say) -> dict[str, str]:
    """What the columns that are always there are called."""
    return {name: say("duration" if name == "seconds" else name) for name in tables.FIXED}


_UNGROUPED = ("objective", "note", "run_id")


def _totals(runs: pd.DataFrame, found: pd.DataFrame, say: Say) -> str:
    total = f"{len(runs):,}"
    is_all = len(found) == len(runs)
    parts = [say("runs_total", total=total) if is_all else say("runs_shown", shown=f"{len(found):,}", total=total)]
    for status, key in (("RUNNING", "count_running"), ("FAILED", "count_failed")):
        if n := int((found["status"] == status).sum()):
            parts.append(say(key, n=f"{n:,}"))
    return " · ".join(parts)


def _runs(
    store: Store, cells: tables.Sheet, found: pd.DataFrame, names: list[str], say: Say, pages: Mapping[str, Any]
) -> None:
    """A row a run, a page at a time; ticked rows are chosen, a click on a cell opens its run."""
    place = st.container()
    n_pages = -(-len(found) // ROWS)
    number = st.pagination(n_pages, **address.number("page", 1, 1, n_pages)) if n_pages > 1 else 1
    shown = found.iloc[(number - 1) * ROWS : number * ROWS]
    known = set(cells.runs["run_id"])
    chosen = [run_id for run_id in _chosen() if run_id in known]
    with place:
        parts = [_totals(cells.runs, found, say)]
        if n_pages > 1:
            low = (number - 1) * ROWS + 1
            parts.append(say("rows_shown", low=f"{low:,}", high=f"{low + len(shown) - 1:,}"))
        st.caption(" · ".join([*parts, say("open_hint")]))
        _actions(store, cells.runs, chosen, say, pages)
        opened = _table(shown, cells.frame(shown.index, names), chosen, say)
    if opened is not None:
        go(pages["run"], run=[opened])


def _chosen() -> list[str]:
    """Ids of the ticked runs: the fields `runs` of the address."""
    return st.query_params.get_all("runs")[:MOST_CHOSEN]


def _table(shown: pd.DataFrame, columns: pd.DataFrame, chosen: list[str], say: Say) -> str | None:
    """Draws the table; the id of the run whose cell was clicked."""
    import pandas as pd

    ids = shown["run_id"].tolist()
    colour = colors(chosen)
    view = pd.concat([shown[list(tables.FIXED)], columns], axis=1)
    view.insert(0, SWATCH, [swatch(colour[run_id]) if run_id in colour else None for run_id in ids])
    view["status"] = [[status_text(say, status)] for status in view["status"]]
    if view["kind"].nunique() == 1:
        view = view.drop(columns="kind")
    view["seconds"] = pd.to_timedelta(view["seconds"].round(1), unit="s")
    rows = [i for i, run_id in enumerate(ids) if run_id in colour]
    key = f"table {zlib.crc32(','.join(ids).encode())}"  # of other runs the ticks would stay where they are
    if key in st.session_state and sorted(st.session_state[key]["selection"]["rows"]) != rows:  # Back, or a link
        st.session_state[key] = {"selection": {"rows": rows}}
    event = st.dataframe(
        view,
        hide_index=True,
        height=min(38 + 35 * len(view), 720),
        column_config=_configured(view, say),
        on_select=partial(_choose, key, ids),
        selection_mode=["multi-row", "single-cell"],
        selection_default={"selection": {"rows": rows}},
        placeholder="",
        key=key,
    )
    cells = event["selection"]["cells"]
    return str(ids[cells[0][0]]) if cells else None


def _choose(key: str, ids: list[str]) -> None:
    """Writes the ticked runs into the address; those ticked elsewhere stay."""
    rows = st.session_state[key]["selection"]["rows"]
    here = [ids[row] for row in rows]
    chosen = [run_id for run_id in _chosen() if run_id in here or run_id not in ids]
    chosen += [run_id for run_id in here if run_id not in chosen]
    _set_chosen(chosen)


def _set_chosen(chosen: list[str]) -> None:
    if chosen:
        st.query_params["runs"] = chosen[:MOST_CHOSEN]
    else:
        st.query_params.pop("runs", None)


def _actions(store: Store, runs: pd.DataFrame, chosen: list[str], say: Say, pages: Mapping[str, Any]) -> None:
    """What can be done with the chosen runs; there before any is, or the table would move under the first click."""
    nothing = not chosen
    with st.container(horizontal=True, vertical_alignment="center"):
        label, icon = say("compare_n", n=len(chosen)), ":material/stacked_line_chart:"
        if st.button(label, type="primary", icon=icon, disabled=nothing, key="compare"):
            go(pages["compare"], runs=chosen)
        st.button(say("choose_none"), icon=":material/close:", on_click=_set_chosen, args=([],), disabled=nothing)
        marking.mark(store, runs[runs["run_id"].isin(chosen)], say)


def _configured(view: pd.DataFrame, say: Say) -> dict[str, Any]:
    """How each column is written."""
    config = st.column_config
    statuses = [status_text(say, name) for name in STATUS]
    columns: dict[str, Any] = {
        SWATCH: config.ImageColumn("", width=30, pinned=True),
        "status": config.MultiselectColumn(
            say("status"), options=statuses, color=[color for _, _, color in STATUS.values()], width=110
        ),
        "name": config.TextColumn(say("name"), width=150, pinned=True),
        "experiment": config.TextColumn(say("experiment")),
        "kind": config.TextColumn(say("kind")),
        "started": config.DatetimeColumn(say("started"), format="distance"),
        "seconds": config.NumberColumn(say("duration"), format="compact"),  # hours:minutes:seconds
    }
    for name in view.columns:
        if name not in columns:
            kind = view[name].dtype.kind
            number = config.NumberColumn(name, format="%.5g" if kind == "f" else None)
            columns[name] = number if kind in "fi" else config.TextColumn(name)
    return columns


def _groups(frame: pd.DataFrame, by: list[str], say: Say) -> None:
    """A row a group with mean and standard deviation; a click on one filters for it."""
    import pandas as pd

    metrics = [str(name) for name in frame if name not in by and pd.api.types.is_float_dtype(frame[name])]
    groups = tables.grouped(frame, by, metrics)
    st.caption(say("groups_hint"))
    number, known = st.column_config.NumberColumn, _titles(say)
    titles: dict[str, Any] = {"runs": number(say("runs"), format="%d")}
    for name in metrics:
        titles |= {
            f"mean {name}": number(f"{name} {say('mean')}", format="%.5g"),
            f"sd {name}": number("±", format="%.3g"),
        }
    titles |= {f"by {name}": known.get(name, name) for name in by}
    values = groups[[f"by {name}" for name in by]].values.tolist()
    key = f"groups {zlib.crc32(repr((by, values)).encode())}"
    st.dataframe(
        groups, hide_index=True, column_config=titles, placeholder="", key=key, selection_mode="single-row",
        on_select=partial(_narrow, key, [dict(zip(by, each, strict=True)) for each in values]),
    )  # fmt: skip


def _narrow(key: str, values: list[dict[str, Any]]) -> None:
    """The filter extended by what a group's runs have in common, and no groups."""
    rows = st.session_state[key]["selection"]["rows"]
    expression = tables.expression(values[rows[0]]) if rows else None
    if expression is not None:
        before = st.query_params.get("filter", "").strip()
        st.query_params["filter"] = f"({before}) and {expression}" if before else expression
        st.query_params.pop("rows_by", None)


def _csv(cells: tables.Sheet, found: pd.DataFrame, names: list[str]) -> bytes:
    """All the runs that fit, not only the page that is shown."""
    columns = ["run_id", *tables.FIXED, "note", *(name for name in names if name not in ("run_id", "note"))]
    return tables.csv(cells.frame(found.index, columns))
