"""What the page Claims shows of a claim: its statement as files hold it, measured points over the law, its history."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard.charts import LAYOUT, drawable, label, log_axis
from dashboard.palette import COLORS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

VERDICT_COLORS = {"holds": "#009E73", "fails": "#D55E00", "undetermined": "#E69F00"}
RULES = ("equals", "at most", "at least")
_LAW, _BAND, _UNKNOWN = "#888888", "rgba(0, 158, 115, 0.15)", "#888888"
_MOST_POINTS = 5_000
_LONGEST_FORMULA = 1_000


@dataclass(frozen=True)
class Statement:
    """A claim without what was measured.

    Args:
        id: as in 5655-S1.
        article: number at kexue.fm/archives; 0 where the file does not say.
        text: the statement by language.
        formula: LaTeX; empty where there is none that can be shown.
        rule: one of RULES.
        expected: what the statement predicts.
        tolerance: half-width of "equals", slack of an inequality.
        reason: why this tolerance.
        source: place in the article.
        question: key into QUESTIONS, or "".
        is_planted: whether it is false by construction.
    """

    id: str
    article: int
    text: Mapping[str, str]
    formula: str
    rule: str
    expected: float
    tolerance: float
    reason: str
    source: str
    question: str
    is_planted: bool

    @property
    def band(self) -> tuple[float, float]:
        """Between what the estimate must lie; infinite where the rule sets no end."""
        low = -math.inf if self.rule == "at most" else self.expected - self.tolerance
        return low, (math.inf if self.rule == "at least" else self.expected + self.tolerance)


def statement(document: Mapping[str, Any]) -> Statement:
    """The claim of an evidence.json or of the store's list, whatever the file lacks left empty."""
    english = str(document.get("statement", ""))
    article, rule = number(document.get("article")), document.get("rule")
    return Statement(
        id=str(document.get("claim", "")),
        article=int(article) if 0 < article < 10**9 else 0,
        text={"en": english, "zh": str(document.get("statement_zh") or english)},
        formula=safe_formula(str(document.get("formula", ""))),
        rule=rule if rule in RULES else RULES[0],
        expected=number(document.get("expected")),
        tolerance=number(document.get("tolerance")),
        reason=str(document.get("reason", "")),
        source=str(document.get("source", "")),
        question=str(document.get("question", "")),
        is_planted=document.get("planted") is True,
    )


def safe_formula(text: str) -> str:
    r"""The formula on one line; empty where it could end the mathematics around it, as only a stranger's does.

    >>> safe_formula(r"x^2"), safe_formula(r"$$ ![x](http://evil.invalid)")
    ('x^2', '')
    """
    flat = " ".join(text.split())
    return "" if "$" in flat or len(flat) > _LONGEST_FORMULA else flat


def number(value: object) -> float:
    """The number, of text too; NaN for what is none.

    >>> number("-Infinity"), number(None), number("1e400")
    (-inf, nan, inf)
    """
    try:
        return math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def interval_text(figures: Mapping[str, Any]) -> str:
    """Estimate and interval of a claim's run.

    >>> interval_text({"estimate": 1.5, "ci_low": 1.25, "ci_high": 2}), interval_text({"estimate": 2, "ci_low": 2})
    ('1.5 [1.25, 2]', '2')
    """
    estimate, low, high = (number(figures.get(key)) for key in ("estimate", "ci_low", "ci_high"))
    if math.isnan(estimate):
        return ""
    return f"{estimate:.5g}" + (f" [{low:.4g}, {high:.4g}]" if low < high else "")


def order(claim_id: str) -> tuple[Any, ...]:
    """Ids in the order of their numbers.

    >>> sorted(["1-S10", "1-S2.1c", "1-S2"], key=order)
    ['1-S2', '1-S2.1c', '1-S10']
    """
    return tuple(
        (piece.isdecimal(), int(piece) if piece.isdecimal() else piece) for piece in re.findall(r"\d+|\D+", claim_id)
    )


def partner(claim_id: str, known: Iterable[str]) -> str | None:
    """Id of the corrected form of a claim, or of the one it corrects; None where there is none.

    >>> partner("1-S2", ["1-S2c"]), partner("1-S2c", ["1-S2"]), partner("1-S2", ["1-S2.1c"])
    ('1-S2c', '1-S2', None)
    """
    other = claim_id.removesuffix("c") if claim_id.endswith("c") else f"{claim_id}c"
    return other if other in known else None


def evidence_figure(evidence: Mapping[str, Any], words: Mapping[str, str]) -> Figure | None:
    """Measured points with their intervals over the law's curve; None where there are no points to draw.

    Args:
        evidence: an evidence.json, of whatever quality.
        words: measured, law.
    """
    from plotly.graph_objects import Figure, Scatter

    axes = evidence.get("axes")
    points, law = _rows(evidence.get("points")), _rows(evidence.get("theory"))
    if not isinstance(axes, Mapping) or not (points or law):
        return None
    figure = Figure()
    drawn: dict[str, list[np.ndarray]] = {"x": [], "y": []}
    for name, rows in law.items():
        style = {"color": _LAW, "width": 2, "dash": "dash"}
        x, y = _column(rows, "x"), _column(rows, "y")
        drawn["x"].append(x)
        drawn["y"].append(y)
        title = label(f"{words['law']}: {name}" if name else words["law"])
        figure.add_trace(Scatter(x=x, y=y, mode="lines", name=title, line=style))
    for i, (name, rows) in enumerate(points.items()):
        x, y, low, high = (_column(rows, key) for key in ("x", "y", "low", "high"))
        drawn["x"].append(x)
        drawn["y"].append(y)
        bars = {"type": "data", "symmetric": False, "array": high - y, "arrayminus": y - low, "thickness": 1.5}
        marker = {"size": 8, "color": COLORS[i % len(COLORS)]}
        has_bars = bool(np.isfinite(high - low).any())
        title = label(name or words["measured"])
        figure.add_trace(
            Scatter(x=x, y=y, mode="markers", name=title, marker=marker, error_y=bars if has_bars else None)
        )
    logs = axes.get("log")
    logs = logs if isinstance(logs, Sequence) else ()
    figure.update_layout(**LAYOUT, title_text=label(str(evidence.get("statistic", "")), 90), height=420)
    figure.update_layout(legend={"orientation": "h", "x": 0, "xanchor": "left", "y": -0.2, "yanchor": "top"})
    for side, update in (("x", figure.update_xaxes), ("y", figure.update_yaxes)):
        kind = log_axis(*drawn[side]) if side in logs else {"type": "linear"}
        update(kind, title_text=label(str(axes.get(side, ""))), zeroline=False)
    return figure


def estimates_figure(
    moments: Sequence[str], runs: Sequence[Mapping[str, Any]], claim: Statement, words: Mapping[str, str]
) -> Figure:
    """Each run's estimate with its 95 % interval over the band that the claim allows.

    Args:
        moments: when each began, as text, to the right.
        runs: estimate, ci_low, ci_high, verdict of each.
        claim: whose band is drawn.
        words: estimate, and the verdicts.
    """
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    values = {
        key: drawable(np.array([number(run.get(key)) for run in runs])) for key in ("estimate", "ci_low", "ci_high")
    }
    low, high = claim.band
    ends = [*np.concatenate([*values.values()]), low, high]
    known = [end for end in ends if np.isfinite(end)] or [0.0]
    room = 0.15 * (max(known) - min(known)) or 1.0
    bottom, top = min(known) - room, max(known) + room
    if math.isfinite(claim.expected):
        figure.add_hrect(y0=max(low, bottom), y1=min(high, top), fillcolor=_BAND, line_width=0)
        figure.add_hline(y=claim.expected, line={"color": _LAW, "width": 1.5, "dash": "dash"})
    for verdict in dict.fromkeys(str(run.get("verdict")) for run in runs):
        chosen = np.array([run.get("verdict") == verdict for run in runs])
        y = values["estimate"][chosen]
        bars = {"array": values["ci_high"][chosen] - y, "arrayminus": y - values["ci_low"][chosen]}
        color = VERDICT_COLORS.get(verdict, _UNKNOWN)
        figure.add_trace(
            Scatter(
                x=[moment for moment, is_one in zip(moments, chosen, strict=True) if is_one],
                y=y,
                mode="markers",
                name=label(words.get(verdict, verdict)),
                marker={"size": 9, "color": color},
                error_y={"type": "data", "symmetric": False, "thickness": 1.5, **bars},
            )
        )
    figure.update_layout(**LAYOUT, title_text=label(words["estimate"], 90), height=280, showlegend=True)
    figure.update_layout(legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"})
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(range=[bottom, top], zeroline=False)
    return figure


def _rows(found: object) -> dict[str, list[Mapping[str, Any]]]:
    """Series -> its points, of what a file has in place of them."""
    series: dict[str, list[Mapping[str, Any]]] = {}
    for row in found[:_MOST_POINTS] if isinstance(found, list) else ():
        if isinstance(row, Mapping):
            series.setdefault(str(row.get("series", "")), []).append(row)
    return series


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    return drawable(np.array([number(row.get(key)) for row in rows]))
