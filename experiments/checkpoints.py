"""Exact state: checkpoints from which a run goes on as if it had never stopped, to the bit on the same machine.

A checkpoint is always the state after a training batch and before the validation that may follow it. Whoever resumes
runs that validation again, which changes no weight. (Lightning's own end-of-fit checkpoints count a partly done epoch
as complete: extending one lost 3 of 15 steps.)
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loops.fit_loop import _FitLoop
from pytorch_lightning.loops.progress import _ReadyCompletedTracker

from experiments.logger import step_of
from experiments.signals import Signals
from experiments.store.files import atomic_path
from experiments.trainer import seconds
from lightning_modules.data.loader import EpochLoader


class Seeds(Callback):
    """torch's global generator as a function of (seed, batch, rank); validation leaves it untouched.

    Dropout, augmentations and foreign modules then resume exactly although no generator's state is saved.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._saved: dict[str, Any] = {}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """For what fetches the first batch."""
        self._set(trainer, "fetch", 0)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """For the step."""
        self._set(trainer, "step", batch_idx)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """For what fetches the next batch."""
        self._set(trainer, "fetch", batch_idx + 1)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The generators as they are, kept; the validation begins from the same state each time."""
        cuda = torch.cuda.get_rng_state_all() if pl_module.device.type == "cuda" else None
        self._saved = {
            "torch": torch.get_rng_state(),
            "cuda": cuda,
            "numpy": np.random.get_state(),
            "random": random.getstate(),
        }
        self._set(trainer, "validation", 0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The generators as they were."""
        if self._saved:
            torch.set_rng_state(self._saved["torch"])
            if self._saved["cuda"] is not None:
                torch.cuda.set_rng_state_all(self._saved["cuda"])
            np.random.set_state(self._saved["numpy"])
            random.setstate(self._saved["random"])
            self._saved = {}

    def _set(self, trainer: Trainer, stream: str, batch: int) -> None:
        epoch = 0 if stream == "validation" else trainer.current_epoch
        text = f"{self.seed}/{stream}/{epoch}/{batch}/{trainer.global_rank}"
        value = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "little")
        torch.default_generator.manual_seed(value)  # 1 us; torch.manual_seed, which asks every backend, takes 81
        device = trainer.strategy.root_device
        if device.type == "cuda":
            torch.cuda.default_generators[device.index or 0].manual_seed(value)


class ExactFitLoop(_FitLoop):
    """Lightning's fit loop, resuming a checkpoint of an epoch's last batch at the start of the next epoch.

    Lightning 2.6 leaves the epoch's counters half moved there: a second resume from within the next epoch then goes
    wrong. In the middle of an epoch its own way is exact.
    """

    def reset(self) -> None:
        """Puts the counters right before the first epoch of this session."""
        batches = self.epoch_loop.batch_progress
        if self.restarting and batches.current.ready >= self.max_batches:
            for progress in (self.epoch_progress.total, self.epoch_progress.current):
                vars(progress).update(dict.fromkeys(("started", "processed", "completed"), progress.ready))
            for loader in self._combined_loader.flattened if self._combined_loader is not None else ():
                if isinstance(loader, EpochLoader):
                    loader.load_state_dict({"batch": 0})
            batches.total.completed = batches.total.ready
            self.epoch_loop._batches_that_stepped += 1
            self.restarting = False
            self._loaded_from_state_dict = False
            self._resuming_from_checkpoint = False
            self.epoch_loop._loaded_from_state_dict = False
        super().reset()


def use_exact_loop(trainer: Trainer) -> None:
    """The trainer's fit loop replaced by ours, its limits kept."""
    old = trainer.fit_loop
    loop = ExactFitLoop(trainer, min_epochs=old.min_epochs, max_epochs=old.max_epochs)
    loop.epoch_loop = old.epoch_loop
    trainer.fit_loop = loop


class StopEarly(EarlyStopping):
    """Lightning's early stopping, its patience taken from this session's config: a resumed run may have more of it.

    Args:
        monitor: the quantity watched.
        mode: min or max.
        patience: validations in a row without improvement.
        min_delta: smallest improvement.
        say: told why the run stopped.
    """

    def __init__(self, monitor: str, mode: str, patience: int, min_delta: float, say: Callable[[str], None]) -> None:
        # After validations, never at an epoch's end: a checkpoint lies before the validation, which a resume repeats.
        super().__init__(monitor, min_delta, patience, mode=mode, check_on_train_epoch_end=False)
        self.say = say

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says why, if this is what stopped the run."""
        if self.stopping_reason_message:
            self.say(f"stopped early: {' '.join(self.stopping_reason_message.split())}")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The state of the stopped session, but not its patience."""
        patience = self.patience
        super().load_state_dict(state_dict)
        self.patience = patience


class Checkpoints(Callback):
    """Keeps last.ckpt and best.ckpt, ends the run at its limits, and at a signal.

    Args:
        folder: of the checkpoints.
        signals: checked at every border.
        max_steps: batches after which weights changed; None = no limit.
        max_time: see trainer.max_time.
        every: steps between two saves beside those before each validation; None = only those.
        keep_best: whether best.ckpt is kept.
        monitor: what best is judged by, with "min" or "max"; None = there is no best.
    """

    def __init__(
        self,
        folder: Path,
        signals: Signals,
        *,
        max_steps: int | None,
        max_time: str | None,
        every: int | None,
        keep_best: bool,
        monitor: tuple[str, str] | None,
    ) -> None:
        self.folder = folder
        self.signals = signals
        self.max_steps = max_steps
        self.max_seconds = seconds(max_time) if max_time else None
        self.every = every
        self.monitor = monitor if keep_best else None
        self.best: float | None = None
        self.seconds = 0.0
        self._started = time.monotonic()
        self._validation_due = False

    def state_dict(self) -> dict[str, Any]:
        """Plain values: the best so far, seconds trained, and whether a validation follows."""
        return {"best": self.best, "seconds": self._elapsed(), "validation_due": self._validation_due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The state of the stopped session."""
        self.best, self.seconds = state_dict["best"], state_dict["seconds"]
        self._validation_due = state_dict["validation_due"]

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self._started

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Our handlers in front of Lightning's, which would end a run inside an accumulation window."""
        self._started = time.monotonic()
        self.signals.install()
        self.signals.check()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The validation the stopped session did not come to, or did in vain."""
        if self._validation_due:
            self._validate(trainer)
        if self._limit_reached(step_of(trainer)):
            trainer.should_stop = True

    def _validate(self, trainer: Trainer) -> None:
        epoch_loop, epochs = trainer.fit_loop.epoch_loop, trainer.fit_loop.epoch_progress.current
        between_epochs = int(not trainer.fit_loop.restarting)  # its epoch is counted as done: see ExactFitLoop
        resuming = epoch_loop.val_loop.restarting
        first_loop_iter = trainer._logger_connector._first_loop_iter
        epoch_loop.val_loop.restarting = False
        epoch_loop._batches_that_stepped -= 1  # its values belong to the step and epoch before it
        _shift(epochs, -between_epochs)
        trainer.validating = True
        epoch_loop.val_loop.run()
        trainer.training = True
        trainer._logger_connector._first_loop_iter = first_loop_iter
        epoch_loop._batches_that_stepped += 1
        _shift(epochs, between_epochs)
        epoch_loop.val_loop.restarting = resuming
        self._validation_due = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves before a validation, at the limits, at a signal and every `every` steps; never inside a window."""
        if trainer.fit_loop._should_accumulate():
            return
        done = step_of(trainer) + 1
        limit, signalled = self._limit_reached(done), self.signals.received is not None
        epoch_loop = trainer.fit_loop.epoch_loop
        fetcher = trainer.fit_loop._data_fetcher
        assert fetcher is not None
        self._validation_due = trainer.enable_validation and epoch_loop._should_check_val_fx(fetcher)
        periodic = self.every is not None and done % self.every == 0
        if limit or signalled or periodic or self._validation_due or epoch_loop._num_ready_batches_reached():
            self.save(trainer)
        self._validation_due = False
        self.signals.check()
        if limit:
            trainer.should_stop = True

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """A validation ends at its next batch too: the state before it is saved already."""
        self.signals.check()

    def _limit_reached(self, done: int) -> bool:
        out_of_time = self.max_seconds is not None and self._elapsed() >= self.max_seconds
        return out_of_time or (self.max_steps is not None and done >= self.max_steps)

    def save(self, trainer: Trainer) -> None:
        """last.ckpt, whole or not at all."""
        if trainer.is_global_zero:
            with atomic_path(self.folder / "last.ckpt") as part:
                trainer.save_checkpoint(part, weights_only=False)
        else:
            trainer.save_checkpoint(self.folder / "last.ckpt", weights_only=False)  # all ranks take part, one writes

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """best.ckpt, when the objective is the best so far: a link to the last.ckpt saved before this validation."""
        if self.monitor is None or trainer.sanity_checking:
            return
        key, mode = self.monitor
        value = trainer.callback_metrics.get(key)
        if value is None or not torch.isfinite(value):
            return
        better = self.best is None or (value > self.best if mode == "max" else value < self.best)
        if better:
            self.best = float(value)
            if trainer.is_global_zero and (self.folder / "last.ckpt").exists():
                with atomic_path(self.folder / "best.ckpt") as part:
                    _link(self.folder / "last.ckpt", part)


def _shift(epochs: _ReadyCompletedTracker, count: int) -> None:
    """Moves the number Lightning gives the current epoch."""
    for name in ("processed", "completed"):
        setattr(epochs, name, getattr(epochs, name) + count)


def _link(source: Path, target: Path) -> None:
    """`target` with the content of `source`: a second name of the same bytes where the file system can."""
    target.unlink()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
