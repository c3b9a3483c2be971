"""Claims on the limit without memory, the first steps, and who is ahead first and last (A6, A7)."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch.optim import Optimizer

from experiments.claims.context import Context
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from experiments.claims.repetitions import F64, exact_evidence, mean_evidence, mean_points, slopes, take_step
from experiments.claims.softmax_regression import ln_excess, softmax_gradient, subsets
from lightning_modules.optimizers.adagrad import AdaGrad
from lightning_modules.optimizers.adam import Adam
from lightning_modules.optimizers.rmsprop import RMSprop


def sign_limit(context: Context) -> Evidence:
    """Cosine of RMSprop's step and -sign(g) without memory, on minibatches of digits; the plot has memories too."""
    betas = (0.0, 0.3, 0.5, 0.9, 0.99)
    x, y = (part[0] for part in subsets(context, 1, 512))
    generator = context.generator("batches")
    thetas = list((0.1 * torch.randn(64, 10, generator=generator, dtype=F64)).repeat(len(betas), 1, 1).unbind())
    groups = [{"params": [theta], "beta": beta} for theta, beta in zip(thetas, betas, strict=True)]
    optimizer = RMSprop(groups, lr=1e-3, epsilon=0.0)
    cosines = torch.zeros(len(betas), dtype=F64)
    steps = context.design("steps", 200, 2000)
    for n in range(steps):
        rows = torch.randint(len(x), (32,), generator=generator)
        before = torch.stack(thetas)
        g = softmax_gradient(before, x[rows], y[rows])
        take_step(optimizer, thetas, g.unbind())
        if n >= steps // 2:
            move = (before - torch.stack(thetas)).flatten(1)
            cosines += torch.nn.functional.cosine_similarity(move, g.sign().flatten(1)) / (steps - steps // 2)
    points = [Point(beta, float(cosine)) for beta, cosine in zip(betas, cosines, strict=True)]
    axes = Axes("lam", "cosine of step and -sign(g)")
    return exact_evidence("cosine of step and -sign(g) at lam = 0", points[0].y, steps - steps // 2, points, axes=axes)


def first_step(context: Context) -> Evidence:
    """Length of the first step / rate at lam = .99, the largest for random gradients; the plot has other memories."""
    betas = (0.0, 0.5, 0.9, 0.99, 0.999)
    g = torch.randn(1000, generator=context.generator("gradients"), dtype=F64)
    thetas = [torch.zeros(1000, dtype=F64) for _ in betas]
    groups = [{"params": [theta], "beta": beta} for theta, beta in zip(thetas, betas, strict=True)]
    take_step(RMSprop(groups, lr=1e-3, epsilon=0.0), thetas, [g] * len(betas))
    lengths = [float(theta.abs().max()) / 1e-3 for theta in thetas]
    points = [Point(1 - beta, length) for beta, length in zip(betas, lengths, strict=True)]
    theory = [Curve(1 - beta, (1 - beta) ** -0.5, "1 / sqrt(1 - lam)") for beta in betas]
    axes = Axes("1 - lam", "length of the first step / rate", True, True)
    return exact_evidence("length of the first step / rate at lam = .99", lengths[3], 1000, points, theory, axes)


def grid_distance(context: Context) -> Evidence:
    """Largest distance, in rates, of positions from the grid start + k rate, on digits without memory."""
    x, y = (part[0] for part in subsets(context, 1, 200))
    start = 0.1 * torch.randn(64, 10, generator=context.generator("start"), dtype=F64)
    theta, rate, largest = start.clone(), 1e-2, 0.0
    optimizer = RMSprop([theta], lr=rate, beta=0.0, epsilon=0.0)
    n = context.design("steps", 300, 3000)
    for _ in range(n):
        take_step(optimizer, [theta], [softmax_gradient(theta, x, y)])
        k = (theta - start) / rate
        largest = max(largest, float((k - k.round()).abs().max()))
    return exact_evidence("largest distance from the grid / rate", largest, n * 640)


def _step_ratios(context: Context, steps: int) -> list[float]:
    """Mean length of RMSprop's steps over that of Adam's without momentum, at every step; same noisy gradients."""
    thetas = [torch.zeros(1000, dtype=F64) for _ in range(2)]
    optimizers: list[Optimizer] = [
        RMSprop([thetas[0]], lr=1e-3, beta=0.99, epsilon=1e-8, epsilon_place="outside"),
        Adam([thetas[1]], lr=1e-3, betas=(0.0, 0.99), epsilon=1e-8),
    ]
    generator, ratios = context.generator("gradients"), []
    for _ in range(steps):
        g = 1 + torch.randn(1000, generator=generator, dtype=F64)
        before = [theta.clone() for theta in thetas]
        for optimizer, theta in zip(optimizers, thetas, strict=True):
            take_step(optimizer, [theta], [g])
        moved = [float((theta - old).abs().mean()) for theta, old in zip(thetas, before, strict=True)]
        ratios.append(moved[0] / moved[1])
    return ratios


def adam(context: Context, late: bool) -> Evidence:
    """RMSprop's step over Adam's without momentum: the first, or one when the start is forgotten."""
    ratios = _step_ratios(context, context.design("steps", 1500, 3000))
    points = [Point(n, ratios[n - 1]) for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if n <= len(ratios)]
    theory = [Curve(point.x, (1 - 0.99**point.x) ** -0.5, "1 / sqrt(1 - lam^n)") for point in points]
    axes = Axes("step n", "step of RMSprop / step of Adam without momentum", True, True)
    name = f"step {len(ratios) if late else 1} of RMSprop / of Adam with beta1 = 0"
    return exact_evidence(name, ratios[-1 if late else 0], 1000, points, theory, axes)


def lead_at_first(context: Context) -> Evidence:
    """ln(excess loss of SGD / of RMSprop) after 10 steps."""
    n = context.design("n_sets", 24, 60)
    marks = (1, 2, 5, 10)
    lead = ln_excess(context, "sgd", n, marks) - ln_excess(context, "vector", n, marks)
    axes = Axes("steps", "ln(excess loss of SGD / of RMSprop), each at its best rate", log_x=True)
    name = f"ln(excess loss of SGD / of RMSprop) after {marks[-1]} steps"
    return mean_evidence(name, lead[:, -1], mean_points(marks, lead), axes=axes)


def lag_at_last(context: Context) -> Evidence:
    """ln(excess loss of RMSprop / of SGD) at the last mark."""
    marks = (10, 20, 50, 100, 200, 500)
    n = context.design("n_sets", 10, 60)
    lag = ln_excess(context, "vector", n, marks) - ln_excess(context, "sgd", n, marks)
    axes = Axes("steps", "ln(excess loss of RMSprop / of SGD), each at its best rate", log_x=True)
    equal = [Curve(mark, 0.0, "equal") for mark in (marks[0], marks[-1])]
    name = f"ln(excess loss of RMSprop / of SGD) after {marks[-1]} steps"
    return mean_evidence(name, lag[:, -1], mean_points(marks, lag), equal, axes)


def shrinking(context: Context, forgets: bool) -> Evidence:
    """Slope of ln |step| in ln n from step 100 on, on theta^2 / 2 with unit gradient noise; 20 sets of 50 numbers.

    RMSprop forgets the gradients that AdaGrad sums.
    """
    steps = context.design("steps", 3000, 100_000)
    theta = torch.zeros(20, 50, dtype=F64)
    optimizer = RMSprop([theta], lr=1e-2, beta=0.9) if forgets else AdaGrad([theta], lr=1e-2)
    generator = context.generator("noise")
    marks = np.unique(np.logspace(2, math.log10(steps), 30).round())
    lengths = []
    for n in range(1, steps + 1):
        before = theta.clone()
        take_step(optimizer, [theta], [theta + torch.randn(theta.shape, generator=generator, dtype=F64)])
        if n in marks:
            lengths.append((theta - before).abs().mean(1))
    found = torch.stack(lengths, 1).numpy()
    axes = Axes("step n", "mean length of a step", True, True)
    estimates = slopes(np.log(marks), np.log(found))
    return mean_evidence("slope of ln |step| in ln n", estimates, mean_points(marks, found), axes=axes)


claim = partial(Claim, article=6234, question="6234-adaptive")
CLAIMS = (
    claim(
        id="6234-A6.1",
        statement="Without memory RMSprop is sign descent.",
        statement_zh="没有记忆(λ = 0)时，RMSprop 就是符号下降。",
        formula=r"\lambda \to 0: \; \Delta\theta = -\tilde\gamma \operatorname{sign}(g)",
        probe=sign_limit,
        rule="equals",
        expected=1,
        tolerance=1e-09,
        reason="Rounding only.",
        source="sign descent, before equation (2)",
    ),
    claim(
        id="6234-A6.2",
        statement="With memory a step is still about a rate long, the first one too.",
        statement_zh="有记忆时，每一步（包括第一步）的长度仍约等于学习率。",
        formula=r"\lvert\Delta\theta_1\rvert \approx \tilde\gamma",
        probe=first_step,
        rule="equals",
        expected=1,
        tolerance=0.5,
        reason='"About" is read as within one half.',
        source="equation (2)",
    ),
    claim(
        id="6234-A6.2c",
        statement="As G starts at 0, the first step is 1 / sqrt(1 - lam) rates long: 10 at lam = .99.",
        statement_zh="由于 G 从 0 开始，第一步长为学习率的 1/√(1-λ) 倍：λ = 0.99 时为 10 倍。",
        formula=r"\lvert\Delta\theta_1\rvert = \tilde\gamma/\sqrt{1-\lambda}",
        probe=first_step,
        rule="equals",
        expected=10,
        tolerance=0.01,
        reason="Rounding, and room for an eps of 1e-8.",
        source="equation (2), G from 0",
    ),
    claim(
        id="6234-A6.3",
        statement="Without memory theta searches a grid: each position lies a whole number of rates from the start.",
        statement_zh="没有记忆时，θ 如同网格搜索：每个位置与起点的距离都是学习率的整数倍。",
        formula=r"(\theta_n - \theta_0)/\tilde\gamma \in \mathbb{Z}^D",
        probe=grid_distance,
        rule="at most",
        expected=0,
        tolerance=1e-06,
        reason="Rounding of 300 additions, in rates.",
        source="sign descent, before equation (2)",
    ),
    claim(
        id="6234-A6.4",
        statement="Adam is RMSprop and momentum: without momentum it takes the steps of RMSprop.",
        statement_zh="Adam 就是 RMSprop 加动量：去掉动量后每步与 RMSprop 相同。",
        formula=r"\Delta\theta^{\text{RMSprop}} = \Delta\theta^{\text{Adam}}, \; \beta_1 = 0",
        probe=partial(adam, late=False),
        rule="equals",
        expected=1,
        tolerance=0.05,
        reason="Five per cent of a learning rate.",
        source="Adam, after equation (2)",
    ),
    claim(
        id="6234-A6.4c",
        statement="Without momentum Adam takes RMSprop's steps once the start, a bias of 1 - lam^n in G, is forgotten.",
        statement_zh="去掉动量后，待起点造成的偏差（G 中的因子 1-λⁿ）消失，Adam 与 RMSprop 相同。",
        formula=r"\Delta\theta^{\text{RMSprop}} = \Delta\theta^{\text{Adam}} / \sqrt{1-\lambda^n}, \; \beta_1 = 0",
        probe=partial(adam, late=True),
        rule="equals",
        expected=1,
        tolerance=1e-05,
        reason="lam^1500 is 3e-7.",
        source="Adam, after equation (2)",
    ),
    claim(
        id="6234-A7.1",
        statement="Adaptive methods are faster at first: on digits RMSprop leads SGD after 10 steps, at best rates.",
        statement_zh="自适应方法起初更快：手写数字训练 10 步后 RMSprop 领先于 SGD（各用最优学习率）。",
        formula=r"L_{\text{SGD}} \ge L_{\text{RMSprop}}, \; n = 10",
        probe=lead_at_first,
        rule="at least",
        expected=0,
        tolerance=0,
        reason="Ahead is ahead; the interval says whether it is chance.",
        source="kexue.fm/archives/6261 on adaptive methods",
    ),
    claim(
        id="6234-A7.2",
        statement="Adaptive methods are worse at last: on digits RMSprop trails SGD after 500 steps, at best rates.",
        statement_zh="自适应方法最终更差：手写数字训练 500 步后 RMSprop 落后于 SGD（各用最优学习率）。",
        formula=r"L_{\text{RMSprop}} \ge L_{\text{SGD}}, \; n = 500",
        probe=lag_at_last,
        rule="at least",
        expected=0,
        tolerance=0,
        reason="As A7.1.",
        source="kexue.fm/archives/6261 on adaptive methods",
    ),
    claim(
        id="6234-A7.3",
        statement="RMSprop never stops: under gradient noise its steps stay as long as they were.",
        statement_zh="RMSprop 不会停下：有梯度噪声时，步长始终不减。",
        formula=r"\mathbb{E}\lvert\Delta\theta_n\rvert \propto n^0",
        probe=partial(shrinking, forgets=True),
        rule="equals",
        expected=0,
        tolerance=0.05,
        reason="A slope of 0.05 would shorten steps by a sixth from step 100 to 3000.",
        source="kexue.fm/archives/6261 on RMSprop",
    ),
    claim(
        id="6234-A7.4",
        statement="AdaGrad stops: under gradient noise its steps shrink as 1 / sqrt(n).",
        statement_zh="AdaGrad 会停下：有梯度噪声时，步长按 1/√n 缩短。",
        formula=r"\mathbb{E}\lvert\Delta\theta_n\rvert \propto n^{-1/2}",
        probe=partial(shrinking, forgets=False),
        rule="equals",
        expected=-0.5,
        tolerance=0.05,
        reason="As A7.3.",
        source="kexue.fm/archives/6261 on AdaGrad",
    ),
)
