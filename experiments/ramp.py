"""The learning-rate range test: lr rises exponentially, step by step, until the loss leaves the ground.

Source: Smith 2017 (arXiv:1506.01186), section 3.3, with lr in equal ratios.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch

from experiments.config import Config
from experiments.errors import ConfigError
from experiments.rehearsal import Stage
from experiments.steepness import Steepness

LOWEST_LR, HIGHEST_LR, RAMP_STEPS = 1e-6, 10.0, 150  # 21 steps a decade
SMOOTHING = 0.8  # of the exponential mean: 5 steps, a quarter of a decade


@dataclass(frozen=True)
class Ramp:
    """A range test: the loss at each lr.

    Args:
        lrs: of the first parameter group of the first optimizer, rising.
        losses: at each, before the step with it.
        diverged: whether the loss left the ground, where the test ended.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    diverged: bool

    @property
    def lowest(self) -> float | None:
        """The lr the smoothed loss is lowest at; None where it never fell."""
        finite = [loss for loss in self.losses if math.isfinite(loss)]
        curve = smoothed(finite)
        if not curve:
            return None
        best = min(range(len(curve)), key=curve.__getitem__)
        return self.lrs[best] if best > 0 and curve[best] < curve[0] - noise_of(finite) else None

    @property
    def suggestion(self) -> float | None:
        """A third of the lr with the lowest loss: there a step is as long as it can be for a moment, not for a run."""
        return None if self.lowest is None else self.lowest / 3


def range_test(place: Stage, config: Config, parts: tuple[pl.LightningModule, Any], steepness: Steepness) -> Ramp:
    """The range test of a config's own optimizers, GANs' two included.

    Args:
        place: for its files.
        config: without a schedule.
        parts: module and data.
        steepness: measured where it begins.

    Raises ConfigError when a step fails, or returns no loss.
    """
    rise = _Rise()
    result = place.rehearse(config, parts, steps=RAMP_STEPS, callbacks=(steepness, rise))
    if result.error and not rise.diverged:
        raise ConfigError(f"a step fails: {result.error}; see it whole: taolu run")
    if not rise.losses:
        raise ConfigError(
            f"model: {type(parts[0]).__name__}.training_step returns no loss to judge lr by; "
            "return it, alone or as 'loss'"
        )
    return Ramp(tuple(rise.lrs), tuple(rise.losses), rise.diverged)


class _Rise(pl.Callback):
    """Raises every group's lr by one factor a step, their ratios kept, until the loss leaves the ground."""

    def __init__(self) -> None:
        self.lrs: list[float] = []
        self.losses: list[float] = []
        self.diverged = False
        self._bases: list[list[float]] = []
        self._window: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes the rates that are given."""
        groups = [optimizer.param_groups for optimizer in trainer.optimizers]
        self._bases = [[float(group.get("initial_lr") or group.get("lr") or 1.0) for group in each] for each in groups]

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Sets them for this step; after whatever a scheduler did."""
        share = len(self.losses) / (RAMP_STEPS - 1)
        lr = LOWEST_LR * (HIGHEST_LR / LOWEST_LR) ** share
        for optimizer, bases in zip(trainer.optimizers, self._bases, strict=True):
            for group, base in zip(optimizer.param_groups, bases, strict=True):
                group["lr"] = lr * base / self._bases[0][0]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any) -> None:
        """Takes the step's loss, and ends the test where it diverged."""
        loss = loss_of(outputs, trainer)
        if loss is not None:
            self._window.append(loss * (trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1))
        if not self._window or trainer.fit_loop._should_accumulate():
            return
        self.losses.append(sum(self._window) / len(self._window))
        self._window.clear()
        share = (len(self.losses) - 1) / (RAMP_STEPS - 1)
        self.lrs.append(LOWEST_LR * (HIGHEST_LR / LOWEST_LR) ** share)
        if left_the_ground(self.losses):
            self.diverged = trainer.should_stop = True


def loss_of(outputs: Any, trainer: pl.Trainer) -> float | None:
    """The loss a training step returned, or logged as train/loss; None where there is none."""
    found = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    if found is None:
        found = trainer.callback_metrics.get("train/loss")
    if isinstance(found, torch.Tensor):
        return float(found.detach()) if found.numel() == 1 else None
    return float(found) if isinstance(found, int | float) else None


def smoothed(losses: Sequence[float]) -> list[float]:
    """The exponential mean of the losses up to each, without its start's bias.

    >>> [round(mean, 9) for mean in smoothed([2.0, 2.0, 2.0])]
    [2.0, 2.0, 2.0]
    """
    mean, curve = 0.0, []
    for i, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        curve.append(mean / (1 - SMOOTHING**i))
    return curve


def noise_of(losses: Sequence[float]) -> float:
    """What the smoothed loss varies by from batch to batch: by the differences of neighbours in the first fifth."""
    first = losses[: max(5, RAMP_STEPS // 5)]
    steps = [abs(b - a) for a, b in itertools.pairwise(first)]
    single = median(steps) / 0.954 if steps else 0.0  # of a normal difference of two: median .954 standard deviations
    return single * math.sqrt((1 - SMOOTHING) / (1 + SMOOTHING))


def left_the_ground(losses: Sequence[float]) -> bool:
    """Whether the last loss is not finite, or the smoothed one rose above its start by more than it had fallen.

    >>> left_the_ground([2.0, math.inf]), left_the_ground([2.0] * 20), left_the_ground([2.0] * 20 + [9.0] * 20)
    (True, False, True)
    """
    if not math.isfinite(losses[-1]):
        return True
    curve = smoothed(losses)
    fall = curve[0] - min(curve)
    return len(curve) > 10 and curve[-1] > curve[0] + fall + 10 * noise_of(losses) + 1e-6 * abs(curve[0])
