"""Pictures made of tensors alone: many small images as one that is large enough to look at, and discs of a colour.

Shapes: B images of C channels, H x W pixels.
"""

import math

import torch
from torch import Tensor

GREY = 0.5  # seen beside the black or white margins of most images


def tile(images: Tensor, columns: int, pad: int = 1) -> Tensor:
    """The images row by row in one grid, grey lines between and around them; missing ones at the end are grey.

    Args:
        images: (B, C, H, W), floating point in [0, 1].
        columns: Images in a row.
        pad: Width of the lines, in pixels.

    Returns:
        (C, rows (H + pad) + pad, columns (W + pad) + pad).

    >>> tile(torch.ones(3, 1, 2, 2), columns=2)[0]
    tensor([[0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000],
            [0.5000, 1.0000, 1.0000, 0.5000, 1.0000, 1.0000, 0.5000],
            [0.5000, 1.0000, 1.0000, 0.5000, 1.0000, 1.0000, 0.5000],
            [0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000],
            [0.5000, 1.0000, 1.0000, 0.5000, 0.5000, 0.5000, 0.5000],
            [0.5000, 1.0000, 1.0000, 0.5000, 0.5000, 0.5000, 0.5000],
            [0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000]])
    """
    n, channels, height, width = images.shape
    rows = math.ceil(n / columns)
    cells = images.new_full((rows * columns, channels, height + pad, width + pad), GREY)
    cells[:n, :, pad:, pad:] = images  # each cell carries the line above it and the line to its left
    grid = cells.view(rows, columns, channels, height + pad, width + pad).permute(2, 0, 3, 1, 4)
    grid = grid.reshape(channels, rows * (height + pad), columns * (width + pad))
    return torch.nn.functional.pad(grid, (0, pad, 0, pad), value=GREY)


def enlarge(grid: Tensor, smaller_side: int = 320) -> Tensor:
    """The picture with every pixel repeated until its smaller side has that many; unchanged if it has them already.

    Args:
        grid: (C, H, W).
        smaller_side: Pixels wanted; the factor is the smallest integer that reaches them.

    Returns:
        (C, factor H, factor W).

    >>> enlarge(torch.zeros(1, 100, 200)).shape
    torch.Size([1, 400, 800])
    """
    factor = math.ceil(smaller_side / min(grid.shape[1:]))
    return grid.repeat_interleave(factor, 1).repeat_interleave(factor, 2) if factor > 1 else grid


def paint(picture: Tensor, centres: Tensor, radius: float, colour: tuple[float, float, float]) -> None:
    """Discs of one colour, in place; what lies outside of the picture is left out.

    Args:
        picture: (3, H, W).
        centres: (n, 2), row and column in pixels.
        radius: In pixels.
        colour: Red, green, blue in [0, 1].
    """
    reach = torch.arange(-int(radius), int(radius) + 1)
    disc = torch.cartesian_prod(reach, reach)
    disc = disc[disc.square().sum(-1) <= radius * radius]
    places = (centres.round().long()[:, None] + disc).flatten(0, 1)
    size = torch.tensor(picture.shape[1:])
    places = places[((places >= 0) & (places < size)).all(-1)]
    picture[:, places[:, 0], places[:, 1]] = torch.tensor(colour)[:, None]
