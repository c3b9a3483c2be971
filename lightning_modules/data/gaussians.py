"""Points of the plane from a ring or a grid of normal distributions: a distribution whose every mode is known."""

import math
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lightning_modules.data.image_arrays import ImageSource, View, checked_part
from lightning_modules.data.image_set import ImageSet
from lightning_modules.data.sampling import Sampling, draw

Layout = Literal["ring", "grid"]
RADIUS = 0.7  # of the ring, and half the side of the grid
WIDEST = 0.05  # six standard deviations are left between a mode and the border of [-1, 1]


class Gaussians(ImageSet):
    """Normal distributions of equal weight on a ring or a square grid in [-1, 1]^2; the label is the mode.

    A point is an image of two channels and one pixel, (2, 1, 1), so whatever trains on images trains on points.

    Attributes beside those of every set: `centres` (n_modes, 2) and `spread`.

    Args:
        layout: ring = on a circle of radius 0.7; grid = a square of side 1.4 filled evenly.
        n_modes: Normal distributions; a square number on a grid. 8 on a ring and 25 on a grid are usual.
        spread: Standard deviation of each coordinate about its mode.
        n_points: Points in all, of which a fifth validates.
        batch_size: Points a process and step.
        sampling: Order of the training points: shuffled each epoch, or drawn each step with or without replacement.
        points_seed: Of the points themselves; not the run's seed, so that runs compare.
        seed: Of the order of the training points.

    Source: Metz et al. 2017 (ring of 8); Dumoulin et al. 2017 (grid of 25).
    """

    def __init__(
        self,
        layout: Layout = "ring",
        n_modes: int = 8,
        spread: float = 0.02,
        n_points: int = 10_000,
        batch_size: int = 256,
        sampling: Sampling = "shuffled",
        points_seed: int = 0,
        seed: int = 0,
    ) -> None:
        _check_settings(layout, n_modes, spread, n_points)
        self.centres = centres(layout, n_modes)
        self.spread = spread
        super().__init__(
            lambda: _draw(self.centres, spread, n_points, points_seed),
            name=f"{layout} of {n_modes}",
            view=View("symmetric"),
            batch_size=batch_size,
            sampling=sampling,
            seed=seed,
            validation_fraction=0.2,
            split_seed=points_seed,
        )


def centres(layout: Layout, n_modes: int) -> Tensor:
    """The modes (n_modes, 2), counter-clockwise from the right, or row by row from the lower left.

    >>> centres("grid", 4)
    tensor([[-0.7000, -0.7000],
            [ 0.7000, -0.7000],
            [-0.7000,  0.7000],
            [ 0.7000,  0.7000]])
    """
    if layout == "ring":
        angles = 2 * math.pi * torch.arange(n_modes) / n_modes
        return RADIUS * torch.stack([angles.cos(), angles.sin()], 1)
    ticks = torch.linspace(-RADIUS, RADIUS, math.isqrt(n_modes))
    return torch.cartesian_prod(ticks, ticks).flip(1)


def _draw(modes: Tensor, spread: float, n_points: int, seed: int) -> ImageSource:
    """Points (n_points, 2, 1, 1), the modes in turn."""
    labels = torch.arange(n_points) % len(modes)
    deviations = torch.randn(n_points, 2, generator=draw(seed, "gaussians"))
    points = (modes[labels] + spread * deviations).clamp(-1, 1)  # a draw beyond six deviations is none in practice
    part = checked_part(points[..., None, None].numpy().astype(np.float32), labels.numpy(), "gaussians")
    return ImageSource(part, None, "drawn")


def _check_settings(layout: str, n_modes: int, spread: float, n_points: int) -> None:
    """Refuses, by name, what no points can be drawn from."""
    for is_wrong, message in (
        (layout not in get_args(Layout), f"layout = {layout}: must be ring or grid"),
        (n_modes < 2, f"n_modes = {n_modes}: must be at least 2; 8 is usual"),
        (
            layout == "grid" and math.isqrt(max(n_modes, 0)) ** 2 != n_modes,
            f"n_modes = {n_modes}: a grid has a square number of modes; 25 is usual",
        ),
        (not 0 < spread <= WIDEST, f"spread = {spread}: must lie in (0, {WIDEST}], else points leave [-1, 1]"),
        (n_points < 10 * n_modes, f"n_points = {n_points}: must be at least 10 a mode, {10 * n_modes}"),
    ):
        if is_wrong:
            raise ValueError(f"data.{message}")
