"""Laws that are false by construction: what the verdict "fails" looks like, and a test that it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point

if TYPE_CHECKING:
    import numpy as np

    from experiments.claims.context import Context


def noise_slope(context: Context) -> Evidence:
    """Slope of ln(variance of a batch's mean gradient) in ln B, batches drawn with replacement."""
    import numpy as np

    rng = context.rng("planted/noise")
    n_draws, sizes = context.design("draws", 400, 4000), np.array([1, 2, 4, 8, 16, 32, 64])
    gradients = rng.standard_normal((500, 4)) * [1.0, 0.5, 2.0, 0.1]  # per-sample, (N, D)
    batches = [gradients[rng.integers(500, size=(n_draws, size))].mean(1) for size in sizes]  # (n_draws, D) each
    squares = [((batch - gradients.mean(0)) ** 2).sum(1) for batch in batches]
    variance = np.array([square.mean() for square in squares])
    errors = np.array([square.std(ddof=1) / square.mean() / n_draws**0.5 for square in squares])  # of ln(variance)
    slope, error = _slope(np.log(sizes), np.log(variance), errors)
    half = 1.96 * error
    points = tuple(
        Point(float(size), value, value * (1 - 2 * e), value * (1 + 2 * e))
        for size, value, e in zip(sizes, variance.tolist(), errors.tolist(), strict=True)
    )
    law = tuple(Curve(float(size), points[0].y * float(size) ** -0.5, "the false law, B^-1/2") for size in sizes)
    axes = Axes("batch size B", "variance of the batch gradient", log_x=True, log_y=True)
    return Evidence("slope of ln variance in ln B", slope, slope - half, slope + half, n_draws, points, law, axes)


def _slope(x: np.ndarray, y: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Weighted least squares: the slope and its standard error."""
    weights = errors**-2
    x = x - (weights * x).sum() / weights.sum()
    precision = (weights * x**2).sum()
    return float((weights * x * y).sum() / precision), float(precision**-0.5)


def decay_per_step(context: Context) -> Evidence:
    """Factor by which the velocity of heavy-ball momentum shrinks per step where the gradient is zero."""
    beta = context.design("beta", 0.9, 0.9)
    velocity, speeds = 1.0, [1.0]
    for _ in range(20):
        velocity = beta * velocity
        speeds.append(velocity)
    factor = speeds[-1] ** (1 / 20)
    points = tuple(Point(float(step), speed) for step, speed in enumerate(speeds))
    law = tuple(Curve(float(step), (beta**2) ** step, "the false law, beta^2 a step") for step in range(21))
    return Evidence(
        "velocity kept per step", factor, factor, factor, 1, points, law, Axes("step", "velocity", log_y=True)
    )


def order_of_euler(context: Context) -> Evidence:
    """Order of the explicit Euler scheme, from its error on exponential decay at step sizes h and h / 2."""
    import numpy as np

    sizes = 2.0 ** -np.arange(4, context.design("halvings", 10, 14) + 1)
    errors = np.array([abs((1 - h) ** round(1 / h) - np.exp(-1.0)) for h in sizes])
    order = float(np.log2(errors[-2] / errors[-1]))
    points = tuple(Point(float(h), float(error)) for h, error in zip(sizes, errors, strict=True))
    law = tuple(Curve(float(h), float(errors[0] * (h / sizes[0]) ** 2), "the false law, h^2") for h in sizes)
    axes = Axes("step size h", "error at t = 1", log_x=True, log_y=True)
    return Evidence("order of the error in h", order, order, order, 1, points, law, axes)


CLAIMS = (
    Claim(
        id="5655-P1",
        article=5655,
        statement="Planted, false: the variance of a batch's gradient falls as 1/sqrt(B).",
        statement_zh="故意放入的错误命题：批梯度的方差按 1/sqrt(B) 下降。",
        formula=r"\operatorname{Var} \propto B^{-1/2}",
        probe=noise_slope,
        rule="equals",
        expected=-0.5,
        tolerance=0.03,
        reason="as for the true slope, -1",
        source="none; the true law is -1",
    ),
    Claim(
        id="5655-P2",
        article=5655,
        statement="Planted, false: momentum keeps beta^2 of its velocity a step.",
        statement_zh="故意放入的错误命题：动量每步保留 beta^2 倍的速度。",
        formula=r"v_{n+1} = \beta^2 v_n",
        probe=decay_per_step,
        rule="equals",
        expected=0.81,
        tolerance=1e-9,
        reason="rounding only",
        source="none; equation (16) has beta",
    ),
    Claim(
        id="5655-P3",
        article=5655,
        statement="Planted, false: gradient descent follows the gradient flow to second order in the step.",
        statement_zh="故意放入的错误命题：梯度下降以二阶精度跟随梯度流。",
        formula=r"\lVert \theta_{t/h} - \theta(t) \rVert = O(h^2)",
        probe=order_of_euler,
        rule="at least",
        expected=2.0,
        tolerance=0.05,
        reason="the error's next order shifts a measured order by about h",
        source="none; explicit Euler has order 1",
    ),
)
