"""What an optimizer's settings say of its motion: how far it moves on a slope, and how steep a valley it can take."""

from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer

from lightning_modules.optimizers.momentum import Momentum
from lightning_modules.optimizers.nesterov import Nesterov
from lightning_modules.optimizers.sgd import SGD


class Motion(NamedTuple):
    """Of an optimizer whose steps are linear in the gradient, at constant settings."""

    lr: float
    lr_effective: float  # distance per step and unit of a constant gradient: lr / (1 - beta)
    limit: float | None  # of lr times curvature, on a quadratic; None = stable at any


def motion(optimizer: Optimizer) -> Motion | None:
    """The motion of sgd, momentum, nesterov and torch.SGD; None for others, and for groups that differ.

    Weight decay is not counted: where it is coupled it adds to the curvature.

    Source: kexue.fm/archives/5655, equations (2), (16), (19), (20): stability of their linear recursions.

    >>> motion(torch.optim.SGD([torch.zeros(1)], lr=0.5, momentum=0.75))
    Motion(lr=0.5, lr_effective=2.0, limit=3.5)
    """
    found = {_motion(optimizer, group) for group in optimizer.param_groups}
    return found.pop() if len(found) == 1 else None


def _motion(optimizer: Optimizer, group: dict[str, Any]) -> Motion | None:
    lr = float(group["lr"])
    if group.get("maximize"):
        return None
    if isinstance(optimizer, SGD):
        return Motion(lr, lr, 2.0)
    if isinstance(optimizer, Momentum):
        return _heavy_ball(lr, group["beta"])
    if isinstance(optimizer, Nesterov):
        beta = group["beta"]
        limits = {"standard": 2 * (1 + beta) / (1 + 2 * beta), "half": 2.0, "implicit": None}
        return Motion(lr, lr / (1 - beta), limits[group["form"]])
    if isinstance(optimizer, torch.optim.SGD):
        beta = float(group["momentum"])
        if group["nesterov"]:
            return Motion(lr, lr / (1 - beta), 2 * (1 + beta) / (1 + 2 * beta))
        return _heavy_ball(lr, beta, 1 - group["dampening"] if beta else 1.0)
    return None


def _heavy_ball(lr: float, beta: float, share: float = 1.0) -> Motion:
    """Of v <- beta v + share g."""
    return Motion(lr, lr * share / (1 - beta), 2 * (1 + beta) / share if share > 0 else None)
