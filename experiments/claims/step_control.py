"""Claims on the step size as control of the error, the floor it leads to, and the place of epsilon (A1, A2, A3).

RMSprop is G <- lam G + (1 - lam) g^2, theta <- theta - rate g / sqrt(G + eps). Losses are quadratics with curvatures h,
and softmax regressions. Legend: R repetitions, L rates, H curvatures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from experiments.claims.context import Context
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from experiments.claims.repetitions import F64, exact_evidence, mean_evidence, mean_points, slopes, take_step
from experiments.claims.softmax_regression import softmax_gradient, subsets
from lightning_modules.optimizers.rmsprop import RMSprop
from lightning_modules.optimizers.sgd import SGD

Place = Literal["inside", "outside"]


def _norm(theta: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(theta, dim=(-2, -1))
    return norm


def _along_descent(context: Context, steps: int, rates: Tensor) -> tuple[Tensor, Tensor]:
    """Gauge rate |grad L| and error of a step (steps, R, L) at the points of a descent by SGD.

    The error is the embedded one: the distance of Euler's step from Heun's, rate / 2 |grad L(theta - rate g) - g|.
    """
    x, y = subsets(context, 10, 200)
    theta = torch.zeros(10, 64, 10, dtype=F64)
    optimizer = SGD([theta], lr=0.5)
    gauges, errors = [], []
    for _ in range(steps):
        g = softmax_gradient(theta, x, y)
        ahead = softmax_gradient(theta[:, None] - rates[:, None, None] * g[:, None], x[:, None], y[:, None])
        gauges.append(rates * _norm(g)[:, None])
        errors.append(rates / 2 * _norm(ahead - g[:, None]))
        take_step(optimizer, [theta], [g])
    return torch.stack(gauges), torch.stack(errors)


def gauge_follows_error(context: Context) -> Evidence:
    """Correlation of ln error and ln gauge along descents of softmax regressions, at one rate."""
    gauge, error = _along_descent(context, context.design("steps", 120, 600), _rates(1))
    both = torch.stack([gauge, error])[..., 0]  # (2, steps, R)
    correlations = [float(torch.corrcoef(one)[0, 1]) for one in both.log().unbind(-1)]
    points = [Point(*pair) for pair in both[:, ::5, 0].T.tolist()]
    axes = Axes("gauge rate |grad L|", "error of a step", True, True)
    return mean_evidence("correlation of ln error with ln(rate |grad L|)", correlations, points, axes=axes)


def error_order(context: Context) -> Evidence:
    """Slope of ln error in ln gauge when the rate changes, at the points of descents of softmax regressions."""
    rates = _rates(6)
    gauge, error = _along_descent(context, context.design("steps", 10, 100), rates)
    ln_error = error.log().mean(0).numpy()  # (R, L)
    x = gauge.log().mean((0, 1)).numpy()
    points = [Point(math.exp(u), math.exp(v)) for u, v in zip(x, ln_error.mean(0), strict=True)]
    middle = float(ln_error.mean())
    theory = [Curve(math.exp(u), math.exp(middle + k * (u - x.mean())), f"slope {k}") for k in (1, 2) for u in x]
    axes = Axes("gauge rate |grad L|", "error of a step", True, True)
    return mean_evidence(
        "slope of ln error in ln(rate |grad L|), rate varied", slopes(x, ln_error), points, theory, axes
    )


def _rates(n: int) -> Tensor:
    return torch.logspace(-1, -1 - (n - 1) / 2, n, dtype=F64)


def largest_error(context: Context) -> Evidence:
    """Largest error / gauge over random points of a quadratic, against the exact flow exp(-h rate) theta."""
    n = context.design("n_points", 2000, 200_000)
    generator = context.generator("points")
    h = torch.logspace(-4, 1, 20, dtype=F64)
    theta = torch.randn(n, 20, generator=generator, dtype=F64) / h.sqrt()
    move = 10 ** (6 * torch.rand(n, 1, generator=generator, dtype=F64) - 3)  # the gauge is held at this
    rate = move / (h * theta).norm(dim=1, keepdim=True)
    error = (theta * (torch.expm1(-h * rate) + h * rate)).norm(dim=1, keepdim=True)
    share = (error / move)[:, 0]
    points = [Point(*pair) for pair in zip(rate[:300, 0].tolist(), share[:300].tolist(), strict=True)]
    axes = Axes("rate", "error / gauge", True, True)
    return exact_evidence("largest error / (rate |grad L|)", float(share.max()), n, points, axes=axes)


def equal_errors(context: Context) -> Evidence:
    """Slope in ln |theta| of the ln error of steps of equal length, on a quadratic, against the exact flow."""
    u = np.logspace(-4, -2, context.design("n_points", 21, 201))  # rate h = length / |theta|
    error = (np.expm1(-u) + u) / u  # in units of the length
    points = [Point(1 / one, two) for one, two in zip(u, error, strict=True)]
    theory = [Curve(1 / one, one / 2, "length / (2 |theta|)") for one in u]
    axes = Axes("|theta| / length of a step", "error / length of a step", True, True)
    slope = float(slopes(-np.log(u), np.log(error)[None])[0])
    return exact_evidence("slope of ln error in ln |theta|", slope, len(u), points, theory, axes)


def floors_of(context: Context, steps: int, rates: Sequence[float], h: Tensor) -> np.ndarray:
    """Paths of |theta| (51, L, R, H) of RMSprop on h theta^2 / 2, from random starts; eps is too small to matter.

    On a cycle from a to -a and back G is (h a)^2, so a step, 2 a, is one rate long.
    """
    start = 0.5 + torch.rand(8, len(h), generator=context.generator("start"), dtype=F64)
    thetas = [start.clone() for _ in rates]
    groups = [{"params": [theta], "lr": rate} for theta, rate in zip(thetas, rates, strict=True)]
    optimizer = RMSprop(groups, beta=0.99, epsilon=1e-30)
    path = [torch.stack(thetas)]
    for part in range(50):
        for _ in range(part * steps // 50, (part + 1) * steps // 50):
            take_step(optimizer, thetas, [h * theta for theta in thetas])
        path.append(torch.stack(thetas))
    return torch.stack(path).abs().numpy()


def floor_in_rate(context: Context) -> Evidence:
    """Slope of ln floor in ln rate."""
    rates = (3e-3, 1e-2, 3e-2, 1e-1)
    floors = floors_of(context, context.design("steps", 5000, 20_000), rates, torch.ones(1, dtype=F64))[-1, ..., 0].T
    theory = [Curve(rate, rate / 2, "rate / 2") for rate in rates]
    axes = Axes("rate", "|theta| at the end", True, True)
    found = slopes(np.log(rates), np.log(floors))
    return mean_evidence("slope of ln floor in ln rate", found, mean_points(rates, floors), theory, axes)


def floor_in_curvature(context: Context) -> Evidence:
    """Slope of ln floor in ln curvature, mean over three rates."""
    h, rates = torch.logspace(-2, 2, 9, dtype=F64), (3e-3, 1e-2, 3e-2)
    floors = floors_of(context, context.design("steps", 5000, 20_000), rates, h)[-1]  # (L, R, H)
    points = [
        point for rate, ends in zip(rates, floors, strict=True) for point in mean_points(h, ends, f"rate {rate:g}")
    ]
    theory = [Curve(float(one), rate / 2, f"rate / 2 = {rate / 2:g}") for rate in rates for one in h]
    axes = Axes("curvature h", "|theta| at the end", True, True)
    return mean_evidence("slope of ln floor in ln h", slopes(h.log(), np.log(floors).mean(0)), points, theory, axes)


def floor_size(context: Context) -> Evidence:
    """Floor / rate, mean over two curvatures; the plot has the way there."""
    rate, steps = 1e-2, context.design("steps", 5000, 20_000)
    path = floors_of(context, steps, (rate,), torch.tensor([1.0, 10.0], dtype=F64))[:, 0] / rate  # (51, R, H)
    places = np.linspace(0, steps, 51)
    points = [
        Point(*pair, series=f"h = {h}")
        for k, h in enumerate((1, 10))
        for pair in zip(places.tolist(), path[:, 0, k].clip(1e-3).tolist(), strict=True)
    ]
    theory = [Curve(0, 0.5, "1 / 2"), Curve(steps, 0.5, "1 / 2")]
    axes = Axes("step", "|theta| / rate, at least .001", log_y=True)
    return mean_evidence("|theta| at the end / rate", path[-1].mean(1), points, theory, axes)


def end(context: Context, place: Place) -> Evidence:
    """|theta| / rate at the end of RMSprop with rate 1e-3 and eps 1e-8 on .1 theta^2 / 2, from 1."""
    rate, steps = 1e-3, context.design("steps", 8000, 40_000)
    theta = torch.ones(1, dtype=F64)
    optimizer = RMSprop([theta], lr=rate, beta=0.99, epsilon=1e-8, epsilon_place=place)
    points = []
    for n in range(1, steps + 1):
        take_step(optimizer, [theta], [0.1 * theta])
        if n % max(1, steps // 80) == 0:
            points.append(Point(n, max(float(theta.abs()) / rate, 1e-3)))  # 1e-300 would hide the rest
    axes = Axes("step", "|theta| / rate, at least .001", log_y=True)
    return exact_evidence("|theta| at the end / rate", float(theta.abs()) / rate, 1, points, axes=axes)


def border(context: Context, place: Place) -> Evidence:
    """The largest rate h, in units of sqrt(eps) (inside) or eps (outside), at which a small theta goes to 0.

    n is the size of the grid searched. The plot shows where starts far away end: on a cycle of period 2 a step, 2 a, is
    rate h a / sqrt((h a)^2 + eps) or rate h a / (h a + eps), to be solved for a.
    """
    steps = context.design("steps", 4000, 40_000)
    rate, epsilon, inside = 1e-3, 1e-8, place == "inside"
    unit = math.sqrt(epsilon) if inside else epsilon
    near, far = torch.linspace(1, 3, 2001, dtype=F64), 2 * torch.logspace(-1, 1, 41, dtype=F64)  # rate h / unit
    h = torch.cat([near, far]) * unit / rate
    theta = torch.cat([1e-4 * unit / h[:2001], torch.full((41,), 100 * rate, dtype=F64)])
    start = theta.clone()
    optimizer = RMSprop([theta], lr=rate, beta=0.9, epsilon=epsilon, epsilon_place=place)
    for _ in range(steps):
        take_step(optimizer, [theta], [h * theta])
    shrinks = (theta.abs() < start)[:2001]
    ends = (theta[2001:].abs() / rate).tolist()
    points = [Point(*pair) for pair in zip(far.tolist(), ends, strict=True)]
    theory = [Curve(z, math.sqrt(max(0.0, 0.25 - z**-2)) if inside else max(0.0, 0.5 - 1 / z)) for z in far.tolist()]
    axes = Axes("rate h / sqrt(eps)" if inside else "rate h / eps", "|theta| at the end / rate", log_x=True)
    name = f"largest {axes.x} at which theta goes to 0"
    last = int(shrinks.nonzero().max()) if shrinks.any() else 0
    return exact_evidence(name, float(near[last]), 2001, points, theory, axes)


claim = partial(Claim, article=6234, question="6234-adaptive")
CLAIMS = (
    claim(
        id="6234-A1.1",
        statement="Rate times gradient tells the error of a step: at one rate, both fall together along a descent.",
        statement_zh="学习率乘梯度可以衡量一步的误差：固定学习率时，二者沿下降路径一同变化。",
        formula=r"e \;\text{follows}\; \gamma\lVert\nabla L\rVert",
        probe=gauge_follows_error,
        rule="at least",
        expected=0.9,
        tolerance=0,
        reason="Below a correlation of 0.9, a fifth of what ln error does is not seen in the gauge.",
        source="the text's error control",
    ),
    claim(
        id="6234-A1.2",
        statement="The error of a step is proportional to rate times gradient, whichever of the two changes.",
        statement_zh="一步的误差与学习率乘梯度成正比，无论变的是哪一个。",
        formula=r"e \propto \gamma\lVert\nabla L\rVert",
        probe=error_order,
        rule="equals",
        expected=1,
        tolerance=0.05,
        reason="Slopes are known to three digits here; orders differ by whole numbers.",
        source="the text's error control",
    ),
    claim(
        id="6234-A1.2c",
        statement="When the rate changes, the error of a step goes with its square.",
        statement_zh="学习率变化时，一步的误差按其平方变化。",
        formula=r"e = \tfrac12 \gamma^2 \lVert L^{\prime\prime} L^\prime \rVert + O(\gamma^3)",
        probe=error_order,
        rule="equals",
        expected=2,
        tolerance=0.05,
        reason="As A1.2.",
        source="the text's error control; the remainder of Euler's step",
    ),
    claim(
        id="6234-A1.3",
        statement="With rate times gradient held at a length, no step on a convex quadratic errs by more than that.",
        statement_zh="若把学习率乘梯度固定为某一长度，在凸二次函数上每步误差都不超过这一长度。",
        formula=r"\gamma\lVert\nabla L\rVert \le \tilde\gamma \;\Rightarrow\; e \le \tilde\gamma",
        probe=largest_error,
        rule="at most",
        expected=1,
        tolerance=0,
        reason="A bound, and no figure is drawn that could miss it.",
        source="the text's error control",
    ),
    claim(
        id="6234-A1.4",
        statement="Steps of equal length are each just good enough: their errors are alike wherever they are taken.",
        statement_zh="等长的步子每步都恰好够用：不论在何处，误差都差不多。",
        formula=r"\gamma = \tilde\gamma/\lVert\nabla L\rVert \;\Rightarrow\; e \approx \text{const}",
        probe=equal_errors,
        rule="equals",
        expected=0,
        tolerance=0.05,
        reason="A slope of 0.05 would let errors differ by a quarter over the hundredfold range of distances.",
        source="the text's error control",
    ),
    claim(
        id="6234-A1.4c",
        statement="On a quadratic, the error of steps of equal length is ~ 1 / distance: too careful far away.",
        statement_zh="在二次函数上，等长步子的误差与到极小点的距离成反比：离得远时过于谨慎。",
        formula=r"e \approx \tilde\gamma^2 / (2\lvert\theta\rvert)",
        probe=equal_errors,
        rule="equals",
        expected=-1,
        tolerance=0.05,
        reason="As A1.4; the next term of the series moves the slope by less than 0.01 over this range.",
        source="the text's error control",
    ),
    claim(
        id="6234-A2.1",
        statement="RMSprop with a fixed rate ends at a distance from the minimum that is proportional to the rate.",
        statement_zh="学习率固定时，RMSprop 停留处到极小点的距离与学习率成正比。",
        formula=r"\lvert\theta_\infty\rvert \propto \tilde\gamma",
        probe=floor_in_rate,
        rule="equals",
        expected=1,
        tolerance=0.01,
        reason="The recursion has no noise; only its last, fading oscillation is left.",
        source="equation (2), its cycle of period 2",
    ),
    claim(
        id="6234-A2.2",
        statement="The distance from the minimum at which RMSprop ends does not depend on the curvature.",
        statement_zh="RMSprop 停留处到极小点的距离与曲率无关。",
        formula=r"\partial \ln\lvert\theta_\infty\rvert / \partial \ln h = 0",
        probe=floor_in_curvature,
        rule="equals",
        expected=0,
        tolerance=0.01,
        reason="As A2.1.",
        source="equation (2), its cycle of period 2",
    ),
    claim(
        id="6234-A2.3",
        statement="With a fixed rate RMSprop ends half a rate away from the minimum.",
        statement_zh="学习率固定时，RMSprop 停留处到极小点的距离等于学习率的一半。",
        formula=r"\lvert\theta_\infty\rvert = \tilde\gamma/2",
        probe=floor_size,
        rule="equals",
        expected=0.5,
        tolerance=0.005,
        reason="One per cent; see A2.1.",
        source="equation (2), its cycle of period 2",
    ),
    claim(
        id="6234-A3.1",
        statement="With eps inside the root RMSprop converges where the rate is small: here rate h = sqrt(eps).",
        statement_zh="ε 在根号内时，只要学习率够小 RMSprop 就收敛：此处 γ̃h = √ε。",
        formula=r"\theta_n \to 0 \;\text{for}\; \tilde\gamma h < 2\sqrt\varepsilon",
        probe=partial(end, place="inside"),
        rule="at most",
        expected=0,
        tolerance=1e-06,
        reason="A millionth of a rate: far below the floor of half a rate, far above rounding.",
        source="equation (2)",
    ),
    claim(
        id="6234-A3.2",
        statement="With eps added to the root, as torch.optim.RMSprop has it, the same settings stall at half a rate.",
        statement_zh="若 ε 加在根号外（torch.optim.RMSprop 的写法），同样设置下停在学习率的一半处。",
        formula=r"\lvert\theta_\infty\rvert = \tilde\gamma/2 - \varepsilon/h",
        probe=partial(end, place="outside"),
        rule="equals",
        expected=0.5,
        tolerance=0.005,
        reason="One per cent; eps / h is 0.02 % of it here.",
        source="equation (2) with eps outside the root",
    ),
    claim(
        id="6234-A3.3",
        statement="With eps inside the root, RMSprop converges on a quadratic as long as rate h < 2 sqrt(eps).",
        statement_zh="ε 在根号内时，RMSprop 在二次函数上收敛的条件是 γ̃h < 2√ε。",
        formula=r"\tilde\gamma h / \sqrt\varepsilon < 2",
        probe=partial(border, place="inside"),
        rule="equals",
        expected=2,
        tolerance=0.002,
        reason="Two steps of the grid that is searched: 0.1 %.",
        source="equation (2), linearised at the minimum",
    ),
    claim(
        id="6234-A3.4",
        statement="With eps outside the root the limit is rate h < 2 eps: with eps = 1e-8, ten thousand times lower.",
        statement_zh="ε 在根号外时条件变为 γ̃h < 2ε:当 ε = 1e-8 时低一万倍。",
        formula=r"\tilde\gamma h / \varepsilon < 2",
        probe=partial(border, place="outside"),
        rule="equals",
        expected=2,
        tolerance=0.002,
        reason="As A3.3.",
        source="equation (2) with eps outside the root, linearised at the minimum",
    ),
)
