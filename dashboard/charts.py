"""Tables in, Plotly figures out: pure, and nothing a user wrote is rendered as markup."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TYPE_CHECKING

from experiments.store.curves import minmax

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure, Scatter

BACKGROUND = ("epoch", "time/", "system/")  # quantities of the run, not of what it learns: drawn on request
STAGES = {
    "train": "#4477AA",
    "val": "#EE6677",
    "test": "#228833",
}  # Paul Tol's "bright": tells apart without red and green
OTHER = "#AA3377"
_UNITS = {  # by the end of a metric's name
    "_nats": "nats", "_bits": "bits", "_seconds": "s", "_percent": "%", "_bytes": "bytes", "_fraction": "share",
    "samples_per_second": "samples/s", "kl": "nats", "elbo": "nats", "nll": "nats", "perplexity": "words",
}  # fmt: skip
_FEW_POINTS = 40  # up to here every value gets a marker


def label(text: str, limit: int = 60) -> str:
    """A user's text for a Plotly label, which would render <a>, <b> and more: escaped and cut at `limit`.

    >>> label("<b>x</b>")
    '&lt;b&gt;x&lt;/b&gt;'
    """
    return html.escape(text if len(text) <= limit else text[: limit - 1] + "…")


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


def curve_chart(points: pd.DataFrame, name: str, *, step_word: str = "step") -> Figure:
    """One quantity over the steps: a line a metric, broken where a value is not finite.

    Args:
        points: columns key, step, value, sorted by key and step.
        name: the quantity, the chart's title.
        step_word: the horizontal axis.
    """
    from plotly.graph_objects import Figure

    figure = Figure([_line(str(key), rows) for key, rows in points.groupby("key", sort=True)])
    figure.update_layout(
        title={"text": label(name), "font": {"size": 15}, "x": 0, "xanchor": "left", "y": 0.97, "yanchor": "top"},
        height=280,
        margin={"l": 8, "r": 8, "t": 44, "b": 8},
        hovermode="x unified",
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
        showlegend=True,
        uirevision=label(name),  # a refresh keeps the reader's zoom
    )
    figure.update_xaxes(title_text=label(step_word), showgrid=False, automargin=True)
    figure.update_yaxes(title_text=unit(name), automargin=True, zeroline=False)
    return figure


def _line(key: str, rows: pd.DataFrame) -> Scatter:
    import numpy as np
    from plotly.graph_objects import Scatter

    stage = key.partition("/")[0]
    steps, values = minmax(rows["step"], rows["value"])
    few = len(steps) <= _FEW_POINTS
    n_lost = int((~np.isfinite(rows["value"])).sum())
    return Scatter(
        x=steps,
        y=np.where(np.isfinite(values), values, np.nan),  # Plotly takes an infinite axis for an empty one
        name=(stage if stage in STAGES else label(key)) + (f" (NaN/∞ ×{n_lost})" if n_lost else ""),
        mode="lines+markers" if few else "lines",
        connectgaps=False,
        line={"color": STAGES.get(stage, OTHER), "width": 2},
        marker={"size": 6},
    )


def value_table(points: pd.DataFrame) -> pd.DataFrame:
    """One row a metric: last, smallest and largest finite value, number of points, and how many are not finite."""
    import numpy as np

    groups = points.assign(finite=points["value"].where(np.isfinite(points["value"]))).groupby("key", sort=True)
    table = groups["finite"].agg(smallest="min", largest="max")
    table.insert(0, "last", points.drop_duplicates("key", keep="last").set_index("key")["value"])
    table["points"] = groups.size()
    table["not_finite"] = table["points"] - groups["finite"].count()
    return table.rename_axis("metric").reset_index()
