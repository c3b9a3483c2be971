"""Claims on optimizers as integrators of differential equations: order, accuracy, time a step (S4).

The loss x^2 / 2 + 2 y^2 + x^2 y^2 is not quadratic, smooth everywhere, and everything here is a function of nothing
random. gamma is the step in time, n the number of steps to the time TIME.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch.optim import Optimizer

from experiments.claims.context import Context
from experiments.claims.intervals import exact, slope
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from lightning_modules.optimizers.momentum import Momentum
from lightning_modules.optimizers.nesterov import Nesterov
from lightning_modules.optimizers.sgd import SGD

TIME = 4.0
FRICTION = 1.0
START = (1.0, 0.8)
STEPS = (100, 200, 400, 800)


def gradient(theta: np.ndarray) -> np.ndarray:
    """Of the loss at (x, y)."""
    x, y = theta
    return np.array([x + 2 * x * y * y, 4 * y + 2 * x * x * y])


def hessian(theta: np.ndarray) -> np.ndarray:
    """Of the loss at (x, y)."""
    x, y = theta
    return np.array([[1 + 2 * y * y, 4 * x * y], [4 * x * y, 4 + 2 * x * x]])


@functools.lru_cache(maxsize=8)
def solution(equation: str, gamma: float = 0.0) -> tuple[float, float]:
    """The place at TIME of a flow from START at rest, to 1e-12.

    Args:
        equation: gradient = (4); newton = (10); modified = gradient flow of L + gamma / 4 |grad L|^2.
        gamma: of the modified flow.
    """
    from scipy.integrate import solve_ivp

    def derivative(_: float, state: np.ndarray) -> np.ndarray:
        theta = state[:2]
        if equation == "newton":
            return np.concatenate([state[2:], -FRICTION * state[2:] - gradient(theta)])
        slope_of_flow: np.ndarray = -gradient(theta) - gamma / 2 * hessian(theta) @ gradient(theta)
        return slope_of_flow

    start = [*START, 0.0, 0.0] if equation == "newton" else list(START)
    found = solve_ivp(derivative, (0, TIME), start, method="DOP853", rtol=1e-12, atol=1e-13)
    return float(found.y[0, -1]), float(found.y[1, -1])


def schemes(gamma: float) -> dict[str, tuple[str, Callable[..., Optimizer]]]:
    """The optimizers under test at a step gamma in time, with the equation each integrates."""
    leapfrog = partial(Momentum, friction=FRICTION, time_step=gamma)
    nesterov = partial(Nesterov, lr=gamma**2, beta=1 - FRICTION * gamma)  # (18)
    return {
        "gradient descent": ("gradient", partial(SGD, lr=gamma)),
        "gradient descent, modified flow": ("modified", partial(SGD, lr=gamma)),
        "leapfrog": ("newton", leapfrog),
        "leapfrog, half-step start": ("newton", partial(leapfrog, half_step_start=True)),
        "Nesterov": ("newton", nesterov),
        "half Nesterov": ("newton", partial(nesterov, form="half")),
        "implicit Nesterov": ("newton", partial(nesterov, form="implicit", tolerance=1e-9)),
    }


def distance(scheme: str, n_steps: int) -> float:
    """Distance at TIME of an optimizer's path from its equation's solution."""
    gamma = TIME / n_steps
    equation, build = schemes(gamma)[scheme]
    theta = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = build([theta])

    def closure() -> float:
        theta.grad = torch.from_numpy(gradient(theta.detach().numpy()))
        return 0.0

    for _ in range(n_steps):
        optimizer.step(closure)
    end = optimizer.unshifted(theta) if isinstance(optimizer, Nesterov) else theta.detach()
    return float(np.linalg.norm(end.numpy() - solution(equation, gamma if equation == "modified" else 0.0)))


def order(context: Context, scheme: str) -> Evidence:
    """The order of accuracy: minus the slope of ln distance from the exact solution in ln n."""
    distances = [distance(scheme, n) for n in STEPS]
    result = -slope(np.log(STEPS), np.log(distances))
    gammas = [TIME / n for n in STEPS]
    curves = [
        Curve(gamma, distances[0] * (gamma / gammas[0]) ** power, f"order {power}")
        for power in (1, 2)
        for gamma in gammas
    ]
    return Evidence(
        "order: slope of ln error in ln gamma",
        result,
        result,
        result,
        len(STEPS),
        tuple(Point(gamma, one, series=scheme) for gamma, one in zip(gammas, distances, strict=True)),
        tuple(curves),
        Axes("time step gamma", f"distance from the solution at time {TIME:g}", log_x=True, log_y=True),
    )


def error_ratio(context: Context) -> Evidence:
    """Error of standard Nesterov over that of momentum, each started as usual with v = 0, at equal gamma."""
    ratio = distance("Nesterov", STEPS[-1]) / distance("leapfrog", STEPS[-1])
    return exact(ratio).evidence(f"error of Nesterov over error of momentum, n = {STEPS[-1]}")


def time_per_step(context: Context) -> Evidence:
    """Physical time a step of momentum takes over sqrt(alpha), read off the period of an oscillation, beta = 0.9.

    On a quadratic of curvature h the solution of (10) passes 0 every pi / sqrt(h - lambda^2 / 4).
    """
    beta, curvature = 0.9, 1.0
    ratios = []
    alphas = (0.01, 0.04, 0.16)
    for alpha in alphas:
        theta = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimizer = Momentum([theta], lr=alpha, beta=beta)
        path = []
        for _ in range(200):
            theta.grad = curvature * theta.detach()
            optimizer.step()
            path.append(float(theta.detach()))
        x = np.array(path)
        crossed = np.flatnonzero(x[:-1] * x[1:] < 0)
        zeros = crossed + x[crossed] / (x[crossed] - x[crossed + 1])  # where the line between two steps is 0
        period = float(np.diff(zeros).mean())
        friction = (1 - beta) / math.sqrt(alpha)
        ratios.append(math.pi / math.sqrt(curvature - friction**2 / 4) / period / math.sqrt(alpha))
    mean = float(np.mean(ratios))
    return Evidence(
        "time a step over sqrt(alpha)",
        mean,
        mean,
        mean,
        len(ratios),
        tuple(
            Point(alpha, ratio * math.sqrt(alpha), series="momentum")
            for alpha, ratio in zip(alphas, ratios, strict=True)
        ),
        tuple(Curve(alpha, math.sqrt(alpha), "sqrt(alpha)") for alpha in alphas),
        Axes("step size alpha", "time a step", log_x=True, log_y=True),
    )


claim = partial(Claim, article=5655)
ORDER = partial(claim, rule="equals", tolerance=0.05, reason="Steps of finite length; orders are whole numbers.")
CLAIMS = (
    ORDER(
        id="5655-S4",
        statement="Gradient descent is Euler's method on the gradient flow, of order 1.",
        statement_zh="梯度下降是梯度流的欧拉法，一阶精度。",
        formula=r"\dot\theta = -\nabla L(\theta), \quad \text{error} = O(\gamma)",
        probe=partial(order, scheme="gradient descent"),
        expected=1,
        source="equations (3), (4)",
        question="5655-why",
    ),
    ORDER(
        id="5655-S4.1",
        statement="Momentum as frameworks start it, v = 0, integrates Newton's equation to order 2.",
        statement_zh="按框架惯例以 v = 0 起步的动量，对牛顿方程具有二阶精度。",
        formula=r"\theta_{n+1} = \theta_n + v_{n+1}, \ v_{n+1} = \beta v_n - \alpha\nabla L(\theta_n), \ v_0 = 0",
        probe=partial(order, scheme="leapfrog"),
        expected=2,
        source="equations (12) to (16)",
        question="5655-momentum",
    ),
    ORDER(
        id="5655-S4.1c",
        statement="Started at v = alpha g / (1 + beta), half a step before rest, momentum is of order 2.",
        statement_zh="动量以静止前半步的速度 v = αg/(1+β) 起步时，对牛顿方程具有二阶精度。",
        formula=r"v_0 = \frac{\gamma^2}{2}\nabla L(\theta_0) = \frac{\alpha\nabla L(\theta_0)}{1 + \beta}",
        probe=partial(order, scheme="leapfrog, half-step start"),
        expected=2,
        source="equations (12) to (16) with the half-step start",
        question="5655-momentum",
    ),
    *(
        ORDER(
            id=f"5655-S4.{k}{form}",
            statement=f"{name} integrates Newton's equation to order {expected}.",
            statement_zh=f"{name_zh}对牛顿方程具有{'一' if expected == 1 else '二'}阶精度。",
            formula=formula,
            probe=partial(order, scheme=scheme),
            expected=expected,
            source=f"{equation} with beta = 1 - lambda gamma, alpha = gamma^2",
            question="5655-nesterov",
        )
        for k, scheme, equation, name, name_zh, formula in (
            (
                2,
                "Nesterov",
                "after equation (20)",
                "Standard Nesterov momentum",
                "标准 Nesterov 动量",
                r"v_{n+1} = \beta v_n - \alpha\nabla L(\theta_n + \beta v_n)",
            ),
            (
                3,
                "half Nesterov",
                "equation (20)",
                "Nesterov momentum with half the shift",
                "半位移的 Nesterov 动量",
                r"v_{n+1} = \beta v_n - \alpha\nabla L(\theta_n + \tfrac{\beta}{2} v_n)",
            ),
            (
                4,
                "implicit Nesterov",
                "equation (19)",
                "The implicit scheme behind Nesterov",
                "Nesterov 背后的隐式格式",
                r"v_{n+1} = \beta v_n - \alpha\nabla L\left(\tfrac{\theta_{n+1} + \theta_n}{2}\right)",
            ),
        )
        for form, expected in (("", 2), ("c", 1))
    ),
    claim(
        id="5655-S4.5",
        statement="Nesterov and momentum are equally accurate.",
        statement_zh="Nesterov 与动量精度相同。",
        formula=r"\text{error}_{\text{Nesterov}} / \text{error}_{\text{momentum}} = 1",
        probe=error_ratio,
        rule="equals",
        expected=1,
        tolerance=0.5,
        reason="Equally accurate at least means within a factor of 1.5.",
        source="after equation (20)",
        question="5655-nesterov",
    ),
    claim(
        id="5655-S4.6",
        statement="Momentum at the rate alpha advances by sqrt(alpha) of physical time a step.",
        statement_zh="学习率为 α 的动量，每步前进的物理时间为 √α。",
        formula=r"\gamma \approx \sqrt{\alpha}",
        probe=time_per_step,
        rule="equals",
        expected=1,
        tolerance=0.05,
        reason="By (15) it is sqrt(2 / (1 + beta)) sqrt(alpha): 2.6 % more at beta = 0.9.",
        source="the first speed-up after equation (16)",
        question="5655-momentum",
    ),
    ORDER(
        id="5655-S4.7c",
        statement="Gradient descent follows the flow of L + (gamma / 4) |grad L|^2 to order 2: large steps regularise.",
        statement_zh="梯度下降以二阶精度跟随 L + (γ/4)‖∇L‖² 的梯度流：大步长自带正则。",
        formula=r"\dot\theta = -\nabla\left(L + \tfrac{\gamma}{4}\|\nabla L\|^2\right)",
        probe=partial(order, scheme="gradient descent, modified flow"),
        expected=2,
        source="equations (3), (4), one order further; kexue.fm/archives/7787",
        question="5655-rate",
    ),
)
