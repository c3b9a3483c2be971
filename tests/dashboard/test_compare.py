from __future__ import annotations

import json
import math

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboard.palette import colors
from dashboard.tabs import selection
from dashboard.tabs.differences import differing
from dashboard.tabs.selection import first_choice, unique_names
from dashboard.views.compare import TABS
from experiments.store.location import Store
from tests.conftest import Writer, png
from tests.dashboard.hostile import hostile
from tests.dashboard.test_pages import no_arguments, open_page, texts

__all__ = ["no_arguments"]  # a fixture that every test takes

VALUES = {"0.1": (1.0, 2.0, 3.0), "0.2": (2.0, 2.5, 4.5)}  # lr -> a last value a seed


@pytest.fixture
def sweep(writer: Writer) -> dict[str, str]:
    """Two learning rates with three seeds each; name of a run -> its id."""
    found: dict[str, str] = {}
    for lr, values in VALUES.items():
        for seed, value in enumerate(values):
            name = f"lr {lr} seed {seed}"
            params = {"model": "vae", "optimizer.lr": lr, "seed": str(seed)}
            metrics = {"val/x": [9.0, value], "train/x": [9.0, 8.0, value], "epoch": [0.0, 1.0]}
            run_id = writer.run(
                name, params=params, metrics=metrics, tags={"taolu.objective": "val/x min"}, start=len(found)
            )
            for step in (0, 50):
                writer.file(run_id, f"media/samples/{step:08d}.png", png(step))
                rows = [{"prompt": "once", "text": f"{name} wrote at {step}"}]
                writer.file(run_id, f"media/story/{step:08d}.json", json.dumps(rows))
            found[name] = run_id
    return found


def open_compare(store: Store, language: str = "en", **address: str | list[str]) -> AppTest:
    """The page Compare after its first run."""
    return open_page("compare", store, language, **address)


def traces(app: AppTest) -> list[list[dict[str, object]]]:
    """What every chart of the page draws."""
    return [json.loads(chart.proto.spec)["data"] for chart in app.get("plotly_chart")]


def test_an_empty_store_names_the_commands_that_fill_it(store: Store) -> None:
    app = open_compare(store)
    assert not app.exception
    assert [block.value for block in app.code] == ["taolu run vae", "taolu demo"]


def test_one_run_alone_opens(writer: Writer) -> None:
    writer.run("alone")
    for tab in ("parallel", "scatter", "config", "statistics"):
        assert not open_compare(writer.store, tab=tab).exception


def test_the_newest_runs_of_one_experiment_are_compared_first() -> None:
    rows = [["1", "claim", "claims"], ["2", "run", "gan"], ["3", "run", "vae"], ["4", "run", "vae"]]
    table = pd.DataFrame(rows, columns=["run_id", "kind", "experiment"])
    assert first_choice(table) == ["3", "4"]
    assert first_choice(table.iloc[:3]) == ["2", "3"]
    assert first_choice(table.iloc[:1]) == ["1"]


def test_runs_of_one_name_are_told_apart() -> None:
    table = pd.DataFrame({"run_id": ["a" * 32, "b" * 32, "c" * 32], "name": ["x", "x", ""]})
    assert [*unique_names(table).values()] == ["x aaaaaaaa", "x bbbbbbbb", "cccccccc"]


def test_a_copied_address_compares_its_runs_in_their_colours(writer: Writer, sweep: dict[str, str]) -> None:
    ids = [sweep["lr 0.2 seed 0"], sweep["lr 0.1 seed 0"]]
    app = open_compare(writer.store, runs=ids, chart="x", logy="1", x="epoch")
    assert not app.exception
    [lines] = traces(app)
    own = colors(ids)
    assert [line["name"] for line in lines] == ["lr 0.2 seed 0"] * 2 + ["lr 0.1 seed 0"] * 2
    assert [line["line"]["color"] for line in lines] == [own[run_id] for run_id in ids for _ in range(2)]  # type: ignore[index]


def test_an_address_that_names_nothing_there_is_no_error(writer: Writer, sweep: dict[str, str]) -> None:
    address = {"runs": "gone", "tab": "none", "x": "none", "by": "?", "smooth": "nan", "from": "x", "to": "1"}
    assert len(sweep) == 6
    assert not open_compare(writer.store, **address).exception


@pytest.mark.parametrize("axis", ["since_start", "clock", "train/x"])
def test_curves_stand_on_any_axis(writer: Writer, sweep: dict[str, str], axis: str) -> None:
    app = open_compare(writer.store, runs=[*sweep.values()], chart="x", x=axis)
    assert not app.exception
    assert len(traces(app)[0]) == 12


def test_a_group_is_drawn_as_its_mean_over_seeds(writer: Writer, sweep: dict[str, str]) -> None:
    for by in ("same_config", "optimizer.lr"):
        app = open_compare(writer.store, experiment="vae", chart="x", by=by)
        assert not app.exception
        names = {str(line.get("name")) for line in traces(app)[0]}
        assert {"optimizer.lr 0.1 (n = 3)", "optimizer.lr 0.2 (n = 3)"} <= names


def test_a_window_of_the_address_cuts_the_curves_and_can_be_left(writer: Writer, sweep: dict[str, str]) -> None:
    app = open_compare(writer.store, runs=[sweep["lr 0.1 seed 0"]], chart="x", **{"from": "0.5", "to": "1.5"})
    assert [len(line["x"]["bdata"]) > 0 for line in traces(app)[0]] == [True, True]  # type: ignore[index]
    app.button[0].click().run()
    assert "from" not in app.query_params


def test_parallel_coordinates_keep_the_best_share(writer: Writer, sweep: dict[str, str]) -> None:
    app = open_compare(writer.store, experiment="vae", tab="parallel", color="metrics.val/x", best="50")
    assert not app.exception
    assert "3 of 6 runs; blue is best: the smallest value." in texts(app)


def test_a_scatter_tells_the_rank_correlation(writer: Writer, sweep: dict[str, str]) -> None:
    address = {"sx": "params.seed", "sy": "metrics.val/x", "experiment": "vae"}
    app = open_compare(writer.store, tab="scatter", **address)
    assert not app.exception
    assert "Spearman's rank correlation 0.9" in texts(app)


def test_pictures_stand_in_rows_of_runs_and_columns_of_steps(writer: Writer, sweep: dict[str, str]) -> None:
    ids = [*sweep.values()][:2]
    assert len(open_compare(writer.store, runs=ids, tab="images").get("image")) == 4
    assert len(open_compare(writer.store, runs=ids, tab="images", upto="0").get("image")) == 2


def test_texts_of_one_prompt_stand_side_by_side(writer: Writer, sweep: dict[str, str]) -> None:
    app = open_compare(writer.store, runs=[sweep["lr 0.1 seed 0"], sweep["lr 0.2 seed 0"]], tab="texts")
    wrote = [block.value for block in app.code]
    assert wrote == [f"lr {lr} seed 0 wrote at {step}" for lr in ("0.1", "0.2") for step in (0, 50)]


def test_only_keys_that_differ_are_listed() -> None:
    table = differing({"a": {"lr": "1", "same": "x"}, "b": {"lr": "2", "same": "x", "new": "y"}})
    assert table.columns.tolist() == ["key", "a", "b"]
    assert table["key"].tolist() == ["lr", "new"]
    assert table["a"].tolist()[0] == "1"
    assert differing({"a": {"lr": "1"}, "b": {"lr": "1"}}).empty


def test_statistics_are_students_over_seeds_with_the_stores_own_noise(writer: Writer, sweep: dict[str, str]) -> None:
    app = open_compare(writer.store, experiment="vae", tab="statistics", **{"with": "optimizer.lr 0.1"})
    assert not app.exception
    means, tests = (frame.value for frame in app.dataframe[:2])
    assert means["mean"].tolist() == [2.0, 3.0]
    assert means["sd"].tolist()[0] == pytest.approx(1.0)
    assert tests["difference"].tolist() == [1.0]
    assert tests["p"].tolist()[0] == pytest.approx(0.0741799, rel=1e-5)  # t = 3.464 of 2 degrees of freedom
    pooled = math.sqrt(2 * (2.0 + 3.5) / 4)  # squares about the two means, 4 degrees of freedom
    assert tests["times"].tolist() == [pytest.approx(1 / pooled)]
    assert f"differ by {pooled:.3g}" in texts(app)


def test_no_more_runs_than_can_be_told_apart_are_compared(
    writer: Writer, sweep: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MOST_RUNS", 4)
    assert "The first 4 of 6 chosen runs are compared." in texts(open_compare(writer.store, experiment="vae"))


@pytest.mark.slow  # tests/browser opens them too
def test_hostile_runs_are_compared_in_every_tab(writer: Writer) -> None:
    ids = [*hostile(writer).values()]
    for tab in TABS:
        app = open_compare(writer.store, "zh", tab=tab, runs=ids)
        assert not app.exception, tab
        assert not [part for part in app.markdown if part.allow_html]
        assert "](http" not in texts(app)
