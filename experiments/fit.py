"""`taolu.fit`: somebody's own module and data, trained as a tracked run that resumes exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.model_helpers import is_overridden

from experiments.build import Say, Session, check_session, set_threads
from experiments.config import Config, read_yaml, resolve_trainer
from experiments.errors import ConfigError
from experiments.parser import Settings, as_plain, flatten
from experiments.resume import changes, load_checkpoint, record_resume, refuse_finished, steps_done
from experiments.run import Label, Result, ending, execute, record_start, start_run
from experiments.signals import Signals
from experiments.store.heartbeat import refuse_live
from experiments.store.location import Store
from experiments.store.read import RunRecord, find_run, read_run
from experiments.store.write import as_text, open_store
from experiments.trainer import TrainerOptions


def fit(
    module: pl.LightningModule,
    data: Any,
    name: str,
    options: Mapping[str, Any],
    *,
    store: Store,
    label: Label,
    callbacks: Iterable[pl.Callback],
    handle: str | None,
    say: Say,
) -> Result:
    """The run of a module that exists already. See taolu.fit for the arguments.

    Raises ConfigError in one line for whatever cannot be used.
    """
    _check(module, data)
    with Signals() as signals:
        record = read_run(store, find_run(store, handle)) if handle is not None else None
        if record is not None:
            name, options = record.experiment, {**_stored(record), **options}
        config = _describe(resolve_trainer(name, options), module, data)
        threads = set_threads(config.values["threads"])
        config = config.with_threads(threads)
        trainer_options = TrainerOptions.from_config(config.values["trainer"])
        check_session(module, data, trainer_options)
        if record is None:
            pl.seed_everything(config.values["seed"], verbose=False)
            open_store(store)
            signals.defer()
            label.tags["taolu.door"] = "fit"
            writer, checkpoint = start_run(store, config, label, module), None
        else:
            refuse_live(record)
            checkpoint = record.folder / "checkpoints" / "last.ckpt"
            changed = changes(_flat_params(record.params), _flat_params(config.flat()))
            state = load_checkpoint(checkpoint)
            refuse_finished(record, changed, steps_done(state))
            signals.defer()
            writer = record_resume(store, record, config, threads, state, changed, say)
        with ending(writer):
            if checkpoint is None:
                record_start(writer, config, data, threads)
            own = tuple(callbacks)
            return execute(Session(writer, config, module, data, trainer_options, signals, say, checkpoint, own))


def _check(module: Any, data: Any) -> None:
    if not isinstance(module, pl.LightningModule):
        raise ConfigError(f"module: must be a LightningModule, is a {type(module).__name__}")
    own = is_overridden("train_dataloader", module)
    train = data[0] if isinstance(data, tuple) and len(data) == 2 else data
    if not (isinstance(data, pl.LightningDataModule) or hasattr(train, "__iter__") or (own and train is None)):
        raise ConfigError(
            f"data: must be a LightningDataModule, a training loader, or a pair (training, validation) of loaders; "
            f"is a {type(train).__name__}"
        )


def _stored(record: RunRecord) -> Settings:
    """Trainer, seed and threads of a run of fit, by dotted key: what a resume does not give stays as it was."""
    if record.tags.get("taolu.door") != "fit":
        raise ConfigError(
            f"run {record.run_id[:8]} was not started by taolu.fit; go on with taolu.resume('{record.run_id[:8]}')"
        )
    return {
        key: value
        for key, value in flatten(read_yaml(record.folder / "config.yaml")).items()
        if key.startswith("trainer.") or key in ("seed", "threads")
    }


def _describe(config: Config, module: pl.LightningModule, data: Any) -> Config:
    """The config with the module's class and hyper-parameters, and the data's class, written in."""
    kind = type(module)
    model = {"class": f"{kind.__module__}:{kind.__qualname__}", **as_plain(dict(module.hparams))}
    parts = {"model": model}
    if data is not None:
        parts["data"] = {"class": f"{type(data).__module__}:{type(data).__qualname__}"}
    return Config(config.name, {**parts, **config.values}, config.notes)


def _flat_params(values: Mapping[str, Any]) -> dict[str, str]:
    """Trainer, seed and threads as the store has them: text."""
    kept = ("trainer.", "seed", "threads")
    return {key: as_text(value) for key, value in values.items() if key.startswith(kept)}
