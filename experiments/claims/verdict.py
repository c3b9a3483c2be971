"""From an interval and a tolerance to a word: holds, fails, undetermined.

A p-value follows from a distance in half-widths of the 95 % interval on the side that matters, by the normal
distribution and by Student's t with n - 1 degrees of freedom; the larger counts, as the interval may rest on either.
For one claim by itself this reads the 90 % interval to hold and the 95 % interval to fail.
Source: Schuirmann 1987, two one-sided tests; Holm 1979, several claims of one battery.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from experiments.claims.registry import Claim, Evidence
from mining.significance import holm

Verdict = Literal["holds", "fails", "undetermined"]
ALPHA = 0.05


@dataclass(frozen=True)
class Decision:
    """A verdict and why.

    Args:
        verdict: the word.
        p: of the decision, corrected over the battery; 0 where the figure is exact.
        reason: one clause, for an undetermined claim; "" else.
    """

    verdict: Verdict
    p: float
    reason: str = ""


def verdict(claim: Claim, evidence: Evidence, alpha: float = ALPHA) -> Verdict:
    """The verdict of one claim by itself.

    "equals" holds when the 90 % interval lies inside expected +- tolerance, fails when the 95 % interval lies outside;
    an inequality holds or fails by its one-sided 95 % bound against expected and its slack. A wide interval is neither.
    """
    return decide([(claim, evidence)], alpha)[0].verdict


def decide(battery: Sequence[tuple[Claim, Evidence]], alpha: float = ALPHA) -> list[Decision]:
    """The decisions on claims judged together: a false one among them, of either kind, has probability below alpha.

    Exact figures are compared directly and count for nothing in the correction.
    """
    raw = [_decision(claim, evidence) for claim, evidence in battery]
    tested = [i for i, (_, evidence) in enumerate(battery) if not evidence.is_exact]
    corrected = dict(zip(tested, holm(np.array([raw[i].p for i in tested])).tolist(), strict=True))
    decisions = []
    for i, decision in enumerate(raw):
        p = corrected.get(i, decision.p)
        if decision.verdict != "undetermined" and p > alpha:
            decision = Decision("undetermined", p, _undecided(decision.p, alpha, len(tested)))
        decisions.append(Decision(decision.verdict, p, decision.reason))
    return decisions


def _undecided(p: float, alpha: float, n_claims: int) -> str:
    if p > alpha:
        return "the interval is too wide, or lies across the edge of the tolerance"
    return f"decided by itself (p = {p:.2g}), but not among the {n_claims} claims judged together"


def _decision(claim: Claim, evidence: Evidence) -> Decision:
    """The decision that the estimate points to, with its own p."""
    if not math.isfinite(evidence.estimate):
        return Decision("undetermined", 1.0, f"the estimate is {evidence.estimate}")
    if math.isnan(evidence.ci_low) or math.isnan(evidence.ci_high):
        return Decision("undetermined", 1.0, "the interval is not a number")
    low = -math.inf if claim.rule == "at most" else claim.expected - claim.tolerance
    high = math.inf if claim.rule == "at least" else claim.expected + claim.tolerance
    if low <= evidence.estimate <= high:
        return Decision("holds", max(_p_below(low, evidence), _p_above(high, evidence)))
    sides = 2 if claim.rule == "equals" else 1
    p = _p_above(low, evidence) if evidence.estimate < low else _p_below(high, evidence)
    return Decision("fails", min(1.0, sides * p))


def _p_below(edge: float, evidence: Evidence) -> float:
    """Significance against "the truth lies at or below `edge`", for an estimate above it."""
    return _tail(evidence.estimate - edge, evidence.estimate - evidence.ci_low, evidence.n)


def _p_above(edge: float, evidence: Evidence) -> float:
    """Significance against "the truth lies at or above `edge`", for an estimate below it."""
    return _tail(edge - evidence.estimate, evidence.ci_high - evidence.estimate, evidence.n)


def _tail(distance: float, half_width: float, n: int) -> float:
    """One-sided p of a distance, from the half-width of the 95 % interval on that side."""
    from scipy.special import ndtr, ndtri, stdtr, stdtrit

    if half_width == 0 or math.isinf(distance):  # no error on this side, or no edge
        return 0.0
    if math.isinf(half_width):
        return 0.5
    ratio = distance / half_width
    return float(max(stdtr(n - 1, -ratio * stdtrit(n - 1, 0.975)), ndtr(-ratio * ndtri(0.975))))
