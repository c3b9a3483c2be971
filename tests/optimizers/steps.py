"""Steps of an optimizer along given gradients, or on a loss, for the tests here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Shapes = Sequence[tuple[int, ...]]
LAYOUTS: dict[str, Shapes] = {
    "one tensor": [(7, 3)],
    "several": [(4,), (), (2, 3, 2), (0,), (5, 1)],
    "many": [(3,)] * 25,
    "larger than a block": [(150_001,), (2,)],
}


def problem(
    shapes: Shapes, n_steps: int, dtype: torch.dtype = torch.float64
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Starting values and the gradients of every step, drawn from a generator of its own."""
    draws = torch.Generator().manual_seed(0)
    drawn = [[torch.randn(shape, generator=draws, dtype=torch.float64) for shape in shapes] for _ in range(n_steps + 1)]
    theta, *gradients = [[tensor.to(dtype) for tensor in tensors] for tensors in drawn]
    return theta, gradients


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers in a row, as float64: what the reference loops work on."""
    return torch.cat([tensor.detach().double().reshape(-1) for tensor in tensors])


def parameters(start: Sequence[Tensor]) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(tensor.clone()) for tensor in start]


def follow(
    kind: Callable[..., Optimizer],
    start: Sequence[Tensor],
    gradients: Sequence[Sequence[Tensor | None]],
    **settings: Any,
) -> list[Tensor]:
    """The parameters after one step along each entry of gradients."""
    theta = parameters(start)
    optimizer = kind(theta, **settings)
    for step in gradients:
        for p, g in zip(theta, step, strict=True):
            p.grad = None if g is None else g.clone()
        optimizer.step()
    return [p.detach() for p in theta]


def descend(optimizer: Optimizer, theta: Tensor, loss: Callable[[Tensor], Tensor], n_steps: int) -> None:
    """Steps on a loss, with a closure."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(theta)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    for _ in range(n_steps):
        optimizer.step(closure)  # type: ignore[arg-type]


def is_stable(kind: Callable[..., Optimizer], lr_h: float, n_steps: int = 400, **settings: Any) -> bool:
    """Whether steps on a quadratic with this product of lr and curvature end nearer to its minimum."""
    theta = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    descend(kind([theta], lr=lr_h, **settings), theta, lambda x: x.square().sum() / 2, n_steps)
    return abs(theta.item()) < 1


def order(errors: Sequence[float]) -> float:
    """Slope of log error over log step from errors at steps halved from one to the next; the last pair's."""
    return float(torch.log2(torch.tensor(errors[-2] / errors[-1], dtype=torch.float64)))
