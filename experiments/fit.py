"""`taolu.fit`: somebody's own module and data, trained as a tracked run that resumes exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.model_helpers import is_overridden

from experiments.build import Say, Session, check_module_data, check_session, set_threads
from experiments.config import Config, read_yaml, resolve_trainer
from experiments.errors import ConfigError
from experiments.notify import Notifier
from experiments.parser import Settings, as_plain
from experiments.resume import (
    changes,
    check_data,
    load_checkpoint,
    progress_of,
    record_resume,
    refuse_finished,
    stopped_run,
)
from experiments.run import Label, Result, ending, execute, record_start, start_run
from experiments.signals import Signals
from experiments.store.configs import flatten
from experiments.store.location import Store
from experiments.store.read import RunRecord, find_run
from experiments.store.write import open_store
from experiments.trainer import TrainerOptions
from lightning_modules.data.image_set import ImageSet


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
    notifier = Notifier(label.notify, say)
    notifier.check()
    with Signals() as signals, _stopped(store, handle) as record:
        stored = {} if record is None else _stored(record)
        name = name if record is None else record.experiment
        config = _describe(resolve_trainer(name, {**stored, **options}), module, data)
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
            checkpoint = record.folder / "checkpoints" / "last.ckpt"
            changed = changes(resolve_trainer(name, stored).flat(), _own(config.flat()))
            state = load_checkpoint(checkpoint, again="taolu.fit(module, data)")
            refuse_finished(record, trainer_options, changed, progress_of(state))
            check_data(record, data)
            signals.defer()
            writer = record_resume(store, record, config, threads, state, changed, say)
        with ending(writer):
            if checkpoint is None:
                record_start(writer, config, data, threads)
            own = tuple(callbacks)
            return execute(
                Session(writer, config, module, data, trainer_options, signals, say, checkpoint, own, notifier)
            )


def _stopped(store: Store, handle: str | None) -> AbstractContextManager[RunRecord | None]:
    """The run to go on with, kept for this process; nothing where there is none."""
    return nullcontext() if handle is None else stopped_run(store, find_run(store, handle))


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
    if isinstance(data, ImageSet):  # of any other data, a module can say nothing yet
        check_module_data(module, data)


def _stored(record: RunRecord) -> Settings:
    """Trainer, seed and threads of a run of fit, by dotted key: what a resume does not give stays as it was."""
    if record.tags.get("taolu.door") != "fit":
        raise ConfigError(
            f"run {record.run_id[:8]} was not started by taolu.fit; go on with taolu.resume('{record.run_id[:8]}')"
        )
    return _own(flatten(read_yaml(record.folder / "config.yaml")))


def _own(flat: Settings) -> Settings:
    """What fit has options for, apart from what describes the module and the data."""
    return {key: value for key, value in flat.items() if key.startswith("trainer.") or key in ("seed", "threads")}


def _describe(config: Config, module: pl.LightningModule, data: Any) -> Config:
    """The config with the module's class and hyper-parameters, and the data's class, written in."""
    kind = type(module)
    model = {"class": f"{kind.__module__}:{kind.__qualname__}", **as_plain(dict(module.hparams))}
    parts = {"model": model}
    if data is not None:
        parts["data"] = {"class": f"{type(data).__module__}:{type(data).__qualname__}"}
    return Config(config.name, {**parts, **config.values}, config.notes)
