r"""Lion: steps of one length for every number, in the direction of the sign of an interpolated momentum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_modules.optimizers.stepping import SHARE, Limit, SteppingOptimizer, may_fuse


class Lion(SteppingOptimizer):
    r"""Sign of a momentum that looks at the newest gradient more closely than the momentum it keeps.

    .. math::
        c = \beta_1 m + (1 - \beta_1)\,g, \qquad
        \theta \leftarrow \theta - lr\,(\mathrm{sign}(c) + weight\_decay\,\theta), \qquad
        m \leftarrow \beta_2 m + (1 - \beta_2)\,g, \qquad m_0 = 0

    with :math:`(\beta_1, \beta_2)` = betas. Every number moves by lr whatever its gradient, so lr is 3 to 10 times
    smaller than Adam's and `weight_decay` as many times larger (the paper's advice). torch.optim has no Lion; `tiger`
    is the case of equal betas.

    Args:
        params: parameters or groups.
        lr: the length of a step in every number of theta.
        betas: share of m in the direction c, and of m kept, each in [0, 1); the paper: 0.95, 0.98 for language.
        weight_decay: decoupled, at least 0.
        maximize: ascend.
        skip_nonfinite: skip, and count, a step whose gradients are not finite.

    Source: Chen et al. 2023, algorithm 2; kexue.fm/archives/9473.

    >>> theta = torch.nn.Parameter(torch.tensor([3.0, -0.01]))
    >>> optimizer = Lion([theta], lr=0.5)
    >>> theta.square().sum().backward()
    >>> optimizer.step()
    >>> theta.tolist()
    [2.5, 0.49000000953674316]
    """

    buffers = ("m",)
    limits: ClassVar[Mapping[str, Limit]] = {"betas": SHARE}

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        maximize: bool = False,
        skip_nonfinite: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "skip_nonfinite": skip_nonfinite,
            },
        )

    def decay(self, group: dict[str, Any], theta: list[Tensor]) -> None:
        """Nothing yet: `descend` decays in passing."""

    def update(self, group: dict[str, Any], theta: list[Tensor], g: list[Tensor], *buffers: list[Tensor]) -> None:
        """Algorithm 2."""
        (m,), (beta1, beta2) = buffers, group["betas"]
        c = list(torch._foreach_add(g, m, alpha=beta1 / (1 - beta1)))  # c / (1 - beta1), of the same sign
        torch._foreach_sign_(c)
        descend(theta, c, group["lr"], group["weight_decay"])
        descend(m, g, beta2 - 1, -1.0)


def descend(theta: list[Tensor], u: list[Tensor], lr: float, weight_decay: float) -> None:
    """In place theta <- theta - lr (u + weight_decay theta); with beta - 1 and -1, theta <- beta theta + (1 - beta) u.

    One pass by torch's fused SGD where that is exact: torch 2.13's misreads half precision on a CPU.
    """
    if theta[0].dtype in (torch.float32, torch.float64) and may_fuse(theta, u):
        torch._fused_sgd_(
            theta,
            u,
            [],
            weight_decay=weight_decay,
            momentum=0.0,
            lr=lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
        return
    if weight_decay:
        torch._foreach_mul_(theta, 1 - lr * weight_decay)
    torch._foreach_add_(theta, u, alpha=-lr)
