"""The page Runs."""

from __future__ import annotations

import pytest

from dashboard.views import runs
from dashboard.views.runs import marked
from experiments.store.location import Store
from experiments.store.marks import set_archived
from experiments.store.read import find_run, read_run
from tests.conftest import Writer
from tests.dashboard.test_pages import no_arguments, open_page, texts

__all__ = ["no_arguments"]  # a fixture


def test_the_table_shows_runs_newest_first_with_what_varies(filled_store: Store) -> None:
    app = open_page("runs", filled_store)
    assert not app.exception
    table = app.dataframe[0].value
    assert table["name"].tolist() == ["going", "broken", "steady"]
    assert {"val/elbo", "model.latent_dim", "optimizer.lr", "data.class"} <= set(table.columns)
    assert "val/loss" not in table
    assert "Runs: 3 · 1 running · 1 failed" in texts(app)


def test_a_copied_address_restores_every_setting(filled_store: Store) -> None:
    columns = ["train/loss:max", "model.latent_dim"]
    words = {"q": "vae", "filter": "optimizer.lr < 1", "sort": "name", "experiments": "vae", "status": "FINISHED"}
    app = open_page("runs", filled_store, "en", columns=columns, **words)
    assert not app.exception
    table = app.dataframe[0].value
    assert table["name"].tolist() == ["steady"]
    assert table["train/loss:max"].tolist() == [pytest.approx(5.0, abs=0.2)]
    assert "1 of 3 runs" in texts(app)
    assert app.selectbox(key="sort").value == "name"
    assert app.multiselect(key="columns").value == ["train/loss:max", "model.latent_dim"]


def test_an_address_nobody_can_mean_falls_back(filled_store: Store) -> None:
    app = open_page("runs", filled_store, columns="nosuch", sort="-nosuch", page="99", rows_by="?", runs="unknown")
    assert not app.exception
    assert app.dataframe[0].value["name"].tolist() == ["going", "broken", "steady"]


def test_a_sorted_table_begins_with_the_largest(writer: Writer) -> None:
    for name, value in (("a", 2.0), ("b", 9.0), ("c", 4.0)):
        writer.run(name, metrics={"val/x": [value, 1.0]})
    app = open_page("runs", writer.store, sort="-val/x:max", columns=["val/x:max"])
    assert app.dataframe[0].value["name"].tolist() == ["b", "c", "a"]


def test_a_filter_that_cannot_be_read_is_pointed_at(filled_store: Store) -> None:
    app = open_page("runs", filled_store, filter="status == 'x' and statsu == 3")
    assert not app.exception
    assert app.code[0].value == "status == 'x' and statsu == 3\n                  ^^^^^^"
    assert "did you mean" in app.error[0].value
    assert "--filter" not in app.error[0].value
    app.text_input(key="filter").set_value("status == 'FAILED'").run()
    assert app.dataframe[0].value["name"].tolist() == ["broken"]


def test_a_mark_stands_below_its_characters_though_chinese_ones_are_wide() -> None:
    assert marked("验证 > 1 and x", 11, 12) == " " * 13 + "^"


def test_filters_that_fit_no_run_say_so(filled_store: Store) -> None:
    app = open_page("runs", filled_store, "zh", q="nowhere")
    assert not app.exception
    assert app.info[0].value == "没有符合筛选条件的运行。"
    assert "共 3 次运行，显示 0 次" in texts(app)


def test_groups_show_means_over_their_runs(writer: Writer) -> None:
    for seed, value in enumerate((1.0, 3.0, 7.0)):
        writer.run(f"r{seed}", params={"lr": "0.1" if seed < 2 else "0.2"}, metrics={"val/x": [value]})
    app = open_page("runs", writer.store, rows_by="lr", columns="val/x")
    assert not app.exception
    table = app.dataframe[0].value
    assert table[["by lr", "runs", "mean val/x"]].values.tolist() == [[0.1, 2, 2.0], [0.2, 1, 7.0]]
    assert "a click on a row shows its runs" in texts(app)


def test_archived_runs_are_left_out_until_they_are_asked_for(filled_store: Store) -> None:
    assert not open_page("runs", filled_store).toggle
    set_archived(filled_store, [find_run(filled_store, "broken")], archived=True)
    app = open_page("runs", filled_store)
    assert app.dataframe[0].value["name"].tolist() == ["going", "steady"]
    app.toggle(key="archived").set_value(True).run()
    assert app.dataframe[0].value["name"].tolist() == ["going", "broken", "steady"]


def test_ticked_runs_of_the_address_can_be_compared_and_marked(
    filled_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [find_run(filled_store, name) for name in ("steady", "broken")]
    app = open_page("runs", filled_store, runs=ids)
    assert [button.label for button in app.button][:2] == ["Compare 2", "Choose none"]
    assert "taolu dashboard --allow_edit" in texts(app)
    assert not app.text_area
    monkeypatch.setenv("TAOLU_DASHBOARD_ALLOW", "edit")
    app = open_page("runs", filled_store, runs=ids)
    app.text_area[0].set_value("for the paper").run()
    next(button for button in app.button if button.label == "Save the note").click().run()
    assert not app.exception
    assert [read_run(filled_store, run_id).note for run_id in ids] == ["for the paper"] * 2
    next(button for button in app.button if button.label == "Choose none").click().run()
    assert "runs" not in app.query_params
    assert app.button(key="compare").disabled


def test_a_long_table_has_pages_and_true_totals(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "ROWS", 3)
    for i in range(4):
        writer.run(f"r{i}", start=i)
    app = open_page("runs", writer.store, page="2")
    assert not app.exception
    assert app.dataframe[0].value["name"].tolist() == ["r0"]
    assert "Runs: 4 · rows 4 to 4" in texts(app)
