"""`taolu evaluate`: a run's model validated again, on its own data or others, as a run of its own."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.model_helpers import is_overridden

from experiments.build import Say, Session, build_data, build_validator, check_trainer, quiet, set_threads
from experiments.config import Config, read_yaml, resolve_data
from experiments.errors import ConfigError, unknown
from experiments.judge import names_of
from experiments.lean import denormals_flushed
from experiments.load import checkpoint_file, module_of, refuse_without_model
from experiments.logger import Logger
from experiments.notify import Notifier
from experiments.parser import Settings, signature_of
from experiments.quality import EXTRACTOR, check_quality, judged_only, quality_callbacks
from experiments.resume import load_checkpoint, steps_done
from experiments.run import Label, Result, ending, execute, record_start, silent, start_run
from experiments.signals import Signals
from experiments.store.configs import flatten
from experiments.store.location import HIDDEN, Store, locate
from experiments.store.read import RunRecord, find_run, read_run
from experiments.store.write import open_store
from experiments.trainer import QUALITIES, Quality, TrainerOptions

EVALUATION = "taolu.evaluation"  # tag
# Beside the data: where and how precisely the model is computed. All else belongs to training.
PLACE = (
    "trainer.accelerator",
    "trainer.precision",
    "trainer.limit_val_batches",
    *(f"trainer.quality.{each.name}" for each in fields(Quality)),
    "threads",
)
NOT_VALIDATED = ("train/", "time/", "system/", "dynamics/", "epoch")


def evaluate(
    handle: str,
    options: Sequence[str] = (),
    *,
    checkpoint: str = "best",
    metrics: Sequence[str] = (),
    data: Any = None,
    overrides: Mapping[str, Any] | None = None,
    store: Store | None = None,
    label: Label | None = None,
    say: Say | None = None,
) -> Result:
    """The model of the run `handle`, validated; a run of kind evaluation with metrics.json.

    Args:
        handle: id prefix, name, last, ...
        options: command-line words: other data, and where it is computed.
        checkpoint: best or last; best falls back to last where there is none.
        metrics: those to keep, by name, fid short for val/fid; none = all.
        data: from Python: a LightningDataModule or a loader to validate on, in place of the run's.
        overrides: the same as options from Python, dotted keys to values.
        store: default as everywhere.
        label: of the new run.
        say: prints one line.

    Raises ConfigError when there is no such run, checkpoint or metric, or its model does not take the data.
    """
    say, label, store = say or silent, label or Label(), store or locate()
    notifier = Notifier(label.notify, say)
    notifier.check()
    with Signals() as signals:
        record = read_run(store, find_run(store, handle))
        refuse_without_model(record)
        metrics = [f"val/{name}" if name in QUALITIES else name for name in metrics]
        config = _config(record, options, overrides, data)
        if metrics:
            config = judged_only(config, metrics)
        _check_metrics(record, metrics)
        threads = set_threads(config.values["threads"])
        config = config.with_threads(threads)
        trainer_options = TrainerOptions.from_config(config.values["trainer"])
        check_trainer(trainer_options)
        file = checkpoint_file(record, checkpoint)
        state = load_checkpoint(file, f"taolu rerun {record.run_id[:8]}")
        module = module_of(record, state)
        used = build_data(config, module) if data is None else data
        _check_data(record, config, module, used)
        check_quality(module, used, trainer_options)
        open_store(store)
        signals.defer()
        work = _Validation(state, file.stem, tuple(metrics), record.tags.get(EXTRACTOR))
        label.kind = "evaluation"
        label.tags |= {"taolu.parent": record.run_id, EVALUATION: json.dumps(work.plain)}
        writer = start_run(store, config, label, module)
        with ending(writer):
            record_start(writer, config, used, threads)
            for note in (*config.notes, f"evaluates {file.stem} of {record.run_id[:8]} {record.name}"):
                say(note)
            return execute(
                Session(writer, config, module, used, trainer_options, signals, say, notifier=notifier), work
            )


def _config(record: RunRecord, options: Sequence[str], overrides: Mapping[str, Any] | None, data: Any) -> Config:
    """The run's config with other data."""
    file = record.folder / "config.yaml"
    if not file.exists():
        raise ConfigError(f"run {record.run_id[:8]} has no config.yaml in {record.folder}; taolu run did not make it")
    stored = read_yaml(file)
    own: Settings = {key: stored[key] for key in ("data", "trainer", "seed", "threads") if key in stored}
    asks = any(word.startswith("--data") for word in options) or any(key.startswith("data") for key in overrides or {})
    is_fit = record.tags.get("taolu.door") == "fit"
    if data is not None:
        kind = type(data)
        own.pop("data", None)
        config = resolve_data(record.experiment, own, options, overrides)
        described = {"class": f"{kind.__module__}:{kind.__qualname__}"}
        config = replace(config, values={**config.values, "data": described})
    elif is_fit and not asks:
        raise ConfigError(
            f"run {record.run_id[:8]} was started from Python by taolu.fit, which alone has its data; give some: "
            f"--data NAME, or in Python taolu.evaluate('{record.run_id[:8]}', data=...)"
        )
    else:
        if is_fit:
            own.pop("data", None)
        config = resolve_data(record.experiment, own, options, overrides)
    _check_options(own, config)
    return replace(config, values={"model": stored["model"], **config.values})


def _check_options(stored: Mapping[str, Any], config: Config) -> None:
    before, now = flatten(stored), flatten(config.values)
    for key, value in now.items():
        if isinstance(value, str) and HIDDEN in value:
            raise ConfigError(f"{key} was kept secret; give it again: --{key} VALUE")
        if key in before and before[key] != value and not (key in PLACE or key.split(".")[0] == "data"):
            raise ConfigError(
                f"{key}: {before[key]} in the run, now {value}; an evaluation may have other data, and change "
                f"{', '.join(PLACE)}"
            )
    if config.values["trainer"]["limit_val_batches"] == 0:
        raise ConfigError("trainer.limit_val_batches = 0: nothing to evaluate; give --trainer.limit_val_batches 1.0")


def _check_metrics(record: RunRecord, metrics: Sequence[str]) -> None:
    known = [key for key in record.metrics if not key.startswith(NOT_VALIDATED)]
    qualities = [each for name in QUALITIES for each in names_of(name)]
    for name in metrics:
        if known and name not in (*known, *qualities):
            raise unknown("metric", name, known, QUALITIES)


def _check_data(record: RunRecord, config: Config, module: pl.LightningModule, data: Any) -> None:
    """Raises ConfigError where there is nothing to validate, or the model does not take what there is."""
    if not is_overridden("validation_step", module):
        raise ConfigError(f"run {record.run_id[:8]}: {type(module).__name__} has no validation_step to evaluate with")
    if isinstance(data, pl.LightningDataModule):
        if not is_overridden("val_dataloader", data):
            raise ConfigError(f"data: {type(data).__name__} has no val_dataloader; give other data with --data")
    elif not hasattr(data, "__iter__"):
        raise ConfigError(f"data: {type(data).__name__} is no loader to validate on; give other data with --data")
    facts = json.loads(record.tags.get("taolu.data_facts", "{}"))
    accepted = signature_of(type(module))
    shape, before = getattr(data, "shape", None), facts.get("shape")
    if "shape" in accepted and shape and before and list(shape) != list(before):
        raise ConfigError(
            f"data: its shape is {_times(shape)}, and the model of run {record.run_id[:8]} takes {_times(before)}; "
            "give data of that shape, as with --data images --data.image_size N --data.channels N"
        )
    classes, trained = getattr(data, "n_classes", None), facts.get("n_classes")
    tells_classes = "n_classes" in accepted and module.hparams.get("n_classes", trained) is not None
    if tells_classes and classes and trained and classes > trained:
        raise ConfigError(f"data: it has {classes} classes, and the model of run {record.run_id[:8]} tells {trained}")
    if record.tags.get("taolu.data_digest") != str(getattr(data, "digest", None)):
        _try_a_batch(config, module, data)


def _times(shape: Sequence[int]) -> str:
    return "x".join(str(size) for size in shape)


def _try_a_batch(config: Config, module: pl.LightningModule, data: Any) -> None:
    """Raises ConfigError when the model cannot validate a batch of the data."""
    options = replace(TrainerOptions.from_config(config.values["trainer"]), limit_val_batches=1)
    try:
        _validate(build_validator(options, int(config.values["seed"]), Path.cwd()), module, data)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        text = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"data: the model does not take it ({type(error).__name__}: {text}); give data like those it was trained on"
        ) from error


def _validate(trainer: pl.Trainer, module: pl.LightningModule, data: Any) -> dict[str, float]:
    """Every quantity of a validation."""
    with warnings.catch_warnings(), denormals_flushed():
        quiet()
        if isinstance(data, pl.LightningDataModule):
            found = trainer.validate(module, datamodule=data, verbose=False)
        else:
            found = trainer.validate(module, dataloaders=data, verbose=False)
    return {key: float(value) for each in found for key, value in each.items()}


class _Heeding(pl.Callback):
    """Ends an evaluation at the next batch after a signal."""

    def __init__(self, signals: Signals) -> None:
        self.signals = signals

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Our handlers in front of Lightning's, just set."""
        self.signals.install()
        self.signals.check()

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """A border."""
        self.signals.check()


@dataclass
class _Validation:
    """The work of an evaluation.

    Args:
        state: the checkpoint.
        name: of the checkpoint: last, best.
        metrics: those to keep; none = all.
        extractor: tag of the run: the features its own quality is judged by.
    """

    state: Mapping[str, Any] = field(repr=False)
    name: str
    metrics: tuple[str, ...]
    extractor: str | None = None
    logger: Logger | None = None

    @property
    def plain(self) -> dict[str, Any]:
        """What is recorded of it."""
        return {"checkpoint": self.name, "step": steps_done(self.state) - 1, "metrics": list(self.metrics)}

    def build(self, session: Session, logger: Logger) -> pl.Trainer:
        """A trainer that stands where the run stood: modules may ask it for the epoch."""
        self.logger = logger
        seed = int(session.config.values["seed"])
        judging = quality_callbacks(session, self.extractor)
        trainer = build_validator(session.options, seed, session.writer.folder, _Heeding(session.signals), *judging)
        trainer.fit_loop.epoch_progress.current.completed = int(self.state["epoch"])
        trainer.fit_loop.epoch_loop._batches_that_stepped = steps_done(self.state) - 1
        return trainer

    def do(self, trainer: pl.Trainer, session: Session) -> None:
        """The validation; its values at the step of the checkpoint, in the store and in metrics.json."""
        values = _validate(trainer, session.module, session.data)
        for name in self.metrics:
            if name not in values:
                raise unknown("metric", name, values)
        beside = (key for name in QUALITIES for key in names_of(name) if f"val/{name}" in self.metrics)
        wanted = {*self.metrics, *beside}
        kept = {key: value for key, value in values.items() if key in wanted or not wanted}
        if self.logger is not None:
            self.logger.log_metrics(kept, steps_done(self.state) - 1)
        facts = {"parent": session.writer.tags_before["taolu.parent"], **self.plain, "metrics": kept}
        session.writer.text("metrics.json", json_text(facts))
        for key, value in kept.items():
            session.say(f"{key} {value:.6g}")


def json_text(value: Any) -> str:
    """JSON for people: indented, numbers it has no word for as text."""
    from experiments.store.files import finite

    return json.dumps(finite(value), indent=1)
