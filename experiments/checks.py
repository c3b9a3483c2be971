"""What is looked at before the first trial of a sweep: every cell resolved and built, one batch trained."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import pytorch_lightning as pl

from experiments.build import build_parts, check_session, objective_of, planned_steps, quiet, set_threads
from experiments.config import Config
from experiments.design import DEFAULT_TRIALS, Design
from experiments.errors import ConfigError, unknown
from experiments.judge import names_of
from experiments.objectives import Objective
from experiments.quality import plan
from experiments.space import identity
from experiments.tally import said
from experiments.trainer import TrainerOptions
from experiments.words import ENGLISH, Words
from experiments.workers import start

UNSEEN = ("dynamics/", "time/", "system/")  # recorded by callbacks that the one batch is trained without


def checked(design: Design, *, is_timed: bool = False) -> tuple[Design, dict[str, Config]]:
    """The design with what the experiment adds to it, and the resolved configs of its cells by their identity.

    Of a large space it is as many cells as show every value once. Nothing is written.

    Raises ConfigError in one line for what the experiment refuses, or an objective it does not record.
    """
    if design.verdict is not None:
        _check_claim(design.verdict)
    if design.n_trials is None and not design.is_grid and not is_timed:
        design = replace(design, n_trials=DEFAULT_TRIALS)
    threads = set_threads(int(design.settings.get("threads") or 1))
    configs: dict[str, Config] = {}
    stated: tuple[str, str] | None = None
    for point in design.space.samples():
        try:
            config = design.config(point).with_threads(threads)
            module, data = build_parts(config)
            check_session(module, data, TrainerOptions.from_config(config.values["trainer"]))
        except ConfigError as error:
            raise ConfigError(f"{said(point)}: {error}" if not _names_key(error, design) else str(error)) from error
        stated = stated or objective_of(module)
        configs[identity(point)] = config
    design = replace(design, objectives=_objectives(design, stated))
    _check_recorded(design, next(iter(configs.values())))
    return design, configs


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep would try.

    Args:
        design: of the study, whole.
        points: of a grid, in words.
        steps: that the first run would take; None where only time ends it.
    """

    design: Design
    points: tuple[str, ...]
    steps: int | None

    def sentence(self, words: Words = ENGLISH) -> str:
        """How much it is, in one line."""
        count, cells = self.design.n_planned(), len(self.points)
        by = words("plan_sampler", sampler=self.design.sampler.name)
        if self.design.is_grid:
            by = words("plan_grid", cells=cells, seeds=self.design.repeats)
        runs = words("plan_count", n=count) if count else words("plan_until_time")
        length = words("plan_steps", steps=self.steps) if self.steps else ""
        return words("plan", name=self.design.name, runs=runs, seeds=by, length=length)

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "study": self.design.name,
            "planned": self.design.n_planned(),
            "cells": len(self.points) or None,
            "points": list(self.points),
            "objectives": [objective.plain() for objective in self.design.objectives],
            "sentence": self.sentence(),
        }


def planned(design: Design, *, is_timed: bool) -> SweepPlan:
    """What a sweep would try, after every check."""
    design, configs = checked(design, is_timed=is_timed)
    first = next(iter(configs.values()))
    steps = planned_steps(TrainerOptions.from_config(first.values["trainer"]), build_parts(first)[1])
    return SweepPlan(design, tuple(map(said, design.space.grid())) if design.is_grid else (), steps)


def _names_key(error: ConfigError, design: Design) -> bool:
    return any(key in str(error) for key in design.space.keys)


def _check_claim(claim: Any) -> None:
    from experiments.claims.runner import catalogue

    known = [each.id for claims in catalogue().values() for each in claims]
    if claim not in known:
        raise unknown("claim", str(claim), known)


def _objectives(design: Design, stated: tuple[str, str] | None) -> tuple[Objective, ...]:
    if not design.objectives and stated is None:
        raise ConfigError(
            "objectives: the model states none; name one, as in objectives: {metric: val/loss, direction: min}"
        )
    given = design.objectives or (Objective(stated[0] if stated else ""),)
    return tuple(objective.directed(stated) for objective in given)


def _check_recorded(design: Design, config: Config) -> None:
    recorded = recorded_metrics(config)
    for objective in design.objectives:
        if recorded and objective.metric not in recorded and not objective.metric.startswith(UNSEEN):
            raise unknown("metric", objective.metric, recorded)


def recorded_metrics(config: Config) -> list[str]:
    """What a run records in its first batch and validation, found out in a process of its own; nothing if that fails.

    The first trial then says why.
    """
    near, far = multiprocessing.Pipe(duplex=False)
    process = start(_report_metrics, config, far)
    far.close()
    try:
        found: list[str] = near.recv()
    except EOFError:
        found = []
    process.join()
    return found


def _report_metrics(config: Config, answer: Connection) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    warnings.simplefilter("ignore")
    answer.send(_metrics_of_a_batch(config))


def _metrics_of_a_batch(config: Config) -> list[str]:
    module, data = build_parts(config)
    trainer_options = config.values["trainer"]
    quiet()
    names = _Names()
    trainer = pl.Trainer(
        accelerator=trainer_options["accelerator"],
        precision=trainer_options["precision"],
        max_epochs=1,
        limit_train_batches=1,
        limit_val_batches=min(trainer_options["limit_val_batches"], 1) and 1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[names],
    )
    if isinstance(data, pl.LightningDataModule):
        trainer.fit(module, datamodule=data)
    else:
        trainer.fit(module, *(data if isinstance(data, tuple) else (data,)))
    judged = plan(module, data, TrainerOptions.from_config(trainer_options).quality).names
    qualities = {metric for name in judged for metric in names_of(name)}
    return sorted({*names.found, *trainer.callback_metrics, *qualities})


class _Names(pl.Callback):
    """The names of what training steps return."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any) -> None:
        """Takes them as the recorder does."""
        keys = outputs if isinstance(outputs, Mapping) else ("loss",)
        self.found |= {f"train/{key}" for key in keys}
