"""`taolu.fit`: somebody's own module and data, trained as a tracked run that resumes exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytorch_lightning as pl

from experiments.build import Say, set_threads
from experiments.config import Config, resolve_trainer
from experiments.errors import ConfigError
from experiments.parser import as_plain
from experiments.resume import changes, load_checkpoint, record_resume, refuse_finished
from experiments.run import Label, Result, execute, start_run
from experiments.signals import Signals
from experiments.store.heartbeat import refuse_live
from experiments.store.location import Store
from experiments.store.read import find_run, read_run
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
    if not isinstance(module, pl.LightningModule):
        raise ConfigError(f"module: must be a LightningModule, is a {type(module).__name__}")
    with Signals() as signals:
        config = _describe(resolve_trainer(name, options), module, data)
        threads = set_threads(config.values["threads"])
        config = config.with_threads(threads)
        trainer_options = TrainerOptions.from_config(config.values["trainer"])
        if handle is None:
            pl.seed_everything(config.values["seed"], verbose=False)
            open_store(store)
            signals.defer()
            label.tags["taolu.door"] = "fit"
            writer, checkpoint = start_run(store, config, label, module, data, threads), None
        else:
            record = read_run(store, find_run(store, handle))
            refuse_live(record)
            checkpoint = record.folder / "checkpoints" / "last.ckpt"
            changed = changes(_flat_params(record.params), _flat_params(config.flat()))
            refuse_finished(record, changed)
            state = load_checkpoint(checkpoint)
            signals.defer()
            writer = record_resume(store, record, config, threads, state, changed, say)
        return execute(
            writer, config, module, data, trainer_options, signals, say, checkpoint=checkpoint, callbacks=callbacks
        )


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
