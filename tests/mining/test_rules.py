"""Rules against brute force over every way to cut every itemset in two."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.apriori import mine_itemsets
from mining.rules import MEASURES, article_rules, rules

Rows = list[list[Any]]
ROWS = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=6), min_size=1, max_size=16)
SHARES = st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.6, 0.75, 1.0])


def brute(rows: Rows, minimum: int, min_confidence: float, max_head: int = 99) -> dict[Any, Any]:
    counts = dict(mine_itemsets(rows, minimum))
    return {
        (union - set(head), frozenset(head)): (counts[union], counts[union - set(head)], counts[frozenset(head)])
        for union in counts
        for size in range(1, min(len(union) - 1, max_head) + 1)
        for head in itertools.combinations(union, size)
        if Fraction(counts[union], counts[union - set(head)]) >= Fraction(str(min_confidence))
    }


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(1, 3), SHARES, st.integers(1, 5))
def test_rules_are_those_of_brute_force(rows: Rows, minimum: int, min_confidence: float, max_head: int) -> None:
    found = rules(mine_itemsets(rows, minimum), min_confidence, max_head=max_head)
    sides = list(zip(found.sets(found.antecedents), found.sets(found.consequents), strict=True))
    a, c, both = (count.tolist() for count in found.counts())
    assert dict(zip(sides, zip(both, a, c, strict=True), strict=True)) == brute(rows, minimum, min_confidence, max_head)
    assert len(found) == len(sides)
    assert found.n_candidates == len(brute(rows, minimum, 0, max_head))


@settings(max_examples=40, deadline=None)
@given(ROWS, SHARES)
def test_measures_are_their_formulas(rows: Rows, min_confidence: float) -> None:
    found = rules(mine_itemsets(rows, 1), min_confidence)
    measures = found.measures()
    n = len(rows)
    for i, (a, c, both) in enumerate(zip(*(count.tolist() for count in found.counts()), strict=True)):
        a, c, both = Fraction(a, n), Fraction(c, n), Fraction(both, n)
        scale = max(both * (1 - a), a * (c - both))
        confidence, leverage = both / a, both - a * c
        expected = {
            "antecedent support": a,
            "consequent support": c,
            "support": both,
            "confidence": confidence,
            "lift": confidence / c,
            "representativity": 1,
            "leverage": leverage,
            "conviction": (1 - c) / (1 - confidence) if confidence < 1 else math.inf,
            "zhangs_metric": leverage / scale if scale else 0,
            "jaccard": both / (a + c - both),
            "certainty": (confidence - c) / (1 - c) if c < 1 else 0,
            "kulczynski": (confidence + both / c) / 2,
        }
        for name in MEASURES:
            assert measures[name][i] == pytest.approx(float(expected[name]), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_redundant_rules_are_no_better_than_a_part_of_theirs(rows: Rows) -> None:
    counts = dict(mine_itemsets(rows, 1)) | {frozenset(): len(rows)}
    found = rules(mine_itemsets(rows, 1), 0.3)
    kept = found.without_redundant()
    pairs = zip(found.sets(found.antecedents), found.sets(found.consequents), strict=True)
    expected = {
        (body, head)
        for body, head in pairs
        if all(
            Fraction(counts[frozenset(part) | head], counts[frozenset(part)])
            < Fraction(counts[body | head], counts[body])
            for size in range(len(body))
            for part in itertools.combinations(body, size)
        )
    }
    assert set(zip(kept.sets(kept.antecedents), kept.sets(kept.consequents), strict=True)) == expected


def test_the_articles_form_has_single_heads_sorted_by_confidence() -> None:
    rows = [["A", "B", "C"]] * 3 + [["A", "B"], ["A"], ["B", "C"]]
    found = article_rules(rules(mine_itemsets(rows, 0.3, strict=True), 0.7, max_head=1, strict=True))
    assert found == {
        ("C", "B"): (1.0, 4 / 6),
        ("A", "C", "B"): (1.0, 0.5),
        ("A", "B"): (0.8, 4 / 6),
        ("B", "A"): (0.8, 4 / 6),
        ("B", "C"): (0.8, 4 / 6),
        ("A", "B", "C"): (0.75, 0.5),
        ("B", "C", "A"): (0.75, 0.5),
        ("C", "A"): (0.75, 0.5),
    }
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_strict_confidence_leaves_out_the_boundary() -> None:
    sets = mine_itemsets([["a", "b"]] * 3 + [["a"]], 0.5)
    assert len(rules(sets, 0.75)) == 2
    assert len(rules(sets, 0.75, strict=True)) == 1


def test_rules_are_filtered_sorted_and_recommended() -> None:
    rows = [["tea", "milk"]] * 6 + [["tea", "jam"]] * 3 + [["milk", "jam"]] + [["bread"]] * 5
    found = rules(mine_itemsets(rows, 1), 0.1)
    assert all(
        "tea" in head for head in found.holding(consequent=["tea"]).sets(found.holding(consequent=["tea"]).consequents)
    )
    assert len(found.holding(antecedent=["salt"])) == 0
    best = next(iter(found.recommend(["milk"])))
    assert best[:2] == (frozenset(["milk"]), frozenset(["tea"]))
    lifts = found.sorted("lift").measure("lift")
    assert np.array_equal(lifts, np.sort(lifts)[::-1])
    p = found.sorted("p_value").measure("p_value")
    assert np.array_equal(p, np.sort(p))
    assert (found.measure("holm") >= found.measure("q_value") - 1e-15).all()


def test_rules_of_an_incomplete_or_filtered_search_only_use_what_is_known() -> None:
    rows = [["a", "b", "c"]] * 4 + [["a", "d"]] * 2
    found = rules(mine_itemsets(rows, 1, kind="maximal"), 0.0)
    assert len(found) == 0
    assert len(rules(mine_itemsets([], 0.5), 0.5)) == 0


@pytest.mark.parametrize(
    ("confidence", "head", "message"),
    [(1.5, None, "min_confidence = 1.5"), (float("nan"), None, "min_confidence = nan"), (0.5, 0, "max_head = 0")],
)
def test_thresholds_out_of_range_are_refused(confidence: float, head: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rules(mine_itemsets([["a"]], 1), confidence, max_head=head)


def test_an_unknown_measure_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"measure 'elan': must be one of antecedent support, .*q_value"):
        rules(mine_itemsets([["a", "b"]], 1)).measure("elan")
