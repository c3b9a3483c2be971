"""Claims on the article's rule for beta, and on crossing a poor minimum by inertia (S5, part of S7).

Everything here is a function of nothing random.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch

from experiments.claims.context import Context
from experiments.claims.intervals import exact
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from experiments.claims.stability import trajectory
from lightning_modules.optimizers.conversions import alpha_beta, friction_time_step, scaled_beta
from lightning_modules.optimizers.momentum import Momentum
from lightning_modules.paths.landscapes import landscape

ALPHA, BETA = 0.01, 0.9
TIME_STEP, N_STEPS = 0.05, 4000  # on the one-dimensional loss: time 200


def exact_beta(context: Context, ratio: float) -> Evidence:
    """The beta that (15) gives at ratio times the alpha and the same friction."""
    friction, time_step = friction_time_step(ALPHA, BETA)
    low, high = 0.0, 2 * time_step
    for _ in range(100):  # alpha grows with the time step
        middle = (low + high) / 2
        low, high = (middle, high) if alpha_beta(friction, middle)[0] < ratio * ALPHA else (low, middle)
    return exact(alpha_beta(friction, low)[1]).evidence(f"beta of equation (15) at {ratio:g} alpha")


def path_gap(context: Context, ratio: float, other: str) -> Evidence:
    """How far the path at ratio times the alpha leaves the path at alpha under the rule, over how far under another.

    Paths are compared at equal physical time, n steps against n / sqrt(ratio), on three curvatures from rest.

    Args:
        context: not used.
        ratio: of the alphas; 1 / sqrt(ratio) a whole number.
        other: unchanged = beta stays; linear = 1 - (1 - beta) ratio.
    """
    curvatures = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64)
    n_steps, more = 150, round(1 / math.sqrt(ratio))

    def path(ratio: float, beta: float) -> np.ndarray:
        n = n_steps * (more if ratio < 1 else 1)
        found: np.ndarray = trajectory(partial(Momentum, beta=beta), curvatures, n, ratio * ALPHA).numpy()
        return found

    reference = path(1.0, BETA)
    betas = {"rule": scaled_beta(BETA, ratio), "unchanged": BETA, "linear": 1 - (1 - BETA) * ratio}
    gaps = {name: path(ratio, beta)[::more] - reference for name, beta in betas.items()}
    sizes = {name: float(np.sqrt(np.square(gap).mean())) for name, gap in gaps.items()}
    result = sizes["rule"] / sizes[other]
    times = np.arange(0, n_steps + 1, 3)
    return Evidence(
        f"RMS distance from the path at alpha: rule over {other}",
        result,
        result,
        result,
        len(curvatures),
        tuple(
            Point(float(n), float(reference[n, 1] + gaps[name][n, 1]), series=f"{ratio:g} alpha, beta by {name}")
            for name in ("rule", other)
            for n in times
        ),
        tuple(Curve(float(n), float(reference[n, 1]), "alpha, beta = 0.9") for n in times),
        Axes("physical time in steps of alpha", "theta, curvature 1"),
    )


def final_place(context: Context, friction: float | None) -> Evidence:
    """Where our optimizer's path on the one-dimensional loss ends from x = 4; friction None is gradient descent."""
    theta = torch.nn.Parameter(torch.full((1,), 4.0, dtype=torch.float64))
    if friction is None:
        optimizer = Momentum([theta], lr=TIME_STEP, beta=0.0)
    else:
        optimizer = Momentum([theta], friction=friction, time_step=TIME_STEP)
    slope = landscape("article").gradient
    for _ in range(N_STEPS):
        (theta.grad,) = slope(theta.detach())
        optimizer.step()
    return exact(float(theta.detach())).evidence("where the path ends")


def n_windows(context: Context) -> Evidence:
    """The number of separate intervals of friction from which the path ends at the global minimum."""
    frictions = np.geomspace(0.1, 4, context.design("n_frictions", 300, 3000))
    ends = ends_of_paths(frictions)
    minimum = landscape("article").minima[0][0]
    reached = np.abs(ends - minimum) < 0.1
    count = int(reached[0]) + int((reached[1:] & ~reached[:-1]).sum())
    return Evidence(
        "friction windows that lead to the global minimum",
        count,
        count,
        count,
        len(frictions),
        tuple(Point(float(f), float(x), series="momentum") for f, x in zip(frictions, ends, strict=True)),
        tuple(Curve(f, minimum, "global minimum") for f in (0.1, 4.0)),
        Axes("friction lambda", "where the path ends", log_x=True),
    )


def ends_of_paths(frictions: np.ndarray) -> np.ndarray:
    """Ends of the leapfrog paths (16) from x = 4 at rest, one for each friction.

    Written out, because an optimizer has one beta for all coordinates; `final_place` takes the same path.
    """
    alpha, beta = np.array([alpha_beta(friction, TIME_STEP) for friction in frictions]).T
    slope = landscape("article").gradient
    x, v = np.full(len(frictions), 4.0), np.zeros(len(frictions))
    for _ in range(N_STEPS):
        v = beta * v - alpha * slope(x)[0]
        x = x + v
    return x


claim = partial(Claim, article=5655)
CLAIMS = (
    claim(
        id="5655-S5",
        statement="When alpha becomes alpha / 4, beta 0.9 becomes 1 - (1 - beta) / 2 = 0.95.",
        statement_zh="α 变为 α/4 时，β = 0.9 应变为 1 - (1-β)/2 = 0.95。",
        formula=r"\beta \to 1 - (1 - \beta)\sqrt{r}",
        probe=partial(exact_beta, ratio=1 / 4),
        rule="equals",
        expected=0.95,
        tolerance=0.0025,
        reason="A twentieth of 1 - beta: the memory 1 / (1 - beta) is then right to 5 %.",
        source="the rule after equation (16), against equation (15)",
        question="5655-momentum",
    ),
    *(
        claim(
            id=f"5655-S5.{k}",
            statement=f"At alpha / {divisor} the rule keeps the path, far better than {words}.",
            statement_zh=f"α 变为 α/{divisor} 时，按规则调整 β 能保持轨迹，远好于{words_zh}。",
            formula=formula,
            probe=partial(path_gap, ratio=1 / divisor, other=other),
            rule="at most",
            expected=0.1,
            tolerance=0,
            reason="Far better means by a factor of ten.",
            source="the rule after equation (16)",
            question="5655-momentum",
        )
        for k, divisor, other, words, words_zh, formula in (
            (1, 4, "unchanged", "an unchanged beta", "不变的 β", r"\beta \to 1 - (1 - \beta)\sqrt{r}"),
            (2, 4, "linear", "1 - (1 - beta) r", " 1 - (1-β)r", r"\beta \to 1 - (1 - \beta)\sqrt{r}"),
            (3, 16, "unchanged", "an unchanged beta", "不变的 β", r"\beta \to 1 - (1 - \beta)\sqrt{r}"),
            (4, 16, "linear", "1 - (1 - beta) r", " 1 - (1-β)r", r"\beta \to 1 - (1 - \beta)\sqrt{r}"),
        )
    ),
    claim(
        id="5655-S7.2",
        statement="Gradient descent stays in the first minimum it meets, at 3, however poor.",
        statement_zh="梯度下降停在遇到的第一个极小点 3，哪怕它并不好。",
        formula=r"L(x) = x (x - 1)(x - 3)^2 + 1.62276, \quad x_0 = 4",
        probe=partial(final_place, friction=None),
        rule="equals",
        expected=3,
        tolerance=1e-3,
        reason="A path that has come to rest.",
        source="the figure of the points A to D; the loss is that of kexue.fm/archives/6261",
        question="5655-momentum",
    ),
    claim(
        id="5655-S7.3",
        statement="Momentum crosses that minimum by inertia, without noise, and ends in the global one, at 0.407.",
        statement_zh="动量凭惯性越过该极小点，无需噪声，到达全局最小点 0.407。",
        formula=r"\ddot\theta + \lambda\dot\theta = -\nabla L(\theta), \quad \lambda = 1",
        probe=partial(final_place, friction=1.0),
        rule="equals",
        expected=0.407,
        tolerance=1e-3,
        reason="A path that has come to rest.",
        source="the figure of the points A to D",
        question="5655-momentum",
    ),
    claim(
        id="5655-S7.4",
        statement="Too much friction (lambda = 2.5) stops momentum in the poor minimum.",
        statement_zh="摩擦过大（λ = 2.5）时，动量停在差的极小点。",
        formula=r"\ddot\theta + \lambda\dot\theta = -\nabla L(\theta), \quad \lambda = 2.5",
        probe=partial(final_place, friction=2.5),
        rule="equals",
        expected=3,
        tolerance=1e-3,
        reason="A path that has come to rest.",
        source="after equation (16)",
        question="5655-momentum",
    ),
    claim(
        id="5655-S7.5",
        statement="Less friction crosses wherever more friction does: one threshold parts the two.",
        statement_zh="摩擦越小越能越过：只有一个分界值。",
        formula=r"\#\{\text{windows of } \lambda\} = 1",
        probe=n_windows,
        rule="at most",
        expected=1,
        tolerance=0,
        reason="A count.",
        source="the figure of the points A to D, kinetic energy as the reason",
        question="5655-momentum",
    ),
    claim(
        id="5655-S7.5c",
        statement="Friction has several windows: with too little the path crosses back again.",
        statement_zh="摩擦有多个有效区间：过小时轨迹会再越回去。",
        formula=r"\#\{\text{windows of } \lambda\} \ge 2",
        probe=n_windows,
        rule="at least",
        expected=2,
        tolerance=0,
        reason="A count.",
        source="the figure of the points A to D",
        question="5655-momentum",
    ),
)
