"""Lightning callbacks that measure a training while it runs: gradient noise, sharpness, size of the updates."""

import math
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_modules.dynamics.curvature import top_eigenvalues
from lightning_modules.dynamics.motion import motion
from lightning_modules.dynamics.noise import (
    Interval,
    NoiseScaleEstimate,
    finite_population,
    mean_gradient,
    noise_scale_of,
    temperature,
    two_batch_noise,
)
from lightning_modules.dynamics.probe import Probe, check_module, draws_anew, n_rows_of, probing

SMALL, LARGE = 8, 128  # rows of the two batches of a pair


class _Measuring(pl.Callback):
    """Measures at every `every`-th step, the first included, at the weights that step starts from.

    Args:
        every: Steps between two measurements.
    """

    def __init__(self, every: int) -> None:
        if every < 1:
            raise ValueError(f"every = {every}: must be at least 1 step")
        self.every = every
        self._measured = -1  # last step; an accumulation window has several batches of one step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Measures, if it is time."""
        step = _step_of(trainer)
        if step % self.every == 0 and step != self._measured:
            self._measured = step
            if trainer.is_global_zero:  # every process has the same weights and would draw the same rows
                self.measure(trainer, pl_module, batch)

    def measure(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any) -> None:
        """What the subclass measures, recorded."""
        raise NotImplementedError


class NoiseScale(_Measuring):
    """Noise of a batch's gradient, from rows drawn from the whole training set whatever order training takes.

    Records, under dynamics/:

    - noise_trace: tr Sigma.
    - gradient_norm_squared, and its 95 % interval as _low and _high: |G|^2, unbiased, so perhaps negative.
    - noise_scale, _low, _high: B_simple = tr Sigma / |G|^2, in rows; nothing where it is undetermined, which it is
      where the interval of |G|^2 covers 0. More rows determine it; those it is recorded at are no fair sample of steps.
    - batch_noise: squared error of a step's gradient: tr Sigma / B, times (N - B) / (N - 1) where rows are distinct.
    - temperature: lr_eff batch_noise / (2 P), see `noise.temperature`; for optimizers of known motion (`motion`).
    - temperature_bound: the same in its place in shuffled epochs, whose steps' errors cancel: those are colder.

    Left out of account: gradient clipping.

    The module offers `per_sample_loss`, see `probing`, which leaves no trace in the training. Parameters must be whole
    on each process (ddp, not fsdp). Where the training set cannot be read by row, each batch stands for it.

    Cost of a measurement: a pass forward and backward over n_rows single rows, 200 MB at most. Measured with 1,024
    rows on one thread: 30 ms for a 2,410-parameter MLP on 8x8 digits, 3.8 s for a 784-256-16 VAE of 415,024 parameters
    (their steps, in plain PyTorch at batch 32, take 0.2 and 1.8 ms); in proportion with fewer.

    Args:
        every: Steps between two measurements.
        n_rows: Rows of the training set, all if it has fewer: the estimates are then exact.
        pairs: 0 = from gradients of single rows. Else from so many pairs of batches of 8 and 128 rows, for modules
            torch.func.vmap cannot take apart; intervals are far wider.
        seed: Of the rows drawn.

    Source: McCandlish et al. 2018 (arXiv:1812.06162); kexue.fm/archives/5655, equations (7) to (9).
    """

    def __init__(self, every: int = 100, n_rows: int = 1024, pairs: int = 0, seed: int = 0) -> None:
        super().__init__(every)
        if n_rows < 3:
            raise ValueError(f"n_rows = {n_rows}: must be at least 3; 1024 is usual")
        if pairs < 0 or pairs == 1:
            raise ValueError(f"pairs = {pairs}: must be 0, or at least 2; 100 is usual")
        self.n_rows = n_rows
        self.pairs = pairs
        self.seed = seed

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Raises ValueError for a module without losses of single rows."""
        check_module(pl_module)

    def measure(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any) -> None:
        """The noise of this step's gradient."""
        step = _step_of(trainer)
        with probing(trainer, module, batch) as probe:
            if self.pairs:
                noise = self._from_pairs(probe, step)
            else:
                rows = probe.rows(self.n_rows, self.seed, step)
                noise = noise_scale_of(probe.losses, probe.parameters, rows, probe.population)
        values = {"noise_trace": noise.trace.estimate, **_with_ends("gradient_norm_squared", noise.norm_squared)}
        if noise.scale is not None:
            values |= _with_ends("noise_scale", noise.scale)
        share = _share_in_step(trainer, batch, probe.population)
        values["batch_noise"] = noise.trace.estimate * share
        moves = motion(trainer.optimizers[0]) if len(trainer.optimizers) == 1 else None
        if moves is not None:
            name = "temperature" if draws_anew(trainer) else "temperature_bound"
            values[name] = temperature(moves.lr_effective, noise.trace.estimate, probe.n_parameters, share)
        _record(trainer, module, values)

    def _from_pairs(self, probe: Probe, step: int) -> NoiseScaleEstimate:
        if probe.population is None:
            raise ValueError(f"pairs = {self.pairs}: the training data cannot be read by row; use pairs=0")
        sizes = SMALL, min(LARGE, probe.population)
        norms = torch.empty(2, self.pairs, dtype=torch.float64)
        for which, size in enumerate(sizes):
            for pair in range(self.pairs):
                rows = probe.rows(size, self.seed, step, which, pair)
                norms[which, pair] = mean_gradient(probe.losses, probe.parameters, rows).double().square().sum()
        return two_batch_noise(norms[0], norms[1], sizes, probe.population)


class Sharpness(_Measuring):
    """The largest eigenvalues of the Hessian of the training loss, on rows drawn once from the training set.

    Records, under dynamics/:

    - sharpness: the largest, lambda_max; with k above 1 also eigenvalue_2 to eigenvalue_k.
    - lr_sharpness: lr lambda_max, where all parameters have one lr.
    - stability: that over the largest value a quadratic allows (2 for SGD, 2 (1 + beta) for momentum, see `motion`);
      above 1 the steps swing ever wider until the loss is no quadratic any more.

    Nothing is recorded once the Hessian is not finite. Weight decay is no part of the loss here.

    The module offers `per_sample_loss`, see `probing`, which leaves no trace in the training. Parameters must be whole
    on each process (ddp, not fsdp).

    Cost of a measurement: 8 to 40 Lanczos steps, in each a pass backward through the gradient's graph over n_rows rows.
    Measured on one thread: 20 ms for a 2,410-parameter MLP on 1,437 digits, 0.2 s for a CNN of two layers there, 2.8 s
    for a 784-256-16 VAE on 2,048 rows. Equal to the dense Hessian's to 1e-4.

    Args:
        every: Steps between two measurements.
        k: Eigenvalues.
        n_rows: Rows of the training set, all if it has fewer; the same ones each time.
        seed: Of the rows, and of the vector the iteration starts from.

    Source: Cohen et al. 2021 (arXiv:2103.00065) for the stability; kexue.fm/archives/5655 for the optimizers.
    """

    def __init__(self, every: int = 100, k: int = 1, n_rows: int = 2048, seed: int = 0) -> None:
        super().__init__(every)
        for name, value in (("k", k), ("n_rows", n_rows)):
            if value < 1:
                raise ValueError(f"{name} = {value}: must be at least 1")
        self.k = k
        self.n_rows = n_rows
        self.seed = seed

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Raises ValueError for a module without losses of single rows, or with fewer than k parameters."""
        check_module(pl_module)
        n_parameters = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
        if self.k > n_parameters:
            raise ValueError(f"k = {self.k}: must be at most the number of parameters, {n_parameters}")

    def measure(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any) -> None:
        """The sharpness at this step's weights."""
        with probing(trainer, module, batch) as probe:
            rows = probe.rows(self.n_rows, self.seed)
            values = top_eigenvalues(probe.losses, probe.parameters, rows, self.k, self.seed).values.tolist()
        names = ["sharpness", *(f"eigenvalue_{i}" for i in range(2, self.k + 1))]
        found = dict(zip(names, values, strict=True))
        moves = motion(trainer.optimizers[0]) if len(trainer.optimizers) == 1 else None
        if moves is not None:
            found["lr_sharpness"] = moves.lr * values[0]
            if moves.limit is not None:
                found["stability"] = found["lr_sharpness"] / moves.limit
        _record(trainer, module, found)


class UpdateRatio(_Measuring):
    """How far a step moves the weights, as a share of their size: dynamics/update_ratio = |theta' - theta| / |theta|.

    Over all parameters that are trained; of any module. About 1e-3 is usual for training from scratch.

    Cost of a measurement: a copy of the parameters and two passes over them, 0.5 ms for a 2,410-parameter MLP.

    Args:
        every: Steps between two measurements.
    """

    def __init__(self, every: int = 100) -> None:
        super().__init__(every)
        self._before: list[Tensor] | None = None

    def measure(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any) -> None:
        """Keeps the weights the step starts from."""
        self._before = [p.detach().clone() for p in module.parameters() if p.requires_grad]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measures, once the step's last batch is done."""
        if self._before is None or trainer.fit_loop._should_accumulate():
            return
        before, self._before = self._before, None
        after = [p.detach() for p in pl_module.parameters() if p.requires_grad]
        moved = _norm([new - old for new, old in zip(after, before, strict=True)])
        _record(trainer, pl_module, {"update_ratio": moved / size if (size := _norm(before)) else math.inf})


def callback(name: Literal["noise", "sharpness", "updates"], every: int, seed: int) -> pl.Callback:
    """The callback of that name with its usual settings."""
    if name == "updates":
        return UpdateRatio(every)
    return {"noise": NoiseScale, "sharpness": Sharpness}[name](every, seed=seed)


def _norm(tensors: list[Tensor]) -> float:
    return math.hypot(*(float(tensor.norm()) for tensor in tensors))


def _step_of(trainer: pl.Trainer) -> int:
    """The 0-based count of batches after which weights changed; `global_step` counts every optimizer's."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def _with_ends(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _share_in_step(trainer: pl.Trainer, batch: Any, population: int | None) -> float:
    """The part of tr Sigma that is the squared error of a step's gradient: 1 / B, less where rows are distinct."""
    at_once = n_rows_of(batch) * trainer.world_size
    in_step = at_once * trainer.accumulate_grad_batches
    drawn = draws_anew(trainer)
    if population is None or drawn == "with_replacement":
        return 1 / in_step
    # a window of shuffled batches has no row twice; batches that are drawn anew may share rows
    return finite_population(at_once if drawn else in_step, population) / in_step


def _record(trainer: pl.Trainer, module: pl.LightningModule, values: dict[str, float]) -> None:
    """Finite values to the loggers at this step, whatever their log_every_n_steps, and to callback_metrics."""
    found = {f"dynamics/{name}": value for name, value in values.items() if math.isfinite(value)}
    if not found:
        return
    for logger in trainer.loggers:
        logger.log_metrics(found, step=_step_of(trainer))
    module.log_dict(found, on_step=True, on_epoch=False, logger=False, batch_size=1, rank_zero_only=True)
