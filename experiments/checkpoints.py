"""Exact state: checkpoints from which a run goes on as if it had never stopped, to the bit on the same machine.

A checkpoint is the state right after a training batch, before what Lightning does next: the validation that may follow,
and the end of the epoch. Whoever resumes does that first, hooks and schedulers included. (Lightning's own end-of-fit
checkpoints count a partly done epoch as complete: extending one lost 3 of 15 steps.)
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loops.fetchers import _DataFetcher
from pytorch_lightning.loops.fit_loop import _FitLoop
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop

from experiments.border import Border
from experiments.logger import step_of
from experiments.parser import as_plain
from experiments.signals import Signals
from experiments.store.files import atomic_path, write_text
from experiments.trainer import seconds

BEST_SCORE = "best.json"  # beside best.ckpt


class Seeds(Callback):
    """The global generators as a function of (seed, batch, rank); validation leaves them untouched.

    Dropout, augmentations and foreign modules then resume exactly although no generator's state is saved.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._saved: dict[str, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """For what fetches the next batch of a resumed epoch."""
        self._set(trainer, "fetch", trainer.fit_loop.epoch_loop.batch_progress.current.ready)

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
        np.random.seed(value % 2**32)
        random.seed(value)
        device = trainer.strategy.root_device
        if device.type == "cuda":
            torch.cuda.default_generators[device.index or 0].manual_seed(value)


class ExactEpochLoop(_TrainingEpochLoop):
    """Lightning's epoch loop, resuming right after the batch a checkpoint was taken in.

    Lightning 2.6 itself leaves out the validation due there, the end of the epoch, and plateau schedulers for the rest
    of the epoch.
    """

    resumed = False
    at_limit: Callable[[], None] | None = None  # tells the trainer to stop where the session has nothing more to do

    _takes_batch_idx: bool | None = None

    def _build_kwargs(self, kwargs: OrderedDict[str, Any], batch: Any, batch_idx: int) -> OrderedDict[str, Any]:
        """Lightning's, which reads the step's signature at every step, 60 us; here once."""
        if self._takes_batch_idx is None:
            self._takes_batch_idx = "batch_idx" in super()._build_kwargs(OrderedDict(), batch, batch_idx)
        kwargs["batch"] = batch
        if self._takes_batch_idx:
            kwargs["batch_idx"] = batch_idx
        return kwargs

    def reset(self) -> None:
        """Keeps the counters of a resumed epoch."""
        if not self.resumed:
            super().reset()
            return
        for progress in (self.batch_progress.total, self.batch_progress.current):
            progress.completed = progress.ready

    def run(self, data_fetcher: _DataFetcher) -> None:
        """An epoch; a resumed one begins with what was left to do after its last batch."""
        if not self.resumed:
            super().run(data_fetcher)
            return
        self.reset()
        self.on_run_start(data_fetcher)
        self.resumed = False
        if self.at_limit is not None:
            self.at_limit()
        self.on_advance_end(data_fetcher)
        while not self.done:
            try:
                self.advance(data_fetcher)
                self.on_advance_end(data_fetcher)
            except StopIteration:
                break
            finally:
                self.on_iteration_done()


class ExactFitLoop(_FitLoop):
    """Lightning's fit loop around `ExactEpochLoop`."""

    epoch_loop: ExactEpochLoop

    def reset(self) -> None:
        """Puts the counters where the checkpoint has them: in the middle of an epoch."""
        if not self.restarting:
            super().reset()
            return
        torch.set_grad_enabled(True)
        self.update_restart_stage()  # the epoch has begun: no second on_train_epoch_start
        self.restarting = False
        self.epoch_loop.resumed = True


def use_exact_loop(trainer: Trainer, checkpoints: Checkpoints) -> None:
    """The trainer's fit loop replaced by ours, its limits kept."""
    old = trainer.fit_loop
    loop = ExactFitLoop(trainer, min_epochs=old.min_epochs, max_epochs=old.max_epochs)
    loop.epoch_loop = ExactEpochLoop(trainer, min_steps=old.epoch_loop.min_steps, max_steps=old.epoch_loop.max_steps)
    loop.epoch_loop.at_limit = lambda: checkpoints.stop_at_limit(trainer, step_of(trainer) + 1)
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
        only_last: nothing is saved before the last batch, at a limit or signal, and there is no best: for runs that are
            repeated rather than resumed. `every` is kept to.
        before_save: called before each save: what was recorded until then is handed on.
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
        only_last: bool = False,
        before_save: Callable[[Trainer], None] | None = None,
    ) -> None:
        self.folder = folder
        self.signals = signals
        self.border = Border(signals, lambda: self.max_seconds is not None and self._elapsed() >= self.max_seconds)
        self.max_steps = max_steps
        self.max_seconds = seconds(max_time) if max_time else None
        self.every = every
        self.monitor = monitor if keep_best and not only_last else None
        self.only_last = only_last
        self.before_save = before_save
        self.best: float | None = None
        self.seconds = 0.0
        self._started = time.monotonic()
        self._saved = -1

    def state_dict(self) -> dict[str, Any]:
        """Seconds trained."""
        return {"seconds": self._elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The state of the stopped session."""
        self.seconds = state_dict["seconds"]

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self._started

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The clock and the best so far go on."""
        self._started = time.monotonic()
        score = self.folder / BEST_SCORE
        if score.exists():  # not in the checkpoint, which is older than the validation that gave it
            self.best = float(json.loads(score.read_text(encoding="utf-8"))["value"])
        self.signals.check()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A signal that came before the first batch ends the run here."""
        self._end_if(self.border.ask(trainer, now=True).signum)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves at the limits, at a signal, every `every` steps and at an epoch's end; never inside a window."""
        if trainer.fit_loop._should_accumulate():
            return
        done = step_of(trainer) + 1
        told = self.border.ask(trainer)
        self._stop_at_limit(trainer, done, is_late=told.is_late)
        periodic = self.every is not None and done % self.every == 0
        stopping = trainer.should_stop or told.signum is not None
        ends = trainer.fit_loop.epoch_loop._num_ready_batches_reached()
        if self.only_last:
            ends = ends and trainer.current_epoch + 1 == trainer.max_epochs
        if stopping or periodic or ends:
            self.save(trainer)
        self._end_if(told.signum)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the state that is validated."""
        if not (self.only_last or trainer.sanity_checking or trainer.fit_loop._should_accumulate()):
            self.save(trainer)

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """A validation of one process ends at its next batch too: the state before it is saved already."""
        self.signals.check()

    def stop_at_limit(self, trainer: Trainer, done: int) -> None:
        """Tells the trainer to stop when `done` steps, or the time, are all there is."""
        self._stop_at_limit(trainer, done, is_late=self.border.ask(trainer, now=True).is_late)

    def _stop_at_limit(self, trainer: Trainer, done: int, *, is_late: bool) -> None:
        if is_late or (self.max_steps is not None and done >= self.max_steps):
            trainer.should_stop = True

    def _end_if(self, signum: int | None) -> None:
        if signum is not None:
            raise self.signals.interruption(signum)

    def save(self, trainer: Trainer) -> None:
        """last.ckpt, whole or not at all; once a step."""
        if self._saved == step_of(trainer):
            return
        if self.before_save is not None:
            self.before_save(trainer)
        write_checkpoint(trainer, self.folder / "last.ckpt")
        self._saved = step_of(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Hyper-parameters as plain values: a path or an object in them could not be loaded with weights_only."""
        for key in ("hyper_parameters", "datamodule_hyper_parameters"):
            if key in checkpoint:
                checkpoint[key] = as_plain(dict(checkpoint[key]))

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
                    link(self.folder / "last.ckpt", part)
                score = {"metric": key, "mode": mode, "value": self.best, "step": step_of(trainer)}
                write_text(self.folder / BEST_SCORE, json.dumps(score))


def write_checkpoint(trainer: Trainer, path: Path) -> None:
    """The trainer's state at `path`, whole or not at all. All ranks take part, one writes."""
    if not trainer.is_global_zero:
        trainer.save_checkpoint(path, weights_only=False)
        return
    with atomic_path(path) as part:
        trainer.save_checkpoint(part, weights_only=False)


def link(source: Path, target: Path) -> None:
    """`target` with the content of `source`: a second name of the same bytes where the file system can."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
