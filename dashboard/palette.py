"""One colour a run, the same on every page, from a palette that colour-blind eyes tell apart."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from functools import lru_cache

# Six of Okabe & Ito 2008 (without their black and yellow, lost on a dark or a white page), then violet and brown. Any
# two stay apart under protanopia, deuteranopia and tritanopia (CIELAB distance at least 16 in the model of Machado et
# al. 2009), and each stands out from both pages by 2 to 1 or more.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#8822EE", "#994433")


def colors(run_ids: Sequence[str]) -> dict[str, str]:
    """Run id -> colour, #RRGGBB.

    Args:
        run_ids: those that are seen together, in the order they were chosen. A run has the colour its id stands for,
            unless one before it has that already: then the next that is free. So a run added at the end changes no
            other one's colour, and a run alone has its own on every page. Beyond eight, colours are used again evenly.
    """
    found: dict[str, str] = {}
    used = [0] * len(COLORS)
    for run_id in dict.fromkeys(run_ids):
        own = _preferred(run_id)
        order = [(own + shift) % len(COLORS) for shift in range(len(COLORS))]
        place = min(order, key=used.__getitem__)
        used[place] += 1
        found[run_id] = COLORS[place]
    return found


def _preferred(run_id: str) -> int:
    """The palette's place an id stands for; hashed, as ids a person wrote may begin alike."""
    return hashlib.sha256(run_id.encode()).digest()[0] % len(COLORS)


@lru_cache
def swatch(color: str) -> str:
    """A small disc of the colour as a data: URL, for a table's cell."""
    from PIL import Image, ImageDraw

    image = Image.new("RGBA", (64, 64))
    ImageDraw.Draw(image).ellipse((8, 8, 56, 56), fill=color)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
