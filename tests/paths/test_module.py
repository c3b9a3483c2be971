"""Paths and maps: the facts of kexue.fm/archives/5655, exactness, and what is refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from experiments.config import resolve
from experiments.resume import load_checkpoint, resume
from experiments.run import run
from experiments.store.location import Store
from lightning_modules.data.steps import Steps
from lightning_modules.optimizers import build
from lightning_modules.paths import Paths
from lightning_modules.paths.landscapes import landscape

MOMENTUM = {"class": "momentum", "lr": 0.01, "beta": 0.9}


def moved(steps: int = 60, **settings: Any) -> Paths:
    """A module after so many steps in one epoch."""
    module = Paths(**{"optimizer": MOMENTUM, **settings})
    off: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    pl.Trainer(accelerator="cpu", max_epochs=1, num_sanity_val_steps=0, **off).fit(module, datamodule=Steps(steps))
    return module


def arrays(module: Paths) -> dict[str, np.ndarray]:
    return module.arrays()["paths.npz"]


# ---- facts ----------------------------------------------------------------------------------------------------------


def test_momentum_up_to_point_eight_stays_in_the_poor_minimum() -> None:
    found = arrays(moved(300, n_lr=2, n_beta=6, lr_range=(0.0099, 0.01), beta_range=(0.0, 0.8)))
    assert (found["basin"] == 1).all()
    assert np.abs(found["cell_theta"][:, :, -1, 0] - 3).max() < 1e-4


def test_the_global_minimum_is_reached_for_some_frictions_only_and_not_monotonely() -> None:
    reached = []
    for friction in (2.0, 1.0, 0.5, 0.32):  # about (1 - beta) / sqrt(lr)
        beta = 1 - friction * math.sqrt(0.01)
        module = moved(250, has_map=False, optimizer={**MOMENTUM, "beta": beta})
        reached.append(bool(module.landscape.basins(module()[0]) == 0))
    assert reached == [False, True, False, True]  # at 0.5 it crosses and comes back


def test_a_map_shows_the_window_of_frictions() -> None:
    found = arrays(moved(300, n_lr=4, n_beta=20, lr_range=(3e-3, 0.03)))
    friction = (1 - found["beta"]) / np.sqrt(found["lr"][:, None])
    assert (found["basin"][friction > 1.9] == 1).all()
    assert (found["basin"][(friction > 0.75) & (friction < 1.4)] == 0).all()
    above = found["basin"][friction < 0.6]
    assert {0, 1} <= set(above.tolist())


@pytest.mark.parametrize(
    ("name", "step_name", "settings", "order"),
    [
        ("sgd", "lr", {}, 1),
        ("momentum", "time_step", {"friction": 1.0}, 1),  # at rest half a step too early
        ("momentum", "time_step", {"friction": 1.0, "half_step_start": True}, 2),
    ],
)
def test_a_path_meets_its_equation_to_the_order_of_its_scheme(
    name: str, step_name: str, settings: dict[str, Any], order: int
) -> None:
    gaps = []
    for step, n in ((0.02, 50), (0.01, 100), (0.005, 200)):
        optimizer = {"class": name, step_name: step, **settings}
        traces = moved(n, has_map=False, landscape="ravine", kappa=4.0, optimizer=optimizer).traces
        assert traces["path"].time == pytest.approx(1.0)
        gaps.append(float(torch.dist(traces["path"].last, traces["ode"].last)))
    np.testing.assert_allclose(-np.diff(np.log2(gaps)), order, atol=0.05)


@pytest.mark.slow
def test_cells_of_one_temperature_sample_gibbs() -> None:
    # 900 independent cells at almost one lr, all started on the poor side.
    module = moved(3000, landscape="double_well", temperature=0.7, n_lr=900, lr_range=(0.0299, 0.0301),
                   optimizer={"class": "sgd", "lr": 0.03})  # fmt: skip
    x = torch.linspace(-4, 4, 20_001, dtype=torch.float64)
    weights = (-(landscape("double_well").losses(torch.stack([x, 0 * x], -1))) / 0.7).exp()
    left = float(weights[x < landscape("double_well").barriers[0]].sum() / weights.sum())
    share = float((arrays(module)["basin"] == 0).mean())
    assert share == pytest.approx(left, abs=3 * math.sqrt(left * (1 - left) / 900))


# ---- exactness ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "key"),
    [
        ("momentum", {"lr": 0.02, "beta": 0.9}, "beta"),
        ("torch.Adam", {"lr": 0.1}, "betas"),
        ("sgd", {"lr": 0.02}, None),
    ],
)
def test_a_map_equals_runs_of_its_cells_one_by_one(name: str, settings: dict[str, Any], key: str | None) -> None:
    found = arrays(moved(50, landscape="rosenbrock", n_lr=3, n_beta=3, optimizer={"class": name, **settings},
                         lr_range=(1e-4, 5e-4)))  # fmt: skip
    land = landscape("rosenbrock")
    for i, lr in enumerate(found["lr"]):
        for j, beta in enumerate(found["beta"]):
            own = {key: [beta, 0.999] if key == "betas" else beta} if key else {}
            theta = torch.nn.Parameter(torch.tensor(land.start, dtype=torch.float64))
            optimizer = build(name, [theta], **{**settings, "lr": float(lr), **own})
            for _ in range(50):
                theta.grad = land.gradients(theta.detach())
                optimizer.step()
            np.testing.assert_allclose(found["cell_theta"][i, j, -1], theta.detach(), rtol=1e-6)  # stored as float32
            assert found["loss"][i, j] == pytest.approx(float(land.losses(theta.detach())), rel=1e-9)


def test_a_schedule_acts_on_every_cell_and_on_the_equations_time() -> None:
    schedule = {"class": "step", "every": 10, "gamma": 0.5}
    module = moved(20, n_lr=2, n_beta=2, optimizer={"class": "torch.SGD", "lr": 0.01}, schedule=schedule)
    assert arrays(module)["t"][-1] == pytest.approx(10 * 0.01 + 10 * 0.005)
    rates = [group["lr"] for group in module.trainer.optimizers[0].param_groups]
    np.testing.assert_allclose(rates, [0.0025, *np.repeat([0.00025, 0.025], 2)])


def test_what_diverges_stays_where_it_was_and_the_others_go_on() -> None:
    found = arrays(moved(100, n_lr=4, n_beta=2, lr_range=(1e-3, 10.0), optimizer={**MOMENTUM, "lr": 5.0, "beta": 0.0}))
    assert (found["basin"][0] >= 0).all()
    assert (found["basin"][-1] == -1).all()
    assert len(found["t"]) == 2  # the path itself left with its first step
    assert found["cell_step"][-1] == 100


def test_the_paths_noise_depends_on_neither_the_map_nor_its_size() -> None:
    ends = [moved(20, temperature=1.0, **size)()[0] for size in ({"has_map": False}, {"n_lr": 2}, {"n_lr": 5})]
    assert ends[0] == ends[1] == ends[2]
    assert ends[0] != moved(20, temperature=1.0, has_map=False, seed=1)()[0]


def test_an_implicit_optimizer_asks_several_times_and_sees_one_noise() -> None:
    module = moved(
        20, temperature=0.5, n_lr=2, n_beta=2, optimizer={"class": "nesterov", "lr": 5.0, "form": "implicit"}
    )
    assert (arrays(module)["basin"] >= 0).all()  # stable where every explicit form diverges


def test_a_resumed_run_equals_one_that_never_stopped(store: Store) -> None:
    options = {"model.n_lr": 3, "model.n_beta": 3, "model.temperature": 0.2, "data.steps": 10, "trainer.max_epochs": 2}
    whole, stopped = (
        run(resolve("paths", overrides={**options, "threads": 1, **stop}), store=store)
        for stop in ({"trainer.max_steps": 20}, {"trainer.max_steps": 7})
    )
    resumed = resume(stopped.run_id, overrides={"trainer.max_steps": 20}, store=store)
    assert (whole.status, resumed.status) == ("FINISHED", "FINISHED")
    with np.load(whole.folder / "paths.npz") as a, np.load(resumed.folder / "paths.npz") as b:
        assert set(a) == set(b)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
    ends = [load_checkpoint(result.folder / "checkpoints" / "last.ckpt")["state_dict"] for result in (whole, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert whole.metrics["val/loss"] == resumed.metrics["val/loss"]


# ---- what is stored -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dim"), [("article", 1), ("double_well", 2)])
def test_arrays_hold_path_solution_landscape_and_map(name: str, dim: int, tmp_path: Path) -> None:
    module = moved(70, landscape=name, n_lr=3, n_beta=4)
    found = arrays(module)
    np.savez_compressed(tmp_path / "paths.npz", **found)  # type: ignore[arg-type]
    assert (tmp_path / "paths.npz").stat().st_size < 2e6
    assert {key: found[key].shape for key in ("t", "theta", "ode_t", "ode_theta", "cell_theta", "basin", "loss")} == {
        "t": (71,), "theta": (71, dim), "ode_t": (281,), "ode_theta": (281, dim), "cell_theta": (3, 4, 36, dim),
        "basin": (3, 4), "loss": (3, 4),
    }  # fmt: skip
    assert found["cell_step"].tolist() == list(range(0, 71, 2))
    assert found["L"].shape == (121,) * dim
    assert ("y" in found) == (dim == 2)
    if dim == 2:
        x, y = torch.tensor(found["x"][5]), torch.tensor(found["y"][90])
        assert found["L"][90, 5] == pytest.approx(float(module.landscape.losses(torch.stack([x, y]))))


def test_a_path_alone_has_no_map() -> None:
    module = moved(5, has_map=False)
    assert set(module.pictures()) == {"path"}
    assert not {"lr", "beta", "basin", "cell_theta"} & set(arrays(module))


def test_an_optimizer_without_momentum_has_a_map_over_lr_alone() -> None:
    module = moved(5, n_lr=4, optimizer={"class": "rmsprop", "lr": 0.01})
    found = arrays(module)
    assert (found["basin"].shape, np.isnan(found["beta"]).tolist()) == ((4, 1), [True])
    assert set(module.pictures()) == {"path", "basins"}


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"landscape": "valley"}, "model.landscape = valley: must be one of double_well"),
        ({"start": [1.0, 2.0]}, "model.start = [1.0, 2.0]: must be 1 number on article; [4.0] is its own"),
        ({"start": [9.0]}, "model.start = [9.0]: must lie in [-0.6, 4.2], the part of article that is drawn"),
        ({"start": [math.nan]}, "model.start = [nan]: must lie in [-0.6, 4.2]"),
        ({"landscape": "ravine", "start": [0.0, 2.0]}, "model.start = [0.0, 2.0]: must lie in [-2, 2] x [-1.5, 1.5]"),
        ({"temperature": -1.0}, "model.temperature = -1.0: must be at least 0 and finite"),
        ({"n_lr": 1}, "model.n_lr = 1: must be at least 2"),
        ({"n_beta": 0}, "model.n_beta = 0: must be at least 2"),
        ({"lr_range": (0.1, 0.01)}, "model.lr_range = [0.1, 0.01]: must rise, from above 0"),
        ({"beta_range": (0.5, 1.0)}, "model.beta_range = [0.5, 1.0]: must rise, within [0, 1)"),
        ({"kappa": 3.0}, "model.kappa = 3: article has none"),
    ],
)
def test_what_no_map_can_be_made_from_is_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        Paths(**settings)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)
