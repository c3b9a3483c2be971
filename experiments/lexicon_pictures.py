"""Pictures of a lexicon: how long words are, how often the first is met, and what merges save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path as File
from typing import TYPE_CHECKING

import numpy as np

from experiments.claims.plot import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Dot,
    Path,
    Shape,
    Text,
    frame_of,
    image,
    scale_of,
)
from experiments.claims.registry import Axes
from experiments.fonts import HINT, font_for, needs_font
from mining.lexicon import Lexicon

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_DOTS = 400
LABELLED = 10  # of the most frequent words
BAR = 14  # pixels


def lengths_picture(lexicon: Lexicon) -> Image:
    """How many words there are of each length, and which share of the text they make up."""
    lengths = np.array([len(word) for word in lexicon.words])
    n_words = np.bincount(lengths)
    n_tokens = np.bincount(lengths, lexicon.count)
    places = list(range(1, len(n_words)))
    shares = {"words": n_words[1:] / n_words.sum(), "of the text": n_tokens[1:] / max(n_tokens.sum(), 1)}
    x, _ = scale_of([0.5, *places, len(n_words) - 0.5], LEFT, WIDTH - RIGHT, log=False)
    y, ticks_y = scale_of([0.0, *(share for each in shares.values() for share in each)], HEIGHT - BOTTOM, TOP, False)
    drawn: list[Shape] = [Text(LEFT - 60, 24, f"{len(lexicon):,} words by length", size=14)]
    drawn += frame_of(Axes("units of a word", "share"), [(x(at), str(at)) for at in places], ticks_y)
    for number, (name, share) in enumerate(shares.items()):
        colour, offset = COLOURS[number], (number - 1) * BAR
        for at, height in zip(places, share.tolist(), strict=True):
            left, top, floor = x(at) + offset, y(height), y(0.0)
            corners = ((left, floor), (left, top), (left + BAR, top), (left + BAR, floor))
            drawn.append(Path(corners, colour, fill=colour))
        drawn += _named(number, name, colour)
    return image(drawn)


def ranks_picture(lexicon: Lexicon, say: Callable[[str], None], fonts: Sequence[File] | None = None) -> Image:
    """Frequency against rank, with the most frequent words of several units by name.

    Args:
        lexicon: not empty.
        say: told once where no installed font has the letters; words are then their ranks.
        fonts: folders to look for fonts in; default the system's.
    """
    order = np.argsort(-lexicon.count, kind="stable")
    counts = lexicon.count[order]
    ranks = np.arange(1, len(counts) + 1)
    shown = np.unique(np.geomspace(1, len(counts), min(MOST_DOTS, len(counts))).astype(int)) - 1
    x, ticks_x = scale_of(ranks.tolist(), LEFT, WIDTH - RIGHT, log=True)
    y, ticks_y = scale_of(counts.tolist(), HEIGHT - BOTTOM, TOP, log=True)
    labels = {at: lexicon.words[order[at]] for at in range(len(order)) if len(lexicon.words[order[at]]) > 1}
    labels = dict(list(labels.items())[:LABELLED])
    font = None
    if needs_font(labels.values()):
        font = font_for(labels.values()) if fonts is None else font_for(labels.values(), fonts)
        if font is None:
            say(HINT)
            labels = {at: f"#{at + 1}" for at in labels}
    drawn: list[Shape] = [Text(LEFT - 60, 24, "frequency by rank", size=14)]
    drawn += frame_of(Axes("rank", "occurrences"), ticks_x, ticks_y)
    drawn += [Dot(x(float(ranks[at])), y(float(counts[at])), COLOURS[0], 2.5) for at in shown.tolist()]
    left = WIDTH - RIGHT + 14
    for number, (at, word) in enumerate(labels.items()):
        drawn.append(Dot(x(float(ranks[at])), y(float(counts[at])), COLOURS[1], 3.5))
        drawn.append(Text(left, TOP + 8 + 18 * number, f"{at + 1}  {word}", size=12))
    return image(drawn, font=font)


def merges_picture(curve: Sequence[tuple[int, float]], before: float) -> Image:
    """Bits a character against merges by F*, from what the beginning of the text has without any.

    Args:
        curve: merges and bits.
        before: bits a character of the whole text without merges.
    """
    x, ticks_x = scale_of([at for at, _ in curve], LEFT, WIDTH - RIGHT, log=False)
    y, ticks_y = scale_of([*(bits for _, bits in curve), before], HEIGHT - BOTTOM, TOP, log=False)
    drawn: list[Shape] = [Text(LEFT - 60, 24, "bits a character by merges, of the text's beginning", size=14)]
    drawn += frame_of(Axes("merges by F*", "bits a character"), ticks_x, ticks_y)
    drawn.append(Path(((LEFT, y(before)), (WIDTH - RIGHT, y(before))), COLOURS[1], 1.4, dashed=True))
    drawn.append(Path(tuple((x(at), y(bits)) for at, bits in curve), COLOURS[0], 1.8))
    return image(drawn + _named(0, "with merges", COLOURS[0]) + _named(1, "whole text, none", COLOURS[1]))


def _named(number: int, name: str, colour: str) -> list[Shape]:
    """A row of the legend."""
    left, top = WIDTH - RIGHT + 14, TOP + 8 + 18 * number
    return [Dot(left + 8, top - 4, colour), Text(left + 22, top, name, size=11)]
