"""What a VAE shows: reconstructions, a map of the latent space, ways through it, and where each class lies in it.

Shapes: B images of C channels, H x W pixels; D latent dimensions. Pictures are (C, H, W) in [0, 1].
"""

import colorsys

import torch
from torch import Tensor

from lightning_modules.grids import paint, tile

MANIFOLD_SIDE = 15  # the grid of the programs that accompany kexue.fm/archives/5383
SCATTER_SIDE = 480
MARGIN = 12  # pixels around the dots
DOT = 2.5


def beside_reconstructions(x: Tensor, reconstructed: Tensor, columns: int) -> Tensor:
    """Grid with rows of images, each above the row of its reconstructions; a last row not full is left out.

    Args:
        x: (B, C, H, W) in [0, 1].
        reconstructed: The same shape.
        columns: Images in a row at most.
    """
    columns = min(columns, len(x))
    whole = len(x) // columns * columns
    pairs = torch.stack([torch.unflatten(t[:whole], 0, (-1, columns)) for t in (x, reconstructed)], 1)
    return tile(pairs.flatten(0, 2), columns)  # from (rows, 2, columns, C, H, W)


def manifold() -> Tensor:
    """Points of a 2-D latent space at equal steps of prior probability from .05 to .95, the first number by row.

    Returns:
        (15, 15, 2).
    """
    quantiles = torch.special.ndtri(torch.linspace(0.05, 0.95, MANIFOLD_SIDE))
    return torch.cartesian_prod(quantiles, quantiles).view(MANIFOLD_SIDE, MANIFOLD_SIDE, 2)


def ways(codes: Tensor, n_steps: int) -> Tensor:
    """Points on straight lines from the first code to the second, from the third to the fourth, and so on.

    Args:
        codes: (B, D); an odd one at the end is left out.
        n_steps: Points on a line, both ends included.

    Returns:
        (B // 2, n_steps, D).

    >>> ways(torch.tensor([[0.0], [2.0], [1.0], [1.0]]), 3).squeeze(2)
    tensor([[0., 1., 2.],
            [1., 1., 1.]])
    """
    starts, ends = torch.unflatten(codes[: len(codes) // 2 * 2], 0, (-1, 2)).unbind(1)
    return torch.lerp(starts.unsqueeze(1), ends.unsqueeze(1), torch.linspace(0, 1, n_steps).to(codes)[:, None])


def scatter(codes: Tensor, labels: Tensor | None) -> Tensor:
    """A dot for each code, coloured by its class, both axes to the same scale.

    Args:
        codes: (B, D); of more than 2 dimensions, their first two principal components.
        labels: int64 (B,), from 0; None = one colour for all.
    """
    points = _plane(codes)
    low, high = points.aminmax(dim=0)
    scale = (SCATTER_SIDE - 2 * MARGIN) / max(float((high - low).max()), 1e-12)
    places = (points - (low + high) / 2) * scale * torch.tensor([1.0, -1.0]) + SCATTER_SIDE / 2
    picture = torch.full((3, SCATTER_SIDE, SCATTER_SIDE), 0.09)
    labels = torch.zeros(len(codes), dtype=torch.int64) if labels is None else labels
    colours = hues(int(labels.max()) + 1)
    for label, colour in enumerate(colours):
        paint(picture, places[labels == label].flip(1), DOT, colour)
    return picture


def hues(n: int) -> list[tuple[float, float, float]]:
    """Colours as far from one another as n can be on the wheel, every second one lighter.

    >>> hues(2)
    [(1.0, 0.0, 0.0), (0.4, 1.0, 1.0)]
    """
    return [colorsys.hsv_to_rgb(i / n, 1 - 0.4 * (i % 2), 1.0) for i in range(n)]


def _plane(codes: Tensor) -> Tensor:
    """The codes as points (B, 2)."""
    if codes.shape[1] > 2:
        centred = codes - codes.mean(0)
        axes: Tensor = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, [-1, -2]]  # (D, 2)
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        return centred @ (axes * largest.sign())  # without a fixed sign, the picture would flip between epochs
    return torch.nn.functional.pad(codes, (0, 2 - codes.shape[1]))
