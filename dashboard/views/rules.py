"""The rules and itemsets of baskets: filtered, drawn, explained, applied, compared. `?rules=ID` says which run."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from dashboard import rules
from dashboard.address import many, number, one, text
from dashboard.mined import SHOWN, choose, read_or_say, runs_with
from dashboard.table import csv
from dashboard.tabs import CHART, draw_open_tab
from dashboard.words import Say, plain
from experiments.errors import ConfigError
from experiments.store.location import Store
from experiments.store.read import RunRecord
from experiments.store.rules import SIDES, TABLE, Wanted, chosen, difference

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from streamlit.navigation.page import StreamlitPage

ITEMSETS = "itemsets.parquet"
NEEDED = ("antecedent support", "consequent support", "support", "confidence", "lift", "p_value", "holm", "q_value")
COLUMNS = ("support", "confidence", "lift", "holm")
LEVELS = (1.0, 0.05, 0.01, 0.001)  # of Holm's corrected p
MOST_ITEMS = 2_000  # to choose from; those of the most rules
SORTS = ("", "-lift", "-support", "-leverage", "-conviction", "p_value")
PLACES = ("either", *SIDES)
NUMBER = "number"  # the column of a rule's row in the run's table
RECOMMENDED = 20


def page(store: Store, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """The page: which run, what it came to, then a tab for each way to look at its rules."""
    st.title(say("rules"))
    run = choose(store, "rules", TABLE, "rules", say)
    if run is None:
        return
    table = read_or_say(run.folder, TABLE, say, SIDES, NEEDED)
    if table is None:
        return
    _facts(run, table, say)
    draw_open_tab(
        say,
        {
            "rules_rules": partial(_rules, run, table, say),
            "rules_graph": partial(_graph, run, table, say),
            "rules_itemsets": partial(_itemsets, run, say),
            "rules_basket": partial(_basket, run, table, say),
            "rules_diff": partial(_diff, store, run, table, say),
        },
    )


def _facts(run: RunRecord, table: pa.Table, say: Say) -> None:
    with st.container(horizontal=True):
        for name in ("baskets", "items", "itemsets"):
            value = run.metrics.get(name, math.nan)
            st.metric(say(f"rules_n_{name}"), f"{value:,.0f}" if math.isfinite(value) else "–", width="content")
        st.metric(say("rules"), f"{table.num_rows:,}", width="content")


@st.cache_resource(max_entries=8, show_spinner=False)
def _items(run_id: str, n_bytes: int, _table: pa.Table) -> list[str]:
    """Those a visitor chooses from."""
    return rules.items_of(_table)[:MOST_ITEMS]


# ---- rules ----------------------------------------------------------------------------------------------------------


def _rules(run: RunRecord, table: pa.Table, say: Say) -> None:
    """The rules that are wanted as a chart and a table, and why one of them holds."""
    found = _found(run, table, say)
    if found is None:
        return
    left, right = st.columns([2, 3])
    said = {name: say(f"rules_{name}") for name in ("support", "confidence", "lift")}
    title = say("rules_scatter", n=f"{found.num_rows:,}")
    left.plotly_chart(rules.scatter(found, {**said, "title": title}), key="scatter", config=CHART)
    with right:
        st.caption(say("rules_click"))
        _sheet(run, found.slice(0, SHOWN), say)
    with st.container(horizontal=True):
        name = say("csv_rows", n=f"{found.num_rows:,}")
        st.download_button(name, partial(_csv, table, found), "rules.csv", "text/csv", on_click="ignore")
        st.download_button("Parquet", partial(_parquet, table, found), "rules.parquet", on_click="ignore")
    _why(run, table, found, say)


def _graph(run: RunRecord, table: pa.Table, say: Say) -> None:
    """The first of the rules that are wanted, from item to item."""
    found = _found(run, table, say)
    if found is not None:
        title = say("rules_graph_title", n=min(rules.EDGES, found.num_rows))
        st.plotly_chart(rules.graph(found, title), key="graph", config=CHART)


def _found(run: RunRecord, table: pa.Table, say: Say) -> pa.Table | None:
    """The rules that the widgets ask for, with their numbers and what is shown of them; None where there is none."""
    import pyarrow as pa

    wanted = _wanted(run, table, say)
    columns = dict.fromkeys((*SIDES, *COLUMNS, *filter(None, [wanted.sort.removeprefix("-")])))
    slim = table.select([*columns]).append_column(NUMBER, pa.array(np.arange(table.num_rows)))
    try:
        found = chosen(slim, wanted)
    except ConfigError as error:  # the item stands on the other side alone
        st.info(plain(str(error), 400))
        return None
    shown = min(SHOWN, found.num_rows)
    st.caption(say("rules_found", found=f"{found.num_rows:,}", total=f"{table.num_rows:,}", shown=shown))
    return found if found.num_rows else None


def _wanted(run: RunRecord, table: pa.Table, say: Say) -> Wanted:
    """What the sliders say; one at its left end sets no threshold."""
    top = float(np.nanmax(table["support"].to_numpy(), initial=0.0))
    top = top if 0 < top <= 1 else 1.0
    first, second, third, fourth = st.columns(4)
    support = first.slider(
        say("rules_min_support"), 0.0, top, step=top / 200, format="%.4f", **number("support", 0.0, 0.0, top)
    )
    confidence = second.slider(say("rules_min_confidence"), 0.0, 1.0, step=0.01, **number("confidence", 0.0, 0.0, 1.0))
    lift = third.slider(say("rules_min_lift"), 0.0, 50.0, step=0.1, **number("lift", 0.0, 0.0, 50.0))
    level = fourth.select_slider(say("rules_max_holm"), LEVELS, **one("holm", LEVELS))
    items = _items(run.run_id, table.nbytes, table)
    first, second, third = st.columns([2, 1, 1], vertical_alignment="bottom")
    held = first.multiselect(say("rules_items"), items, placeholder=say("any"), **many("item", items))
    side = second.selectbox(say("rules_side"), PLACES, format_func=lambda name: say(f"rules_{name}"),
                            **one("side", PLACES))  # fmt: skip
    sorts = [name for name in SORTS if not name or name.removeprefix("-") in table.column_names]
    sort = third.selectbox(say("sort"), sorts, format_func=lambda name: say(f"rules_{name.strip('-') or 'confidence'}"),
                           **one("sort_rules", sorts))  # fmt: skip
    least = {"support": support, "confidence": confidence, "lift": lift}
    return Wanted(
        tuple(held) if side == "either" else (),
        tuple(held) if side == SIDES[0] else (),
        tuple(held) if side == SIDES[1] else (),
        {name: bound for name, bound in least.items() if bound},
        {"holm": level} if level < 1 else {},
        sort=sort,
    )


def _framed(table: pa.Table, columns: tuple[str, ...]) -> pd.DataFrame:
    """Rules in words, with some of their measures."""
    frame: pd.DataFrame = table.select([*columns]).to_pandas()
    frame.insert(0, "rule", rules.in_words(table))
    return frame


def _titles(say: Say) -> dict[str, Any]:
    number_of = st.column_config.NumberColumn
    forms = {"support": "%.4f", "confidence": "%.3f", "lift": "%.3g", "holm": "%.2e", "p_value": "%.2e"}
    return {
        "rule": st.column_config.TextColumn(say("rules_rule"), pinned=True),
        **{name: number_of(say(f"rules_{name}"), format=form) for name, form in forms.items()},
    }


def _sheet(run: RunRecord, shown: pa.Table, say: Say) -> None:
    """The rules; a click on one asks why it holds."""
    numbers = shown[NUMBER].to_pylist()
    key = f"rules {hash(tuple(numbers))}"
    st.dataframe(
        _framed(shown, COLUMNS), hide_index=True, height=420, column_config=_titles(say), key=key,
        selection_mode="single-row", on_select=partial(_ask, run.run_id, key, numbers),
    )  # fmt: skip


def _ask(run_id: str, key: str, numbers: list[int]) -> None:
    """Writes the rule into the address, with its run: another's rules have other numbers."""
    rows = st.session_state[key]["selection"]["rows"]
    if rows:
        st.query_params["why"] = f"{run_id[:8]}.{numbers[rows[0]]}"
    else:
        st.query_params.pop("why", None)


def _why(run: RunRecord, table: pa.Table, found: pa.Table, say: Say) -> None:
    """The card of the rule that is asked for, at first the best: its 2 x 2 table, interval and p."""
    whose, _, asked = st.query_params.get("why", "").partition(".")
    is_row = whose == run.run_id[:8] and asked.isdecimal() and len(asked) < 10 and int(asked) < table.num_rows
    at = int(asked) if is_row else int(found[NUMBER][0].as_py())
    row = table.slice(at, 1)
    rule = row.to_pylist()[0]
    before, behind = (plain(str(rules.joined(row, side)[0].as_py()), 120) for side in SIDES)
    with st.container(border=True):
        st.subheader(say("rules_why", rule=f"{before} → {behind}"))
        counts = rules.counts_of(rule, run.metrics.get("baskets", math.nan))
        if counts is None:
            st.info(say("rules_no_counts"))
            return
        left, right = st.columns(2)
        left.markdown(_square(counts, before, behind, say))
        low, high = counts.confidence()
        right.markdown(
            say(
                "rules_because",
                a=before, b=behind, n=f"{counts.antecedent:,}", both=f"{counts.both:,}", p=f"{rule['p_value']:.2g}",
                confidence=f"{rule['confidence']:.1%}", low=f"{low:.1%}", high=f"{high:.1%}",
                base=f"{counts.consequent / counts.total:.1%}", lift=f"{rule['lift']:.3g}",
                holm=f"{rule['holm']:.2g}", q=f"{rule['q_value']:.2g}",
            )
        )  # fmt: skip
        right.caption(say("rules_test"))


def _square(counts: rules.Counts, before: str, behind: str, say: Say) -> str:
    """The counts as a Markdown table."""
    first, second = counts.table()
    heads = ("", say("rules_with", item=behind), say("rules_without", item=behind), say("rules_sum"))
    rows = (
        (say("rules_with", item=before), *first, sum(first)),
        (say("rules_without", item=before), *second, sum(second)),
        (say("rules_sum"), *(a + b for a, b in zip(first, second, strict=True)), counts.total),
    )
    lines = [" | ".join(heads), "--- | ---: | ---: | ---:"]
    lines += [" | ".join([str(name), *(f"{value:,}" for value in values)]) for name, *values in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _csv(table: pa.Table, found: pa.Table) -> bytes:
    """The rules that were found with all of their measures."""
    rows = table.take(found[NUMBER])
    frame = rows.drop_columns([*SIDES]).to_pandas()
    for at, side in enumerate(SIDES):
        frame.insert(at, side, rules.joined(rows, side).to_pylist())
    return csv(frame)


def _parquet(table: pa.Table, found: pa.Table) -> bytes:
    """The same as the run has them."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table.take(found[NUMBER]), buffer)
    return buffer.getvalue()


# ---- itemsets, a basket, another run --------------------------------------------------------------------------------


def _itemsets(run: RunRecord, say: Say) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    table = read_or_say(run.folder, ITEMSETS, say, ["items"], ["length", "count", "support"])
    if table is None:
        return
    lengths = sorted({*table["length"].to_pylist()})[:30]
    left, right = st.columns(2)
    chosen_lengths = left.multiselect(say("rules_length"), lengths, placeholder=say("any"), **many("length", lengths))
    part = (right.text_input(say("rules_search"), **text("itemset")) or "").strip()
    sets = rules.joined(table, "items")
    kept = np.ones(table.num_rows, bool)
    if chosen_lengths:
        kept &= np.isin(table["length"].to_numpy(), chosen_lengths)
    for word in part.split():
        kept &= pc.match_substring(sets, word, ignore_case=True).fill_null(False).to_numpy(zero_copy_only=False)
    found = table.append_column("set", sets).filter(pa.array(kept))
    shown = min(SHOWN, found.num_rows)
    st.caption(say("rules_sets_found", found=f"{found.num_rows:,}", total=f"{table.num_rows:,}", shown=shown))
    number_of = st.column_config.NumberColumn
    st.dataframe(
        found.slice(0, SHOWN).select(["set", "length", "count", "support"]).to_pandas(),
        hide_index=True,
        column_config={
            "set": st.column_config.TextColumn(say("rules_set"), pinned=True),
            "length": number_of(say("rules_length"), format="%d"),
            "count": number_of(say("rules_n_baskets"), format="%d"),
            "support": number_of(say("rules_support"), format="%.4f"),
        },
    )


def _basket(run: RunRecord, table: pa.Table, say: Say) -> None:
    """What goes with the items a visitor puts together."""
    items = _items(run.run_id, table.nbytes, table)
    held = st.multiselect(say("rules_your_basket"), items, placeholder=say("rules_choose_items"),
                          **many("basket", items))  # fmt: skip
    if not held:
        st.info(say("rules_fill_basket"))
        return
    found = chosen(table, Wanted(basket=tuple(held), sort="-confidence"))
    if not found.num_rows:
        st.info(say("rules_nothing_goes"))
        return
    frame = _framed(found, COLUMNS).assign(
        because=rules.joined(found, SIDES[0]).to_pylist(), goes=rules.joined(found, SIDES[1]).to_pylist()
    )
    best = frame.drop_duplicates("goes").head(RECOMMENDED)
    st.caption(say("rules_recommended", n=f"{found.num_rows:,}"))
    titles = {"goes": say("rules_goes_with"), "because": say("rules_as_it_holds")}
    st.dataframe(best[["goes", "because", *COLUMNS]], hide_index=True, column_config={**_titles(say), **titles})


def _diff(store: Store, run: RunRecord, table: pa.Table, say: Say) -> None:
    """Rules that only one of two runs has, and those whose figures changed."""
    others = {key: name for key, name in runs_with(store, "rules", TABLE).items() if key != run.run_id}
    if not others:
        st.info(say("no_other_run"))
        return
    other = st.selectbox(say("compared_with"), [*others], format_func=others.__getitem__, **one("other", [*others]))
    second = read_or_say(store.run_folder(other), TABLE, say, SIDES, NEEDED)
    if second is None:
        return
    found = difference(table, second)
    st.caption(say("rules_equal", n=f"{found.n_equal:,}"))
    for word, rows in (("rules_here_alone", found.lost), ("rules_there_alone", found.won)):
        st.subheader(say(word, n=f"{rows.num_rows:,}"))
        if rows.num_rows:
            st.dataframe(_framed(rows.slice(0, SHOWN), COLUMNS), hide_index=True, column_config=_titles(say))
    st.subheader(say("rules_changed", n=f"{found.changed.num_rows:,}"))
    if found.changed.num_rows:
        names = {f"{name} after": say("rules_after", name=say(f"rules_{name}")) for name in ("confidence", "lift")}
        forms = {name: st.column_config.NumberColumn(title, format="%.4g") for name, title in names.items()}
        frame = _framed(found.changed.slice(0, SHOWN), ("confidence", "confidence after", "lift", "lift after"))
        st.dataframe(frame, hide_index=True, column_config={**_titles(say), **forms})
