"""Learning-rate schedules: functions from the step to a factor of the optimizer's lr."""

from __future__ import annotations

import math


class Constant:
    """The optimizer's lr at every step."""

    def __call__(self, step: int) -> float:
        """1."""
        return 1.0


class Cosine:
    """A linear warm-up, then half a cosine down to a share of lr.

    Args:
        warmup_steps: steps from 0 to the full lr.
        final_fraction: share of lr at the end and after it, in [0, 1].
        steps: length of the whole schedule; null = the run's own length, which then cannot be extended.

    Source: Loshchilov & Hutter 2017, equation 5, without restarts.

    >>> factor = Cosine(warmup_steps=2, steps=10)
    >>> factor(0), factor(2), round(factor(6), 3), factor(10)
    (0.5, 1.0, 0.5, 0.0)
    """

    def __init__(self, warmup_steps: int = 0, final_fraction: float = 0.0, steps: int | None = None) -> None:
        if warmup_steps < 0:
            raise ValueError(f"schedule.warmup_steps = {warmup_steps}: must be at least 0")
        if not 0 <= final_fraction <= 1:
            raise ValueError(f"schedule.final_fraction = {final_fraction}: must lie in [0, 1]")
        if steps is not None and steps <= warmup_steps:
            raise ValueError(f"schedule.steps = {steps}: must exceed schedule.warmup_steps = {warmup_steps}")
        self.warmup_steps = warmup_steps
        self.final_fraction = final_fraction
        self.steps = steps

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

    >>> factor = Step(every=3, gamma=0.5)
    >>> [factor(step) for step in (0, 2, 3, 6)]
    [1.0, 1.0, 0.5, 0.25]
    """

    def __init__(self, every: int = 1000, gamma: float = 0.1) -> None:
        if every < 1:
            raise ValueError(f"schedule.every = {every}: must be at least 1")
        if not 0 < gamma <= 1:
            raise ValueError(f"schedule.gamma = {gamma}: must lie in (0, 1]")
        self.every = every
        self.gamma = gamma

    def __call__(self, step: int) -> float:
        """The factor at a 0-based step, in (0, 1]."""
        return float(self.gamma ** (step // self.every))
