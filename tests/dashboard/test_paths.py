from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from dashboard.views.paths import own_settings
from experiments.store.location import Store
from tests.conftest import Writer
from tests.dashboard.hostile import hostile
from tests.dashboard.test_motion import walk
from tests.dashboard.test_pages import no_arguments, open_page, texts

__all__ = ["no_arguments"]  # a fixture that every test takes


def write(writer: Writer, name: str, arrays: dict[str, np.ndarray], **params: str) -> str:
    """The id of a run with these arrays in its paths.npz."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    run_id = writer.run(name, experiment="paths", params={key.replace("__", "."): v for key, v in params.items()})
    writer.file(run_id, "paths.npz", buffer.getvalue())
    return run_id


@pytest.fixture
def walks(writer: Writer) -> Store:
    """A path of momentum in the plane, and one of gradient descent on a line."""
    momentum = {"optimizer": "momentum", "optimizer__lr": "0.01", "optimizer__beta": "0.9"}
    write(writer, "rolls", walk(2, lr=0.01, is_first_order=False), model__landscape="ravine", **momentum)
    settings = {"optimizer": "sgd", "optimizer__lr": "0.1", "model__landscape": "article"}
    write(writer, "creeps", walk(1, lr=0.1), **settings)
    return writer.store


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_empty_page_names_the_command_that_fills_it(store: Store, language: str) -> None:
    app = open_page("paths", store, language)
    assert not app.exception
    assert [block.value for block in app.code] == ["taolu run paths"]


@pytest.mark.parametrize(("landscape", "n_charts"), [("ravine", 2), ("article", 3)])
def test_the_landscape_chooses_the_run_and_a_line_is_drawn_over_time_too(
    walks: Store, landscape: str, n_charts: int
) -> None:
    app = open_page("paths", walks, landscape=landscape)
    assert not app.exception
    assert len(app.selectbox(key="run").options) == 1
    assert len(app.get("plotly_chart")) == n_charts


def test_a_cell_says_where_it_ended_and_which_command_solves_its_equation(walks: Store) -> None:
    app = open_page("paths", walks, by="momentum", show="cell", lr="0.005", beta="0.99")
    assert not app.exception
    assert "After 100 steps the cell has **diverged**, with loss 1." in texts(app)
    assert app.code[0].value.endswith("config.yaml --optimizer.lr 0.005 --optimizer.beta 0.99")


def test_a_cell_begins_at_the_runs_own_settings_and_shares_an_equation_without_friction(walks: Store) -> None:
    app = open_page("paths", walks, "zh", by="sgd", show="cell")
    assert not app.exception
    assert app.select_slider(key="lr").value == "0.1"
    assert not app.code


def test_a_broken_file_is_named_on_the_page(writer: Writer) -> None:
    arrays = {**walk(2), "theta": np.zeros((3, 7))}
    write(writer, "bent", arrays)
    app = open_page("paths", writer.store)
    assert not app.exception
    assert "paths.npz is broken" in texts(app)


def test_a_hostile_store_opens(writer: Writer) -> None:
    hostile(writer)
    app = open_page("paths", writer.store, run="nobody", lr="x", show="x", landscape="<b>")
    assert not app.exception
    assert "paths.npz is broken" in texts(app)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"optimizer.lr": "0.1", "optimizer.betas": "[0.9, 0.999]"}, (0.1, 0.9)),
        ({"optimizer.lr": "1e-2", "optimizer.momentum": "0.5"}, (0.01, 0.5)),
        ({"optimizer.lr": "{", "optimizer.betas": "[]"}, (np.nan, np.nan)),
    ],
)
def test_an_optimizers_beta_is_found_under_any_of_its_names(
    params: dict[str, str], expected: tuple[float, float]
) -> None:
    run = pd.Series({f"params.{key}": value for key, value in params.items()})
    np.testing.assert_equal(own_settings(run), expected)
