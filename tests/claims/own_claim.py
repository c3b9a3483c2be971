"""Claims of a user's own: one that holds, one whose probe raises, one whose draws need a design."""

from __future__ import annotations

from experiments.claims.context import Context
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point


def sixes(context: Context) -> Evidence:
    """Share of sixes among throws of a die."""
    throws = context.rng("die").integers(1, 7, context.design("throws", 20_000, 1_000_000))
    share, n = float((throws == 6).mean()), len(throws)
    half = 1.96 * (share * (1 - share) / n) ** 0.5
    points = (Point(6.0, share, share - half, share + half),)
    return Evidence(
        "share of sixes", share, share - half, share + half, n, points, (Curve(6.0, 1 / 6),), Axes("face", "share")
    )


def broken(context: Context) -> Evidence:
    """Raises."""
    raise ZeroDivisionError("the die is gone")


def empty(context: Context) -> None:
    """Forgets to return what it measured."""


def die(claim: str, probe: object, expected: float = 1 / 6) -> Claim:
    """A claim about the die."""
    return Claim(
        id=claim,
        article=9999,
        statement="A die shows a six in one throw of six.",
        statement_zh="骰子六次中有一次是六点。",
        formula=r"P(6) = \frac{1}{6}",
        probe=probe,  # type: ignore[arg-type]
        rule="equals",
        expected=expected,
        tolerance=0.02,
        reason="a tenth of the share",
        source="the manufacturer",
    )


CLAIMS = (die("9999-D1", sixes), die("9999-D2", broken), die("9999-D3", sixes, 0.5), die("9999-D4", empty))
