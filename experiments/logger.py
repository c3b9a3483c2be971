"""How a number reaches the store: `Recorder` gathers what a step returns, `Logger` hands it to a writer thread."""

from __future__ import annotations

import atexit
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger as LightningLogger
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from experiments.delivery import Delivery
from experiments.store.configs import flatten
from experiments.store.heartbeat import TAG, heartbeat, rank
from experiments.store.location import locate
from experiments.store.spool import Point, Spool, spool_folder
from experiments.store.write import RunWriter, as_text, create_run
from experiments.system import SystemMetrics
from experiments.trainer import TrainerOptions, steps_of

GATHER_STEPS = 50  # steps between two moves of the gathered tensors to the CPU: one move costs as much as one value
GATHER_SECONDS = 1.0


def step_of(trainer: Trainer) -> int:
    """The 0-based count of batches after which weights changed: the step axis of everything recorded.

    Not `trainer.global_step`, which counts every optimizer's steps: a GAN's is a multiple of this.
    """
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


class Logger(LightningLogger):
    """A Lightning logger whose values survive whatever happens to the process or the database.

    A value is appended to a file (the spool) when it is logged; a thread delivers the file to the store at least once a
    second. A database that is locked, slow, full or away is tried again for as long as it takes and never stops a
    training. What a killed process leaves, the next `taolu` command of this host delivers.

    Args:
        name: of the experiment. The run is made when Lightning first asks for it, on rank zero only.
        store: folder or URL; default as the command's.
        store_dir: where files lie when the store is a database server.
        run_name: of the run; default the experiment's name and the start of the run's id.
        tags: the user's own.
        note: Markdown, shown beside the run.
        run: a run that exists already; the caller then says how it ends, by `finish`.
    """

    def __init__(
        self,
        name: str = "default",
        *,
        store: str | None = None,
        store_dir: str | None = None,
        run_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        note: str | None = None,
        run: RunWriter | None = None,
    ) -> None:
        super().__init__()
        self._experiment = name
        self._place = (store, store_dir)
        self._label = (run_name, dict(tags or {}), note)
        self._is_ours = run is None
        self._writer: RunWriter | None = None
        self._params: dict[str, str] = {}
        self.last: dict[str, float] = {}
        self.seconds = 0.0  # spent in the training thread
        self.ending = "FINISHED"
        self.first_nonfinite: int | None = None  # step of the first value that was not finite
        self.heard: Callable[[list[Point]], None] | None = None  # told of every value, in the training thread
        if run is not None:
            self._attach(run)

    # -- the run ----------------------------------------------------------------------------------------------

    @property
    def experiment(self) -> RunWriter | None:
        """The run, made now if there is none; None on other ranks than zero."""
        if self._writer is None and rank() == 0:
            name, tags, note = self._label
            tags = {"taolu.kind": "run", "taolu.door": "logger", TAG: heartbeat(0, None), **tags}
            if note:
                tags["mlflow.note.content"] = note
            self._attach(create_run(locate(*self._place), self._experiment, name, tags))
        return self._writer

    def _attach(self, writer: RunWriter) -> None:
        self._writer = writer
        spool = Spool(spool_folder(writer.store) / f"{writer.run_id}.rank{rank()}.{os.getpid()}.jsonl", writer.run_id)
        self._delivery = Delivery(writer, spool)
        self._nonfinite = "taolu.first_nonfinite_step" in writer.tags_before
        self._epoch: float | None = None
        self._machine = SystemMetrics(self.record, lambda: int(self._delivery.beat["step"]), writer.folder)
        atexit.register(self.close)

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self._experiment

    @property
    def version(self) -> str | None:
        """The run's id, once there is one."""
        return self._writer.run_id if self._writer else None

    @property
    def save_dir(self) -> str | None:
        """The run's folder, once there is one."""
        return str(self._writer.folder) if self._writer else None

    # -- what is logged ---------------------------------------------------------------------------------------

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The module's hyper-parameters, whole, once: a run of the launcher has its config recorded already."""
        if not self._is_ours or self.experiment is None:
            return
        values = flatten(dict(params) if isinstance(params, Mapping) else vars(params))
        new = {key: as_text(value) for key, value in values.items() if key not in self._params}
        self._params |= new
        self.experiment.params(new)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Values of one step. `epoch`, which Lightning adds to every call, is kept when it changes.

        Raises ValueError naming the metric when a value is not a single number.
        """
        values = {key: _single(key, value) for key, value in metrics.items()}
        if self.experiment is None:
            return
        epoch = values.pop("epoch", None)
        if epoch is not None and epoch != self._epoch:
            self._epoch = epoch
            values["epoch"] = epoch
        now = time.time_ns() // 1_000_000
        self.record([(key, value, now, step or 0) for key, value in values.items()])

    def record(self, points: list[Point]) -> None:
        """Points, kept by the operating system when this returns, in the store within a second or so."""
        if rank() > 0:  # the others' values are in rank zero's, averaged; their machine is their own
            points = [point for point in points if point[0].startswith("system/")]
        if not points or self.experiment is None:
            return
        start = time.perf_counter()
        if not self._nonfinite and (step := _first_nonfinite(points)) is not None:
            self._nonfinite, self.first_nonfinite = True, step
            self._delivery.put("tags", {"taolu.first_nonfinite_step": str(step)})
        self._delivery.put("metrics", points)
        if self.heard is not None:
            self.heard(points)
        self.last.update((key, value) for key, value, _, _ in points)
        self.seconds += time.perf_counter() - start

    def tag(self, key: str, value: str) -> None:
        """A tag of the run, in the store after everything recorded before. Rank zero's say."""
        if self._writer is not None and rank() == 0:
            self._delivery.put("tags", {key: value})

    def beat(self, step: int, total_steps: int | None) -> None:
        """Where the run is; the store is told every 10 s."""
        if self._writer is not None:
            self._delivery.beat = {"step": step, "total_steps": total_steps}

    # -- the end ----------------------------------------------------------------------------------------------

    def flush(self, timeout: float = 30.0) -> bool:
        """Whether everything recorded so far is in the store, waiting up to `timeout` seconds."""
        start = time.perf_counter()
        done = self._writer is None or self._delivery.flush(timeout)
        self.seconds += time.perf_counter() - start
        return done

    def save(self) -> None:
        """Lightning's wish, at each validation, to have everything on disk: it is in the spool, and in the store soon.

        A delivery for each validation would cost more than the validations of a small model.
        """

    def finalize(self, status: str) -> None:
        """Lightning's end of a fit. A run of this logger's own ends here; one of the launcher is ended by it."""
        if self._is_ours and self._writer is not None:
            self.finish(self.ending if status != "success" else "FINISHED")
            self.flush()

    def finish(self, status: str) -> None:
        """The run's end: FINISHED, FAILED or KILLED, in the store after everything recorded before. Rank zero's say."""
        if self._writer is not None and rank() == 0:
            self._delivery.put("status", status)

    def close(self, timeout: float = 30.0) -> bool:
        """Whether everything is in the store; what is not stays in the spool. The thread ends."""
        if self._writer is None:
            return True
        atexit.unregister(self.close)
        self._machine.close()
        return self._delivery.close(timeout)


def _single(key: str, value: Any) -> float:
    """The value as a number.

    Raises ValueError when it is none, or several.
    """
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        what = f"of shape {tuple(value.shape)}" if hasattr(value, "shape") else f"a {type(value).__name__}"
        raise ValueError(f"metric '{key}' is {what}: only single numbers are recorded; log its mean") from error


def _first_nonfinite(points: list[Point]) -> int | None:
    return min((step for _, value, _, step in points if not math.isfinite(value)), default=None)


class Recorder(Callback):
    """Records what `training_step` returns: `loss` and every further 0-d tensor or number, as `train/<name>`.

    Tensors stay where they are until 50 steps are gathered, then move at once: reading each would stall a GPU, and
    `self.log` costs 0.3 ms a value. With accumulation the batches of a window are averaged into one row. Also measures
    where the time goes: `time/data_fraction`, `step`, `validation`, `logging`, and `time/samples_per_second`.

    Means over batches and over processes give each the same weight; of a module whose attribute `weighted_by` names one
    of its terms, that term's, which itself is added up.
    """

    def __init__(self, logger: Logger | None = None, options: TrainerOptions | None = None) -> None:
        self._given = logger
        self._options = options
        self._weight: str | None = None
        self.total_steps: int | None = None
        self.latest: dict[str, float] = {}  # what the progress line shows
        self._rows: list[_Row] = []
        self._window: list[dict[str, Tensor | float]] = []
        self._gathered = time.monotonic()
        self._clock = _Clock()

    @property
    def logger(self) -> Logger:
        """Where the numbers go."""
        assert self._given is not None
        return self._given

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds the trainer's taolu logger, where none was given.

        Raises ValueError when there is none.
        """
        self._given = self._given or next((item for item in trainer.loggers if isinstance(item, Logger)), None)
        self._weight = getattr(pl_module, "weighted_by", None)
        if self._given is None:
            raise ValueError("taolu.Recorder needs a taolu.Logger: Trainer(logger=taolu.Logger('name'), ...)")

    # -- training ---------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The clocks start; how long an epoch is, is known now."""
        self._clock = _Clock()
        batches = trainer.fit_loop.max_batches
        if self._options is not None and isinstance(batches, int):
            # a function of the epoch where the batch may grow; max_batches has limit_train_batches applied
            lengths = getattr(_data_of(trainer), "batches_in_epoch", None)
            options = self._options if lengths else replace(self._options, limit_train_batches=1.0)
            self.total_steps = _total_steps(trainer, options, lengths or batches)
        self.logger.beat(step_of(trainer), self.total_steps)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rows of a step over all processes, from the step on that they change at, where the batch may grow."""
        size_at, epoch = getattr(_data_of(trainer), "batch_size_at", None), trainer.current_epoch
        if size_at is None or not getattr(trainer, "reload_dataloaders_every_n_epochs", 0):
            return
        if epoch == 0 or size_at(epoch) != size_at(epoch - 1):
            rows = size_at(epoch) * trainer.world_size * trainer.accumulate_grad_batches
            self.logger.log_metrics({"train/batch_size": float(rows)}, step_of(trainer))

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
        full = len(self._rows) >= GATHER_STEPS
        # A clock decides on one process only: ranks would differ and wait for each other for ever.
        late = trainer.world_size == 1 and time.monotonic() - self._gathered > GATHER_SECONDS
        if self._rows and (full or late):
            self.gather(trainer)
        self._clock.enter("data")

    def _values(self, trainer: Trainer, outputs: Any) -> dict[str, Tensor | float]:
        if outputs is None:
            return {}
        if not isinstance(outputs, Mapping):
            outputs = {"loss": outputs}
        values: dict[str, Tensor | float] = {}
        for key, value in outputs.items():
            if isinstance(value, Tensor) and value.ndim == 0:
                values[key] = value.detach()
            elif isinstance(value, int | float):
                values[key] = float(value)
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
        if "loss" in values and any(name.endswith(".train/loss") for name in trainer._results or ()):
            del values["loss"]  # somebody else's module that logs its own loss keeps it
        return values

    def _keep(self, step: int, window: int) -> None:
        """One row of a window's batches: the mean of each quantity over the batches that have it."""
        batches, self._window = self._window, []
        row = batches[0]
        if len(batches) > 1 or window > 1:
            row = {}
            for key in dict.fromkeys(key for batch in batches for key in batch):
                found = [(batch[key], batch.get(self._weight or "", 1)) for batch in batches if key in batch]
                total = sum(weight for _, weight in found)
                # Lightning divides the loss by the window, not the other terms
                scale = window if key == "loss" else 1
                mean = sum(value * weight for value, weight in found) * scale / (total + (total == 0))
                row[key] = total if key == self._weight else mean
        self._rows.append(_Row(step, time.time_ns() // 1_000_000, row))

    def gather(self, trainer: Trainer) -> None:
        """Everything kept so far handed to the logger, averaged over ranks. All ranks call this at the same step."""
        self._hand_on(trainer)
        if trainer.is_global_zero:
            self.logger.beat(step_of(trainer), self.total_steps)

    def _hand_on(self, trainer: Trainer | None = None) -> None:
        self._gathered = time.monotonic()
        rows, self._rows = self._rows, []
        if not rows:
            return
        values = _numbers([value for row in rows for value in row.values.values()])
        if trainer is not None and trainer.world_size > 1:
            values = _of_all_processes(values, rows, self._weight, trainer)
        places = ((row, f"train/{key}") for row in rows for key in row.values)
        points = [(name, value, row.milliseconds, row.step) for (row, name), value in zip(places, values, strict=True)]
        self.latest.update((name, value) for name, value, _, _ in points[-len(rows[-1].values) :])
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
        killed = isinstance(exception, KeyboardInterrupt | SystemExit | SIGTERMException)
        self.logger.ending = "KILLED" if killed else "FAILED"
        self._hand_on()


def _total_steps(trainer: Trainer, options: TrainerOptions, n_batches: int | Callable[[int], int]) -> int | None:
    """Steps a run will have taken at its end; a fork's batches may be others than those it has taken."""
    if options.max_epochs is None:
        return options.max_steps
    whole = steps_of(replace(options, max_steps=None), n_batches)
    if whole is None:
        return options.max_steps
    ready = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    epochs = trainer.current_epoch
    before = steps_of(replace(options, max_epochs=epochs, max_steps=None), n_batches) if epochs else 0
    left = whole - (before or 0) - math.ceil(ready / options.accumulate_grad_batches)
    taken = step_of(trainer) + (ready > 0)  # a checkpoint is taken before Lightning counts its own step
    return taken + left if options.max_steps is None else min(taken + left, options.max_steps)


def _data_of(trainer: Trainer) -> Any:
    return getattr(trainer, "datamodule", None)


@dataclass(frozen=True)
class _Row:
    step: int
    milliseconds: int
    values: dict[str, Tensor | float]


def _numbers(values: list[Tensor | float]) -> list[float]:
    """The values as numbers, those on a device moved at once."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    wide = any(tensor.dtype in (torch.float64, torch.int64) for tensor in tensors)
    moved: list[float] = []
    if tensors:
        device = next((tensor.device for tensor in tensors if tensor.device.type != "cpu"), tensors[0].device)
        kind = torch.float64 if wide and device.type != "mps" else torch.float32  # Apple's GPU has no float64
        moved = torch.stack([tensor.to(device, kind) for tensor in tensors]).tolist()
    numbers = iter(moved)
    return [next(numbers) if isinstance(value, Tensor) else value for value in values]


def _of_all_processes(values: list[float], rows: list[_Row], weight: str | None, trainer: Trainer) -> list[float]:
    """The means over all processes of the rows' values, in one exchange; of the weight the sum."""
    kinds = [key == weight for row in rows for key in row.values]
    numbers, weights = iter(values), list[float]()
    for row in rows:
        of_row = [next(numbers) for _ in row.values]
        own = dict(zip(row.values, of_row, strict=True)).get(weight, 1.0) if weight else 1.0
        weights += [own] * len(of_row)
    device = trainer.strategy.root_device
    table = torch.tensor([values, weights], dtype=torch.float64, device=device)
    table[0] = torch.where(table[1] == 0, 0.0, table[0]) * table[1]  # a process without weight has no say, not even NaN
    sums, totals = trainer.strategy.reduce(table, reduce_op="sum")
    means = sums / totals.clamp_min(1e-300)
    return torch.where(torch.tensor(kinds, device=device), totals, means).tolist()


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
