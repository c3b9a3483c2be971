"""The texts of the claims on entropy: Python's documentation, English without its spaces, Chinese where it is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from experiments.claims.context import Context
from mining.corpus import Policy, Units, units
from mining.merges import Merger
from mining.sources import pydoc_words, pydoc_zh

Segment = tuple[str, ...]  # words

NOWHERE = "file:///"  # an address that holds nothing: a claim reads what lies on this machine
FETCH = "needs the text pydoc_zh, which `taolu mine lexicon pydoc_zh` fetches"
LETTERS = 26


@cache
def english() -> tuple[Segment, ...]:
    """The segments of the English text as words in lower case."""
    return tuple(map(tuple, pydoc_words()))


@cache
def parallel() -> tuple[tuple[str, str], ...]:
    """Paragraphs in English and Chinese; none where the Chinese text has not been fetched yet."""
    try:
        return tuple(pydoc_zh(address=NOWHERE))
    except ValueError:
        return ()


def parts(context: Context, n: int) -> list[list[Segment]]:
    """The English text in n parts of equally many segments, drawn without replacement."""
    text = english()
    order = context.rng("segments").permutation(len(text))
    return [[text[at] for at in part] for part in np.array_split(order, n)]


def letters(segments: Iterable[Segment]) -> Units:
    """The text without its spaces: a unit is a letter."""
    return units("\n".join(map("".join, segments)), Policy(latin="each"))


@cache
def merged_starts() -> NDArray[np.bool_]:
    """(n,) whether a word begins at a letter of the whole text, by merges for as long as F pays for the new word."""
    merger = Merger(letters(english()))
    while merger.step("gain", has_cost=True):
        pass
    return merger.is_start


def starts(segments: Sequence[Segment]) -> NDArray[np.bool_]:
    """(n letters,) whether a word begins there."""
    lengths = np.array([len(word) for segment in segments for word in segment])
    is_start = np.zeros(lengths.sum(), bool)
    is_start[np.cumsum(lengths) - lengths] = True
    return is_start


def boundary_counts(text: Units, found: NDArray[np.bool_], gold: NDArray[np.bool_], n_blocks: int) -> NDArray[np.int64]:
    """(n_blocks, 3) borders between letters: found and true, found, true; a segment's own ends are known to all.

    Args:
        text: n letters.
        found: (n,) where a word is said to begin.
        gold: (n,) where one does.
        n_blocks: of consecutive segments, for an interval.
    """
    is_inner = np.ones(len(text), bool)
    is_inner[text.starts[:-1]] = False
    sums = np.stack([found & gold, found, gold], 1) & is_inner[:, None]
    firsts = [text.starts[block[0]] for block in np.array_split(np.arange(len(text.starts) - 1), n_blocks)]
    return np.add.reduceat(sums.astype(np.int64), firsts)


def f_score(counts: NDArray[np.floating]) -> float:
    """2 PR / (P + R) of (3,) counts as in `boundary_counts`."""
    return float(2 * counts[0] / (counts[1] + counts[2]))


def word_counts(segments: Iterable[Segment]) -> Counter[str]:
    """How often each word occurs."""
    return Counter(word for segment in segments for word in segment)
