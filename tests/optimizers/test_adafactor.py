"""Adafactor against its equations, and against torch's where the two coincide."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from lightning_modules.optimizers import adafactor
from lightning_modules.optimizers.adafactor import Adafactor, factored_axes


def noise(steps: int, shape: tuple[int, ...] = (4, 3)) -> Tensor:
    """Gradients of sizes that differ between steps, rows and numbers."""
    draws = torch.Generator().manual_seed(0)
    sizes = torch.rand(steps, *(1 for _ in shape), dtype=torch.float64, generator=draws).mul(3).exp()
    return torch.randn(steps, *shape, dtype=torch.float64, generator=draws) * sizes


def loop(
    theta: Any,
    gradients: Any,
    axes: tuple[int, int] | None,
    *,
    lr: float = 1e-2,
    relative_step: bool = True,
    scale_parameter: bool = True,
    beta2_decay: float = -0.8,
    beta1: float | None = None,
    eps1: float = 1e-30,
    eps2: float = 1e-3,
    clip_threshold: float = 1.0,
    weight_decay: float = 0.0,
) -> Any:
    """Algorithms 4 (rows and columns `axes`, sums as the paper has them) and 5 of Shazeer & Stern 2018, in float64."""
    theta, V, R, C, m = theta.copy(), 0.0, 0.0, 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        beta, S = 1 - t**beta2_decay, g**2 + eps1
        if axes is None:
            V = beta * V + (1 - beta) * S
        else:
            R = beta * R + (1 - beta) * S.sum(axes[1], keepdims=True)
            C = beta * C + (1 - beta) * S.sum(axes[0], keepdims=True)
            V = R * C / R.sum(axes[0], keepdims=True)
        U = g / np.sqrt(V)
        U = U / max(1, np.sqrt(np.mean(U**2)) / clip_threshold)
        alpha = min(lr, 1 / np.sqrt(t)) if relative_step else lr
        alpha *= max(eps2, np.sqrt(np.mean(theta**2))) if scale_parameter else 1
        m = alpha * U if beta1 is None else beta1 * m + (1 - beta1) * alpha * U
        theta = theta - lr * weight_decay * theta - m
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
        {"lr": 0.3, "weight_decay": 0.1, "beta1": 0.9},
        {"relative_step": False, "clip_threshold": 0.5},
        {"lr": 0.2, "relative_step": False, "scale_parameter": False, "clip_threshold": float("inf")},
        {"lr": 0.1, "beta2_decay": -0.5, "eps1": 0.1, "eps2": 10.0, "beta1": 0.0},
    ],
)
@pytest.mark.parametrize(
    ("shape", "axes"), [((), None), ((6,), None), ((2, 6), None), ((4, 5), (0, 1)), ((5, 4, 3, 3), (0, 1))]
)
@pytest.mark.parametrize("maximize", [False, True])
def test_a_hundred_steps_follow_the_equation(
    shape: tuple[int, ...], axes: tuple[int, int] | None, maximize: bool, chosen: dict[str, Any]
) -> None:
    theta, gradients = nn.Parameter(noise(1, shape)[0]), noise(101, shape)[1:]
    expected = loop(theta.detach().numpy(), (-gradients if maximize else gradients).numpy(), axes, **chosen)
    optimizer = Adafactor([theta], min_factored_dim=4, maximize=maximize, **chosen)
    np.testing.assert_allclose(run(optimizer, theta, gradients).numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (7,), (8, 6), (3, 4, 6)])
@pytest.mark.parametrize("chosen", [{}, {"lr": 0.3, "weight_decay": 0.1}, {"lr": 3e-3, "maximize": True}])
def test_it_is_torchs_where_both_factor_the_last_two_axes(shape: tuple[int, ...], chosen: dict[str, Any]) -> None:
    ours, torchs = (nn.Parameter(noise(1, shape)[0]) for _ in range(2))
    run(Adafactor([ours], min_factored_dim=1, **chosen), ours, noise(100, shape))
    run(torch.optim.Adafactor([torchs], eps=(1e-30, 1e-3), **chosen), torchs, noise(100, shape))
    torch.testing.assert_close(ours, torchs, rtol=1e-9, atol=1e-12)


def test_moments_of_rank_one_gradients_are_exact() -> None:
    g = torch.outer(torch.arange(1.0, 5.0), torch.arange(2.0, 8.0)).double()
    factored, full = (nn.Parameter(torch.ones(4, 6, dtype=torch.float64)) for _ in range(2))
    run(Adafactor([factored], min_factored_dim=1), factored, g.expand(20, 4, 6))
    run(Adafactor([full], min_factored_dim=7), full, g.expand(20, 4, 6))
    torch.testing.assert_close(factored, full, rtol=1e-9, atol=0)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.sampled_from([(), (0,), (7,), (3, 0), (4, 5), (2, 3, 4)]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    least=st.sampled_from([1, 3, 128]),
    beta1=st.sampled_from([None, 0.5]),
)
def test_half_precision_follows_double_precision(
    shape: tuple[int, ...], dtype: torch.dtype, least: int, beta1: float | None
) -> None:
    gradients = noise(5, shape).to(dtype)
    start = (noise(1, shape)[0] + 4).to(dtype)
    exact, rounded = nn.Parameter(start.double()), nn.Parameter(start)
    for theta in (exact, rounded):
        run(Adafactor([theta], lr=0.1, min_factored_dim=least, beta1=beta1), theta, gradients)
    tolerance = 10 * torch.finfo(dtype).eps
    torch.testing.assert_close(rounded.detach().double(), exact.detach(), rtol=tolerance, atol=10 * tolerance)


def test_pieces_of_large_tensors_and_transposed_ones_move_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adafactor, "CPU_BLOCK_ELEMENTS", n := 100)
    n *= 3 * torch.get_num_threads()  # every shape is cut into three blocks or more
    cases = (((4, n), (0, 1)), ((n, 4), (0, 1)), ((4, n, 2), (0, 1)), ((4, 5, n), (1, 2)), ((n, 1), None), ((n,), None))
    for shape, axes in cases:
        gradients, start = noise(2, shape), noise(1, shape)[0]
        expected = loop(start.numpy(), gradients.numpy(), axes, weight_decay=0.1, beta1=0.5)
        turned = [nn.Parameter(start.mT.contiguous().mT)] if len(shape) == 2 else []
        for theta in (nn.Parameter(start.clone()), *turned):
            run(Adafactor([theta], weight_decay=0.1, beta1=0.5, min_factored_dim=3), theta, gradients)
            np.testing.assert_allclose(theta.detach().numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(6,), (4, 5)])
def test_a_run_continued_from_its_state_is_the_same_run(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    straight, broken = (nn.Parameter(noise(1, shape)[0].to(dtype)) for _ in range(2))
    chosen: dict[str, Any] = {"lr": 0.1, "min_factored_dim": 1, "beta1": 0.9}
    run(Adafactor([straight], **chosen), straight, noise(20, shape))
    first = Adafactor([broken], **chosen)
    run(first, broken, noise(20, shape)[:7])
    torch.save(first.state_dict(), kept := io.BytesIO())
    second = Adafactor([broken])
    second.load_state_dict(torch.load(io.BytesIO(kept.getvalue()), weights_only=True))
    run(second, broken, noise(20, shape)[7:])
    assert torch.equal(straight, broken)
    assert {value.dtype for value in second.state[broken].values() if torch.is_tensor(value)} == {torch.float32}


def test_the_state_of_gpt2_ml_is_a_fifth_of_a_percent_of_its_parameters() -> None:
    width, inner = 1536, 6144
    layer = [(width, width)] * 4 + [(width, inner), (inner, width)] + [(width,)] * 9 + [(inner,)]
    shapes = [(8021, width), (1024, width), (width,), (width,), *layer * 48]
    parameters = [nn.Parameter(torch.empty(shape, device="meta")) for shape in shapes]
    optimizer = Adafactor(parameters)
    states = [optimizer.initial_state(optimizer.param_groups[0], p) for p in parameters]
    kept = sum(value.numel() for state in states for value in state.values() if torch.is_tensor(value))
    assert sum(p.numel() for p in parameters) == 1_373_809_152
    assert kept < 0.002 * 1_373_809_152


def test_the_two_longest_axes_are_factored_and_the_later_of_equals() -> None:
    assert factored_axes((64, 32, 3, 3), 32) == (0, 1)
    assert factored_axes((3, 3, 64, 64), 32) == (2, 3)
    assert factored_axes((64, 64, 64), 1) == (1, 2)
    assert factored_axes((8, 1536), 128) is None
    assert factored_axes((4096,), 1) is None


def test_a_schedule_lowers_the_bound_of_the_relative_step() -> None:
    theta = nn.Parameter(torch.full((3, 4), 2.0, dtype=torch.float64))
    optimizer = Adafactor([theta], lr=0.1)
    schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    for step in range(3):
        before = theta.detach().clone()
        run(optimizer, theta, torch.ones(1, 3, 4))
        torch.testing.assert_close(theta.detach(), before * (1 - 0.1 / (1 + step)), rtol=1e-12, atol=0)
        schedule.step()


def test_the_relative_step_falls_as_one_over_the_root_of_the_step() -> None:
    theta = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = Adafactor([theta], lr=1.0, scale_parameter=False, maximize=True)
    run(optimizer, theta, torch.ones(4, 1))
    assert theta.item() == pytest.approx(1 + 1 + 2**-0.5 + 3**-0.5 + 0.5, rel=1e-12)


def test_gradients_of_zero_move_nothing() -> None:
    theta = nn.Parameter(noise(1)[0].float())
    before = theta.detach().clone()
    run(Adafactor([theta], min_factored_dim=1), theta, torch.zeros(3, 4, 3))
    assert torch.equal(theta, before)


def test_steps_that_are_not_finite_are_skipped_and_counted() -> None:
    theta, clean = (nn.Parameter(noise(1)[0]) for _ in range(2))
    optimizer = Adafactor([theta], skip_nonfinite=True)
    gradients = noise(4)
    run(optimizer, theta, torch.cat([gradients[:2], torch.full((1, 4, 3), torch.inf), gradients[2:]]))
    run(Adafactor([clean]), clean, gradients)
    assert torch.equal(theta, clean)
    assert optimizer.skipped_steps == 1


def test_a_parameter_without_gradient_stays_and_sparse_ones_are_refused() -> None:
    table, unused = nn.Embedding(4, 2, sparse=True), nn.Parameter(torch.ones(2))
    optimizer = Adafactor([unused, *table.parameters()], weight_decay=0.1)
    optimizer.step()
    assert unused.tolist() == [1, 1]
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="Adafactor: a gradient is sparse"):
        optimizer.step()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"beta2_decay": 0.8}, r"optimizer.beta2_decay = 0.8: must lie in \[-1, 0\]; the paper's is -0.8"),
        ({"beta1": 1.0}, r"optimizer.beta1 = 1.0: must lie in \[0, 1\)"),
        ({"eps1": 0.0}, "optimizer.eps1 = 0.0: must be greater than 0"),
        ({"eps2": -1.0}, "optimizer.eps2 = -1.0: must be greater than 0"),
        ({"clip_threshold": 0.0}, "optimizer.clip_threshold = 0.0: must be greater than 0; infinity never clips"),
        ({"min_factored_dim": 0}, "optimizer.min_factored_dim = 0: must be a whole number, at least 1"),
        ({"lr": None}, "optimizer.lr = None: must"),
    ],
)
def test_settings_it_cannot_use_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Adafactor([nn.Parameter(torch.ones(1))], **chosen)
