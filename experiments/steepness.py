"""How steep a training's loss is and how noisy its gradient, measured within a given time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_modules.data.sampling import draw
from lightning_modules.dynamics import (
    Interval,
    Motion,
    hessian_vector_product,
    lanczos,
    motion,
    noise_scale_of,
    per_sample_gradients,
)
from lightning_modules.dynamics.probe import Probe, probing

FEW, MANY = 32, 2048  # rows tried first, and at most
USUAL_PRODUCTS = 20  # Lanczos steps that find the largest eigenvalue of a network's Hessian
FEWEST_PRODUCTS = 10  # fewer would leave it too small, and a large lr unwarned of
UNMEASURABLE = (
    RuntimeError,
    ValueError,
    NotImplementedError,
    TypeError,
)  # what torch.func cannot take apart, or 2 rows


def can_be_measured(module: pl.LightningModule) -> bool:
    """Whether the module offers the losses of single rows."""
    return callable(getattr(module, "per_sample_loss", None))


class Steepness(pl.Callback):
    """The largest eigenvalue of the Hessian where a fit begins, and the optimizer's motion there.

    Args:
        seconds: it may take, about.
        seed: of the rows and of the vector it starts from.
    """

    def __init__(self, seconds: float, seed: int) -> None:
        self.seconds = seconds
        self.seed = seed
        self.lambda_max: float | None = None
        self.motion: Motion | None = None
        self.trouble = ""
        self._done = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Measures, once."""
        if self._done:
            return
        self._done = True
        self.motion = motion(trainer.optimizers[0]) if len(trainer.optimizers) == 1 else None
        if not can_be_measured(pl_module):
            return
        try:
            with probing(trainer, pl_module, batch) as probe:
                self.lambda_max = self._largest(probe)
        except UNMEASURABLE as error:
            self.trouble = _one_line(error)

    def _largest(self, probe: Probe) -> float:
        like = next(iter(probe.parameters.values()))
        start = torch.randn(probe.n_parameters, generator=draw(self.seed, "dynamics/start")).to(like)
        few = hessian_vector_product(probe.losses, probe.parameters, probe.rows(FEW, self.seed))
        n_rows = _affordable(self.seconds / USUAL_PRODUCTS, _seconds(lambda: few(start)))
        product = hessian_vector_product(probe.losses, probe.parameters, probe.rows(n_rows, self.seed))
        most = max(FEWEST_PRODUCTS, min(100, int(self.seconds / _seconds(lambda: product(start)))))
        return float(lanczos(product, start, most_products=min(most, probe.n_parameters)).values[0])

    @property
    def limit(self) -> float | None:
        """The largest lr that is stable on the quadratic met here; None where it is not known, or there is none."""
        if self.motion is None or self.motion.limit is None or self.lambda_max is None or not self.lambda_max > 0:
            return None
        return self.motion.limit / self.lambda_max


class Noise(pl.Callback):
    """The gradient noise scale where a fit ends, in rows; None where it is not determined.

    At the very beginning all rows pull the same way and the scale says little of the rest.

    Args:
        seconds: it may take, about.
        seed: of the rows.
    """

    def __init__(self, seconds: float, seed: int) -> None:
        self.seconds = seconds
        self.seed = seed
        self.scale: Interval | None = None
        self.trouble = ""
        self._batch: Any = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keeps the batch, for data that cannot be read by row."""
        self._batch = batch

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measures."""
        if self._batch is None or not can_be_measured(pl_module):
            return
        try:
            with probing(trainer, pl_module, self._batch) as probe:
                few = probe.rows(FEW, self.seed)
                once = _seconds(lambda: per_sample_gradients(probe.losses, probe.parameters, few))
                rows = probe.rows(max(FEW, _affordable(self.seconds, once)), self.seed)
                self.scale = noise_scale_of(probe.losses, probe.parameters, rows, probe.population).scale
        except UNMEASURABLE as error:
            self.trouble = _one_line(error)


def _seconds(function: Callable[[], Any]) -> float:
    """The shorter of two calls, after one that torch needs to get going."""
    function()
    found = []
    for _ in range(2):
        began = time.perf_counter()
        function()
        found.append(time.perf_counter() - began)
    return max(min(found), 1e-9)


def _affordable(seconds: float, of_few: float) -> int:
    """Rows that can be passed in the time, when `FEW` of them took `of_few`."""
    return max(1, min(MANY, int(FEW * seconds / of_few)))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
