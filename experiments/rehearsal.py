"""A few steps of a config, taken as a run takes them, in a folder that is removed afterwards: no store sees them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl

from experiments.build import Session
from experiments.config import Config
from experiments.errors import ConfigError
from experiments.run import KILLED, execute
from experiments.signals import Interrupted, Signals
from experiments.store.location import Store
from experiments.store.spool import Point
from experiments.store.write import RunWriter
from experiments.trainer import EarlyStopping, Keep, Quality, TrainerOptions

WARM_UP = 3  # batches that are not timed: the first ones allocate


@dataclass(frozen=True)
class Rehearsal:
    """How a few steps went.

    Args:
        error: one line saying what was raised, and where; empty when nothing was.
        losses: of each step, as the run would record them under train/loss.
        step_seconds: of a step; None where too few were taken to tell.
        validation_seconds: of the validation at the end, with what it saves and draws; None where there was none.
        checkpoint: last.ckpt, there for as long as its folder is.
    """

    error: str
    losses: tuple[float, ...]
    step_seconds: float | None
    validation_seconds: float | None
    checkpoint: Path


class Stage:
    """The folder that rehearsals leave their files in.

    Args:
        folder: empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = count()

    def rehearse(
        self,
        config: Config,
        parts: tuple[pl.LightningModule, Any],
        *,
        steps: int | None = None,
        seconds: float | None = None,
        n_validation: int = 0,
        callbacks: Iterable[pl.Callback] = (),
    ) -> Rehearsal:
        """A fit of this module on one process, until the steps or the time are over.

        Args:
            config: of the parts.
            parts: module and data.
            steps: batches after which weights changed; at most as many as the run itself would take.
            seconds: of training.
            n_validation: batches of the validation that follows.
            callbacks: before those of a run.

        Raises Interrupted when a signal ended it.
        """
        module, data = parts
        options = TrainerOptions.from_config(config.values["trainer"])
        most = [number for number in (steps, options.max_steps) if number is not None]
        watch, lines = _Watch(), list[str]()
        writer = _Scratch(self.folder / str(next(self._numbers)))
        with Signals() as signals:
            signals.defer()
            session = Session(
                writer,
                config,
                module,
                data,
                _shortened(options, min(most, default=None), seconds, n_validation),
                signals,
                lines.append,
                callbacks=(watch, *callbacks),
            )
            result = execute(session)
        if result.status == KILLED:
            raise Interrupted(result.exit_status - 128)
        told = [line.removeprefix("failed at ") for line in lines if line.startswith("failed at ")]
        return Rehearsal(
            error=(told or [result.error])[0] if result.error else "",
            losses=tuple(value for key, value, _, _ in writer.points if key == "train/loss"),
            step_seconds=watch.step_seconds(options.accumulate_grad_batches),
            validation_seconds=watch.validation_seconds,
            checkpoint=writer.folder / "checkpoints" / "last.ckpt",
        )


@contextmanager
def stage() -> Iterator[Stage]:
    """A place for rehearsals, gone with all its files afterwards.

    Raises ConfigError where no temporary folder can be made.
    """
    try:
        folder = TemporaryDirectory(prefix="taolu-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ConfigError(
            f"no temporary folder can be made ({error.strerror}); set TMPDIR to one with space"
        ) from error
    with folder as name:
        yield Stage(Path(name))


def _shortened(options: TrainerOptions, steps: int | None, seconds: float | None, n_validation: int) -> TrainerOptions:
    has_validation = n_validation > 0 and options.limit_val_batches > 0
    return replace(
        options,
        max_epochs=None,
        max_steps=steps,
        max_time=None if seconds is None else f"{seconds:.3f}",
        devices=1,
        num_nodes=1,
        strategy="auto",
        val_check_interval=1.0,
        limit_val_batches=n_validation if has_validation else 0,
        compile=False,  # takes longer than everything else here
        early_stopping=EarlyStopping(),
        checkpoint_every=None,
        keep=Keep(),
        profiler=None,
        dynamics=(),
        quality=Quality(metrics=()),
    )


class _Scratch(RunWriter):
    """A run that no database knows of: its files lie in a folder, its values are kept here.

    Args:
        folder: of its files.
    """

    def __init__(self, folder: Path) -> None:
        self.store = Store("scratch", folder)
        self.run_id = self.name = "rehearsal"
        self.tags_before = {}
        self.folder = folder / "artifacts"
        self.folder.mkdir(parents=True)
        self.points: list[Point] = []

    def metrics(self, points: Iterable[Point]) -> None:
        """Keeps them."""
        self.points.extend(points)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Nobody asks for them."""

    def finish(self, status: str) -> None:
        """The result says it."""


class _Watch(pl.Callback):
    """When batches ended, and how long the last validation took."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.validation_seconds: float | None = None
        self._since: float | None = None

    def on_train_batch_end(self, *args: Any) -> None:
        """The clock."""
        self.ends.append(time.perf_counter())

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """First of all callbacks: before the checkpoint is saved."""
        self._since = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After everything that follows a validation."""
        if self._since is not None:
            self.validation_seconds = time.perf_counter() - self._since

    def step_seconds(self, window: int) -> float | None:
        """Of a step of so many batches."""
        timed = self.ends[WARM_UP:]
        seconds = (timed[-1] - timed[0]) / (len(timed) - 1) * window if len(timed) > 1 else math.nan
        return seconds if math.isfinite(seconds) else None
