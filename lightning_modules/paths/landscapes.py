"""Loss landscapes small enough to draw, with their gradients and basins in closed form.

Functions take the coordinates one by one, NumPy arrays or tensors of any equal shape. D is 1 or 2.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

LandscapeName = Literal["double_well", "article", "ravine", "rosenbrock"]
TILT = 0.3  # of the double well: the left minimum lies 0.6 deeper
DIVERGED = -1
FAR = 10.0  # half-widths of the drawn box: whatever is farther from its centre has diverged


@dataclass(frozen=True)
class Landscape:
    """A loss of D coordinates, and what is known of it.

    Args:
        loss: L of the coordinates.
        gradient: The D derivatives of L, of the coordinates.
        start: Where paths begin unless told otherwise.
        box: Least and greatest value of each coordinate that is drawn.
        minima: Points; the first is the global minimum, and they are sorted by the first coordinate.
        barriers: Values of the first coordinate between the basins of attraction of neighbouring minima.
    """

    loss: Callable[..., Any]
    gradient: Callable[..., tuple[Any, ...]]
    start: tuple[float, ...]
    box: tuple[tuple[float, float], ...]
    minima: tuple[tuple[float, ...], ...]
    barriers: tuple[float, ...] = ()

    @property
    def dim(self) -> int:
        """D."""
        return len(self.box)

    def losses(self, theta: Tensor) -> Tensor:
        """L of points (..., D), of shape (...)."""
        value: Tensor = self.loss(*theta.unbind(-1))
        return value

    def gradients(self, theta: Tensor) -> Tensor:
        """Gradients (..., D) at points (..., D)."""
        return torch.stack(self.gradient(*theta.unbind(-1)), -1)

    def diverged(self, theta: Tensor) -> Tensor:
        """Whether points (..., D) lie beyond `FAR` half-widths of the box, or nowhere; bool (...)."""
        low, high = torch.tensor(self.box, dtype=theta.dtype, device=theta.device).unbind(-1)
        distance = (theta - (low + high) / 2).abs() / ((high - low) / 2)
        return ~(distance <= FAR).all(-1)  # written so that NaN has diverged

    def basins(self, theta: Tensor) -> Tensor:
        """Number of the minimum that gradient flow from each of the points (..., D) ends in; `DIVERGED`; int64 (...).

        The double well is a sum over coordinates and no other landscape of two has two minima: barriers are straight.
        """
        barriers = torch.tensor(self.barriers, dtype=theta.dtype, device=theta.device)
        return torch.bucketize(theta[..., 0].contiguous(), barriers).masked_fill(self.diverged(theta), DIVERGED)


def landscape(name: str, kappa: float | None = None, angle: float | None = None) -> Landscape:
    """The landscape of that name.

    Args:
        name: See `LandscapeName`.
        kappa: Condition number of the ravine; None = 100.
        angle: Degrees by which the ravine is turned; None = 0.

    Raises:
        ValueError: Unknown name, a condition number below 1, or a setting of the ravine given to another landscape.

    >>> landscape("article").minima[1]
    (3.0,)
    """
    if name not in get_args(LandscapeName):
        raise ValueError(f"model.landscape = {name}: must be one of {', '.join(get_args(LandscapeName))}")
    for key, value in (("kappa", kappa), ("angle", angle)):
        if name != "ravine" and value is not None:
            raise ValueError(f"model.{key} = {value:g}: {name} has none; leave it out or use --model.landscape ravine")
    if name == "ravine":
        return _ravine(100.0 if kappa is None else kappa, 0.0 if angle is None else angle)
    return {"double_well": _double_well, "article": _article, "rosenbrock": _rosenbrock}[name]()


def _double_well() -> Landscape:
    """(x^2 - 1)^2 + 0.3 x + y^2."""
    left, barrier, right = sorted(float(root) for root in np.roots([4.0, 0.0, -4.0, TILT]).real)
    return Landscape(
        loss=lambda x, y: (x * x - 1) ** 2 + TILT * x + y * y,
        gradient=lambda x, y: (4 * x * (x * x - 1) + TILT, 2 * y),
        start=(1.7, 1.2),
        box=((-2.0, 2.0), (-1.5, 1.5)),
        minima=((left, 0.0), (right, 0.0)),
        barriers=(barrier,),
    )


def _article() -> Landscape:
    """The function of kexue.fm/archives/6261: x (x - 1) (x - 3)^2 + 1.62276; derivative (x - 3)(4x^2 - 9x + 3)."""
    return Landscape(
        loss=lambda x: x * (x - 1) * (x - 3) ** 2 + 1.62276,
        gradient=lambda x: ((x - 3) * (4 * x * x - 9 * x + 3),),
        start=(4.0,),
        box=((-0.6, 4.2),),
        minima=(((9 - math.sqrt(33)) / 8,), (3.0,)),
        barriers=((9 + math.sqrt(33)) / 8,),
    )


def _ravine(kappa: float, angle: float) -> Landscape:
    """(u^2 + kappa v^2) / 2 with (u, v) the coordinates turned by `angle` degrees."""
    if not 1 <= kappa < math.inf:
        raise ValueError(f"model.kappa = {kappa:g}: must be at least 1 and finite; 100 is a ravine")
    if not math.isfinite(angle):
        raise ValueError(f"model.angle = {angle}: must be a finite number of degrees; 0 lies along the axes")
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    a, b, d = c * c + kappa * s * s, (1 - kappa) * c * s, s * s + kappa * c * c  # the Hessian ((a, b), (b, d))
    return Landscape(
        loss=lambda x, y: (a * x * x + 2 * b * x * y + d * y * y) / 2,
        gradient=lambda x, y: (a * x + b * y, b * x + d * y),
        start=(-1.8, 0.6),
        box=((-2.0, 2.0), (-1.5, 1.5)),
        minima=((0.0, 0.0),),
    )


def _rosenbrock() -> Landscape:
    """(1 - x)^2 + 100 (y - x^2)^2 (Rosenbrock 1960)."""
    return Landscape(
        loss=lambda x, y: (1 - x) ** 2 + 100 * (y - x * x) ** 2,
        gradient=lambda x, y: (-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)),
        start=(-1.2, 1.0),
        box=((-2.0, 2.0), (-1.0, 3.0)),
        minima=((1.0, 1.0),),
    )
