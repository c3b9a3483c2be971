"""Figures of a sweep: its values by trial, what explains them, trials on the way, the map over rate and batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dashboard.charts import LAYOUT, drawable, label, log_axis
from dashboard.palette import COLORS

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from experiments.store.curves import Curve

COMPLETE, BEST, PRUNED, OTHER = "#0072B2", "#009E73", "#E69F00", "#888888"
_LEAST_TO_FIT = 4  # trials: three coefficients and a degree of freedom


@dataclass(frozen=True)
class Law:
    """value = scale lr^a B^b by least squares of the logarithms, with half-widths of 95 % intervals.

    Args:
        scale: the value at lr = B = 1.
        a: exponent of the rate.
        a_half: half-width.
        b: exponent of the batch size.
        b_half: half-width.
        total: a + b, 0 where lr / B alone counts.
        total_half: half-width.
        n: trials.
    """

    scale: float
    a: float
    a_half: float
    b: float
    b_half: float
    total: float
    total_half: float
    n: int


def fit_law(rates: np.ndarray, batches: np.ndarray, values: np.ndarray) -> Law | None:
    """The law of these trials, (n,) each; None of too few, not positive ones, or a single rate or size.

    >>> rate, batch = np.array([1.0, 2.0, 4.0, 1.0, 2.0]), np.array([1.0, 1.0, 1.0, 8.0, 8.0])
    >>> law = fit_law(rate, batch, 3 * rate / batch)
    >>> round(law.scale, 9), round(law.a, 9), round(law.b, 9), law.n
    (3.0, 1.0, -1.0, 5)
    """
    from scipy.special import stdtrit

    n = len(values)
    positive = all(bool(np.isfinite(side).all() and (side > 0).all()) for side in (rates, batches, values))
    if n < _LEAST_TO_FIT or not positive:
        return None
    design = np.stack([np.ones(n), np.log(rates), np.log(batches)], 1)  # (n, 3)
    if np.linalg.matrix_rank(design) < 3:
        return None
    target = np.log(values)
    coefficients = np.linalg.lstsq(design, target, rcond=None)[0]
    residual = float(np.square(target - design @ coefficients).sum()) / (n - 3)
    covariance = residual * np.linalg.inv(design.T @ design)
    reach = float(stdtrit(n - 3, 0.975))
    halves = [reach * math.sqrt(max(float(c @ covariance @ c), 0.0)) for c in (np.eye(3)[1], np.eye(3)[2], [0, 1, 1])]
    constant, a, b = (float(each) for each in coefficients)
    return Law(math.exp(constant), a, halves[0], b, halves[1], a + b, halves[2], n)


def history_figure(trials: pd.DataFrame, value: str, direction: str, words: Mapping[str, str]) -> Figure:
    """The value of every completed trial, and the best up to it.

    Args:
        trials: columns number, state and the value's.
        value: its column.
        direction: min or max.
        words: title, best_so_far, trial_complete, trial_other, trial.
    """
    from plotly.graph_objects import Figure, Scatter

    values = drawable(trials[value].to_numpy(float))
    known = trials[np.isfinite(values)]
    values, done = values[np.isfinite(values)], (known["state"] == "COMPLETE").to_numpy()
    figure = Figure()
    for name, chosen, color in (("trial_complete", done, COMPLETE), ("trial_other", ~done, OTHER)):
        if chosen.any():
            x = known["number"][chosen]
            marker = {"size": 8, "color": color}
            figure.add_trace(Scatter(x=x, y=values[chosen], mode="markers", name=words[name], marker=marker))
    best = (np.maximum if direction == "max" else np.minimum).accumulate(values[done]) if done.any() else values[done]
    style = {"color": BEST, "width": 2, "shape": "hv"}
    figure.add_trace(Scatter(x=known["number"][done], y=best, mode="lines", name=words["best_so_far"], line=style))
    _finish(figure, words["title"], words["trial"], value.removeprefix("values."))
    return figure


def importance_figure(shares: Mapping[str, float], words: Mapping[str, str]) -> Figure:
    """A bar a setting, the share of variance it explains.

    Args:
        shares: setting -> share in [0, 1], the largest first.
        words: title.
    """
    from plotly.graph_objects import Bar, Figure

    names = [label(name) for name in shares]
    texts = [f"{100 * share:.1f} %" for share in shares.values()]
    figure = Figure(Bar(x=[*shares.values()], y=names, orientation="h", text=texts, marker_color=COMPLETE))
    figure.update_layout(**LAYOUT, title_text=label(words["title"], 90), height=110 + 42 * len(names))
    figure.update_xaxes(range=[0, 1.05], tickformat=".0%")
    figure.update_yaxes(autorange="reversed", ticksuffix=" ")
    return figure


def intermediate_figure(lines: Sequence[tuple[int, str, Curve]], best: int | None, words: Mapping[str, str]) -> Figure:
    """The objective's curve of every trial; pruned ones end in a cross, the best one stands out.

    Args:
        lines: number, state and curve of each trial.
        best: number of the best trial.
        words: title, metric, step, trial, trial_best, trial_complete, trial_pruned, trial_other.
    """
    from plotly.graph_objects import Figure, Scatter

    figure, named = Figure(), set()
    for number, state, curve in sorted(lines, key=lambda line: line[0] == best):  # the best one over the others
        kind = "trial_best" if number == best else f"trial_{state.lower()}"
        kind = kind if kind in words else "trial_other"
        color = {"trial_best": BEST, "trial_complete": COMPLETE, "trial_pruned": PRUNED}.get(kind, OTHER)
        figure.add_trace(
            Scatter(
                x=curve.step,
                y=drawable(curve.value),
                mode="lines+markers",
                marker={"symbol": "x", "size": [0] * (len(curve.step) - 1) + [10 if state == "PRUNED" else 0]},
                line={"color": color, "width": 3 if kind == "trial_best" else 1},
                opacity=1 if kind != "trial_complete" else 0.5,
                name=words[kind],
                legendgroup=kind,
                showlegend=kind not in named,
                hovertemplate=f"{words['trial']} {number}: %{{y:.5g}}<extra></extra>",
            )
        )
        named.add(kind)
    _finish(figure, words["title"], words["step"], words["metric"])
    return figure


def grid_figure(cells: pd.DataFrame, words: Mapping[str, str]) -> Figure:
    """The mean value of every pair of rate and batch size, with lines along which lr / B is the same.

    Args:
        cells: columns lr, batch and value, finite; the former two positive.
        words: title, batch_size.
    """
    from plotly.graph_objects import Figure, Heatmap, Scatter

    means = cells.pivot_table(index="lr", columns="batch", values="value", aggfunc="mean", observed=True)
    rates, batches = means.index.to_numpy(float), means.columns.to_numpy(float)
    places = np.log2(rates), np.log2(batches)
    figure = Figure(
        Heatmap(
            x=places[1],
            y=places[0],
            z=drawable(means.to_numpy(float)),
            colorscale="Viridis",
            texttemplate="%{z:.4g}",
            colorbar={"thickness": 12},
            hovertemplate="%{z:.5g}<extra></extra>",
            xgap=1,
            ygap=1,
        )
    )
    room = [_room(side) for side in places]
    levels = np.unique(np.round(np.log2(rates[:, None] / batches[None, :]), 6))
    for level in levels[:: max(1, math.ceil(len(levels) / 12))]:
        x = np.array(room[1])
        figure.add_trace(
            Scatter(
                x=x,
                y=x + level,
                mode="lines",
                line={"color": "rgba(255, 255, 255, 0.6)", "width": 1, "dash": "dash"},
                showlegend=False,
                hovertemplate=f"lr / B = {2.0**level:.3g}<extra></extra>",
            )
        )
    _finish(figure, words["title"], words["batch_size"], "lr")
    figure.update_xaxes(range=room[1], tickvals=places[1], ticktext=[f"{each:g}" for each in batches], showgrid=False)
    figure.update_yaxes(range=room[0], tickvals=places[0], ticktext=[f"{each:g}" for each in rates], showgrid=False)
    return figure


def law_figure(cells: pd.DataFrame, law: Law | None, words: Mapping[str, str]) -> Figure:
    """Every trial over lr / B, a colour a batch size: where lr / B alone counts the colours lie on one line.

    Args:
        cells: columns lr, batch and value, finite and positive but for the last.
        law: drawn as a line a batch size; None = no line.
        words: title, metric, batch_size.
    """
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for i, (batch, rows) in enumerate(cells.groupby("batch", sort=True)):
        figure.add_trace(
            Scatter(
                x=rows["lr"] / rows["batch"],
                y=rows["value"],
                mode="markers",
                name=f"{words['batch_size']} {batch:g}",
                marker={"size": 9, "color": COLORS[i % len(COLORS)]},
                hovertemplate="%{x:.4g}: %{y:.5g}<extra></extra>",
            )
        )
        if law is not None:
            size, ends = float(str(batch)), np.array([rows["lr"].min(), rows["lr"].max()], float)
            style = {"color": COLORS[i % len(COLORS)], "width": 1, "dash": "dash"}
            y = law.scale * ends**law.a * size**law.b
            figure.add_trace(Scatter(x=ends / size, y=y, mode="lines", line=style, showlegend=False, hoverinfo="skip"))
    _finish(figure, words["title"], "lr / B", words["metric"])
    values = cells["value"].to_numpy(float)
    figure.update_xaxes(log_axis((cells["lr"] / cells["batch"]).to_numpy(float)))
    figure.update_yaxes(log_axis(values) if (values > 0).all() else {"type": "linear"})
    return figure


def _room(places: np.ndarray) -> list[float]:
    """Ends of an axis half a cell beyond its outermost places."""
    gap = float(np.diff(places).min()) if len(places) > 1 else 1.0
    return [float(places.min()) - gap / 2, float(places.max()) + gap / 2]


def _finish(figure: Figure, title: str, x: str, y: str) -> None:
    figure.update_layout(**LAYOUT, title_text=label(title, 90), height=420)
    figure.update_layout(legend={"orientation": "h", "x": 1, "xanchor": "right", "y": -0.18, "yanchor": "top"})
    figure.update_xaxes(title_text=label(x), zeroline=False)
    figure.update_yaxes(title_text=label(y), zeroline=False)
