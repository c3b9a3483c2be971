"""Claims on the smallest GAN, two points in the plane, as a system of differential equations (L8).

Legend: R starts; theta (R, 2) is the generated point, w (R, 2) the critic D(x) = w . x; the real point is 0.
"""

from __future__ import annotations

import functools
import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from experiments.claims.context import Context
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from experiments.claims.repetitions import F64, mean_evidence, slopes
from lightning_modules.data.sampling import draw
from lightning_modules.gan.dirac import Regime, velocities

STEP = 0.05  # of fourth-order Runge-Kutta, whose error is far below what is asked
WEIGHT = 0.1  # lambda of the penalties
MEMORY = 20.0  # time over which the exponential average forgets


@functools.lru_cache(maxsize=8)
def motion(seed: int, n: int, duration: float, regime: Regime) -> tuple[Tensor, Tensor]:
    """The way of theta and w, (T, R, 2) each, from random starts."""
    state = torch.randn(2, n, 2, generator=draw(seed, "dirac"), dtype=F64)
    state = state / state.norm(dim=-1, keepdim=True)  # far from w = 0, where D = w.x / |w| is not defined
    way = [state]
    for _ in range(round(duration / STEP)):
        way.append(runge_kutta(regime, way[-1]))
    theta, w = torch.stack(way, 1)
    return theta, w


def runge_kutta(regime: Regime, state: Tensor) -> Tensor:
    """A step of the classical fourth-order method from (theta, w), (2, R, 2)."""

    def velocity(at: Tensor) -> Tensor:
        return torch.stack(velocities(regime, at[0], at[1], WEIGHT))

    first = velocity(state)
    second = velocity(state + STEP / 2 * first)
    third = velocity(state + STEP / 2 * second)
    fourth = velocity(state + STEP * third)
    return state + STEP / 6 * (first + 2 * second + 2 * third + fourth)


def followed(context: Context, regime: Regime) -> tuple[Tensor, Tensor]:
    """The motion in a regime."""
    return motion(context.seed, context.design("starts", 20, 200), context.design("duration", 100.0, 400.0), regime)


def plotted(distance: Tensor) -> tuple[Point, ...]:
    """The first start's distance (T, R) over time."""
    return tuple(Point(i * STEP, float(distance[i, 0])) for i in range(0, len(distance), max(1, len(distance) // 100)))


def late_amplitude(context: Context, regime: Regime) -> Evidence:
    """Largest |(theta, w)| in the last fifth of the time over the largest in the first fifth; of SN, of theta alone."""
    theta, w = followed(context, regime)
    size = theta.norm(dim=-1) if regime == "sn" else torch.cat([theta, w], -1).norm(dim=-1)
    fifth = len(size) // 5
    ratio = size[-fifth:].amax(0) / size[:fifth].amax(0)
    return mean_evidence(
        "amplitude at the end / at first", ratio, plotted(theta.norm(dim=-1)), axes=Axes("time", "|theta|")
    )


def late_critic(context: Context) -> Evidence:
    """Mean |w| in the last fifth of the time, with the penalty (|w| - 1)^2."""
    theta, w = followed(context, "gp")
    size = w.norm(dim=-1)
    return mean_evidence(
        "|w| at the end", size[-(len(size) // 5) :].mean(0), plotted(theta.norm(dim=-1)), axes=Axes("time", "|theta|")
    )


def decay_rate(context: Context) -> Evidence:
    """Rate at which |(theta, w)| falls with the penalty lambda |w|^2, in units of lambda."""
    theta, w = followed(context, "gp_zero")
    size = torch.cat([theta, w], -1).norm(dim=-1)
    times = np.arange(len(size)) * STEP
    rates = -np.array(slopes(times, size.log().T.numpy())) / WEIGHT
    first = float(size[0, 0])
    law = tuple(Curve(t, first * math.exp(-WEIGHT * t)) for t in np.linspace(0, times[-1], 50).tolist())
    axes = Axes("time", "|(theta, w)|", log_y=True)
    return mean_evidence("rate of decay / lambda", rates, plotted(size), law, axes)


def average_distance(context: Context) -> Evidence:
    """|average of theta| over the mean |theta|, in the last fifth of the time, where WGAN circles."""
    theta, _ = followed(context, "wgan")
    average, share = theta[0].clone(), STEP / MEMORY
    averages = []
    for at in theta:
        average = average + share * (at - average)
        averages.append(average)
    fifth = len(theta) // 5
    late = torch.stack(averages[-fifth:]).norm(dim=-1).mean(0)
    return mean_evidence("|average of theta| / |theta| at the end", late / theta[-fifth:].norm(dim=-1).mean(0))


claim = partial(Claim, article=6051, question="6051-gan")
CLAIMS = (
    claim(
        id="6051-L8.1",
        statement="A WGAN of two points circles for ever, at a constant distance from equilibrium.",
        statement_zh="两点 WGAN 永远绕平衡点旋转，振幅不变。",
        formula=r"\dot\theta = w,\ \dot w = -\theta \Rightarrow |\theta|^2 + |w|^2 = \text{const}",
        probe=partial(late_amplitude, regime="wgan"),
        rule="equals",
        expected=1,
        tolerance=0.001,
        reason="Of the fourth-order method, which loses 0.00001 in this time.",
        source="kexue.fm/archives/6583, on WGAN",
    ),
    claim(
        id="6051-L8.2",
        statement="Spectral normalisation does not make it converge: theta swings on, at half its amplitude or more.",
        statement_zh="谱归一化不能使其收敛：θ 继续振荡，振幅不低于最初的一半。",
        formula=r"D(x) = w \cdot x / |w|",
        probe=partial(late_amplitude, regime="sn"),
        rule="at least",
        expected=0.5,
        tolerance=0,
        reason="What converges would fall to nothing.",
        source="kexue.fm/archives/6583, on spectral normalisation",
    ),
    claim(
        id="6051-L8.3",
        statement="With a gradient penalty centred at 1 it settles on a circle where |w| = 1.",
        statement_zh="以 1 为中心的梯度惩罚使其停留在 |w| = 1 的圆上。",
        formula=r"\lambda(|w| - 1)^2 \Rightarrow |w| \to 1",
        probe=late_critic,
        rule="equals",
        expected=1,
        tolerance=0.02,
        reason="What is left of the way there at rates of about lambda.",
        source="kexue.fm/archives/6583, on the gradient penalty",
    ),
    claim(
        id="6051-L8.4",
        statement="With a gradient penalty centred at 0 it converges at the rate lambda.",
        statement_zh="零中心梯度惩罚使其以速率 λ 收敛。",
        formula=r"\lambda|w|^2 \Rightarrow |(\theta, w)| \propto e^{-\lambda t}",
        probe=decay_rate,
        rule="equals",
        expected=1,
        tolerance=0.02,
        reason="The oscillation on top of the decay moves the slope by less than 1 %.",
        source="kexue.fm/archives/6583, on the gradient penalty",
    ),
    claim(
        id="6051-L8.5",
        statement="Where theta circles, its moving average lies near the equilibrium, within a tenth of the amplitude.",
        statement_zh="θ 旋转时，其滑动平均接近平衡点，距离不超过振幅的十分之一。",
        formula=r"|\bar\theta| / |\theta| \to (1 + \tau^2)^{-1/2}",
        probe=average_distance,
        rule="at most",
        expected=0.1,
        tolerance=0,
        reason="The law's value is 0.05 at a memory of 20.",
        source="kexue.fm/archives/6583, on averaged weights",
    ),
)
