"""Baskets of anything: what is mended is reported, what cannot be mended is refused by name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mining.apriori import Budget, mine_itemsets
from mining.baskets import Baskets

ITEMS = st.one_of(st.integers(-3, 3), st.sampled_from(["a", "1", "b,c", ""]), st.binary(max_size=1), st.none())


def rows_of(baskets: Baskets) -> list[set[Any]]:
    ends = baskets.indptr.tolist()
    return [{baskets.items[i] for i in baskets.indices[a:b].tolist()} for a, b in itertools.pairwise(ends)]


@given(st.lists(st.lists(ITEMS, max_size=6), max_size=12))
def test_baskets_are_the_sets_of_what_is_not_missing(rows: list[list[Any]]) -> None:
    made = Baskets.of(rows)
    expected = [{item for item in row if item is not None} for row in rows]
    assert rows_of(made) == expected
    missing, empty = sum(row.count(None) for row in rows), sum(not row for row in expected)
    duplicates = sum(map(len, rows)) - missing - sum(map(len, expected))
    assert made.notes == {k: v for k, v in (("missing", missing), ("duplicates", duplicates), ("empty", empty)) if v}


def test_no_baskets_are_an_empty_result() -> None:
    found = mine_itemsets([], 0.5)
    assert (len(found), found.n_baskets) == (0, 0)


def test_one_basket_has_all_its_subsets_and_a_budget_guards_a_long_one() -> None:
    assert len(mine_itemsets([list(range(5))], 1)) == 2**5 - 1
    assert not mine_itemsets([list(range(28))], 1, budget=Budget(itemsets=1000)).complete


def test_empty_baskets_count_and_can_be_dropped() -> None:
    made = Baskets.of([["a"], [], []])
    assert (len(made), made.notes["empty"], len(made.without_empty())) == (3, 2, 1)
    assert rows_of(made.without_empty()) == [{"a"}]


def test_none_and_nan_are_missing_or_an_item_of_a_name() -> None:
    rows = [["a", None, math.nan], [float("nan"), None]]
    assert rows_of(Baskets.of(rows)) == [{"a"}, set()]
    assert Baskets.of(rows).notes == {"missing": 4, "empty": 1}
    assert rows_of(Baskets.of(rows, missing_as="nothing")) == [{"a", "nothing"}, {"nothing"}]


def test_one_and_its_text_stay_two_items() -> None:
    found = mine_itemsets([[1, "1"], ["1"], [-7, b"x"]], 1, max_length=1)
    assert {(next(iter(items)), count) for items, count in found} == {(1, 1), ("1", 2), (-7, 1), (b"x", 1)}


@pytest.mark.parametrize("rows", [["ab"], [["a"], b"bc"], [["a"], 7]])
def test_a_basket_that_is_no_collection_is_refused_with_its_number(rows: Any) -> None:
    with pytest.raises(ValueError, match=rf"basket {len(rows) - 1} is .*write \["):
        Baskets.of(rows)


def test_a_text_in_place_of_baskets_is_refused() -> None:
    with pytest.raises(ValueError, match="read_baskets"):
        Baskets.of("baskets.csv")


def test_an_unhashable_item_is_named_with_its_basket() -> None:
    with pytest.raises(TypeError, match=r"basket 1 holds \['b'\], which is not hashable"):
        Baskets.of([["a"], [["b"]]])


def test_a_generator_is_read_once() -> None:
    def baskets() -> Iterator[Iterator[str]]:
        for row in ("ab", "b"):
            yield iter(row)

    assert dict(mine_itemsets(baskets(), 2)) == {frozenset("b"): 2}


@pytest.mark.parametrize("bad", [0, 2.0, -0.1, math.nan, math.inf, True, "0.1", None])
def test_a_support_that_is_none_is_refused_by_name(bad: Any) -> None:
    with pytest.raises(ValueError, match="min_support"):
        mine_itemsets([["a"]], bad)


def test_a_whole_number_is_a_count() -> None:
    assert dict(mine_itemsets([["a"], ["a", "b"]], 2)) == {frozenset("a"): 2}
