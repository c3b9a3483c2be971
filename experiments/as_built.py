"""What a checkpoint says beside its state, so that a fork can tell a setting from what training made of it."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from experiments.parser import Settings, as_plain


def built(trainer: Trainer) -> Settings:
    """The optimizers and schedules of a trainer as plain values.

    Keys: `optimizers`, a list of {class, groups: settings of each, sizes: parameters of each}; `schedules`, a list of
    {class, optimizer: its index, state}.
    """
    optimizers = [
        {
            "class": _name(optimizer),
            "groups": [as_plain({key: group[key] for key in group if key != "params"}) for group in groups],
            "sizes": [len(group["params"]) for group in groups],
        }
        for optimizer in trainer.optimizers
        for groups in [optimizer.param_groups]
    ]
    schedules = [
        {
            "class": _name(config.scheduler),
            "optimizer": _index(trainer, config.scheduler),
            "state": as_plain(config.scheduler.state_dict()),
        }
        for config in trainer.lr_scheduler_configs
    ]
    return {"optimizers": optimizers, "schedules": schedules}


def batch_rows(trainer: Trainer) -> int | None:
    """Rows of a training batch on this process; None where the loader does not say."""
    combined = trainer.fit_loop._combined_loader
    sizes = [getattr(loader, "batch_size", None) for loader in combined.flattened] if combined else []
    return sizes[0] if sizes and isinstance(sizes[0], int) else None


def _name(thing: Any) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _index(trainer: Trainer, scheduler: Any) -> int:
    own = [i for i, optimizer in enumerate(trainer.optimizers) if optimizer is getattr(scheduler, "optimizer", None)]
    return own[0] if own else 0


class AsBuilt(Callback):
    """Puts into every checkpoint what `built` says before the first step, and the rows of a batch."""

    def __init__(self) -> None:
        self._state: Settings = {}

    def state_dict(self) -> dict[str, Any]:
        """{"optimizers", "schedules", "batch_rows"}."""
        return self._state

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The optimizers are made, and no checkpoint is loaded into them yet."""
        self._state = {**built(trainer), "batch_rows": None}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Of the epoch that a run goes on in."""
        self._state["batch_rows"] = batch_rows(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A batch may grow from epoch to epoch."""
        self._state["batch_rows"] = batch_rows(trainer)
