"""The word list of kexue.fm/archives/5476, section 3: cut at once where neighbours do not belong together, then prune.

The article cuts between two characters whose pair is rare or has little PMI, takes what is left whole as candidate,
and removes candidates that are worth no more than their parts, longest first.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mining.corpus import Policy, Units
from mining.entropy import solidity
from mining.ngrams import Ngrams
from mining.paths import Paths
from mining.scores import SHOWN, Scores

Floats = NDArray[np.float64]

HALF = 0.5  # of an occurrence: what a letter has that is no word


@dataclass(frozen=True)
class Removed:
    """A candidate that was taken out.

    Args:
        word: it.
        count: how often it occurred, its own removed compounds included.
        parts: the words that replace it.
        gain: ln p(word) - sum ln p(part), in nats.
    """

    word: str
    count: int
    parts: tuple[str, ...]
    gain: float


def cut_at_once(texts: Iterable[Units], pairs: Ngrams, min_prob: float, min_pmi: float) -> Counter[str]:
    """What stands between cuts, and how often.

    Args:
        texts: units.
        pairs: of the same text, counted to n = 2 at least.
        min_prob: a pair that is not more frequent, over all units, is cut.
        min_pmi: so is one whose PMI is not greater, in nats.
    """
    probability = pairs.levels[1].counts / max(pairs.n_units, 1)
    holds = np.append((probability > min_prob) & (solidity(pairs)[1] > min_pmi), False)
    found: Counter[str] = Counter()
    for text in texts:
        is_start = np.ones(len(text) + 1, bool)
        is_start[1:-1] = ~holds[pairs.locate(text)[1][:-1]] if len(text) else True
        is_start[text.starts] = True
        shown = "".join(SHOWN.get(code, "") or chr(code) for code in text.codes.tolist())
        edges = np.flatnonzero(is_start).tolist()
        found.update(shown[begin:end] for begin, end in itertools.pairwise(edges))
    return found


def remove_redundant(
    counts: Mapping[str, int],
    *,
    min_gain: float = 1.0,
    max_length: int = 20,
    policy: Policy = Policy(),  # noqa: B008 (frozen)
) -> tuple[dict[str, int], list[Removed]]:
    """The words that are worth more than their parts, with their counts; and those removed, longest first.

    A word is cut by the shorter ones; where ln p(word) - sum ln p(part) is not above `min_gain`, it goes, and its
    count is added to its parts. Words of one length are judged by the same counts, so that their order is no matter.

    Args:
        counts: of the candidates, at least one.
        min_gain: in nats.
        max_length: units; longer words always go.
        policy: of units.
    """
    tree = Scores.of_words(counts, policy)
    n_words = float(sum(count for count in counts.values() if count > 0))
    left = [np.where(np.isfinite(value), np.rint(np.exp(value) * n_words), 0.0) for value in tree.values]
    left[0][tree.values[0] <= tree.unknown] = 0.0  # letters that are no words
    removed: list[Removed] = []
    for k in range(len(left), 1, -1):
        rows = np.flatnonzero(left[k - 1])
        if len(rows):
            removed += _judge(tree, left, k, rows, min_gain if k <= max_length else np.inf, max_length)
    kept: dict[str, int] = {}
    for k, count in enumerate(left, 1):
        rows = np.flatnonzero(count)
        kept |= dict(zip(tree.words(k, rows), count[rows].astype(int).tolist(), strict=True))
    return kept, removed


def _judge(
    tree: Scores, left: list[Floats], k: int, rows: NDArray[np.int64], min_gain: float, max_length: int
) -> list[Removed]:
    """Takes words of k units out of the counts, in place, where their parts serve as well."""
    total = sum(float(count.sum()) for count in left)
    with np.errstate(divide="ignore"):
        values = [np.log(np.maximum(count, 0.0 if at else HALF) / total) for at, count in enumerate(left)]
    reach = min(k - 1, max_length)
    codes = tree.codes(k, rows).ravel()
    starts = np.arange(0, len(codes) + 1, k)
    none = np.empty(0, np.int64)
    paths = Paths(tree.locate(Units("", codes, none, none, starts))[:reach], starts)
    is_start, best = paths.best(values[:reach], tree.unknown)
    gains = values[k - 1][rows] - best
    goes = ~(gains > min_gain)
    begins, lengths, arcs = paths.words(is_start)
    counts = left[k - 1][rows]
    left[k - 1][rows[goes]] = 0.0
    goes_too = goes[begins // k]
    for length in range(1, reach + 1):
        is_one = goes_too & (lengths == length)
        np.add.at(left[length - 1], arcs[is_one], counts[begins[is_one] // k])
    words = tree.words(k, rows)
    cuts = np.split(begins % k, np.flatnonzero(begins % k == 0)[1:])
    return [
        Removed(words[at], int(counts[at]), _parts(words[at], cuts[at].tolist()), float(gains[at]))
        for at in np.flatnonzero(goes).tolist()
    ]


def _parts(word: str, begins: list[int]) -> tuple[str, ...]:
    return tuple(word[begin:end] for begin, end in zip(begins, [*begins[1:], len(word)], strict=True))
