"""A trial: one run of a sweep, or one for each seed, and the numbers it is judged by."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytorch_lightning as pl

from experiments.config import Config
from experiments.logger import Logger
from experiments.objectives import Objective
from experiments.run import FAILED, KILLED, Label, Parent, Result, run
from experiments.signals import Interrupted
from experiments.store.location import Store
from experiments.store.outage import patiently
from experiments.store.spool import Point
from experiments.store.write import RunWriter, open_store

Report = Callable[[float, int], bool]  # takes a value and the validation's number; says whether to give the trial up

# How a trial ends: with a result (the first four), or to be tried again.
COMPLETE, DIVERGED, PRUNED, TIMED_OUT, ERROR, STOPPED = (
    "complete",
    "diverged",
    "pruned",
    "timed out",
    "error",
    "stopped",
)


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Args:
        end: one of the words above.
        values: of the objectives; empty where there are none.
        run_ids: of its runs.
        error: one line, where end is error.
    """

    end: str
    values: tuple[float, ...] = ()
    run_ids: tuple[str, ...] = ()
    error: str = ""


class Watch(pl.Callback):
    """Keeps the objectives' values, reports them at validations, and ends what is hopeless, diverged or too long.

    Args:
        objectives: the first one is reported.
        report: None = nobody to report to.
        seconds: after which the run ends; None = no limit.
        is_lost: whether the trial is somebody else's by now: the run is then KILLED.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        report: Report | None,
        seconds: float | None,
        is_lost: Callable[[], bool] = lambda: False,
    ) -> None:
        self.objectives = objectives
        self.series: dict[str, list[float]] = {objective.metric: [] for objective in objectives}
        self.end = COMPLETE
        self._report = report
        self._is_lost = is_lost
        self._deadline = math.inf if seconds is None else time.monotonic() + seconds
        self._validations = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Listens to the run's logger."""
        if isinstance(trainer.logger, Logger):
            trainer.logger.heard = self._hear

    def _hear(self, points: list[Point]) -> None:
        for key, value, _, _ in points:
            if key in self.series:
                self.series[key].append(value)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Ends the run when its time is over, or nobody waits for it any more."""
        if self._is_lost():
            raise Interrupted(signal.SIGTERM)
        if time.monotonic() > self._deadline and not trainer.should_stop:
            self._stop(trainer, TIMED_OUT)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends the run when an objective is no longer finite, or the pruner gives it up."""
        values = [objective.value(series) for objective in self.objectives if (series := self.series[objective.metric])]
        if not all(map(math.isfinite, values)):
            self._stop(trainer, DIVERGED)
        elif values and self._report is not None and self._report(values[0], self._validations):
            self._stop(trainer, PRUNED)
        self._validations += 1

    def _stop(self, trainer: pl.Trainer, end: str) -> None:
        self.end = end
        trainer.should_stop = True


@dataclass(frozen=True)
class Trial:
    """What is to be run.

    Args:
        study: its name.
        number: of the trial.
        configs: one, or one a seed.
        objectives: with directions.
        store: where the runs go.
        parent: the sweep's run.
        seconds: after which the trial ends; None = no limit.
        is_lost: whether it is somebody else's by now.
    """

    study: str
    number: int
    configs: Sequence[Config]
    objectives: Sequence[Objective]
    store: Store
    parent: Parent
    seconds: float | None = None
    is_lost: Callable[[], bool] = lambda: False

    def run(self, report: Report | None) -> Outcome:
        """The outcome of its runs: the mean over the seeds, where there are several.

        The pruner is asked during the first of them only: the steps of a trial are reported once.
        """
        started, outcomes = time.monotonic(), []
        for i, config in enumerate(self.configs):
            left = None if self.seconds is None else max(self.seconds - (time.monotonic() - started), 0.0)
            outcomes.append(
                self._run(config, f".{i}" if len(self.configs) > 1 else "", report if i == 0 else None, left)
            )
            if outcomes[-1].end != COMPLETE:
                break
        ids = tuple(run_id for outcome in outcomes for run_id in outcome.run_ids)
        if outcomes[-1].end != COMPLETE:
            return replace(outcomes[-1], run_ids=ids)
        columns = zip(*(outcome.values for outcome in outcomes), strict=True)
        return Outcome(COMPLETE, tuple(sum(column) / len(column) for column in columns), ids)

    def _run(self, config: Config, mark: str, report: Report | None, seconds: float | None) -> Outcome:
        watch = Watch(self.objectives, report, seconds, self.is_lost)
        tags = {"taolu.study": self.study, "taolu.trial": str(self.number)}
        judged_by = tuple(objective.metric for objective in self.objectives)
        parent = replace(self.parent, tags=tags, callbacks=(watch,), objectives=judged_by)
        label = Label(f"{self.study}-{self.number}{mark}", kind="trial")
        result = run(config, store=self.store, label=label, parent=parent)
        outcome = _outcome(result, watch)
        patiently(lambda: self._annotate(result, outcome))
        return outcome

    def _annotate(self, result: Result, outcome: Outcome) -> None:
        """What the run's last values do not say: `objective/<metric>` where it is no last value, and how it ended."""
        pairs = zip(self.objectives, outcome.values, strict=False)
        reduced = {f"objective/{each.metric}": value for each, value in pairs if each.reduce != "last"}
        if not reduced and outcome.end == COMPLETE:
            return
        writer, now = RunWriter(self.store, result.run_id, open_store(self.store)), int(time.time() * 1000)
        writer.metrics((key, value, now, 0) for key, value in reduced.items())
        if outcome.end != COMPLETE:
            writer.tags({"taolu.trial_end": outcome.end})


def _outcome(result: Result, watch: Watch) -> Outcome:
    ids = (result.run_id,)
    if result.status == KILLED:
        return Outcome(STOPPED, (), ids)
    worst = tuple(objective.worst for objective in watch.objectives)
    if result.status == FAILED:
        if not _is_finite(result.metrics):  # the exception is how it found out
            return Outcome(DIVERGED, worst, ids)
        return Outcome(ERROR, (), ids, result.error)
    values = [
        objective.value(series) if (series := watch.series[objective.metric]) else None
        for objective in watch.objectives
    ]
    missing = [each.metric for each, value in zip(watch.objectives, values, strict=True) if value is None]
    known = tuple(value for value in values if value is not None)
    if watch.end in (PRUNED, TIMED_OUT):
        return Outcome(watch.end, known, ids)
    if missing:
        return Outcome(ERROR, (), ids, f"{missing[0]} was not recorded")
    if watch.end == DIVERGED or not all(map(math.isfinite, known)):
        return Outcome(DIVERGED, worst, ids)
    return Outcome(COMPLETE, known, ids)


def _is_finite(metrics: Mapping[str, float]) -> bool:
    return all(math.isfinite(value) for key, value in metrics.items() if key.startswith(("train/", "val/")))
