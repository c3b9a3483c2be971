"""A sweep carried out: its study begun or gone on with, workers on its trials, everything written down."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import yaml

from experiments.build import Say
from experiments.checks import checked
from experiments.config import Config
from experiments.design import Design
from experiments.errors import ConfigError
from experiments.run import FAILED, FINISHED, KILLED, Label, Parent, Result, ending, record_session
from experiments.signals import Interrupted, Signals
from experiments.space import identity
from experiments.store.files import list_files, write_text
from experiments.store.heartbeat import TAG, heartbeat, refuse_live
from experiments.store.location import Store, redact, redact_value
from experiments.store.read import read_run
from experiments.store.replay import reap, replay
from experiments.store.studies import StudyRecord, TrialRecord, find_study, ranked
from experiments.store.write import RunWriter, create_run, open_store, release_connections, reopen_run
from experiments.sweep import Queue, Taken, make_pruner, make_sampler, study_to_go_on
from experiments.tally import Tally, Teller, summary
from experiments.trial import ERROR, STOPPED, Outcome, Trial
from experiments.workers import Workers

HANG_SECONDS = 30.0  # beyond its time a trial has to reach the end of a batch before its worker is killed


@dataclass(frozen=True)
class Conduct:
    """How a sweep is carried out, whatever its design.

    Args:
        workers: processes.
        timeout: seconds after which no further trial starts.
        trial_timeout: seconds after which a trial ends, with what it has.
        resume: whether to go on with a study that exists.
    """

    workers: int = 1
    timeout: float | None = None
    trial_timeout: float | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigError for what cannot be."""
        if self.workers < 1:
            raise ConfigError(f"--workers {self.workers}: must be at least 1")
        for name in ("timeout", "trial_timeout"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"--{name} {value}: must be greater than 0 seconds")


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended.

    Args:
        run: its own run, as of any other.
        study: as it is now.
        tally: its trials, counted.
        verdict: of the claim it tests; empty where there is none, or it is not judged yet.
    """

    run: Result
    study: StudyRecord
    tally: Tally
    verdict: str = ""

    def summary(self) -> dict[str, Any]:
        """What `--json` adds to a run."""
        return {**summary(self.study.name, self.tally), "verdict": self.verdict}


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


def sweep(design: Design, conduct: Conduct, *, store: Store, label: Label | None = None, say: Say) -> SweepResult:
    """The study of a design, begun or gone on with, until it is complete, its time is over or a signal ends it.

    Raises ConfigError in one line, before anything is written, for whatever cannot be used.
    """
    label = label or Label(kind="sweep")
    design, configs = checked(design, is_timed=conduct.timeout is not None)
    make_sampler(design, 0)
    make_pruner(design)
    old = study_to_go_on(store, design, resume=conduct.resume)
    if old is not None:
        refuse_live(read_run(store, old.run_id))
    with Signals() as signals:
        open_store(store)
        signals.defer()
        queue = Queue(store, design, old)
        writer = _sweep_run(queue, label)
        with ending(writer):
            _record(writer, design, configs)
            if old is not None:
                replay(store)
                reap(store)
            deadline = None if conduct.timeout is None else time.time() + conduct.timeout
            only_last = not any(objective.reduce == "best" for objective in design.objectives)
            parent = Parent(writer.run_id, writer.folder, only_last=only_last)
            job = Job(design, configs, store, parent, conduct.trial_timeout, deadline)
            return _Sweep(job, conduct, queue, writer, signals, say).run()


def _sweep_run(queue: Queue, label: Label) -> RunWriter:
    """The run that all trials are children of, made or opened again."""
    design = queue.design
    tags = {**label.tags, "taolu.kind": "sweep", "taolu.config": design.experiment, "taolu.study": design.name}
    tags |= {TAG: heartbeat(0, design.n_planned())}
    if len(design.objectives) == 1:
        tags["taolu.objective"] = f"sweep/best {design.objectives[0].direction}"
    if label.note:
        tags["mlflow.note.content"] = label.note
    if queue.run_id:
        writer = reopen_run(queue.store, queue.run_id)
        writer.tags(tags)
    else:
        writer = create_run(queue.store, design.name, label.name or design.name, tags)
    queue.describe(writer.run_id)
    return writer


def _record(writer: RunWriter, design: Design, configs: Mapping[str, Config]) -> None:
    text = yaml.safe_dump(redact_value("", design.plain()), sort_keys=False, allow_unicode=True, width=100)
    writer.text("sweep.yaml", text, is_redacted=True)
    first = next(iter(configs.values()))
    record_session(writer, first, int(first.values["threads"]))


@dataclass
class _Sweep:
    """What the process that supervises does."""

    job: Job
    conduct: Conduct
    queue: Queue
    writer: RunWriter
    signals: Signals
    say: Say

    def run(self) -> SweepResult:
        design, started = self.job.design, time.monotonic()
        count = f"{design.n_planned() or 'any number of'} trials"
        where = f"workers {self.conduct.workers}  store {self.job.store.label}"
        self.say(f"sweep {self.writer.run_id[:8]} {design.name}  {count}  {where}")
        self.teller = Teller(self.writer, design, self.say)
        self.workers = Workers(
            self.conduct.workers,
            partial(work, self.job),
            before_start=self._release,
            bury=self._bury,
            progress=self._look,
            signals=self.signals,
        )
        try:
            self.workers.run()
        finally:
            self.teller.close()
        self.signals.ignore()
        return self._ended(time.monotonic() - started)

    def _release(self) -> None:
        release_connections(self.job.store)
        self.queue.release()

    def _bury(self, pid: int, status: int) -> None:
        replay(self.job.store)
        reap(self.job.store)
        self.queue.bury(pid, status)

    def _look(self) -> int:
        tally = Tally.of(self.job.design, self.queue.trials)
        self.teller.tell(tally)
        if self.conduct.trial_timeout is not None:
            for trial in tally.running:
                if _seconds_running(trial) > self.conduct.trial_timeout + HANG_SECONDS:
                    self.workers.kill(int(trial.owner["pid"]))
        return tally.done

    def _ended(self, seconds: float) -> SweepResult:
        """Everything written down, and said in a few lines."""
        design, store, received = self.job.design, self.job.store, self.signals.received
        tally = Tally.of(design, self.queue.trials)
        verdict = self._verdict() if tally.is_complete and received is None else ""
        status = FINISHED if tally.done and not tally.is_broken else FAILED
        status, code = (KILLED, 128 + received) if received else (status, int(status == FAILED))
        self.writer.metrics([("time/wall_seconds", seconds, int(time.time() * 1000), tally.done)])
        self.writer.finish(status)
        failed = tally.failed if status == FAILED else []
        result = Result(
            run_id=self.writer.run_id,
            name=self.writer.name,
            experiment=design.name,
            kind="sweep",
            status=status,
            seconds=seconds,
            metrics=read_run(store, self.writer.run_id).metrics,
            artifacts=list_files(self.writer.folder),
            folder=self.writer.folder,
            exit_status=code,
            error=f"{len(failed)} trials failed: {failed[0].error}" if failed else "",
        )
        for line in tally.closing(status):
            self.say(line)
        return SweepResult(result, find_study(store, design.name), tally, verdict)

    def _verdict(self) -> str:
        """The verdict on the claim the sweep tests, from its runs, kept with the sweep's run."""
        claim = self.job.design.verdict
        if claim is None:
            return ""
        from experiments.claims.record import Settings
        from experiments.claims.runner import run as run_claims

        finding = run_claims([claim], Settings(effort="full"), self.job.store, self.say)[0]
        verdict = str(finding.decision.verdict)
        self.writer.tags({"taolu.claim": claim, "taolu.verdict": verdict, "taolu.uses": finding.run_id})
        return verdict


def _seconds_running(trial: TrialRecord) -> float:
    return time.time() - float(trial.owner.get("time", time.time()))


# ---- a worker -------------------------------------------------------------------------------------------------------


def work(job: Job, number: int) -> None:
    """Trials, until none is left, the time is over, or a signal ends it. What is raised lies in the sweep's folder."""
    try:
        with Signals() as signals:
            signals.defer()
            queue = Queue(job.store, job.design, join=True)
            while signals.received is None and (taken := queue.take(job.deadline)) is not None:
                outcome = perform(taken, job)
                queue.conclude(taken, outcome)
                if job.design.keep_best is not None:
                    _keep_best(queue, taken.number)
                if outcome.end == STOPPED:  # the signal went to the run, which took it for its own
                    break
    except Interrupted:
        pass
    except BaseException:
        write_text(job.parent.folder / f"traceback.worker{number}.txt", redact(traceback.format_exc()))
        raise


def perform(taken: Taken, job: Job) -> Outcome:
    """The outcome of a trial, whatever happens in it."""
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
        )
        return trial.run(None if design.pruner.name == "none" else taken.report)
    except Interrupted:
        return Outcome(STOPPED)
    except Exception as error:  # noqa: BLE001 - what cannot be built fails its trial, not the sweep
        return Outcome(ERROR, error=f"{type(error).__name__}: {' '.join(str(error).split())}")


def _seeded(config: Config, point: Mapping[str, Any], design: Design) -> Config:
    if "seed" not in point or "seed" in design.space.keys:
        return config
    return replace(config, values={**config.values, "seed": point["seed"]})


def _keep_best(queue: Queue, number: int) -> None:
    """Checkpoints of trials that are not among the best are removed."""
    design, trials = queue.design, queue.trials
    if len(design.objectives) > 1:
        best = queue.best_numbers()
    else:
        best = {each.number for each in ranked(trials, design.objectives[0].direction or "min")[: design.keep_best]}
    for trial in trials:
        if trial.number not in best and (trial.is_result or trial.number == number):
            for run_id in trial.run_ids:
                shutil.rmtree(queue.store.run_folder(run_id) / "checkpoints", ignore_errors=True)
