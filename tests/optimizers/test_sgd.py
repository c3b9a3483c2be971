"""Euler's steps."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_modules.optimizers.sgd import SGD
from tests.optimizers.steps import LAYOUTS, descend, follow, is_stable, order, problem


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_steps_are_those_of_torch(layout: str, dtype: torch.dtype) -> None:
    theta, gradients = problem(LAYOUTS[layout], 5 if layout == "larger than a block" else 100, dtype)
    expected = follow(torch.optim.SGD, theta, gradients, lr=0.03, weight_decay=0.0)
    torch.testing.assert_close(follow(SGD, theta, gradients, lr=0.03), expected, rtol=1e-6, atol=1e-6)


def test_the_steps_follow_the_gradient_flow_to_first_order() -> None:
    errors = []
    for n_steps in (100, 200, 400):
        theta = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        descend(SGD([theta], lr=1 / n_steps), theta, lambda x: x.square().sum() / 2, n_steps)
        errors.append(abs(theta.item() - math.exp(-1)))
    assert order(errors) == pytest.approx(1, abs=0.02)


def test_steps_on_a_quadratic_are_stable_below_two_over_its_curvature() -> None:
    assert is_stable(SGD, 1.99)
    assert not is_stable(SGD, 2.01)
