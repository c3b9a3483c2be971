"""AdaGrad."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.optimizers.adagrad import AdaGrad
from tests.optimizers.steps import LAYOUTS, flat, follow, problem


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_steps_are_those_of_torch_and_of_the_formula(layout: str, dtype: torch.dtype) -> None:
    theta, gradients = problem(LAYOUTS[layout], 4 if layout == "larger than a block" else 100, dtype)
    found = follow(AdaGrad, theta, gradients, lr=0.01, initial=0.1, epsilon=1e-6)
    theirs = follow(torch.optim.Adagrad, theta, gradients, lr=0.01, initial_accumulator_value=0.1, eps=1e-6)
    torch.testing.assert_close(found, theirs, rtol=1e-6, atol=1e-6)
    p = flat(theta)
    G = torch.full_like(p, 0.1)
    for g in map(flat, gradients):
        G = G + g * g
        p = p - 0.01 * g / (G.sqrt() + 1e-6)
    torch.testing.assert_close(flat(found), p, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_follows_within_its_rounding(dtype: torch.dtype) -> None:
    theta, gradients = problem([(50,)], 10, dtype)
    found = follow(AdaGrad, theta, gradients, lr=0.1, initial=0.1)
    wide = [[tensor.double() for tensor in tensors] for tensors in (theta, *gradients)]
    expected = follow(AdaGrad, wide[0], wide[1:], lr=0.1, initial=0.1)
    torch.testing.assert_close(flat(found), flat(expected), rtol=0.03, atol=0.03)


def test_memory_read_against_its_order_takes_the_same_steps() -> None:
    theta, gradients = problem([(4, 3)], 20)
    transposed = [[tensor.t().contiguous().t() for tensor in tensors] for tensors in (theta, *gradients)]
    found = follow(AdaGrad, transposed[0], transposed[1:])
    torch.testing.assert_close(found, follow(AdaGrad, theta, gradients), rtol=1e-12, atol=1e-12)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"optimizer\.initial = -1: must be at least 0 and finite"):
        AdaGrad([torch.nn.Parameter(torch.ones(1))], initial=-1)
    with pytest.raises(ValueError, match=r"optimizer\.epsilon = -1: must be at least 0 and finite"):
        AdaGrad([torch.nn.Parameter(torch.ones(1))], epsilon=-1)
