"""Lion against its equation."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_modules.optimizers.lion import Lion
from lightning_modules.optimizers.stepping import BLOCK_ELEMENTS

SHAPES = ((), (0,), (7,), (3, 5), (2, 3, 4), (1, 2, 3, 2))


def noise(steps: int, shape: tuple[int, ...] = (4, 3)) -> Tensor:
    return torch.randn(steps, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def loop(
    theta: Any, gradients: Any, lr: float, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
) -> Any:
    """Algorithm 2 of Chen et al. 2023, number by number, in float64."""
    theta, m, (beta1, beta2) = theta.copy(), np.zeros_like(theta), betas
    for g in gradients:
        c = beta1 * m + (1 - beta1) * g
        theta = theta - lr * (np.sign(c) + weight_decay * theta)
        m = beta2 * m + (1 - beta2) * g
    return theta


def run(optimizer: torch.optim.Optimizer, theta: Tensor, gradients: Tensor) -> Tensor:
    for g in gradients:
        theta.grad = g.to(theta.dtype)
        optimizer.step()
    return theta.detach()


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"betas": (0.0, 0.5)},
        {"betas": (0.95, 0.98), "weight_decay": 0.3},
    ],
)
@pytest.mark.parametrize("maximize", [False, True])
def test_a_hundred_steps_follow_the_equation(chosen: dict[str, Any], maximize: bool) -> None:
    theta, gradients = nn.Parameter(noise(1)[0]), noise(101)[1:]
    expected = loop(theta.detach().numpy(), (-gradients if maximize else gradients).numpy(), 0.01, **chosen)
    found = run(Lion([theta], lr=0.01, maximize=maximize, **chosen), theta, gradients)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    steps=st.integers(1, 4),
)
def test_every_number_moves_by_lr_against_a_gradient_that_keeps_its_sign(
    shape: tuple[int, ...], dtype: torch.dtype, steps: int
) -> None:
    theta, gradients = nn.Parameter(torch.zeros(shape, dtype=dtype)), noise(1, shape).expand(steps, *shape)
    run(Lion([theta], lr=0.125), theta, gradients)  # a power of 2: exact in every dtype
    torch.testing.assert_close(theta.detach(), (-0.125 * steps * gradients[0].sign()).to(dtype), rtol=0, atol=0)


def test_pieces_of_a_large_tensor_and_other_layouts_move_alike() -> None:
    n = 2 * BLOCK_ELEMENTS * torch.get_num_threads() + 3
    start, gradients = noise(1, (n,))[0], noise(5, (n,))
    expected = loop(start.numpy(), gradients.numpy(), 0.1, weight_decay=0.1)
    whole, columns = nn.Parameter(start.clone()), nn.Parameter(start.clone().view(1, n).expand(2, n).clone().t())
    many = [nn.Parameter(piece.clone()) for piece in torch.split(start, n // 50)]
    optimizer = Lion([whole, columns, *many], lr=0.1, weight_decay=0.1)
    assert not columns.is_contiguous()
    for g in gradients:
        whole.grad, columns.grad = g, g.view(n, 1).expand(n, 2)
        for p, piece in zip(many, torch.split(g, n // 50), strict=True):
            p.grad = piece
        optimizer.step()
    for found in (whole, columns[:, 0], columns[:, 1], torch.cat([*many])):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_a_run_continued_from_its_state_is_the_same_run() -> None:
    straight, broken = nn.Parameter(noise(1)[0].float()), nn.Parameter(noise(1)[0].float())
    run(Lion([straight], lr=0.01), straight, noise(20))
    first = Lion([broken], lr=0.01)
    run(first, broken, noise(20)[:7])
    torch.save(first.state_dict(), kept := io.BytesIO())
    second = Lion([broken], lr=0.5)
    second.load_state_dict(torch.load(io.BytesIO(kept.getvalue()), weights_only=True))
    run(second, broken, noise(20)[7:])
    assert torch.equal(straight, broken)


def test_parameters_without_gradient_stay() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = Lion([used, unused], lr=0.5, weight_decay=0.1)
    run(optimizer, used, torch.ones(1, 2))
    assert unused.tolist() == [1, 1]
    assert unused not in optimizer.state


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"betas": (0.9, 1.0)}, r"optimizer.betas = \[0.9, 1.0\]: each must lie in \[0, 1\)"),
        ({"weight_decay": -1.0}, "optimizer.weight_decay = -1.0: must be at least 0"),
        ({"lr": float("nan")}, "optimizer.lr = nan: must be"),
    ],
)
def test_settings_it_cannot_use_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lion([nn.Parameter(torch.ones(1))], **chosen)
