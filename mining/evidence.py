"""The evidence for each word of a lexicon: how a text uses it, and what its n-grams say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mining.corpus import Units
from mining.entropy import bits_per_character, description_length
from mining.ngrams import Ngrams
from mining.paths import Paths
from mining.scores import Scores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_PARTS = 50  # of the text, in which a word is looked for: a name fills a few, a word of the language all


class Usage:
    """How often, and in how many of `N_PARTS` parts of the text, each row of some scores is a word.

    Args:
        scores: by which texts are cut.
        n_units: of all texts.
    """

    def __init__(self, scores: Scores, n_units: int) -> None:
        self.scores = scores
        self._n_units = max(n_units, 1)
        self._begin = 0
        self.counts = [np.zeros(len(keys), np.int64) for keys in scores.keys]
        self.parts = [np.zeros(len(keys), np.int64) for keys in scores.keys]
        self._latest = [np.full(len(keys), -1) for keys in scores.keys]
        self.n_words = 0

    def add(self, paths: Paths) -> None:
        """Cuts the next text."""
        is_start, _ = paths.best(self.scores.values, self.scores.unknown)
        begins, lengths, rows = paths.words(is_start)
        part = (self._begin + begins) * N_PARTS // self._n_units
        self._begin += paths.n
        self.n_words += len(begins)
        for k, (counts, parts, latest) in enumerate(zip(self.counts, self.parts, self._latest, strict=True), 1):
            is_one = (lengths == k) & (rows >= 0)
            counts += np.bincount(rows[is_one], minlength=len(counts))
            key = np.unique(rows[is_one] * np.int64(N_PARTS + 1) + part[is_one])
            row, where = key // (N_PARTS + 1), key % (N_PARTS + 1)
            is_new = latest[row] != where
            np.add.at(parts, row[is_new], 1)
            np.maximum.at(latest, row, where)


def evidence(usage: Usage, ngrams: Ngrams, solid: list[Floats], k: int, rows: Ints) -> dict[str, NDArray[Any]]:
    """The columns of a lexicon for words of k units; NaN where n-grams are longer than what was counted, or rarer.

    Args:
        usage: of the whole text.
        ngrams: of it.
        solid: their `solidity`.
        k: units.
        rows: (q,) of the usage's scores.
    """
    counts, parts = usage.counts[k - 1][rows], usage.parts[k - 1][rows]
    found = np.full(len(rows), -1)
    if k <= len(ngrams.levels) and len(rows):
        found = ngrams.find(usage.scores.codes(k, rows))
    level = ngrams.levels[min(k, len(ngrams.levels)) - 1]

    def taken(array: NDArray[Any]) -> Floats:
        return np.where(found >= 0, np.append(array, np.nan)[found], np.nan)

    p = taken(level.counts) / max(ngrams.n_units, 1)
    pmi = taken(solid[min(k, len(solid)) - 1]) if k > 1 else np.full(len(rows), np.nan)
    share = np.minimum(counts / np.where(np.isnan(p), 1.0, p * ngrams.n_units), 1.0)
    evenness = np.minimum(parts / (N_PARTS * -np.expm1(-counts / N_PARTS)), 1.0)
    return {
        "count": counts,
        "probability": counts / max(usage.n_words, 1),
        "pmi": pmi,
        "left_entropy": taken(level.left),
        "right_entropy": taken(level.right),
        "fstar": p * (pmi - 1),
        "saved_bits": counts * _worth(usage.scores, k, rows) / np.log(2),
        "score": parts * evenness**2 * share / max(k - 1, 1),
    }


def _worth(scores: Scores, k: int, rows: Ints) -> Floats:
    """Nats by which each word's score is above that of its best parts; 0 for single units."""
    if k == 1 or not len(rows):
        return np.zeros(len(rows))
    none = np.empty(0, np.int64)
    starts = np.arange(0, len(rows) * k + 1, k)
    inside = scores.locate(Units("", scores.codes(k, rows).ravel(), none, none, starts))[: k - 1]
    _, parts = Paths(inside, starts).best(scores.values[: k - 1], scores.unknown)
    return np.asarray(scores.values[k - 1][rows] - parts)


def information(usage: Usage, ngrams: Ngrams) -> dict[str, Any]:
    """Sizes of the text, and its bits a character and in all, in units and in words."""
    lengths = np.concatenate([np.full(len(counts), k) for k, counts in enumerate(usage.counts, 1)])
    words = np.concatenate(usage.counts)
    letters = ngrams.levels[0].counts
    ones = np.ones(len(letters))
    return {
        "n_units": ngrams.n_units,
        "n_segments": ngrams.n_segments,
        "n_words": usage.n_words,
        "n_types": int((words > 0).sum()),
        "bits_per_character": {"units": bits_per_character(letters, ones), "words": bits_per_character(words, lengths)},
        "description_bits": {
            "units": description_length(letters, ones, len(letters)),
            "words": description_length(words, lengths, len(letters)),
        },
    }
