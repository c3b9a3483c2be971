r"""Newton's equation with friction and the two numbers of momentum: one into the other.

The equation is theta'' + friction theta' = -grad L (kexue.fm/archives/5655, equation (10)), integrated with steps of
length time_step; the article's letters are lambda for friction and gamma for time_step.
"""

from __future__ import annotations

import math


def alpha_beta(friction: float, time_step: float) -> tuple[float, float]:
    """Step size alpha and momentum beta of the leapfrog scheme.

    Args:
        friction: at least 0; in 1 / time.
        time_step: greater than 0; `friction * time_step` at most 2, else beta would be negative.

    Source: kexue.fm/archives/5655, equation (15).

    >>> alpha_beta(friction=1.0, time_step=0.5)
    (0.2, 0.6)
    """
    if not 0 < time_step < math.inf:
        raise ValueError(f"time_step = {time_step}: must be greater than 0 and finite")
    if not 0 <= friction * time_step <= 2:
        raise ValueError(f"friction = {friction}: must lie in [0, 2 / time_step] = [0, {2 / time_step:g}]")
    half = friction * time_step / 2
    return time_step**2 / (1 + half), (1 - half) / (1 + half)


def friction_time_step(alpha: float, beta: float) -> tuple[float, float]:
    """Friction and time step of which `alpha_beta` makes these: its inverse.

    Args:
        alpha: greater than 0.
        beta: in [0, 1]; 1 is no friction.

    Source: kexue.fm/archives/5655, equation (15), solved for lambda and gamma.

    >>> friction, time_step = friction_time_step(0.2, 0.6)
    >>> round(friction, 12), round(time_step, 12)
    (1.0, 0.5)
    """
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha = {alpha}: must be greater than 0 and finite")
    if not 0 <= beta <= 1:
        raise ValueError(f"beta = {beta}: must lie in [0, 1]")
    time_step = math.sqrt(2 * alpha / (1 + beta))
    return 2 * (1 - beta) / ((1 + beta) * time_step), time_step


def scaled_beta(beta: float, ratio: float) -> float:
    """The beta that keeps the friction, to first order, at ratio times the alpha: 1 - (1 - beta) sqrt(ratio).

    Args:
        beta: in [0, 1].
        ratio: at least 0; so large that beta would turn negative, it is refused.

    Source: kexue.fm/archives/5655, the rule after equation (16).

    >>> round(scaled_beta(0.9, 0.25), 12)
    0.95
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta = {beta}: must lie in [0, 1]")
    scaled = 1 - (1 - beta) * math.sqrt(ratio) if 0 <= ratio < math.inf else -1.0
    if scaled < 0:
        largest = "inf" if beta == 1 else f"{(1 - beta) ** -2:g}"
        raise ValueError(f"ratio = {ratio}: must lie in [0, 1 / (1 - beta)^2] = [0, {largest}]")
    return scaled
