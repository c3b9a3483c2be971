"""How a number reaches the store: `Recorder` gathers what a step returns, `Logger` hands it to a writer thread."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger as LightningLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from experiments.store.heartbeat import TAG, heartbeat
from experiments.store.write import Point, RunWriter

GATHER_STEPS = 50  # steps between two moves of the gathered tensors to the CPU: one move costs as much as one value
GATHER_SECONDS = 1.0
HEARTBEAT_SECONDS = 10.0


def step_of(trainer: Trainer) -> int:
    """The 0-based count of batches after which weights changed: the step axis of everything recorded.

    Not `trainer.global_step`, which counts every optimizer's steps: a GAN's is a multiple of this.
    """
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


class Logger(LightningLogger):
    """A Lightning logger that writes into a run of the store from a thread of its own.

    Args:
        writer: the run. What is logged reaches the store within a second, and before `flush` returns.
    """

    def __init__(self, writer: RunWriter) -> None:
        super().__init__()
        self.writer = writer
        self._points: list[Point] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._closing = False
        self._epoch: float | None = None
        self._beat: dict[str, Any] = {"step": 0, "total_steps": None}
        self.seconds = 0.0  # spent in the training thread
        self._thread = threading.Thread(target=self._write, name="taolu-writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def name(self) -> str:
        """The run's name."""
        return self.writer.name

    @property
    def version(self) -> str:
        """The run's id."""
        return self.writer.run_id

    @property
    def experiment(self) -> RunWriter:
        """The run."""
        return self.writer

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self.writer.folder)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the resolved config is recorded when the run is created, whole and once."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Values of one step. `epoch`, which Lightning adds to every call, is kept when it changes."""
        values = dict(metrics)
        epoch = values.pop("epoch", None)
        if epoch is not None and epoch != self._epoch:
            self._epoch = epoch
            values["epoch"] = epoch
        now = time.time_ns() // 1_000_000
        self.record([(key, float(value), now, step or 0) for key, value in values.items()])

    @rank_zero_only
    def record(self, points: list[Point]) -> None:
        """Points for the writer thread. Returns at once."""
        start = time.perf_counter()
        with self._lock:
            self._points += points
        self._wake.set()
        self.seconds += time.perf_counter() - start

    def beat(self, step: int, total_steps: int | None) -> None:
        """Where the run is; the writer thread tells the store every 10 s."""
        self._beat = {"step": step, "total_steps": total_steps}

    def flush(self, timeout: float = 60.0) -> None:
        """Returns when everything recorded so far is in the store, or after `timeout` seconds."""
        start = time.perf_counter()
        self._idle.clear()
        self._wake.set()
        if self._thread.is_alive():
            self._idle.wait(timeout)
        self.seconds += time.perf_counter() - start

    def close(self) -> None:
        """Everything written and the thread ended."""
        if not self._closing:
            self._closing = True
            self._wake.set()
            self._thread.join(60.0)
            atexit.unregister(self.close)

    def save(self) -> None:
        """Lightning's wish, at each validation, to have everything on disk: the writer is told, nobody waits."""
        self._wake.set()

    def finalize(self, status: str) -> None:
        """Lightning's end of a fit; the run's own end is the launcher's."""
        self.flush()

    def _write(self) -> None:
        last_beat = 0.0
        while True:
            self._wake.wait(1.0)
            self._wake.clear()
            closing = self._closing
            with self._lock:
                points, self._points = self._points, []
            try:
                if points:
                    self.writer.metrics(points)
                if time.monotonic() - last_beat > HEARTBEAT_SECONDS:
                    last_beat = time.monotonic()
                    self.writer.tags({TAG: heartbeat(**self._beat)})
            except Exception as error:  # noqa: BLE001 - tracking must never end a training: keep the points, try again
                with self._lock:
                    self._points = points + self._points
                if closing:
                    os.write(2, f"taolu: {len(points)} values could not be written: {error}\n".encode())
                    return
                time.sleep(0.2)
                self._wake.set()
                continue
            if not self._points:
                self._idle.set()
            if closing and not self._points:
                return
            time.sleep(0.02)  # let points gather: a call for one value costs as much as for a hundred


class Recorder(Callback):
    """Records what `training_step` returns: `loss` and every further 0-d tensor or number, as `train/<name>`.

    Tensors stay where they are until 50 steps are gathered, then move at once: reading each would stall a GPU, and
    `self.log` costs 0.3 ms a value. With accumulation the batches of a window are averaged into one row. Also measures
    where the time goes: `time/data_fraction`, `step`, `validation`, `logging`, and `time/samples_per_second`.
    """

    def __init__(self, logger: Logger, total_steps: int | None = None) -> None:
        self.logger = logger
        self.total_steps = total_steps
        self.latest: dict[str, float] = {}  # what the progress line shows
        self._steps: list[int] = []
        self._times: list[int] = []
        self._rows: list[Tensor] = []
        self._keys: tuple[str, ...] = ()
        self._window: list[dict[str, Tensor]] = []
        self._gathered = time.monotonic()
        self._clock = _Clock()

    # -- training ---------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The clocks start."""
        self._clock = _Clock()
        self.logger.beat(step_of(trainer), self.total_steps)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The batch is there: what passed since the last step was spent on data."""
        self._clock.enter("step")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keeps the step's tensors; every 50 steps, or each second on one process, hands them on."""
        self._clock.enter("logging")
        self._clock.samples += _rows_of(batch) * trainer.world_size
        values = self._values(trainer, outputs)
        if values:
            self._window.append(values)
        if self._window and not trainer.fit_loop._should_accumulate():
            self._keep(step_of(trainer), trainer.accumulate_grad_batches)
        full = len(self._steps) >= GATHER_STEPS
        # A clock decides on one process only: ranks would differ and wait for each other for ever.
        late = trainer.world_size == 1 and time.monotonic() - self._gathered > GATHER_SECONDS
        if self._steps and (full or late):
            self.gather(trainer)
        self._clock.enter("data")

    def _values(self, trainer: Trainer, outputs: Any) -> dict[str, Tensor]:
        if outputs is None:
            return {}
        if not isinstance(outputs, Mapping):
            outputs = {"loss": outputs}
        values = {}
        for key, value in outputs.items():
            if isinstance(value, Tensor) and value.ndim == 0:
                values[key] = value.detach()
            elif isinstance(value, int | float):
                values[key] = torch.tensor(float(value))
            else:
                shape = (
                    f"a tensor of shape {tuple(value.shape)}"
                    if isinstance(value, Tensor)
                    else f"a {type(value).__name__}"
                )
                raise ValueError(
                    f"training_step returned '{key}' as {shape}: only single numbers are recorded; "
                    "return its mean, or leave it out of the returned dictionary"
                )
        # Somebody else's module that logs its own loss keeps it.
        if "loss" in values and "train/loss" in trainer.logged_metrics and "train/loss" not in self._own_keys():
            del values["loss"]
        return values

    def _own_keys(self) -> set[str]:
        return {f"train/{key}" for key in self._keys}

    def _keep(self, step: int, window: int) -> None:
        rows, self._window = self._window, []
        keys = tuple(rows[0])
        if keys != self._keys:
            self._hand_on()
            self._keys = keys
        if len(rows) == 1 and window == 1:
            row = torch.stack([rows[0][key].float() for key in keys])
        else:  # Lightning divides the loss by the window, not the other terms
            scale = {key: (window if key == "loss" else 1.0) for key in keys}
            row = torch.stack([torch.stack([r[key].float() for r in rows]).mean() * scale[key] for key in keys])
        self._steps.append(step)
        self._times.append(time.time_ns() // 1_000_000)
        self._rows.append(row)

    def gather(self, trainer: Trainer) -> None:
        """Everything kept so far handed to the logger, averaged over ranks. All ranks call this at the same step."""
        if trainer.world_size > 1 and self._rows:
            stacked = torch.stack(self._rows)
            self._rows = list(trainer.strategy.reduce(stacked, reduce_op="mean"))
        self._hand_on()
        if trainer.is_global_zero:
            self.logger.beat(step_of(trainer), self.total_steps)

    def _hand_on(self) -> None:
        self._gathered = time.monotonic()
        if not self._rows:
            return
        table = torch.stack(self._rows).tolist()
        names = [f"train/{key}" for key in self._keys]
        self.latest.update(zip(names, table[-1], strict=True))
        points = [
            (name, value, now, step)
            for step, now, row in zip(self._steps, self._times, table, strict=True)
            for name, value in zip(names, row, strict=True)
        ]
        self._steps, self._times, self._rows = [], [], []
        self.logger.record(points)

    # -- borders ----------------------------------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What was gathered goes out before the validation's own values."""
        if not trainer.sanity_checking:
            self._clock.enter("validation")
            self.gather(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The clock goes back to data."""
        self._clock.enter("data")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The epoch's number and where its time went."""
        self.gather(trainer)
        step = step_of(trainer) - 1
        shares = self._clock.shares(self.logger)
        self.latest.update(shares)
        self.logger.log_metrics({**shares, "epoch": float(trainer.current_epoch)}, step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing stays behind."""
        self.gather(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """What was gathered before the failure is handed on; other ranks may be gone, so nobody is waited for."""
        self._hand_on()


class _Clock:
    """Seconds by what the training thread was doing."""

    def __init__(self) -> None:
        self.parts = dict.fromkeys(("data", "step", "validation", "logging"), 0.0)
        self.samples = 0
        self._now = "data"
        self._since = time.perf_counter()
        self._logger_seconds = 0.0

    def enter(self, part: str) -> None:
        now = time.perf_counter()
        self.parts[self._now] += now - self._since
        self._now, self._since = part, now

    def shares(self, logger: Logger) -> dict[str, float]:
        """Shares of the time since the last call, and samples a second; then the count begins anew."""
        self.enter(self._now)
        self.parts["logging"] += logger.seconds - self._logger_seconds
        self._logger_seconds = logger.seconds
        total = sum(self.parts.values()) or 1.0
        found = {f"time/{part}_fraction": seconds / total for part, seconds in self.parts.items()}
        found["time/samples_per_second"] = self.samples / total
        self.parts = dict.fromkeys(self.parts, 0.0)
        self.samples = 0
        return found


def _rows_of(batch: Any) -> int:
    """Samples in a batch, from the first tensor found; 0 where there is none."""
    if isinstance(batch, Tensor):
        return int(batch.shape[0]) if batch.ndim else 1
    items = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    return next((count for item in items if (count := _rows_of(item))), 0)
