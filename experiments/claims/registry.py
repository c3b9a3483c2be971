"""What a claim is, what a probe gives back, and the list of all claims; importing this loads no torch."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from experiments.errors import unknown
from experiments.store.questions import QUESTIONS

if TYPE_CHECKING:
    from experiments.claims.context import Context

Rule = Literal["equals", "at most", "at least"]
Form = Literal["as written", "corrected"]
Effort = Literal["quick", "full"]

# Article -> where its claims lie; imported when asked for.
ARTICLES: dict[int, tuple[str, ...]] = {
    5655: ("experiments.claims.sgd:CLAIMS",),
    6234: ("experiments.claims.adaptive:CLAIMS",),
    5383: ("experiments.claims.vae:CLAIMS",),
    6051: ("experiments.claims.lipschitz:CLAIMS",),
    7292: ("experiments.claims.gpt2:CLAIMS",),
    5448: ("experiments.claims.entropy:CLAIMS",),
    5476: ("experiments.claims.lexicon:CLAIMS",),
    5525: ("experiments.claims.apriori:CLAIMS",),
}
# Laws known to be false, to see the verdict "fails" at work; run by id only.
PLANTED = "experiments.claims.planted:CLAIMS"


@dataclass(frozen=True)
class Point:
    """A measured point.

    Args:
        x: where.
        y: what was measured.
        low: lower end of its own 95 % interval, or None.
        high: upper end, or None.
        series: name in the legend.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    series: str = ""


@dataclass(frozen=True)
class Curve:
    """A point of the theory's curve; the points of one series are joined in order.

    Args:
        x: where.
        y: what the law says.
        series: name in the legend.
    """

    x: float
    y: float
    series: str = ""


@dataclass(frozen=True)
class Axes:
    """Labels of the plot's axes, with units.

    Args:
        x: label.
        y: label.
        log_x: whether the axis is logarithmic.
        log_y: whether the axis is logarithmic.
    """

    x: str
    y: str
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Evidence:
    """What a probe measured.

    Args:
        statistic: name of the measured figure, as in "slope of ln Var in ln B".
        estimate: its value.
        ci_low: lower end of its two-sided 95 % interval; the estimate itself where the figure is exact.
        ci_high: upper end.
        n: independent repetitions or points behind it.
        points: what was measured, for the plot.
        theory: the law's curve over the same axes.
        axes: None where there is nothing to plot.
        seconds: CPU time, filled in by whoever ran the probe.
    """

    statistic: str
    estimate: float
    ci_low: float
    ci_high: float
    n: int
    points: tuple[Point, ...] = ()
    theory: tuple[Curve, ...] = ()
    axes: Axes | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError for an interval that does not hold its estimate, or rests on a single repetition."""
        if not math.isfinite(self.estimate):
            return
        if not self.ci_low <= self.estimate <= self.ci_high:
            raise ValueError(
                f"evidence '{self.statistic}': estimate {self.estimate:g} outside its interval "
                f"[{self.ci_low:g}, {self.ci_high:g}]; give ci_low <= estimate <= ci_high"
            )
        if self.n < (1 if self.is_exact else 2):
            raise ValueError(
                f"evidence '{self.statistic}': n = {self.n}: an interval needs at least 2 independent repetitions"
            )

    @property
    def is_exact(self) -> bool:
        """Whether the figure has no sampling error."""
        return self.ci_low == self.ci_high


@dataclass(frozen=True)
class Claim:
    r"""One statement, how it is measured, and what would make it true.

    Args:
        id: `<article>-<label>`, rows under a label numbered (`5655-S3.2`), the corrected form with a final `c`.
        article: number at kexue.fm/archives.
        statement: one sentence, in English.
        statement_zh: the same in Chinese.
        formula: LaTeX of the law that is tested.
        probe: measures; a function of seed, effort and design that never sees the expected value.
        rule: how the estimate must lie to `expected`.
        expected: what the statement predicts.
        tolerance: half-width of "equals", slack of an inequality; at least 0.
        reason: why this tolerance.
        source: place in the article, as in "equation (9)".
        question: key into QUESTIONS, or "".
    """

    id: str
    article: int
    statement: str
    statement_zh: str
    formula: str
    probe: Callable[[Context], Evidence]
    rule: Rule
    expected: float
    tolerance: float
    reason: str
    source: str
    question: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for what no verdict could be drawn from."""
        if not re.fullmatch(rf"{self.article}-[A-Z]+\d*(\.\d+)?c?", self.id):
            raise ValueError(f"claim '{self.id}': write {self.article}-S1, {self.article}-S1.2 or {self.article}-S1c")
        if self.rule not in get_args(Rule):
            raise ValueError(f"claim {self.id}: rule '{self.rule}': allowed: {', '.join(get_args(Rule))}")
        if not (self.tolerance >= 0 and math.isfinite(self.tolerance) and math.isfinite(self.expected)):
            raise ValueError(
                f"claim {self.id}: expected = {self.expected}, tolerance = {self.tolerance}: "
                "both must be finite, the tolerance at least 0"
            )
        if self.question and self.question not in QUESTIONS:
            raise ValueError(str(unknown("question", self.question, list(QUESTIONS))))

    @property
    def form(self) -> Form:
        """Whether the statement is the article's own or a correction of it."""
        return "corrected" if self.id.endswith("c") else "as written"

    @property
    def link(self) -> str:
        """The article."""
        return f"https://kexue.fm/archives/{self.article}"

    @property
    def band(self) -> str:
        """What the estimate must be, as text.

        >>> Claim("1-S1", 1, "", "", "", None, "equals", -1, .03, "", "").band
        'equals -1 +- 0.03'
        """
        slack = {"equals": " +- ", "at most": " + ", "at least": " - "}[self.rule]
        return f"{self.rule} {self.expected:g}" + (f"{slack}{self.tolerance:g}" if self.tolerance else "")


def all_claims() -> list[Claim]:
    """Every claim of every article, in the order of ARTICLES."""
    return [claim for places in ARTICLES.values() for place in places for claim in imported(place)]


def imported(place: str) -> tuple[Claim, ...]:
    """The claims at `module:NAME`."""
    module, _, name = place.partition(":")
    claims: tuple[Claim, ...] = getattr(importlib.import_module(module), name)
    return claims


def chosen(names: Sequence[str], claims: Iterable[Claim]) -> list[Claim]:
    """The claims that ids and article numbers name, each once, in the order of `claims`; all where nothing is named.

    Raises ConfigError for a name that is neither.
    """
    known = list(claims)
    articles = list(dict.fromkeys(str(claim.article) for claim in known))
    ids = [claim.id for claim in known]
    for name in names:
        if name not in ids and name not in articles:
            raise unknown("claim or article", name, articles, [*articles, *ids])
    return [claim for claim in known if not names or claim.id in names or str(claim.article) in names]
