"""Rules in words and as figures: support against confidence, the graph of items, the counts behind one rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dashboard.charts import LAYOUT, drawable, label, log_axis
from experiments.store.rules import SIDES
from mining.significance import wilson
from mining.spring import spring

if TYPE_CHECKING:
    import pyarrow as pa
    from plotly.graph_objects import Figure

DOTS = 3_000  # of a scatter; of more rules an even choice in their order
EDGES = 30  # rules of a graph
SHADES = "Viridis"  # one hue after the other in lightness, so that it reads without colour too
GRAY = "#9aa3b2"


class Counts(NamedTuple):
    """Baskets behind a rule: with both sides, with the antecedent, with the consequent, in all."""

    both: int
    antecedent: int
    consequent: int
    total: int

    def table(self) -> list[list[int]]:
        """2 x 2, with and without the antecedent by with and without the consequent.

        >>> Counts(2, 3, 4, 10).table()
        [[2, 1], [2, 5]]
        """
        rest = self.total - self.antecedent - self.consequent + self.both
        return [[self.both, self.antecedent - self.both], [self.consequent - self.both, rest]]

    def confidence(self) -> tuple[float, float]:
        """Ends of the 95 % interval of the confidence (Wilson 1927)."""
        low, high = wilson(np.array([self.both]), self.antecedent)
        return float(low[0]), float(high[0])


def counts_of(rule: Mapping[str, Any], n_baskets: float) -> Counts | None:
    """From the rule's supports; None where these are no shares of so many baskets."""
    names = ("support", "antecedent support", "consequent support")
    shares = [rule[name] if isinstance(rule[name], float) else -1.0 for name in names]
    if not 1 <= n_baskets < 1e15 or not all(0 <= share <= 1 for share in shares):
        return None
    both, antecedent, consequent = (round(share * n_baskets) for share in shares)
    found = Counts(both, antecedent, consequent, round(n_baskets))
    is_table = found.antecedent > 0 and min(min(row) for row in found.table()) >= 0
    return found if is_table else None


def joined(table: pa.Table, side: str) -> pa.Array:
    """(n_rows,) the items of a side, + between them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = table[side].combine_chunks()
    return pc.binary_join(lists.cast(pa.list_(pa.string())), " + ")


def in_words(table: pa.Table) -> list[str]:
    """(n_rules,) each as: antecedent → consequent."""
    sides = [joined(table, side).to_pylist() for side in SIDES]
    return [f"{before} → {behind}" for before, behind in zip(*sides, strict=True)]


def items_of(table: pa.Table) -> list[str]:
    """The items of the rules, those that stand in the most rules first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sides = [table[side].combine_chunks().flatten().cast(pa.string()) for side in SIDES]
    found = pc.value_counts(pa.chunked_array(sides, pa.string()).combine_chunks())
    order = np.argsort(-found.field("counts").to_numpy(), kind="stable")
    return [item for item in found.field("values").take(pa.array(order)).to_pylist() if item is not None]


def scatter(table: pa.Table, said: Mapping[str, str]) -> Figure:
    """A dot a rule by support and confidence, coloured by lift in octaves; the highest lifts lie on top.

    Args:
        table: of rules.
        said: title, support, confidence and lift.
    """
    from plotly.graph_objects import Figure, Scattergl

    some = table.take(np.unique(np.linspace(0, table.num_rows - 1, min(DOTS, table.num_rows)).astype(int)))
    shown = some.take(np.argsort(some["lift"].to_numpy(), kind="stable"))
    octaves = np.log2(np.clip(shown["lift"].to_numpy(), 2.0**-10, 2.0**30))
    ticks = np.unique(np.round(np.linspace(octaves.min(), octaves.max(), 5), 1)) if len(octaves) else np.zeros(0)
    bar = {"title": said["lift"], "tickvals": ticks, "ticktext": [f"{2**tick:.3g}" for tick in ticks]}
    figure = Figure(
        Scattergl(
            x=drawable(shown["support"].to_numpy()), y=drawable(shown["confidence"].to_numpy()), mode="markers",
            marker={"size": 7, "color": octaves, "colorscale": SHADES, "colorbar": bar, "opacity": 0.75},
            text=[label(words, 80) for words in in_words(shown)],
            customdata=shown["lift"].to_numpy(),
            hovertemplate="%{text}<br>%{x:.4g} · %{y:.3f} · %{customdata:.3g}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(log_axis(shown["support"].to_numpy()), title=said["support"])
    figure.update_yaxes(title=said["confidence"])
    return figure.update_layout(LAYOUT, title_text=said["title"], height=420)


def graph(table: pa.Table, title: str) -> Figure:
    """The first rules: items are words, a rule is a dot; arrows lead from the antecedent's items to the consequent's.

    Args:
        table: the best first.
        title: of the figure.
    """
    from plotly.graph_objects import Figure, Scatter

    best = table.slice(0, EDGES)
    sides = [[[str(item) for item in items or ()] for items in best[side].to_pylist()] for side in SIDES]
    items = sorted({item for side in sides for names in side for item in names})
    place = {item: at for at, item in enumerate(items)}
    into = [(place[item], len(items) + at) for at, names in enumerate(sides[0]) for item in names]
    out = [(len(items) + at, place[item]) for at, names in enumerate(sides[1]) for item in names]
    spots = spring(len(items) + best.num_rows, [*into, *out])
    ends = spots[np.array([*into, *out], int).reshape(-1, 2)]  # (n_edges, 2, 2)
    gap = np.full((len(ends), 1, 2), np.nan)
    lines = np.concatenate([ends, gap], axis=1).reshape(-1, 2)
    middle = ends.mean(axis=1)
    turn = ends[:, 1] - ends[:, 0]
    figure = Figure(Scatter(x=lines[:, 0], y=lines[:, 1], mode="lines", line={"color": GRAY, "width": 1},
                            hoverinfo="skip"))  # fmt: skip
    head = {"symbol": "triangle-up", "size": 7, "color": GRAY, "angle": np.degrees(np.arctan2(turn[:, 0], turn[:, 1]))}
    figure.add_trace(Scatter(x=middle[:, 0], y=middle[:, 1], mode="markers", marker=head, hoverinfo="skip"))
    lift = np.log2(np.clip(best["lift"].to_numpy(), 2.0**-10, 2.0**30))
    dots = spots[len(items) :]
    figure.add_trace(
        Scatter(
            x=dots[:, 0], y=dots[:, 1], mode="markers", marker={"size": 10, "color": lift, "colorscale": SHADES},
            text=[label(words, 80) for words in in_words(best)], hovertemplate="%{text}<extra></extra>",
        )
    )  # fmt: skip
    names = spots[: len(items)]
    figure.add_trace(
        Scatter(
            x=names[:, 0], y=names[:, 1], mode="markers+text", text=[label(item, 24) for item in items],
            marker={"size": 5, "color": GRAY}, textposition="top center", textfont={"size": 13}, hoverinfo="skip",
        )
    )  # fmt: skip
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure.update_layout(LAYOUT, title_text=title, height=560, showlegend=False)
