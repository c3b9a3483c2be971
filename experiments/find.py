"""`taolu find`: a learning rate, a batch size and a space worth searching, measured on the real optimizer."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml

from experiments.build import build_parts, check_session, set_threads
from experiments.config import Config, resolve
from experiments.errors import ConfigError
from experiments.parser import signature_of
from experiments.ramp import Ramp, range_test
from experiments.rehearsal import Stage, stage
from experiments.steepness import Noise, Steepness, can_be_measured
from experiments.store.configs import flatten
from experiments.store.files import write_text
from experiments.trainer import TrainerOptions
from lightning_modules.data import DATA
from lightning_modules.dynamics import Interval
from lightning_modules.parts import load_class

MEASURING_SECONDS = 0.5
NOISE_SECONDS = 1.0  # of training before the noise is measured
RUNG_SECONDS = 0.25  # of training at each batch size
FEWEST_STEPS = 6  # taken at each batch size, or what is timed is the start
LARGEST_BATCH, SMALLEST_BATCH = 4096, 8
LADDER_SECONDS = 20.0
LR_KEYS = ("optimizer.lr", "model.lr", "model.learning_rate")


@dataclass(frozen=True)
class Rung:
    """Training at one batch size.

    Args:
        batch_size: rows a step.
        samples_per_second: rows trained on.
    """

    batch_size: int
    samples_per_second: float


@dataclass(frozen=True)
class Finding:
    """What was found.

    Args:
        name: of the experiment.
        ramp: the range test.
        limit: the largest lr stable where training starts, 2/lambda_max for SGD; None where none is known.
        noise_scale: in rows; None where it is not determined.
        rungs: speed by batch size.
        notes: what could not be found, and why.
        lr_key: the option that is the learning rate; None where there is none.
        lr: of the config.
        batch_size: of the config.
    """

    name: str
    ramp: Ramp
    limit: float | None
    noise_scale: Interval | None
    rungs: tuple[Rung, ...]
    notes: tuple[str, ...]
    lr_key: str | None
    lr: float | None
    batch_size: int | None

    @property
    def suggested_lr(self) -> float | None:
        """By the range test, at most half of what is stable."""
        return _sound_lr(self.ramp, self.limit)

    @property
    def suggested_batch(self) -> int | None:
        """The power of two next to the noise scale, else the smallest batch at half the greatest speed."""
        sizes = [rung.batch_size for rung in self.rungs]
        if not sizes:
            return None
        if self.noise_scale is not None:
            return min(sizes, key=lambda size: abs(math.log(size / max(self.noise_scale.estimate, 1.0))))  # type: ignore[union-attr]
        most = max(rung.samples_per_second for rung in self.rungs)
        return next(rung.batch_size for rung in self.rungs if rung.samples_per_second >= most / 2)

    def space(self) -> dict[str, Any]:
        """Axes as a sweep file writes them, around what is suggested."""
        axes: dict[str, Any] = {}
        lr, batch = self.suggested_lr, self.suggested_batch
        if self.lr_key is not None and lr is not None:
            axes[self.lr_key] = {"low": _rounded(lr / 10), "high": _rounded(lr * 3), "log": True}
        if batch is not None:
            axes["data.batch_size"] = [
                each.batch_size for each in self.rungs if batch / 4 <= each.batch_size <= 4 * batch
            ]
        return axes

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        scale = self.noise_scale
        return {
            "name": self.name,
            "suggestion": {"lr": self.suggested_lr, "batch_size": self.suggested_batch},
            "lr": self.lr,
            "batch_size": self.batch_size,
            "lr_lowest_loss": self.ramp.lowest,
            "lr_diverged": self.ramp.lrs[-1] if self.ramp.diverged else None,
            "lr_limit": self.limit,
            "noise_scale": scale._asdict() if scale else None,
            "ramp": [{"lr": lr, "loss": loss} for lr, loss in zip(self.ramp.lrs, self.ramp.losses, strict=True)],
            "throughput": {str(rung.batch_size): rung.samples_per_second for rung in self.rungs},
            "notes": list(self.notes),
            "space": self.space(),
        }

    def lines(self) -> list[str]:
        """As a person reads it."""
        ramp = self.ramp
        end = f"diverged at {ramp.lrs[-1]:.2g}" if ramp.diverged else f"still sound at {ramp.lrs[-1]:.2g}"
        lowest = "the loss never fell" if ramp.lowest is None else f"loss lowest at {ramp.lowest:.2g}"
        lines = [f"range test    lr {ramp.lrs[0]:.2g} to {ramp.lrs[-1]:.2g}, {len(ramp.lrs)} steps: {lowest}, {end}"]
        if self.limit is not None:
            lines.append(f"stability     lr {self.limit:.2g} is the most where training starts, by lambda_max")
        if self.noise_scale is not None:
            scale, low, high = self.noise_scale
            told = f"({low:.3g} to {high:.3g})" if low < high else "(exact: of every row)"
            lines.append(f"noise scale   {scale:.3g} rows {told}")
        lines += [
            f"speed         batch {rung.batch_size:5}  {rung.samples_per_second:10,.0f} rows/s" for rung in self.rungs
        ]
        lines += [f"note          {note}" for note in self.notes]
        return [*lines, self.sentence]

    @property
    def sentence(self) -> str:
        """The suggestion in one line."""
        lr, batch = self.suggested_lr, self.suggested_batch
        told = ["no lr" if lr is None else f"lr {_rounded(lr):g} (the config has {_word(self.lr)})"]
        if batch is not None:
            told.append(f"batch {batch} (the config has {_word(self.batch_size)})")
        return f"{self.name}: {', '.join(told)}"


def find(config: Config) -> Finding:
    """The range test, the limit, the noise scale and the speed of a config; no run is made, nothing is kept.

    Args:
        config: resolved. Its schedule is left aside: the test is of constant rates.

    Raises ConfigError for what its parts refuse, and when a step fails.
    """
    set_threads(config.values["threads"] or 1)
    constant = {"schedule": {"class": "constant"}} if "schedule" in config.values else {}
    config = Config(config.name, {**config.values, **constant})
    module, data = build_parts(config)
    check_session(module, data, TrainerOptions.from_config(config.values["trainer"]))
    seed, flat = int(config.values["seed"]), flatten(config.values)
    notes: list[str] = []
    with stage() as place:
        steepness, noise = Steepness(MEASURING_SECONDS, seed), Noise(MEASURING_SECONDS, seed)
        ramp = range_test(place, config, (module, data), steepness)
        key = next((each for each in LR_KEYS if each in flat), None)
        sound = _with_lr(config, key, _sound_lr(ramp, steepness.limit))
        started = place.rehearse(sound, build_parts(sound), seconds=NOISE_SECONDS, callbacks=(noise,))
        if started.error:
            raise ConfigError(f"a step fails: {started.error}; see it whole: taolu run")
        rungs = _ladder(place, sound, data, notes)
    if ramp.suggestion is None:
        notes.append("the loss did not fall below its noise at any lr: nothing is suggested")
    if noise.scale is None:
        notes.append(_why_no_scale(module, noise))
    critic = flat.get("critic_optimizer.lr")
    if key == "optimizer.lr" and critic not in (None, flat[key]):
        notes.append(
            f"critic_optimizer.lr rose with lr, {critic / flat[key]:.3g} times as large; in the space it stays"
        )
    if not module.automatic_optimization:
        notes.append("lr is judged by the loss of training_step alone; in a game of two networks that is one side's")
    if key is None:
        notes.append(f"the learning rate is no option of {type(module).__name__}: it stands in no search space")
    return Finding(
        name=config.name,
        ramp=ramp,
        limit=steepness.limit,
        noise_scale=noise.scale,
        rungs=tuple(rungs),
        notes=tuple(notes),
        lr_key=key,
        lr=None if key is None else flat[key],
        batch_size=flat.get("data.batch_size"),
    )


def _sound_lr(ramp: Ramp, limit: float | None) -> float | None:
    """By the range test, at most half of what is stable; None where nothing is known."""
    found = ramp.suggestion
    return found if found is None or limit is None else min(found, limit / 2)


def _with_lr(config: Config, key: str | None, lr: float | None) -> Config:
    """The config with that learning rate, where both are known: what is measured next shall not diverge."""
    if key is None or lr is None:
        return config
    part, _, name = key.partition(".")
    return Config(config.name, {**config.values, part: {**config.values[part], name: lr}})


def _why_no_scale(module: pl.LightningModule, noise: Noise) -> str:
    if not can_be_measured(module):
        return f"lambda_max and gradient noise are not measured: {type(module).__name__} has no per_sample_loss(batch)"
    return f"the gradient noise scale is not determined{': ' * bool(noise.trouble)}{noise.trouble}"


# ---- speed ----------------------------------------------------------------------------------------------------------


def _ladder(place: Stage, config: Config, data: Any, notes: list[str]) -> list[Rung]:
    """Speed at powers of two, up to the training set; until memory or the time for this is over."""
    if "batch_size" not in signature_of(load_class(config.values["data"]["class"], DATA)):
        notes.append("speed by batch size is not measured: the data part has no batch_size")
        return []
    most = min(LARGEST_BATCH, getattr(data, "n_train", LARGEST_BATCH) // getattr(data, "batches_per_step", 1))
    rungs: list[Rung] = []
    end = time.perf_counter() + LADDER_SECONDS
    size = SMALLEST_BATCH
    while size <= most and time.perf_counter() < end:
        rung = _rung(place, config, size, notes)
        if rung is None:
            break
        rungs.append(rung)
        size *= 2
    else:
        if size <= most:
            notes.append(f"batches of {size} and more are not timed: {LADDER_SECONDS:.0f} s are over")
    return rungs


def _rung(place: Stage, config: Config, size: int, notes: list[str]) -> Rung | None:
    values = {**config.values, "data": {**config.values["data"], "batch_size": size}}
    values["trainer"] = {**values["trainer"], "limit_train_batches": 1.0}
    sized = Config(config.name, values)
    try:
        parts = build_parts(sized)
    except ConfigError as error:
        notes.append(f"batch {size} is refused: {error}")
        return None
    result = place.rehearse(sized, parts, seconds=RUNG_SECONDS)
    if result.step_seconds is None and not result.error:  # a step takes longer than that
        result = place.rehearse(sized, parts, steps=FEWEST_STEPS)
    if result.error or result.step_seconds is None:
        notes.append(f"batch {size}: {result.error or 'too few steps to time'}")
        return None
    window = int(values["trainer"]["accumulate_grad_batches"])
    rows = size * window * getattr(parts[1], "batches_per_step", 1)
    return Rung(size, rows / result.step_seconds)


# ---- the search space -----------------------------------------------------------------------------------------------


def check_out(file: Path) -> None:
    """Raises ConfigError for a file that a search space cannot be written to, before anything is measured."""
    if file.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--out {file}: taolu sweep reads YAML; name it {file.with_suffix('.yaml')}")
    if file.exists():
        raise ConfigError(f"--out {file}: is there already; name another file")
    if not file.parent.is_dir():
        raise ConfigError(f"--out {file}: there is no folder {file.parent}; make it first")


def write_space(finding: Finding, config: Config, target: str, file: Path) -> None:
    """A file that `taolu sweep` takes, with what was found in its head.

    Args:
        finding: of the config.
        config: resolved.
        target: as on the command line.
        file: to be written.

    Raises ConfigError when nothing was found to search, or the file cannot be written.
    """
    space = finding.space()
    if not space:
        raise ConfigError(f"--out {file}: nothing was found to search; see the notes")
    content: dict[str, Any] = {"experiment": _experiment(target), "settings": settings_of(config, target, space)}
    content |= {"sampler": "tpe", "n_trials": 20, "space": space}
    head = [
        f"# Why: {finding.sentence}; found by taolu find.",
        f"# Run: taolu sweep {file.name} --workers 2",
        f"# See: taolu sweep {file.name} --show",
    ]
    body = yaml.safe_dump({key: value for key, value in content.items() if value}, sort_keys=False, allow_unicode=True)
    try:
        write_text(file, "\n".join([*head, body]))
    except OSError as error:
        raise ConfigError(f"--out {file}: cannot be written ({error.strerror}); name another place") from error


def settings_of(config: Config, target: str, space: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the config of the target's own, by dotted key, what is searched left out."""
    given, own = flatten(config.redacted().values), flatten(resolve(target).values)
    classes = {
        part: given[part]
        for part in config.values
        if part in given and "." not in part and own.get(part) != given[part]
    }
    try:
        own = flatten(resolve(target, overrides=classes).values)  # another class has defaults of its own
    except ConfigError:  # and may have settings without a default: then all of them are written
        own = {key: value for key, value in own.items() if not key.startswith(tuple(f"{part}." for part in classes))}
    changed = {key: value for key, value in given.items() if key not in own or own[key] != value}
    return {key: value for key, value in {**classes, **changed}.items() if key not in space and key != "threads"}


def _experiment(target: str) -> str:
    if re.search(r"\.ya?ml$", target):
        return str(Path(target).expanduser().resolve())
    place, colon, name = target.rpartition(":")
    return f"{Path(place).expanduser().resolve()}:{name}" if colon and place.endswith(".py") else target


def _rounded(value: float) -> float:
    return float(f"{value:.1e}")


def _word(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"
