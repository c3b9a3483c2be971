"""A mined lexicon: its words filtered and drawn, a text cut by it, two lexicons compared. `?lexicon=ID` says which."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from dashboard import artifacts, lexicon
from dashboard.address import flag, many, number, one, text
from dashboard.lexicon import NUMBERS, Wanted
from dashboard.mined import SHOWN, choose, read_or_say, read_segmenter, read_table, runs_with
from dashboard.state import curves
from dashboard.table import csv
from dashboard.tabs import CHART, draw_open_tab
from dashboard.words import Say, plain
from experiments.store.location import Store
from experiments.store.read import RunRecord

if TYPE_CHECKING:
    import pyarrow as pa
    from streamlit.navigation.page import StreamlitPage

WORDS, MERGES, REMOVED, SAMPLE = "words.parquet", "merges.parquet", "removed.csv", "sample.txt"
CURVE = "bits_per_character"
GREEDY = "greedy"  # the method whose merges made the lexicon
LONGEST_TEXT = 10_000  # characters that are cut at once
MARKED = 3_000  # of them that are drawn with their borders
DOUBTS = 20
BEGINNING = 300  # characters of the run's own text, to begin with
COUNTS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 100_000)
KNOWN = ("all", "known", "new")


def page(store: Store, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """The page: which lexicon, what it came to, then a tab for each way to look at it."""
    st.title(say("lexicon"))
    run = choose(store, "lexicon", WORDS, "lexicon", say)
    if run is None:
        return
    words = read_or_say(run.folder, WORDS, say, ["word"], (*NUMBERS, "is_known"))
    if words is None:
        return
    _facts(run, say)
    draws = {
        "lexicon_words": partial(_words, words, say),
        "lexicon_cut": partial(_cut, run, say),
        "lexicon_bits": partial(_bits, store, run, say),
        "lexicon_diff": partial(_diff, store, run, words, say),
    }
    if (run.folder / REMOVED).is_file():
        draws["lexicon_removed"] = partial(_removed, run, say)
    draw_open_tab(say, draws)


def _facts(run: RunRecord, say: Say) -> None:
    """Words, text and the bits a character costs before and after, as the run measured them."""
    figures = {
        "lexicon_n_words": ("lexicon/words", ",.0f"),
        "lexicon_n_units": ("lexicon/characters", ",.0f"),
        "lexicon_before": ("lexicon/bits_per_character_before", ".3f"),
        "lexicon_after": ("lexicon/bits_per_character_after", ".3f"),
    }
    with st.container(horizontal=True):
        for word, (metric, form) in figures.items():
            value = run.metrics.get(metric, math.nan)
            st.metric(say(word), format(value, form) if math.isfinite(value) else "–", width="content")


# ---- words ----------------------------------------------------------------------------------------------------------


def _words(words: pa.Table, say: Say) -> None:
    wanted = _wanted(words, say)
    found = lexicon.select(words, wanted)
    st.caption(
        say("lexicon_found", found=f"{found.num_rows:,}", total=f"{words.num_rows:,}", shown=min(SHOWN, found.num_rows))
    )
    if not found.num_rows:
        return
    shown = found.slice(0, SHOWN).to_pandas()
    if not words["is_known"].to_numpy().any():  # mined without a dictionary
        shown = shown.drop(columns="is_known")
    st.dataframe(shown, hide_index=True, height=420, placeholder="–", column_config=_columns(say))
    with st.container(horizontal=True):
        st.download_button(
            say("csv_rows", n=f"{found.num_rows:,}"), partial(_csv, found), "words.csv", "text/csv", on_click="ignore"
        )
        st.download_button(
            say("lexicon_dictionary"), partial(_dictionary, found), "words.txt", "text/plain", on_click="ignore"
        )
    left, right = st.columns(2)
    said = {"title": say("lexicon_lengths"), "words": say("lexicon_of_words"), "text": say("lexicon_of_text")}
    figure = lexicon.lengths_figure(found, {**said, "length": say("lexicon_length")})
    left.plotly_chart(figure, key="lengths", config=CHART)
    said = {"title": say("lexicon_ranks"), "rank": say("lexicon_rank"), "count": say("lexicon_count")}
    right.plotly_chart(lexicon.ranks_figure(found, said), key="ranks", config=CHART)


def _wanted(words: pa.Table, say: Say) -> Wanted:
    """What the sliders say; one at its left end sets no threshold."""
    import pyarrow.compute as pc

    most = int(pc.max(words["count"]).as_py() or 1) if words.num_rows else 1
    counts = [count for count in COUNTS if count <= max(most, 1)]
    first, second, third, fourth = st.columns(4)
    count = first.select_slider(say("lexicon_min_count"), counts, **one("count", counts))
    pmi = second.slider(say("lexicon_min_pmi"), -5.0, 15.0, step=0.1, **number("pmi", -5.0, -5.0, 15.0))
    entropy = third.slider(say("lexicon_min_entropy"), 0.0, 6.0, step=0.05, **number("entropy", 0.0, 0.0, 6.0))
    score = fourth.slider(say("lexicon_min_score"), 0.0, 50.0, step=0.5, **number("score", 0.0, 0.0, 50.0))
    present = sorted({*lexicon.lengths(words).tolist()})[:30]
    first, second, third, fourth = st.columns(4, vertical_alignment="bottom")
    lengths = first.multiselect(say("lexicon_length"), present, placeholder=say("any"), **many("length", present))
    known = second.selectbox(
        say("lexicon_known"), KNOWN, format_func=lambda name: say(f"lexicon_{name}"), **one("known", KNOWN)
    )
    part = third.text_input(say("lexicon_holds"), **text("word")) or ""
    sorts = ["", *NUMBERS]
    sort = fourth.selectbox(say("sort"), sorts, format_func=lambda name: say(f"lexicon_{name or 'best'}"),
                            **one("sort_words", sorts))  # fmt: skip
    return Wanted(count, pmi if pmi > -5 else None, entropy or None, score or None, lengths, known, part.strip(), sort)


def _columns(say: Say) -> dict[str, Any]:
    number_of = st.column_config.NumberColumn
    forms = {"count": "%d", "probability": "%.2e", "fstar": "%.4f", "saved_bits": "%.0f"}
    return {
        "word": st.column_config.TextColumn(say("lexicon_word"), pinned=True),
        **{name: number_of(say(f"lexicon_{name}"), format=forms.get(name, "%.2f")) for name in NUMBERS},
        "is_known": st.column_config.CheckboxColumn(say("lexicon_known")),
    }


def _csv(found: pa.Table) -> bytes:
    return csv(found.to_pandas())


def _dictionary(found: pa.Table) -> bytes:
    """A line a word with its count, as jieba's user dictionaries have it."""
    rows = zip(found["word"].to_pylist(), found["count"].to_pylist(), strict=True)
    return "".join(f"{word} {count}\n" for word, count in rows).encode()


# ---- a text, merges, what is gone, another lexicon ------------------------------------------------------------------


def _cut(run: RunRecord, say: Say) -> None:
    """A text of the visitor's in words, with the sureness of each border."""
    segmenter = read_segmenter(run.folder)
    if segmenter is None:
        st.warning(say("broken_file", name="scores\\.npz"))
        return
    if "to_cut" not in st.session_state:
        st.session_state["to_cut"] = (artifacts.read_head(run.folder, SAMPLE) or "")[:BEGINNING]
    given = st.text_area(say("lexicon_text"), max_chars=LONGEST_TEXT, height=140, key="to_cut")
    given = (given or "")[:LONGEST_TEXT].encode("utf-8", "replace").decode()
    if not given.strip():
        return
    try:
        tokens = segmenter.cut(given)
        drawn = given[:MARKED]
        gaps = segmenter.gaps(drawn)
    except (ValueError, IndexError, TypeError, OverflowError):  # arrays that do not fit together
        st.warning(say("broken_file", name="scores\\.npz"))
        return
    st.caption(say("lexicon_tokens", n=f"{len(tokens):,}", characters=f"{len(given):,}"))
    st.code(" ".join(tokens), language=None, wrap_lines=True, height=200 if len(given) > BEGINNING * 2 else "content")
    st.subheader(say("lexicon_borders"))
    st.caption(say("lexicon_borders_hint"))
    if len(given) > MARKED:
        st.caption(say("lexicon_marked", n=f"{MARKED:,}"))
    st.html(lexicon.marked(drawn, gaps))
    if len(gaps.offsets):
        st.caption(say("lexicon_doubts"))
        st.dataframe(
            lexicon.doubtful(drawn, gaps, DOUBTS),
            hide_index=True,
            column_config={
                "place": say("lexicon_place"),
                "around": say("lexicon_around"),
                "border": st.column_config.ProgressColumn(
                    say("lexicon_border"), format="%.3f", min_value=0.0, max_value=1.0
                ),
            },
        )


def _bits(store: Store, run: RunRecord, say: Say) -> None:
    """What merging the best pair again and again saves."""
    found = {}
    curve = curves(store, [run.run_id], [CURVE]).get((run.run_id, CURVE))
    if curve is not None and len(curve.step) > 1:
        found[say("lexicon_fstar_merges")] = (curve.step, curve.value)
    merges = read_table(run.folder, MERGES, ["left", "right", "word"], ["n_ab", "saved_bits", "bits_after"])
    is_own = run.params.get("method") == GREEDY  # else they are those of the beginning
    if is_own and merges is not None and merges.num_rows:
        after = merges["bits_after"].to_numpy()
        rows = np.arange(0, len(after), max(len(after) // 1_000, 1))
        found[say("lexicon_own_merges")] = (rows + 1, after[rows])
    if not found:
        st.info(say("lexicon_no_merges"))
        return
    said = {"title": say("lexicon_bits_title"), "merges": say("lexicon_merges"), "bits": say("lexicon_bits_unit")}
    st.plotly_chart(lexicon.merges_figure(found, said), key="merges", config=CHART)
    st.caption(say("lexicon_bits_hint"))
    if merges is not None and merges.num_rows:
        _merges(merges, say("lexicon_own_merges" if is_own else "lexicon_fstar_merges"), say)


def _merges(merges: pa.Table, title: str, say: Say) -> None:
    """What was merged into what, in order or by what it saved."""
    st.subheader(title)
    by_saving = st.toggle(say("lexicon_by_saving"), **flag("by_saving"))
    order = np.argsort(-merges["saved_bits"].to_numpy(), kind="stable") if by_saving else np.arange(merges.num_rows)
    shown = merges.take(order[:SHOWN]).select(["left", "right", "word", "n_ab", "saved_bits", "bits_after"])
    frame = shown.to_pandas()
    frame.insert(0, "number", order[:SHOWN] + 1)
    number_of = st.column_config.NumberColumn
    st.dataframe(
        frame,
        hide_index=True,
        column_config={
            "number": number_of(say("lexicon_merge_number"), format="%d"),
            "left": say("lexicon_left"),
            "right": say("lexicon_right"),
            "word": say("lexicon_merged"),
            "n_ab": number_of(say("lexicon_count"), format="%d"),
            "saved_bits": number_of(say("lexicon_saved_bits"), format="%.0f"),
            "bits_after": number_of(say("lexicon_bits_after"), format="%.4f"),
        },
    )
    name = say("csv_rows", n=f"{merges.num_rows:,}")
    st.download_button(name, partial(_csv, merges), "merges.csv", "text/csv", on_click="ignore")


def _removed(run: RunRecord, say: Say) -> None:
    """Candidates that the article's method took for chance, with the parts they fall into."""
    import io

    import pandas as pd

    head = artifacts.read_head(run.folder, REMOVED)
    try:
        rows = pd.read_csv(io.StringIO((head or "").removeprefix("\ufeff")), nrows=SHOWN, dtype=str)
    except (ValueError, pd.errors.ParserError):
        rows = pd.DataFrame()
    if rows.empty:
        st.info(say("lexicon_none_removed"))
        return
    st.caption(say("lexicon_removed_hint", shown=SHOWN))
    names = {"word": "lexicon_word", "count": "lexicon_count", "parts": "lexicon_parts", "gain": "lexicon_gain"}
    st.dataframe(rows, hide_index=True, column_config={name: say(word) for name, word in names.items()})


def _diff(store: Store, run: RunRecord, words: pa.Table, say: Say) -> None:
    """The words of this lexicon alone, of another alone, and those the two use most differently."""
    others = {key: name for key, name in runs_with(store, "lexicon", WORDS).items() if key != run.run_id}
    if not others:
        st.info(say("no_other_run"))
        return
    other = st.selectbox(say("compared_with"), [*others], format_func=others.__getitem__, **one("other", [*others]))
    second = read_or_say(store.run_folder(other), WORDS, say, ["word"], (*NUMBERS, "is_known"))
    if second is None:
        return
    both = lexicon.difference(words, second)
    only_a, only_b = both[both["count_b"].isna()], both[both["count_a"].isna()]
    shared = both.dropna()
    st.caption(say("lexicon_shared", n=f"{len(shared):,}"))
    first, middle, last = st.columns(3)
    titles = {"word": say("lexicon_word"), "count_a": say("lexicon_count"), "count_b": say("lexicon_count")}
    for place, rows, count, title in (
        (first, only_a, "count_a", say("lexicon_here_alone", n=f"{len(only_a):,}")),
        (middle, only_b, "count_b", say("lexicon_there_alone", n=f"{len(only_b):,}")),
    ):
        place.subheader(title)
        top = rows.sort_values(count, ascending=False)[["word", count]].head(SHOWN)
        place.dataframe(top, hide_index=True, column_config=titles)
    last.subheader(say("lexicon_used"))
    order = shared["ratio"].map(lambda ratio: -abs(math.log(ratio)) if ratio > 0 else -math.inf).sort_values().index
    last.dataframe(
        shared.loc[order].head(SHOWN),
        hide_index=True,
        column_config={
            "word": titles["word"],
            "count_a": say("lexicon_here"),
            "count_b": say("lexicon_there"),
            "ratio": st.column_config.NumberColumn(say("lexicon_ratio"), format="%.2f"),
        },
    )
    st.caption(plain(say("lexicon_ratio_hint"), 400))
