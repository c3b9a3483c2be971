"""RMSprop with epsilon inside the root."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_modules.optimizers.rmsprop import RMSprop, squared_norm
from tests.optimizers.steps import LAYOUTS, descend, flat, follow, parameters, problem


def equation_2(theta: list[Tensor], gradients: list[list[Tensor]], lr: float, beta: float, epsilon: float) -> Tensor:
    """The article's formula, out of place."""
    p = flat(theta)
    G = torch.zeros_like(p)
    for g in map(flat, gradients):
        G = beta * G + (1 - beta) * g * g
        p = p - lr * g / (G + epsilon).sqrt()
    return p


@settings(max_examples=10, deadline=None)
@given(
    beta=st.sampled_from([0.0, 0.3, 0.9, 0.99, 0.999]),
    epsilon=st.sampled_from([1e-12, 1e-8, 1e-3, 1.0]),
    size=st.sampled_from([1e-4, 1.0, 100.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    layout=st.sampled_from(["one tensor", "several", "many"]),
)
def test_steps_are_equation_2_for_gradients_of_all_sizes(
    beta: float, epsilon: float, size: float, dtype: torch.dtype, layout: str
) -> None:
    theta, gradients = problem(LAYOUTS[layout], 100, dtype)
    gradients = [[g * size for g in step] for step in gradients]
    found = follow(RMSprop, theta, gradients, lr=1e-3, beta=beta, epsilon=epsilon)
    expected = equation_2(theta, gradients, 1e-3, beta, epsilon)
    torch.testing.assert_close(flat(found), expected, rtol=2e-6, atol=2e-6)


def test_a_tensor_larger_than_a_block_follows_equation_2() -> None:
    theta, gradients = problem(LAYOUTS["larger than a block"], 4, torch.float32)
    expected = equation_2(theta, gradients, 1e-3, 0.99, 1e-8)
    torch.testing.assert_close(flat(follow(RMSprop, theta, gradients)), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("beta", [0.3, 0.99])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_with_epsilon_outside_the_steps_are_those_of_torch(layout: str, beta: float, dtype: torch.dtype) -> None:
    theta, gradients = problem(LAYOUTS[layout], 4 if layout == "larger than a block" else 100, dtype)
    expected = follow(torch.optim.RMSprop, theta, gradients, lr=1e-3, alpha=beta, eps=1e-8)
    found = follow(RMSprop, theta, gradients, lr=1e-3, beta=beta, epsilon=1e-8, epsilon_place="outside")
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_the_scalar_rate_is_that_of_the_whole_gradient_of_a_group(place: str) -> None:
    theta, gradients = problem(LAYOUTS["several"], 100)
    found = follow(RMSprop, theta, gradients, lr=0.01, beta=0.9, epsilon=1e-3, scale="scalar", epsilon_place=place)
    p, G = flat(theta), 0.0
    for g in map(flat, gradients):
        G = 0.9 * G + 0.1 * float(g @ g)
        p = p - 0.01 * g / (math.sqrt(G + 1e-3) if place == "inside" else math.sqrt(G) + 1e-3)
    torch.testing.assert_close(flat(found), p, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("place", ["inside", "outside"])
def test_half_precision_follows_within_its_rounding(place: str, dtype: torch.dtype) -> None:
    theta, gradients = problem([(50,)], 10, dtype)
    given_settings: dict[str, Any] = {"lr": 0.01, "beta": 0.9, "epsilon": 1e-3, "epsilon_place": place}
    wide = [[tensor.double() for tensor in tensors] for tensors in (theta, *gradients)]
    expected = follow(RMSprop, wide[0], wide[1:], **given_settings)
    torch.testing.assert_close(
        flat(follow(RMSprop, theta, gradients, **given_settings)), flat(expected), rtol=0.03, atol=0.03
    )


def test_the_scalar_rate_goes_on_from_a_state_dict() -> None:
    start, gradients = problem([(3,), (2,)], 4)
    settings: dict[str, Any] = {"lr": 0.01, "scale": "scalar"}
    expected = follow(RMSprop, start, gradients, **settings)
    theta = parameters(start)
    optimizer = RMSprop(theta, **settings)
    for step in gradients:
        state = optimizer.state_dict()
        optimizer = RMSprop(theta, **settings)
        optimizer.load_state_dict(state)
        for p, g in zip(theta, step, strict=True):
            p.grad = g.clone()
        optimizer.step()
    torch.testing.assert_close([p.detach() for p in theta], expected, rtol=0, atol=0)


def test_no_gradient_moves_nothing_at_the_scalar_rate_without_epsilon() -> None:
    (end,) = follow(RMSprop, [torch.ones(2)], [[torch.zeros(2)]], epsilon=0.0, scale="scalar")
    assert end.tolist() == [1, 1]


@pytest.mark.parametrize(("place", "limit"), [("inside", 0.0), ("outside", 5e-4)])
def test_only_epsilon_inside_lets_a_quadratic_converge(place: str, limit: float) -> None:
    # inside it converges where lr h < 2 sqrt(epsilon), as here; outside only where lr h < 2 epsilon: lr / 2 remains
    theta = torch.nn.Parameter(torch.full((1,), 0.02, dtype=torch.float64))
    optimizer = RMSprop([theta], lr=1e-3, beta=0.9, epsilon=1e-8, epsilon_place=place)  # type: ignore[arg-type]
    descend(optimizer, theta, lambda x: 0.1 * x.square().sum() / 2, 600)
    assert abs(theta.item()) == pytest.approx(limit, abs=1e-6)


def test_rare_gradients_leave_no_mean_square_below_zero() -> None:
    (theta,) = parameters([torch.ones(1000)])
    optimizer = RMSprop([theta], lr=1e-3, beta=0.9, epsilon=1e-3)
    for number in range(50):
        theta.grad = torch.full((1000,), 1e-3 if number == 0 else 0.0)
        optimizer.step()
    assert optimizer.state[theta]["G"].min() >= 0


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), max_size=4), max_size=4))
def test_the_squared_norm_is_the_sum_of_all_squares(tensors: list[list[float]]) -> None:
    found = squared_norm([torch.tensor(numbers) for numbers in tensors])
    assert found == pytest.approx(sum(x * x for numbers in tensors for x in numbers), rel=1e-5, abs=1e-30)
