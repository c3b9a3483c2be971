"""The rule from intervals to verdicts, against the textbook's tests and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.claims.registry import Claim, Evidence, Rule
from experiments.claims.verdict import decide, verdict
from mining.significance import holm


def claim(rule: Rule = "equals", expected: float = 0.0, tolerance: float = 1.0) -> Claim:
    return Claim("1-S1", 1, "", "", "", never, rule, expected, tolerance, "", "")


def never(context: object) -> Evidence:
    raise NotImplementedError


def evidence(estimate: float, half: float, n: int = 1000) -> Evidence:
    return Evidence("s", estimate, estimate - half, estimate + half, n)


@pytest.mark.parametrize(
    ("estimate", "half", "word"),
    [
        (0.0, 0.5, "holds"),
        (0.5, 0.59, "holds"),  # the 90 % interval, .84 as wide, ends at .995
        (0.5, 0.61, "undetermined"),  # it ends at 1.01
        (0.0, 5.0, "undetermined"),
        (1.5, 0.49, "fails"),
        (1.5, 0.51, "undetermined"),
        (-1.5, 0.49, "fails"),
    ],
)
def test_equals_reads_the_90_percent_interval_to_hold_and_the_95_to_fail(
    estimate: float, half: float, word: str
) -> None:
    assert verdict(claim(), evidence(estimate, half)) == word


@pytest.mark.parametrize(
    ("rule", "estimate", "word"),
    [
        ("at most", 0.0, "holds"),
        ("at most", -50.0, "holds"),
        ("at most", 0.9, "undetermined"),
        ("at most", 2.0, "fails"),
        ("at least", 0.0, "holds"),
        ("at least", 50.0, "holds"),
        ("at least", -0.9, "undetermined"),
        ("at least", -2.0, "fails"),
    ],
)
def test_an_inequality_reads_the_one_sided_bound_against_its_slack(rule: Rule, estimate: float, word: str) -> None:
    assert verdict(claim(rule), evidence(estimate, 0.5)) == word


@pytest.mark.parametrize(
    ("rule", "estimate", "word"),
    [
        ("equals", 1.0, "holds"),
        ("equals", 1.0000001, "fails"),
        ("at most", 1.0, "holds"),
        ("at least", -1.1, "fails"),
    ],
)
def test_an_exact_figure_is_compared_directly(rule: Rule, estimate: float, word: str) -> None:
    assert verdict(claim(rule), evidence(estimate, 0.0, n=1)) == word


@pytest.mark.parametrize("estimate", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_undetermined_with_the_reason(estimate: float) -> None:
    decision = decide([(claim("at most"), Evidence("s", estimate, 0.0, 0.0, 5))])[0]
    assert decision.verdict == "undetermined"
    assert str(estimate) in decision.reason


def test_an_interval_without_end_on_the_side_that_matters_decides_nothing() -> None:
    wide = Evidence("s", 0.0, -math.inf, math.inf, 50)
    assert [verdict(claim(rule), wide) for rule in ("equals", "at most", "at least")] == ["undetermined"] * 3
    assert verdict(claim("at most"), Evidence("s", 0.0, -math.inf, 0.1, 50)) == "holds"


@given(st.floats(-3, 3), st.floats(1.2, 50), st.integers(2, 500))
def test_an_interval_wider_than_the_tolerance_never_holds(estimate: float, half: float, n: int) -> None:
    assert verdict(claim(), evidence(estimate, half, n)) != "holds"


@given(st.floats(-2, 2), st.floats(0.05, 2), st.integers(3, 60))
def test_p_is_that_of_two_one_sided_tests_with_the_wider_tails(mean: float, half: float, n: int) -> None:
    decision = decide([(claim(), evidence(mean, half, n))])[0]
    shapes = ((stats.t(n - 1), half / stats.t.ppf(0.975, n - 1)), (stats.norm, half / stats.norm.ppf(0.975)))
    distances = (mean + 1, 1 - mean)
    if abs(mean) <= 1:
        expected = max(law.sf(distance / error) for law, error in shapes for distance in distances)
    else:
        expected = min(1.0, 2 * max(law.sf(-min(distances) / error) for law, error in shapes))
    assert decision.p == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_holm_is_the_textbooks() -> None:
    p_values = np.random.default_rng(0).uniform(size=12) ** 3
    order = np.argsort(p_values)
    expected = np.empty(12)
    expected[order] = np.minimum(1, np.maximum.accumulate((12 - np.arange(12)) * p_values[order]))
    assert holm(p_values) == pytest.approx(expected)


def test_among_many_claims_false_decisions_stay_below_five_percent_together() -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(400):  # ten claims, each true at the edge of its tolerance, where either word would be an error
        means = 1 + rng.standard_t(29, 10) * 0.2
        battery = [(claim(), evidence(float(mean), 0.2 * float(stats.t.ppf(0.975, 29)), 30)) for mean in means]
        wrong += any(decision.verdict != "undetermined" for decision in decide(battery))
    assert wrong / 400 < 0.05 + 0.05 + 3 * (0.1 * 0.9 / 400) ** 0.5  # 5 % of either kind


def test_a_claim_decided_by_itself_says_when_the_battery_takes_it_back() -> None:
    close = (claim(), evidence(0.0, 1.1))
    alone, *together = [decide([close])[0], *decide([close] * 8)]
    assert alone.verdict == "holds"
    assert {decision.verdict for decision in together} == {"undetermined"}
    assert "8 claims judged together" in together[0].reason


def test_exact_claims_count_for_nothing_in_the_correction() -> None:
    exact = (claim(), evidence(0.0, 0.0, n=1))
    decisions = decide([(claim(), evidence(0.0, 1.1)), *[exact] * 20])
    assert {decision.verdict for decision in decisions} == {"holds"}
