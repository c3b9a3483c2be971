"""How metrics are named, grouped and labelled in charts; an optimizer's path and its map of minima as figures."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from plotly.graph_objects import Contour, Figure, Scatter

BACKGROUND = ("epoch", "time/", "system/")  # quantities of the run, not of what it learns: drawn on request
STAGES = ("train", "val", "test")
THICK_STAGES = ("val", "test")  # the others are thin beside them
DRAWABLE = 1e300  # Plotly adds and subtracts numbers: with larger ones an axis has no ends
BASINS = ("#BBBBBB", "#4477AA", "#EE6677")  # diverged, the global minimum, another
PATH, EQUATION, MINIMUM = "#EE7733", "#33BBEE", "#228833"
PATH_ARRAYS = frozenset({"t", "theta", "ode_t", "ode_theta", "minima", "x", "L"})
LAYOUT = {
    "margin": {"l": 8, "r": 8, "t": 44, "b": 8},
    "title": {"font": {"size": 15}, "x": 0, "xanchor": "left", "y": 0.97, "yanchor": "top"},
}
_LEAST_DECADES = 0.5  # below, Plotly's own marks read better
_MOST_DECADES = 8  # that are named
_UNITS = {  # by the end of a metric's name
    "_nats": "nats", "_bits": "bits", "_seconds": "s", "_percent": "%", "_bytes": "bytes", "_fraction": "share",
    "samples_per_second": "samples/s", "kl": "nats", "elbo": "nats", "nll": "nats", "perplexity": "words",
}  # fmt: skip


def label(text: str, limit: int = 60) -> str:
    """A user's text for a Plotly label, which would render <a>, <b> and more: escaped and cut at `limit`.

    >>> label("<b>x</b>")
    '&lt;b&gt;x&lt;/b&gt;'
    """
    return html.escape(text if len(text) <= limit else text[: limit - 1] + "…")


def drawable(values: np.ndarray) -> np.ndarray:
    """The values, NaN in place of those too large for an axis, and 0 of those too small.

    >>> import numpy as np
    >>> drawable(np.array([1.0, np.inf, -1e308, 5e-324]))
    array([ 1., nan, nan,  0.])
    """
    import numpy as np

    size = np.abs(values)
    return np.where(size < DRAWABLE, np.where(size > 1 / DRAWABLE, values, 0.0), np.nan)


def log_axis(*values: np.ndarray) -> dict[str, Any]:
    """A logarithmic axis for these: 1, 2 and 5 of each decade are named, or of more than two decades their ends.

    Plotly's own names of marks between decades are single digits, which read as values.

    >>> import numpy as np
    >>> log_axis(np.array([0.9, 20.0]))["ticktext"], log_axis(np.array([1e-3, 50.0]))["ticktext"]
    (['0.5', '1', '2', '5', '10', '20'], ['0.001', '0.01', '0.1', '1', '10'])
    """
    import numpy as np

    known = np.concatenate([np.asarray(each, float).ravel() for each in values]) if values else np.zeros(0)
    logs = np.log10(known[np.isfinite(known) & (known > 0)])
    if not len(logs) or logs.max() - logs.min() < _LEAST_DECADES:
        return {"type": "log"}
    low, high = float(logs.min()), float(logs.max())
    steps = (1, 2, 5) if high - low <= 2 else (1,)
    every = max(1, math.ceil((high - low) / _MOST_DECADES))
    decades = [decade for decade in range(math.floor(low), math.ceil(high) + 1) if decade % every == 0]
    marks = [float(f"{step}e{decade}") for decade in decades for step in steps]
    kept = [mark for mark in marks if low - 0.3 <= math.log10(mark) <= high + 0.3]
    return {"type": "log", "tickvals": kept, "ticktext": [f"{mark:g}" for mark in kept]}


def quantity(key: str) -> str:
    """What a metric measures: its name without the stage, so that train/x and val/x share a chart.

    >>> quantity("val/kl"), quantity("lipschitz/upper")
    ('kl', 'lipschitz/upper')
    """
    stage, _, rest = key.partition("/")
    return rest if stage in STAGES and rest else key


def group_metrics(keys: Iterable[str]) -> dict[str, list[str]]:
    """Quantity -> its metrics; first those of several stages, last the epoch and what a clock decides."""
    groups: dict[str, list[str]] = {}
    for key in sorted(keys):
        groups.setdefault(quantity(key), []).append(key)

    def rank(name: str) -> tuple[bool, int, bool, str]:
        return name.startswith(BACKGROUND), -len(groups[name]), name != "loss", name

    return {name: groups[name] for name in sorted(groups, key=rank)}


def unit(name: str) -> str:
    """The unit a quantity's name implies, or the empty string.

    >>> unit("kl"), unit("time/data_fraction"), unit("accuracy")
    ('nats', 'share', '')
    """
    last = name.rsplit("/", 1)[-1]
    return next((text for end, text in _UNITS.items() if last == end or (end[0] == "_" and last.endswith(end))), "")


def value_table(points: pd.DataFrame) -> pd.DataFrame:
    """One row a metric: last, smallest and largest finite value, number of points, and how many are not finite."""
    import numpy as np

    groups = points.assign(finite=points["value"].where(np.isfinite(points["value"]))).groupby("key", sort=True)
    table = groups["finite"].agg(smallest="min", largest="max")
    table.insert(0, "last", points.drop_duplicates("key", keep="last").set_index("key")["value"])
    table["points"] = groups.size()
    table["not_finite"] = table["points"] - groups["finite"].count()
    return table.rename_axis("metric").reset_index()


def path_chart(arrays: Mapping[str, np.ndarray], words: Mapping[str, str]) -> Figure:
    """An optimizer's path and its differential equation's solution: on the landscape, or over time where it is a line.

    Args:
        arrays: of paths.npz: t (n,), theta (n, D), ode_t, ode_theta, minima (m, D), x, L and, for D = 2, y.
        words: path_title, optimizer, equation, minimum, time.
    """
    from plotly.graph_objects import Figure, Scatter

    theta, solution, minima = arrays["theta"], arrays["ode_theta"], arrays["minima"]
    is_plane = theta.shape[1] == 2
    figure = Figure(contour(arrays, words) if is_plane else None)
    if not is_plane:
        for minimum in minima[:, 0]:
            figure.add_hline(y=float(minimum), line={"color": MINIMUM, "width": 1, "dash": "dot"})
    for name, times, points, color in (
        (words["equation"], arrays["ode_t"], solution, EQUATION),
        (words["optimizer"], arrays["t"], theta, PATH),
    ):
        x, y = (points[:, 0], points[:, 1]) if is_plane else (times, points[:, 0])
        if len(points):
            figure.add_trace(Scatter(x=x, y=y, mode="lines", name=name, line={"color": color, "width": 2}))
    figure.update_layout(**LAYOUT, title_text=words["path_title"], height=420)
    figure.update_layout(legend={"orientation": "h", "x": 1, "xanchor": "right", "y": -0.18, "yanchor": "top"})
    figure.update_xaxes(title_text="x" if is_plane else words["time"], showgrid=False, zeroline=False)
    figure.update_yaxes(title_text="y" if is_plane else "x", showgrid=False, zeroline=False)
    if is_plane:  # a path that leaves the landscape does not shrink it
        figure.update_xaxes(range=[float(arrays["x"][0]), float(arrays["x"][-1])])
        figure.update_yaxes(range=[float(arrays["y"][0]), float(arrays["y"][-1])])
    return figure


def contour(arrays: Mapping[str, np.ndarray], words: Mapping[str, str]) -> list[Contour | Scatter]:
    """A landscape of two coordinates from above, and its minima.

    Args:
        arrays: of paths.npz: x, y, L and minima (m, 2).
        words: minimum.
    """
    from plotly.graph_objects import Contour, Scatter

    heights = Contour(
        x=arrays["x"],
        y=arrays["y"],
        z=_spread(arrays["L"]),
        customdata=arrays["L"],
        colorscale="Greys",
        reversescale=True,
        showscale=False,
        ncontours=24,
        line={"width": 0.5},
        hovertemplate="%{x:.3g}, %{y:.3g}: L = %{customdata:.4g}<extra></extra>",
    )
    minima = {"x": arrays["minima"][:, 0], "y": arrays["minima"][:, 1], "name": words["minimum"]}
    marker = {"symbol": "x", "size": 9, "color": MINIMUM}
    return [heights, Scatter(**minima, mode="markers", marker=marker)]


def basin_chart(
    arrays: Mapping[str, np.ndarray], words: Mapping[str, str], chosen: tuple[float, float] | None = None
) -> Figure:
    """The minimum every cell of the map ends in, over the learning rate and 1 - beta.

    Args:
        arrays: of paths.npz: lr (n_lr,), beta (n_beta,), basin and loss (n_lr, n_beta).
        words: map_title.
        chosen: lr and beta that are ringed.
    """
    import numpy as np
    from plotly.graph_objects import Figure, Heatmap, Scatter

    rest = 1 - arrays["beta"]
    has_beta = bool(np.isfinite(rest).all())
    figure = Figure(
        Heatmap(
            x=arrays["lr"],
            y=rest if has_beta else [1.0],
            z=np.minimum(arrays["basin"], len(BASINS) - 2).T,
            customdata=np.stack([arrays["basin"].T, arrays["loss"].T], -1),
            colorscale=[[share, color] for i, color in enumerate(BASINS) for share in (i / 3, (i + 1) / 3)],
            zmin=-1.5,
            zmax=1.5,
            xgap=1,
            ygap=1,
            showscale=False,
            hovertemplate="lr %{x:.3g}, 1 - β %{y:.3g}<br>%{customdata[0]}: L = %{customdata[1]:.4g}<extra></extra>",
        )
    )
    if chosen is not None:
        place = {"x": [chosen[0]], "y": [1 - chosen[1] if has_beta else 1.0]}
        ring = {"symbol": "circle-open", "size": 16, "color": "#000000", "line": {"width": 3}}
        figure.add_trace(Scatter(**place, mode="markers", marker=ring, hoverinfo="skip"))
    figure.update_layout(**LAYOUT, title_text=words["map_title"], height=420)
    figure.update_xaxes(log_axis(arrays["lr"]), title_text="lr", showgrid=False)
    figure.update_yaxes(log_axis(rest), title_text="1 - β", showgrid=False, autorange="reversed", visible=has_beta)
    return figure


def _spread(loss: np.ndarray) -> np.ndarray:
    """Losses so that low ones fill as much of a scale as high ones do."""
    import numpy as np

    loss = loss.astype(float)  # the least number below is 0 in float32
    low, high = loss.min(), loss.max()
    return np.asarray(np.log1p(60 * (loss - low) / max(high - low, 1e-300)))
