"""A sweep carried out: its study begun, gone on with or joined, workers on its trials, everything written down."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from experiments.build import Say, build_parts, check_session, set_threads
from experiments.carried import carried, unpacked
from experiments.checks import checked
from experiments.config import Config
from experiments.crew import Crew, SweepResult
from experiments.design import Design, design_of
from experiments.errors import ConfigError
from experiments.run import FAILED, KILLED, Label, Parent, record_session
from experiments.signals import Interrupted, Signals
from experiments.store.heartbeat import TAG, heartbeat, refuse_live
from experiments.store.location import HIDDEN, Store, redact_value
from experiments.store.outage import is_outage
from experiments.store.read import read_run
from experiments.store.replay import reap, replay
from experiments.store.studies import StudyRecord, find_study
from experiments.store.write import RunWriter, create_run, open_store, reopen_run
from experiments.sweep import Queue, make_pruner, make_sampler, study_to_go_on
from experiments.sweeper import Job
from experiments.tally import Tally
from experiments.trainer import TrainerOptions
from experiments.words import ENGLISH, Words


@dataclass(frozen=True)
class Conduct:
    """How a sweep is carried out, whatever its design.

    Args:
        workers: processes; 0 = the study is begun, for workers that join it.
        devices: GPUs of the workers, as CUDA_VISIBLE_DEVICES has them; empty = they take turns on all there are.
        timeout: seconds after which no further trial starts.
        trial_timeout: seconds after which a trial ends, with what it has.
        resume: whether to go on with a study that exists.
        words: of the language it is told in.
    """

    workers: int = 1
    devices: tuple[str, ...] = ()
    timeout: float | None = None
    trial_timeout: float | None = None
    resume: bool = False
    words: Words = ENGLISH

    def __post_init__(self) -> None:
        """Raises ConfigError for what cannot be."""
        if self.workers < 0:
            raise ConfigError(f"--workers {self.workers}: must be at least 0; with 0 the study waits for workers")
        for name in ("timeout", "trial_timeout"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"--{name} {value}: must be greater than 0 seconds")


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
        more = {"trial_timeout": conduct.trial_timeout, "files": carried(design.plain())}
        queue.describe(writer.run_id, {key: value for key, value in more.items() if value})
        with _in_order(queue, writer):
            _record(writer, design, next(iter(configs.values())))
            if old is not None:
                replay(store)
                reap(store)
            job = _job(design, configs, conduct, writer, writer.folder)
            crew = Crew(job, conduct.workers, conduct.devices, queue, writer, signals, say, conduct.words)
            return crew.run() if conduct.workers else crew.leave_to_others()


def join(name: str, conduct: Conduct, *, store: Store, say: Say) -> SweepResult:
    """A study begun on any machine, worked on until it is complete, the time is over or a signal ends it.

    Raises ConfigError in one line, before a trial is taken, for whatever cannot be used here.
    """
    study = find_study(store, name)
    design, config = _joined(study, conduct, store)
    with Signals() as signals:
        open_store(store)
        signals.defer()
        queue = Queue(store, design, join=True)
        if Tally.of(design, queue.trials).is_complete:
            writer = RunWriter(store, study.run_id, open_store(store))
        else:
            writer = reopen_run(store, study.run_id)
        with _in_order(queue, writer):
            place = writer.folder / "workers" / f"{socket.gethostname()}.{os.getpid()}"
            session = RunWriter(store, study.run_id, writer.client)
            session.folder = place  # of a machine's own: its code and environment are its trials'
            record_session(session, config, int(config.values["threads"]))
            timeout = conduct.trial_timeout or study.more.get("trial_timeout")
            job = _job(design, {}, replace(conduct, trial_timeout=timeout), writer, place)
            return Crew(job, conduct.workers, conduct.devices, queue, writer, signals, say, conduct.words).run()


def _joined(study: StudyRecord, conduct: Conduct, store: Store) -> tuple[Design, Config]:
    """The design of a study as this machine can run it, and a config of it, whose parts were built."""
    again = f"begin it with taolu sweep, or see what there is: taolu sweep {study.name} --show"
    if not study.design or not study.run_id:
        raise ConfigError(f"study '{study.name}' was not made by taolu sweep, or not to its end; {again}")
    if HIDDEN in json.dumps(study.design):
        raise ConfigError(
            f"study '{study.name}': its settings hold a secret, which no store keeps; give it to the workers in "
            "another way, such as a file, and begin the study again"
        )
    design = design_of(unpacked(study.design, study.more.get("files", {}), store))
    if design.n_planned() is None and conduct.timeout is None:
        raise ConfigError(f"study '{study.name}' ends by the clock alone; say when: --timeout SECONDS")
    make_sampler(design, 0)
    threads = set_threads(int(design.settings.get("threads") or 1))
    config = design.config(next(iter(design.space.samples()))).with_threads(threads)
    module, data = build_parts(config)
    check_session(module, data, TrainerOptions.from_config(config.values["trainer"]))
    return design, config


def _job(design: Design, configs: Mapping[str, Config], conduct: Conduct, writer: RunWriter, folder: Path) -> Job:
    deadline = None if conduct.timeout is None else time.time() + conduct.timeout
    only_last = not any(objective.reduce == "best" for objective in design.objectives)
    parent = Parent(writer.run_id, folder, only_last=only_last)
    return Job(design, configs, writer.store, parent, conduct.trial_timeout, deadline)


@contextmanager
def _in_order(queue: Queue, writer: RunWriter) -> Iterator[None]:
    """Whatever is raised inside, the sweep's run does not stay RUNNING, unless others work on."""
    try:
        yield
    except BaseException as error:
        if not is_outage(error) and not queue.at_work(queue.trials):
            writer.finish(KILLED if isinstance(error, Interrupted | KeyboardInterrupt) else FAILED)
        raise


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
    return writer


def _record(writer: RunWriter, design: Design, config: Config) -> None:
    text = yaml.safe_dump(redact_value("", design.plain()), sort_keys=False, allow_unicode=True, width=100)
    writer.text("sweep.yaml", text, is_redacted=True)
    record_session(writer, config, int(config.values["threads"]))
