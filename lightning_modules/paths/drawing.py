"""Pictures of paths and maps, drawn with tensors alone: a landscape in shades, lines over it, cells in colours.

Pictures are (3, H, W) in [0, 1]. D coordinates.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.grids import paint, tile
from lightning_modules.paths.landscapes import DIVERGED, Landscape

WIDTH, HEIGHT = 480, 360
SHARP = 2  # drawn this much larger, then averaged: smooth edges
LEVELS = 16  # contour lines from the lowest to the highest loss of the box
RANGE = 60.0  # how strongly shades spread low losses
SHADES = torch.tensor([[0.05, 0.06, 0.16], [0.12, 0.22, 0.38], [0.30, 0.42, 0.54], [0.62, 0.66, 0.70]])  # low to high
PATH, ODE, MINIMUM = (1.0, 0.78, 0.25), (0.35, 0.85, 1.0), (1.0, 1.0, 1.0)
BASINS = torch.tensor([[0.30, 0.66, 0.90], [0.95, 0.52, 0.32]])  # of the global minimum, of another
GREY = torch.tensor([0.17, 0.17, 0.19])  # diverged
CELL = 19  # pixels across
DECADES = 8.0  # of loss above the minimum, from a dim cell to a bright one
Line = tuple[Tensor, Tensor]  # times (n,) and points (n, D)


def draw_path(landscape: Landscape, path: Line, ode: Line) -> Tensor:
    """The landscape, dark where it is low, its minima in white, the path in yellow, the equation's solution in blue.

    A landscape of one coordinate is drawn with that coordinate upwards and time to the right.

    Args:
        landscape: Drawn over its box.
        path: The optimizer's.
        ode: The solution beside it.
    """
    end = float(torch.maximum(path[0][-1], ode[0][-1])) or 1.0
    picture = _shaded(landscape)
    minima = torch.tensor(landscape.minima, dtype=torch.float64)
    for minimum in minima:
        paint(picture, _along(_pixels(landscape, (torch.tensor([0, end]), minimum.expand(2, -1)), end)), 1.5, MINIMUM)
    if landscape.dim == 2:
        paint(picture, _pixels(landscape, (torch.zeros(len(minima)), minima), end), 8, MINIMUM)
    for line, radius, colour in ((ode, 3.0, ODE), (path, 2.0, PATH)):
        corners = _pixels(landscape, line, end)
        paint(picture, _along(corners), radius, colour)
        paint(picture, corners[[0, -1]], 7, colour)
    dots = _pixels(landscape, path, end)
    if len(dots) < WIDTH:  # each step where they can be told apart
        paint(picture, dots, 4, PATH)
    return F.avg_pool2d(picture, SHARP)


def draw_basins(basin: Tensor, excess: Tensor, chosen: tuple[int, int] | None) -> Tensor:
    """The map in cells, lr to the right and beta upwards: blue = in the basin of the global minimum, grey = diverged.

    Args:
        basin: (n_lr, n_beta), see `Landscape.basins`.
        excess: Loss above the minimum of that basin, (n_lr, n_beta); the smaller, the brighter.
        chosen: Cell to frame in white.
    """
    brightness = (-excess.clamp(min=1e-300).log10() / DECADES).clamp(0, 1) * 0.6 + 0.4
    colours = BASINS[basin.clamp(min=0)] * brightness.float()[..., None]
    colours[basin == DIVERGED] = GREY
    cells = colours[..., None, None].expand(*colours.shape, CELL, CELL).clone()  # (n_lr, n_beta, 3, CELL, CELL)
    if chosen is not None:
        framed = cells[chosen]
        inside = framed[:, 3:-3, 3:-3].clone()
        framed[:] = 1.0
        framed[:, 3:-3, 3:-3] = inside
    return tile(cells.transpose(0, 1).flip(0).flatten(0, 1), columns=len(basin))


def _shaded(landscape: Landscape) -> Tensor:
    """The landscape's box with its contour lines, (3, SHARP HEIGHT, SHARP WIDTH)."""
    height, width = SHARP * HEIGHT, SHARP * WIDTH
    low, high = landscape.box[-1]
    rows = torch.linspace(high, low, height)[:, None].expand(height, width)
    columns = torch.linspace(*landscape.box[0], width).expand(height, width)
    loss = landscape.losses(torch.stack([columns, rows] if landscape.dim == 2 else [rows], -1))
    share = torch.log1p(RANGE * (loss - loss.min()) / (loss.max() - loss.min())) / torch.log1p(torch.tensor(RANGE))
    place = share.clamp(0, 1) * (len(SHADES) - 1)
    shade = place.long().clamp(max=len(SHADES) - 2)
    picture = torch.lerp(SHADES[shade], SHADES[shade + 1], (place - shade)[..., None])
    level = (share * LEVELS).floor()
    is_edge = (level != level.roll(1, 0)) | (level != level.roll(1, 1))
    is_edge[0], is_edge[:, 0] = False, False
    return (picture * torch.where(is_edge, 1.35, 1.0)[..., None]).clamp(0, 1).movedim(-1, 0).contiguous()


def _pixels(landscape: Landscape, line: Line, end: float) -> Tensor:
    """Row and column (n, 2) of the points of a line in the enlarged picture; those that are nowhere are left out."""
    times, points = line
    along = (points[:, 0] - landscape.box[0][0]) / (landscape.box[0][1] - landscape.box[0][0])
    low, high = landscape.box[-1]
    upwards = (points[:, -1] - low) / (high - low)
    places = torch.stack([1 - upwards, along if landscape.dim == 2 else times / end], -1)
    size = SHARP * torch.tensor([HEIGHT - 1, WIDTH - 1])
    return places[places.isfinite().all(-1)].clamp(-1, 2) * size


def _along(corners: Tensor) -> Tensor:
    """Points at most a pixel apart on the lines from corner to corner, (n, 2)."""
    if len(corners) < 2:
        return corners
    lengths = corners.diff(dim=0).abs().amax(-1).ceil().long().clamp(min=1)
    starts = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    firsts = lengths.cumsum(0) - lengths
    share = (torch.arange(len(starts)) - firsts[starts]) / lengths[starts]
    return torch.lerp(corners[starts], corners[starts + 1], share[:, None].to(corners.dtype))
