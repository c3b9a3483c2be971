"""Pictures of points in the plane, drawn with tensors alone: a critic's landscape in shades, samples over it, paths.

Pictures are (3, SIDE, SIDE) in [0, 1], the first coordinate to the right, the second upwards.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.grids import paint

SIDE = 400
SHARP = 2  # drawn this much larger, then averaged: smooth edges
LEVELS = 14  # contour lines from the lowest to the highest score
SHADES = torch.tensor([[0.05, 0.06, 0.16], [0.12, 0.22, 0.38], [0.30, 0.42, 0.54], [0.62, 0.66, 0.70]])  # low to high
REAL, FAKE = (1.0, 1.0, 1.0), (1.0, 0.55, 0.20)
CELLS = 100  # a side at which the critic is asked
GROUND, ORBIT, AVERAGE = (0.12, 0.14, 0.20), (1.0, 0.78, 0.25), (0.35, 0.85, 1.0)
FINE = 16  # points drawn for each one given: lines without gaps


def draw_points(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, reach: float = 1.0) -> Tensor:
    """The critic's score, bright where it is high, with contour lines; real points in white, generated ones in orange.

    Args:
        critic: (n, 2) to (n,).
        real: (N, 2).
        fake: (M, 2).
        reach: The square [-reach, reach]^2 is drawn.
    """
    picture = _shaded(critic, reach)
    for points, radius, colour in ((real, 1.5, REAL), (fake, 2.0, FAKE)):
        paint(picture, pixels(points, reach), radius, colour)
    return F.avg_pool2d(picture, SHARP)


def pixels(points: Tensor, reach: float) -> Tensor:
    """Row and column (n, 2) of points (n, 2) in the enlarged picture; those that are nowhere are left out."""
    shares = (points[points.isfinite().all(1)].cpu() / reach).clamp(-2, 2) / 2 + 0.5
    return torch.stack([1 - shares[:, 1], shares[:, 0]], 1) * (SHARP * SIDE - 1)


def _shaded(critic: Callable[[Tensor], Tensor], reach: float) -> Tensor:
    ticks = torch.linspace(-reach, reach, CELLS)
    grid = torch.stack(torch.meshgrid(ticks.flip(0), ticks, indexing="ij")[::-1], -1)  # rows from the top: (x, y)
    scores = critic(grid.flatten(0, 1)).detach().float().cpu().view(1, 1, CELLS, CELLS)
    scores = F.interpolate(scores, size=SHARP * SIDE, mode="bilinear", align_corners=True)[0, 0]
    low, high = scores.aminmax()
    share = (scores - low) / (high - low).clamp_min(1e-12)
    place = share.nan_to_num().clamp(0, 1) * (len(SHADES) - 1)
    shade = place.long().clamp(max=len(SHADES) - 2)
    picture = torch.lerp(SHADES[shade], SHADES[shade + 1], (place - shade)[..., None])
    level = (share * LEVELS).floor()
    is_edge = (level != level.roll(1, 0)) | (level != level.roll(1, 1))
    is_edge[0], is_edge[:, 0] = False, False
    return (picture * torch.where(is_edge, 1.35, 1.0)[..., None]).clamp(0, 1).movedim(-1, 0).contiguous()


def draw_orbit(orbit: Tensor, average: Tensor) -> Tensor:
    """The way of a point about the origin, which is marked in white, and in blue that of its average; all of both.

    Args:
        orbit: (n, 2).
        average: (n, 2).
    """
    reach = 1.1 * float(torch.cat([orbit, average]).nan_to_num().abs().max())
    picture = torch.tensor(GROUND)[:, None, None].expand(3, SHARP * SIDE, SHARP * SIDE).clone()
    for points, radius, colour in ((orbit, 2.0, ORBIT), (average, 2.5, AVERAGE)):
        fine = F.interpolate(points.T[None].float(), size=FINE * len(points), mode="linear", align_corners=True)[0].T
        paint(picture, pixels(fine, reach), radius, colour)
        paint(picture, pixels(points[-1:], reach), 9, colour)
    paint(picture, pixels(torch.zeros(1, 2), reach), 7, REAL)
    return F.avg_pool2d(picture, SHARP)
