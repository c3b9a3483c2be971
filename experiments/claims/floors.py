"""Claims on the floor that the loss of real data comes to rest on, from a sweep's runs or from chains run here (S2).

Least squares from 10 principal components of digits to one-hot labels: convex, its minimum known, and noisy there, so
that every floor is the noise's. C chains, N samples, D features with a constant, K classes; B batch, lr step size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.claims.context import Context
from experiments.claims.intervals import jackknife
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from lightning_modules.optimizers.sgd import SGD

STUDY = "sgd_batch_lr"
METRIC = "val/loss"


class Problem(NamedTuple):
    """Least squares on real data.

    Args:
        inputs: (N, D).
        targets: (N, K).
        curvature: Hessian (D, D) of each class's weights; its largest eigenvalue is 1.
        minimum: weights (D, K) of least loss.
    """

    inputs: Tensor
    targets: Tensor
    curvature: Tensor
    minimum: Tensor

    def gradients(self, theta: Tensor, rows: Tensor) -> Tensor:
        """Of half the mean squared error over each chain's rows (C, B), at theta (C, D, K)."""
        x, y = self.inputs[rows], self.targets[rows]
        return x.mT @ (x @ theta - y) / rows.shape[1]

    def excess(self, theta: Tensor) -> Tensor:
        """Loss above the least (C,) at theta (C, D, K)."""
        away = theta - self.minimum
        return ((self.curvature @ away) * away).sum((-2, -1)) / 2


def digits_problem(n_features: int = 10) -> Problem:
    """All of scikit-learn's digits, along their first principal components, with a constant in front."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.from_numpy(digits.data)
    _, _, directions = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    features = (x - x.mean(0)) @ directions[:n_features].T
    inputs = torch.cat([torch.ones(len(x), 1), features / features.std(0, correction=0).amax()], 1)
    targets = torch.nn.functional.one_hot(torch.from_numpy(digits.target)).double()
    curvature = inputs.T @ inputs / len(inputs)
    minimum = torch.linalg.solve(curvature, inputs.T @ targets / len(inputs))
    return Problem(inputs.float(), targets.float(), curvature.float(), minimum.float())


class Floors(NamedTuple):
    """Loss at rest over cells of learning rate and batch size.

    Args:
        lr: (cells,).
        batch: (cells,).
        loss: (R, cells), R independent repetitions.
        least: the loss without noise; None = unknown.
    """

    lr: np.ndarray
    batch: np.ndarray
    loss: np.ndarray
    least: float | None


def floors(context: Context) -> Floors:
    """Those of the sweep's runs where there are any, else of chains run here."""
    runs = context.runs(STUDY)
    return floors_of_runs(runs, late_means(context, runs)) if runs else floors_of_chains(context)


def late_means(context: Context, runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Run id -> mean validation loss over the second half of the run's steps; one value alone is mostly noise."""
    from experiments.store.location import locate
    from experiments.store.read import histories

    curves = histories(context.store or locate(), [run["run_id"] for run in runs], [METRIC])
    late = curves[2 * curves["step"] >= curves.groupby("run_id")["step"].transform("max")]
    return {str(run_id): float(mean) for run_id, mean in late.groupby("run_id")["value"].agg(np.mean).items()}


def floors_of_runs(runs: Sequence[dict[str, Any]], losses: Mapping[str, float]) -> Floors:
    """Floors of the trials with replacement, by cell and seed.

    Args:
        runs: as `Context.runs` gives them.
        losses: floor of each run, by its id.

    Cells in which a run diverged are left out. Raises ValueError where a run is missing, or there are too few.
    """
    found: dict[tuple[float, int], dict[str, float]] = {}
    for run in runs:
        if run.get("data.sampling", "with_replacement") == "with_replacement":
            cell = (float(run["optimizer.lr"]), int(float(run["data.batch_size"])))
            found.setdefault(cell, {})[str(run["seed"])] = losses.get(run["run_id"], np.nan)
    found = {cell: by_seed for cell, by_seed in found.items() if np.isfinite(list(by_seed.values())).all()}
    cells = sorted(found)
    seeds = sorted({seed for by_seed in found.values() for seed in by_seed})
    n_missing = sum(len(seeds) - len(by_seed) for by_seed in found.values())
    if n_missing or len(cells) < 4 or len(seeds) < 2:
        raise ValueError(
            f"study {STUDY}: {len(cells)} cells of lr and batch_size with replacement did not diverge, {len(seeds)}"
            f" seeds, {n_missing} runs missing; it takes 4 cells, 2 seeds and every run: taolu sweep {STUDY} --resume"
        )
    lr, batch = np.array(cells).T
    return Floors(lr, batch, np.array([[found[cell][seed] for cell in cells] for seed in seeds]), None)


def floors_of_chains(context: Context) -> Floors:
    """Those of SGD on the least squares above, averaged over the time at rest; one repetition is one chain."""
    problem, generator = digits_problem(), context.generator("floors")
    n_chains = context.design("n_chains", 30, 100)
    rates, batches = (0.05, 0.1, 0.2), (16, 64)
    cells = [(lr, batch) for lr in rates for batch in batches]
    slowest = float(torch.linalg.eigvalsh(problem.curvature)[0])
    loss = np.empty((n_chains, len(cells)))
    for k, (rate, size) in enumerate(cells):
        n_rest, n_steps = round(3 / (rate * slowest)), round(10 / (rate * slowest))
        theta = torch.nn.Parameter(problem.minimum.repeat(n_chains, 1, 1))
        optimizer, total = SGD([theta], lr=rate), torch.zeros(n_chains)
        for step in range(n_rest + n_steps):
            rows = torch.randint(len(problem.inputs), (n_chains, size), generator=generator)
            theta.grad = problem.gradients(theta.detach(), rows)
            optimizer.step()
            if step >= n_rest:
                total += problem.excess(theta.detach())
        loss[:, k] = total / n_steps
    lr, batch = np.array(cells).T
    return Floors(lr, batch, loss, 0.0)


def rate_exponent(context: Context) -> Evidence:
    """The exponent in lr of the loss above its least, batch sizes apart."""
    found = floors(context)
    return _evidence("exponent in lr of the excess loss", found, lambda loss: _power_law(found, loss)[0])


def collapse(context: Context) -> Evidence:
    """Share of the variance of ln excess loss over all cells that ln(lr / B) alone explains."""
    found = floors(context)

    def explained(loss: np.ndarray) -> float:
        _, _, least = _power_law(found, loss)
        return float(np.corrcoef(np.log(found.lr / found.batch), np.log(loss - least))[0, 1] ** 2)

    return _evidence("R^2 of ln excess loss on ln(lr / B)", found, explained)


def _power_law(found: Floors, loss: np.ndarray) -> tuple[float, float, float]:
    """Exponents in lr and in B, and the least loss, of loss = least + c lr^a B^b through the cells."""
    from scipy.optimize import minimize_scalar

    design = np.stack([np.log(found.lr), np.log(found.batch), np.ones(len(loss))], 1)

    def fit(least: float) -> tuple[np.ndarray, float]:
        target = np.log(loss - least)
        solution = np.linalg.lstsq(design, target, rcond=None)[0]
        return solution, float(np.square(target - design @ solution).sum() / target.var())

    least = found.least
    if least is None:  # the least loss that makes it a power law, between a thousandth and 30 times the spread below
        spread = float(np.ptp(loss))
        best = minimize_scalar(lambda u: fit(loss.min() - spread * np.exp(u))[1], bounds=(-7, 3.4), method="bounded")
        least = float(loss.min() - spread * np.exp(best.x))
    a, b, _ = fit(least)[0]
    return float(a), float(b), least


def _evidence(statistic: str, found: Floors, measure: Callable[[np.ndarray], float]) -> Evidence:
    result = jackknife(found.loss, measure)
    _, _, least = _power_law(found, found.loss.mean(0))
    ratio, mean = found.lr / found.batch, found.loss.mean(0) - least
    cells = [jackknife(column - least, float) for column in found.loss.T]
    line = float(np.exp(np.log(mean / ratio).mean()))
    return Evidence(
        statistic,
        result.estimate,
        result.low,
        result.high,
        result.n,
        tuple(
            Point(float(x), one.estimate, one.low, one.high, f"B = {batch:g}")
            for x, one, batch in zip(ratio, cells, found.batch, strict=True)
        ),
        tuple(Curve(float(x), line * float(x), "in proportion to lr / B") for x in sorted(ratio)),
        Axes("lr / B", "loss above the least", log_x=True, log_y=True),
    )


claim = partial(Claim, article=5655)
CLAIMS = (
    claim(
        id="5655-S2",
        statement="SGD rests at P ~ exp(-L / sigma^2), whose spread the learning rate does not change.",
        statement_zh="SGD 静止于 P ∝ exp(-L/σ²)，其展宽与学习率无关。",
        formula=r"L_\infty - L^* \propto \mathit{lr}^0",
        probe=rate_exponent,
        rule="equals",
        expected=0,
        tolerance=0.1,
        reason="A rate halved would change the floor by 7 % at most.",
        source="equation (9)",
        question="5655-why",
    ),
    claim(
        id="5655-S2c",
        statement="Runs of equal lr / B rest at equal losses: the temperature is lr s^2 / (2 B).",
        statement_zh="lr/B 相同的训练停在相同的损失上：温度为 lr·s²/(2B)。",
        formula=r"P \propto e^{-L / T}, \quad T = \frac{\mathit{lr}\, s^2}{2B}",
        probe=collapse,
        rule="at least",
        expected=0.99,
        tolerance=0,
        reason="One part in a hundred is what steps of finite length may add near the edge of stability.",
        source="equation (9) with the factors lr and 1/2 it lacks",
        question="5655-why",
    ),
)
