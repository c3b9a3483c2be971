"""A VAE's stored latent space as pictures: the image at a point, the map around it, the data's codes.

Shapes: a grid of (n, m) points of D dimensions; B codes; images of H x W pixels, grey or of 3 colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dashboard.charts import LAYOUT, drawable
from dashboard.palette import COLORS

if TYPE_CHECKING:
    from PIL.Image import Image
    from plotly.graph_objects import Figure

SIDE = 480  # pixels, about: small images are enlarged to it with sharp edges
MOST_PIXELS = 8_192  # along a side of the map
MOST_CODES = 2_000  # drawn
FRAME = (230, 159, 0)  # colour of the frame around the chosen image
MOST_CLASSES = 16


def is_latent(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether the arrays fit one another, as those of latent.npz do."""
    if not {"grid", "decoded"} <= arrays.keys():
        return False
    grid, decoded = arrays["grid"], arrays["decoded"]
    codes, labels = arrays.get("codes"), arrays.get("labels")
    return bool(
        grid.ndim == 3
        and grid.size
        and grid.dtype.kind == "f"
        and decoded.dtype == np.uint8
        and decoded.ndim - (decoded.shape[-1:] == (3,) and decoded.ndim == 5) == 4
        and decoded.size
        and decoded.shape[:2] == grid.shape[:2]
        and max(decoded.shape[0] * decoded.shape[2], decoded.shape[1] * decoded.shape[3]) <= MOST_PIXELS
        and (codes is None or (codes.dtype.kind == "f" and codes.ndim == 2 and codes.shape[1] == grid.shape[2]))
        and (labels is None or (codes is not None and labels.dtype.kind in "iu" and labels.shape == codes.shape[:1]))
    )


def enlarged(pixels: np.ndarray) -> Image:
    """One image, (H, W) or (H, W, 3) uint8."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    factor = max(1, SIDE // image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def manifold(decoded: np.ndarray, row: int, column: int) -> Image:
    """All images in their places, the chosen one framed.

    Args:
        decoded: uint8 (n, m, H, W) or (n, m, H, W, 3).
        row: of the chosen one.
        column: likewise.
    """
    from PIL import ImageDraw

    n, m, height, width = decoded.shape[:4]
    pixels = decoded.swapaxes(1, 2).reshape(n * height, m * width, *decoded.shape[4:])
    image = enlarged(pixels).convert("RGB")
    factor = image.width / (m * width)
    left, top = column * width * factor, row * height * factor
    box = (left, top, left + width * factor - 1, top + height * factor - 1)
    ImageDraw.Draw(image).rectangle(box, outline=FRAME, width=max(2, round(factor)))
    return image


def codes_chart(arrays: Mapping[str, np.ndarray], point: np.ndarray, words: Mapping[str, str]) -> Figure:
    """Codes of the data by class, and a point, as the map lies: the first coordinate downwards, the second rightwards.

    Args:
        arrays: codes (B, D), the first two coordinates drawn, and, where they are known, labels (B,).
        point: (D,).
        words: latent_codes, latent_class, latent_point.
    """
    from plotly.graph_objects import Figure, Scatter

    y, x = _plane(arrays["codes"][:MOST_CODES])
    labels = arrays.get("labels", np.zeros(len(x), int))[:MOST_CODES]
    figure = Figure()
    classes = np.unique(labels)
    for place, label in enumerate(classes[:MOST_CLASSES]):
        own = labels == label
        marker = {"size": 5, "color": COLORS[place % len(COLORS)], "symbol": place // len(COLORS)}
        figure.add_trace(
            Scatter(x=x[own], y=y[own], mode="markers", marker=marker, name=f"{words['latent_class']} {label}")
        )
    y, x = _plane(point[None])
    cross = {"symbol": "x", "size": 13, "color": "#000000", "line": {"width": 2, "color": "#FFFFFF"}}
    figure.add_trace(Scatter(x=x, y=y, mode="markers", marker=cross, name=words["latent_point"]))
    figure.update_layout(**LAYOUT, title_text=words["latent_codes"], height=480, showlegend=len(classes) > 1)
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"})
    figure.update_xaxes(title_text="z₂", zeroline=False)
    figure.update_yaxes(title_text="z₁", zeroline=False, scaleanchor="x", autorange="reversed")
    return figure


def _plane(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two coordinates of codes (B, D), each (B,); 0 where there is one alone."""
    first = drawable(codes[:, 0].astype(float))
    return first, drawable(codes[:, 1].astype(float)) if codes.shape[1] > 1 else np.zeros(len(codes))
