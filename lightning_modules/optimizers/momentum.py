r"""Momentum as the leapfrog integration of Newton's equation with friction, and in PyTorch's form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lightning_modules.optimizers.conversions import alpha_beta
from lightning_modules.optimizers.stepping import SHARE, Limit, SteppingOptimizer, may_fuse, one_of


class Momentum(SteppingOptimizer):
    r"""Leapfrog steps of :math:`\ddot\theta + friction\,\dot\theta = -\nabla L(\theta)`.

    .. math::
        v \leftarrow beta\,v - lr\,g, \qquad \theta \leftarrow \theta + v

    .. math::
        beta = \frac{1 - friction\,time\_step / 2}{1 + friction\,time\_step / 2}, \qquad
        lr = \frac{time\_step^2}{1 + friction\,time\_step / 2}

    v starts at 0, as everywhere; the scheme's order is then 1. ``half_step_start=True`` starts it at
    :math:`lr\,g / (1 + beta)`, the velocity half a step before a start from rest: the order is 2. On a quadratic of
    curvature h the steps are stable for lr·h < 2 (1 + beta).

    torch.optim.SGD keeps lr out of v: v ← beta v + g, θ ← θ - lr v (``form="torch"``). The two agree until lr changes;
    then torch's form rescales what v has gathered, and leapfrog does not.

    Args:
        params: parameters or groups.
        lr: step size alpha; null = 0.01, or what follows from friction and time_step.
        beta: share of the velocity kept, in [0, 1); null = 0.9, or what follows from friction and time_step.
        friction: lambda, at least 0, in 1 / time; with time_step, in place of lr and beta.
        time_step: gamma, greater than 0.
        half_step_start: start from rest to second order; form leapfrog only.
        form: the article's, or PyTorch's.
        weight_decay: decoupled, at least 0.
        maximize: ascend.
        skip_nonfinite: skip, and count, a step whose gradients are not finite.

    Source: kexue.fm/archives/5655, equations (10), (15), (16). The sign of the half step is plus.

    >>> theta = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = Momentum([theta], friction=1.0, time_step=0.5)
    >>> optimizer.defaults["lr"], optimizer.defaults["beta"]
    (0.2, 0.6)
    >>> theta.square().sum().backward()
    >>> optimizer.step()
    >>> round(theta.item(), 6)
    0.6
    """

    buffers = ("v",)
    limits: ClassVar[Mapping[str, Limit]] = {"beta": SHARE, "form": one_of("leapfrog", "torch")}

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float | None = None,
        beta: float | None = None,
        friction: float | None = None,
        time_step: float | None = None,
        half_step_start: bool = False,
        form: Literal["leapfrog", "torch"] = "leapfrog",
        weight_decay: float = 0.0,
        maximize: bool = False,
        skip_nonfinite: bool = False,
    ) -> None:
        if half_step_start and form != "leapfrog":
            raise ValueError(f"optimizer.half_step_start = True: needs form = leapfrog, found {form}")
        lr, beta = _lr_and_beta(lr, beta, friction, time_step)
        super().__init__(
            params,
            {
                "lr": lr,
                "beta": beta,
                "half_step_start": half_step_start,
                "form": form,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "skip_nonfinite": skip_nonfinite,
            },
        )

    def initial_state(self, group: dict[str, Any], theta: Tensor) -> dict[str, Any]:
        """The velocity half a step before the start: 0, or that of a start from rest."""
        if not group["half_step_start"] or theta.grad is None:
            return super().initial_state(group, theta)
        sign = -1 if group["maximize"] else 1
        return {"v": theta.grad * (sign * group["lr"] / (1 + group["beta"]))}

    def is_one_pass(self, group: dict[str, Any], dtype: torch.dtype) -> bool:
        """Where torch's kernel has the form."""
        return _is_exact(dtype, group["beta"], 1.0 if group["form"] == "torch" else -group["lr"])

    def update(self, group: dict[str, Any], theta: list[Tensor], g: list[Tensor], *buffers: list[Tensor]) -> None:
        """Equation (16), or torch's form of it."""
        (v,) = buffers
        lr, beta = group["lr"], group["beta"]
        gain, rate = (1.0, -lr) if group["form"] == "torch" else (-lr, 1.0)
        if fused_momentum(theta, g, v, beta=beta, gain=gain, rate=rate):
            return
        torch._foreach_mul_(v, beta)
        torch._foreach_add_(v, g, alpha=gain)
        torch._foreach_add_(theta, v, alpha=rate)


def fused_momentum(
    theta: list[Tensor], g: list[Tensor], v: list[Tensor], *, beta: float, gain: float, rate: float
) -> bool:
    """V <- beta v + gain g, then theta <- theta + rate v, by torch's kernel in one pass, where it can do it exactly.

    Returns:
        Whether it is done; False: nothing was changed.
    """
    if not _is_exact(theta[0].dtype, beta, gain) or not may_fuse(theta, g, v):
        return False
    torch._fused_sgd_(
        theta,
        g,
        v,
        weight_decay=0.0,
        momentum=beta,
        lr=-rate,
        dampening=1 - gain,
        nesterov=False,
        maximize=False,
        is_first_step=False,
    )
    return True


def _is_exact(dtype: torch.dtype, beta: float, gain: float) -> bool:
    """Whether torch 2.13's fused SGD is: it knows no velocity at beta 0 and misreads half precision on a CPU.

    It takes 1 - gain, in doubles, whose rounding float32 does not see unless the gain is tiny; float64 would.
    """
    wide = dtype == torch.float64 and gain == 1
    return beta > 0 and (wide or (dtype == torch.float32 and abs(gain) > 1e-7))


def _lr_and_beta(
    lr: float | None, beta: float | None, friction: float | None, time_step: float | None
) -> tuple[float, float]:
    """Alpha and beta from whichever pair is given."""
    if friction is None and time_step is None:
        return 1e-2 if lr is None else lr, 0.9 if beta is None else beta
    for name, value in (("lr", lr), ("beta", beta)):
        if value is not None:
            raise ValueError(f"optimizer.{name} = {value}: must be left out where friction and time_step are given")
    for name, value in (("friction", friction), ("time_step", time_step)):
        if value is None:
            raise ValueError(f"optimizer.{name} is missing: friction and time_step go together")
    try:
        return alpha_beta(friction, time_step)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"optimizer.{error}") from error
