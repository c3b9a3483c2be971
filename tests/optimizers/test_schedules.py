"""Schedules: their closed forms, what the optimizer sees of them, and the momentum that follows the rate."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.data.loader import TensorLoader
from lightning_modules.optimizers import SCHEDULES, configure
from lightning_modules.optimizers.schedules import Constant, Cosine, MomentumScaling, Recipe, Step, Warmup
from lightning_modules.parts import load_class

SGD = {"class": "torch.SGD", "lr": 0.4, "momentum": 0.9}


def weights() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))


def seen(optimizer: dict[str, Any], schedule: dict[str, Any], n_steps: int, *keys: str) -> list[tuple[Any, ...]]:
    """The group's values at each step."""
    both = configure([weights()], optimizer, schedule)
    found = []
    for _ in range(n_steps):
        found.append(tuple(both["optimizer"].param_groups[0][key] for key in keys))
        both["optimizer"].step()
        both["lr_scheduler"]["scheduler"].step()
    return found


@given(st.integers(1, 1000), st.integers(0, 2000))
def test_warmup_rises_by_one_share_a_step_and_stays(steps: int, step: int) -> None:
    assert Warmup(steps)(step) == pytest.approx(min(step + 1, steps) / steps, rel=1e-12)


@given(warmup=st.integers(0, 20), length=st.integers(1, 50), final=st.floats(0, 1), step=st.integers(0, 200))
def test_cosine_lies_between_zero_and_one_and_ends_at_its_share(
    warmup: int, length: int, final: float, step: int
) -> None:
    factor = Cosine(warmup, final, warmup + length)
    assert -1e-12 <= factor(step) <= 1 + 1e-12
    assert factor(warmup) == pytest.approx(1)
    assert factor(warmup + length + step) == pytest.approx(final)


def test_cosine_is_torchs_cosine_annealing() -> None:
    optimizer = torch.optim.SGD([weights()], lr=1.0)
    theirs, ours = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30, eta_min=0.2), Cosine(0, 0.2, 30)
    for step in range(30):
        assert ours(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()


@given(st.integers(1, 50), st.floats(0.1, 1), st.integers(0, 500))
def test_step_drops_by_its_factor_every_so_often(every: int, gamma: float, step: int) -> None:
    assert Step(every, gamma)(step) == pytest.approx(math.prod([gamma] * (step // every)), rel=1e-9)


@given(st.floats(0.01, 1), st.integers(1, 1000), st.integers(0, 3000))
def test_the_recipes_rate_has_a_reciprocal_that_grows_evenly(final: float, steps: int, step: int) -> None:
    factor = Recipe(final, steps)
    assert factor(0) == 1
    assert factor(steps) == pytest.approx(final)
    assert 1 / factor(step + 1) - 1 / factor(step) == pytest.approx((1 / final - 1) / steps, abs=1e-9)


SCHEDULED = [
    ({"class": "warmup", "steps": 4}, lambda n: min((n + 1) / 4, 1)),
    ({"class": "step", "every": 2, "gamma": 0.5}, lambda n: 0.5 ** (n // 2)),
    ({"class": "cosine", "steps": 8}, lambda n: (1 + math.cos(math.pi * n / 8)) / 2),
    ({"class": "recipe", "final_fraction": 0.2, "steps": 8}, lambda n: 1 / (1 + n / 2)),
    ({"class": "cosine", "steps": 8, "final_fraction": 0.1}, lambda n: 0.1 + 0.45 * (1 + math.cos(math.pi * n / 8))),
]


@pytest.mark.parametrize(("schedule", "law"), SCHEDULED)
def test_the_rate_of_every_step_is_the_closed_form(schedule: dict[str, Any], law: Any) -> None:
    rates = [rate for (rate,) in seen(SGD, schedule, 8, "lr")]
    assert rates == pytest.approx([0.4 * law(step) for step in range(8)], rel=1e-12)


@pytest.mark.parametrize(
    ("schedule", "law"), [each for each in SCHEDULED if each[0] != {"class": "cosine", "steps": 8}]
)
@pytest.mark.parametrize(
    ("optimizer", "key"),
    [
        (SGD, "momentum"),
        ({"class": "torch.Adam", "lr": 0.4, "betas": [0.9, 0.99]}, "betas"),
        ({"class": "momentum", "lr": 0.4, "beta": 0.9}, "beta"),
        ({"class": "nesterov", "lr": 0.4, "beta": 0.9}, "beta"),
        ({"class": "adafactor", "lr": 0.4, "beta1": 0.9}, "beta1"),
    ],
)
def test_one_minus_beta_follows_the_root_of_the_rate(
    schedule: dict[str, Any], law: Any, optimizer: dict[str, Any], key: str
) -> None:
    pairs = seen(optimizer, {**schedule, "scale_momentum": True}, 8, "lr", key)
    betas = [value[0] if key == "betas" else value for _, value in pairs]
    assert [rate for rate, _ in pairs] == pytest.approx([0.4 * law(step) for step in range(8)], rel=1e-12)
    assert betas == pytest.approx([1 - 0.1 * math.sqrt(law(step)) for step in range(8)], rel=1e-12)
    assert key != "betas" or {value[1] for _, value in pairs} == {0.99}


def test_scaled_momentum_follows_the_same_newtonian_motion() -> None:
    """Of theta'' = -lambda theta' - theta, in steps of sqrt(lr): with a quarter of the rate after twice the steps."""

    def path(ratio: float, scaled: bool) -> list[float]:
        theta = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        beta = 1 - 0.05 * math.sqrt(ratio) if scaled else 0.95
        optimizer = torch.optim.SGD([theta], lr=1e-4 * ratio, momentum=beta)
        found = []
        for _ in range(round(400 / math.sqrt(ratio))):
            theta.grad = theta.detach().clone()
            optimizer.step()
            found.append(theta.item())
        return found[:: round(1 / math.sqrt(ratio))]

    def gap(scaled: bool) -> float:
        return max(abs(a - b) for a, b in zip(path(1.0, True), path(0.25, scaled), strict=True))

    assert gap(scaled=True) < 0.02 < 0.2 < gap(scaled=False)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"class": "torch.SGD", "lr": 0.1},
        {"class": "torch.Adagrad", "lr": 0.1},
        {"class": "torch.RMSprop", "lr": 0.1},
        {"class": "adafactor", "lr": 0.1},
        {"class": "sgd", "lr": 0.1},
        {"class": "rmsprop", "lr": 0.1},
    ],
)
def test_an_optimizer_without_momentum_is_refused_by_name(optimizer: dict[str, Any]) -> None:
    message = f"schedule.scale_momentum = true: {optimizer['class']} has no momentum to scale; leave it out, or use"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        configure([weights()], optimizer, {"class": "step", "scale_momentum": True})


def test_groups_keep_momenta_of_their_own() -> None:
    groups: list[dict[str, Any]] = [{"params": [weights()], "momentum": 0.5}, {"params": [weights()]}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    MomentumScaling(optimizer, lambda step: 0.25)
    assert [group["momentum"] for group in optimizer.param_groups] == pytest.approx([0.75, 0.95])


def test_where_the_rate_is_zero_the_momentum_stays() -> None:
    optimizer = torch.optim.SGD([weights()], lr=0.1, momentum=0.9)
    scheduler = MomentumScaling(optimizer, lambda step: 0.25 if step == 0 else 0.0)
    optimizer.step()
    scheduler.step()
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (0.0, pytest.approx(0.95))


def test_a_restored_scheduler_goes_on_as_the_one_that_was_saved() -> None:
    chosen = {"class": "recipe", "steps": 10, "scale_momentum": True}
    whole = configure([weights()], SGD, chosen)
    for _ in range(3):
        whole["optimizer"].step()
        whole["lr_scheduler"]["scheduler"].step()
    state = copy.deepcopy([whole["optimizer"].state_dict(), whole["lr_scheduler"]["scheduler"].state_dict()])
    again = configure([weights()], {**SGD, "lr": 9.0, "momentum": 0.1}, chosen)
    again["optimizer"].load_state_dict(state[0])
    again["lr_scheduler"]["scheduler"].load_state_dict(state[1])
    for _ in range(3):
        pair = [each["optimizer"].param_groups[0] for each in (whole, again)]
        assert (pair[0]["lr"], pair[0]["momentum"]) == (pair[1]["lr"], pair[1]["momentum"])
        for each in (whole, again):
            each["optimizer"].step()
            each["lr_scheduler"]["scheduler"].step()


class Watched(pl.LightningModule):
    """Keeps lr and momentum of every optimizer step that Lightning takes."""

    def __init__(self, schedule: dict[str, Any]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.schedule = schedule
        self.steps: list[tuple[float, float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = (self.weight * batch[0]).mean()
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        group = optimizer.param_groups[0]
        self.steps.append((group["lr"], group["momentum"]))

    def configure_optimizers(self) -> Any:
        return configure(self.parameters(), SGD, self.schedule)


def test_lightning_steps_with_the_scheduled_rate_across_epochs_and_windows() -> None:
    module = Watched({"class": "recipe", "final_fraction": 0.5, "steps": 6, "scale_momentum": True})
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        accumulate_grad_batches=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, TensorLoader((torch.arange(10.0),), 2))  # windows of 2, 2 and 1 batches
    factors = [1 / (1 + step / 6) for step in range(6)]
    expected = [(0.4 * factor, 1 - 0.1 * math.sqrt(factor)) for factor in factors]
    assert module.steps == [pytest.approx(pair, rel=1e-12) for pair in expected]


@pytest.mark.parametrize("kind", [Cosine, Recipe])
def test_a_schedule_without_length_says_what_it_needs(kind: type[Any]) -> None:
    with pytest.raises(ValueError, match=r"schedule\.steps is not set"):
        kind()(0)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Warmup, {"steps": 0}, "schedule.steps = 0: must be at least 1"),
        (Cosine, {"warmup_steps": -1}, "schedule.warmup_steps = -1: must be at least 0"),
        (Cosine, {"final_fraction": 2.0}, "schedule.final_fraction = 2.0: must lie in [0, 1]"),
        (
            Cosine,
            {"scale_momentum": True},
            "schedule.final_fraction = 0: must be greater than 0 with schedule.scale_mom",
        ),
        (Cosine, {"warmup_steps": 5, "steps": 5}, "schedule.steps = 5: must exceed schedule.warmup_steps = 5"),
        (Step, {"every": 0}, "schedule.every = 0: must be at least 1"),
        (Step, {"gamma": 0.0}, "schedule.gamma = 0.0: must lie in (0, 1]"),
        (Recipe, {"final_fraction": 0.0}, "schedule.final_fraction = 0.0: must lie in (0, 1]"),
        (Recipe, {"steps": 0}, "schedule.steps = 0: must be at least 1"),
    ],
)
def test_schedules_refuse_what_they_cannot_draw(kind: type[Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        kind(**settings)


def test_every_named_schedule_can_be_loaded() -> None:
    assert {load_class(name, SCHEDULES) for name in SCHEDULES} == {Constant, Warmup, Cosine, Step, Recipe}


def test_the_schedule_of_a_users_own_file_may_scale_momentum_too(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "class Mine:\n    scale_momentum = True\n\n    def __call__(self, step: int) -> float:\n        return 0.25\n"
    )
    (pair,) = seen(SGD, {"class": f"{tmp_path / 'mine.py'}:Mine"}, 1, "lr", "momentum")
    assert pair == pytest.approx((0.1, 0.95))
