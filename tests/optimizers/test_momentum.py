"""Leapfrog steps and torch's form of momentum."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.optimizers.conversions import alpha_beta
from lightning_modules.optimizers.momentum import Momentum
from tests.optimizers.steps import LAYOUTS, descend, flat, follow, is_stable, order, parameters, problem


def equation_16(theta: list[Tensor], gradients: list[list[Tensor]], lr: float, beta: float, half: bool) -> Tensor:
    """The article's formula in float64, out of place."""
    p = flat(theta)
    v = lr * flat(gradients[0]) / (1 + beta) if half else torch.zeros_like(p)
    for g in map(flat, gradients):
        v = beta * v - lr * g
        p = p + v
    return p


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("half", [False, True])
def test_leapfrog_steps_are_equation_16(layout: str, dtype: torch.dtype, half: bool) -> None:
    theta, gradients = problem(LAYOUTS[layout], 5 if layout == "larger than a block" else 100, dtype)
    found = follow(Momentum, theta, gradients, lr=0.003, beta=0.9, half_step_start=half)
    expected = equation_16(theta, gradients, 0.003, 0.9, half)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(flat(found), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("form", ["torch", "leapfrog"])
@pytest.mark.parametrize("beta", [0.9, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_forms_step_as_torch_at_a_constant_rate(form: str, beta: float, dtype: torch.dtype) -> None:
    theta, gradients = problem(LAYOUTS["several"], 100, dtype)
    expected = follow(torch.optim.SGD, theta, gradients, lr=0.003, momentum=beta)
    found = follow(Momentum, theta, gradients, lr=0.003, beta=beta, form=form)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("lr", [1e-9, 1e-6, 1.0])
def test_rates_of_all_sizes_lose_no_digits(lr: float) -> None:
    _, gradients = problem([(5,)], 10, torch.float32)
    start = [torch.zeros(5)]
    found = follow(Momentum, start, gradients, lr=lr, beta=0.9)[0] / lr
    expected = equation_16(start, gradients, 1.0, 0.9, False).float()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["torch", "leapfrog"])
def test_half_precision_follows_within_its_rounding(form: str, dtype: torch.dtype) -> None:
    theta, gradients = problem([(50,)], 10, dtype)
    found = follow(Momentum, theta, gradients, lr=0.05, beta=0.9, form=form)
    torch.testing.assert_close(flat(found), equation_16(theta, gradients, 0.05, 0.9, False), rtol=0.03, atol=0.03)


def test_only_torchs_form_rescales_the_velocity_when_the_rate_changes() -> None:
    ends = {}
    for form in ("leapfrog", "torch"):
        (theta,) = parameters([torch.zeros(1)])
        optimizer = Momentum([theta], lr=1.0, beta=0.5, form=form)
        for lr in (1.0, 0.1):
            optimizer.param_groups[0]["lr"] = lr
            theta.grad = torch.ones(1)
            optimizer.step()
        ends[form] = round(theta.item(), 5)
    assert ends == {"leapfrog": -1.6, "torch": -1.15}


@pytest.mark.parametrize(("half", "expected"), [(False, 1), (True, 2)])
def test_the_order_is_two_with_the_half_step_start_and_else_one(half: bool, expected: int) -> None:
    friction, errors = 1.0, []
    omega = math.sqrt(1 - friction**2 / 4)  # theta'' + friction theta' + theta = 0, from 1 at rest
    for n_steps in (100, 200, 400):
        theta = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimizer = Momentum([theta], friction=friction, time_step=2 / n_steps, half_step_start=half)
        descend(optimizer, theta, lambda x: x.square().sum() / 2, n_steps)
        exact = math.exp(-friction) * (math.cos(2 * omega) + friction / 2 / omega * math.sin(2 * omega))
        errors.append(abs(theta.item() - exact))
    assert order(errors) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_steps_are_stable_below_twice_one_plus_beta(beta: float) -> None:
    limit = 2 * (1 + beta)
    assert is_stable(Momentum, 0.99 * limit, beta=beta)
    assert not is_stable(Momentum, 1.01 * limit, beta=beta)


def test_friction_and_time_step_give_rate_and_beta() -> None:
    optimizer = Momentum(parameters([torch.ones(1)]), friction=0.7, time_step=0.2)
    assert (optimizer.defaults["lr"], optimizer.defaults["beta"]) == alpha_beta(0.7, 0.2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.1, "friction": 1.0, "time_step": 0.1}, r"optimizer\.lr = 0\.1: must be left out where friction and"),
        ({"beta": 0.9, "friction": 1.0, "time_step": 0.1}, r"optimizer\.beta = 0\.9: must be left out"),
        ({"friction": 1.0}, r"optimizer\.time_step is missing: friction and time_step go together"),
        ({"time_step": 0.1}, r"optimizer\.friction is missing"),
        ({"friction": 50.0, "time_step": 0.1}, r"optimizer\.friction = 50\.0: must lie in \[0, 2 / time_step\]"),
        ({"friction": 0.0, "time_step": 0.1}, r"optimizer\.beta = 1\.0: must lie in \[0, 1\)"),
        ({"beta": -0.1}, r"optimizer\.beta = -0\.1: must lie in \[0, 1\)"),
        ({"form": "keras"}, r"optimizer\.form = keras: must be one of leapfrog, torch"),
        ({"half_step_start": True, "form": "torch"}, r"optimizer\.half_step_start = True: needs form = leapfrog"),
    ],
)
def test_settings_that_contradict_or_lie_outside_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Momentum(parameters([torch.ones(1)]), **settings)
