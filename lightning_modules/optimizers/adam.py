r"""Adam, with epsilon outside the root as published or inside it as in the RMSprop of the dynamics article."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lightning_modules.optimizers.stepping import NOT_NEGATIVE, SHARE, Limit, SteppingOptimizer, may_fuse, one_of


class Adam(SteppingOptimizer):
    r"""RMSprop and momentum, both freed from the bias of their start at 0.

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1)\,g, \qquad G \leftarrow \beta_2 G + (1 - \beta_2)\,g \otimes g

    .. math::
        \hat m = \frac{m}{1 - \beta_1^n}, \quad \hat G = \frac{G}{1 - \beta_2^n}, \qquad
        \theta \leftarrow \theta - lr\,\frac{\hat m}{\sqrt{\hat G} + epsilon}
        \quad\text{or}\quad \theta - lr\,\frac{\hat m}{\sqrt{\hat G + epsilon}}

    with :math:`(\beta_1, \beta_2)` = betas and n the number of the step, from 1. With ``epsilon_place="outside"`` these
    are the steps of torch.optim.Adam, and with weight_decay those of torch.optim.AdamW.

    Args:
        params: parameters or groups.
        lr: about the length of a step, in units of theta.
        betas: shares of m and of G kept, each in [0, 1).
        epsilon: at least 0; in units of the gradient outside the root, of its square inside.
        epsilon_place: see above.
        weight_decay: decoupled, at least 0.
        maximize: ascend.
        skip_nonfinite: skip, and count, a step whose gradients are not finite.

    Source: Kingma & Ba 2015, algorithm 1; the place of epsilon: kexue.fm/archives/6234, equation (2).

    >>> theta = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = Adam([theta], lr=0.1)
    >>> theta.square().sum().backward()
    >>> optimizer.step()
    >>> round(theta.item(), 6)
    0.9
    """

    buffers = ("m", "G")
    limits: ClassVar[Mapping[str, Limit]] = {
        "betas": SHARE,
        "epsilon": NOT_NEGATIVE,
        "epsilon_place": one_of("outside", "inside"),
    }
    counts_steps = True

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        epsilon_place: Literal["outside", "inside"] = "outside",
        weight_decay: float = 0.0,
        maximize: bool = False,
        skip_nonfinite: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "epsilon": epsilon,
                "epsilon_place": epsilon_place,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "skip_nonfinite": skip_nonfinite,
            },
        )

    def is_one_pass(self, group: dict[str, Any], dtype: torch.dtype) -> bool:
        """Where torch's kernel has the form."""
        return bool(group["epsilon_place"] == "outside")

    def update(self, group: dict[str, Any], theta: list[Tensor], g: list[Tensor], *buffers: list[Tensor]) -> None:
        """Algorithm 1."""
        m, G = buffers
        (beta1, beta2), epsilon, n = group["betas"], group["epsilon"], group["step"]
        inside = group["epsilon_place"] == "inside"
        if fused_adam(theta, g, m, G, lr=group["lr"], betas=group["betas"], epsilon=epsilon, inside=inside, step=n):
            return
        torch._foreach_lerp_(m, g, 1 - beta1)
        torch._foreach_mul_(G, beta2)
        torch._foreach_addcmul_(G, g, g, 1 - beta2)
        root = torch._foreach_div(G, 1 - beta2**n)
        if inside:
            torch._foreach_add_(root, epsilon)
        torch._foreach_sqrt_(root)
        if not inside:
            torch._foreach_add_(root, epsilon)
        torch._foreach_addcdiv_(theta, m, root, -group["lr"] / (1 - beta1**n))


def fused_adam(
    theta: list[Tensor],
    g: list[Tensor],
    m: list[Tensor],
    G: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    epsilon: float,
    inside: bool,
    step: float,
) -> bool:
    """One step of Adam by torch's kernel, which passes over memory once, where it can do it.

    The kernel has epsilon outside the root. Inside it comes by way of the kernel's own update of G, with
    c = epsilon (1 - beta2^step): beta2 (G + c / beta2) + (1 - beta2) g^2 is the new G + c. Its rounding is relative to
    G + c, as the root's is in any case; what it leaves below zero is removed.

    Args:
        theta: parameters.
        g: gradients.
        m: means of the gradient; with betas[0] = 0 they may be g itself, which is written over with the same numbers.
        G: means of its square.
        lr: step size.
        betas: shares of m and G kept.
        epsilon: as in `Adam`.
        inside: the root or not.
        step: number of the step, from 1; infinity leaves the bias uncorrected.

    Returns:
        Whether it is done; False: nothing was changed.
    """
    beta2 = betas[1]
    exact = not inside or (beta2 >= 0.5 and theta[0].dtype in (torch.float32, torch.float64))
    if not exact or not may_fuse(theta, g, m, G):
        return False
    c = epsilon * (1 - beta2**step) if inside else 0.0
    if inside:
        torch._foreach_add_(G, c / beta2)
    number = torch.full((), step, dtype=torch.float32, device=theta[0].device)
    torch._fused_adam_(
        theta,
        g,
        m,
        G,
        [],
        [number] * len(theta),
        lr=lr,
        beta1=betas[0],
        beta2=beta2,
        weight_decay=0.0,
        eps=0.0 if inside else epsilon,
        amsgrad=False,
        maximize=False,
    )
    if inside:
        torch._foreach_sub_(G, c)
        torch._foreach_clamp_min_(G, 0.0)
    return True
