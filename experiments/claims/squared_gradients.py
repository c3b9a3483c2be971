"""Claims on the square of a minibatch's gradient and its moving average (A5).

Gradients are those of a softmax regression on digits at theta = 0; batches of B are drawn with replacement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from experiments.claims.context import Context
from experiments.claims.intervals import jackknife
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from experiments.claims.repetitions import F64, mean_evidence, mean_points, slopes, take_step
from experiments.claims.softmax_regression import per_sample_gradients
from lightning_modules.optimizers.rmsprop import RMSprop


def square_bias_in_batch(context: Context) -> Evidence:
    """Slope in ln B of the log of E|g_B|^2 - |g|^2, batches drawn with replacement; 20 independent repetitions."""
    rows = per_sample_gradients(context, 256)
    gram = rows @ rows.T
    square, generator = float(gram.mean()), context.generator("batches")
    sizes = (1, 2, 4, 8, 16, 32, 64)
    n = context.design("n_draws", 400, 4000)
    bias = np.empty((20, len(sizes)))
    for k, size in enumerate(sizes):
        drawn = torch.randint(len(rows), (20 * n, size), generator=generator)
        each = torch.full(drawn.shape, 1 / size, dtype=F64)
        shares = torch.zeros(20 * n, len(rows), dtype=F64).scatter_add_(1, drawn, each)
        bias[:, k] = ((shares @ gram * shares).sum(1) - square).view(20, n).mean(1)
    spread = float(gram.diagonal().mean()) - square
    axes = Axes("batch size B", "E|g_B|^2 - |g|^2", True, True)
    theory = [Curve(size, spread / size, "tr S / B") for size in sizes]
    found = slopes(np.log(sizes), np.log(bias))
    return mean_evidence("slope of ln bias in ln B", found, mean_points(sizes, bias), theory, axes)


def averages(context: Context, n_kept: int, betas: Sequence[float]) -> tuple[Tensor, Tensor, float, float]:
    """RMSprop's G at a fixed theta, in 512 chains of minibatches of 16, and the squares it averages.

    Returns:
        G (n_kept, betas, 512), kept each time it has forgotten the last one kept; g_B^2 of every step (steps, 512);
        both summed over 16 numbers of theta. The exact |g|^2 and the exact bias of |g_B|^2.
    """
    rows = per_sample_gradients(context, 256)
    rows = rows[:, rows.var(0).topk(16).indices].contiguous()
    generator = context.generator("batches")
    thetas = [torch.zeros(512, 16, dtype=F64) for _ in betas]
    groups = [{"params": [theta], "beta": beta} for theta, beta in zip(thetas, betas, strict=True)]
    optimizer = RMSprop(groups, lr=0.0)
    memory = math.ceil(math.log(0.01) / math.log(max(betas)))
    G, squares = [], []
    for n in range((n_kept + 2) * memory):  # the start at G = 0 is forgotten to 1e-6 before the first is kept
        g = rows[torch.randint(len(rows), (512, 16), generator=generator)].mean(1)
        take_step(optimizer, thetas, [g] * len(betas))
        squares.append(g.square().sum(1))
        if n >= 3 * memory - 1 and (n + 1) % memory == 0:
            G.append(torch.stack([optimizer.state[theta]["G"].sum(1) for theta in thetas]))
    spread = rows.var(0, correction=0).sum()
    return torch.stack(G), torch.stack(squares), float(rows.mean(0).square().sum()), float(spread / 16)


def bias_after_average(context: Context) -> Evidence:
    """Bias of G at lam = .9 over the bias of one minibatch's square, mean over chains."""
    betas = (0.5, 0.8, 0.9)
    G, squares, exact, bias = averages(context, context.design("n_kept", 8, 80), betas)
    found = (torch.cat([squares.mean(0, keepdim=True), G.mean(0)]) - exact).T / bias  # (chains, 1 + betas)
    axes = Axes("lam; 0: one minibatch", "bias / exact bias of |g_B|^2")
    return mean_evidence(
        "bias of G / bias of one minibatch's square", found[:, -1], mean_points((0.0, *betas), found), axes=axes
    )


def variance_after_average(context: Context) -> Evidence:
    """Var G at lam = .9 over Var |g_B|^2, from 16 independent groups of 32 chains."""
    betas = (0.5, 0.8, 0.9)
    G, squares, _, _ = averages(context, context.design("n_kept", 40, 400), betas)
    below = squares.reshape(-1, 16, 32).var((0, 2))
    above = G.reshape(-1, len(betas), 16, 32).var((0, 3))  # (betas, groups)
    ratios = [jackknife(torch.stack([one, below], 1).numpy(), lambda mean: float(mean[0] / mean[1])) for one in above]
    points = [Point(beta, one.estimate, one.low, one.high) for beta, one in zip(betas, ratios, strict=True)]
    theory = [
        Curve(beta, (1 - beta) / (1 + beta), "(1 - lam) / (1 + lam)") for beta in np.linspace(0.4, 0.95, 12).tolist()
    ]
    last = ratios[-1]
    axes = Axes("lam", "Var G / Var |g_B|^2", log_y=True)
    name = "Var G / Var |g_B|^2 at lam = .9"
    return Evidence(name, last.estimate, last.low, last.high, last.n, tuple(points), tuple(theory), axes)


claim = partial(Claim, article=6234, question="6234-adaptive")
CLAIMS = (
    claim(
        id="6234-A5.1",
        statement="The square of a minibatch's gradient is too large for the whole gradient's, by an amount ~ 1 / B.",
        statement_zh="小批量梯度的平方高估全量梯度的平方，偏差按 1/B 下降。",
        formula=r"\mathbb{E}\lVert g_B\rVert^2 - \lVert g\rVert^2 = \operatorname{tr}\Sigma / B",
        probe=square_bias_in_batch,
        rule="equals",
        expected=-1,
        tolerance=0.03,
        reason="An exponent off by 0.03 is 13 % over a batch grown by 64.",
        source="the moving average as a correction, before equation (2)",
    ),
    claim(
        id="6234-A5.2",
        statement="The moving average corrects the bias of the squared gradient: at least a tenth of it goes.",
        statement_zh="滑动平均可以修正小批量梯度平方的偏差：至少消去十分之一。",
        formula=r"\mathbb{E}G - g^2 \le 0.9\,(\mathbb{E}g_B^2 - g^2)",
        probe=bias_after_average,
        rule="at most",
        expected=0.9,
        tolerance=0,
        reason="Less than a tenth, a twentieth of the rate, would be no correction.",
        source="the moving average as a correction, before equation (2)",
    ),
    claim(
        id="6234-A5.2c",
        statement="The moving average leaves the whole bias of the squared gradient in place.",
        statement_zh="滑动平均完全不改变小批量梯度平方的偏差。",
        formula=r"\mathbb{E}G - g^2 = \mathbb{E}g_B^2 - g^2",
        probe=bias_after_average,
        rule="equals",
        expected=1,
        tolerance=0.05,
        reason="Five per cent of the bias moves the rate by 2.5 % at most.",
        source="the moving average as a correction, before equation (2)",
    ),
    claim(
        id="6234-A5.3",
        statement="What the moving average takes away is variance: (1 - lam) / (1 + lam) is left, a 19th at lam = .9.",
        statement_zh="滑动平均消去的是方差：变为原来的 (1-λ)/(1+λ)，λ = 0.9 时为 1/19。",
        formula=r"\operatorname{Var}G = \frac{1-\lambda}{1+\lambda}\operatorname{Var}g_B^2",
        probe=variance_after_average,
        rule="equals",
        expected=1 / 19,
        tolerance=0.15 / 19,
        reason="A memory off by a seventh. 1 - lam, a plausible wrong law, would be nearly twice as much.",
        source="the moving average as a correction, before equation (2)",
    ),
)
