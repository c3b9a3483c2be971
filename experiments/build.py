"""Parts from a config: the module, the data and the Trainer, each refusing what it cannot use in one line."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.profilers import AdvancedProfiler, SimpleProfiler
from pytorch_lightning.strategies import Strategy

from experiments.as_built import AsBuilt
from experiments.checkpoints import Checkpoints, Seeds, StopEarly, use_exact_loop
from experiments.config import Config
from experiments.console import Progressing
from experiments.errors import ConfigError
from experiments.lean import NoProfiler
from experiments.logger import Logger, Recorder
from experiments.notify import Notifier
from experiments.parser import FACTS, signature_of
from experiments.pictures import Pictures
from experiments.quality import check_quality, quality_callbacks
from experiments.signals import Signals
from experiments.store.heartbeat import rank
from experiments.store.write import RunWriter
from experiments.strategies import OneMean, check_strategy, has_gpu, strategy_for
from experiments.trainer import TrainerOptions, steps_of
from experiments.troubles import Troubles
from lightning_modules import MODULES
from lightning_modules.data import DATA
from lightning_modules.data.image_set import ImageSet, batches_per_step
from lightning_modules.data.loader import EpochLoader
from lightning_modules.dynamics import callback as dynamics_callback
from lightning_modules.optimizers import SCHEDULES, build, configure
from lightning_modules.parts import load_class

Say = Callable[[str], None]
UNENDING = 10**6  # epochs of a run that only steps or time end: no batch grows any more


def set_threads(threads: int | None, processes: int = 1) -> int:
    """The number of threads in force: the one asked for, else OMP_NUM_THREADS, else every core this process may use.

    `processes` of one run that share this machine share its cores.

    Clusters set the variable: threads that wait for each other on shared cores cost a small model twenty times.
    """
    if threads is None and os.environ.get("OMP_NUM_THREADS", "").isdecimal():
        threads = int(os.environ["OMP_NUM_THREADS"]) or None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads is not None and threads < 1:
        raise ConfigError(f"threads = {threads}: must be at least 1")
    threads = threads or max(cores // processes, 1)
    torch.set_num_threads(threads)
    return threads


def build_parts(config: Config) -> tuple[pl.LightningModule, Any]:
    """The module and the data part of a config.

    Raises ConfigError in one line for whatever its parts refuse.
    """
    values = config.values
    pl.seed_everything(values["seed"], verbose=False)
    data = _construct("data", values["data"], DATA, {"seed": values["seed"]})
    kind = load_class(values["model"]["class"], MODULES)
    filled = _facts(data, kind)
    if isinstance(data, ImageSet):
        data.batches_per_step = batches_per_step(kind, values["model"])
    filled["seed"] = values["seed"]
    for part in ("optimizer", "critic_optimizer"):
        if part in values:
            _check_optimizer(part, values[part])
            filled[part] = values[part]
    if "schedule" in values:
        filled["schedule"] = _schedule(values, data)
        for part in ("optimizer", "critic_optimizer"):
            if part in values:
                _refusing("schedule", configure, [_dummy()], values[part], filled["schedule"])
    pl.seed_everything(values["seed"], verbose=False)  # again: initial weights do not depend on what the data drew
    module = _construct("model", values["model"], MODULES, filled)
    if not isinstance(module, pl.LightningModule):
        raise ConfigError(
            f"model.class = {values['model']['class']}: must be a LightningModule, is a {type(module).__name__}"
        )
    check_module_data(module, data)
    return module, data


def build_data(config: Config, module: pl.LightningModule) -> Any:
    """The data part of a config, for a module that exists already.

    Raises ConfigError in one line for whatever it, or the module, refuses.
    """
    data = _construct("data", config.values["data"], DATA, {"seed": config.values["seed"]})
    check_module_data(module, data)
    return data


def check_module_data(module: pl.LightningModule, data: Any) -> None:
    """Raises ConfigError in one line for data the module says it cannot take."""
    if hasattr(module, "check_data"):
        check: Callable[[Any], None] = module.check_data  # type: ignore[assignment]
        _refusing("data", check, data)


def _construct(part: str, settings: Mapping[str, Any], known: Mapping[str, str], filled: Mapping[str, Any]) -> Any:
    kind = load_class(settings["class"], known)
    accepted = signature_of(kind)
    given = {key: value for key, value in settings.items() if key != "class"}
    given |= {key: value for key, value in filled.items() if key in accepted}
    return _refusing(part, kind, **given)


def _refusing(part: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The function's result; its ValueError, TypeError or OSError as a ConfigError in one line."""
    try:
        return function(*args, **kwargs)
    except ConfigError:
        raise
    except (ValueError, TypeError, OSError) as error:
        text = " ".join(str(error).split())
        raise ConfigError(text if text.startswith((f"{part}.", f"{part}:")) else f"{part}: {text}") from error


def _facts(data: Any, kind: type[Any]) -> dict[str, Any]:
    """What the model is told about the data, as its shape; what is None by default may lack."""
    facts = {}
    for key in FACTS:
        if key not in signature_of(kind):
            continue
        if not hasattr(data, key) and hasattr(data, "setup"):
            _refusing("data", data.prepare_data)
            _refusing("data", data.setup, "fit")
        if not hasattr(data, key) and signature_of(kind)[key].default is None:
            continue
        if not hasattr(data, key):
            raise ConfigError(
                f"data: {type(data).__name__} has no attribute '{key}', which {kind.__name__} needs; "
                "set it in its __init__"
            )
        facts[key] = getattr(data, key)
    return facts


def _check_optimizer(part: str, settings: Mapping[str, Any]) -> None:
    given = dict(settings)
    _refusing(part, build, given.pop("class"), [_dummy()], **given)


def _dummy() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.zeros(2, 2))


def _schedule(values: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """The schedule's settings, its length filled with the run's own where it is open."""
    settings = dict(values["schedule"])
    if "steps" in settings and settings["steps"] is None:
        settings["steps"] = planned_steps(TrainerOptions.from_config(values["trainer"]), data)
        if settings["steps"] is None:
            raise ConfigError("schedule.steps: the run's length is not known beforehand; give schedule.steps")
    given = {key: value for key, value in settings.items() if key != "class"}
    factor = _refusing("schedule", load_class(settings["class"], SCHEDULES), **given)
    if not callable(factor) or not isinstance(_refusing("schedule", factor, 0), float):
        raise ConfigError(f"schedule.class = {settings['class']}: must map a step to a factor of lr, a float")
    return settings


def planned_steps(options: TrainerOptions, data: Any) -> int | None:
    """Steps of the whole run if nothing stops it early; None where only time ends it, or no length is known."""
    processes = n_processes(options)
    if hasattr(data, "batches_in_epoch"):
        return steps_of(options, lambda epoch: _refusing("data", data.batches_in_epoch, epoch, processes))
    return steps_of(options, n_batches(data, processes))


def n_batches(data: Any, processes: int = 1) -> int | None:
    """Training batches of the first epoch on each process; None where the data does not say before it is set up."""
    train = data[0] if isinstance(data, tuple) else data
    if hasattr(train, "batches_in_epoch"):
        return int(_refusing("data", train.batches_in_epoch, 0, processes))
    try:
        count = len(train.train_dataloader() if hasattr(train, "train_dataloader") else train)
        return math.ceil(count / processes)
    except Exception:  # noqa: BLE001 - a data module nobody has set up yet may raise anything
        return None


def n_processes(options: TrainerOptions) -> int:
    """Processes that will train together.

    Raises ConfigError where the machine cannot have them.
    """
    if options.devices == options.num_nodes == 1:
        return 1
    check_trainer(options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _lightning_trainer(options, strategy="auto", logger=False).world_size


@dataclass(frozen=True)
class Session:
    """One fit of a run: its first, or one that resumes it.

    Args:
        writer: of the run.
        config: resolved.
        module: built.
        data: a LightningDataModule, or a training loader, or a pair of loaders.
        options: of the trainer.
        signals: entered.
        say: prints one line.
        checkpoint: to go on from.
        callbacks: the user's own, before ours.
        notifier: told how it ends, and of the first value that is not finite.
        only_last: see Checkpoints.
    """

    writer: RunWriter
    config: Config
    module: pl.LightningModule
    data: Any
    options: TrainerOptions
    signals: Signals
    say: Say
    checkpoint: Path | None = None
    callbacks: tuple[pl.Callback, ...] = ()
    notifier: Notifier | None = None
    only_last: bool = False


def build_trainer(session: Session, logger: Logger) -> pl.Trainer:
    """Lightning's Trainer with our recording, seeding, exact checkpoints and limits."""
    options, folder = session.options, session.writer.folder
    processes = n_processes(options)
    objective = objective_of(session.module)
    recorder = Recorder(logger, options)
    checkpoints = Checkpoints(
        folder / "checkpoints",
        session.signals,
        max_steps=options.max_steps,
        max_time=options.max_time,
        every=options.checkpoint_every,
        keep_best=options.keep.best,
        monitor=objective,
        only_last=session.only_last,
        before_save=recorder.gather,
    )
    ours: list[pl.Callback] = [
        AsBuilt(),  # first: a fork's callback moves schedules
        *([OneMean()] if processes > 1 else []),
        *session.callbacks,
        recorder,
        *_dynamics(options, int(session.config.values["seed"])),
        Progressing(recorder, session.say, objective[0] if objective else None),
        Pictures(folder, options.quality_every or 1),
        *quality_callbacks(session),
        Troubles(logger, session.say),
        *_early_stopping(options, objective, session.say),
        checkpoints,
        Seeds(int(session.config.values["seed"])),  # last: it puts back what the others' hooks draw in a validation
    ]
    growing = isinstance(session.data, ImageSet) and session.data.growth.is_on
    trainer = _lightning_trainer(
        options,
        strategy=strategy_for(session.module, options, processes),
        sync_batchnorm=processes > 1 and has_gpu(options),
        profiler=_profiler(options, folder),
        logger=logger,
        callbacks=ours,
        default_root_dir=folder,
        reload_dataloaders_every_n_epochs=int(growing),  # a larger batch makes another length
    )
    if processes > 1 and not has_gpu(options) and rank() == 0 and _has_batch_norm(session.module):
        session.say("BatchNorm on processors knows the rows of its own process alone; on GPUs, those of all processes")
    if options.precision == "64-true":
        session.module.double()  # Lightning 2.6 does so after it has loaded a checkpoint, which it thereby rounds
    use_exact_loop(trainer, checkpoints)
    if options.compile:
        session.module.compile()
    return trainer


def _has_batch_norm(module: pl.LightningModule) -> bool:
    return any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in module.modules())


def build_validator(options: TrainerOptions, seed: int, folder: Path, *callbacks: pl.Callback) -> pl.Trainer:
    """A Trainer that validates as a run's own does: same precision, same draws, one process; it logs nothing.

    Args:
        options: of the run.
        seed: of the run.
        folder: where Lightning would put files.
        callbacks: before ours.
    """
    one = replace(options, devices=1, num_nodes=1, strategy="auto")
    return _lightning_trainer(
        one,
        strategy="auto",
        profiler=NoProfiler(),
        logger=False,
        callbacks=[*callbacks, Seeds(seed)],
        default_root_dir=folder,
        inference_mode=False,  # as within a fit: a validation may need gradients
    )


def check_session(module: pl.LightningModule, data: Any, options: TrainerOptions) -> None:
    """Raises ConfigError for what a fit would refuse or do nothing with, before there is a run."""
    processes = n_processes(options)
    check_strategy(module, options, processes)
    check_trainer(options, strategy_for(module, options, processes))
    _early_stopping(options, objective_of(module), print)
    check_quality(module, data, options)
    for measuring in _dynamics(options, 0):
        _refusing("trainer.dynamics", measuring.setup, None, module, "fit")
    if options.gradient_clip_val is not None and not module.automatic_optimization:
        raise ConfigError(
            f"trainer.gradient_clip_val = {options.gradient_clip_val:g}: {type(module).__name__} optimises by hand, "
            "where Lightning clips nothing; use null, or call self.clip_gradients in a training_step of your own"
        )
    if options.precision.endswith("16-true") and getattr(module, "full_weights", False):
        raise ConfigError(
            f"trainer.precision = {options.precision}: {type(module).__name__} needs weights in float32 for what it "
            "measures; use bf16-mixed, or 32-true"
        )
    if options.accumulate_grad_batches > 1 and not module.automatic_optimization:
        raise ConfigError(
            f"trainer.accumulate_grad_batches = {options.accumulate_grad_batches}: "
            f"{type(module).__name__} optimises by hand, where Lightning accumulates nothing; use 1"
        )
    train = data[0] if isinstance(data, tuple) else data
    n_val = getattr(train, "n_val", processes)
    if isinstance(n_val, int) and 0 < n_val < processes and options.limit_val_batches:
        raise ConfigError(
            f"data: {n_val} row{'s' * (n_val > 1)} to validate on for {processes} processes, each needs one; use fewer "
            "processes, or --trainer.limit_val_batches 0"
        )
    if isinstance(train, ImageSet):
        train.batches_per_step = batches_per_step(type(module), module.hparams)
        last = (options.max_epochs or UNENDING) - 1  # batches never become more
        count = _refusing("data", train.batches_in_epoch, last, processes)
        grown = f"the last epoch, of batches grown to {train.batch_size_at(last, processes)},"
        _check_intervals(options, count, grown if train.growth.is_on else "an epoch")
    elif hasattr(train, "batches_in_epoch"):
        _check_intervals(options, _refusing("data", train.batches_in_epoch, 0, processes), "an epoch")
    elif isinstance(train, EpochLoader):  # any other is not read yet: its length is Lightning's to judge
        _check_intervals(options, n_batches(data) or 0, "an epoch")


def _check_intervals(options: TrainerOptions, count: int, whose: str) -> None:
    limit, interval = options.limit_train_batches, options.val_check_interval
    if isinstance(limit, float) and count and int(count * limit) < 1:
        raise ConfigError(
            f"trainer.limit_train_batches = {limit}: no batch of {count} is left; at least {1 / count:.2g}"
        )
    if isinstance(interval, int) and interval > count:
        raise ConfigError(f"trainer.val_check_interval = {interval}: {whose} has {count} batches; use at most {count}")


def check_trainer(options: TrainerOptions, strategy: str | Strategy = "auto") -> None:
    """Raises ConfigError when Lightning refuses the options, a device this machine lacks among them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said again when the run's own trainer is made
            _lightning_trainer(options, strategy=strategy, logger=False)
    except (ValueError, TypeError, RuntimeError, ImportError, MisconfigurationException) as error:
        names = ("accelerator", "devices", "strategy", "precision")
        given = ", ".join(f"{name} {getattr(options, name)}" for name in names)
        raise ConfigError(f"trainer ({given}): {' '.join(str(error).split())}") from error


def _lightning_trainer(options: TrainerOptions, **more: Any) -> pl.Trainer:
    with warnings.catch_warnings():
        quiet()
        return pl.Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            # of one process nobody else is asked: tasks of SLURM may be a sweep's workers
            plugins=[LightningEnvironment()] if options.devices == options.num_nodes == 1 else None,
            precision=options.precision,
            max_epochs=-1 if options.max_epochs is None else options.max_epochs,
            val_check_interval=options.val_check_interval,
            limit_train_batches=options.limit_train_batches,
            limit_val_batches=options.limit_val_batches,
            accumulate_grad_batches=options.accumulate_grad_batches,
            gradient_clip_val=options.gradient_clip_val,
            deterministic=options.deterministic,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            **more,
        )


def _profiler(options: TrainerOptions, folder: Path) -> NoProfiler | SimpleProfiler | AdvancedProfiler:
    if options.profiler is None:
        return NoProfiler()
    kind = SimpleProfiler if options.profiler == "simple" else AdvancedProfiler
    return kind(dirpath=folder, filename="profile")


def objective_of(module: pl.LightningModule) -> tuple[str, str] | None:
    """What the module states it is judged by: a metric and "min" or "max"; None where it states nothing.

    Raises ConfigError for a statement of another form.
    """
    stated = getattr(module, "objective", None)
    if stated is None:
        return None
    if not (isinstance(stated, tuple) and len(stated) == 2 and stated[1] in ("min", "max")):
        raise ConfigError(f"{type(module).__name__}.objective = {stated!r}: must be a pair such as ('val/loss', 'min')")
    return str(stated[0]), str(stated[1])


def _early_stopping(options: TrainerOptions, objective: tuple[str, str] | None, say: Say) -> list[pl.Callback]:
    wanted = options.early_stopping
    if not wanted.is_on:
        return []
    monitor = wanted.monitor or (objective[0] if objective else None)
    if monitor is None:
        raise ConfigError(
            "trainer.early_stopping.monitor: the model states no objective; name the metric to watch, as val/loss"
        )
    mode = wanted.mode or (objective[1] if objective and objective[0] == monitor else "min")
    return [StopEarly(monitor, mode, wanted.patience or 3, wanted.min_delta, say)]


def _dynamics(options: TrainerOptions, seed: int) -> list[pl.Callback]:
    return [dynamics_callback(name, options.dynamics_every, seed) for name in dict.fromkeys(options.dynamics)]


def quiet() -> None:
    """Lightning's advice that does not apply here."""
    for text in (
        ".*does not have many workers.*",
        ".*LeafSpec.*",
        ".*lr_scheduler.step\\(\\)` before `optimizer.step.*",  # said of a resumed epoch's end
        ".*litlogger.*",
        ".*is smaller than the logging interval.*",
        ".*module\\(s\\) in eval mode at the start of training.*",  # a GAN's averaged generator
        ".*Checkpoint directory .* exists.*",
        ".*you defined a `validation_step` but have no `val_dataloader`.*",
        ".*passed in a `val_dataloader` but have no `validation_step`.*",
        ".*Trying to infer the `batch_size`.*",
        ".*`training_step` returned `None`.*",
        ".*You have overridden `on_before_batch_transfer` in `LightningModule`.*",  # which data parts of ours have not
        ".*when logging on epoch level in distributed setting.*",  # which OneMean does
        ".*Grad strides do not match bucket view strides.*",  # of 1-channel kernels in channels_last
        ".*callbacks used to create the checkpoint need to be provided.*",  # of a fork without early stopping
    ):
        warnings.filterwarnings("ignore", message=text)
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in (
        "pytorch_lightning.utilities.rank_zero",
        "lightning.pytorch.utilities.rank_zero",
        "lightning_utilities.core.rank_zero",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
