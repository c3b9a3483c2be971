"""`taolu fork`: a new run that goes on from the exact state of another one, with whatever is changed really applied."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from experiments.as_built import AsBuilt
from experiments.build import Say, Session, build_parts, check_session, n_processes, planned_steps, set_threads
from experiments.carry_over import CarryOver, steps_into
from experiments.checkpoints import link
from experiments.config import Config
from experiments.errors import ConfigError, unknown
from experiments.load import refuse_without_model
from experiments.notify import Notifier
from experiments.resume import (
    Progress,
    differing,
    load_checkpoint,
    nothing_left,
    progress_of,
    reached,
    steps_done,
    stored_and_given,
)
from experiments.run import Label, Parent, Result, ending, execute, record_start, silent, start_run
from experiments.signals import Signals
from experiments.store.heartbeat import rank
from experiments.store.location import Store, locate
from experiments.store.read import RunRecord, find_run, read_run
from experiments.store.write import open_store
from experiments.trainer import TrainerOptions
from lightning_modules.data.image_set import ImageSet

RESET = ("optimizer", "schedule", "data")
FORK = "taolu.fork"  # tag
Changes = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Origin:
    """A state that a run has kept.

    Args:
        record: of the run.
        name: of the checkpoint: last, best.
        file: the checkpoint.
        state: what is in it.
        progress: how far the run was.
    """

    record: RunRecord
    name: str
    file: Path
    state: Mapping[str, Any]
    progress: Progress


@dataclass(frozen=True)
class Plan:
    """What a fork is to be.

    Args:
        origin: where it begins.
        config: with the changes.
        changed: keys to the value before and now.
        reset: what is not taken over.
    """

    origin: Origin
    config: Config
    changed: Changes
    reset: tuple[str, ...] = ()

    @property
    def tags(self) -> dict[str, str]:
        """What is recorded of it."""
        entry = {
            "from": self.origin.name,
            "from_step": self.origin.progress.steps,
            "changed": {key: list(pair) for key, pair in self.changed.items()},
            "reset": list(self.reset),
        }
        return {"taolu.parent": self.origin.record.run_id, FORK: json.dumps(entry)}


def fork(
    handle: str,
    options: Sequence[str] = (),
    *,
    start: str | int = "last",
    reset: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    store: Store | None = None,
    label: Label | None = None,
    say: Say | None = None,
) -> Result:
    """A new run that goes on from a checkpoint of the run `handle`, which stays as it is.

    Args:
        handle: id prefix, name, last, ...
        options: command-line words: what is changed. Whatever leaves the weights' names and shapes alone may be.
        start: last, best, or the number of steps after which one of the two was saved.
        reset: of optimizer (its moments begin anew), schedule (at its first step) and data (the first epoch's first
            batch; epochs are counted anew, steps are not).
        overrides: the same as options from Python, dotted keys to values.
        store: default as everywhere.
        label: of the new run.
        say: prints one line.

    Raises ConfigError when there is no such run or checkpoint, or the state does not fit what is changed.
    """
    say, label, store = say or silent, label or Label(), store or locate()
    return carry_on(planned_fork(origin_of(store, handle, start), options, overrides, reset), store, label, say)


def origin_of(store: Store, handle: str, start: str | int = "last") -> Origin:
    """The state that a run kept under this name, or after so many steps.

    Raises ConfigError when there is none; it lists those there are.
    """
    record = read_run(store, find_run(store, handle))
    refuse_without_model(record)
    short, wanted = record.run_id[:8], str(start)
    if record.tags.get("taolu.door") == "fit":
        raise ConfigError(
            f"run {short} was started from Python by taolu.fit, which alone has its module and data; "
            "only runs of taolu run can be forked"
        )
    folder = record.folder / "checkpoints"
    files = {name: folder / f"{name}.ckpt" for name in ("last", "best") if (folder / f"{name}.ckpt").exists()}
    if not files:
        raise ConfigError(f"run {short} keeps no checkpoint; start again with: taolu rerun {short}")
    names = [wanted] if wanted in files else list(files)
    states = {name: load_checkpoint(files[name], f"taolu rerun {short}") for name in names}
    steps = {name: steps_done(state) for name, state in states.items()}
    found = [name for name in names if wanted in (name, str(steps[name]))]
    if not found:
        kept = ", ".join(f"{name} (after {count} steps)" for name, count in steps.items())
        asked = f"no state after {wanted} steps" if wanted.isdecimal() else f"no state '{wanted}'"
        allowed = dict.fromkeys([*files, *map(str, steps.values())])
        raise ConfigError(f"run {short} keeps {asked}; it keeps {kept}: give --from {' or '.join(allowed)}")
    name = found[0]
    return Origin(record, name, files[name], states[name], progress_of(states[name]))


def planned_fork(
    origin: Origin, options: Sequence[str], overrides: Mapping[str, Any] | None = None, reset: Sequence[str] = ()
) -> Plan:
    """The fork that the options ask for.

    Raises ConfigError when they cannot be used, or leave nothing to do.
    """
    for name in reset:
        if name not in RESET:
            raise unknown("part to reset", name, RESET)
    old, config = stored_and_given(origin.record, options, overrides)
    plan = Plan(origin, config, differing(old, config.flat()), tuple(name for name in RESET if name in reset))
    if AsBuilt.__qualname__ not in origin.state["callbacks"]:
        raise ConfigError(
            f"checkpoint {origin.file} does not say how its optimizers were built, as those before taolu fork do not; "
            f"let the run save one more, as in taolu resume {origin.record.run_id[:8]} --trainer.max_epochs N"
        )
    _refuse_nothing_to_do(plan)
    return plan


def _refuse_nothing_to_do(plan: Plan) -> None:
    origin, options = plan.origin, TrainerOptions.from_config(plan.config.values["trainer"])
    done = replace(origin.progress, epochs=0) if "data" in plan.reset else origin.progress
    is_end = origin.record.status == "FINISHED" and origin.name == "last" and "data" not in plan.reset
    short = nothing_left(options, done, plan.changed) if is_end else reached(options, done)
    if short:
        more = " ".join(f"--{key} {example}" for key, example in short.items())
        raise ConfigError(
            f"the state after {done.steps} steps, {origin.progress.epochs} epochs is where the run's limits end it; "
            f"give the fork more, as in {more}"
        )


def carry_on(
    plan: Plan,
    store: Store,
    label: Label,
    say: Say,
    *,
    recorded: Path | None = None,
    only_last: bool = False,
) -> Result:
    """The run of a fork, to its end.

    Args:
        plan: of it.
        store: where.
        label: of the new run.
        say: prints one line.
        recorded: folder of a run whose code and machine are this one's too; None = they are recorded.
        only_last: see Checkpoints.

    Raises ConfigError before anything is written when a part cannot be built or the state does not fit.
    """
    notifier = Notifier(label.notify, say)
    notifier.check()
    with Signals() as signals:
        parts = parts_of(plan)
        config, module, data = parts.config, parts.module, parts.data
        options = TrainerOptions.from_config(config.values["trainer"])
        open_store(store)
        signals.defer()
        label.tags |= plan.tags
        writer = start_run(store, config, label, module)
        with ending(writer):
            shared = Parent(plan.origin.record.run_id, recorded) if recorded else None
            record_start(writer, config, data, int(config.values["threads"]), shared)
            for line in (*config.notes, _opening(plan), *parts.notes) if rank() == 0 else ():
                say(line)
            folder = writer.folder / "checkpoints"
            begin = folder / "begin.ckpt"
            if rank() == 0:  # the parent may be running, and replaces its own
                folder.mkdir(exist_ok=True)
                link(plan.origin.file, begin)
            is_model_changed = any(key.split(".")[0] == "model" for key in plan.changed)
            carried = CarryOver(folder / "last.ckpt", plan.reset, model_changed=is_model_changed, say=say)
            session = Session(writer, config, module, data, options, signals, say, begin, (carried,), notifier)
            try:
                return execute(replace(session, only_last=only_last))
            finally:
                begin.unlink(missing_ok=True)


@dataclass(frozen=True)
class Parts:
    """What a fork is made of, all of it looked at.

    Args:
        config: with the threads in force.
        module: with initial weights.
        data: the data part.
        notes: sentences for the user.
    """

    config: Config
    module: pl.LightningModule
    data: Any
    notes: tuple[str, ...]


def parts_of(plan: Plan) -> Parts:
    """The parts of a fork.

    Raises ConfigError when one cannot be built or the state does not fit.
    """
    config = plan.config.with_threads(set_threads(plan.config.values.get("threads")))
    options = TrainerOptions.from_config(config.values["trainer"])
    module, data = build_parts(config)
    schedule, notes = config.values.get("schedule") or {}, []
    if schedule.get("steps", 0) is None:  # open: as long as the run
        total, done = _total_steps(plan, options, data), plan.origin.progress.steps
        steps = max(total - done, 1) if "schedule" in plan.reset else total
        if steps != planned_steps(options, data):
            config = replace(config, values={**config.values, "schedule": {**schedule, "steps": steps}})
            module, data = build_parts(config)
            notes.append(f"schedule.steps null -> {steps}: the steps of the fork, counted as its schedule does")
    _check_weights(plan, module)
    notes += _data_change(plan, data)
    check_session(module, data, options)
    return Parts(config, module, data, tuple(notes))


def _total_steps(plan: Plan, options: TrainerOptions, data: Any) -> int:
    """The number of the fork's last step: the parent's steps, and those that its own batches make of what is left."""
    progress = plan.origin.progress
    passed = 0 if "data" in plan.reset else _steps_before(plan, options, data)
    found = [options.max_steps] if options.max_steps is not None else []
    if options.max_epochs is not None and (whole := _steps_of_first(options.max_epochs, options, data)):
        found.append(progress.steps + whole - passed)
    return max(min(found, default=progress.steps), progress.steps + 1)


def _steps_before(plan: Plan, options: TrainerOptions, data: Any) -> int:
    """Steps that the fork's own batches would have made of the rows the parent has seen."""
    whole = plan.origin.progress.epochs
    up_to, next_up = (_steps_of_first(count, options, data) for count in (whole, whole + 1))
    batches = plan.origin.state["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    if batches["is_last_batch"]:
        return up_to
    rows = plan.origin.state["callbacks"][AsBuilt.__qualname__]["batch_rows"], _batch_rows(data, whole, options)
    window = options.accumulate_grad_batches
    return up_to + steps_into(batches["current"]["ready"], rows, window, max(next_up - up_to - 1, 0))


def _steps_of_first(epochs: int, options: TrainerOptions, data: Any) -> int:
    return (planned_steps(replace(options, max_epochs=epochs, max_steps=None), data) or 0) if epochs else 0


def _batch_rows(data: Any, epoch: int, options: TrainerOptions) -> int | None:
    """Rows of a training batch on a process, as the loader of that epoch will say; None where it does not."""
    if isinstance(data, ImageSet):
        return data.batch_size_at(epoch, n_processes(options)) * data.batches_per_step
    train = data[0] if isinstance(data, tuple) else data
    size = getattr(train.train_dataloader() if hasattr(train, "train_dataloader") else train, "batch_size", None)
    return size if isinstance(size, int) else None


def _check_weights(plan: Plan, module: pl.LightningModule) -> None:
    """Raises ConfigError when the checkpoint's weights are not the module's."""
    if not module.strict_loading:
        return
    wanted, kept = module.state_dict(), plan.origin.state["state_dict"]
    for name in sorted({*wanted, *kept}):
        shapes = [tuple(each[name].shape) if name in each else "none" for each in (kept, wanted)]
        if shapes[0] == shapes[1]:
            continue
        models = [f"{key} {old} -> {new}" for key, (old, new) in plan.changed.items() if key.startswith("model")]
        because = f"{'; '.join(models) or 'the code of the model has changed'}"
        raise ConfigError(
            f"{because}: the weights do not fit, {name} is {shapes[0]} in the checkpoint and {shapes[1]} now; "
            "leave the network as it is, or start a new run"
        )


def _data_change(plan: Plan, data: Any) -> list[str]:
    """A sentence where the data's content is another, as was asked for.

    Raises ConfigError when nobody asked for it.
    """
    before, now = plan.origin.record.tags.get("taolu.data_digest"), getattr(data, "digest", None)
    if not before or not now or before == str(now):
        return []
    change = f"sha256 {before[:8]}.. -> {str(now)[:8]}.."
    if not any(key.split(".")[0] == "data" for key in plan.changed):
        raise ConfigError(
            f"data: its content has changed since the run ({change}); bring the old data back, or name others: --data"
        )
    return [f"data: its content is not the parent's ({change})"]


def _opening(plan: Plan) -> str:
    record, changes = plan.origin.record, [f"{key} {old} -> {new}" for key, (old, new) in plan.changed.items()]
    changes += [f"{part} begins anew" for part in plan.reset]
    what = "; ".join(changes) or "nothing is changed"
    return f"goes on from {record.run_id[:8]} {record.name} after {plan.origin.progress.steps} steps; {what}"
