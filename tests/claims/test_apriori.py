"""The claims of article 5525: what they count, against counting by hand, and the verdicts at seed 0."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from experiments.claims.apriori import CLAIMS, counted, draw, larger_above, unjoined, wrong_sets
from experiments.claims.context import Context
from experiments.claims.registry import Claim
from experiments.claims.verdict import decide

FAILING = {"P2.3", "P5"}
CLOCK = {"P2.1", "P2.2", "P2.3", "P2.3c"}  # need a processor of their own for seconds
ROWS = [[0, 1, 2], [0, 2], [1], [], [0, 1, 2, 3]]


def label(claim: Claim) -> str:
    return claim.id.removeprefix("5525-")


def verdicts(claims: list[Claim]) -> dict[str, str]:
    battery = [(claim, claim.probe(Context(seed=0))) for claim in claims]
    return {label(claim): one.verdict for (claim, _), one in zip(battery, decide(battery), strict=True)}


def expected(claims: list[Claim]) -> dict[str, str]:
    return {label(claim): "fails" if label(claim) in FAILING else "holds" for claim in claims}


def test_cheap_claims_have_these_verdicts_at_seed_0() -> None:
    claims = [claim for claim in CLAIMS if label(claim) not in CLOCK]
    assert verdicts(claims) == expected(claims)


@pytest.mark.slow
def test_all_claims_have_these_verdicts_at_seed_0() -> None:
    assert verdicts([*CLAIMS]) == expected([*CLAIMS])


def test_every_claim_that_fails_as_written_stands_beside_its_correction() -> None:
    assert {label(claim).removesuffix("c") for claim in CLAIMS if claim.form == "corrected"} == FAILING


def test_counts_of_all_subsets_are_those_of_asking_each_basket() -> None:
    counts = counted(ROWS, 4)
    for size in range(5):
        for items in itertools.combinations(range(4), size):
            mask = sum(1 << item for item in items)
            assert counts[mask] == sum({*items} <= {*row} for row in ROWS)


def test_no_error_is_counted_where_there_is_none() -> None:
    rows = draw(np.random.default_rng(0), 50, 6, 0.4, habits=1)
    assert (wrong_sets(rows, 6), larger_above(rows, 6), unjoined(rows, 6)) == (0, 0, 0)


def test_drawn_baskets_have_the_share_that_is_asked_for() -> None:
    rows = draw(np.random.default_rng(0), 2000, 50, 0.2)
    assert np.mean([len(row) for row in rows]) / 50 == pytest.approx(0.2, abs=0.03)
