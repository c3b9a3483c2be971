"""Claims on a rate for each number of theta against one rate for all (A4).

Legend: R repetitions, D numbers of theta, L rates.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from experiments.claims.context import Context
from experiments.claims.registry import Axes, Claim, Evidence
from experiments.claims.repetitions import F64, mean_evidence, mean_points
from experiments.claims.softmax_regression import ln_excess


def rotations(n: int, d: int, angle: float, generator: torch.Generator) -> Tensor:
    """Random rotations (n, d, d): `angle` of the way, from 0 to 1, along a geodesic from the identity."""
    skew = torch.randn(n, d, d, generator=generator, dtype=F64) * math.pi / math.sqrt(d)
    return torch.matrix_exp(angle * (skew - skew.mT) / 2)


def descend(hessian: Tensor, start: Tensor, rates: Tensor, steps: int, scalar: bool) -> tuple[Tensor, Tensor]:
    """RMSprop on quadratics, for all repetitions and rates at once.

    The optimizer's scalar variant has one G a group, hence one call a repetition and rate: 30 times slower. That its
    steps are these is a test.

    Args:
        hessian: (R, D, D).
        start: (R, D).
        rates: (L,).
        steps: to take.
        scalar: one rate for all numbers of theta, from |g|^2.

    Returns:
        Mean loss over the last tenth of the steps, and mean cosine of gradient and step over all of them, (R, L).
    """
    theta = start[:, None].repeat(1, len(rates), 1)
    G: Tensor | float = 0.0
    loss, cosine = torch.zeros(2, *theta.shape[:2], dtype=F64)
    n_late = steps // 10
    for n in range(steps):
        g = theta @ hessian
        square = (g * g).sum(-1, keepdim=True) if scalar else g * g
        G = 0.99 * G + 0.01 * square
        step = rates[:, None] * g / (G + 1e-8).sqrt()
        if n >= steps - n_late:
            loss += (theta * g).sum(-1) / 2 / n_late
        if n % 10 == 0:
            cosine += torch.nn.functional.cosine_similarity(g, step, dim=-1, eps=1e-300) * 10 / steps
        theta = theta - step
    return loss, cosine


def compare(context: Context, n: int, steps: int, angle: float) -> tuple[Tensor, Tensor, Tensor]:
    """Decades (n,) by which the vector rate ends below the scalar, each at its best rate; cosines (n,) of both."""
    d = 20
    generator = context.generator("quadratics")
    turn = rotations(n, d, angle, generator)
    hessian = turn @ torch.diag(torch.logspace(-4, 0, d, dtype=F64)) @ turn.mT
    start = torch.randn(n, d, generator=generator, dtype=F64)
    rates = torch.logspace(-3.5, -0.5, 13, dtype=F64)
    found = []
    for scalar in (True, False):
        loss, cosine = descend(hessian, start, rates, steps, scalar)
        lowest, place = loss.min(1)
        found.append((lowest.log10(), cosine.gather(1, place[:, None])[:, 0]))
    (scalar_loss, scalar_cosine), (vector_loss, vector_cosine) = found
    return scalar_loss - vector_loss, scalar_cosine, vector_cosine


def advantage(context: Context, angle: float) -> Evidence:
    """Decades by which the vector rate ends lower on quadratics turned away from the axes by `angle`.

    The number of steps is part of the statement: once |g| is below the root of epsilon both fall exponentially, and by
    step 5,000 the advantage along the axes is gone (0.1 decades with an interval from -0.6 to 0.9).
    """
    gain, _, _ = compare(context, context.design("n_turns", 48, 200), context.design("steps", 1500, 1500), angle)
    return mean_evidence("decades of loss by which the vector rate ends lower", gain)


def advantage_by_angle(context: Context) -> Evidence:
    """What a full random turn takes away from the advantage along the axes, in decades."""
    angles = (0.0, 0.01, 0.03, 0.1, 1.0)
    n, steps = context.design("n_turns", 24, 200), context.design("steps", 1500, 1500)
    gains = np.stack([compare(context, n, steps, angle)[0].numpy() for angle in angles], axis=1)
    axes = Axes("angle, share of a full random turn", "decades by which the vector rate ends lower")
    name = "advantage along the axes less that after a full turn, decades"
    return mean_evidence(name, gains[:, 0] - gains[:, -1], mean_points(angles, gains), axes=axes)


def advantage_pixels(context: Context) -> Evidence:
    """Decades by which the vector rate is lower after 200 steps of softmax regressions on digits."""
    marks = (10, 20, 50, 100, 200)
    n = context.design("n_sets", 12, 60)
    gain = (ln_excess(context, "scalar", n, marks) - ln_excess(context, "vector", n, marks)) / math.log(10)
    axes = Axes("steps", "decades of loss by which the vector rate is lower", log_x=True)
    name = f"decades of excess loss by which the vector rate is lower after {marks[-1]} steps"
    return mean_evidence(name, gain[:, -1], mean_points(marks, gain), axes=axes)


def cosine(context: Context, scalar: bool) -> Evidence:
    """Mean cosine of step and gradient on randomly turned quadratics, at the best rate."""
    _, *cosines = compare(context, context.design("n_turns", 16, 100), context.design("steps", 500, 5000), 1.0)
    return mean_evidence("cosine of step and gradient", cosines[0 if scalar else 1])


claim = partial(Claim, article=6234, question="6234-adaptive")
CLAIMS = (
    claim(
        id="6234-A4.1",
        statement="A rate for each number beats one for all: on quadratics turned anyhow it halves the loss or better.",
        statement_zh="逐元素学习率优于单一学习率：在任意朝向的二次函数上，最终损失至多为一半。",
        formula=r"\log_{10}(L_{\text{scalar}}/L_{\text{vector}}) \ge 0.3",
        probe=partial(advantage, angle=1.0),
        rule="at least",
        expected=0.3,
        tolerance=0,
        reason="Less than a factor of 2 in the loss is lost in how finely rates are searched (ratios of 1.8 and 2).",
        source="the choice of a vector rate, after equation (2)",
    ),
    claim(
        id="6234-A4.1c",
        statement="On a quadratic along theta's axes rates for each number divide the loss by 10 in 1500 steps.",
        statement_zh="当二次函数的主轴与参数轴重合时，逐元素学习率训练 1500 步后的损失至多为十分之一。",
        formula=r"\log_{10}(L_{\text{scalar}}/L_{\text{vector}}) \ge 1",
        probe=partial(advantage, angle=0.0),
        rule="at least",
        expected=1,
        tolerance=0,
        reason="A factor of 10 is far beyond how finely rates are searched.",
        source="the choice of a vector rate, after equation (2)",
    ),
    claim(
        id="6234-A4.2",
        statement="A rate for each number beats one for all: on digits it halves the excess loss in 200 steps.",
        statement_zh="在手写数字上逐元素学习率优于单一学习率：训练 200 步后超额损失至多为一半。",
        formula=r"\log_{10}(L_{\text{scalar}}/L_{\text{vector}}) \ge 0.3",
        probe=advantage_pixels,
        rule="at least",
        expected=0.3,
        tolerance=0,
        reason="Less than a factor of 2 in the loss is lost in how finely rates are searched (ratios of 1.8 and 2).",
        source="the choice of a vector rate, after equation (2)",
    ),
    claim(
        id="6234-A4.3",
        statement="Rates for each number gain from aligned axes: turning these costs them a factor 10 in 1500 steps.",
        statement_zh="逐元素学习率的优势来自坐标轴对齐：随机旋转后，1500 步时的优势缩小十倍以上。",
        formula=r"\Delta_0 - \Delta_1 \ge 1, \quad \Delta = \log_{10}(L_{\text{scalar}}/L_{\text{vector}})",
        probe=advantage_by_angle,
        rule="at least",
        expected=1,
        tolerance=0,
        reason="As A4.1c.",
        source="the choice of a vector rate, after equation (2)",
    ),
    claim(
        id="6234-A4.4",
        statement="One rate for all, from the norm of the gradient, keeps the direction of the gradient.",
        statement_zh="由梯度模长得到的单一学习率保持梯度方向。",
        formula=r"\cos(\Delta\theta, -\nabla L) = 1",
        probe=partial(cosine, scalar=True),
        rule="equals",
        expected=1,
        tolerance=1e-09,
        reason="Rounding only.",
        source="the choice of a vector rate, after equation (2)",
    ),
    claim(
        id="6234-A4.5",
        statement="A rate for each number changes the direction: step and gradient are more than 18 degrees apart.",
        statement_zh="逐元素学习率会改变方向：步子与梯度的夹角超过 18 度。",
        formula=r"\cos(\Delta\theta, -\nabla L) \le 0.95",
        probe=partial(cosine, scalar=False),
        rule="at most",
        expected=0.95,
        tolerance=0,
        reason="A cosine of 0.95 is 18 degrees, a turn that shows in any plot.",
        source="the choice of a vector rate, after equation (2)",
    ),
)
