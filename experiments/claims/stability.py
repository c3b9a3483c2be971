"""Claims on the largest stable step and on what momentum makes of it (S3).

On a quadratic of curvature h a scheme depends on alpha h alone: at alpha = 1 many curvatures are tried at once, as the
coordinates of one parameter. Nothing is drawn; every figure is exact.
"""

from __future__ import annotations

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

BETA = 0.9
Scheme = Callable[..., Optimizer]
SCHEMES: dict[str, Scheme] = {
    "gradient descent": SGD,
    "momentum": partial(Momentum, beta=BETA),
    "Nesterov": partial(Nesterov, beta=BETA),
    "half Nesterov": partial(Nesterov, beta=BETA, form="half"),
}


def trajectory(scheme: Scheme, curvatures: torch.Tensor, n_steps: int, lr: float = 1.0) -> torch.Tensor:
    """What the parameters hold on quadratics of curvature h (K,), started at 1: (n_steps + 1, K)."""
    theta = torch.nn.Parameter(torch.ones_like(curvatures))
    optimizer = scheme([theta], lr=lr)
    path = [theta.detach().clone()]
    for _ in range(n_steps):
        theta.grad = curvatures * theta.detach()
        optimizer.step()
        path.append(theta.detach().clone())
    return torch.stack(path)


def stability_limit(scheme: Scheme) -> float:
    """The largest alpha h below which the scheme does not grow, between 0.1 and 10, by repeated subdivision.

    300 steps leave the slower root alone; then the largest distance in 50 steps is compared with that of the 50 before.
    """
    low, high = 0.1, 10.0
    for _ in range(5):
        curvatures = torch.linspace(low, high, 65, dtype=torch.float64)
        distance = trajectory(scheme, curvatures, 400)[-100:].abs()
        late, early = distance[50:].amax(0), distance[:50].amax(0)
        grows = ~(late <= early) | ~late.isfinite()  # 0 after 0 is at rest
        first = int(grows.int().argmax())
        low, high = float(curvatures[first - 1]), float(curvatures[first])
    return (low + high) / 2


def limit(context: Context, scheme: str) -> Evidence:
    """The largest stable alpha h of a scheme, momentum 0.9; a function of nothing random."""
    return exact(stability_limit(SCHEMES[scheme])).evidence(f"largest stable alpha h of {scheme}")


def limit_ratio(context: Context, scheme: str) -> Evidence:
    """The largest stable alpha h of a scheme over that of momentum."""
    ratio = stability_limit(SCHEMES[scheme]) / stability_limit(SCHEMES["momentum"])
    return exact(ratio).evidence(f"largest stable alpha h of {scheme} over that of momentum")


def implicit_growth(context: Context) -> Evidence:
    """Growth a step of the implicit scheme (19), the largest of alpha h up to 1000, beyond any other's limit."""
    growths = []
    stiffness = (2.0, 4.0, 20.0, 100.0, 1000.0)
    for product in stiffness:
        theta = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimizer = Nesterov([theta], lr=product, beta=BETA, form="implicit", tolerance=1e-10)

        def closure(theta: torch.nn.Parameter = theta) -> float:
            theta.grad = theta.detach().clone()
            return 0.0

        distances = []
        for _ in range(120):
            optimizer.step(closure)
            distances.append(abs(float(theta.detach())))
        growths.append((max(distances[90:]) / max(distances[30:60])) ** (1 / 60))
    return Evidence(
        "largest growth of |theta| a step over alpha h = 2 to 1000",
        max(growths),
        max(growths),
        max(growths),
        len(growths),
        tuple(Point(x, y, series="implicit scheme (19)") for x, y in zip(stiffness, growths, strict=True)),
        tuple(Curve(x, 1.0, "edge of stability") for x in (stiffness[0], stiffness[-1])),
        Axes("alpha h", "growth a step", log_x=True),
    )


def damping_slope(context: Context) -> Evidence:
    """Slope in alpha h of the determinant of standard Nesterov's recurrence; 0 for momentum, whose damping is beta."""
    curvatures = torch.linspace(0.03, 1.23, 25, dtype=torch.float64)  # not 1, where all is 0
    determinants = _recurrence(SCHEMES["Nesterov"], curvatures)[1]
    of_momentum = _recurrence(SCHEMES["momentum"], curvatures)[1]
    result = slope(curvatures.numpy(), determinants)
    return Evidence(
        "slope of the determinant in alpha h",
        result,
        result,
        result,
        len(curvatures),
        tuple(Point(float(x), float(y), series="Nesterov") for x, y in zip(curvatures, determinants, strict=True))
        + tuple(Point(float(x), float(y), series="momentum") for x, y in zip(curvatures, of_momentum, strict=True)),
        tuple(Curve(x, BETA * (1 - x), "beta (1 - alpha h)") for x in (0.03, 1.23)),
        Axes("alpha h", "determinant of a step"),
    )


def _recurrence(scheme: Scheme, curvatures: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Trace and determinant (K,) of x_{n+1} = trace x_n - determinant x_{n-1}, from four positions in a row."""
    a, b, c, d = trajectory(scheme, curvatures, 4)[1:].numpy()
    return (a * d - b * c) / (a * c - b * b), (b * d - c * c) / (a * c - b * b)


def acceleration(context: Context, scheme: str) -> Evidence:
    """Exponent in the condition number kappa of the steps to a millionth of the first distance, at tuned settings."""
    kappas = (10.0, 100.0, 1000.0, 10_000.0)
    steps = [n_steps_tuned(scheme, kappa) for kappa in kappas]
    result = slope(np.log(kappas), np.log(steps))
    power = 1.0 if scheme == "gradient descent" else 0.5
    return Evidence(
        "slope of ln steps in ln kappa",
        result,
        result,
        result,
        len(kappas),
        tuple(Point(kappa, n, series=scheme) for kappa, n in zip(kappas, steps, strict=True)),
        tuple(Curve(kappa, steps[0] * (kappa / kappas[0]) ** power, f"kappa^{power:g}") for kappa in kappas),
        Axes("condition number kappa", "steps to a millionth", log_x=True, log_y=True),
    )


def n_steps_tuned(scheme: str, kappa: float, target: float = 1e-6) -> int:
    """Steps until the distance on curvatures 1 to kappa is below target times the first, at the best known settings.

    Settings: Polyak 1964 (gradient descent, momentum); Nesterov 2004, section 2.2, constant step 1 / kappa.
    """
    curvatures = torch.logspace(0, math.log10(kappa), 9, dtype=torch.float64)
    root = math.sqrt(kappa)
    if scheme == "gradient descent":  # theta <- (1 - lr h) theta has a closed form; 70,000 steps would cost seconds
        return math.ceil(math.log(target) / math.log((kappa - 1) / (kappa + 1)))
    beta = ((root - 1) / (root + 1)) ** (2 if scheme == "momentum" else 1)
    lr = 4 / (1 + root) ** 2 if scheme == "momentum" else 1 / kappa
    built: dict[str, Scheme] = {"momentum": partial(Momentum, beta=beta), "Nesterov": partial(Nesterov, beta=beta)}
    chosen: Scheme = built.get(scheme, partial(Nesterov, beta=beta, form="half"))
    path = trajectory(chosen, curvatures, round(20 * root) + 60, lr)
    distances = path.norm(dim=1)
    return int((distances < target * distances[0]).int().argmax())


claim = partial(Claim, article=5655)
CLAIMS = (
    claim(
        id="5655-S3",
        statement="Nesterov's momentum is stable for larger steps than momentum.",
        statement_zh="Nesterov 动量的稳定步长范围比普通动量更大。",
        formula=r"(\alpha h)_{\max}^{\text{Nesterov}} \ge (\alpha h)_{\max}^{\text{momentum}}",
        probe=partial(limit_ratio, scheme="Nesterov"),
        rule="at least",
        expected=1,
        tolerance=0,
        reason="Wider is wider.",
        source="the advantage named after equation (20), standard form",
        question="5655-nesterov",
    ),
    claim(
        id="5655-S3.1",
        statement="Nesterov's momentum with half the shift is stable for larger steps than momentum.",
        statement_zh="半位移的 Nesterov 动量的稳定步长范围比普通动量更大。",
        formula=r"(\alpha h)_{\max}^{(20)} \ge (\alpha h)_{\max}^{\text{momentum}}",
        probe=partial(limit_ratio, scheme="half Nesterov"),
        rule="at least",
        expected=1,
        tolerance=0,
        reason="Wider is wider.",
        source="equation (20)",
        question="5655-nesterov",
    ),
    claim(
        id="5655-S3c",
        statement="The implicit scheme behind Nesterov's is stable at every step; its practical forms are not.",
        statement_zh="Nesterov 背后的隐式格式在任何步长下都稳定；实用形式则不然。",
        formula=r"\rho(\alpha h) \le 1 \text{ for all } \alpha h",
        probe=implicit_growth,
        rule="at most",
        expected=1,
        tolerance=0,
        reason="Stable is not growing; alpha h is tried up to 1000.",
        source="equation (19)",
        question="5655-nesterov",
    ),
    *(
        claim(
            id=f"5655-S3.{k}c",
            statement=f"{name} is stable up to alpha h = {limit_text}.",
            statement_zh=f"{name_zh}的稳定极限为 αh = {limit_zh}。",
            formula=rf"\alpha h < {formula}",
            probe=partial(limit, scheme=scheme),
            rule="equals",
            expected=expected,
            tolerance=1e-3 * expected,
            reason="A thousandth: the limit is exact, the bisection finer.",
            source=source,
            question=question,
        )
        for k, scheme, name, name_zh, limit_text, limit_zh, formula, expected, source, question in (
            (
                2,
                "gradient descent",
                "Gradient descent",
                "梯度下降",
                "2",
                "2",
                "2",
                2.0,
                "the width of the pit, after equation (9)",
                "5655-rate",
            ),
            (
                3,
                "momentum",
                "Momentum",
                "动量",
                "2 (1 + beta), 3.8 at beta = 0.9",
                "2(1+β)，β = 0.9 时为 3.8",
                r"2 (1 + \beta)",
                2 * (1 + BETA),
                "equation (16)",
                "5655-rate",
            ),
            (
                4,
                "half Nesterov",
                "Nesterov's momentum with half the shift",
                "半位移的 Nesterov 动量",
                "2 at every beta",
                "2，与 β 无关",
                "2",
                2.0,
                "equation (20)",
                "5655-nesterov",
            ),
            (
                5,
                "Nesterov",
                "Standard Nesterov momentum",
                "标准 Nesterov 动量",
                "2 (1 + beta) / (1 + 2 beta), 1.357 at beta = 0.9",
                "2(1+β)/(1+2β)，β = 0.9 时为 1.357",
                r"2 (1 + \beta) / (1 + 2\beta)",
                2 * (1 + BETA) / (1 + 2 * BETA),
                "after equation (20)",
                "5655-nesterov",
            ),
        )
    ),
    claim(
        id="5655-S3.6c",
        statement="What Nesterov gains is damping by curvature: a step's determinant is beta (1 - alpha h).",
        statement_zh="Nesterov 的好处是随曲率增强的阻尼：每步行列式为 β(1 - αh)。",
        formula=r"\det = \beta (1 - \alpha h)",
        probe=damping_slope,
        rule="equals",
        expected=-BETA,
        tolerance=1e-6,
        reason="Rounding; momentum's determinant is beta, a slope of 0.",
        source="after equation (20)",
        question="5655-nesterov",
    ),
    *(
        claim(
            id=f"5655-S3.{k}c",
            statement=f"Tuned, {name} needs steps in proportion to {power_text}.",
            statement_zh=f"调优之后，{name_zh}所需步数与{power_zh}成正比。",
            formula=rf"n \propto {formula}",
            probe=partial(acceleration, scheme=scheme),
            rule="equals",
            expected=expected,
            tolerance=0.05,
            reason="At kappa = 10 the logarithm that a double root adds still shows: 0.03 to 0.04 in the exponent.",
            source=source,
            question=question,
        )
        for k, scheme, name, name_zh, power_text, power_zh, formula, expected, source, question in (
            (
                7,
                "gradient descent",
                "gradient descent",
                "梯度下降",
                "the condition number kappa",
                "条件数 κ ",
                r"\kappa",
                1.0,
                "equation (2)",
                "5655-momentum",
            ),
            (
                8,
                "momentum",
                "momentum",
                "动量",
                "sqrt(kappa)",
                " √κ ",
                r"\sqrt{\kappa}",
                0.5,
                "the first speed-up after equation (16)",
                "5655-momentum",
            ),
            (
                9,
                "Nesterov",
                "standard Nesterov momentum",
                "标准 Nesterov 动量",
                "sqrt(kappa)",
                " √κ ",
                r"\sqrt{\kappa}",
                0.5,
                "after equation (20)",
                "5655-nesterov",
            ),
            (
                10,
                "half Nesterov",
                "Nesterov's momentum with half the shift",
                "半位移的 Nesterov 动量",
                "sqrt(kappa)",
                " √κ ",
                r"\sqrt{\kappa}",
                0.5,
                "equation (20)",
                "5655-nesterov",
            ),
        )
    ),
)
