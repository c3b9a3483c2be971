"""The trainer part of a config: Lightning's names and meaning where it has one, few enough to read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from lightning_modules.parts import did_you_mean


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when a validation quantity no longer improves. Off unless monitor or patience is given.

    Args:
        monitor: quantity watched, as val/elbo; null = the model's objective.
        mode: whether lower (min) or higher (max) is better; null = the objective's.
        patience: validations in a row without improvement before stopping; null = 3 when monitor is given, else off.
        min_delta: smallest change that counts as an improvement.
    """

    monitor: str | None = None
    mode: Literal["min", "max"] | None = None
    patience: int | None = None
    min_delta: float = 0.0

    @property
    def is_on(self) -> bool:
        """Whether the run may stop early."""
        return self.monitor is not None or self.patience is not None


@dataclass(frozen=True)
class Keep:
    """Which checkpoints stay.

    Args:
        last: keep last.ckpt, which resume continues from.
        best: keep best.ckpt, the state at the best value of the model's objective.
    """

    last: bool = True
    best: bool = True


STRATEGIES = ("auto", "ddp", "fsdp")
UNSUITED = dict.fromkeys(
    ("ddp_spawn", "ddp_fork", "ddp_notebook"), "its processes give nothing back, so no run could be recorded"
)
# Judged in an extractor's features; then by the pixels; then by the module's own likelihood.
BY_FEATURES = ("fid", "kid", "is", "precision", "recall", "density", "coverage")
QUALITIES = (*BY_FEATURES, "sliced_wasserstein", "nll")


@dataclass(frozen=True)
class Quality:
    """How good what a model generates is. Modules with sample(n, seed) or nll(batch, n_samples, seed, first_row).

    Args:
        metrics: any of fid, kid, is, precision, recall, density, coverage, sliced_wasserstein, nll; [] = none; null =
            all that model and data allow, in a trial of a sweep only what it is judged by.
        n_samples: generated images, and as many held-out ones, or all of them where they are fewer.
        kid_subset: size of the disjoint subsets that kid is averaged over; null = all images at once.
        nll_samples: draws of z for an image, for nll.
        nll_images: held-out images whose nll is estimated, at most; a CNN on 28x28 takes 0.7 CPU-ms a draw.
        extractor: whose features; null = a small classifier trained once on the same data and kept in the store; or
            FILE.pt (TorchScript) or FILE.py:Class, a module that maps images (B, C, H, W) to features (B, D), or to
            a pair (features, logits).
    """

    metrics: tuple[str, ...] | None = None
    n_samples: int = 5000
    kid_subset: int | None = None
    nll_samples: int = 100
    nll_images: int = 250
    extractor: str | None = None

    def check(self) -> None:
        """Raises ValueError for values that cannot be used."""
        for name in self.metrics or ():
            if name not in QUALITIES:
                raise ValueError(
                    f"trainer.quality.metrics: unknown metric '{name}'{did_you_mean(name, QUALITIES)}; "
                    f"allowed: {', '.join(QUALITIES)}"
                )
        for name, least in (("n_samples", 2), ("kid_subset", 2), ("nll_samples", 1), ("nll_images", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"trainer.quality.{name} = {value}: must be at least {least}")


@dataclass(frozen=True)
class TrainerOptions:
    """How long, on what, and with which precision.

    Args:
        max_epochs: passes over the training data; null = no limit but max_steps.
        max_steps: batches after which the weights changed; null = no limit but max_epochs.
        max_time: stop after this long, as 90 (seconds) or 1:30:00 (hours:minutes:seconds), over all sessions of a run.
        accelerator: auto takes a GPU where there is one.
        devices: processes on this machine, or auto.
        num_nodes: machines.
        strategy: how several processes work together: ddp = each has the whole model; fsdp = each a part of it, on
            GPUs, for the GPT-2 family; auto = ddp where there are several.
        precision: as 32-true, bf16-mixed, 16-mixed, 64-true.
        val_check_interval: validate this often; 1.0 = once an epoch, 0.25 = four times, 100 = every 100 batches.
        limit_train_batches: share (0.1) or number (10) of the batches of an epoch.
        limit_val_batches: share or number of the validation batches; 0 = no validation.
        accumulate_grad_batches: batches whose gradients are averaged into one step.
        gradient_clip_val: largest gradient norm; null = no clipping.
        deterministic: refuse operations that differ from run to run (on a GPU).
        compile: torch.compile the model.
        checkpoint_every: also save last.ckpt every so many steps; null = at every validation and at the end.
        quality_every: pictures and quality figures every so many epochs and at the end; null = pictures every epoch,
            quality at the end.
        quality: FID and its like, of what the model generates.
        early_stopping: stop when a validation quantity no longer improves.
        keep: which checkpoints stay.
        profiler: null, simple or advanced: a table of where the time went, as an artifact.
        dynamics: what is measured of the training itself: noise, sharpness, updates, any of them as [noise,sharpness].
        dynamics_every: steps between two such measurements.
    """

    max_epochs: int | None = 10
    max_steps: int | None = None
    max_time: str | None = None
    accelerator: Literal["auto", "cpu", "gpu", "mps", "tpu"] = "auto"
    devices: int | str = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true", "bf16-true", "16-true", "transformer-engine"] = (
        "32-true"
    )
    val_check_interval: int | float = 1.0
    limit_train_batches: int | float = 1.0
    limit_val_batches: int | float = 1.0
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    deterministic: bool = False
    compile: bool = False
    checkpoint_every: int | None = None
    quality_every: int | None = None
    quality: Quality = field(default_factory=Quality)
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    keep: Keep = field(default_factory=Keep)
    profiler: Literal["simple", "advanced"] | None = None
    dynamics: tuple[Literal["noise", "sharpness", "updates"], ...] = ()
    dynamics_every: int = 100

    def __post_init__(self) -> None:
        """Refuses values no run can use.

        Raises ValueError.
        """
        for name in (
            "max_epochs",
            "max_steps",
            "num_nodes",
            "accumulate_grad_batches",
            "checkpoint_every",
            "quality_every",
            "dynamics_every",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"trainer.{name} = {value}: must be at least 1")
        if self.strategy not in STRATEGIES:
            raise ValueError(
                f"trainer.strategy = {self.strategy}: {UNSUITED.get(self.strategy, 'unknown')}"
                f"{did_you_mean(self.strategy, STRATEGIES)}; allowed: {', '.join(STRATEGIES)}"
            )
        if self.max_epochs is None and self.max_steps is None and self.max_time is None:
            raise ValueError(
                "trainer.max_epochs, max_steps and max_time are all null: give at least one, or the run never ends"
            )
        for name in ("val_check_interval", "limit_train_batches", "limit_val_batches"):
            _check_share(name, getattr(self, name), allow_zero=name == "limit_val_batches")
        if self.gradient_clip_val is not None and not self.gradient_clip_val > 0:
            raise ValueError(
                f"trainer.gradient_clip_val = {self.gradient_clip_val}: must be greater than 0, or null for none"
            )
        if self.early_stopping.patience is not None and self.early_stopping.patience < 1:
            raise ValueError(
                f"trainer.early_stopping.patience = {self.early_stopping.patience}: must be at least 1, or null"
            )
        if self.max_time is not None:
            seconds(self.max_time)
        self.quality.check()

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> TrainerOptions:
        """The options of a resolved config's `trainer` part."""
        plain = dict(values)
        plain["early_stopping"] = EarlyStopping(**plain.get("early_stopping", {}))
        plain["keep"] = Keep(**plain.get("keep", {}))
        quality = plain.get("quality", {})
        metrics = quality.get("metrics")
        plain["quality"] = Quality(**{**quality, "metrics": None if metrics is None else tuple(metrics)})
        return cls(**plain)


# May differ in a resumed run: where it runs, how often it saves. No weight depends on them on one machine.
PLACE = (
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.checkpoint_every",
    "trainer.quality_every",
    *(f"trainer.quality.{each.name}" for each in fields(Quality)),
    "trainer.profiler",
    "trainer.dynamics",
    "trainer.dynamics_every",
)


def _check_share(name: str, value: float, *, allow_zero: bool) -> None:
    if isinstance(value, float) and not (0 < value <= 1 or (allow_zero and value == 0)):
        raise ValueError(f"trainer.{name} = {value}: a share lies in (0, 1]; a whole number counts batches")
    if value < 0 or (value == 0 and not allow_zero):
        raise ValueError(f"trainer.{name} = {value}: must be greater than 0")


def steps_of(options: TrainerOptions, n_batches: int | Callable[[int], int] | None) -> int | None:
    """Steps of a whole run if nothing stops it early; None where that is unknown.

    Args:
        options: of the trainer.
        n_batches: batches of an epoch: of each, or a function of the epoch from 0; None or 0 = unknown.
    """
    found = []
    if options.max_epochs is not None and n_batches:
        if isinstance(n_batches, int):
            found.append(options.max_epochs * _steps_of_epoch(options, n_batches))
        else:
            found.append(sum(_steps_of_epoch(options, n_batches(epoch)) for epoch in range(options.max_epochs)))
    if options.max_steps is not None:
        found.append(options.max_steps)
    return min(found) if found else None


def _steps_of_epoch(options: TrainerOptions, n_batches: int) -> int:
    limit = options.limit_train_batches
    used = min(n_batches, limit) if isinstance(limit, int) else int(n_batches * limit)
    return math.ceil(used / options.accumulate_grad_batches)


def seconds(text: str) -> float:
    """The length in seconds of `90`, `30:00` or `1:30:00` (hours:minutes:seconds).

    >>> seconds("1:30:00"), seconds("90")
    (5400.0, 90.0)
    """
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        raise ValueError(f"trainer.max_time = '{text}': give seconds (90) or hours:minutes:seconds (1:30:00)")
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part)
    return total
