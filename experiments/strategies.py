"""How several processes train together: Lightning's strategies, chosen for a module, and what each cannot do."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.imports import _IS_INTERACTIVE
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy, Strategy
from torch import Tensor

from experiments.errors import ConfigError
from experiments.trainer import TrainerOptions
from lightning_modules.optimizers import DEFAULT_OPTIMIZER, needs_whole_tensors


class ExactDDP(DDPStrategy):
    """Lightning's ddp, whose means of whole numbers are exact.

    Lightning 2.6 rounds the mean number of rows a process has down, so validation means of an odd number are off.
    """

    def reduce(self, tensor: Tensor, group: Any = None, reduce_op: Any = "mean") -> Tensor:
        """Lightning's, in float64 for whole numbers."""
        if reduce_op in ("mean", "avg") and isinstance(tensor, Tensor) and not tensor.is_floating_point():
            tensor = tensor.double()
        return super().reduce(tensor, group, reduce_op)


class OneMean(pl.Callback):
    """What a module logs of an epoch without `sync_dist` becomes the mean over the rows of all processes.

    Rank zero's own part would be recorded else, and each process would stop, or lower its learning rate, by its own.
    What some processes do not log is left alone: to wait for them would be to wait for ever.
    """

    def __init__(self) -> None:
        self._changed: list[Any] = []

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the means are taken."""
        self._agree(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After them: a module must log with the same arguments each time."""
        self._restore()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Likewise before the means of the training epoch."""
        self._agree(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Likewise after them."""
        self._restore()

    def _agree(self, trainer: pl.Trainer) -> None:
        lone = {
            key: result
            for key, result in (trainer._results or {}).items()
            if result.is_tensor and result.meta.on_epoch and not result.meta.on_step
            if not (result.meta.sync.should or result.meta.sync.rank_zero_only)
        }
        everyone: list[list[str]] = [[] for _ in range(trainer.world_size)]
        torch.distributed.all_gather_object(everyone, [*lone])
        for key in sorted(set(everyone[0]).intersection(*everyone)):
            lone[key]._computed = None  # by whoever looked at it before
            lone[key].meta.sync.should = True
            self._changed.append(lone[key].meta.sync)

    def _restore(self) -> None:
        for sync in self._changed:
            sync.should = False
        self._changed = []


def strategy_for(module: pl.LightningModule, options: TrainerOptions, processes: int) -> str | Strategy:
    """The strategy of a run, with the flags its module needs.

    A module optimised by hand has passes backward that leave parameters without a gradient; another one says that it
    has by an attribute `find_unused_parameters`.

    Args:
        module: to train.
        options: of the trainer.
        processes: that train together.
    """
    if options.strategy == "fsdp":
        return FSDPStrategy()
    if options.strategy == "auto" and processes == 1:
        return "auto"
    unused = getattr(module, "find_unused_parameters", not module.automatic_optimization)
    return ExactDDP(find_unused_parameters=bool(unused))


def check_strategy(module: pl.LightningModule, options: TrainerOptions, processes: int) -> None:
    """Raises ConfigError in one line for processes that this training cannot have. Arguments as above."""
    if processes > 1 and _IS_INTERACTIVE:
        raise ConfigError(
            f"trainer.devices = {options.devices}: a notebook cannot start further processes; use 1 here, or start it "
            "in a terminal, as a script or by taolu run"
        )
    if options.strategy != "fsdp":
        return
    given = dict(module.hparams.get("optimizer") or {})
    whole = needs_whole_tensors(given.pop("class", DEFAULT_OPTIMIZER), given)
    for is_wrong, why in (
        (not getattr(module, "may_be_sharded", False), f"a {type(module).__name__} is needed whole; use ddp"),
        (not has_gpu(options), "needs GPUs; use ddp, which processors have too"),
        (whole is not None, f"{whole} needs whole tensors, which it cuts; use ddp or another optimizer"),
        (
            options.gradient_clip_val is not None,
            "no process has the whole gradient to clip; use --trainer.gradient_clip_val null, or ddp",
        ),
        (bool(options.dynamics), "trainer.dynamics measures whole weights; use [], or ddp"),
    ):
        if is_wrong:
            raise ConfigError(f"trainer.strategy = fsdp: {why}")


def has_gpu(options: TrainerOptions) -> bool:
    """Whether the training is on NVIDIA's or AMD's GPUs."""
    return options.accelerator in ("auto", "gpu") and torch.cuda.is_available()
