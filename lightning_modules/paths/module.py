"""One optimizer's path on a landscape beside its differential equation, and a map of where others of its kind end.

Shapes: D coordinates; K points that move at once: the path, then the cells of the map, (n_lr, n_beta) row by row.
"""

import itertools
import math
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_modules.data.sampling import draw
from lightning_modules.optimizers import DEFAULT_OPTIMIZER, configure
from lightning_modules.paths.drawing import draw_basins, draw_path
from lightning_modules.paths.flows import Flow, respond
from lightning_modules.paths.landscapes import DIVERGED, Landscape, LandscapeName
from lightning_modules.paths.landscapes import landscape as find_landscape
from lightning_modules.paths.traces import Trace

MOST_POINTS = 4096  # kept of the path, and of the solution beside it
MOST_CELL_POINTS, MOST_CELL_NUMBERS = 64, 150_000  # kept of each cell's path, and of all: 0.6 MB
CONTOUR = 121  # points along each axis of the stored landscape


class Paths(pl.LightningModule):
    """Moves a point down a landscape with the optimizer, and one for every cell of a map over (lr, beta).

    The solution of the optimizer's differential equation runs beside it: gradient flow, Newton's equation with friction
    where there is momentum, sign flow for adaptive learning rates. A cell's number is that of the minimum whose basin
    of attraction holds its end; 0 is the global minimum, -1 has diverged. Whatever diverges stays where it was then.

    Gradient noise is scaled so that plain SGD samples exp(-L / T): standard deviation sqrt(2 T / lr_eff), with
    lr_eff = lr / (1 - beta) for momentum, a law of small steps. A schedule that lowers lr cools in proportion.

    Source: kexue.fm/archives/5655 and 6234.

    Args:
        landscape: double_well = (x^2-1)^2 + 0.3x + y^2; article = x(x-1)(x-3)^2 + 1.62276 of kexue.fm/archives/6261;
            ravine = a quadratic; rosenbrock = (1-x)^2 + 100(y-x^2)^2.
        start: Coordinates of the first point; null = the landscape's own.
        temperature: T of the gradient noise; 0 = none.
        kappa: Condition number of the ravine; null = 100.
        angle: Degrees by which the ravine is turned from the axes; null = 0.
        has_map: Whether the map is made; a path alone takes a tenth of the time.
        n_lr: Learning rates of the map.
        n_beta: Momentum coefficients of the map; an optimizer without momentum has a map over lr only.
        lr_range: Least and greatest lr of the map, in equal ratios between; null = a tenth to ten times optimizer.lr.
        beta_range: Least and greatest beta of the map, 1 - beta in equal ratios between.
        seed: Number from which the noise follows.
        optimizer: Name and settings of the optimizer; None = the default one.
        schedule: Name and settings of the learning-rate schedule, which every cell follows; None = constant.
    """

    objective = ("val/loss", "min")

    def __init__(
        self,
        landscape: LandscapeName = "article",
        start: list[float] | None = None,
        temperature: float = 0.0,
        kappa: float | None = None,
        angle: float | None = None,
        has_map: bool = True,
        n_lr: int = 24,
        n_beta: int = 24,
        lr_range: tuple[float, float] | None = None,
        beta_range: tuple[float, float] = (0.0, 0.995),
        seed: int = 0,
        optimizer: dict[str, Any] | None = None,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.landscape = find_landscape(landscape, kappa, angle)
        first = _checked_start(start, self.landscape, landscape)
        _check_settings(temperature, n_lr, n_beta, lr_range, beta_range)
        self.save_hyperparameters()
        self.automatic_optimization = False  # all gradients at once, by formula
        self.seed, self.temperature = seed, temperature
        settings = dict(optimizer or {"class": DEFAULT_OPTIMIZER, "lr": 1e-3})
        self.response = respond(settings.pop("class"), settings, self.landscape.dim)
        lr, beta = self.response.lr, self.response.beta
        least, greatest = lr_range or (lr / 10, 10 * lr)
        self.lrs = _in_equal_ratios(least, greatest, n_lr) if has_map else []
        self.betas = [1 - rest for rest in _in_equal_ratios(1 - beta_range[0], 1 - beta_range[1], n_beta)]
        if self.response.key is None:
            self.betas = [math.nan]
        self.cells = list(itertools.product(self.lrs, self.betas))
        # In float64: near a border of basins the last digits decide.
        self.points = nn.ParameterList(torch.tensor(first, dtype=torch.float64) for _ in range(1 + len(self.cells)))
        self._points = tuple(self.points)  # a ParameterList takes 3 us to give each
        scales = [self.response.noise_scale(temperature, *cell) for cell in [(lr, beta), *self.cells]]
        self.noise_scales = torch.tensor(scales, dtype=torch.float64)[:, None]
        self.flow = Flow(self.landscape, self.response.kind, first)
        most = MOST_CELL_NUMBERS // max(1, len(self.cells) * self.landscape.dim)
        here = self().cpu()
        self.traces = {
            "path": Trace(MOST_POINTS, here[0]),
            "ode": Trace(MOST_POINTS, here[0]),
            "cells": Trace(max(2, min(MOST_CELL_POINTS, most)), here[1:].float()),
        }

    def forward(self) -> Tensor:
        """Where all points are, (K, D)."""
        return torch.stack([point.detach() for point in self._points])

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """A step of every point; the loss before it, and the distance after it from the differential equation."""
        optimizer: Any = self.optimizers()
        before, noise = self(), self._noise(batch_idx)
        alive = ~self.landscape.diverged(before)

        @torch.no_grad()
        def closure() -> Tensor:
            theta = self()  # an implicit optimizer asks at several places; the noise is the step's
            gradients = self.landscape.gradients(theta) + noise
            for point, gradient, is_alive in zip(self._points, gradients, alive.tolist(), strict=True):
                point.grad = gradient if is_alive else None  # None is passed over by every optimizer
            return self.landscape.losses(theta)[alive].sum()

        settings = dict(optimizer.param_groups[0])
        optimizer.step(closure=closure)
        schedule: Any = self.lr_schedulers()
        if schedule is not None:
            schedule.step()
        self._record(settings, bool(alive[0]))
        distance = torch.dist(self.traces["path"].last, self.traces["ode"].last)
        return {"loss": self.landscape.losses(before[0]), "ode_distance": distance}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Logs the path's loss, and shares of the map's cells: in the global minimum's basin, and diverged."""
        theta = self()
        self.log("val/loss", self.landscape.losses(theta[0]), batch_size=1)
        if len(theta) > 1:
            basins = self.landscape.basins(theta[1:])
            self.log("val/global_fraction", (basins == 0).double().mean(), batch_size=1)
            self.log("val/diverged_fraction", (basins == DIVERGED).double().mean(), batch_size=1)

    def configure_optimizers(self) -> Any:
        """The optimizer with one parameter group a point, and the schedule, which acts on all groups."""
        path, *others = self._points
        groups: Any = [{"params": [path]}]
        for point, (lr, beta) in zip(others, self.cells, strict=True):
            groups.append({"params": [point], "lr": lr, **self.response.setting(beta)})
        return configure(groups, self.hparams["optimizer"], self.hparams["schedule"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What was recorded goes along."""
        traces = {name: trace.state_dict() for name, trace in self.traces.items()}
        checkpoint["paths"] = {"traces": traces, "flow": torch.from_numpy(self.flow.state)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """And goes on."""
        for name, trace in self.traces.items():
            trace.load_state_dict(checkpoint["paths"]["traces"][name])
        self.flow.state = checkpoint["paths"]["flow"].numpy()

    def pictures(self) -> dict[str, Tensor]:
        """Images by name, each (3, H, W) in [0, 1]: the path and the equation's solution, and the map."""
        path, ode = self.traces["path"], self.traces["ode"]
        pictures = {"path": draw_path(self.landscape, (path.times, path.points), (ode.times, ode.points))}
        if len(self.lrs):
            basin, loss = self._map()
            lowest = self.landscape.losses(torch.tensor(self.landscape.minima, dtype=torch.float64))
            pictures["basins"] = draw_basins(basin, loss - lowest[basin.clamp(min=0)], self._chosen())
        return pictures

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """The file paths.npz, n_kept at most 64 and fewer for many cells.

        `t` (n,) and `theta` (n, D), the path on its own time axis; `ode_t`, `ode_theta`, the solution beside it; `x`,
        for D = 2 `y`, and `L` (len(y), len(x)) or (len(x),), the landscape; `minima` (m, D), the global one first; and
        with a map `lr` (n_lr,), `beta` (n_beta,), `basin` and `loss` (n_lr, n_beta), `cell_step` (n_kept,) and
        `cell_theta` (n_lr, n_beta, n_kept, D). An optimizer without momentum has one beta, NaN.
        """
        path, ode, cells = self.traces["path"], self.traces["ode"], self.traces["cells"]
        arrays = {"t": path.times, "theta": path.points, "ode_t": ode.times, "ode_theta": ode.points}
        arrays |= {**contour(self.landscape), "minima": torch.tensor(self.landscape.minima, dtype=torch.float64)}
        if len(self.lrs):
            basin, loss = self._map()
            moved = cells.points.view(len(cells.times), *basin.shape, -1).movedim(0, 2)
            lr, beta = (torch.tensor(axis, dtype=torch.float64) for axis in (self.lrs, self.betas))
            arrays |= {"lr": lr, "beta": beta, "basin": basin, "loss": loss}
            arrays |= {"cell_step": cells.times.long(), "cell_theta": moved}
        return {"paths.npz": {name: array.numpy() for name, array in arrays.items()}}

    def _noise(self, batch_idx: int) -> Tensor | float:
        """This step's noise (K, D): the same for every process and for each evaluation of a closure."""
        if self.temperature == 0:
            return 0.0
        step = (self.current_epoch, batch_idx)
        # The path has a stream of its own: its noise does not depend on the size of the map.
        draws = [
            torch.randn(n, self.landscape.dim, dtype=torch.float64, generator=draw(self.seed, stream, step))
            for stream, n in (("path", 1), ("map", len(self.cells)))
        ]
        return (self.noise_scales * torch.cat(draws)).to(self.device)

    def _record(self, group: dict[str, Any], is_path_alive: bool) -> None:
        """Where everything is after a step with these settings of the path's parameter group."""
        now = self().cpu()
        cells, path, ode = self.traces["cells"], self.traces["path"], self.traces["ode"]
        cells.add(cells.time + 1, now[1:].float())
        if is_path_alive:
            duration, solution = self.flow.advance(float(group["lr"]), self.response.beta_of(group))
            for part, point in enumerate(torch.from_numpy(solution), 1):
                ode.add(path.time + duration * part / len(solution), point)
            path.add(path.time + duration, now[0])

    def _map(self) -> tuple[Tensor, Tensor]:
        """Basin and loss of every cell, (n_lr, n_beta) each."""
        theta = self().cpu()[1:].view(len(self.lrs), len(self.betas), -1)
        return self.landscape.basins(theta), self.landscape.losses(theta)

    def _chosen(self) -> tuple[int, int] | None:
        """The cell nearest to the path's own settings; None where they lie outside the map."""
        lr, beta = self.response.lr, self.response.beta
        inside = self.lrs[0] <= lr <= self.lrs[-1] and not beta < self.betas[0] and not beta > self.betas[-1]
        row = min(range(len(self.lrs)), key=lambda i: abs(math.log(self.lrs[i] / lr)))
        column = min(range(len(self.betas)), key=lambda j: abs(math.log((1 - self.betas[j]) / (1 - beta))))
        return (row, column) if inside else None


def contour(landscape: Landscape) -> dict[str, Tensor]:
    """The landscape over its box: `x`, `L` (len(x),), or `x`, `y`, `L` (len(y), len(x))."""
    axes = [torch.linspace(low, high, CONTOUR) for low, high in landscape.box]
    grid = torch.stack(torch.meshgrid(*axes, indexing="xy"), -1)
    return {**dict(zip("xy", axes, strict=False)), "L": landscape.losses(grid)}


def _in_equal_ratios(first: float, last: float, n: int) -> list[float]:
    return [float(value) for value in np.geomspace(first, last, n)]


def _checked_start(start: list[float] | None, landscape: Landscape, name: str) -> tuple[float, ...]:
    if start is None:
        return landscape.start
    if len(start) != landscape.dim:
        raise ValueError(
            f"model.start = {start}: must be {landscape.dim} number{'s' * (landscape.dim > 1)} on {name}; "
            f"{list(landscape.start)} is its own"
        )
    if not all(low <= value <= high for value, (low, high) in zip(start, landscape.box, strict=True)):
        box = " x ".join(f"[{low:g}, {high:g}]" for low, high in landscape.box)
        raise ValueError(f"model.start = {start}: must lie in {box}, the part of {name} that is drawn")
    return tuple(float(value) for value in start)


def _check_settings(
    temperature: float,
    n_lr: int,
    n_beta: int,
    lr_range: tuple[float, float] | None,
    beta_range: tuple[float, float],
) -> None:
    """Refuses, by name, settings no map can be made from."""
    low, high = lr_range or (1.0, 2.0)
    for is_wrong, message in (
        (not 0 <= temperature < math.inf, f"temperature = {temperature}: must be at least 0 and finite; 0 = no noise"),
        (n_lr < 2, f"n_lr = {n_lr}: must be at least 2; --model.has_map false makes no map"),
        (n_beta < 2, f"n_beta = {n_beta}: must be at least 2; --model.has_map false makes no map"),
        (not 0 < low < high < math.inf, f"lr_range = {[low, high]}: must rise, from above 0; [1e-3, 0.1] is a range"),
        (
            not 0 <= beta_range[0] < beta_range[1] < 1,
            f"beta_range = {list(beta_range)}: must rise, within [0, 1); [0, 0.995] is a range",
        ),
    ):
        if is_wrong:
            raise ValueError(f"model.{message}")
