"""A worker of a sweep: trials taken, run and concluded until none is left."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from experiments.config import Config
from experiments.design import Design
from experiments.run import FAILED, Parent
from experiments.signals import Interrupted, Signals
from experiments.space import identity
from experiments.store.files import write_text
from experiments.store.location import Store, redact
from experiments.store.outage import is_outage, patiently
from experiments.store.read import runs_table
from experiments.store.replay import replay_own
from experiments.store.studies import ranked
from experiments.store.write import RunWriter, open_store
from experiments.sweep import Lease, Queue, Taken
from experiments.trial import ERROR, STOPPED, Outcome, Trial

LOST = "lost"  # the end of a trial whose outcome came after its lease was over


@dataclass(frozen=True)
class Job:
    """What a worker is given.

    Args:
        design: with objectives.
        configs: those resolved already, by the identity of their point.
        store: where.
        parent: the sweep's run.
        seconds: of a trial; None = no limit.
        deadline: after which no trial starts, as time.time().
    """

    design: Design
    configs: Mapping[str, Config]
    store: Store
    parent: Parent
    seconds: float | None
    deadline: float | None


def work(job: Job, number: int) -> None:
    """Trials, until none is left, the time is over, or a signal ends it.

    A database that is away is waited for. What is raised lies in the session's folder.
    """
    cleaned: set[int] = set()
    try:
        with Signals() as signals:
            signals.defer()

            def is_told() -> bool:
                return signals.received is not None

            queue = patiently(lambda: Queue(job.store, job.design, join=True), is_told)
            while not is_told() and (taken := patiently(lambda: queue.take(job.deadline), is_told)) is not None:
                if _work_on(taken, queue, job, signals) == STOPPED:
                    break
                if job.design.keep_best is not None:
                    patiently(lambda: _keep_best(queue, cleaned), is_told)
    except Interrupted:
        pass
    except BaseException:
        write_text(job.parent.folder / f"traceback.worker{number}.txt", redact(traceback.format_exc()))
        raise


def _work_on(taken: Taken, queue: Queue, job: Job, signals: Signals) -> str:
    """How a trial ended, which is in the study now."""
    with queue.lease(taken) as lease:
        outcome = perform(taken, job, lease)

        def in_hurry() -> bool:
            return signals.received is not None or (outcome.end == STOPPED and not lease.is_lost)

        counts = patiently(lambda: queue.conclude(taken, outcome), in_hurry)
    patiently(lambda: replay_own(job.store), in_hurry)  # what a run could not deliver while it lasted
    if counts:
        return outcome.end  # of a stopped one the signal went to the run, which took it for its own
    patiently(lambda: _mark_lost(job.store, outcome), in_hurry)
    return LOST


def _mark_lost(store: Store, outcome: Outcome) -> None:
    for run_id in outcome.run_ids:
        RunWriter(store, run_id, open_store(store)).tags({"taolu.trial_end": LOST})


def perform(taken: Taken, job: Job, lease: Lease | None = None) -> Outcome:
    """The outcome of a trial, whatever happens in it. Begun again when the database goes away before it trains."""
    tries = count()

    def attempt() -> Outcome:
        if next(tries):
            end_runs(job.store, job.design.name, taken.number)
        return _attempt(taken, job, lease)

    return patiently(attempt, lambda: lease is not None and lease.is_lost)


def _attempt(taken: Taken, job: Job, lease: Lease | None) -> Outcome:
    design, point = job.design, taken.point
    seeds = [{}] if design.is_grid or design.repeats == 1 else [{"seed": seed} for seed in design.seeds]
    try:
        bare = {key: value for key, value in point.items() if key in design.space.parameters}
        config = job.configs.get(identity(bare)) or design.config(bare)
        trial = Trial(
            design.name,
            taken.number,
            [_seeded(config, {**point, **seed}, design) for seed in seeds],
            design.objectives,
            job.store,
            job.parent,
            job.seconds,
            lambda: lease is not None and lease.is_lost,
        )
        return trial.run(None if design.pruner.name == "none" else taken.report)
    except Interrupted:
        return Outcome(STOPPED)
    except Exception as error:
        if is_outage(error):
            raise
        return Outcome(ERROR, error=f"{type(error).__name__}: {' '.join(str(error).split())}")


def _seeded(config: Config, point: Mapping[str, Any], design: Design) -> Config:
    if "seed" not in point or "seed" in design.space.keys:
        return config
    return replace(config, values={**config.values, "seed": point["seed"]})


def end_runs(store: Store, study: str, *numbers: int) -> None:
    """The runs of these trials of a study, or without numbers of all, that say RUNNING: FAILED.

    For trials nobody works on: what their machine still has to deliver says so better, when it comes.
    """
    table = runs_table(store, kinds=("trial",))
    if not len(table):
        return
    for row in table[(table["status"] == "RUNNING") & (table["tags.taolu.study"] == study)].to_dict("records"):
        number = int(row["tags.taolu.trial"])
        if number in numbers or not numbers:
            RunWriter(store, row["run_id"], open_store(store)).finish(FAILED)


def _keep_best(queue: Queue, cleaned: set[int]) -> None:
    """Checkpoints, on this machine, of trials that are not among the best are removed; each is looked at once."""
    design, trials = queue.design, queue.trials
    if len(design.objectives) > 1:
        best = queue.best_numbers()
    else:
        best = {each.number for each in ranked(trials, design.objectives[0].direction or "min")[: design.keep_best]}
    for trial in trials:
        if trial.state not in ("RUNNING", "WAITING") and trial.number not in best | cleaned:
            cleaned.add(trial.number)
            for run_id in trial.run_ids:
                shutil.rmtree(queue.store.run_folder(run_id) / "checkpoints", ignore_errors=True)
