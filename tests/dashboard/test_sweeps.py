"""The page Sweeps."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.sweeps import fit_law, grid_figure, history_figure, intermediate_figure, law_figure
from experiments.store.curves import Curve
from experiments.store.location import Store
from experiments.store.studies import importances, study_url
from tests.conftest import Writer
from tests.dashboard.hostile import IMAGE
from tests.dashboard.test_pages import no_arguments, open_page, texts

__all__ = ["no_arguments"]  # a fixture
RATES, BATCHES = (0.01, 0.02, 0.04), (4, 16)
TABS = ("study_history", "importance", "parallel", "intermediate", "grid")


@pytest.fixture
def swept(writer: Writer) -> Store:
    """The study that `sweep_pairs` makes."""
    sweep_pairs(writer)
    return writer.store


def sweep_pairs(writer: Writer, run_id: str = "") -> optuna.Study:
    """A study of six pairs whose loss is 1 + lr / B, a pruned trial and a diverged one; `run_id` is the sweep's run."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(study_url(writer.store))
    study = optuna.create_study(study_name="pairs", storage=storage, direction="minimize")
    objectives = [{"metric": "val/loss", "direction": "min", "reduce": "last"}]
    study.set_user_attr("taolu", {"design": {"objectives": objectives, "verdict": "5655-S2"}, "run_id": run_id})
    space = {
        "optimizer.lr": optuna.distributions.FloatDistribution(0.001, 1),
        "data.batch_size": optuna.distributions.IntDistribution(1, 64),
    }
    states = optuna.trial.TrialState
    ends: list[tuple[float, int, optuna.trial.TrialState, float | None]]
    ends = [(rate, batch, states.COMPLETE, 1 + rate / batch) for rate in RATES for batch in BATCHES]
    ends += [(0.02, 8, states.PRUNED, None), (0.5, 4, states.COMPLETE, math.inf)]
    for i, (rate, batch, state, value) in enumerate(ends):
        trained = writer.run(f"t{i}", start=i, metrics={"val/loss": [3.0, 2.0, value or 1.5]})
        params = {"optimizer.lr": rate, "data.batch_size": batch}
        study.add_trial(
            optuna.trial.create_trial(
                state=state, value=value, params=params, distributions=space, user_attrs={"runs": [trained]}
            )
        )
    return study


@pytest.mark.parametrize("language", ["en", "zh"])
def test_without_a_sweep_the_page_names_commands(store: Store, language: str) -> None:
    app = open_page("sweeps", store, language)
    assert not app.exception
    assert app.code[1].value == "taolu sweep sgd_batch_lr"
    assert not (store.folder / "optuna.db").exists()


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_of_a_sweep_opens(swept: Store, tab: str) -> None:
    app = open_page("sweeps", swept, "zh" if tab == "grid" else "en", tab=tab)
    assert not app.exception
    assert app.get("plotly_chart")
    table = app.dataframe[0].value
    assert table["number"].tolist()[:2] == [1, 3]  # the best first: of the smallest lr / B
    assert set(table["state"]) == ({"完成", "剪枝"} if tab == "grid" else {"completed", "pruned"})
    assert app.code[0].value == f"optuna-dashboard sqlite:///{swept.folder}/optuna.db"


def test_names_of_a_strangers_study_are_text(store: Store) -> None:
    study = optuna.create_study(study_name=IMAGE, storage=optuna.storages.RDBStorage(study_url(store)))
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
    for tab in TABS:
        app = open_page("sweeps", store, tab=tab)
        assert not app.exception
        assert "![x](" not in texts(app)


def test_importance_is_of_what_varies(swept: Store, store: Store) -> None:
    shares = importances(swept, "pairs")
    assert set(shares) == {"optimizer.lr", "data.batch_size"}
    assert sum(shares.values()) == pytest.approx(1)
    empty = optuna.create_study(study_name="empty", storage=optuna.storages.RDBStorage(study_url(store)))
    assert importances(store, empty.study_name) == {}


@settings(max_examples=30, deadline=None)  # the first one imports SciPy
@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.1, 10))
def test_a_law_that_is_exact_is_found(a: float, b: float, scale: float) -> None:
    rates, batches = (side.ravel() for side in np.meshgrid(RATES, BATCHES))
    law = fit_law(rates, batches, scale * rates**a * batches**b)
    assert law is not None
    assert (law.a, law.b, law.total) == pytest.approx((a, b, a + b), abs=1e-6)


def test_the_laws_intervals_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    rates, batches = rng.uniform(0.01, 1, 30), rng.integers(1, 65, 30).astype(float)
    values = rates / batches * np.exp(rng.normal(0, 0.1, 30))
    law = fit_law(rates, batches, values)
    coefficients, covariance = np.polyfit(np.log(rates / batches), np.log(values), 1, cov=True)
    assert law is not None
    assert abs(law.total) < law.total_half + 0.05
    assert law.a == pytest.approx(coefficients[0], abs=3 * covariance[0, 0] ** 0.5 + 0.02)
    assert fit_law(rates[:3], batches[:3], values[:3]) is None
    assert fit_law(rates, batches, -values) is None
    assert fit_law(rates, np.ones(30), values) is None


def test_along_a_line_of_the_map_the_ratio_is_constant() -> None:
    cells = pd.DataFrame([(r, b, r / b) for r in RATES for b in BATCHES], columns=["lr", "batch", "value"])
    figure = grid_figure(cells, {"title": "t", "batch_size": "B"})
    lines = [trace for trace in figure.data if trace.type == "scatter"]
    assert len(lines) == len({round(math.log2(r / b), 6) for r in RATES for b in BATCHES})
    for line in lines:
        ratios = 2.0 ** (np.array(line.y) - np.array(line.x))
        assert ratios[0] == pytest.approx(ratios[1])


def test_the_fitted_law_is_drawn_through_what_it_fits() -> None:
    cells = pd.DataFrame([(r, b, 3 * r / b) for r in RATES for b in BATCHES], columns=["lr", "batch", "value"])
    words = {"title": "", "metric": "", "batch_size": "B"}
    law = fit_law(*(cells[name].to_numpy(float) for name in ("lr", "batch", "value")))
    drawn = law_figure(cells, law, words).data
    assert [trace.name for trace in drawn if trace.mode == "markers"] == ["B 4", "B 16"]
    for line in (trace for trace in drawn if trace.mode == "lines"):
        assert list(line.y) == pytest.approx([3 * ratio for ratio in line.x])
    assert {trace.mode for trace in law_figure(cells, None, words).data} == {"markers"}


def test_the_best_so_far_never_gets_worse() -> None:
    trials = pd.DataFrame({"number": range(4), "state": ["COMPLETE"] * 4, "values.x": [3.0, 4.0, np.inf, 1.0]})
    words = dict.fromkeys(("title", "best_so_far", "trial_complete", "trial_other", "trial"), "w")
    assert list(history_figure(trials, "values.x", "min", words).data[-1].y) == [3.0, 3.0, 1.0]
    assert list(history_figure(trials, "values.x", "max", words).data[-1].y) == [3.0, 4.0, 4.0]


def test_a_pruned_trial_ends_in_a_cross_and_the_best_lies_on_top() -> None:
    curve = Curve(np.arange(3), np.array([3.0, 2.0, 1.0]), np.arange(3.0))
    kinds = ("trial_best", "trial_complete", "trial_pruned", "trial_other")
    words = dict.fromkeys((*kinds, "title", "metric", "step", "trial"), "w")
    figure = intermediate_figure([(0, "COMPLETE", curve), (1, "PRUNED", curve), (2, "FAIL", curve)], 0, words)
    assert [list(trace.marker.size) for trace in figure.data] == [[0, 0, 10], [0, 0, 0], [0, 0, 0]]
    assert figure.data[-1].line.width == 3
