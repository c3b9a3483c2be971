"""Places for the nodes of a small graph."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def spring(n: int, edges: Sequence[tuple[int, int]], steps: int = 200) -> NDArray[np.float64]:
    """(n, 2) places where connected nodes are near and others apart (Fruchterman & Reingold 1991), from a circle on."""
    angle = 2 * math.pi * np.arange(n) / max(n, 1)
    spots = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    joined = np.zeros((n, n))
    for a, b in edges:
        joined[a, b] = joined[b, a] = 1
    length = (4 / max(n, 1)) ** 0.5
    for step in range(steps):
        apart = spots[:, None] - spots
        distance = np.maximum(np.hypot(apart[..., 0], apart[..., 1]), 1e-3)
        force = length**2 / distance**2 - joined * distance / length
        move = (apart * force[..., None]).sum(axis=1) - 0.3 * spots  # parts that nothing joins stay near
        size = np.maximum(np.hypot(move[:, 0], move[:, 1]), 1e-9)
        spots = spots + move / size[:, None] * np.minimum(size, 0.1 * (1 - step / steps))[:, None]
    return spots
