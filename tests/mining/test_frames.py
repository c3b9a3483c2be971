"""Tables of other libraries: baskets of them, results as them, and mlxtend's doors against brute force."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from mining.apriori import mine_itemsets
from mining.baskets import Baskets
from mining.frames import (
    apriori,
    association_rules,
    csr_baskets,
    fpgrowth,
    frame_baskets,
    itemsets_table,
    onehot_baskets,
    rules_table,
)
from mining.rules import MEASURES, rules
from tests.mining.test_baskets import rows_of

TABLE = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]], bool)
NAMES = ["tea", "milk", "jam", "bread"]
FRAME = pd.DataFrame(TABLE, columns=NAMES)
ROWS = [{NAMES[at] for at in np.flatnonzero(row)} for row in TABLE]


@pytest.mark.parametrize(
    "table",
    [
        FRAME,
        FRAME.astype(int),
        FRAME.astype(float),
        FRAME.astype(pd.SparseDtype(bool, False)),
        FRAME.astype("boolean"),
        pa.Table.from_pandas(FRAME),
        pa.table({"basket": [sorted(row) for row in ROWS]}),
        pa.array([sorted(row) for row in ROWS]),
        pd.Series([sorted(row) for row in ROWS]),
        pd.DataFrame([[*sorted(row), *[None] * (4 - len(row))] for row in ROWS]),
    ],
    ids=["bool", "int", "float", "sparse", "nullable", "arrow", "lists", "array", "series", "cells"],
)
def test_each_kind_of_table_gives_the_same_baskets(table: Any) -> None:
    assert rows_of(Baskets.of(table)) == ROWS


def test_a_sparse_matrix_gives_baskets_whatever_its_format_and_a_doubled_entry_counts_once() -> None:
    for matrix in (sparse.csr_matrix(TABLE), sparse.coo_array(TABLE), sparse.csc_matrix(TABLE)):
        assert [{NAMES[i] for i in row} for row in rows_of(Baskets.of(matrix))] == ROWS
    doubled = sparse.csr_matrix((np.array([1, 1, 0, 1]), np.array([2, 2, 1, 0]), np.array([0, 3, 4])), (2, 3))
    made = csr_baskets(doubled, ["a", "b", "c"])
    assert rows_of(made) == [{"c"}, {"a"}]
    assert made.notes == {"duplicates": 1}


def test_an_item_a_row_is_read_by_its_columns() -> None:
    frame = pd.DataFrame({"when": [1, 1, 1, 2], "order": [7, 8, 7, None], "item": ["a", "a", None, "b"]})
    assert rows_of(frame_baskets(frame, "order", "item")[0]) == [{"a"}, {"a"}]
    with pytest.raises(ValueError, match="no column 'what'; there are when, order, item"):
        frame_baskets(frame, "order", "what")


def test_another_value_than_zero_and_one_is_named() -> None:
    with pytest.raises(ValueError, match="Found value 2 in row 1, column 'tea'"):
        onehot_baskets(pd.DataFrame({"tea": [0, 2]}), ["tea"])


# ---- results --------------------------------------------------------------------------------------------------------


def test_results_become_tables_with_mlxtends_columns_sorted_for_people() -> None:
    found = mine_itemsets(ROWS, 2)
    table = itemsets_table(found).to_pylist()
    assert {frozenset(row["items"]): row["count"] for row in table} == dict(found)
    assert [(row["length"], -row["count"]) for row in table] == sorted((row["length"], -row["count"]) for row in table)
    made = rules(found, 0.6).sorted()
    written = rules_table(made)
    assert written.column_names == ["antecedents", "consequents", *MEASURES, "p_value", "holm", "q_value"]
    sides = [(frozenset(row["antecedents"]), frozenset(row["consequents"])) for row in written.to_pylist()]
    assert sides == [(a, c) for a, c, _, _ in made]
    assert all(row["antecedents"] == sorted(row["antecedents"]) for row in written.to_pylist())
    assert [*made.to_frame().columns] == ["antecedents", "consequents", *MEASURES]


def test_numbers_stay_numbers_in_a_table_and_one_is_told_from_its_text() -> None:
    assert itemsets_table(mine_itemsets([[3, 5]], 1))["items"].to_pylist() == [[3], [5], [3, 5]]
    assert itemsets_table(mine_itemsets([[1, "1"]], 1, max_length=1))["items"].to_pylist() == [["1"], ["'1'"]]


# ---- mlxtend's doors ------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=12), st.floats(0.05, 1))
def test_both_doors_find_what_counting_finds(rows: list[list[bool]], min_support: float) -> None:
    frame = pd.DataFrame(rows, columns=NAMES)
    expected = {}
    for size in range(1, 5):
        for names in itertools.combinations(NAMES, size):
            support = float(frame[[*names]].all(axis=1).mean())
            if support >= min_support:
                expected[frozenset(names)] = support
    for door in (apriori, fpgrowth):
        assert dict(door(frame, min_support, use_colnames=True)[["itemsets", "support"]].to_numpy()) == expected


def test_items_are_numbers_of_columns_unless_names_are_asked_for() -> None:
    assert {*fpgrowth(FRAME, 0.6)["itemsets"]} == {frozenset(s) for s in ([0], [1], [3], [0, 3])}
    assert {*apriori(FRAME, 0.6, use_colnames=True, max_len=1)["itemsets"]} == {
        frozenset([name]) for name in ("tea", "milk", "bread")
    }


def test_the_doors_refuse_what_mlxtend_refuses() -> None:
    with pytest.raises(ValueError, match=r"within the interval `\(0, 1\]`. Got 2"):
        apriori(FRAME, 2)
    with (
        pytest.warns(DeprecationWarning, match="bool type"),
        pytest.raises(ValueError, match="NaN values are not permitted"),
    ):
        fpgrowth(FRAME.astype(float).replace(0.0, np.nan))
    itemsets = apriori(FRAME, 0.4)
    with pytest.raises(ValueError, match="Metric must be one of"):
        association_rules(itemsets, metric="unicorn")
    with pytest.raises(ValueError, match="'support' and 'itemsets'"):
        association_rules(itemsets[["support"]])
    with pytest.raises(ValueError, match="is empty"):
        association_rules(itemsets.iloc[:0])
    with pytest.raises(KeyError, match="support_only=True"):
        association_rules(itemsets[itemsets["itemsets"].map(len) > 1])


@pytest.mark.parametrize(
    ("metric", "least"), [("confidence", 0.75), ("lift", 1.2), ("leverage", 0.1), ("kulczynski", 0.8)]
)
def test_rules_of_a_table_are_those_of_the_baskets(metric: str, least: float) -> None:
    made = rules(mine_itemsets(ROWS, 2), 0)
    expected = made.where(made.measure(metric) >= least - 1e-12).to_frame()
    found = association_rules(apriori(FRAME, 0.4, use_colnames=True), metric=metric, min_threshold=least - 1e-12)
    assert [*found.columns] == ["antecedents", "consequents", *MEASURES]
    keys = ["antecedents", "consequents"]
    first, second = (table.set_index([table[key].map(sorted).map(str) for key in keys]) for table in (found, expected))
    assert {*first.index} == {*second.index}
    for name in MEASURES:
        np.testing.assert_allclose(first[name], second.loc[first.index, name], rtol=1e-9, atol=1e-12)


def test_support_alone_needs_no_parts() -> None:
    itemsets = apriori(FRAME, 0.4, use_colnames=True)
    found = association_rules(itemsets[itemsets["itemsets"].map(len) == 2], support_only=True, min_threshold=0.6)
    assert {(min(a), min(c)) for a, c in zip(found["antecedents"], found["consequents"], strict=True)} == {
        ("tea", "bread"),
        ("bread", "tea"),
    }
    assert found["lift"].isna().all()
    assert association_rules(itemsets, min_threshold=2).empty


def test_where_cells_are_missing_a_support_is_of_the_rows_that_lack_none() -> None:
    cells = np.array([[1, 1, np.nan], [1, np.nan, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]])
    frame = pd.DataFrame(cells, columns=["a", "b", "c"])
    with pytest.warns(DeprecationWarning, match="bool type"):
        found = fpgrowth(frame, 0.5, null_values=True, use_colnames=True)
    supports = dict(zip(found["itemsets"].map(sorted).map("".join), found["support"], strict=True))
    assert supports == {"a": 4 / 5, "b": 3 / 4, "c": 1.0, "ab": 2 / 4, "ac": 3 / 4, "bc": 2 / 3}
    made = association_rules(found, len(frame), frame, null_values=True, min_threshold=0.0)
    one = made[(made["antecedents"] == frozenset("a")) & (made["consequents"] == frozenset("c"))].iloc[0]
    confidence = (3 / 4 * 4) / (4 / 5 * 5 - 1)  # of the rows with a, in one c is missing
    assert one["confidence"] == pytest.approx(confidence)
    assert one["representativity"] == pytest.approx(4 / 5)
    assert one["kulczynski"] == pytest.approx((confidence + (3 / 4 * 4) / (1.0 * 4)) / 2)
    with pytest.raises(TypeError, match="df_orig"):
        association_rules(found, null_values=True)
