from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy import stats

from dashboard.rules import Counts, counts_of, graph, in_words, items_of, scatter
from experiments.store.location import Store
from experiments.store.rules import difference
from mining.apriori import mine_itemsets
from mining.frames import itemsets_table, rules_table
from mining.rules import rules
from mining.spring import spring
from tests.conftest import Writer
from tests.dashboard.hostile import FORMULA, IMAGE, MARKS, SCRIPT
from tests.dashboard.test_pages import no_arguments, open_page, texts

__all__ = ["no_arguments"]  # a fixture that every test takes

BASKETS = [["tea", "milk", "jam"], ["tea", "milk"], ["tea"], ["jam"], ["tea", "milk"]]
TABS = ["rules_rules", "rules_graph", "rules_itemsets", "rules_basket", "rules_diff"]


def mined(writer: Writer, name: str, baskets: list[list[str]], min_support: float = 0.2) -> str:
    """A run that left what the miner leaves."""
    found = mine_itemsets(baskets, min_support)
    run_id = writer.run(
        name, experiment="mine-apriori", tags={"taolu.kind": "rules"}, params={"source": "shop"},
        metrics={"baskets": [float(len(baskets))], "items": [3.0]},
    )  # fmt: skip
    folder = writer.store.run_folder(run_id)
    folder.mkdir(parents=True)
    parquet.write_table(rules_table(rules(found, 0.1).sorted()), folder / "rules.parquet")
    parquet.write_table(itemsets_table(found), folder / "itemsets.parquet")
    return run_id


@pytest.fixture
def two(writer: Writer) -> list[str]:
    return [mined(writer, "one", BASKETS), mined(writer, "other", [*BASKETS, ["jam", "egg"]], 0.15)]


def test_the_counts_behind_a_rule_are_those_of_the_baskets() -> None:
    table = rules_table(rules(mine_itemsets(BASKETS, 0.2), 0.1))
    row = next(row for row in table.to_pylist() if (row["antecedents"], row["consequents"]) == (["milk"], ["tea"]))
    found = counts_of(row, len(BASKETS))
    assert found == Counts(both=3, antecedent=3, consequent=4, total=5)
    assert found.table() == [[3, 0], [1, 1]]
    assert row["p_value"] == pytest.approx(stats.fisher_exact(found.table(), "greater").pvalue)


def test_the_interval_of_a_confidence_is_wilsons() -> None:
    theirs = stats.binomtest(45, 60).proportion_ci(method="wilson")
    assert Counts(45, 60, 100, 500).confidence() == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize("n_baskets", [math.nan, 0.0, 1e300])
def test_supports_of_no_baskets_are_no_counts(n_baskets: float) -> None:
    assert counts_of({"support": 0.5, "antecedent support": 0.5, "consequent support": 0.5}, n_baskets) is None


def test_supports_that_contradict_each_other_are_no_counts() -> None:
    assert counts_of({"support": 0.9, "antecedent support": 0.5, "consequent support": 0.5}, 10) is None


def test_items_stand_in_the_order_of_the_rules_that_have_them() -> None:
    table = pa.table({"antecedents": [["a"], ["a"], ["b"]], "consequents": [["c"], ["b"], ["c", "a"]]})
    assert items_of(table)[0] == "a"
    assert in_words(table)[2] == "b → c + a"


def test_a_difference_tells_lost_won_and_changed_rules_by_their_items(two: list[str], store: Store) -> None:
    first, second = (parquet.read_table(store.run_folder(run) / "rules.parquet") for run in two)
    found = difference(first, second)
    keys = [{(tuple(row["antecedents"]), tuple(row["consequents"])) for row in t.to_pylist()} for t in (first, second)]
    assert found.won.num_rows == len(keys[1] - keys[0]) > 0
    assert found.lost.num_rows == len(keys[0] - keys[1])
    assert found.changed.num_rows + found.n_equal == len(keys[0] & keys[1])
    assert {"confidence after", "lift after"} <= {*found.changed.column_names}


def test_rules_of_numbers_and_of_their_texts_are_the_same() -> None:
    baskets = [[9, 10, 100], [9, 10], [9, 100]]
    numbers, words = (
        rules_table(rules(mine_itemsets(each, 0.3), 0.1)) for each in (baskets, [[*map(str, b)] for b in baskets])
    )
    found = difference(numbers, words)
    assert (found.lost.num_rows, found.won.num_rows, found.n_equal) == (0, 0, numbers.num_rows)


def test_nodes_that_are_joined_lie_nearer_than_others() -> None:
    spots = spring(6, [(0, 1), (1, 2), (3, 4), (4, 5)])
    apart = np.linalg.norm(spots[:, None] - spots, axis=-1)
    assert max(apart[0, 1], apart[3, 4]) < min(apart[0, 3], apart[2, 5])


def test_a_figure_holds_every_rule_and_escapes_the_names_of_items() -> None:
    table = rules_table(rules(mine_itemsets([[SCRIPT, "b"], [SCRIPT, "b"], ["b"]], 0.3), 0.1))
    drawn = scatter(table, {"title": "", "support": "", "confidence": "", "lift": ""})
    assert len(drawn.data[0].x) == table.num_rows
    assert "<script" not in drawn.to_json() + graph(table, "").to_json()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_without_rules_the_page_names_the_commands_that_mine_some(store: Store, language: str) -> None:
    app = open_page("rules", store, language)
    assert not app.exception
    assert app.code[0].value == "taolu mine apriori stdlib"


def test_every_tab_opens_in_chinese(two: list[str], store: Store) -> None:
    apps = [open_page("rules", store, "zh", tab=tab, rules=two[0]) for tab in TABS]
    assert not any(app.exception or app.warning for app in apps)


def test_the_address_filters_the_rules_and_names_the_one_to_explain(two: list[str], store: Store) -> None:
    app = open_page(
        "rules", store, rules=two[0], item="milk", side="antecedents", confidence="0.9", why=f"{two[0][:8]}.1"
    )
    assert not app.exception
    assert all("milk" in rule.split("→")[0] for rule in app.dataframe[0].value["rule"])
    assert (app.dataframe[0].value["confidence"] >= 0.9).all()
    first = parquet.read_table(store.run_folder(two[0]) / "rules.parquet").slice(1, 1)
    assert app.subheader[0].value.replace("\\", "") == f"Why {in_words(first)[0]}"


def test_a_basket_is_recommended_what_it_lacks(two: list[str], store: Store) -> None:
    app = open_page("rules", store, tab="rules_basket", rules=two[0], basket=["milk"])
    goes = app.dataframe[0].value["goes"]
    assert "tea" in set(goes)
    assert "milk" not in set(goes)


def test_itemsets_are_found_by_what_they_hold(two: list[str], store: Store) -> None:
    app = open_page("rules", store, tab="rules_itemsets", rules=two[0], itemset="TEA milk")
    assert all({"tea", "milk"} <= {*name.split(" + ")} for name in app.dataframe[0].value["set"])


def test_hostile_rules_open_without_a_traceback(writer: Writer) -> None:
    run_id = mined(writer, f"{SCRIPT}{MARKS}", [[SCRIPT, IMAGE, FORMULA, ""], [SCRIPT, IMAGE], [MARKS]], 0.3)
    mined(writer, "other", BASKETS)
    apps = [
        open_page(
            "rules", writer.store, tab=tab, rules=run_id, why=f"{run_id[:8]}.99999999", support="nan", basket=[SCRIPT]
        )
        for tab in TABS
    ]
    assert not any(app.exception for app in apps)


@pytest.mark.parametrize("content", [b"PAR1 torn PAR1", b""])
def test_rules_that_are_no_table_are_named(writer: Writer, content: bytes) -> None:
    run_id = mined(writer, "torn", BASKETS)
    writer.file(run_id, "rules.parquet", content)
    app = open_page("rules", writer.store, rules=run_id)
    assert not app.exception
    assert "cannot be read" in texts(app)


def test_values_that_are_no_numbers_are_drawn_over(writer: Writer) -> None:
    run_id = mined(writer, "odd", BASKETS)
    path = writer.store.run_folder(run_id) / "rules.parquet"
    table = parquet.read_table(path)
    for name in ("support", "confidence", "lift", "p_value"):
        odd = np.resize([math.nan, math.inf, -math.inf, 1e308, -1.0], table.num_rows)
        table = table.set_column(table.column_names.index(name), name, pa.array(odd))
    parquet.write_table(table, path)
    assert not open_page("rules", writer.store, rules=run_id).exception
