"""The root of a gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_modules.optimizers.solving import solve


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 12), st.floats(0, 3))
def test_a_linear_system_is_solved_as_by_elimination(seed: int, size: int, digits: float) -> None:
    draws = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(size, size, generator=draws, dtype=torch.float64))[0]
    matrix = rotation @ torch.diag(torch.logspace(0, digits, size, dtype=torch.float64)) @ rotation.T
    target, start = torch.randn(2, size, generator=draws, dtype=torch.float64)
    u, solved = solve(lambda u: matrix @ u - target, start, matrix @ start - target, start, 1e-9, 2000)
    assert solved
    torch.testing.assert_close(u, torch.linalg.solve(matrix, target), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pull", [1e-3, 1e-1, 1.0])
def test_rosenbrocks_valley_is_left_by_an_implicit_step(pull: float) -> None:
    start, calls = torch.tensor([-1.2, 1.0]), []

    def residual(u: Tensor) -> Tensor:
        calls.append(u)
        x, y = u
        return u - start + pull * torch.stack([2 * (x - 1) - 400 * x * (y - x * x), 200 * (y - x * x)])

    u, solved = solve(residual, start, residual(start), start, 1e-5, 100)
    assert solved
    assert len(calls) < 60
    assert residual(u).norm() < 1e-3
