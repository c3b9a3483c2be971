"""Claims on what the order of the data does to SGD's noise and rest (S10): shuffled epochs, distinct rows.

The problem is that of `temperature`, with N = 64 numbers: permutations cost far more than independent rows. B batch,
lr step size, h curvature.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from experiments.claims.context import Context
from experiments.claims.intervals import exact, farthest, in_blocks, jackknife
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from experiments.claims.temperature import (
    CURVATURE,
    N_BLOCKS,
    RELAXATIONS,
    batch_means,
    mean_squares,
    samples,
    sgd_law,
)
from lightning_modules.optimizers.sgd import SGD

N_SHUFFLED = 64


def shuffled_law(lr: float, batch: int, n: int = N_SHUFFLED, h: float = CURVATURE) -> float:
    """The exact stationary variance, averaged over an epoch's steps, when epochs are cut from permutations; s = h.

    Batch means of one permutation have variance v = (N - B) / (B (N - 1)) and covariance c = -1 / (N - 1); B divides N.
    """
    n_batches = n // batch
    v, c = (n - batch) / (batch * (n - 1)), -1 / (n - 1)
    a = 1 - lr * h
    powers = a ** np.arange(n_batches)
    within = (lr * h) ** 2 * ((v - c) * np.cumsum(powers**2) + c * np.cumsum(powers) ** 2)
    before = within[-1] / (1 - a ** (2 * n_batches))  # variance at the end of the epoch before
    return float(np.mean(a ** (2 * np.arange(1, n_batches + 1)) * before + within))


def shuffled_variance(context: Context, lr: float, batch: int) -> np.ndarray:
    """Stationary E theta^2 of SGD in blocks (R,) of chains, batches cut from shuffled epochs."""
    n_chains, n_epochs = context.design("n_chains_shuffled", 1000, 4000), context.design("n_epochs", 60, 200)
    rng = context.rng(f"temperature/shuffled/{lr}/{batch}")
    means = batch_means(rng, samples(rng, N_SHUFFLED), batch, n_chains, "shuffled")
    epoch = N_SHUFFLED // batch
    n_rest = -(-round(RELAXATIONS / (lr * CURVATURE)) // epoch) * epoch  # whole epochs
    chains = mean_squares(partial(SGD, lr=lr), means, n_chains, n_rest, n_epochs * epoch)
    return in_blocks(chains, N_BLOCKS)


SHUFFLED_CELLS = ((0.01, 4), (0.05, 4), (0.2, 4), (0.05, 16), (0.05, 32))  # lr h, B


def shuffled_ratio(context: Context, law: Callable[[float, int], float], extreme: bool = False) -> Evidence:
    """Variance under shuffled epochs over a law's: the cell farthest from 1, or (`extreme`) the largest ratio."""
    found = []
    for decay, batch in SHUFFLED_CELLS:
        lr = decay / CURVATURE
        blocks = shuffled_variance(context, lr, batch) / law(lr, batch)
        found.append(jackknife(blocks, float, n_intervals=len(SHUFFLED_CELLS)))
    worst = max(found, key=lambda one: one.estimate) if extreme else farthest(found, 1.0)
    which = "largest" if extreme else "where farthest from 1"
    return Evidence(
        f"variance over the law's, {which} of {len(found)} cells (lr, B)",
        worst.estimate,
        worst.low,
        worst.high,
        worst.n,
        tuple(Point(k, one.estimate, one.low, one.high, "shuffled epochs") for k, one in enumerate(found, 1)),
        tuple(Curve(k, 1.0, "law") for k in (1, len(found))),
        Axes("cell: lr h, B = " + "; ".join(f"{decay:g}, {batch}" for decay, batch in SHUFFLED_CELLS), "ratio"),
    )


def distinct_ratio(context: Context) -> Evidence:
    """Variance under fresh batches of distinct rows over law times (N - B) / (N - 1), where farthest from 1."""
    n, lr, n_chains = N_SHUFFLED, 0.8 / CURVATURE, context.design("n_chains_distinct", 2500, 10_000)
    found = []
    batches = (8, 16, 32)
    for batch in batches:
        rng = context.rng(f"temperature/distinct/{batch}")
        means = batch_means(rng, samples(rng, n), batch, n_chains, "without_replacement")
        squares = in_blocks(mean_squares(partial(SGD, lr=lr), means, n_chains, 10, 100), N_BLOCKS)
        law = sgd_law(lr, batch) * (n - batch) / (n - 1)
        found.append(jackknife(squares / law, float, n_intervals=len(batches)))
    return farthest(found, 1.0).evidence("variance over law times (N - B) / (N - 1), where farthest from 1 of 3 B")


def epoch_noise(context: Context) -> Evidence:
    """Variance of the sum of a shuffled epoch's noise over the sum of its variances; 1 if steps are independent."""
    rng = context.rng("temperature/epoch")
    n_batches = 16
    means = batch_means(rng, samples(rng, N_SHUFFLED), N_SHUFFLED // n_batches, 2000, "shuffled")
    epoch = np.stack([next(means) for _ in range(n_batches)], 1)
    ratio = float(epoch.sum(1).var() / epoch.var(0).sum())
    return exact(round(ratio, 12), n_batches).evidence("variance of the epoch's sum over sum of variances")


claim = partial(Claim, article=5655)
CLAIMS = (
    claim(
        id="5655-S10",
        statement="The stationary law of independent noise also holds for shuffled epochs.",
        statement_zh="独立噪声的平稳分布对逐轮打乱的数据同样成立。",
        formula=r"\operatorname{Var}\theta = \frac{\mathit{lr}\, s^2}{B h (2 - \mathit{lr}\, h)}",
        probe=partial(shuffled_ratio, law=sgd_law),
        rule="equals",
        expected=1,
        tolerance=0.03,
        reason="As S2.1c.",
        source="equations (7) to (9) as loaders draw batches",
        question="5655-batch",
    ),
    claim(
        id="5655-S10c",
        statement="Shuffled epochs leave less, as the covariance -1 / (N - 1) of batches of a permutation says.",
        statement_zh="逐轮打乱使方差更小：同一排列中各批的协方差 -1/(N-1) 恰好解释了它。",
        formula=r"\operatorname{Cov}(\bar x_i, \bar x_j) = -\frac{s^2}{N - 1}, \quad i \ne j",
        probe=partial(shuffled_ratio, law=shuffled_law),
        rule="equals",
        expected=1,
        tolerance=0.03,
        reason="As S2.1c.",
        source="equations (7) to (9) with the noise of a permutation",
        question="5655-batch",
    ),
    claim(
        id="5655-S10.1c",
        statement="Under shuffled epochs the variance is clearly below that of independent noise, in every cell.",
        statement_zh="逐轮打乱时，方差在每组设置下都明显低于独立噪声的值。",
        formula=r"\operatorname{Var}\theta < 0.9\,\frac{\mathit{lr}\, s^2}{B h (2 - \mathit{lr}\, h)}",
        probe=partial(shuffled_ratio, law=sgd_law, extreme=True),
        rule="at most",
        expected=0.9,
        tolerance=0,
        reason="Clearly means by a tenth at least.",
        source="equations (7) to (9)",
        question="5655-batch",
    ),
    claim(
        id="5655-S10.2c",
        statement="Fresh batches of distinct rows leave (N - B) / (N - 1) of the variance.",
        statement_zh="每步重新不放回抽样时，方差为原来的 (N-B)/(N-1)。",
        formula=r"\operatorname{Var}\theta = \frac{N - B}{N - 1}\,\frac{\mathit{lr}\, s^2}{B h (2 - \mathit{lr}\, h)}",
        probe=distinct_ratio,
        rule="equals",
        expected=1,
        tolerance=0.03,
        reason="As S2.1c.",
        source="equation (7) with the factor of a finite population",
        question="5655-batch",
    ),
    claim(
        id="5655-S10.3",
        statement="The noise of one step is independent of that of the others.",
        statement_zh="各步的噪声彼此独立。",
        formula=r"\operatorname{Var}\sum_n \xi_n = \sum_n \operatorname{Var}\xi_n",
        probe=epoch_noise,
        rule="equals",
        expected=1,
        tolerance=0.1,
        reason="Under shuffled epochs the noise of an epoch sums to 0, not to 90 %.",
        source="equation (8), batches of a shuffled epoch",
        question="5655-why",
    ),
)
