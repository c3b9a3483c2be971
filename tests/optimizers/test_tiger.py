"""Tiger against its equations."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_modules.optimizers.lion import Lion
from lightning_modules.optimizers.stepping import BLOCK_ELEMENTS
from lightning_modules.optimizers.tiger import Tiger


def noise(steps: int, shape: tuple[int, ...] = (4, 3)) -> Tensor:
    return torch.randn(steps, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def loop(
    theta: Any, gradients: Any, lr: float, beta: float = 0.965, weight_decay: float = 0.0, k: int = 1, relative: Any = 0
) -> Any:
    """Equation (5) of kexue.fm/archives/9512, with (2) and (4) if `relative`, in float64."""
    theta, m = theta.copy(), np.zeros_like(theta)
    for t, g in enumerate(gradients, 1):
        m = ((beta - 1) * ((t - 1) % k == 0) + 1) * m + (1 - beta) / k * g
        eta, lam = lr, weight_decay
        if relative:
            eta, lam = (lr * np.sqrt(np.mean(theta**2)), lam) if theta.ndim > 1 else (0.5 * lr, 0)
        theta = theta - (t % k == 0) * eta * (np.sign(m) + lam * theta)
    return theta


def run(optimizer: torch.optim.Optimizer, theta: Tensor, gradients: Tensor) -> Tensor:
    for g in gradients:
        theta.grad = g.to(theta.dtype)
        optimizer.step()
    return theta.detach()


@pytest.mark.parametrize("chosen", [{}, {"beta": 0.0}, {"beta": 0.5, "weight_decay": 0.3}])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("maximize", [False, True])
def test_a_hundred_steps_follow_the_equation(chosen: dict[str, Any], k: int, maximize: bool) -> None:
    theta, gradients = nn.Parameter(noise(1)[0]), noise(101)[1:]
    expected = loop(theta.detach().numpy(), (-gradients if maximize else gradients).numpy(), 0.01, k=k, **chosen)
    optimizer = Tiger([theta], lr=0.01, accumulation=k, maximize=maximize, **chosen)
    np.testing.assert_allclose(run(optimizer, theta, gradients).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("shape", [(), (5,), (4, 3), (2, 3, 2)])
def test_relative_rates_follow_the_size_of_a_matrix_and_spare_vectors_the_decay(k: int, shape: tuple[int, ...]) -> None:
    theta, gradients = nn.Parameter(noise(1, shape)[0]), noise(101, shape)[1:]
    expected = loop(theta.detach().numpy(), gradients.numpy(), 0.01, 0.965, 0.2, k, relative=True)
    optimizer = Tiger([theta], lr=0.01, weight_decay=0.2, accumulation=k, scale_parameter=True)
    np.testing.assert_allclose(run(optimizer, theta, gradients).numpy(), expected, rtol=1e-12)


def test_it_is_lion_with_equal_betas() -> None:
    ours, lions = (nn.Parameter(noise(1)[0]) for _ in range(2))
    run(Tiger([ours], lr=0.01, beta=0.9, weight_decay=0.1), ours, noise(50))
    run(Lion([lions], lr=0.01, betas=(0.9, 0.9), weight_decay=0.1), lions, noise(50))
    torch.testing.assert_close(ours, lions, rtol=1e-12, atol=0)


@settings(max_examples=30, deadline=None)
@given(
    has_gradient=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=12, max_size=12),
    k=st.sampled_from([2, 3, 4]),
    relative=st.booleans(),
)
def test_a_window_is_one_step_with_its_mean_gradient(
    has_gradient: Sequence[tuple[bool, ...]], k: int, relative: bool
) -> None:
    chosen: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1, "scale_parameter": relative}
    shapes = [(2, 3), (3,), (2, 2)]
    inside, outside = ([nn.Parameter(noise(1, shape)[0]) for shape in shapes] for _ in range(2))
    optimizers = Tiger(inside, accumulation=k, **chosen), Tiger(outside, **chosen)
    gradients = [noise(len(has_gradient), shape) for shape in shapes]
    for t, present in enumerate(has_gradient):
        for i, g in enumerate(gradients):
            inside[i].grad = g[t] if present[i] else None
            if present[i]:
                before = outside[i].grad
                outside[i].grad = g[t] / k if before is None else before + g[t] / k
        optimizers[0].step()
        if (t + 1) % k == 0:
            optimizers[1].step()
            optimizers[1].zero_grad()
            torch.testing.assert_close(inside, outside, rtol=1e-12, atol=0)


def test_weights_move_at_the_end_of_a_window_only() -> None:
    theta = nn.Parameter(torch.ones(3))
    optimizer = Tiger([theta], lr=0.25, accumulation=3, weight_decay=0.5)
    run(optimizer, theta, torch.ones(2, 3))
    assert theta.tolist() == [1, 1, 1]
    run(optimizer, theta, torch.ones(1, 3))
    assert theta.tolist() == [0.625] * 3


def test_accumulation_keeps_one_buffer() -> None:
    theta = nn.Parameter(torch.ones(50, 20))
    optimizer = Tiger([theta], accumulation=8)
    run(optimizer, theta, noise(5, (50, 20)))
    assert [kept.numel() for kept in optimizer.state[theta].values() if torch.is_tensor(kept)] == [1000]


def test_a_micro_batch_that_is_not_finite_is_no_part_of_a_window() -> None:
    theta, clean = nn.Parameter(noise(1)[0]), nn.Parameter(noise(1)[0])
    gradients = noise(7)
    spoilt = torch.cat([gradients[:5], torch.full((1, 4, 3), torch.nan), gradients[5:]])
    chosen: dict[str, Any] = {"lr": 0.01, "accumulation": 3, "skip_nonfinite": True}
    optimizer = Tiger([theta], **chosen)
    run(optimizer, theta, spoilt)
    run(Tiger([clean], **chosen), clean, gradients)
    assert torch.equal(theta, clean)
    assert optimizer.skipped_steps == 1


@settings(max_examples=30, deadline=None)
@given(
    shape=st.sampled_from([(), (0,), (7,), (0, 4), (3, 5), (2, 3, 4)]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    k=st.integers(1, 3),
)
def test_every_number_moves_by_lr_against_a_gradient_that_keeps_its_sign(
    shape: tuple[int, ...], dtype: torch.dtype, k: int
) -> None:
    theta, g = nn.Parameter(torch.zeros(shape, dtype=dtype)), noise(1, shape)
    run(Tiger([theta], lr=0.125, accumulation=k), theta, g.expand(2 * k, *shape))
    torch.testing.assert_close(theta.detach(), (-0.25 * g[0].sign()).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("relative", [False, True])
def test_pieces_of_a_large_tensor_and_transposed_ones_move_alike(relative: bool) -> None:
    n = BLOCK_ELEMENTS * torch.get_num_threads() + 3
    gradients, start = noise(4, (2, n)), noise(1, (2, n))[0]
    expected = loop(start.numpy(), gradients.numpy(), 0.1, weight_decay=0.1, k=2, relative=relative)
    whole, turned = nn.Parameter(start.clone()), nn.Parameter(start.clone().t())
    optimizer = Tiger([whole, turned], lr=0.1, weight_decay=0.1, accumulation=2, scale_parameter=relative)
    for g in gradients:
        whole.grad, turned.grad = g, g.t()
        optimizer.step()
    for found in (whole, turned.t()):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_a_run_continued_inside_a_window_is_the_same_run() -> None:
    straight, broken = (nn.Parameter(noise(1)[0].float()) for _ in range(2))
    run(Tiger([straight], lr=0.01, accumulation=4), straight, noise(20))
    first = Tiger([broken], lr=0.01, accumulation=4)
    run(first, broken, noise(20)[:7])
    torch.save(first.state_dict(), kept := io.BytesIO())
    second = Tiger([broken], lr=0.5)
    second.load_state_dict(torch.load(io.BytesIO(kept.getvalue()), weights_only=True))
    run(second, broken, noise(20)[7:])
    assert torch.equal(straight, broken)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"beta": 1.0}, r"optimizer.beta = 1.0: must lie in \[0, 1\)"),
        ({"accumulation": 0}, "optimizer.accumulation = 0: must be a whole number, at least 1"),
        ({"accumulation": 1.5}, "optimizer.accumulation = 1.5: must be a whole number"),
        ({"accumulation": float("inf")}, "optimizer.accumulation = inf: must be a whole number"),
    ],
)
def test_settings_it_cannot_use_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tiger([nn.Parameter(torch.ones(1))], **chosen)
