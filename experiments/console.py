"""What a run shows while it trains."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from experiments.logger import Recorder, step_of


class Progressing(Callback):
    """A bar with loss and remaining time on a terminal, one plain line a validation elsewhere.

    Args:
        recorder: whose latest values are shown.
        say: prints one line.
        objective: the quantity shown beside the loss.
    """

    def __init__(self, recorder: Recorder, say: Callable[[str], None], objective: str | None) -> None:
        self.recorder = recorder
        self.say = say
        self.objective = objective
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._shown = 0.0
        self._started = (time.monotonic(), 0)
        self._due: tuple[int, int] | None = None  # epoch and steps done of a validation nobody was told of

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The bar appears."""
        self._started = (time.monotonic(), step_of(trainer))
        console = Console(stderr=True)
        if console.is_terminal and trainer.is_global_zero:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[values]}"),
            )
            self._bar = Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task(
                f"epoch {trainer.current_epoch + 1}",
                total=self.recorder.total_steps,
                completed=step_of(trainer),
                values="",
            )
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Redraws the bar, five times a second at most."""
        if self._bar is not None and time.monotonic() - self._shown > 0.2:
            self._shown = time.monotonic()
            epoch = f"epoch {trainer.current_epoch + 1}"
            self._bar.update(
                self._task, completed=step_of(trainer) + 1, description=epoch, values=self._values(trainer)
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A plain line, where there is no bar; at most one every half second."""
        if trainer.sanity_checking or not trainer.is_global_zero or self._bar is not None:
            return
        self._due = (trainer.current_epoch + 1, step_of(trainer) + 1)
        if time.monotonic() - self._shown > 0.5:
            self._say_due(trainer)

    def _say_due(self, trainer: Trainer) -> None:
        if self._due is None:
            return
        (epoch, done), (start, first) = self._due, self._started
        spent = time.monotonic() - start
        of = f"/{self.recorder.total_steps}" if self.recorder.total_steps else ""
        line = f"epoch {epoch}  step {done}{of}  {self._values(trainer)}"
        if self.recorder.total_steps and done > first:
            line += f"  left {_duration(spent / (done - first) * (self.recorder.total_steps - done))}"
        self._shown, self._due = time.monotonic(), None
        self.say(line)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The bar goes; the last line stays."""
        self._stop()
        self._say_due(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The bar goes."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _values(self, trainer: Trainer) -> str:
        shown = {"loss": self.recorder.latest.get("train/loss")}
        metrics = trainer.callback_metrics  # made anew at every look, 2 ms
        if self.objective is not None and self.objective in metrics:
            shown[self.objective] = float(metrics[self.objective])
        return "  ".join(f"{key} {value:.4g}" for key, value in shown.items() if value is not None)


def _duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> _duration(5.2), _duration(200), _duration(7300)
    ('5 s', '3 min 20 s', '2 h 1 min')
    """
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
