"""`taolu resume`: a stopped run goes on in the same run, from its last checkpoint, as if it had never stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.build import Say, Session, build_parts, check_session, set_threads
from experiments.config import Config, resolve
from experiments.errors import ConfigError
from experiments.run import Result, ending, execute, record_session, silent
from experiments.signals import Signals
from experiments.store.heartbeat import TAG, heartbeat, refuse_live
from experiments.store.location import Store, locate
from experiments.store.read import RunRecord, find_run, read_run
from experiments.store.write import RunWriter, open_store, reopen_run
from experiments.trainer import LIMITS, PLACE, TrainerOptions, seconds


def resume(
    handle: str,
    options: Sequence[str] = (),
    *,
    overrides: Mapping[str, Any] | None = None,
    store: Store | None = None,
    say: Say | None = None,
) -> Result:
    """The run `handle` continued from its last checkpoint.

    Args:
        handle: id prefix, name, last, ...
        options: command-line words; only limits may grow and only the place (device, processes) may change.
        overrides: the same from Python, dotted keys to values.
        store: default as everywhere.
        say: prints one line.

    Raises ConfigError when there is no such run or checkpoint, when it is still running, or when a key may not change.
    """
    say = say or silent
    store = store or locate()
    with Signals() as signals:
        record = read_run(store, find_run(store, handle))
        refuse_live(record)
        checkpoint = record.folder / "checkpoints" / "last.ckpt"
        state = load_checkpoint(checkpoint)
        config, changed = changed_config(record, options, overrides)
        refuse_finished(record, changed, steps_done(state))
        threads = set_threads(config.values["threads"])
        module, data = build_parts(config)
        trainer_options = TrainerOptions.from_config(config.values["trainer"])
        check_session(module, data, trainer_options)
        open_store(store)
        signals.defer()
        writer = record_resume(store, record, config, threads, state, changed, say)
        with ending(writer):
            return execute(Session(writer, config, module, data, trainer_options, signals, say, checkpoint))


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
    writer = reopen_run(store, record.run_id)
    writer.text("config.yaml", config.to_yaml())
    record_session(writer, config, threads)
    step = steps_done(checkpoint)
    n_sessions = sum(key.startswith("resume.") for key in record.tags)
    entry = {"from_step": step, "changed": {key: list(pair) for key, pair in changed.items()}}
    writer.tags({f"resume.{n_sessions + 1}": json.dumps(entry), TAG: heartbeat(step, None)})
    say(f"goes on after {step} steps" + "".join(f"; {key} {old} -> {new}" for key, (old, new) in changed.items()))
    return writer


def changed_config(
    record: RunRecord, options: Sequence[str], overrides: Mapping[str, Any] | None
) -> tuple[Config, dict[str, tuple[Any, Any]]]:
    """The run's config with the options over it, and what changed.

    Raises ConfigError for a change no resumed run may make.
    """
    file = stored_config(record)
    old, new = resolve(str(file)), resolve(str(file), options, overrides)
    changed = changes(old.flat(), new.flat())
    check_schedule(new.values, changed)
    return new, changed


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
    return file


def steps_done(checkpoint: Mapping[str, Any]) -> int:
    """Batches after which weights changed when the checkpoint was taken.

    A checkpoint is taken before Lightning counts its own step, hence the 1.
    """
    return int(checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"]) + 1


def refuse_finished(record: RunRecord, changed: Mapping[str, Any], step: int) -> None:
    """Raises ConfigError when the run came to its end after `step` steps and is given nothing more to do."""
    if record.status != "FINISHED" or any(key in LIMITS for key in changed):
        return
    key = "max_steps" if record.params.get("trainer.max_steps") == str(step) else "max_epochs"
    limit = record.params.get(f"trainer.{key}", "")
    example = 2 * int(limit) if limit.isdigit() else 2 * step
    raise ConfigError(
        f"run {record.run_id[:8]} is finished; to extend it give it more, as in --trainer.{key} {example}"
    )


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint: plain Python and tensors only, nothing unpickled.

    Raises ConfigError when it is damaged.
    """
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise ConfigError(f"no checkpoint {path}; start again with: taolu rerun RUN") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"checkpoint {path} is damaged ({str(error).splitlines()[0]}); start again with: taolu rerun RUN"
        ) from error


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys of two flat configs that differ, with both values.

    Raises ConfigError naming the key when a resumed run may not change it.
    """
    found = {key: (old.get(key), new.get(key)) for key in sorted({*old, *new}) if old.get(key) != new.get(key)}
    for key, (before, after) in found.items():
        if key in PLACE:
            continue
        if key not in LIMITS:
            raise ConfigError(
                f"{key}: {before} in the run, now {after}; a resumed run goes on exactly as it was and may only change "
                f"{', '.join((*LIMITS, *PLACE))}; to try {key} = {after}, start a new run"
            )
        if after is not None and before is not None and _size(key, after) < _size(key, before):
            raise ConfigError(f"{key}: {before} in the run, now {after}; a limit of a resumed run may only grow")
    return found


def _size(key: str, value: Any) -> float:
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
