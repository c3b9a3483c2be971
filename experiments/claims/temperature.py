"""Claims on where SGD comes to rest: its temperature (S2).

The loss is the mean of h (theta - x_i)^2 / 2 over N = 256 numbers x_i of mean 0 and variance 1: curvature h, per-sample
gradient variance s^2 = h^2, and a law that is exact at any step. M independent chains run at once, as the coordinates
of one parameter. B batch, lr step size, T temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from experiments.claims.context import Context
from experiments.claims.intervals import farthest, in_blocks, jackknife, slope
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from lightning_modules.data.sampling import Sampling
from lightning_modules.optimizers.momentum import Momentum
from lightning_modules.optimizers.sgd import SGD

N_SAMPLES = 256  # a byte is a row
N_BLOCKS = 50  # of chains, left out in turn
CURVATURE = 2.0
RELAXATIONS = 5  # of e-folding times before anything is counted: the start is forgotten to exp(-2 * 5) of a variance
Means = Iterator[np.ndarray]


def samples(rng: np.random.Generator, n: int = N_SAMPLES) -> np.ndarray:
    """Numbers (N,) of mean 0 and variance 1."""
    x = rng.standard_normal(n)
    standard: np.ndarray = (x - x.mean()) / x.std()
    return standard


def batch_means(rng: np.random.Generator, x: np.ndarray, batch: int, n_chains: int, sampling: Sampling) -> Means:
    """Means (M,) of batches of x, step by step without end, each chain with batches of its own."""
    n = len(x)
    while True:
        if sampling == "with_replacement":
            yield x.take(rng.integers(0, n, size=(batch, n_chains), dtype=np.uint16)).mean(0)
            continue
        order = np.argsort(rng.random((n_chains, n), dtype=np.float32), axis=1)
        parts = x.take(order[:, : n // batch * batch]).reshape(n_chains, -1, batch).mean(2)
        yield from parts.T if sampling == "shuffled" else parts.T[:1]


def mean_squares(
    optimizer: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer],
    means: Means,
    n_chains: int,
    n_rest: int,
    n_steps: int,
) -> np.ndarray:
    """Mean over time of theta^2 in each chain (M,), from step `n_rest` on; theta's mean is 0 by symmetry of the law."""
    theta = torch.nn.Parameter(torch.zeros(n_chains, dtype=torch.float64))
    moving = optimizer([theta])
    total = np.zeros(n_chains)
    for step in range(n_rest + n_steps):
        theta.grad = CURVATURE * (theta.detach() - torch.from_numpy(next(means)))
        moving.step()
        if step >= n_rest:
            total += theta.detach().numpy() ** 2
    return total / n_steps


def sgd_variance(context: Context, lr: float, batch: int) -> np.ndarray:
    """Stationary E theta^2 of SGD in blocks (R,) of chains, rows drawn with replacement."""
    n_chains = context.design("n_chains", 4000, 16_000)
    n_independent = context.design("n_independent", 60, 200)  # e-folding times a chain is watched for
    rng = context.rng(f"temperature/{lr}/{batch}")
    means = batch_means(rng, samples(rng), batch, n_chains, "with_replacement")
    n_rest, n_steps = (round(times / (lr * CURVATURE)) for times in (RELAXATIONS, n_independent))
    return in_blocks(mean_squares(partial(SGD, lr=lr), means, n_chains, n_rest, n_steps), N_BLOCKS)


def sgd_law(lr: float, batch: int, h: float = CURVATURE) -> float:
    """The exact stationary variance lr s^2 / (B h (2 - lr h)), s = h, under independent noise."""
    return lr * h / (batch * (2 - lr * h))


def variance_ratio(
    context: Context, law: Callable[[float, int], float], batches: tuple[int, ...] = (2, 8, 32)
) -> Evidence:
    """Stationary variance over a law's, in the cell of step size and batch where the two differ most."""
    cells = [(decay / CURVATURE, batch) for batch in batches for decay in (0.1, 0.2, 0.4, 0.8)]
    blocks = [sgd_variance(context, lr, batch) for lr, batch in cells]
    found = [
        jackknife(block / law(*cell), float, n_intervals=len(cells)) for cell, block in zip(cells, blocks, strict=True)
    ]
    worst = farthest(found, 1.0)
    points, curves = [], []
    for (lr, batch), one in zip(cells, found, strict=True):
        scale, series = law(lr, batch), f"B = {batch}"
        points.append(Point(lr, one.estimate * scale, one.low * scale, one.high * scale, series))
        curves.append(Curve(lr, scale, series))
    return Evidence(
        f"variance over the law's, where farthest from 1 of {len(cells)} cells (lr, B)",
        worst.estimate,
        worst.low,
        worst.high,
        worst.n,
        tuple(points),
        tuple(curves),
        Axes("learning rate", "stationary variance of theta", log_x=True, log_y=True),
    )


def literal_law(lr: float, batch: int) -> float:
    """Equation (9) as it stands: P ~ exp(-L / sigma^2) with sigma^2 = s^2 / B has variance sigma^2 / h, s = h."""
    return CURVATURE / batch


def variance_slope(context: Context, over: str, edge: bool = False) -> Evidence:
    """The exponent of the stationary variance in lr or in B.

    Args:
        context: seed and effort.
        over: "lr" or "batch"; the other is held.
        edge: whether variances are multiplied by (2 - lr h) / 2 first, which is 1 for small steps.
    """
    rates, batches = [decay / CURVATURE for decay in (0.05, 0.1, 0.2, 0.4, 0.8)], [1, 2, 4, 8, 16, 32]
    cells = [(lr, 4) for lr in rates] if over == "lr" else [(rates[2], batch) for batch in batches]
    x = np.array([lr for lr, _ in cells] if over == "lr" else [batch for _, batch in cells], dtype=float)
    factor = np.array([(2 - lr * CURVATURE) / 2 if edge else 1.0 for lr, _ in cells])
    blocks = np.stack([sgd_variance(context, *cell) for cell in cells], 1) * factor
    found = jackknife(blocks, lambda variance: slope(np.log(x), np.log(variance)))
    points = []
    for k, value in enumerate(x):
        one = jackknife(blocks[:, k], float)
        points.append(Point(float(value), one.estimate, one.low, one.high, "measured"))
    return Evidence(
        f"slope of ln variance in ln {over}",
        found.estimate,
        found.low,
        found.high,
        found.n,
        tuple(points),
        tuple(Curve(value, sgd_law(*cell) * f, "law") for value, cell, f in zip(x, cells, factor, strict=True)),
        Axes("learning rate" if over == "lr" else "batch size B", "stationary variance", log_x=True, log_y=True),
    )


def momentum_law(alpha: float, beta: float, batch: int, h: float = CURVATURE) -> float:
    """The exact stationary variance of v <- beta v - alpha g, theta <- theta + v under independent noise, s = h."""
    return alpha * h * (1 + beta) / (batch * (1 - beta) * (2 * (1 + beta) - alpha * h))


def momentum_variance(context: Context, alpha: float, beta: float, batch: int) -> np.ndarray:
    """Stationary E theta^2 of momentum in blocks (R,) of chains."""
    n_chains = context.design("n_chains", 4000, 16_000)
    n_independent = context.design("n_independent", 60, 200)
    # the slower of two e-folding times: that of the averaged motion, and that of the velocity
    decay = min(alpha * CURVATURE / (1 - beta), (1 - beta) / 2)
    rng = context.rng(f"temperature/{alpha}/{beta}/{batch}")
    means = batch_means(rng, samples(rng), batch, n_chains, "with_replacement")
    n_rest, n_steps = round(RELAXATIONS / decay), round(n_independent / decay)
    chains = mean_squares(partial(Momentum, lr=alpha, beta=beta), means, n_chains, n_rest, n_steps)
    return in_blocks(chains, N_BLOCKS)


def momentum_ratio(context: Context) -> Evidence:
    """Momentum's stationary variance over the exact law's, in the cell where the two differ most."""
    cells = [(0.05, 0.9, 4), (0.2, 0.9, 4), (0.05, 0.5, 8), (0.2, 0.5, 8)]
    found = [
        jackknife(momentum_variance(context, *cell) / momentum_law(*cell), float, n_intervals=len(cells))
        for cell in cells
    ]
    return farthest(found, 1.0).evidence(
        f"variance over the law's, where farthest from 1 of {len(cells)} cells (alpha, beta, B)"
    )


def effective_rate(context: Context) -> Evidence:
    """Momentum's variance at alpha, beta over that of SGD at the learning rate alpha / (1 - beta), small steps."""
    alpha, beta, batch = 0.001, 0.9, 4
    momentum = momentum_variance(context, alpha, beta, batch)
    sgd = sgd_variance(context, alpha / (1 - beta), batch)
    found = jackknife(np.stack([momentum, sgd], 1), lambda means: float(means[0] / means[1]))
    return found.evidence("variance of momentum over variance of SGD")


def energies(context: Context, friction: float, n_times: int) -> np.ndarray:
    """Mean of (eta^2, h theta^2) in blocks (R, n_times, 2) of chains of equation (21), at equal spacing in time.

    The noise of (21) has strength 1; its time average over a leapfrog step of length 0.1 is added to the gradient.
    """
    n_chains, length = context.design("n_chains", 4000, 16_000), context.design("time", 200.0, 800.0)
    time_step = 0.1
    generator = context.generator(f"energy/{friction}")
    theta = torch.nn.Parameter(torch.zeros(n_chains, dtype=torch.float64))
    moving = Momentum([theta], friction=friction, time_step=time_step)
    n_steps = round(length / time_step) // n_times * n_times
    found = torch.zeros(n_times, 2, n_chains, dtype=torch.float64)
    for step in range(n_steps):
        noise = torch.randn(n_chains, generator=generator).double() / time_step**0.5
        theta.grad = CURVATURE * theta.detach() + noise
        before = theta.detach().clone()
        velocity = moving.state[theta]["v"].clone() if moving.state else torch.zeros_like(before)
        moving.step()
        # the velocity at the step is the mean of those half a step before and after
        eta = (velocity + moving.state[theta]["v"]) / (2 * time_step)
        found[step * n_times // n_steps] += torch.stack([eta.square(), CURVATURE * before.square()])
    means = found * (n_times / n_steps)
    return in_blocks(means.permute(2, 0, 1).numpy(), N_BLOCKS)


def energy_growth(context: Context) -> Evidence:
    """The exponent in time of the energy without friction."""
    n_times = 8
    blocks = energies(context, 1e-9, n_times).sum(2) / 2
    times = np.arange(n_times) + 0.5
    found = jackknife(blocks, lambda energy: slope(np.log(times), np.log(energy)))
    return found.evidence("slope of ln energy in ln time")


def friction_temperature(context: Context) -> Evidence:
    """Mean potential energy h theta^2 over sigma^2 / (2 lambda), at the friction where it is farthest from 1."""
    frictions = (0.5, 1.0, 2.0)
    found = []
    for friction in frictions:
        late = energies(context, friction, 2)[:, 1, 1]  # the second half of the time
        found.append(jackknife(late * 2 * friction, float, n_intervals=len(frictions)))
    return farthest(found, 1.0).evidence("h E theta^2 over sigma^2 / (2 lambda), where farthest from 1 of 3 frictions")


claim = partial(Claim, article=5655)
CLAIMS = (
    claim(
        id="5655-S2.1",
        statement="On a quadratic SGD's variance is sigma^2 / h, sigma^2 = s^2 / B the noise of the batch gradient.",
        statement_zh="在二次函数上，SGD 的方差为 σ²/h，σ² = s²/B 为批梯度噪声。",
        formula=r"\operatorname{Var}\theta = \frac{s^2}{B h}",
        probe=partial(variance_ratio, law=literal_law, batches=(8,)),
        rule="equals",
        expected=1,
        tolerance=0.03,
        reason="As S2.1c.",
        source="equation (9)",
        question="5655-why",
    ),
    claim(
        id="5655-S2.1c",
        statement="On a quadratic SGD's variance is lr s^2 / (B h (2 - lr h)), for every lr and B.",
        statement_zh="在二次函数上，SGD 的方差为 lr·s²/(Bh(2 - lr·h))，对每组学习率与批大小都成立。",
        formula=r"\operatorname{Var}\theta = \frac{\mathit{lr}\, s^2}{B h (2 - \mathit{lr}\, h)}",
        probe=partial(variance_ratio, law=sgd_law),
        rule="equals",
        expected=1,
        tolerance=0.03,
        reason="The law is exact; the error of the worst of 12 cells is below 0.01.",
        source="equation (9) with lr and 1/2, exact at any step; rows drawn with replacement",
        question="5655-why",
    ),
    claim(
        id="5655-S2.2",
        statement="The variance at which SGD rests falls as 1 / B.",
        statement_zh="SGD 静止时的方差按 1/B 下降。",
        formula=r"\operatorname{Var}\theta \propto B^{-1}",
        probe=partial(variance_slope, over="batch"),
        rule="equals",
        expected=-1,
        tolerance=0.03,
        reason="As S1.",
        source="equations (7), (9)",
        question="5655-batch",
    ),
    claim(
        id="5655-S2.3",
        statement="The variance at which SGD rests does not depend on the learning rate.",
        statement_zh="SGD 静止时的方差与学习率无关。",
        formula=r"\operatorname{Var}\theta \propto \mathit{lr}^0",
        probe=partial(variance_slope, over="lr"),
        rule="equals",
        expected=0,
        tolerance=0.03,
        reason="As S1.",
        source="equation (9)",
        question="5655-rate",
    ),
    claim(
        id="5655-S2.3c",
        statement="The variance at which SGD rests, times (2 - lr h) / 2, is in proportion to the learning rate.",
        statement_zh="SGD 静止时的方差乘以 (2 - lr·h)/2 之后，与学习率成正比。",
        formula=r"\operatorname{Var}\theta\,(2 - \mathit{lr}\, h) \propto \mathit{lr}",
        probe=partial(variance_slope, over="lr", edge=True),
        rule="equals",
        expected=1,
        tolerance=0.03,
        reason="As S1.",
        source="equation (9) with lr and 1/2",
        question="5655-rate",
    ),
    claim(
        id="5655-S2.4c",
        statement="Momentum's variance is alpha s^2 (1 + beta) / (B (1 - beta) h (2 (1 + beta) - alpha h)).",
        statement_zh="动量的方差为 αs²(1+β)/(B(1-β)h(2(1+β) - αh))。",
        formula=r"\operatorname{Var}\theta = \frac{\alpha s^2 (1 + \beta)}{B (1 - \beta) h (2 (1 + \beta) - \alpha h)}",
        probe=momentum_ratio,
        rule="equals",
        expected=1,
        tolerance=0.03,
        reason="As S2.1c.",
        source="equation (16) under the noise of (7), exact",
        question="5655-momentum",
    ),
    claim(
        id="5655-S2.5c",
        statement="For small steps momentum is as noisy as SGD at the learning rate alpha / (1 - beta).",
        statement_zh="小步长时，动量的噪声等同于学习率为 α/(1-β) 的 SGD。",
        formula=r"\alpha_{\text{eff}} = \alpha / (1 - \beta)",
        probe=effective_rate,
        rule="equals",
        expected=1,
        tolerance=0.05,
        reason="The exact laws differ by half of lr h, 1 % at this step.",
        source="equation (16)",
        question="5655-momentum",
    ),
    claim(
        id="5655-S2.6",
        statement="With noise and without friction the energy comes to rest at exp(-(eta^2 / 2 + L) / sigma^2).",
        statement_zh="有噪声而无摩擦时，能量稳定于 exp(-(η²/2 + L)/σ²)。",
        formula=r"P(\theta, \eta) \propto e^{-(\eta^2 / 2 + L) / \sigma^2}, \quad \lambda = 0",
        probe=energy_growth,
        rule="equals",
        expected=0,
        tolerance=0.1,
        reason="At rest the energy does not grow; without friction it would grow in proportion to time, exponent 1.",
        source="equation (22)",
        question="5655-momentum",
    ),
    claim(
        id="5655-S2.6c",
        statement="With noise and any friction the energy comes to rest at the temperature sigma^2 / (2 lambda).",
        statement_zh="有噪声时，只要摩擦为正，能量就稳定于温度 σ²/(2λ)。",
        formula=r"P(\theta, \eta) \propto e^{-(\eta^2 / 2 + L) / T}, \quad T = \frac{\sigma^2}{2\lambda}",
        probe=friction_temperature,
        rule="equals",
        expected=1,
        tolerance=0.03,
        reason="Leapfrog steps of 0.1 add 0.5 %.",
        source="equations (21), (22)",
        question="5655-momentum",
    ),
)
