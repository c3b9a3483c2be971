"""A lexicon's words filtered, compared and drawn, and a cut text as markup. Tables in, figures and text out."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dashboard.charts import LAYOUT, drawable, label, log_axis
from dashboard.palette import COLORS

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from plotly.graph_objects import Figure

    from mining.segment import Gaps

NUMBERS = ("count", "probability", "pmi", "left_entropy", "right_entropy", "fstar", "saved_bits", "score")
DOTS = 400  # of a chart of ranks
NAMED_A_DECADE, NAMED_RANKS = 4, 100  # of them by name
BLUE, ORANGE = COLORS[0], COLORS[1]
Known = Literal["all", "known", "new"]


@dataclass(frozen=True)
class Wanted:
    """Which words; every threshold is the least a word must reach, None = no threshold.

    Args:
        count: occurrences.
        pmi: nats; a word of one unit has none.
        entropy: of the less free of its two sides, nats.
        score: of the lexicon.
        lengths: characters; empty = any.
        known: all, or those that are in the dictionary, or are not.
        text: within the word; empty = any.
        sort: column; the largest first. "" = as they were mined, best first.
    """

    count: int = 1
    pmi: float | None = None
    entropy: float | None = None
    score: float | None = None
    lengths: Sequence[int] = ()
    known: Known = "all"
    text: str = ""
    sort: str = ""


def select(words: pa.Table, wanted: Wanted) -> pa.Table:
    """The words that are wanted."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = words["count"].to_numpy() >= wanted.count
    least = (("pmi", wanted.pmi), ("left_entropy", wanted.entropy), ("right_entropy", wanted.entropy))
    for name, bound in (*least, ("score", wanted.score)):
        if bound is not None:
            kept &= words[name].to_numpy() >= bound
    if wanted.lengths:
        kept &= np.isin(lengths(words), np.array(wanted.lengths))
    if wanted.known != "all":
        kept &= words["is_known"].to_numpy() == (wanted.known == "known")
    if wanted.text:
        kept &= pc.match_substring(words["word"], wanted.text).to_numpy()
    found = words.filter(pa.array(kept))
    if not wanted.sort:
        return found
    return found.take(pa.array(np.argsort(-found[wanted.sort].to_numpy(), kind="stable")))


def lengths(words: pa.Table) -> np.ndarray:
    """(n_words,) characters."""
    import pyarrow.compute as pc

    return np.asarray(pc.utf8_length(words["word"]).to_numpy())


def difference(first: pa.Table, second: pa.Table) -> pd.DataFrame:
    """Every word of two lexicons: word, count_a, count_b (NaN where it is in one alone), and ratio.

    The ratio is its share of the second's words over its share of the first's.
    """
    a, b = (each.select(["word", "count"]).to_pandas() for each in (first, second))
    both: pd.DataFrame = a.merge(b, on="word", how="outer", suffixes=("_a", "_b"))
    both["ratio"] = both["count_b"] / b["count"].sum() / (both["count_a"] / a["count"].sum())
    return both


def lengths_figure(words: pa.Table, said: Mapping[str, str]) -> Figure:
    """Bars: the share of the words that have each length, and of the text that these make up.

    Args:
        words: some.
        said: title, words, text and length.
    """
    from plotly.graph_objects import Bar, Figure

    found, counts = lengths(words), words["count"].to_numpy()
    n_words, n_tokens = np.bincount(found), np.bincount(found, counts)
    places = np.arange(1, len(n_words))
    figure = Figure()
    for name, color, values in (("words", BLUE, n_words), ("text", ORANGE, n_tokens)):
        share = values[1:] / max(values.sum(), 1)
        figure.add_trace(Bar(x=places, y=share, name=said[name], marker_color=color))
    figure.update_xaxes(title=said["length"], dtick=1)
    figure.update_yaxes(tickformat=".0%")
    return figure.update_layout(LAYOUT, title_text=said["title"], height=360, legend={"orientation": "h", "y": -0.25})


def ranks_figure(words: pa.Table, said: Mapping[str, str]) -> Figure:
    """Frequency against rank with both axes in decades; a straight line would be Zipf's law.

    Args:
        words: some.
        said: title, rank and count.
    """
    from plotly.graph_objects import Figure, Scatter

    counts = words["count"].to_numpy()
    order = np.argsort(-counts, kind="stable")
    shown = np.unique(np.geomspace(1, max(len(order), 1), min(DOTS, len(order))).astype(int)) - 1
    names = words["word"].take(order[shown]).to_pylist()
    room = np.floor(np.log10(shown + 1) * NAMED_A_DECADE)  # a name each: others would stand on one another
    is_named = (np.diff(room, prepend=-1) > 0) & (shown < NAMED_RANKS)
    figure = Figure(
        Scatter(
            x=shown + 1, y=counts[order[shown]], mode="markers+text", marker={"color": BLUE, "size": 6},
            text=[label(name, 16) if named else "" for name, named in zip(names, is_named, strict=True)],
            textposition="top right", hovertext=[label(name, 40) for name in names], hoverinfo="text+x+y",
        )
    )  # fmt: skip
    figure.update_xaxes(log_axis(shown + 1), title=said["rank"])
    figure.update_yaxes(log_axis(counts), title=said["count"])
    return figure.update_layout(LAYOUT, title_text=said["title"], height=360, showlegend=False)


def merges_figure(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], said: Mapping[str, str]) -> Figure:
    """Bits a character against the number of merges.

    Args:
        curves: name -> merges, bits.
        said: title, merges and bits.
    """
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for (name, (x, y)), color in zip(curves.items(), COLORS, strict=False):
        figure.add_trace(Scatter(x=x, y=drawable(y), name=name, mode="lines", line={"color": color}))
    figure.update_xaxes(title=said["merges"])
    figure.update_yaxes(title=said["bits"])
    return figure.update_layout(LAYOUT, title_text=said["title"], height=360, legend={"orientation": "h", "y": -0.25})


def marked(text: str, gaps: Gaps) -> str:
    """The text as HTML, every place where a border could be as a bar: the surer of a border, the darker.

    >>> from mining.segment import Segmenter
    >>> marked("大学", Segmenter({"大": 1, "学": 1}).gaps("大学")).count("<span")
    2
    """
    cuts = gaps.offsets.tolist()
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    spans = (
        f'<span title="{p:.3f}" style="border-left:2px solid rgba(213,94,0,{p:.2f})">{html.escape(part)}</span>'
        for part, p in zip(parts[1:], gaps.borders.tolist(), strict=True)
    )
    style = "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.9;font-size:1.1rem"
    return f'<div style="{style}"><span>{html.escape(parts[0])}</span>{"".join(spans)}</div>'


def doubtful(text: str, gaps: Gaps, n: int) -> pd.DataFrame:
    """The places whose border is the least sure: what stands around it, and its probability."""
    import pandas as pd

    order = np.argsort(np.abs(gaps.borders - 0.5), kind="stable")[:n]
    around = [f"{text[max(at - 6, 0) : at]} | {text[at : at + 6]}" for at in gaps.offsets[order].tolist()]
    return pd.DataFrame({"place": gaps.offsets[order], "around": around, "border": gaps.borders[order]})
