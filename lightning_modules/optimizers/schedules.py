"""Learning-rate schedules: functions from the step to a factor of the optimizer's lr, and what carries them out.

`scale_momentum` of a schedule keeps the friction of the momentum while the rate changes: where lr becomes r lr, beta
becomes 1 - (1 - beta) sqrt(r) (kexue.fm/archives/5655, after equation (16)). A user's own schedule is any class whose
objects map a step to a float; an attribute `scale_momentum` of theirs works as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_modules.optimizers.conversions import scaled_beta
from lightning_modules.optimizers.rmsprop import RMSprop


class Constant:
    """The optimizer's lr at every step."""

    def __call__(self, step: int) -> float:
        """1."""
        return 1.0


class Warmup:
    """A linear warm-up, then the optimizer's lr.

    Args:
        steps: steps until the full lr; the first takes 1 / steps of it.
        scale_momentum: beta follows lr by the rule 1 - (1 - beta) sqrt(r).

    >>> factor = Warmup(steps=4)
    >>> [factor(step) for step in (0, 1, 3, 4)]
    [0.25, 0.5, 1.0, 1.0]
    """

    def __init__(self, steps: int = 100, scale_momentum: bool = False) -> None:
        if steps < 1:
            raise ValueError(f"schedule.steps = {steps}: must be at least 1")
        self.steps = steps
        self.scale_momentum = scale_momentum

    def __call__(self, step: int) -> float:
        """The factor at a 0-based step, in (0, 1]."""
        return min((step + 1) / self.steps, 1.0)


class Cosine:
    """A linear warm-up, then half a cosine down to a share of lr.

    Args:
        warmup_steps: steps from 0 to the full lr.
        final_fraction: share of lr at the end and after it, in [0, 1].
        steps: length of the whole schedule; null = the run's own length, which then cannot be extended.
        scale_momentum: beta follows lr by the rule 1 - (1 - beta) sqrt(r); needs a final_fraction above 0.

    Source: Loshchilov & Hutter 2017, equation 5, without restarts.

    >>> factor = Cosine(warmup_steps=2, steps=10)
    >>> factor(0), factor(2), round(factor(6), 3), factor(10)
    (0.5, 1.0, 0.5, 0.0)
    """

    def __init__(
        self,
        warmup_steps: int = 0,
        final_fraction: float = 0.0,
        steps: int | None = None,
        scale_momentum: bool = False,
    ) -> None:
        if warmup_steps < 0:
            raise ValueError(f"schedule.warmup_steps = {warmup_steps}: must be at least 0")
        if not 0 <= final_fraction <= 1:
            raise ValueError(f"schedule.final_fraction = {final_fraction}: must lie in [0, 1]")
        if scale_momentum and final_fraction == 0:
            raise ValueError(
                "schedule.final_fraction = 0: must be greater than 0 with schedule.scale_momentum, whose beta is 1"
                " where lr is 0; 0.01 is a good end"
            )
        if steps is not None and steps <= warmup_steps:
            raise ValueError(f"schedule.steps = {steps}: must exceed schedule.warmup_steps = {warmup_steps}")
        self.warmup_steps = warmup_steps
        self.final_fraction = final_fraction
        self.steps = steps
        self.scale_momentum = scale_momentum

    def __call__(self, step: int) -> float:
        """The factor at a 0-based step, in [0, 1]."""
        if self.steps is None:
            raise ValueError("schedule.steps is not set; give the number of steps the cosine takes")
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = min((step - self.warmup_steps) / (self.steps - self.warmup_steps), 1.0)
        return self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * progress)) / 2


class Step:
    """lr multiplied by `gamma` every `every` steps.

    Args:
        every: steps between two drops.
        gamma: the factor of one drop, in (0, 1].
        scale_momentum: beta follows lr by the rule 1 - (1 - beta) sqrt(r).

    >>> factor = Step(every=3, gamma=0.5)
    >>> [factor(step) for step in (0, 2, 3, 6)]
    [1.0, 1.0, 0.5, 0.25]
    """

    def __init__(self, every: int = 1000, gamma: float = 0.1, scale_momentum: bool = False) -> None:
        if every < 1:
            raise ValueError(f"schedule.every = {every}: must be at least 1")
        if not 0 < gamma <= 1:
            raise ValueError(f"schedule.gamma = {gamma}: must lie in (0, 1]")
        self.every = every
        self.gamma = gamma
        self.scale_momentum = scale_momentum

    def __call__(self, step: int) -> float:
        """The factor at a 0-based step, in (0, 1]."""
        return float(self.gamma ** (step // self.every))


class Recipe:
    """lr falls slowly, as 1 / (1 + c step): the rate's half of the articles' recipe, while the data's batch grows.

    The article asks for a large lr and a small batch at first, then for a slowly falling lr and a slowly growing batch,
    and names no law. This one sums to infinity while its squares do not (Robbins & Monro 1951): any minimum stays in
    reach, and the noise dies out. After `steps` it falls on by the same law. The whole recipe:

        taolu run vae --schedule recipe --data.batch_size 16 --data.batch_growth 2 --data.growth_every 4
            --data.max_batch_size 256 --optimizer torch.SGD --optimizer.lr 0.01

    Args:
        final_fraction: share of lr after `steps` steps, in (0, 1].
        steps: steps until then; null = the run's own length, which then cannot be extended.
        scale_momentum: beta follows lr by the rule 1 - (1 - beta) sqrt(r).

    Source: kexue.fm/archives/5655, after equation (9).

    >>> factor = Recipe(final_fraction=0.1, steps=90)
    >>> [round(factor(step), 3) for step in (0, 10, 40, 90, 190)]
    [1.0, 0.5, 0.2, 0.1, 0.05]
    """

    def __init__(self, final_fraction: float = 0.1, steps: int | None = None, scale_momentum: bool = False) -> None:
        if not 0 < final_fraction <= 1:
            raise ValueError(f"schedule.final_fraction = {final_fraction}: must lie in (0, 1]")
        if steps is not None and steps < 1:
            raise ValueError(f"schedule.steps = {steps}: must be at least 1")
        self.final_fraction = final_fraction
        self.steps = steps
        self.scale_momentum = scale_momentum

    def __call__(self, step: int) -> float:
        """The factor at a 0-based step, in (0, 1]."""
        if self.steps is None:
            raise ValueError("schedule.steps is not set; give the number of steps until final_fraction")
        return 1 / (1 + (1 / self.final_fraction - 1) * step / self.steps)


class MomentumScaling(LambdaLR):
    """torch's LambdaLR that also sets each group's momentum: 1 - (1 - beta) sqrt(r) while lr is r times its base.

    The momentum is the group's `momentum`, `betas[0]`, `beta1` or `beta`. The rule is derived for v <- beta v - lr g.
    The memory 1 / (1 - beta) of an average, as Adam's, it keeps as long, counted in steps of length sqrt(lr). The bases
    are in the state_dict.

    Args:
        optimizer: with a momentum above 0 in every group.
        factor: r as a function of the step; where it is not above 0 the momentum stays as it is.
        name: of the optimizer in messages; None = its class's.

    Raises:
        ValueError: a group has no momentum.

    Source: kexue.fm/archives/5655, after equation (16).
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[int], float], name: str | None = None) -> None:
        name = name or type(optimizer).__name__
        self.base_betas = [_beta(optimizer, group, name) for group in optimizer.param_groups]
        super().__init__(optimizer, factor)

    def step(self, epoch: int | None = None) -> None:
        """The next step's lr and momentum."""
        super().step(epoch)
        ratio = float(self.lr_lambdas[0](self.last_epoch))
        if ratio <= 0:
            return
        for group, base in zip(self.optimizer.param_groups, self.base_betas, strict=True):
            key, beta = _momentum_key(self.optimizer, group), scaled_beta(base, ratio)
            group[key] = (beta, *group[key][1:]) if key == "betas" else beta


def _beta(optimizer: Optimizer, group: dict[str, Any], name: str) -> float:
    key = _momentum_key(optimizer, group)
    beta = group[key][0] if key == "betas" else group.get(key, 0.0)
    if not beta:
        raise ValueError(
            f"schedule.scale_momentum = true: {name} has no momentum to scale; leave it out, or use"
            " --optimizer momentum or --optimizer torch.SGD --optimizer.momentum 0.9"
        )
    return float(beta)


def _momentum_key(optimizer: Optimizer, group: dict[str, Any]) -> str:
    if isinstance(optimizer, RMSprop):
        return ""  # its beta averages squares
    return next((key for key in ("momentum", "betas", "beta1", "beta") if key in group), "")
