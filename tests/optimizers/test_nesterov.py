"""The three forms of Nesterov's momentum."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.optimizers.nesterov import Nesterov
from tests.optimizers.steps import LAYOUTS, descend, follow, is_stable, order, parameters, problem

TIGHT: dict[str, Any] = {"form": "implicit", "tolerance": 1e-12}


def half_square(x: Tensor) -> Tensor:
    return x.square().sum() / 2


@pytest.mark.parametrize(("form", "share"), [("standard", 1.0), ("half", 0.5)])
def test_the_parameters_hold_the_point_of_the_gradient(form: str, share: float) -> None:
    h = torch.linspace(0.1, 3, 8, dtype=torch.float64)
    theta, v = torch.ones(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    shifted = torch.nn.Parameter(theta.clone())
    optimizer = Nesterov([shifted], lr=0.1, beta=0.9, form=form)  # type: ignore[arg-type]
    descend(optimizer, shifted, lambda x: (h * x.square()).sum() / 2, 100)
    for _ in range(100):
        v = 0.9 * v - 0.1 * h * (theta + share * 0.9 * v)  # equation (20), and with 2 in place of 1/2
        theta = theta + v
    torch.testing.assert_close(optimizer.unshifted(shifted), theta, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(shifted.detach(), theta + share * 0.9 * v, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_standard_form_steps_as_torch_at_a_constant_rate(layout: str, dtype: torch.dtype) -> None:
    theta, gradients = problem(LAYOUTS[layout], 5 if layout == "larger than a block" else 100, dtype)
    expected = follow(torch.optim.SGD, theta, gradients, lr=0.003, momentum=0.9, nesterov=True)
    torch.testing.assert_close(follow(Nesterov, theta, gradients, lr=0.003, beta=0.9), expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("lr", [0.1, 10.0, 1000.0])
def test_the_implicit_form_solves_equation_19(lr: float) -> None:
    h = torch.tensor([1.0, 0.1], dtype=torch.float64)
    theta, v = torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    p = torch.nn.Parameter(theta.clone())
    optimizer = Nesterov([p], lr=lr, beta=0.9, **TIGHT)
    descend(optimizer, p, lambda x: (h * x.square()).sum() / 2, 20)
    for _ in range(20):
        v = (0.9 * v - lr * h * theta) / (1 + lr * h / 2)
        theta = theta + v
    torch.testing.assert_close(p.detach(), theta, rtol=1e-7, atol=1e-9)
    assert optimizer.unsolved_steps == 0


def test_groups_of_different_rates_are_solved_together() -> None:
    p, q = parameters([torch.ones(1, dtype=torch.float64), torch.ones(2, dtype=torch.float64)])
    groups = [{"params": [p], "lr": 5.0}, {"params": [q], "lr": 0.2}]
    optimizer = Nesterov(groups, **TIGHT)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = ((p - q.sum()) ** 2 + q.square().sum()).sum() / 2
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)
    middle = [(x.detach() + 1) / 2 for x in (p, q)]
    slopes = middle[0] - middle[1].sum(), middle[1] - (middle[0] - middle[1].sum())
    torch.testing.assert_close(p.detach() - 1, -5.0 * slopes[0])
    torch.testing.assert_close(q.detach() - 1, -0.2 * slopes[1])


@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_the_explicit_forms_have_the_narrower_stability_limits(beta: float) -> None:
    for form, limit in (("standard", 2 * (1 + beta) / (1 + 2 * beta)), ("half", 2.0)):
        assert is_stable(Nesterov, 0.99 * limit, beta=beta, form=form)
        assert not is_stable(Nesterov, 1.01 * limit, beta=beta, form=form)


def test_the_implicit_form_is_stable_at_a_thousand() -> None:
    assert is_stable(Nesterov, 1000.0, beta=0.9, form="implicit")


@pytest.mark.parametrize(("form", "n"), [("standard", 400), ("half", 400), ("implicit", 100)])
def test_every_form_is_of_first_order(form: str, n: int) -> None:
    errors = []
    omega = math.sqrt(3) / 2  # theta'' + theta' + theta = 0, from 1 at rest
    exact = math.exp(-1) * (math.cos(2 * omega) + math.sin(2 * omega) / 2 / omega)
    for n_steps in (n, 2 * n):
        step = 2 / n_steps
        theta = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimizer = Nesterov([theta], lr=step**2, beta=1 - step, form=form, tolerance=1e-8)  # type: ignore[arg-type]
        descend(optimizer, theta, half_square, n_steps)
        errors.append(abs(optimizer.unshifted(theta).item() - exact))
    assert order(errors) == pytest.approx(1, abs=0.1)


def test_an_equation_not_solved_in_time_is_counted_and_told() -> None:
    (theta,) = parameters([torch.tensor([-1.2, 1.0])])
    optimizer = Nesterov([theta], lr=1.0, form="implicit", max_evaluations=2)
    with pytest.warns(UserWarning, match="before its equation was solved; a smaller lr or larger max_evaluations"):
        descend(optimizer, theta, lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2, 1)
    assert optimizer.unsolved_steps == 1


def test_the_implicit_form_ascends_decays_and_leaves_alone_what_has_no_gradient() -> None:
    (down, idle), (up, _) = (parameters([torch.ones(2, dtype=torch.float64), torch.ones(1)]) for _ in range(2))
    for p, sign in ((down, 1), (up, -1)):
        others = [idle] if p is down else []
        optimizer = Nesterov([p, *others], lr=0.5, weight_decay=0.2, maximize=sign < 0, **TIGHT)
        descend(optimizer, p, lambda x, sign=sign: sign * half_square(x), 1)  # type: ignore[misc]
    start = (1 - 0.5 * 0.2) * torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(down.detach(), start - 0.5 * start / 1.25)
    torch.testing.assert_close(up, down, rtol=0, atol=1e-12)
    assert idle.item() == 1


def test_at_rate_zero_the_implicit_form_drifts_with_its_velocity() -> None:
    (theta,) = parameters([torch.ones(1, dtype=torch.float64)])
    optimizer = Nesterov([theta], lr=0.5, beta=0.5, **TIGHT)
    descend(optimizer, theta, half_square, 1)
    v = theta.item() - 1
    optimizer.param_groups[0]["lr"] = 0.0
    descend(optimizer, theta, half_square, 1)
    assert theta.item() == pytest.approx(1 + 1.5 * v)


def test_a_loss_that_is_not_finite_is_skipped_or_spreads() -> None:
    for skip in (True, False):
        (theta,) = parameters([torch.ones(1)])
        optimizer = Nesterov([theta], form="implicit", skip_nonfinite=skip)
        descend(optimizer, theta, lambda x: (x * math.nan).sum(), 1)
        assert theta.isnan().item() is not skip
        assert optimizer.skipped_steps == skip


def test_the_implicit_form_says_what_it_needs() -> None:
    p, q = parameters([torch.ones(1), torch.ones(1)])
    with pytest.raises(ValueError, match=r"optimizer\.form = implicit: step needs a closure that returns the loss"):
        Nesterov([p], form="implicit").step()
    mixed = Nesterov([{"params": [p]}, {"params": [q], "form": "half"}], form="implicit")
    with pytest.raises(ValueError, match="all must be implicit, or none"):
        mixed.step(lambda: torch.ones(1))
    with pytest.raises(ValueError, match=r"optimizer\.max_evaluations = 1: must be at least 2"):
        Nesterov([p], max_evaluations=1)
    with pytest.raises(ValueError, match=r"optimizer\.tolerance = 0: must be greater than 0"):
        Nesterov([p], tolerance=0)
    with pytest.raises(ValueError, match=r"optimizer\.form = full: must be one of standard, half, implicit"):
        Nesterov([p], form="full")  # type: ignore[arg-type]
