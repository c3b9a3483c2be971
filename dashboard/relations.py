"""How the figures of runs hang together: a scatter with its trend, parallel coordinates, means with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard.charts import LAYOUT, drawable, label

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from experiments.store.groups import Group, Mean

DECADES = 2  # a positive quantity that spans so many is drawn by its logarithm
MOST_AXES = 10
BEST_TO_WORST = ("#0072B2", "#999999", "#E69F00")  # both ends stand out from a light page and a dark one
_GREY = "#888888"


@dataclass(frozen=True)
class Spearman:
    """Rank correlation with its two-sided p by Student's t.

    Args:
        rho: in [-1, 1].
        n: pairs.
        p: NaN of fewer than three pairs; for ten or fewer a rough one.
    """

    rho: float
    n: int
    p: float


def spearman(x: np.ndarray, y: np.ndarray) -> Spearman | None:
    """Of the pairs that are finite; None of fewer than two, or where one side does not vary.

    >>> spearman(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 4.0, 9.0, 16.0])).rho
    1.0
    """
    import pandas as pd
    from scipy.special import stdtr

    known = np.isfinite(x) & np.isfinite(y)
    ranks = [pd.Series(side[known]).rank().to_numpy() for side in (x, y)]
    n = int(known.sum())
    if n < 2 or any(np.ptp(side) == 0 for side in ranks):
        return None
    u, v = (side - side.mean() for side in ranks)
    rho = float(np.clip(u @ v / math.sqrt((u @ u) * (v @ v)), -1, 1))
    if n < 3:
        return Spearman(rho, n, math.nan)
    p = 2 * float(stdtr(n - 2, -abs(rho) * math.sqrt((n - 2) / (1 - rho**2)))) if abs(rho) < 1 else 0.0
    return Spearman(round(rho, 12), n, p)


def trend(x: np.ndarray, y: np.ndarray, *, log_x: bool = False, log_y: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the least-squares line through the pairs that have a place on the axes; empty where there is none.

    On a logarithmic axis the line is straight there: y = a x^b where both are.
    """
    sides = [np.log10(np.where(side > 0, side, np.nan)) if log else side for side, log in ((x, log_x), (y, log_y))]
    known = np.isfinite(sides[0]) & np.isfinite(sides[1])
    u, v = (side[known] for side in sides)
    if len(u) < 2 or np.ptp(u) == 0:
        return np.empty(0), np.empty(0)
    with np.errstate(all="ignore"):  # the largest numbers have no square
        slope = (u - u.mean()) @ (v - v.mean()) / np.square(u - u.mean()).sum()
        ends = np.array([u.min(), u.max()])
        values = v.mean() + slope * (ends - u.mean())
        found = (10**ends if log_x else ends), (10**values if log_y else values)
    return found if np.isfinite(found).all() else (np.empty(0), np.empty(0))


def scatter_figure(
    table: pd.DataFrame, x: str, y: str, colors: Mapping[str, str], *, log_x: bool = False, log_y: bool = False
) -> Figure:
    """A point a run, and the trend through all.

    Args:
        table: columns run_id, name and the two named, as numbers.
        x: column to the right.
        y: column upwards.
        colors: run id -> #RRGGBB.
        log_x: decades to the right.
        log_y: decades upwards.
    """
    from plotly.graph_objects import Figure, Scatter

    xs, ys = (drawable(table[name].to_numpy(float)) for name in (x, y))
    kept = np.isfinite(xs) & np.isfinite(ys)
    names = [label(name) for name in table["name"][kept]]
    line_x, line_y = trend(xs, ys, log_x=log_x, log_y=log_y)
    figure = Figure()
    if len(line_x):
        style = {"color": _GREY, "width": 1.5, "dash": "dash"}
        figure.add_trace(Scatter(x=line_x, y=line_y, mode="lines", line=style, hoverinfo="skip"))
    figure.add_trace(
        Scatter(
            x=xs[kept],
            y=ys[kept],
            mode="markers",
            marker={"size": 10, "color": [colors[run_id] for run_id in table["run_id"][kept]]},
            text=names,
            hovertemplate="%{text}<br>%{x:.5g}, %{y:.5g}<extra></extra>",
        )
    )
    figure.update_layout(**LAYOUT, title_text=label(f"{short(y)} / {short(x)}"), height=460, showlegend=False)
    figure.update_xaxes(title_text=label(short(x)), showgrid=False, zeroline=False, type="log" if log_x else "linear")
    figure.update_yaxes(title_text=label(short(y)), zeroline=False, type="log" if log_y else "linear")
    return figure


def short(column: str) -> str:
    """A column's name as a person knows it.

    >>> short("params.optimizer.lr"), short("metrics.val/elbo"), short("seconds")
    ('optimizer.lr', 'val/elbo', 'seconds')
    """
    return column.removeprefix("params.").removeprefix("metrics.")


def is_wide(values: np.ndarray) -> bool:
    """Whether finite values are all positive and span DECADES or more.

    >>> is_wide(np.array([1e-4, 1e-1])), is_wide(np.array([0.0, 1e3]))
    (True, False)
    """
    known = values[np.isfinite(values)]
    return len(known) > 0 and bool(known.min() > 0) and math.log10(known.max()) - math.log10(known.min()) >= DECADES


def parallel_figure(table: pd.DataFrame, columns: Sequence[str], color_by: str, *, lowest: bool) -> Figure:
    """Every run as a line over its settings, coloured by a metric: blue is best, orange worst.

    Args:
        table: a row a run; numbers or text in the columns; runs without a finite metric are left out.
        columns: the axes, at most MOST_AXES.
        color_by: a metric column, the last axis.
        lowest: whether the smallest value is the best.
    """
    from plotly.graph_objects import Figure, Parcoords

    table = table[np.isfinite(drawable(table[color_by].to_numpy(float)))]
    values = table[color_by].to_numpy(float)
    axes = [*(name for name in columns if name != color_by), color_by][-MOST_AXES:]
    spread = np.log10(values) if is_wide(values) else values
    figure = Figure(
        Parcoords(
            line={"color": spread, "colorscale": BEST_TO_WORST, "reversescale": not lowest, "showscale": False},
            dimensions=[_axis(table[name], short(name)) for name in axes],
            labelangle=-12 if len(axes) > 4 else 0,
            unselected={"line": {"opacity": 0.06}},
        )
    )
    figure.update_layout(height=480, margin={"l": 70, "r": 70, "t": 90, "b": 24})
    return figure


def _axis(column: pd.Series, name: str) -> dict[str, Any]:
    """An axis of numbers, of their logarithms where they are wide, or of words; what a run lacks stands apart."""
    import pandas as pd

    title = label(name, 28)
    numbers = drawable(pd.to_numeric(column, errors="coerce").to_numpy(float))
    if np.isfinite(numbers).sum() < len(column):  # words, or some run has no number
        texts = column.fillna("–").astype(str)
        known = sorted(texts.unique())
        places = {text: float(place) for place, text in enumerate(known)}
        ticks = {"tickvals": [*places.values()], "ticktext": [label(text, 18) for text in known]}
        return {"label": title, "values": [places[text] for text in texts], **ticks}
    if is_wide(numbers):
        low, high = math.floor(np.log10(numbers.min())), math.ceil(np.log10(numbers.max()))
        ticks = {
            "tickvals": [*range(low, high + 1)],
            "ticktext": [f"{10.0**power:g}" for power in range(low, high + 1)],
        }
        return {"label": title, "values": np.log10(numbers), **ticks}
    known_numbers = np.unique(numbers)
    few = {"tickvals": known_numbers, "ticktext": [f"{value:.4g}" for value in known_numbers]}
    return {"label": title, "values": numbers, **(few if len(known_numbers) <= 6 else {})}


def means_figure(
    groups: Sequence[Group], means: Sequence[Mean], metric: str, colors: Mapping[str, str], words: Mapping[str, str]
) -> Figure:
    """For every group its members' last values, and their mean with its 95 % interval.

    Args:
        groups: from the top.
        means: of them.
        metric: what is drawn.
        colors: run id -> #RRGGBB; a group has that of its first member.
        words: seed, mean.
    """
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for place, (group, mean) in enumerate(zip(groups, means, strict=True)):
        color = colors[group.members[0].run_id]
        values = group.values(metric)
        figure.add_trace(
            Scatter(
                x=drawable(np.array([*values.values()])),
                y=[place] * len(values),
                mode="markers",
                marker={"size": 8, "color": color, "opacity": 0.45},
                text=[label(seed) for seed in values],
                hovertemplate=f"{words['seed']} %{{text}}: %{{x:.5g}}<extra></extra>",
            )
        )
        half = mean.high - mean.mean if mean.n > 1 and math.isfinite(mean.high) else 0.0
        figure.add_trace(
            Scatter(
                x=drawable(np.array([mean.mean])),
                y=[place],
                mode="markers",
                marker={"size": 13, "color": color, "symbol": "diamond"},
                error_x={"type": "data", "array": [half], "color": color, "thickness": 2.5, "width": 7},
                hovertemplate=f"{words['mean']} %{{x:.5g}} ± {half:.3g}<extra></extra>",
            )
        )
    ticks = {"tickvals": [*range(len(groups))], "ticktext": [label(group.label, 44) for group in groups]}
    figure.update_layout(**LAYOUT, title_text=label(metric), height=110 + 46 * len(groups), showlegend=False)
    figure.update_xaxes(automargin=True, zeroline=False)
    figure.update_yaxes(**ticks, autorange="reversed", automargin=True, showgrid=False, zeroline=False)
    return figure
