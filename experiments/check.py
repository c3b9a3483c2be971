"""`taolu check`: does a config run, and will it learn; known in seconds, before a run is made.

Two steps, a validation, a checkpoint and its reload, then training for a second, all in a folder that is removed. What
is foretold of lr is kept in the store, and the next run of the config records whether it was right.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytorch_lightning as pl

from experiments.build import build_parts, check_session, n_processes, planned_steps, set_threads
from experiments.config import Config
from experiments.errors import ConfigError
from experiments.load import rebuilt
from experiments.parser import FACTS
from experiments.predictions import has_diverged, keep
from experiments.rehearsal import Rehearsal, Stage, stage
from experiments.resume import load_checkpoint
from experiments.steepness import Noise, Steepness, can_be_measured
from experiments.store.location import Store
from experiments.trainer import TrainerOptions

MEASURING_SECONDS = 0.5  # each for curvature and noise; with the training between them, 2 s in all
TRAINING_SECONDS = 1.0
TOO_LARGE = 10.0  # a batch of so many noise scales: 11 times the samples that small batches would need


@dataclass(frozen=True)
class Report:
    """What a check found.

    Args:
        name: of the experiment.
        error: what failed, in one line; empty when nothing did.
        passed: what went well, in a few words each.
        warnings: what will go wrong, or be a waste.
        notes: what could not be looked at, and why.
        measured: lr, limit (of lr), lambda_max, batch, noise_scale with _low and _high, first_loss, last_loss, steps;
            those that are known.
        warned: whether a warning says that training will not work.
    """

    name: str
    error: str = ""
    passed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    measured: dict[str, float] = field(default_factory=dict)
    warned: bool = False

    @property
    def exit_status(self) -> int:
        """0, or 1 when a step failed."""
        return 1 if self.error else 0

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        lines = [f"ok       {what}" for what in self.passed]
        lines += [f"note     {what}" for what in self.notes]
        lines += [f"warning  {what}" for what in self.warnings]
        if self.error:
            return [*lines, f"failed   {self.error}"]
        count = len(self.warnings)
        found = f"{count} warning{'s' * (count > 1)}" if count else "nothing against it"
        return [*lines, f"{self.name}: {found}"]


def check(config: Config, store: Store) -> Report:
    """What two steps, a validation, a checkpoint, its reload and a second of training show.

    Args:
        config: resolved.
        store: where what is foretold is kept; no run is made in it.

    Raises ConfigError for whatever its parts refuse.
    """
    set_threads(config.values["threads"] or 1)
    module, data = build_parts(config)
    options = TrainerOptions.from_config(config.values["trainer"])
    check_session(module, data, options)
    passed = [f"built: {sum(p.numel() for p in module.parameters()):,} parameters"]
    seed = int(config.values["seed"])
    steepness, noise = Steepness(MEASURING_SECONDS, seed), Noise(MEASURING_SECONDS, seed)
    with stage() as place:
        first = place.rehearse(config, (module, data), steps=2, n_validation=1, callbacks=(steepness,))
        if first.error:
            return Report(config.name, first.error, tuple(passed))
        passed.append(f"{len(first.losses) or 2} steps{', a validation' * (first.validation_seconds is not None)}")
        try:
            again = _reloaded(config, data, first)
        except (ConfigError, TypeError, ValueError, RuntimeError) as error:
            return Report(config.name, f"reload: {' '.join(str(error).split())}", tuple(passed))
        passed.append("a checkpoint, reloaded")
        second = _trained(place, config, (again, data), noise)
    if second.error:
        return Report(config.name, second.error, tuple(passed))
    rows = _global_batch(data, options)
    report = _judged(config.name, passed, module, (*first.losses, *second.losses), steepness, noise, rows)
    prediction = {"warned": report.warned, "warnings": list(report.warnings), "time": time.time()}
    if not keep(store, config, "check", prediction):
        why = f"store {store.label}: cannot be written, and no run will say whether this was right"
        return replace(report, notes=(*report.notes, f"{why}; choose another with --store DIR"))
    return report


def _reloaded(config: Config, data: Any, rehearsal: Rehearsal) -> pl.LightningModule:
    """The module as `taolu.load` would build it from the checkpoint."""
    state = load_checkpoint(rehearsal.checkpoint, again="taolu check")
    facts = {key: getattr(data, key) for key in FACTS if hasattr(data, key)}
    module = rebuilt(config.values, json.loads(json.dumps(facts)), state)
    module.on_load_checkpoint(state)
    return module


def _trained(place: Stage, config: Config, parts: tuple[pl.LightningModule, Any], noise: Noise) -> Rehearsal:
    options = TrainerOptions.from_config(config.values["trainer"])
    length = planned_steps(options, parts[1])
    return place.rehearse(config, parts, steps=length, seconds=TRAINING_SECONDS, callbacks=(noise,))


def _global_batch(data: Any, options: TrainerOptions) -> int | None:
    size = getattr(data, "batch_size", None)
    return size * n_processes(options) * options.accumulate_grad_batches if isinstance(size, int) else None


def _judged(
    name: str,
    passed: list[str],
    module: pl.LightningModule,
    losses: tuple[float, ...],
    steepness: Steepness,
    noise: Noise,
    batch: int | None,
) -> Report:
    """The report of a config that runs."""
    measured, notes = _measured(losses, steepness, noise, batch), _unmeasured(module, steepness, noise)
    doubts = [_too_steep(steepness), _diverges(losses, may_rise=not module.automatic_optimization)]
    wastes = [] if any(doubts) else [_too_large(noise, batch)]  # the noise of a training that broke says nothing
    warnings = [doubt for doubt in (*doubts, *wastes) if doubt]
    if losses:
        passed = [*passed, f"trained {len(losses)} steps: loss {losses[0]:.4g} -> {losses[-1]:.4g}"]
    if "lambda_max" in measured and steepness.limit is not None and steepness.motion is not None:
        shown = f"lr {steepness.motion.lr:.3g}, {steepness.motion.limit:.3g}/lambda_max = {steepness.limit:.2g}"
        passed = [*passed, f"measured: {shown}"]
    if noise.scale is not None and batch is not None and not any(doubts):
        passed = [*passed, f"measured: batch {batch}, noise scale {noise.scale.estimate:.3g} rows"]
    return Report(name, "", tuple(passed), tuple(warnings), tuple(notes), measured, any(doubts))


def _measured(losses: tuple[float, ...], steepness: Steepness, noise: Noise, batch: int | None) -> dict[str, float]:
    scale = noise.scale
    found = {
        "lr": steepness.motion.lr if steepness.motion else None,
        "limit": steepness.limit,
        "lambda_max": steepness.lambda_max,
        "batch": batch,
        "noise_scale": scale.estimate if scale else None,
        "noise_scale_low": scale.low if scale else None,
        "noise_scale_high": scale.high if scale else None,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "steps": len(losses),
    }
    return {key: value for key, value in found.items() if value is not None}


def _unmeasured(module: pl.LightningModule, steepness: Steepness, noise: Noise) -> list[str]:
    if not can_be_measured(module):
        kind = type(module).__name__
        return [f"lambda_max and gradient noise are not measured: {kind} has no per_sample_loss(batch)"]
    notes = [f"{what} is not measured: {part.trouble}" for what, part in _parts(steepness, noise) if part.trouble]
    if steepness.motion is None and not steepness.trouble:
        notes.append(f"lambda_max = {steepness.lambda_max:.3g}; for this optimizer no limit of lr follows from it")
    if noise.scale is None and not noise.trouble:
        notes.append("the gradient noise scale is not determined here: the mean gradient drowns in it")
    return notes


def _parts(steepness: Steepness, noise: Noise) -> tuple[tuple[str, Steepness | Noise], ...]:
    return (("lambda_max", steepness), ("gradient noise", noise))


def _too_steep(steepness: Steepness) -> str:
    motion, limit = steepness.motion, steepness.limit
    if motion is None or motion.limit is None or limit is None or motion.lr <= limit:
        return ""
    return f"lr {motion.lr:.3g} > {motion.limit:.3g}/lambda_max = {limit:.2g}: steps swing ever wider from the start"


def _diverges(losses: tuple[float, ...], *, may_rise: bool) -> str:
    wrong = next((step for step, loss in enumerate(losses) if not math.isfinite(loss)), None)
    if wrong is not None:
        return f"train/loss is {losses[wrong]} at step {wrong}"
    if not has_diverged(losses, may_rise=may_rise):
        return ""
    path = f"from {losses[0]:.3g} to {max(losses):.3g}, {losses[-1]:.3g} after {len(losses)} steps"
    return f"train/loss rose {path}; a smaller lr may help"


def _too_large(noise: Noise, batch: int | None) -> str:
    if batch is None or noise.scale is None or not batch > TOO_LARGE * noise.scale.high:
        return ""
    ratio = batch / noise.scale.estimate
    return f"batch {batch} is {ratio:.0f}x the noise scale ({noise.scale.estimate:.0f} rows): more rows hardly help"
