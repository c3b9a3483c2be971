"""Curves of one run or of many on common axes: smoothed, averaged over groups, drawn. Arrays in, figures out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard.charts import LAYOUT, THICK_STAGES, drawable, label, unit
from experiments.store.curves import minmax

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

POINTS = 800  # drawn of one line, by min-max
GRID = 400  # points of a mean over runs
FEW = 40  # up to here every value gets a marker
MANY_POINTS = 30_000  # of one chart; beyond, WebGL draws it (browsers allow about 8 such charts a page)
FAINT = 0.25
THIN, THICK = 1.0, 2.0  # pixels; training beside validation, and all else
CLIPPED = (1.0, 99.0)  # percentiles


@dataclass(frozen=True)
class Line:
    """One metric of one run.

    Args:
        name: in the legend: the run's, or the metric's where one run is drawn alone.
        group: what it is averaged with; lines of one group have one colour.
        color: #RRGGBB.
        stage: train, val, ..., or empty; beside others training is thin.
        x: (N,) numbers, or times (datetime64[ms]).
        y: (N,) values; they may be infinite or NaN, which leaves a gap.
    """

    name: str
    group: str
    color: str
    stage: str
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class View:
    """How curves are drawn.

    Args:
        x_title: of the horizontal axis.
        log_x: decades to the right.
        log_y: decades upwards, where all values are positive.
        smoothing: weight of the past in [0, 1); 0 = none.
        clip: the vertical axis ends at the 1st and 99th percentile.
        averaged: a mean with a band of one standard deviation for each group, its members faint.
        low: the least x that is drawn, of times in milliseconds since 1970; None = all.
        high: the greatest.
        has_legend: names in the chart; where many charts share their lines, one legend stands over them.
        height: pixels.
    """

    x_title: str
    log_x: bool = False
    log_y: bool = False
    smoothing: float = 0.0
    clip: bool = False
    averaged: bool = False
    low: float | None = None
    high: float | None = None
    has_legend: bool = True
    height: int = 340


def smoothed(values: np.ndarray, weight: float) -> np.ndarray:
    """The exponential moving average, every value divided by the weights it has: a constant stays what it is.

    Values that are not finite stay as they are and enter no average.

    >>> smoothed(np.array([1.0, 1.0, 4.0]), 0.5)
    array([1.        , 1.        , 2.71428571])
    """
    import pandas as pd

    finite = np.isfinite(values)
    average = pd.Series(np.where(finite, values, np.nan)).ewm(alpha=1 - weight, ignore_na=True).mean().to_numpy()
    return np.where(finite, average, values)


def along(steps: np.ndarray, other_steps: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Another metric of the run at these steps, linear between its own; NaN before its first and after its last.

    >>> along(np.array([0, 5, 10]), np.array([0, 10]), np.array([1.0, 2.0]))
    array([1. , 1.5, 2. ])
    """
    known = np.isfinite(other)
    if not known.any():
        return np.full(len(steps), np.nan)
    found: np.ndarray = np.interp(steps, other_steps[known], other[known], left=np.nan, right=np.nan)
    return found


def mean_band(
    members: Sequence[tuple[np.ndarray, np.ndarray]], n_points: int = GRID
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, mean, standard deviation and number of members there, of curves of one group.

    Args:
        members: x ascending, and y, of each.
        n_points: of x at most; with fewer distinct x they are the members' own.

    Between its own points a member counts as linear, outside of them not at all. The deviation of a single one is 0.
    """
    sides = [(x[np.isfinite(y)], y[np.isfinite(y)]) for x, y in members]
    sides = [(x, y) for x, y in sides if len(x)]
    if not sides:
        empty = np.empty(0)
        return empty, empty, empty, empty
    grid = np.unique(np.concatenate([x for x, _ in sides]))
    if len(grid) > n_points:
        grid = np.linspace(grid[0], grid[-1], n_points)
    rows = np.array([np.interp(grid, x, y, left=np.nan, right=np.nan) for x, y in sides])
    count = np.isfinite(rows).sum(0)
    grid, rows, count = grid[count > 0], rows[:, count > 0], count[count > 0]
    mean = np.nansum(rows, 0) / count
    with np.errstate(over="ignore"):  # the largest numbers have no square
        deviation = np.sqrt(np.nansum(np.square(rows - mean), 0) / np.maximum(count - 1, 1))
    return grid, mean, deviation, count


def curve_figure(lines: Sequence[Line], title: str, view: View) -> Figure:
    """One quantity of the runs; a line breaks where a value is not finite, and its name says how many are not."""
    from plotly.graph_objects import Figure

    shown = [_cut(line, view) for line in lines]
    shown = [line for line in shown if len(line.y)]
    stages = {line.stage for line in shown}
    is_log = view.log_y and all((line.y[np.isfinite(line.y)] > 0).all() for line in shown)
    n_points = sum(min(len(line.y), POINTS) for line in shown)
    brush = _Brush(view, use_webgl=n_points > MANY_POINTS, has_stages=len(stages) > 1)
    figure = Figure(brush.bands(shown) if view.averaged else brush.lines(shown))
    n_names = len({line.group if view.averaged else line.name for line in shown})
    figure.update_layout(
        **LAYOUT,
        title_text=label(title),
        height=view.height,
        hovermode="x unified" if n_names <= 8 else "closest",
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
        showlegend=view.has_legend,
    )
    figure.update_xaxes(title_text=label(view.x_title), showgrid=False, automargin=True)
    figure.update_yaxes(title_text=unit(title), automargin=True, zeroline=False)
    if view.log_x:
        figure.update_xaxes(type="log")
    if view.low is not None and view.high is not None and (view.low > 0 or not view.log_x):
        figure.update_xaxes(range=np.log10([view.low, view.high]) if view.log_x else [view.low, view.high])
    if is_log:
        figure.update_yaxes(type="log")
    if view.clip and (ends := _clipped(shown, is_log)):
        figure.update_yaxes(range=ends)
    return figure


def _cut(line: Line, view: View) -> Line:
    """The line inside of the view's window with one point on either side, gaps where a value has no place."""
    x = np.where(np.isnat(line.x), np.nan, line.x.astype(float)) if line.x.dtype.kind == "M" else drawable(line.x)
    kept = np.isfinite(x)
    if view.low is not None and view.high is not None:
        kept &= _is_near(x, view.low, view.high)
    return Line(line.name, line.group, line.color, line.stage, line.x[kept], drawable(line.y[kept]))


def _is_near(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Which places lie in the window; of ascending ones also the next on either side, that lines go on to its ends."""
    if (np.diff(x) < 0).any() or np.isnan(x).any():
        return (x >= low) & (x <= high)
    places = np.arange(len(x))
    inside: np.ndarray = (places >= np.searchsorted(x, low) - 1) & (places <= np.searchsorted(x, high, side="right"))
    return inside


def _clipped(lines: Iterable[Line], is_log: bool) -> list[float] | None:
    """The ends of the vertical axis, with a twentieth to spare; None without a finite value."""
    values = np.concatenate([line.y[np.isfinite(line.y)] for line in lines] or [np.empty(0)])
    if not len(values):
        return None
    low, high = np.percentile(np.log10(values) if is_log else values, CLIPPED)
    room = 0.05 * (high - low) or 0.5
    return [float(low - room), float(high + room)]


@dataclass(frozen=True)
class _Brush:
    """Turns lines into Plotly's traces, as plain dictionaries: built as objects they would be checked twice."""

    view: View
    use_webgl: bool
    has_stages: bool

    def lines(self, lines: Sequence[Line]) -> list[dict[str, Any]]:
        """Each line; under a smoothed one what it was made of, faint."""
        traces: list[dict[str, Any]] = []
        named: set[str] = set()
        for line in lines:
            y = self._smooth(line)
            if y is not line.y:
                traces.append(self._trace(line, line.y, is_faint=True))
            traces.append(self._trace(line, y, is_named=line.name not in named))
            named.add(line.name)
        return traces

    def bands(self, lines: Sequence[Line]) -> list[dict[str, Any]]:
        """For each group and stage a mean inside of a band, over its members."""
        groups: dict[tuple[str, str], list[Line]] = {}
        for line in lines:
            groups.setdefault((line.group, line.stage), []).append(line)
        traces: list[dict[str, Any]] = []
        named: set[str] = set()
        for (name, _), members in groups.items():
            traces += [self._trace(line, line.y, is_faint=True) for line in members]
            traces += self._band(members, is_named=name not in named)
            named.add(name)
        return traces

    def _smooth(self, line: Line) -> np.ndarray:
        """The line's values, smoothed where they are many: of few the average would lag behind more than it calms."""
        return smoothed(line.y, self.view.smoothing) if self.view.smoothing and len(line.y) > FEW else line.y

    def _band(self, members: Sequence[Line], is_named: bool) -> list[dict[str, Any]]:
        curves = [(line.x.astype(float), self._smooth(line)) for line in map(_ascending, members)]
        x, mean, deviation, count = mean_band(curves)
        if not len(x):
            return []
        first = members[0]
        times = x.astype("int64").astype(first.x.dtype) if first.x.dtype.kind == "M" else x
        ends = Line("", first.group, first.color, "", np.concatenate([times, times[::-1]]), np.empty(0))
        outline = np.concatenate([mean + deviation, (mean - deviation)[::-1]])
        red, green, blue = (int(first.color[i : i + 2], 16) for i in (1, 3, 5))
        fill = {"fill": "toself", "fillcolor": f"rgba({red},{green},{blue},0.18)", "line": {"width": 0}}
        band = self._plain(ends, outline, **fill, hoverinfo="skip", showlegend=False)
        line = Line(first.group, first.group, first.color, first.stage, times, mean)
        middle = self._trace(line, mean, is_named=is_named)
        middle.update(
            name=label(f"{first.group} (n = {len(members)})"),
            customdata=np.stack([deviation, count], -1),
            hovertemplate="%{y:.5g} ± %{customdata[0]:.3g} (n = %{customdata[1]:d})",
        )
        return [band, middle]

    def _trace(self, line: Line, y: np.ndarray, *, is_faint: bool = False, is_named: bool = True) -> dict[str, Any]:
        """The line with these values, no longer than can be seen; its name says how many values are not finite."""
        n_lost = int((~np.isfinite(line.y)).sum())
        is_thin = is_faint or (self.has_stages and line.stage not in THICK_STAGES)
        places, values = minmax(np.arange(len(y)), y, POINTS)
        trace = self._plain(
            line,
            values,
            x=line.x[places],
            name=label(line.name) + (f" (NaN/∞ ×{n_lost})" if n_lost else ""),
            legendgroup=label(line.group if self.view.averaged else line.name),
            mode="lines+markers" if len(y) <= FEW else "lines",
            connectgaps=False,
            line={"color": line.color, "width": THIN if is_thin else THICK},
            marker={"size": 5},
            showlegend=is_named and not is_faint,
        )
        if is_faint:
            trace.update(opacity=FAINT, hoverinfo="skip")
        return trace

    def _plain(self, source: Line, y: np.ndarray, **settings: Any) -> dict[str, Any]:
        kind = "scattergl" if self.use_webgl and "fill" not in settings else "scatter"
        return {"type": kind, "x": source.x, "y": y, "mode": "lines", **settings}


def _ascending(line: Line) -> Line:
    order = np.argsort(line.x, kind="stable")
    return Line(line.name, line.group, line.color, line.stage, line.x[order], line.y[order])
