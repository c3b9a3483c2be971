"""Itemsets against brute force, against the article's algorithm, and on the inputs that break other miners."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.apriori import Budget, Itemsets, estimate, mine_itemsets, threshold
from mining.baskets import Baskets

Rows = list[list[Any]]
ROWS = st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=24)


def brute(rows: Rows, minimum: int, max_length: int = 99) -> dict[Any, Any]:
    counts = Counter(
        frozenset(part)
        for row in map(set, rows)
        for size in range(1, min(len(row), max_length) + 1)
        for part in itertools.combinations(sorted(row), size)
    )
    return {items: count for items, count in counts.items() if count >= minimum}


def correlated(seed: int, n_rows: int, n_items: int, density: float) -> Rows:
    """Rows of items that come in blocks: sparse, or so dense that bitmaps and cubes are used."""
    rng = np.random.default_rng(seed)
    has = rng.random((n_rows, n_items)) < density * rng.uniform(0.5, 1.5, n_items)
    has[:, 0] = True
    return [np.flatnonzero(row).tolist() for row in has]


@settings(max_examples=120, deadline=None)
@given(ROWS, st.integers(1, 5))
def test_itemsets_are_those_of_brute_force(rows: Rows, minimum: int) -> None:
    assert dict(mine_itemsets(rows, minimum)) == brute(rows, minimum)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 4), st.integers(1, 4))
def test_max_length_leaves_out_longer_sets_and_no_other(rows: Rows, minimum: int, max_length: int) -> None:
    assert dict(mine_itemsets(rows, minimum, max_length=max_length)) == brute(rows, minimum, max_length)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 4))
def test_closed_and_maximal_sets_are_those_of_their_definitions(rows: Rows, minimum: int) -> None:
    every = brute(rows, minimum)
    above = {items: [other for other in every if items < other] for items in every}
    closed = {items for items in every if all(every[other] < every[items] for other in above[items])}
    assert {items for items, _ in mine_itemsets(rows, minimum, kind="closed")} == closed
    assert {items for items, _ in mine_itemsets(rows, minimum, kind="maximal")} == {s for s in every if not above[s]}


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 4), st.sets(st.integers(0, 9), max_size=2), st.sets(st.integers(0, 9), max_size=2))
def test_included_items_are_in_every_set_and_excluded_ones_in_none(
    rows: Rows, minimum: int, include: set[int], exclude: set[int]
) -> None:
    exclude = exclude - include
    include = include & set(itertools.chain.from_iterable(rows))
    expected = {s: n for s, n in brute(rows, minimum).items() if include <= s and not exclude & s}
    assert dict(mine_itemsets(rows, minimum, include=include, exclude=exclude)) == expected


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 30))
def test_the_top_k_are_the_most_frequent_with_their_ties(rows: Rows, top_k: int) -> None:
    every = brute(rows, 1)
    least = sorted(every.values(), reverse=True)[top_k - 1] if len(every) >= top_k else 1
    assert dict(mine_itemsets(rows, 1, top_k=top_k)) == {s: n for s, n in every.items() if n >= least}


@pytest.mark.parametrize(
    ("n_rows", "n_items", "density", "minimum"),
    [(200, 40, 0.1, 4), (250, 16, 0.6, 40), (90, 40, 0.4, 20), (1000, 150, 0.02, 6)],
)
def test_fast_and_article_agree_on_sparse_and_dense_baskets(
    n_rows: int, n_items: int, density: float, minimum: int
) -> None:
    rows = correlated(1, n_rows, n_items, density)
    fast = dict(mine_itemsets(rows, minimum, max_length=3))
    assert fast == brute(rows, minimum, 3)
    assert fast == dict(mine_itemsets(rows, minimum, max_length=3, method="article"))


def test_the_cube_counts_what_single_joins_count() -> None:
    rows = correlated(2, 900, 16, 0.9)
    masks = np.array([sum(1 << item for item in row) for row in rows])
    cube = np.bincount(masks, minlength=1 << 16)
    for bit in range(16):
        pairs = cube.reshape(-1, 2, 1 << bit)
        pairs[:, 0] += pairs[:, 1]
    expected = {
        frozenset(np.flatnonzero(m >> np.arange(16) & 1).tolist()): int(cube[m]) for m in np.flatnonzero(cube >= 200)
    }
    expected.pop(frozenset(), None)
    found = mine_itemsets(rows, 200)
    assert len(found) > 5_000
    assert dict(found) == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=5), max_size=12), st.integers(1, 3))
def test_the_articles_algorithm_finds_the_same_sets(rows: Rows, minimum: int) -> None:
    assert dict(mine_itemsets(rows, minimum, method="article")) == brute(rows, minimum)


def test_a_share_is_read_as_the_decimal_it_is_written_as() -> None:
    assert threshold(0.28, 25) == 7
    assert threshold(0.28, 25, strict=True) == 8
    assert threshold(0.001, 100_000) == 100
    assert threshold(np.float64(0.06), 930) == 56
    assert threshold(1.0, 7) == 7
    assert threshold(2, 7) == 2


@pytest.mark.parametrize("bad", [0, -1, 0.0, 1.5, 2.0, float("nan"), float("inf"), True, "0.1", None])
def test_a_support_that_is_neither_share_nor_count_is_refused_by_name(bad: Any) -> None:
    with pytest.raises(ValueError, match="min_support"):
        mine_itemsets([[1]], bad)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 0}, "max_length = 0: must be at least 1"),
        ({"top_k": 0}, "top_k = 0"),
        ({"kind": "open"}, "kind = 'open': must be one of frequent, closed, maximal"),
        ({"method": "magic"}, "method = 'magic'"),
        ({"include": ["z"]}, "include: \\['z'\\] is in no basket"),
        ({"include": ["a"], "exclude": ["a"]}, "include and exclude share"),
        ({"include": "a"}, "must be a collection"),
        ({"include": ["a"], "method": "article"}, "not part of method='article'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mine_itemsets([["a"]], 1, **settings)


def test_items_of_every_basket_and_mixed_types_are_found() -> None:
    rows = [[1, "1", "x"], [1, "1"], [1, "1", ("a", 2)]]
    assert dict(mine_itemsets(rows, 1.0)) == {frozenset(s): 3 for s in ([1], ["1"], [1, "1"])}


def test_no_baskets_and_empty_baskets_give_no_sets_and_count_in_n() -> None:
    assert len(mine_itemsets([], 0.5)) == 0
    found = mine_itemsets([[], [], ["a"]], 0.3)
    assert (dict(found), found.n_baskets, found.notes["empty"]) == ({frozenset(["a"]): 1}, 3, 2)


def test_one_basket_of_28_items_ends_at_the_budget_marked_incomplete() -> None:
    found = mine_itemsets([list(range(28))], 1, budget=Budget(itemsets=10_000))
    assert not found.complete
    assert 10_000 <= len(found) < 2_000_000
    assert set(found.counts.tolist()) == {1}


def test_one_basket_of_15_items_has_all_its_subsets() -> None:
    found = mine_itemsets([list(range(15))], 1)
    assert found.complete
    assert len(found) == 2**15 - 1
    assert len(set(found)) == 2**15 - 1


def test_seconds_and_megabytes_end_the_search_too() -> None:
    rows = correlated(3, 400, 40, 0.7)
    assert not mine_itemsets(rows, 0.01, budget=Budget(seconds=0.2)).complete
    assert not mine_itemsets(rows, 0.01, budget=Budget(megabytes=2)).complete
    with pytest.raises(ValueError, match="budget: seconds = 0"):
        Budget(seconds=0)


def test_progress_is_told_the_number_found() -> None:
    told: list[int] = []
    found = mine_itemsets(correlated(3, 400, 20, 0.5), 0.05, progress=told.append)
    assert told == sorted(told)
    assert 0 < told[-1] <= len(found)


def test_the_estimate_is_right_to_an_order_of_magnitude_where_items_are_independent() -> None:
    rows = correlated(4, 400, 30, 0.3)
    n = len(mine_itemsets(rows, 8))
    assert n / 10 < estimate(rows, 8) < n * 10


def test_a_row_of_100_000_items_and_a_million_distinct_items_are_read() -> None:
    long = Baskets.of([list(range(100_000)), [1, 2], [1, 2, 3]])
    assert dict(mine_itemsets(long, 2)) == brute([[1, 2, 3], [1, 2], [1, 2, 3]], 2)
    wide = Baskets.of([[item, item + 1] for item in range(0, 1_000_000, 2)] + [[0, 1]])
    assert dict(mine_itemsets(wide, 2)) == {frozenset(s): 2 for s in ([0], [1], [0, 1])}


def test_more_pairs_than_a_table_holds_are_counted_by_sorting() -> None:
    rng = np.random.default_rng(5)
    rows = [rng.choice(1500, 8, replace=False).tolist() for _ in range(2000)]
    rows += [row[:5] for row in rows[:100]]
    found = mine_itemsets(rows, 2, max_length=3)
    assert dict(found) == brute(rows, 2, 3)


def test_lengths_counts_and_items_fit_together() -> None:
    found = mine_itemsets([["a", "b"], ["a", "b", "c"], ["a"]], 1)
    assert isinstance(found, Itemsets)
    assert len(found.items) == found.lengths.sum()
    assert found.lengths.tolist() == sorted(found.lengths.tolist())
    assert np.allclose(found.supports * 3, found.counts)
