"""`taolu resume`: a stopped run goes on in the same run, from its last checkpoint, as if it had never stopped."""

from __future__ import annotations

import json
import math
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.build import Say, Session, build_parts, check_session, n_processes, set_threads
from experiments.checkpoints import Checkpoints
from experiments.config import Config, resolve
from experiments.errors import ConfigError
from experiments.notify import Notifier
from experiments.parser import Settings
from experiments.predictions import settle
from experiments.provenance import differences
from experiments.run import PROCESSES, Result, Seat, ending, execute, record_session, seated, silent
from experiments.store.configs import LIMITS
from experiments.store.heartbeat import TAG, heartbeat, rank, refuse_live
from experiments.store.location import HIDDEN, Store, locate
from experiments.store.origin import read_origin
from experiments.store.read import RunRecord, find_run, read_run
from experiments.store.write import RunWriter, open_store, reopen_run
from experiments.trainer import PLACE, TrainerOptions, seconds

PATIENCE = "trainer.early_stopping.patience"
MINED = ("rules", "lexicon")  # kinds of runs that trained nothing
DEFAULT_PATIENCE = 3  # where only a monitor is given


def resume(
    handle: str,
    options: Sequence[str] = (),
    *,
    overrides: Mapping[str, Any] | None = None,
    store: Store | None = None,
    notify: Sequence[str] = (),
    say: Say | None = None,
) -> Result:
    """The run `handle` continued from its last checkpoint.

    Args:
        handle: id prefix, name, last, ...
        options: command-line words; only limits may grow and only the place (device, processes) may change. What was
            kept secret is given again.
        overrides: the same from Python, dotted keys to values.
        store: default as everywhere.
        notify: URLs of apprise, told as of a new run; those of the session before were kept nowhere.
        say: prints one line.

    Raises ConfigError when there is no such run or checkpoint, when it is still running, when a key may not change, or
    when the data's content has changed.
    """
    say = say or silent
    store = store or locate()
    notifier = Notifier(notify, say)
    notifier.check()
    run_id = find_run(store, handle)
    with (
        seated(stored_and_given(read_run(store, run_id), options, overrides)[1]) as seat,
        stopped_run(store, seat.word.run_id if seat.word else run_id) as record,
    ):
        old, config = stored_and_given(record, options, overrides)
        return go_on(seat, store, record, old, config, say=say, notifier=notifier)


def go_on(
    seat: Seat,
    store: Store,
    record: RunRecord,
    old: Settings,
    config: Config,
    *,
    say: Say,
    notifier: Notifier,
    started: Callable[[str], None] | None = None,
) -> Result:
    """The run of a record continued from its last checkpoint; `started` is told its id when it runs again.

    Args:
        seat: of this process.
        store: of the run.
        record: of a run that nobody else continues.
        old: its settings by dotted key.
        config: those it goes on with.
        say: prints one line.
        notifier: told of the run.
        started: see above.

    Raises ConfigError when there is no checkpoint, when a key may not change, or when the data's content has changed.
    """
    say = silent if seat.group.rank else say
    checkpoint = record.folder / "checkpoints" / "last.ckpt"
    state = load_checkpoint(checkpoint)
    changed = changes(old, config.flat())
    check_schedule(config.values, changed)
    trainer_options = TrainerOptions.from_config(config.values["trainer"])
    refuse_finished(record, trainer_options, changed, progress_of(state))
    threads = set_threads(config.values["threads"])
    module, data = build_parts(config)
    check_data(record, data)
    check_session(module, data, trainer_options)
    open_store(store)
    seat.signals.defer()
    writer = record_resume(store, record, config, threads, state, changed, say)
    with ending(writer):
        if started:
            started(writer.run_id)
        result = execute(
            Session(writer, config, module, data, trainer_options, seat.signals, say, checkpoint, notifier=notifier)
        )
        if rank() == 0 and "taolu.fork" not in record.tags:  # of a fork nothing was foretold
            settle(writer, config, result, may_rise=not module.automatic_optimization, resumed=True)
        return result


@contextmanager
def stopped_run(store: Store, run_id: str) -> Iterator[RunRecord]:
    """The record of a run that nobody trains, and that no other process can resume before the block ends.

    Whoever follows rank zero has its word that the run goes on, and looks at nothing.

    Raises ConfigError when somebody trains it.
    """
    if rank() > 0:
        yield read_run(store, run_id)
        return
    from filelock import FileLock, Timeout

    folder = store.run_folder(run_id).parent
    lock = FileLock(folder / ".resume.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ConfigError(
            f"run {run_id[:8]} is being resumed by another process; stop that one first, or wait for its end"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"store {store.label}: cannot be written ({error.strerror}); a run is resumed where it lies"
        ) from error
    try:
        record = read_run(store, run_id)
        refuse_live(record)
        yield record
    finally:
        lock.release()


def record_resume(
    store: Store,
    record: RunRecord,
    config: Config,
    threads: int,
    checkpoint: Mapping[str, Any],
    changed: Mapping[str, tuple[Any, Any]],
    say: Say,
) -> RunWriter:
    """The run open again, with its new config, command, code and machine; tag resume.N says since which step."""
    if rank() > 0:
        return RunWriter(store, record.run_id, open_store(store))
    origin = read_origin(record.folder)
    writer = reopen_run(store, record.run_id)
    with ending(writer):
        writer.text("config.yaml", config.redacted().to_yaml(), is_redacted=True)
        record_session(writer, config, threads)
        step = steps_done(checkpoint)
        n_sessions = sum(key.startswith("resume.") for key in record.tags)
        entry = {"from_step": step, "changed": {key: list(pair) for key, pair in changed.items()}}
        processes = n_processes(TrainerOptions.from_config(config.values["trainer"]))
        tags = {f"resume.{n_sessions + 1}": json.dumps(entry), TAG: heartbeat(step, None), PROCESSES: str(processes)}
        writer.tags(tags)
    say(f"goes on after {step} steps" + "".join(f"; {key} {old} -> {new}" for key, (old, new) in changed.items()))
    if causes := differences(origin, read_origin(record.folder)):
        say(f"not as in the session before: {'; '.join(causes)}")
    return writer


def stored_and_given(
    record: RunRecord, options: Sequence[str], overrides: Mapping[str, Any] | None
) -> tuple[Settings, Config]:
    """The run's own settings by dotted key, and its config with the options over it.

    Raises ConfigError when what was kept secret is not given again.
    """
    file = str(stored_config(record))
    new = resolve(file, options, overrides)
    return revealed(resolve(file).flat(), new.flat()), new


def revealed(old: Settings, given: Settings) -> Settings:
    """The settings of a run, by dotted key, with what was kept secret as it is given again.

    Raises ConfigError when it is not.
    """
    found = dict(old)
    for key in [key for key, value in old.items() if _is_hidden(value)]:
        if _is_hidden(given.get(key)):
            raise ConfigError(f"{key} was kept secret; give it again: --{key} VALUE")
        found[key] = given.get(key)
    return found


def _is_hidden(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, str) and HIDDEN in item for item in items)


def stored_config(record: RunRecord) -> Path:
    """The config file of a run.

    Raises ConfigError when it was not made by `taolu run`.
    """
    file = record.folder / "config.yaml"
    if not file.exists():
        raise ConfigError(f"run {record.run_id[:8]} has no config.yaml in {record.folder}; taolu run did not make it")
    if record.tags.get("taolu.door") == "fit":
        raise ConfigError(
            f"run {record.run_id[:8]} was started from Python by taolu.fit, which alone has its module and data; "
            f"go on there: taolu.fit(module, data, resume='{record.run_id[:8]}')"
        )
    if record.kind in MINED:
        command = record.folder / "command.txt"
        again = command.read_text(encoding="utf-8").strip() if command.exists() else "taolu mine"
        raise ConfigError(f"run {record.run_id[:8]} was mined, not trained; to mine again: {again}")
    return file


@dataclass(frozen=True)
class Progress:
    """How far a run was when a checkpoint was taken.

    Args:
        steps: batches after which weights changed.
        epochs: passes over the training data that were whole.
        seconds: trained, over all sessions.
    """

    steps: int
    epochs: int
    seconds: float


def steps_done(checkpoint: Mapping[str, Any]) -> int:
    """Batches after which weights changed when the checkpoint was taken.

    A checkpoint is taken before Lightning counts its own step, hence the 1; not so the first one of a fork whose data
    begin anew, which lies before a batch.
    """
    loops = checkpoint["loops"]["fit_loop"]
    is_counted = loops["epoch_progress"]["current"]["ready"] == 0
    return int(loops["epoch_loop.state_dict"]["_batches_that_stepped"]) + (not is_counted)


def progress_of(checkpoint: Mapping[str, Any]) -> Progress:
    """How far the run was. Lightning counts an epoch after the checkpoint at its last batch."""
    whole = bool(checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"])
    spent = checkpoint["callbacks"].get(Checkpoints.__qualname__, {}).get("seconds", 0.0)
    return Progress(steps_done(checkpoint), int(checkpoint["epoch"]) + whole, float(spent))


def refuse_finished(
    record: RunRecord, options: TrainerOptions, changed: Mapping[str, tuple[Any, Any]], done: Progress
) -> None:
    """Raises ConfigError when the run came to its end and the options leave it nothing to do.

    Args:
        record: of the run.
        options: with the changes.
        changed: keys to the value before and now.
        done: how far the run is.
    """
    if record.status != "FINISHED":
        return
    short = nothing_left(options, done, changed)
    if not short and not changed:  # a callback of the user's own ended it
        short["trainer.max_epochs"] = str(2 * max(done.epochs, 1))
    if short:
        more = " ".join(f"--{key} {example}" for key, example in short.items())
        raise ConfigError(
            f"run {record.run_id[:8]} is finished; to extend it give it more, as in {more} "
            f"(it has {done.steps} steps, {done.epochs} epochs, {done.seconds:.0f} s)"
        )


def nothing_left(options: TrainerOptions, done: Progress, changed: Mapping[str, tuple[Any, Any]]) -> dict[str, str]:
    """What a run that came to its end needs more of: limits and patience, each with twice as much as an example.

    Args:
        options: with the changes.
        done: how far the run is.
        changed: keys to the value before and now.
    """
    found = reached(options, done)
    stopped_early = not reached(options, done, changed) and options.early_stopping.is_on
    if stopped_early and PATIENCE not in changed:
        found[PATIENCE] = str(2 * (options.early_stopping.patience or DEFAULT_PATIENCE))
    return found


def reached(
    options: TrainerOptions, done: Progress, changed: Mapping[str, tuple[Any, Any]] | None = None
) -> dict[str, str]:
    """The limits that are reached, each with twice as much as an example; with `changed`, those before it."""
    before = {key: old for key, (old, _) in (changed or {}).items()}
    found = {}
    for name, amount in (("max_epochs", done.epochs), ("max_steps", done.steps), ("max_time", done.seconds)):
        key = f"trainer.{name}"
        limit = _size(key, before[key] if key in before else getattr(options, name))
        if amount >= limit:
            found[key] = f"{2 * (limit if amount < 2 * limit else math.ceil(amount)):.10g}"  # a fork may be far beyond
    return found


def load_checkpoint(path: Path, again: str = "taolu rerun RUN") -> dict[str, Any]:
    """The checkpoint: plain Python and tensors only, nothing unpickled.

    Args:
        path: of the file.
        again: what starts the run again where the checkpoint cannot be used.

    Raises ConfigError when it is damaged or holds anything else.
    """
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise ConfigError(f"no checkpoint {path}; start again with: {again}") from error
    except pickle.UnpicklingError as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign is None:
            raise _damaged(path, error, again) from error
        raise ConfigError(
            f"checkpoint {path} holds an object of {foreign[1]}, and only numbers, text and tensors are read; "
            "keep such objects out with self.save_hyperparameters(ignore=[...]) or on_save_checkpoint, and train again"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error, again) from error


def _damaged(path: Path, error: Exception, again: str) -> ConfigError:
    cause = (str(error).splitlines() or [type(error).__name__])[0]
    return ConfigError(f"checkpoint {path} is damaged ({cause}); start again with: {again}")


def check_data(record: RunRecord, data: Any) -> None:
    """Raises ConfigError when the data's content is not what the run was trained on. Data without a digest may be."""
    before, now = record.tags.get("taolu.data_digest"), getattr(data, "digest", None)
    if before and now and before != str(now):
        raise ConfigError(
            f"data: its content has changed since the run (sha256 {before[:8]}.. -> {str(now)[:8]}..); "
            "bring the old data back, or start a new run"
        )


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys of two flat configs that differ, with both values."""
    return {key: (old.get(key), new.get(key)) for key in sorted({*old, *new}) if old.get(key) != new.get(key)}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys of two flat configs that differ, with both values.

    Raises ConfigError naming the key when a resumed run may not change it.
    """
    found = differing(old, new)
    for key, (before, after) in found.items():
        if key in PLACE:
            continue
        if key not in LIMITS:
            raise ConfigError(
                f"{key}: {before} in the run, now {after}; a resumed run goes on exactly as it was and may only change "
                f"{', '.join((*LIMITS, *PLACE))}; to try {key} = {after}, start a new run"
            )
        if key == PATIENCE and before is None and old.get("trainer.early_stopping.monitor") is not None:
            before = DEFAULT_PATIENCE
        if _size(key, after) < _size(key, before):
            was = "no limit" if before is None else before
            raise ConfigError(f"{key}: {was} in the run, now {after}; a limit of a resumed run may only grow")
    return found


def _size(key: str, value: Any) -> float:
    """A limit as a number; null is none at all."""
    if value is None:
        return math.inf
    return seconds(value) if key == "trainer.max_time" else float(value)


def check_schedule(config: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
    """Refuses to extend a run whose learning rate was drawn over the run's own length.

    Raises ConfigError.
    """
    schedule = config.get("schedule") or {}
    grown = [key for key in LIMITS[:3] if key in changed]
    if grown and "steps" in schedule and schedule["steps"] is None:
        raise ConfigError(
            f"{grown[0]}: schedule {schedule['class']} was drawn over the run's own length and cannot be extended; "
            "start a run with schedule.steps set to the length it shall have in the end"
        )
