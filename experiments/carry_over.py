"""What a fork takes from its parent's checkpoint, and what the changed config sets: before the first step.

Loading a checkpoint, Lightning and torch put the old settings back into optimizers and schedules without a word: the
learning rate, weight decay and betas stand in the optimizer's groups, a schedule's own settings in its state.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from experiments.as_built import AsBuilt, batch_rows, built
from experiments.build import Say
from experiments.checkpoints import write_checkpoint
from experiments.parser import Settings
from experiments.resume import Progress, progress_of

# Settings of an optimizer's group that schedules move.
SCHEDULED = (
    "lr",
    "initial_lr",
    "min_lr",
    "max_lr",
    "momentum",
    "base_momentum",
    "max_momentum",
    "betas",
    "beta",
    "beta1",
)


class CarryOver(Callback):
    """Edits the checkpoint of the parent while it is loaded into the fork, then saves it as the fork's own.

    A setting is changed where the config builds another one than the parent's config built; all others stay as training
    left them. A schedule that is new or changed takes the position it would have, had it been there from the start.

    Args:
        file: where the state goes once it is whole; the fork goes on from there if it is stopped before its first save.
        reset: what is not taken over, of optimizer, schedule and data.
        model_changed: whether a setting of the model is another one: a schedule of its own may depend on it.
        say: prints one line.
    """

    def __init__(self, file: Path, reset: Sequence[str], *, model_changed: bool, say: Say) -> None:
        self.file = file
        self.reset = frozenset(reset)
        self.model_changed = model_changed
        self.say = say
        self._state: dict[str, Any] = {}
        self._progress = Progress(0, 0, 0.0)
        self._built: Settings = {}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps hold of what is being loaded: the optimizers, which come next, are made after this."""
        self._state = checkpoint
        self._progress = progress_of(checkpoint)
        self._built = checkpoint["callbacks"][AsBuilt.__qualname__]
        if "data" in self.reset:
            _begin_anew(checkpoint["loops"]["fit_loop"], self._progress.steps)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The states that Lightning is about to load into the optimizers and schedules."""
        now = built(trainer)
        saved = self._state["optimizer_states"]
        states = [
            self._optimizer(i, optimizer, saved[i] if i < len(saved) else None, now["optimizers"][i])
            for i, optimizer in enumerate(trainer.optimizers)
        ]
        self._state["lr_schedulers"] = self._schedules(trainer, now, states)
        self._state["optimizer_states"] = states

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The place in the epoch, in batches of their size now; then the whole state is saved."""
        if "data" not in self.reset:
            self._place(trainer)
        write_checkpoint(trainer, self.file)
        self._state, self._built = {}, {}

    # -- optimizers -------------------------------------------------------------------------------------------

    def _optimizer(self, i: int, optimizer: Optimizer, saved: Mapping[str, Any] | None, now: Settings) -> Settings:
        """The state_dict to be loaded into the i-th optimizer."""
        before = self._built["optimizers"][i] if i < len(self._built["optimizers"]) else None
        fresh: Settings = optimizer.state_dict()
        if saved is None or before is None or any(before[key] != now[key] for key in ("class", "sizes")):
            was = before["class"] if before else "none"
            self.say(f"optimizer {was} -> {now['class']}: its state is new")
            return fresh
        pairs = list(zip(before["groups"], now["groups"], strict=True))
        changed = [{key for key in new if key not in old or old[key] != new[key]} for old, new in pairs]
        is_new = "optimizer" in self.reset
        if not is_new and any(changed) and (missing := _missing_buffers(optimizer, saved)):
            self.say(f"{now['class']}: its state is new, as the parent's has no {', '.join(sorted(missing))}")
            is_new = True
        groups = []
        for own, old, keys in zip(fresh["param_groups"], saved["param_groups"], changed, strict=True):
            base = {**own, **_scheduled(old)} if is_new else old
            groups.append({**base, **{key: own[key] for key in keys}, "params": own["params"]})
        return {"state": {} if is_new else saved["state"], "param_groups": groups}

    # -- schedules --------------------------------------------------------------------------------------------

    def _schedules(self, trainer: Trainer, now: Settings, states: list[Settings]) -> list[Settings]:
        """The state_dicts to be loaded into the schedules; what they set is written into the optimizers' states."""
        before, saved = self._built["schedules"], self._state["lr_schedulers"]
        with_one = {each["optimizer"] for each in now["schedules"]}
        for i in {each["optimizer"] for each in before} - with_one:
            if i < len(states):
                _set_scheduled(trainer, i, states)
        found = []
        for j, (config, new) in enumerate(zip(trainer.lr_scheduler_configs, now["schedules"], strict=True)):
            i, scheduler = new["optimizer"], config.scheduler
            known = j < len(before) and before[j]["class"] == new["class"] and before[j]["optimizer"] == i
            old = saved[j] if known and j < len(saved) else None
            if "schedule" in self.reset:
                _set_scheduled(trainer, i, states)
                found.append(scheduler.state_dict())
            elif old is not None and before[j] == new and not self._rates_changed(i, now):
                found.append(old)
            elif config.reduce_on_plateau:
                found.append(self._plateau(scheduler, old, before[j]["state"] if known else None, i, now, states))
            else:
                replayed: Any = scheduler  # a plateau's step, which wants a metric, is not meant
                for _ in range(self._position(config, old)):
                    replayed.step()
                _set_scheduled(trainer, i, states)
                found.append(scheduler.state_dict())
        return found

    def _rates_changed(self, i: int, now: Settings) -> bool:
        """Whether the rates that the i-th optimizer starts from are others, or could be."""
        if self.model_changed or i >= len(self._built["optimizers"]):
            return True
        before, after = self._built["optimizers"][i], now["optimizers"][i]
        if before["class"] != after["class"]:
            return True
        return [_scheduled(group) for group in before["groups"]] != [_scheduled(group) for group in after["groups"]]

    def _position(self, config: Any, old: Settings | None) -> int:
        """How often the schedule would have been stepped."""
        if old is not None and isinstance(old.get("last_epoch"), int):
            return int(old["last_epoch"])
        count = self._progress.steps if config.interval == "step" else self._progress.epochs
        return int(count // config.frequency)

    def _plateau(
        self, scheduler: Any, old: Settings | None, was: Settings | None, i: int, now: Settings, states: list[Settings]
    ) -> Settings:
        """A schedule that follows a metric cannot be replayed: it keeps what it has seen, and how often it cut lr."""
        fresh: Settings = scheduler.state_dict()
        if old is None or was is None:
            return fresh
        saved = self._state["optimizer_states"][i]["param_groups"]
        before = self._built["optimizers"][i]["groups"]
        for group, kept, first in zip(states[i]["param_groups"], saved, before, strict=True):
            if group["lr"] != kept["lr"] and first["lr"]:
                group["lr"] = group["lr"] * (kept["lr"] / first["lr"])
        return {key: value if fresh.get(key) == was.get(key) else fresh[key] for key, value in old.items()}

    # -- data -------------------------------------------------------------------------------------------------

    def _place(self, trainer: Trainer) -> None:
        """Goes on at the first whole batch of rows that the parent had not seen in this epoch."""
        loop, count = trainer.fit_loop.epoch_loop, trainer.fit_loop.max_batches
        progress = loop.batch_progress
        done, rows_then, rows_now = progress.current.ready, self._built["batch_rows"], batch_rows(trainer)
        if not isinstance(count, int) or not count:
            return
        if progress.is_last_batch:
            place = count
        else:
            window = trainer.accumulate_grad_batches
            place = steps_into(done, (rows_then, rows_now), window, (count - 1) // window) * window
        if place == done:
            return
        for name in ("ready", "started", "processed"):
            setattr(progress.current, name, place)
        progress.current.completed = max(place - 1, 0)
        combined, fetcher = trainer.fit_loop._combined_loader, trainer.fit_loop._data_fetcher
        if combined is not None and fetcher is not None:
            start = 0 if place == count else place
            combined._load_state_dicts([{"batch": start} for _ in combined._state_dicts()])
            iter(fetcher)


def steps_into(done: int, rows: tuple[int | None, int | None], window: int, most: int) -> int:
    """The whole steps of an epoch that cover the rows its first batches had.

    Args:
        done: batches that were taken.
        rows: of a batch then, and now; None = unknown, taken as equal.
        window: batches a step now.
        most: steps; one at least is left of the epoch.

    >>> steps_into(10, (32, 64), 1, 21), steps_into(10, (32, 64), 2, 10), steps_into(10, (32, 16), 1, 15)
    (5, 3, 15)
    """
    then, now = rows
    return min(math.ceil(done * (then / now if then and now else 1.0) / window), most)


def _scheduled(group: Mapping[str, Any]) -> Settings:
    return {key: group[key] for key in SCHEDULED if key in group}


def _set_scheduled(trainer: Trainer, i: int, states: list[Settings]) -> None:
    """The rates as they stand in the i-th optimizer itself, written into its state."""
    for group, live in zip(states[i]["param_groups"], trainer.optimizers[i].param_groups, strict=True):
        group.update(_scheduled(live))


def _missing_buffers(optimizer: Optimizer, saved: Mapping[str, Any]) -> set[str]:
    """Tensors that the optimizer, as it is set now, keeps for a parameter, and that the saved state lacks.

    Found by a step of a copy over a parameter of its own: an option such as amsgrad asks for more than there is.
    """
    missing: set[str] = set()
    for group, old in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        for p, index in zip(group["params"], old["params"], strict=True):
            kept = saved["state"].get(index)
            if not kept:
                continue
            theta = torch.nn.Parameter(torch.zeros([2] * p.ndim, dtype=p.dtype, device=p.device))
            theta.grad = torch.zeros_like(theta)
            probe = copy.copy(optimizer)
            probe.state = defaultdict(dict)
            probe.param_groups = [{**group, "params": [theta]}]
            probe.step(lambda: 0.0)
            missing |= {*probe.state[theta]} - {*kept}
            break
    return missing


def _begin_anew(loops: dict[str, Any], steps: int) -> None:
    """The loops' counters as before the first batch of the first epoch, the steps counted on."""
    for key in ("epoch_progress", "epoch_loop.batch_progress"):
        for part in ("total", "current"):
            loops[key][part] = dict.fromkeys(loops[key][part], 0)
    loops["epoch_loop.batch_progress"]["is_last_batch"] = False
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = steps
