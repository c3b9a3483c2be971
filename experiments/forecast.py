"""`taolu run --dry_run`: what a run would be made of, how long it would take and how much it would keep.

Time and size come from runs of the same shape in this store, else from a few steps taken now, else they are unknown.
"""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from experiments.build import (
    build_parts,
    check_session,
    n_batches,
    n_processes,
    objective_of,
    planned_steps,
    set_threads,
)
from experiments.config import Config, chosen_parts
from experiments.parser import Settings, word
from experiments.predictions import keep
from experiments.rehearsal import stage
from experiments.store.configs import flatten
from experiments.store.heartbeat import TAG
from experiments.store.location import Store
from experiments.store.read import histories, runs_table
from experiments.store.write import as_text
from experiments.trainer import TrainerOptions

if TYPE_CHECKING:
    import pandas as pd

DEFAULT, YAML, TYPED = "default", "YAML", "command line"
NEIGHBOURS = 5  # runs of the same shape that are asked, those of the nearest length
TIMING_SECONDS = 1.0
TIMED_VALIDATION = 20  # batches
# What says how long a run is, where its randomness begins or how large a step is: no step takes longer by it.
NOT_SHAPE = (
    "seed",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.early_stopping",
    "trainer.keep",
)
NOT_SHAPE_PARTS = ("optimizer.", "critic_optimizer.", "schedule.")


@dataclass(frozen=True)
class Value:
    """One setting of a run.

    Args:
        key: dotted.
        value: as it would be.
        origin: default, YAML or command line.
        before: of the experiment's last run, as text; None where it was the same, or there is no such run.
    """

    key: str
    value: Any
    origin: str
    before: str | None = None


@dataclass(frozen=True)
class Cost:
    """What a run would take.

    Args:
        seconds: of wall time, at most where it may stop early; None = unknown.
        checkpoint_bytes: of all checkpoints it would keep, at most; None = unknown.
        source: where both are from, in words.
    """

    seconds: float | None
    checkpoint_bytes: int | None
    source: str


@dataclass(frozen=True)
class Forecast:
    """A run that is not made.

    Args:
        name: of the experiment.
        values: every setting.
        last_run: the experiment's last one, by id and name; empty where there is none.
        parameters: numbers that are trained.
        processes: that train together.
        steps: None where only time ends the run.
        batches: of the first epoch; None where the data does not say.
        validations: None where steps or batches are unknown.
        cost: in time and space.
        is_kept: whether the prediction lies in the store, to be scored by the next run.
    """

    name: str
    values: tuple[Value, ...]
    last_run: str
    parameters: int
    processes: int
    steps: int | None
    batches: int | None
    validations: int | None
    cost: Cost
    is_kept: bool

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        values = {
            value.key: {key: item for key, item in asdict(value).items() if key != "key"} for value in self.values
        }
        return {**asdict(self), "values": values}

    def lines(self) -> list[str]:
        """As a person reads it."""
        width = max(len(value.key) for value in self.values)
        shown = max(min(len(word(value.value)), 40) for value in self.values)
        lines = []
        for value in self.values:
            changed = f"  was {value.before} in {self.last_run}" if value.before is not None else ""
            lines.append(
                f"{value.key:{width}}  {word(value.value):{shown}}  {value.origin:{len(TYPED)}}{changed}".rstrip()
            )
        facts = {"batches an epoch": self.batches, "steps": self.steps, "validations": self.validations}
        together = [f"processes {self.processes}"] if self.processes > 1 else []
        told = [
            f"parameters {self.parameters:,}",
            *together,
            *(f"{key} {_known(count)}" for key, count in facts.items()),
        ]
        size = "unknown" if self.cost.checkpoint_bytes is None else _size(self.cost.checkpoint_bytes)
        seconds = "unknown" if self.cost.seconds is None else duration(self.cost.seconds)
        lines += ["", "  ".join(told), f"time {seconds}  checkpoints {size}  ({self.cost.source})"]
        if not self.is_kept:
            lines.append("the store cannot be written, and no run will say whether this was right")
        return [*lines, f"{self.name}: no run was made"]


def forecast(config: Config, target: str, options: Sequence[str], store: Store) -> Forecast:
    """What a run of this config would be, after every check that comes before a run; no run is made.

    Args:
        config: resolved from `target` and `options`.
        target: as on the command line.
        options: words of the command line.
        store: whose runs are asked, and where what is foretold of the time is kept.

    Raises ConfigError for whatever a run would refuse.
    """
    threads = set_threads(config.values["threads"])
    module, data = build_parts(config)
    trainer = TrainerOptions.from_config(config.values["trainer"])
    check_session(module, data, trainer)
    config = config.with_threads(threads)
    table = runs_table(store, kinds=("run",))
    own = table[table["experiment"] == config.name] if len(table) else table
    processes = n_processes(trainer)
    steps, batches = planned_steps(trainer, data), n_batches(data, processes)
    validations = n_validations(trainer, steps, batches)
    shape = _of_same_shape(own, config)
    cost = _from_history(store, shape, trainer, steps, objective_of(module) is not None)
    if cost is None:
        cost = _from_steps(config, (module, data), trainer, steps, validations)
    prediction = {"seconds": cost.seconds, "source": cost.source, "time": time.time()}
    return Forecast(
        name=config.name,
        values=tuple(_values(config, target, options, own)),
        last_run=f"{own.iloc[0]['run_id'][:8]} {own.iloc[0]['name']}" if len(own) else "",
        parameters=sum(p.numel() for p in module.parameters()),
        processes=processes,
        steps=steps,
        batches=batches,
        validations=validations,
        cost=cost,
        is_kept=keep(store, config, "forecast", prediction),
    )


# ---- values ---------------------------------------------------------------------------------------------------------


def origins(config: Config, target: str, options: Sequence[str]) -> dict[str, str]:
    """Where each value of a resolved config was written: nowhere (default), in a file, or on the command line."""
    files = set(flatten(chosen_parts(target, options)[0]))
    typed = {_key(each) for each in options if each.startswith("--")}
    if ":" in target:
        typed.add("model")
    found = {}
    for key in flatten(config.values):
        found[key] = TYPED if key in typed else YAML if key in files else DEFAULT
    for key, origin in found.items():
        if key.startswith("critic_optimizer") and origin == DEFAULT:  # what it takes from the optimizer
            found[key] = found.get(key.removeprefix("critic_"), origin)
    return found


def _key(option: str) -> str:
    return option.removeprefix("--").partition("=")[0].removesuffix(".class")


def _values(config: Config, target: str, options: Sequence[str], own: pd.DataFrame) -> list[Value]:
    found = origins(config, target, options)
    values = flatten(config.redacted().values)
    before = {str(key): value for key, value in own.iloc[0].items()} if len(own) else {}
    return [Value(key, value, found[key], _before(before, key, value)) for key, value in values.items()]


def _before(run: Mapping[str, Any], key: str, value: Any) -> str | None:
    """The value of a run, where it was another; a run keeps no null."""
    if not run:
        return None
    kept = run.get(f"params.{key}")
    text = kept if isinstance(kept, str) else "null"
    return None if text == as_text(value) or " characters in " in text else text


# ---- cost -----------------------------------------------------------------------------------------------------------


def n_validations(options: TrainerOptions, steps: int | None, batches: int | None) -> int | None:
    """Validations of a whole run; None where its length is unknown.

    >>> n_validations(TrainerOptions(max_epochs=3), 30, 10), n_validations(TrainerOptions(val_check_interval=4), 30, 10)
    (3, 7)
    """
    if options.limit_val_batches == 0:
        return 0
    if steps is None or not batches:
        return None
    used = steps * options.accumulate_grad_batches
    limit, interval = options.limit_train_batches, options.val_check_interval
    epoch = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    if isinstance(interval, int):
        return used // interval
    return max(1, math.ceil(used / epoch / interval - 1e-9))


def shape_of(config: Config) -> Settings:
    """What the time of a step depends on: every setting but lengths, the seed, and an optimizer's numbers."""
    return {
        key: value
        for key, value in config.redacted().flat().items()
        if not key.startswith((*NOT_SHAPE, *NOT_SHAPE_PARTS)) and key != "name"
    }


def _of_same_shape(own: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The finished runs of an experiment that were of this shape, on this machine."""
    if not len(own):
        return own
    shape = {key: as_text(value) for key, value in shape_of(config).items()}
    columns = {column.removeprefix("params."): column for column in own.columns if column.startswith("params.")}
    kept = own[own["status"] == "FINISHED"]
    for key in sorted({*shape, *columns}):
        if key.startswith((*NOT_SHAPE, *NOT_SHAPE_PARTS)):
            continue
        values = kept[columns[key]] if key in columns else None
        wanted = shape.get(key)
        if values is not None:
            kept = kept[values.isna() if wanted is None else values == wanted]
        elif wanted is not None:
            return kept.iloc[:0]
    if f"tags.{TAG}" not in kept:
        return kept.iloc[:0]
    return kept[kept[f"tags.{TAG}"].map(_is_here)]


def _is_here(beat: Any) -> bool:
    return isinstance(beat, str) and json.loads(beat).get("host") == socket.gethostname()


def _from_history(
    store: Store, runs: pd.DataFrame, options: TrainerOptions, steps: int | None, has_objective: bool
) -> Cost | None:
    """The cost by runs of the same shape, time in proportion to steps; None where there are none."""
    column = "metrics.time/wall_seconds"
    if steps is None or not len(runs) or column not in runs:
        return None
    runs = runs[runs[column].notna()].head(10 * NEIGHBOURS)
    points = histories(store, list(runs["run_id"]), ["train/loss"])
    taken = (points.groupby("run_id")["step"].max() + 1).to_dict()
    walls = zip(runs["run_id"], runs[column], strict=True)
    found = [(taken[run_id], float(seconds), run_id) for run_id, seconds in walls if run_id in taken]
    if not found:
        return None
    nearest = sorted(found, key=lambda run: abs(math.log(run[0] / steps)))[:NEIGHBOURS]
    sizes = [
        file.stat().st_size
        for _, _, run_id in nearest
        for file in (store.run_folder(run_id) / "checkpoints").glob("*.ckpt")
    ]
    return Cost(
        seconds=median(seconds * steps / count for count, seconds, _ in nearest),
        checkpoint_bytes=_kept_bytes(options, max(sizes), has_objective) if sizes else None,
        source=f"from {len(nearest)} run{'s' * (len(nearest) > 1)} of this shape",
    )


def _from_steps(
    config: Config,
    parts: tuple[pl.LightningModule, Any],
    options: TrainerOptions,
    steps: int | None,
    validations: int | None,
) -> Cost:
    """The cost by a validation and a second of steps, taken now."""
    with stage() as place:
        most = _validation_batches(parts[1], options)
        first = place.rehearse(config, parts, steps=2, n_validation=min(most or TIMED_VALIDATION, TIMED_VALIDATION))
        if first.error:
            return Cost(None, None, f"unknown: {first.error}")
        saved = first.checkpoint.stat().st_size
        began = time.perf_counter()
        second = place.rehearse(config, parts, steps=steps, seconds=TIMING_SECONDS)
        around = time.perf_counter() - began - len(second.losses) * (second.step_seconds or 0.0)
    size = _kept_bytes(options, saved, objective_of(parts[0]) is not None)
    if second.error or second.step_seconds is None or steps is None or validations is None:
        why = second.error or "the run's length is not known beforehand, or it has too few steps to time"
        return Cost(None, size, f"size from steps just taken; time unknown: {why}")
    scale = max(1.0, (most or 0) / TIMED_VALIDATION)
    validating = validations * (first.validation_seconds or 0.0) * scale
    return Cost(max(around, 0.0) + steps * second.step_seconds + validating, size, "from steps just taken")


def _validation_batches(data: Any, options: TrainerOptions) -> int | None:
    """Batches of a validation; None where the data does not say."""
    validation = data[1] if isinstance(data, tuple) else data
    try:
        count = len(validation.val_dataloader() if hasattr(validation, "val_dataloader") else validation)
    except Exception:  # noqa: BLE001 - a data module nobody has set up yet may raise anything
        return None
    limit = options.limit_val_batches
    return min(count, limit) if isinstance(limit, int) else int(count * limit)


def _kept_bytes(options: TrainerOptions, size: int, has_objective: bool) -> int:
    return size * (options.keep.last + (options.keep.best and has_objective))


# ---- words ----------------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """A length of time as a person says it.

    >>> duration(0.42), duration(75), duration(7500)
    ('0.42 s', '75 s', '2.1 h')
    """
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _known(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"
