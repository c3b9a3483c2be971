"""What an optimizer follows as its step goes to zero: its kind, its own time, its differential equation, its noise.

D coordinates; lr is an optimizer's learning rate (alpha), beta its momentum coefficient.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from lightning_modules.optimizers import build
from lightning_modules.optimizers.conversions import friction_time_step
from lightning_modules.paths.landscapes import Landscape

Kind = Literal["gradient", "newton", "sign", "unit"]
MOMENTA = ("momentum", "betas", "beta1", "beta")  # how optimizers call beta; a pair begins with it
SUBSTEPS = 4  # points of the solution kept for each step of the optimizer
TOLERANCE = 1e-11  # of a position
SOFT = 1e-2  # a gradient this small is no longer followed at full speed by the sign and unit flows


@dataclass(frozen=True)
class Response:
    """How an optimizer answers gradients.

    Args:
        kind: gradient = in proportion, without memory; newton = in proportion, with momentum; sign = by each
            coordinate's sign; unit = by the gradient's direction.
        lr: Learning rate.
        beta: Momentum coefficient; 0 where there is none.
        key: The optimizer's name for it; None where it has none.
        others: What follows beta under that name, as beta_2.
    """

    kind: Kind
    lr: float
    beta: float
    key: str | None
    others: tuple[float, ...] = ()

    def setting(self, beta: float) -> dict[str, Any]:
        """The setting that gives a parameter group another beta.

        >>> Response("sign", 1e-3, 0.9, "betas", (0.999,)).setting(0.5)
        {'betas': (0.5, 0.999)}
        """
        if self.key is None:
            return {}
        return {self.key: (beta, *self.others) if self.others else beta}

    def beta_of(self, group: Mapping[str, Any]) -> float:
        """The beta of a parameter group."""
        return _numbers(group[self.key])[0] if self.key else 0.0

    def noise_scale(self, temperature: float, lr: float, beta: float) -> float:
        """Standard deviation s of gradient noise at which the stationary density is exp(-L / T).

        T = lr_eff s^2 / 2, with lr_eff = lr / (1 - beta) for v <- beta v - lr g: the law of small steps. An optimizer
        that does not answer in proportion has no temperature of its own; it gets the noise of gradient descent.
        Source: kexue.fm/archives/5655, equations (8) and (9), with the factors lr and 1/2 that they lack.

        >>> Response("newton", 0.01, 0.9, "momentum").noise_scale(0.5, 0.01, 0.75)
        5.0
        """
        effective = lr / (1 - beta) if self.key and self.kind in ("gradient", "newton") else lr
        return math.sqrt(2 * temperature / effective)


def respond(name: str, settings: Mapping[str, Any], dim: int) -> Response:
    """How an optimizer answers, found by two steps from 0: a gradient and its double, then no gradient.

    Args:
        name: As in `build`.
        settings: Its settings.
        dim: D.

    Raises:
        ValueError: The optimizer has no learning rate.
    """
    group, (first, second) = _displacements(name, settings, dim)
    _, (double, _) = _displacements(name, settings, dim, scale=2.0)
    lr = group.get("lr")
    if not isinstance(lr, int | float):
        raise ValueError(f"optimizer.lr = {lr}: a map over the learning rate needs a number; 1e-2 is a good start")
    key = _momentum_key(name, settings, dim, group)
    beta, *others = _numbers(group[key]) if key else (0.0,)
    kind: Kind = "sign"
    if double.norm() > 1.5 * first.norm():
        kind = "newton" if key and _has_memory(first, second) else "gradient"
    elif dim > 1 and first[1] / first[0] > 1.5:
        kind = "unit"
    return Response(kind, float(lr), beta, key, tuple(others))


def _momentum_key(name: str, settings: Mapping[str, Any], dim: int, group: Mapping[str, Any]) -> str | None:
    """The setting that makes steps go on without a gradient; RMSprop's beta, for one, averages squares."""
    for key in [key for key in MOMENTA if key in group]:
        others = _numbers(group[key])[1:]
        changed = {key: (0.5, *others) if others else 0.5}
        if _has_memory(*_displacements(name, settings, dim, changed=changed)[1]):
            return key
    return None


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(float(number or 0) for number in (value if isinstance(value, tuple | list) else (value,)))


def _has_memory(first: torch.Tensor, second: torch.Tensor) -> bool:
    # Weight decay too moves a little without a gradient; a beta below 0.01 is none.
    return bool(second.norm() > 0.01 * first.norm())


def _displacements(
    name: str, settings: Mapping[str, Any], dim: int, scale: float = 1.0, changed: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[torch.Tensor, torch.Tensor]]:
    """The group's settings, and two steps (D,): after the gradient scale * (1, 2), then after none."""
    theta = torch.nn.Parameter(torch.zeros(dim, dtype=torch.float64))
    groups: Any = [{"params": [theta], **(changed or {})}]
    optimizer = build(name, groups, **settings)
    group = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    steps = []
    for factor in (scale, 0.0):
        before = theta.detach().clone()
        gradient = factor * torch.arange(1.0, dim + 1, dtype=torch.float64)

        def closure(gradient: torch.Tensor = gradient) -> float:
            theta.grad = gradient.clone()
            return 0.0

        optimizer.step(closure)
        steps.append(theta.detach() - before)
    return group, (steps[0], steps[1])


class Flow:
    """The solution of an optimizer's differential equation, advanced step by step on the optimizer's own time.

    - gradient: theta' = -g; a step takes time lr.
    - newton: theta'' = -lambda theta' - g from rest; a step takes time gamma, both from lr and beta by (15) of
      kexue.fm/archives/5655.
    - sign: theta' = -g / sqrt(g^2 + SOFT^2) by coordinate; unit: with |g|^2 in place of g^2. A step takes time lr, in
      which theta moves by lr, as in kexue.fm/archives/6234.

    Noise and weight decay are left out.

    Args:
        landscape: Where.
        kind: Which equation.
        start: (D,).
    """

    def __init__(self, landscape: Landscape, kind: Kind, start: tuple[float, ...]) -> None:
        self.landscape = landscape
        self.kind = kind
        self.state = np.array([*start, *([0.0] * len(start) if kind == "newton" else [])])  # theta, for newton also eta

    def advance(self, lr: float, beta: float) -> tuple[float, np.ndarray]:
        """The time one step of the optimizer takes, and theta at `SUBSTEPS` equal parts of it, (SUBSTEPS, D).

        A schedule may change lr from step to step: then so do time and friction.
        """
        from scipy.integrate import solve_ivp  # 0.2 s to import

        friction, duration = friction_time_step(lr, beta) if self.kind == "newton" else (0.0, lr)
        if np.abs(self._derivative(self.state, friction)).max() * duration < TOLERANCE:  # at rest
            return duration, np.tile(self.state[: self.landscape.dim], (SUBSTEPS, 1))
        times = np.linspace(0, duration, SUBSTEPS + 1)
        # LSODA: the sign flow is stiff near a minimum.
        found = solve_ivp(
            lambda _, state: self._derivative(state, friction),
            (0, duration),
            self.state,
            method="LSODA",
            t_eval=times[1:],
            rtol=1e-9,
            atol=TOLERANCE,
        )
        self.state = found.y[:, -1]
        return duration, found.y[: self.landscape.dim].T

    def _derivative(self, state: np.ndarray, friction: float) -> np.ndarray:
        theta = state[: self.landscape.dim]
        g = np.array(self.landscape.gradient(*theta))
        if self.kind == "gradient":
            return -g
        if self.kind == "newton":
            eta = state[self.landscape.dim :]
            return np.concatenate([eta, -friction * eta - g])
        size = g * g if self.kind == "sign" else g @ g
        return np.asarray(-g / np.sqrt(size + SOFT * SOFT))
