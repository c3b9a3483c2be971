r"""AdaGrad: rates that fall with the squared gradients summed since the start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_modules.optimizers.stepping import NOT_NEGATIVE, Limit, SteppingOptimizer, may_fuse


class AdaGrad(SteppingOptimizer):
    r"""Each number of theta has its own, ever falling rate.

    .. math::
        G \leftarrow G + g \otimes g, \qquad
        \theta \leftarrow \theta - \frac{lr}{\sqrt{G} + epsilon} \otimes g, \qquad G_0 = initial

    The same as torch.optim.Adagrad without its lr_decay. Unlike `rmsprop` it forgets nothing, so it stops by itself
    (kexue.fm/archives/6261: often too early).

    Args:
        params: parameters or groups.
        lr: length of the first step, in units of theta.
        initial: where G starts, at least 0.
        epsilon: at least 0, in units of the gradient.
        weight_decay: decoupled, at least 0.
        maximize: ascend.
        skip_nonfinite: skip, and count, a step whose gradients are not finite.

    Source: Duchi, Hazan & Singer 2011, figure 1 (diagonal, composite mirror descent without regulariser).

    >>> theta = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = AdaGrad([theta], lr=0.1)
    >>> theta.square().sum().backward()
    >>> optimizer.step()
    >>> round(theta.item(), 6)
    0.9
    """

    buffers = ("G",)
    limits: ClassVar[Mapping[str, Limit]] = {"initial": NOT_NEGATIVE, "epsilon": NOT_NEGATIVE}

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-2,
        initial: float = 0.0,
        epsilon: float = 1e-10,
        weight_decay: float = 0.0,
        maximize: bool = False,
        skip_nonfinite: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "initial": initial,
                "epsilon": epsilon,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "skip_nonfinite": skip_nonfinite,
            },
        )

    def initial_state(self, group: dict[str, Any], theta: Tensor) -> dict[str, Any]:
        """G as the setting says."""
        return {"G": torch.full_like(theta, group["initial"])}

    def is_one_pass(self, group: dict[str, Any], dtype: torch.dtype) -> bool:
        """Always: torch's kernel."""
        return True

    def update(self, group: dict[str, Any], theta: list[Tensor], g: list[Tensor], *buffers: list[Tensor]) -> None:
        """The sum, then the step."""
        (G,) = buffers
        if may_fuse(theta, g, G):
            step = torch.ones((), device=theta[0].device)  # only lr_decay would look at it
            torch._fused_adagrad_(
                theta,
                g,
                G,
                [step] * len(theta),
                lr=group["lr"],
                lr_decay=0.0,
                weight_decay=0.0,
                eps=group["epsilon"],
                maximize=False,
            )
            return
        torch._foreach_addcmul_(G, g, g)
        root = torch._foreach_sqrt(G)
        torch._foreach_add_(root, group["epsilon"])
        torch._foreach_addcdiv_(theta, g, root, -group["lr"])
