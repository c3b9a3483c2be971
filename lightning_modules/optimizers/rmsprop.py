r"""RMSprop as the dynamics article derives it: epsilon inside the root, no bias correction, vector or scalar rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lightning_modules.optimizers.adam import fused_adam
from lightning_modules.optimizers.stepping import (
    NOT_NEGATIVE,
    SHARE,
    Limit,
    SteppingOptimizer,
    by_device,
    one_of,
)


class RMSprop(SteppingOptimizer):
    r"""Steps of about the same length whatever the gradient's size.

    .. math::
        G \leftarrow beta\,G + (1 - beta)\,g \otimes g, \qquad
        \theta \leftarrow \theta - \frac{lr}{\sqrt{G + epsilon}} \otimes g, \qquad G_0 = 0

    With ``scale="scalar"`` g⊗g is the squared norm of the gradient of the whole parameter group, one number: the step
    keeps the gradient's direction.

    torch.optim.RMSprop adds epsilon to the root instead (``epsilon_place="outside"``; `beta` is its `alpha`). With its
    epsilon, 1e-8, a gradient of 1e-6 moves theta by 10 lr in the first step; here by 0.01 lr.

    Args:
        params: parameters or groups.
        lr: the rate of motion, in units of theta a step.
        beta: share of G kept, in [0, 1).
        epsilon: at least 0; in units of the squared gradient inside the root, of the gradient outside.
        epsilon_place: sqrt(G + epsilon) or sqrt(G) + epsilon.
        scale: one rate for each number of theta (vector) or one for the group (scalar).
        weight_decay: decoupled, at least 0.
        maximize: ascend.
        skip_nonfinite: skip, and count, a step whose gradients are not finite.

    A gradient of 0 in every step, with epsilon 0, gives 0 / 0 = NaN in the vector variant, as in torch.

    Source: kexue.fm/archives/6234, equation (2) and the scalar variant discussed after it.

    >>> theta = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = RMSprop([theta], lr=0.1, beta=0.99, epsilon=0.0)
    >>> theta.square().sum().backward()
    >>> optimizer.step()
    >>> round(theta.item(), 6)  # without bias correction the first step is lr / sqrt(1 - beta)
    0.0
    """

    buffers = ("G",)
    whole_settings: ClassVar[Mapping[str, Any]] = {**SteppingOptimizer.whole_settings, "scale": "scalar"}
    limits: ClassVar[Mapping[str, Limit]] = {
        "beta": SHARE,
        "epsilon": NOT_NEGATIVE,
        "epsilon_place": one_of("inside", "outside"),
        "scale": one_of("vector", "scalar"),
    }

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        beta: float = 0.99,
        epsilon: float = 1e-8,
        epsilon_place: Literal["inside", "outside"] = "inside",
        scale: Literal["vector", "scalar"] = "vector",
        weight_decay: float = 0.0,
        maximize: bool = False,
        skip_nonfinite: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "beta": beta,
                "epsilon": epsilon,
                "epsilon_place": epsilon_place,
                "scale": scale,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "skip_nonfinite": skip_nonfinite,
            },
        )

    def initial_state(self, group: dict[str, Any], theta: Tensor) -> dict[str, Any]:
        """G of a parameter; the scalar variant keeps its one number in the group."""
        return super().initial_state(group, theta) if group["scale"] == "vector" else {}

    def step_group(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """As everywhere; the scalar variant's G comes first, from the whole gradient."""
        if group["scale"] == "scalar":
            beta = group["beta"]
            group["G"] = beta * group.get("G", 0.0) + (1 - beta) * squared_norm([p.grad for p in parameters])
        super().step_group(group, parameters)

    def is_one_pass(self, group: dict[str, Any], dtype: torch.dtype) -> bool:
        """Where torch's kernel has the form, and at the scalar rate, whose only pass is theta's."""
        return bool(group["epsilon_place"] == "outside" or group["scale"] == "scalar")

    def update(self, group: dict[str, Any], theta: list[Tensor], g: list[Tensor], *buffers: list[Tensor]) -> None:
        """Equation (2)."""
        lr, beta, epsilon = group["lr"], group["beta"], group["epsilon"]
        inside = group["epsilon_place"] == "inside"
        if group["scale"] == "scalar":
            root = math.sqrt(group["G"] + epsilon) if inside else math.sqrt(group["G"]) + epsilon
            torch._foreach_add_(theta, g, alpha=-lr / root if root else 0.0)
            return
        (G,) = buffers
        # Adam of betas (0, beta) after infinitely many steps is RMSprop; its mean of the gradient is the gradient
        if fused_adam(theta, g, g, G, lr=lr, betas=(0.0, beta), epsilon=epsilon, inside=inside, step=math.inf):
            return
        torch._foreach_mul_(G, beta)
        torch._foreach_addcmul_(G, g, g, 1 - beta)
        roots = torch._foreach_add(G, epsilon if inside else 0.0)
        torch._foreach_sqrt_(roots)
        if not inside:
            torch._foreach_add_(roots, epsilon)
        torch._foreach_addcdiv_(theta, g, roots, -lr)


def squared_norm(tensors: list[Any]) -> float:
    """Sum of the squares of all numbers in the tensors; one wait for each device.

    >>> squared_norm([torch.tensor([3.0]), torch.tensor(4.0)])
    25.0
    """
    total = 0.0
    for same in by_device(tensors).values():
        norms = torch._foreach_norm(same, 2, torch.promote_types(same[0].dtype, torch.float32))
        total += float(torch.stack([norm.double() for norm in norms]).square().sum())
    return total
