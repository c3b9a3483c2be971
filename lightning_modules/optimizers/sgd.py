r"""Gradient descent: Euler's method on the gradient flow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lightning_modules.optimizers.stepping import SteppingOptimizer


class SGD(SteppingOptimizer):
    r"""Explicit Euler steps of :math:`\dot\theta = -\nabla L(\theta)`, of order 1.

    .. math::
        \theta \leftarrow \theta - lr\,g

    torch.optim.SGD without momentum takes the same steps; its weight_decay, added to the gradient, is the same thing.

    Args:
        params: parameters or groups.
        lr: the step in time.
        weight_decay: decoupled, at least 0.
        maximize: ascend.
        skip_nonfinite: skip, and count, a step whose gradients are not finite.

    Source: kexue.fm/archives/5655, equation (2).

    >>> theta = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = SGD([theta], lr=0.1)
    >>> theta.square().sum().backward()
    >>> optimizer.step()
    >>> round(theta.item(), 6)
    0.8
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-2,
        weight_decay: float = 0.0,
        maximize: bool = False,
        skip_nonfinite: bool = False,
    ) -> None:
        super().__init__(
            params,
            {"lr": lr, "weight_decay": weight_decay, "maximize": maximize, "skip_nonfinite": skip_nonfinite},
        )

    def is_one_pass(self, group: dict[str, Any], dtype: torch.dtype) -> bool:
        """Always."""
        return True

    def update(self, group: dict[str, Any], theta: list[Tensor], g: list[Tensor], *buffers: list[Tensor]) -> None:
        """Equation (2)."""
        torch._foreach_add_(theta, g, alpha=-group["lr"])
