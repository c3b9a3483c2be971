"""Tests of significance against SciPy and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, hypergeom

from mining.significance import benjamini_hochberg, fisher, holm, wilson


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 400))
def test_fisher_is_scipys_hypergeometric_tail(data: st.DataObject, n: int) -> None:
    a, c = data.draw(st.integers(1, n)), data.draw(st.integers(1, n))
    both = data.draw(st.integers(max(0, a + c - n), min(a, c)))
    ours = fisher(np.array([both]), np.array([a]), np.array([c]), n)[0]
    assert ours == pytest.approx(hypergeom.sf(both - 1, n, a, c), rel=1e-8, abs=1e-13)


def test_fisher_holds_in_the_far_tail_of_many_baskets() -> None:
    x, a, c = np.array([900, 1200, 51_000]), np.array([2000, 9000, 100_000]), np.array([30_000, 11_000, 100_000])
    ours = fisher(x, a, c, 200_000)
    assert np.allclose(np.log(ours), hypergeom.logsf(x - 1, 200_000, a, c), rtol=1e-7)


def test_holm_and_benjamini_hochberg_are_those_of_their_definitions() -> None:
    p = np.random.default_rng(0).random(50) ** 3
    order = np.argsort(p)
    stepwise = [min(1.0, max(p[order[j]] * (50 - j) for j in range(i + 1))) for i in range(50)]
    assert np.allclose(holm(p)[order], stepwise)
    assert np.allclose(benjamini_hochberg(p), false_discovery_control(p))


def test_more_tests_than_p_values_make_both_corrections_stricter() -> None:
    p = np.array([0.001, 0.02])
    assert holm(p, 10).tolist() == pytest.approx([0.01, 0.18])
    assert benjamini_hochberg(p, 10).tolist() == pytest.approx([0.01, 0.1])


def test_no_rules_have_no_p_values() -> None:
    empty = np.empty(0, int)
    assert len(fisher(empty, empty, empty, 5)) == len(holm(np.empty(0))) == len(benjamini_hochberg(np.empty(0))) == 0


def test_wilson_holds_the_support_nineteen_times_in_twenty() -> None:
    counts = np.random.default_rng(1).binomial(500, 0.03, 4000)
    low, high = wilson(counts, 500)
    assert 0.94 < ((low <= 0.03) & (high >= 0.03)).mean() < 0.975
