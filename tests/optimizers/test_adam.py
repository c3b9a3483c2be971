"""Adam with epsilon in either place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_modules.optimizers.adam import Adam
from tests.optimizers.steps import LAYOUTS, flat, follow, problem


def algorithm_1(theta: list[Tensor], gradients: list[list[Tensor]], lr: float, epsilon: float, place: str) -> Tensor:
    """The paper's formula in float64, out of place, with its betas."""
    p = flat(theta)
    m, G = torch.zeros_like(p), torch.zeros_like(p)
    for n, g in enumerate(map(flat, gradients), start=1):
        m, G = 0.9 * m + 0.1 * g, 0.999 * G + 0.001 * g * g
        first, second = m / (1 - 0.9**n), G / (1 - 0.999**n)
        root = (second + epsilon).sqrt() if place == "inside" else second.sqrt() + epsilon
        p = p - lr * first / root
    return p


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("place", ["inside", "outside"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_steps_are_algorithm_1_with_either_epsilon(layout: str, place: str, dtype: torch.dtype) -> None:
    theta, gradients = problem(LAYOUTS[layout], 4 if layout == "larger than a block" else 100, dtype)
    found = follow(Adam, theta, gradients, lr=1e-3, epsilon=1e-3, epsilon_place=place)
    expected = algorithm_1(theta, gradients, 1e-3, 1e-3, place)
    torch.testing.assert_close(flat(found), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_with_epsilon_outside_the_steps_are_those_of_torch(layout: str, dtype: torch.dtype) -> None:
    theta, gradients = problem(LAYOUTS[layout], 4 if layout == "larger than a block" else 100, dtype)
    for decay in (0.0, 0.1):
        expected = follow(torch.optim.AdamW, theta, gradients, lr=1e-3, weight_decay=decay, foreach=False)
        found = follow(Adam, theta, gradients, lr=1e-3, weight_decay=decay)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_torchs_kernel_and_our_operations_agree() -> None:
    theta, gradients = problem([(4, 3)], 100)
    transposed = [[tensor.t().contiguous().t() for tensor in tensors] for tensors in (theta, *gradients)]
    found = follow(Adam, transposed[0], transposed[1:])
    torch.testing.assert_close(found, follow(Adam, theta, gradients), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("place", ["inside", "outside"])
def test_half_precision_follows_within_its_rounding(dtype: torch.dtype, place: str) -> None:
    theta, gradients = problem([(50,)], 10, dtype)
    found = follow(Adam, theta, gradients, lr=0.01, epsilon=1e-4, epsilon_place=place)
    expected = algorithm_1(theta, gradients, 0.01, 1e-4, place)
    torch.testing.assert_close(flat(found), expected, rtol=0.03, atol=0.03)


def test_betas_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"optimizer\.betas = \[0\.9, 1\.0\]: each must lie in \[0, 1\)"):
        Adam([torch.nn.Parameter(torch.ones(1))], betas=(0.9, 1.0))
