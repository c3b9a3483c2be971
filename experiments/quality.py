"""How good what a model generates is, FID and its like and the likelihood: what of it a run computes, and when."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng

from experiments.config import Config
from experiments.errors import ConfigError
from experiments.features import N_FEATURES, Extractor, from_file, kept, trained_on
from experiments.judge import NEIGHBOURS, PRDC, Judge, held_out, names_of
from experiments.store.heartbeat import rank
from experiments.trainer import BY_FEATURES, QUALITIES, Quality, TrainerOptions
from lightning_modules.data.image_set import ImageSet

if TYPE_CHECKING:
    from experiments.build import Session

EXTRACTOR, USES = "taolu.extractor", "taolu.uses"  # tags: whose features, and the run they are kept in

# ---- what is computed -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What is computed of a module's quality.

    Args:
        names: as in trainer.quality.metrics.
        notes: a sentence for each reason why something is not, though the module offers it.
        given: the user's own extractor, where one is given and needed.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    given: Extractor | None = None


def plan(module: pl.LightningModule, data: Any, options: Quality) -> Plan:
    """What module and data allow of what is wanted.

    Raises ConfigError where something asked for by name cannot be computed, or an extractor given cannot be used.
    """
    wanted = QUALITIES if options.metrics is None else tuple(dict.fromkeys(options.metrics))
    offered = [name for name in wanted if _absence(name, module) is None]
    given = None
    if options.extractor is not None and {*offered} & {*BY_FEATURES}:
        images = data.rows("validation")[0][:2] if isinstance(data, ImageSet) else None
        given = from_file(options.extractor, images)
    names, notes = [], dict[str, list[str]]()
    for name in wanted:
        why = _absence(name, module) or _obstacle(name, data, options, given)
        if why is None:
            names.append(name)
        elif options.metrics is not None:
            raise ConfigError(f"trainer.quality.metrics: {name}: {why}; or leave it out, [] computes none")
        elif name in offered:
            notes.setdefault(why, []).append(name)
    said = tuple(f"quality without {', '.join(left_out)}: {why}" for why, left_out in notes.items())
    return Plan(tuple(names), said, given)


def _absence(name: str, module: pl.LightningModule) -> str | None:
    """Why the module itself does not allow a quality; None where it does."""
    kind = type(module).__name__
    if name != "nll":
        return None if _takes(module, "sample", "seed") else f"{kind} has no sample(n, seed), which gives n images"
    if not _takes(module, "nll", "seed", "first_row"):
        return f"{kind} has no nll(batch, n_samples, seed, first_row), which tells -ln p(x) of each image"
    return None if getattr(module, "has_likelihood", True) else f"this {kind} has no likelihood"


def _takes(module: pl.LightningModule, method: str, *parameters: str) -> bool:
    """Whether the module has such a method: somebody else's `sample` may mean another thing."""
    found = getattr(module, method, None)
    return inspect.isroutine(found) and set(parameters) <= set(inspect.signature(found).parameters)


def _obstacle(name: str, data: Any, options: Quality, given: Extractor | None) -> str | None:
    """Why data or extractor do not allow a quality; None where they do, or say nothing of themselves."""
    if name in BY_FEATURES and given is None and (not isinstance(data, ImageSet) or data.n_classes < 2):
        return "these data have no labels to train an extractor by; give --trainer.quality.extractor FILE.pt"
    if name == "is" and given is not None and given.n_features is not None and not given.tells_classes:
        return "the extractor tells no classes; give one that maps images to a pair (features, logits)"
    if name == "nll" or not isinstance(data, ImageSet):
        return None
    count = min(options.n_samples, data.n_val)
    n_features = N_FEATURES if given is None else given.n_features or 0
    most = n_features if name == "fid" else NEIGHBOURS if name in PRDC else 1
    if name == "kid" and options.kid_subset is not None and options.kid_subset > count:
        return f"kid_subset = {options.kid_subset} is more than the {count} images to compare; give less"
    if count <= most:
        return f"{count} images to compare, more than {most} are needed; give more held-out images or n_samples"
    return None


def check_quality(module: pl.LightningModule, data: Any, options: TrainerOptions) -> None:
    """Raises ConfigError, before there is a run, for what is asked for by name and cannot be computed."""
    plan(module, data, options.quality)
    monitor = options.early_stopping.monitor
    is_regular = (options.quality_every, options.val_check_interval) == (1, 1.0)
    if monitor in [metric for name in QUALITIES for metric in names_of(name)] and not is_regular:
        raise ConfigError(
            f"trainer.early_stopping.monitor = {monitor}: is not there after every validation; "
            "give --trainer.quality_every 1 and --trainer.val_check_interval 1.0"
        )


def judged_only(config: Config, wanted: Sequence[str]) -> Config:
    """The config with those qualities alone that give one of the metrics wanted, such as val/fid."""
    trainer = config.values["trainer"]
    chosen = [name for name in QUALITIES if {*names_of(name)} & {*wanted}]
    quality = {**trainer["quality"], "metrics": chosen}
    return replace(config, values={**config.values, "trainer": {**trainer, "quality": quality}})


# ---- when it is computed --------------------------------------------------------------------------------------------


def quality_callbacks(session: Session, preferred: str | None = None) -> list[pl.Callback]:
    """The callback that computes a run's quality, its extractor found or trained first; none where there is no quality.

    Args:
        session: of the run.
        preferred: tag taolu.extractor of the run whose numbers these are to be compared with.
    """
    options = session.options.quality
    planned = plan(session.module, session.data, options)
    if not planned.names:
        return []
    extractor = None
    if rank() == 0:
        for note in planned.notes:
            session.say(note)
        if {*planned.names} & {*BY_FEATURES}:
            preferred = preferred or session.writer.tags_before.get(EXTRACTOR)
            extractor = planned.given or _extractor(session, preferred)
            uses = {USES: extractor.facts["run_id"]} if "run_id" in extractor.facts else {}
            session.writer.tags({EXTRACTOR: json.dumps(extractor.facts), **uses})
    judge = Judge(
        names=planned.names,
        options=options,
        extractor=extractor,
        seed=int(session.config.values["seed"]),
        check=session.signals.check,
        say=session.say,
    )
    return [Judging(judge, session.data, session.options.quality_every)]


def _extractor(session: Session, preferred: str | None) -> Extractor:
    """The preferred run's where it takes such images, else the one of the data."""
    data = session.data
    run_id = json.loads(preferred).get("run_id") if preferred else None
    known = kept(session.writer.store, run_id, data.shape) if run_id else None
    return known or trained_on(data, session.writer, session.say, session.signals.check)


class Judging(pl.Callback):
    """Computes the quality at the end of a fit, of every so many epochs, and of a validation outside of a fit.

    Args:
        judge: that computes it, on rank zero.
        data: the run's data part.
        every: epochs between two times; None = only the end.
    """

    def __init__(self, judge: Judge, data: Any, every: int | None) -> None:
        self.judge = judge
        self.data = data
        self.every = every
        self._epoch = -1  # the last one judged

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """At an epoch's last validation, where the values can still decide which checkpoint is the best."""
        if trainer.state.fn != "fit" or (not trainer.sanity_checking and self._is_due(trainer) and _ends(trainer)):
            self._judge(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Where no validation was due at the epoch's end, or one has just stopped the run."""
        if self._is_due(trainer) and self._epoch != trainer.current_epoch:
            self._judge(trainer, pl_module)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        is_last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.should_stop
        return is_last or (self.every is not None and (trainer.current_epoch + 1) % self.every == 0)

    def _judge(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._epoch = trainer.current_epoch
        values: dict[str, float] = {}
        if trainer.is_global_zero:
            started, plugin = time.perf_counter(), trainer.precision_plugin
            with evaluated(module), isolate_rng(), torch.no_grad(), plugin.val_step_context():
                found = self.judge.values(module, lambda most: held_out(trainer, self.data, most), plugin.convert_input)
            values = {f"val/{name}": value for name, value in found.items()}
            values["time/quality_seconds"] = time.perf_counter() - started
        values = trainer.strategy.broadcast(values)
        module.log_dict(values, sync_dist=trainer.world_size > 1)  # the same on every rank


def _ends(trainer: pl.Trainer) -> bool:
    """Whether no batch of this epoch is left."""
    return bool(trainer.should_stop or trainer.fit_loop.epoch_loop._num_ready_batches_reached())


@contextmanager
def evaluated(module: torch.nn.Module) -> Iterator[None]:
    """The module in evaluation mode; afterwards each part of it in the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
