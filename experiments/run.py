"""A config becomes a recorded run: parts built, a Trainer fitted, every number in the store, its end in one word."""

from __future__ import annotations

import json
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from experiments.build import (
    Say,
    Session,
    build_parts,
    build_trainer,
    check_session,
    n_processes,
    objective_of,
    quiet,
    set_threads,
)
from experiments.capture import ConsoleLog
from experiments.config import Config
from experiments.failure import forget_failures, is_loss, record_failure, record_loss, refuse_other_settings
from experiments.group import Group, Word, join
from experiments.label import Label as Label
from experiments.label import Result as Result
from experiments.launcher import losses, part, prepare
from experiments.lean import denormals_flushed, idle_hooks_skipped
from experiments.logger import Logger, step_of
from experiments.notify import Event, Notifier, last_values, message, without_urls
from experiments.parser import FACTS
from experiments.predictions import settle
from experiments.provenance import code_files, command_line, environment, repositories, share_origin
from experiments.quality import judged_only
from experiments.signals import Interrupted, Signals
from experiments.store.files import list_files
from experiments.store.heartbeat import TAG, heartbeat, rank
from experiments.store.location import Store, locate
from experiments.store.origin import read_origin
from experiments.store.read import read_run
from experiments.store.write import RunWriter, create_run, open_store
from experiments.trainer import TrainerOptions
from lightning_modules.data.image_set import ImageSet
from lightning_modules.data.resumable import Resumable, divided, is_divisible

PREEMPTED = "taolu.preempted"  # tag: by which signal, after which step, a run was ended that is to be started again
PROCESSES = "taolu.processes"  # tag: how many trained together, in the last session
FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"


@dataclass(frozen=True)
class Parent:
    """The run that another one is a child of: a trial's sweep.

    Args:
        run_id: of the parent.
        folder: of its files: the code and machine recorded there are its children's too.
        tags: of the child, the platform's own.
        callbacks: of the child, Lightning's, before ours.
        only_last: whether the child saves no checkpoint but its last.
        objectives: metrics that the child is judged by.
    """

    run_id: str
    folder: Path
    tags: Mapping[str, str] = field(default_factory=dict)
    callbacks: tuple[pl.Callback, ...] = ()
    only_last: bool = False
    objectives: tuple[str, ...] = ()


def run(
    config: Config,
    *,
    store: Store | None = None,
    label: Label | None = None,
    say: Say | None = None,
    parent: Parent | None = None,
    started: Callable[[str], None] | None = None,
    seat: Seat | None = None,
) -> Result:
    """The run of a resolved config, from its parts to its end; `started` is told its id as soon as it has one.

    A `seat` is given by whoever has taken one already.

    Raises ConfigError before anything is written when a part cannot be built.
    """
    say, label = say or silent, label or Label()
    notifier = Notifier(label.notify, say)
    notifier.check()
    with nullcontext(seat) if seat else seated(config) as seat:
        word, signals, say = seat.word, seat.signals, silent if seat.group.rank else say
        threads = set_threads(word.threads if word else config.values.get("threads"), seat.group.n_local)
        module, data = build_parts(config)
        config = config.with_threads(threads)
        if label.kind == "trial" and config.values["trainer"]["quality"]["metrics"] is None:
            config = judged_only(config, parent.objectives if parent else ())  # one of many, and nobody asked for more
        options = TrainerOptions.from_config(config.values["trainer"])
        if parent is None:  # a child's settings were looked at before its parent began
            check_session(module, data, options)
        store = store or locate()
        open_store(store)
        signals.defer()
        writer = start_run(store, config, label, module, parent, word)
        with ending(writer):
            if started:
                started(writer.run_id)
            record_start(writer, config, data, threads, parent)
            for note in config.notes:
                say(note)
            session = Session(writer, config, module, data, options, signals, say, notifier=notifier)
            if parent:
                session = replace(session, callbacks=parent.callbacks, only_last=parent.only_last)
            result = execute(session)
            if rank() == 0:
                settle(writer, config, result, may_rise=not module.automatic_optimization)
            return result


@dataclass(frozen=True)
class Seat:
    """A process that is about to train.

    Args:
        signals: entered.
        group: its place among those it trains with.
        word: what rank zero told it; None on rank zero.
    """

    signals: Signals
    group: Group
    word: Word | None


@contextmanager
def seated(config: Config, *, preemptible: bool = False) -> Iterator[Seat]:
    """This process's seat. Where it is not rank zero, rank zero has its run when the block begins.

    Raises ConfigError when other processes were started than the config asks for.
    """
    with Signals(preemptible=preemptible) as signals:
        group = join(TrainerOptions.from_config(config.values["trainer"]))
        yield Seat(signals, group, group.hear())


@contextmanager
def ending(writer: RunWriter) -> Iterator[None]:
    """Whatever is raised inside, the run does not stay RUNNING."""
    try:
        yield
    except BaseException as error:
        if rank() == 0:
            if isinstance(error, Interrupted) and error.is_preempted:
                writer.tags({PREEMPTED: _preempted(error, 0)})
            writer.finish(KILLED if isinstance(error, Interrupted | KeyboardInterrupt) else FAILED)
        raise


# ---- recording ------------------------------------------------------------------------------------------------------


def start_run(
    store: Store,
    config: Config,
    label: Label,
    module: pl.LightningModule,
    parent: Parent | None = None,
    word: Word | None = None,
) -> RunWriter:
    """A new run; on other ranks than zero the run rank zero has made, as its `word` says, which is waited for."""
    options = TrainerOptions.from_config(config.values["trainer"])
    if rank() > 0 and (word := word or join(options).hear()):
        refuse_other_settings(config, store.run_folder(word.run_id))
        return RunWriter(store, word.run_id, open_store(store))
    values = config.values
    tags = {
        **label.tags,
        "taolu.kind": label.kind,
        "taolu.config": config.name,
        "taolu.seed": str(values["seed"]),
        "taolu.threads": str(values["threads"]),
        PROCESSES: str(n_processes(options)),
        TAG: heartbeat(0, None),
    }
    if parent:
        tags |= {"mlflow.parentRunId": parent.run_id, **parent.tags}
    objective = objective_of(module)
    if objective:
        tags["taolu.objective"] = " ".join(objective)
    if label.note:
        tags["mlflow.note.content"] = label.note
    return create_run(store, config.name, label.name, tags)


def record_start(writer: RunWriter, config: Config, data: Any, threads: int, parent: Parent | None = None) -> None:
    """Everything known before the first step: config, parameters, code, machine, data."""
    if rank() > 0:
        return
    writer.text("config.yaml", config.redacted().to_yaml(), is_redacted=True)
    writer.params(config.flat())
    _record_data(writer, data)
    if parent:
        share_origin(parent.folder, writer.folder)  # reading git and hiding secrets costs more than a small training
    else:
        record_session(writer, config, threads)


def _record_data(writer: RunWriter, data: Any) -> None:
    """What the data part says of itself; a foreign one without a digest says less."""
    names = (*FACTS, "n_train", "n_val", "value_range")
    facts = json.dumps({key: getattr(data, key) for key in names if hasattr(data, key)})
    writer.tags({"taolu.data_facts": facts})
    if hasattr(data, "digest"):
        name = getattr(data, "name", type(data).__name__)
        writer.dataset(str(name), str(data.digest), str(getattr(data, "source", "")), facts)


def record_session(writer: RunWriter, config: Config, threads: int) -> None:
    """Command, environment and code of this session; a resumed run appends its command and replaces the rest."""
    commands = writer.folder / "command.txt"
    before = commands.read_text(encoding="utf-8") if commands.exists() else ""
    writer.text("command.txt", f"{before}{without_urls(command_line())}\n")
    files = list(user_files(config))
    states = repositories([Path.cwd(), *(file.parent for file in files)], writer.store.folder)
    commit = states[0].commit if states else ""
    left_out = sum(state.untracked_left_out for state in states)
    env = {**environment(threads), "git_commit": commit, "untracked_left_out": left_out}
    writer.text("env.json", json.dumps(env, indent=1))
    for name in read_origin(writer.folder).code:
        (writer.folder / name).unlink()  # of the session before
    for name, text in code_files(states).items():
        writer.text(name, text)
    for file in files:
        writer.text(f"code/{file.name}", file.read_text(encoding="utf-8", errors="replace"))
    writer.tags({"taolu.git_commit": commit} if commit else {})


def user_files(config: Config) -> Iterable[Path]:
    """The user's own Python files that the config's classes come from."""
    for settings in config.values.values():
        place = str(settings.get("class", "")).rpartition(":")[0] if isinstance(settings, Mapping) else ""
        if place.endswith(".py") and Path(place).is_file():
            yield Path(place)


# ---- fitting --------------------------------------------------------------------------------------------------------


class Work(Protocol):
    """What a run does: a trainer is built, then put to work."""

    def build(self, session: Session, logger: Logger) -> pl.Trainer:
        """The trainer."""

    def do(self, trainer: pl.Trainer, session: Session) -> None:
        """The work, to its end."""


class Training:
    """The work of a run that trains."""

    def build(self, session: Session, logger: Logger) -> pl.Trainer:
        """A trainer that records, seeds and saves, and that takes the other processes of the group with it."""
        trainer = build_trainer(session, logger)
        prepare(
            trainer,
            _word(session),
            store=session.writer.store,
            signals=session.signals,
            on_loss=lambda rank, code: _leave(session, logger, rank, code),
        )
        return trainer

    def do(self, trainer: pl.Trainer, session: Session) -> None:
        """A fit."""
        _fit(trainer, session)


def execute(session: Session, work: Work | None = None) -> Result:
    """Fits, or does other work, and writes how it ended: FINISHED, FAILED with its traceback, or KILLED by a signal."""
    writer, started, cpu = session.writer, time.perf_counter(), time.process_time()
    group = join(session.options)
    if rank() == 0:
        forget_failures(writer.folder)
    group.tell(_word(session))
    if group.mailbox is not None:
        session.signals.agree()
    logger = Logger(session.config.name, run=writer)
    before = read_run(writer.store, writer.run_id).metrics if session.checkpoint else {}
    with ConsoleLog(writer.folder / (f"console.rank{rank()}.log" if rank() else "console.log")):
        if rank() == 0:
            session.say(_opening(session))
        ending = _work_to_the_end(session, logger, work or Training())
        session.signals.ignore()  # what is left is writing down how it ended
        seconds = time.perf_counter() - started
        spent = {"time/wall_seconds": seconds, "time/cpu_seconds": time.process_time() - cpu}
        logger.log_metrics({key: value + before.get(key, 0.0) for key, value in spent.items()}, ending.step)
        if ending.preempted:
            logger.tag(PREEMPTED, ending.preempted)
        logger.finish(ending.status)
        logger.close(timeout=10.0 if ending.status == KILLED else 30.0)
        if not session.options.keep.last and ending.status == FINISHED:
            (writer.folder / "checkpoints" / "last.ckpt").unlink(missing_ok=True)
        result = _result(session, ending, seconds, {**before, **logger.last})
        _notify(session, logger, result)
        if rank() == 0:
            session.say(_closing(result, is_fit=writer.tags_before.get("taolu.door") == "fit"))
    return result


def _notify(session: Session, logger: Logger, result: Result) -> None:
    if session.notifier is None or rank() > 0:
        return
    objective = objective_of(session.module)
    values = last_values(result.metrics, objective[0] if objective else None)
    told = {FINISHED: "finished", FAILED: "failed", KILLED: "killed"}
    kinds: list[Any] = [told[result.status]] + (["nonfinite"] if logger.first_nonfinite is not None else [])
    for kind in kinds:
        detail = f"from step {logger.first_nonfinite} on" if kind == "nonfinite" else result.error
        event = Event(kind, result.run_id, result.name, result.experiment, values, detail)
        session.notifier.send(*message(event))
    session.notifier.close()


@dataclass(frozen=True)
class _Ending:
    status: str
    exit_status: int = 0
    error: str = ""
    step: int = 0
    preempted: str = ""


def _work_to_the_end(session: Session, logger: Logger, work: Work) -> _Ending:
    trainer = None
    try:
        session.signals.check()
        trainer = work.build(session, logger)
        work.do(trainer, session)
        session.signals.check()
        ending = _Ending(FINISHED)
    except Interrupted as stop:
        ending = _killed(stop, trainer)
    except KeyboardInterrupt:
        ending = _Ending(KILLED, 130)
    except (Exception, SystemExit) as failure:  # noqa: BLE001 - whatever the user's code raises is the run's end
        ending = _failed(session, failure, trainer)
    if trainer is not None and trainer.world_size > 1:
        part(trainer, all_end=ending.status != FINISHED)
    return replace(ending, step=max(step_of(trainer) - 1, 0) if trainer else 0)


def _killed(stop: Interrupted, trainer: pl.Trainer | None) -> _Ending:
    preempted = _preempted(stop, step_of(trainer) if trainer else 0) if stop.is_preempted else ""
    return _Ending(KILLED, stop.exit_status, preempted=preempted)


def _preempted(stop: Interrupted, step: int) -> str:
    return json.dumps({"signal": str(stop), "step": step})


def _failed(session: Session, failure: BaseException, trainer: pl.Trainer | None) -> _Ending:
    signals = session.signals
    if signals.received is not None and (isinstance(failure, SystemExit) or (signals.is_urgent and is_loss(failure))):
        return _killed(signals.interruption(signals.received), trainer)
    return _Ending(FAILED, 1, record_failure(session, failure, losses(trainer) if trainer else {}))


def _word(session: Session) -> Word:
    state: Any = "resumed" if session.checkpoint else "started"
    return Word(session.writer.run_id, state, torch.get_num_threads())


def _leave(session: Session, logger: Logger, lost: int, code: int) -> None:
    """Ends the run from another thread than the one that waits, for ever, for a process that has died."""
    signum = session.signals.received
    if signum is not None and -code in (signum, signal.SIGTERM):  # told with this one, before it could listen
        stop = session.signals.interruption(signum)
        if stop.is_preempted:
            logger.tag(PREEMPTED, _preempted(stop, 0))
        status, exit_status = KILLED, stop.exit_status
    else:
        record_loss(session, {lost: code})
        status, exit_status = FAILED, 1
    logger.finish(status)
    logger.close(timeout=10.0)
    os._exit(exit_status)


def _fit(trainer: pl.Trainer, session: Session) -> None:
    data, module = session.data, session.module
    path, plain = (session.checkpoint, True) if session.checkpoint else (None, None)
    owner = data if isinstance(data, pl.LightningDataModule) else module if data is None else None
    with (
        warnings.catch_warnings(),
        _resuming_exactly(owner, trainer, session),
        idle_hooks_skipped(trainer, module),
        denormals_flushed(),
    ):
        quiet()
        if isinstance(data, pl.LightningDataModule):
            trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=plain)
        else:
            train, validation = data if isinstance(data, tuple) else (data, None)
            train = _resumable(train, trainer, session)
            validation = divided(validation) if trainer.world_size > 1 else validation
            trainer.fit(module, train, validation, ckpt_path=path, weights_only=plain)


@contextmanager
def _resuming_exactly(owner: Any, trainer: pl.Trainer, session: Session) -> Iterator[None]:
    """The loaders of a data module, or of a module that brings its own, while this lasts: training's resumes exactly.

    With several processes each loader shows every row to one of them.
    """
    train = getattr(owner, "train_dataloader", None)
    if train is None or isinstance(owner, ImageSet):
        yield
        return
    owner.train_dataloader = lambda: _resumable(train(), trainer, session)
    if trainer.world_size > 1 and is_overridden("val_dataloader", owner):
        validation = owner.val_dataloader
        owner.val_dataloader = lambda: divided(validation())
    try:
        yield
    finally:
        del owner.train_dataloader
        vars(owner).pop("val_dataloader", None)


def _resumable(loader: Any, trainer: pl.Trainer, session: Session) -> Any:
    """A plain DataLoader, resuming exactly; any other loader as it is."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return loader
    if trainer.world_size > 1 and not is_divisible(loader) and not isinstance(loader.sampler, DistributedSampler):
        return loader  # with what sampler Lightning finds for it
    return Resumable(loader, int(session.config.values["seed"]), session.options.limit_train_batches)


def _opening(session: Session) -> str:
    writer, trainer = session.writer, session.config.values["trainer"]
    size = getattr(session.data, "batch_size", None)
    facts = [f"run {writer.run_id[:8]} {writer.name}", f"experiment {session.config.name}"]
    facts.append(f"parameters {sum(p.numel() for p in session.module.parameters()):,}")
    if isinstance(size, int) and isinstance(trainer["devices"], int):
        processes = trainer["devices"] * trainer["num_nodes"]
        facts.append(f"global batch {size * processes * trainer['accumulate_grad_batches']}")
    return "  ".join([*facts, f"threads {torch.get_num_threads()}", f"store {writer.store.label}"])


def _closing(result: Result, *, is_fit: bool) -> str:
    short, after = result.run_id[:8], f"look: taolu show {result.run_id[:8]}"
    if result.status == KILLED and "checkpoints/last.ckpt" in result.artifacts:
        after = f"go on: taolu.fit(module, data, resume='{short}')" if is_fit else f"go on: taolu resume {short}"
    return f"{result.status} {result.name} after {result.seconds:.1f} s; {after}"


def _result(session: Session, ending: _Ending, seconds: float, metrics: dict[str, float]) -> Result:
    writer = session.writer
    return Result(
        run_id=writer.run_id,
        name=writer.name,
        experiment=session.config.name,
        kind=writer.tags_before.get("taolu.kind", "run"),
        status=ending.status,
        seconds=seconds,
        metrics=metrics,
        artifacts=list_files(writer.folder),
        folder=writer.folder,
        exit_status=ending.exit_status,
        error=ending.error,
    )


def silent(line: str) -> None:
    """Says nothing."""
