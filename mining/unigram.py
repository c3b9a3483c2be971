"""Scores of n-grams as words, from a text alone: a unigram model whose words have to pay for being spelled once.

The text is drawn word by word by a Chinese restaurant process with concentration alpha: a word that occurs v times
costs ln alpha p_0 the first time, p_0 spelling it letter by letter, and ln 1 .. ln(v - 1) after that. Its score is the
mean of these, less ln(N + alpha); that of an n-gram that is no word yet is ln alpha p_0 less the same. Expected counts
v over all cuts of the text and scores are found in turn. With alpha p_0 left out this is EM of a unigram model, whose
best lexicon is the whole text by heart; with it, it minimises a description length.
Two kinds of text differ. Where units are many (Han), EM starts from the variation of branching entropy, and an n-gram
needs PMI at every split. Where units are few (letters), it starts from the bare counts, letters are drawn given the one
before, and a word has to be worth more than its best parts.
Sources: kexue.fm/archives/5476 (its last step is `_redundant`); Magistry & Sagot 2012 (variation); Goldwater,
Griffiths & Johnson 2009 (the process).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mining.corpus import Policy
from mining.entropy import entropy, solidity, variation
from mining.ngrams import Ngrams
from mining.paths import Paths
from mining.scores import Scores, letters

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Texts = Callable[[], Iterable[Paths]]

CONCENTRATION = 1e4
MANY_UNITS = 4.0  # nats of entropy a unit: more than any alphabet of letters has
HAN = ((0x3400, 0xA000), (0xF900, 0xFB00), (0x20000, 0x40000))  # code points; a short text has few of thousands
STEPS = {True: 5, False: 1}  # of EM, for letters and for Han; the start is one more where it is the variation
REDUNDANT = 3.5  # nats that a word of letters has to be worth beyond its parts, for each part but one
RARE = 0.5  # of an occurrence: what is expected less often counts for no word when letters are counted


def is_of_letters(ngrams: Ngrams) -> bool:
    """Whether units are those of an alphabet rather than of a script with thousands."""
    counts = ngrams.levels[0].counts
    is_han = sum((ngrams.alphabet >= first) & (ngrams.alphabet < end) for first, end in HAN)
    return entropy(counts) < MANY_UNITS and 2 * counts[is_han > 0].sum() < counts.sum()


def fit(
    ngrams: Ngrams, texts: Callable[[Scores], Texts], is_candidate: Sequence[NDArray[np.bool_]], policy: Policy
) -> Scores:
    """The scores of n-grams as words.

    Args:
        ngrams: of the text; those that occur once are no use.
        texts: the paths of the text by the rows of some scores, of whatever value.
        is_candidate: for each level (m,), as `candidates` gives it.
        policy: of the units.
    """
    tree, rows = Scores.of(ngrams, is_candidate, policy)
    paths = texts(tree)
    of_letters = is_of_letters(ngrams)
    if of_letters:
        counts = [level.counts.astype(float) for level in ngrams.levels]
    else:
        start = _masked([k * z for k, z in enumerate(variation(ngrams), 1)], is_candidate)
        counts = _expected(ngrams, paths, rows, start, 0.0)
    for step in range(STEPS[of_letters] + 1):
        values, unknown = process(ngrams, counts, with_context=of_letters)
        values = _masked(values, is_candidate)
        if of_letters:
            values = _redundant(ngrams, values, counts)
        if step < STEPS[of_letters]:
            counts = _expected(ngrams, paths, rows, values, unknown)
    return replace(tree, values=tuple(value[row] for value, row in zip(values, rows, strict=True)), unknown=unknown)


def candidates(ngrams: Ngrams, min_pmi: Sequence[float] | None) -> list[NDArray[np.bool_]]:
    """For each level (m,) whether an n-gram may be a word; single units always."""
    found = [np.ones(len(level), bool) for level in ngrams.levels]
    if min_pmi is not None:
        for k, least in enumerate(solidity(ngrams)[1:], 1):
            found[k] = least >= min_pmi[min(k, len(min_pmi) - 1)]
    return found


def _expected(
    ngrams: Ngrams, texts: Texts, rows: Sequence[Ints], values: Sequence[Floats], unknown: float
) -> list[Floats]:
    """For each level (m,) how often an n-gram is a word, over all cuts by exp(score)."""
    totals = [np.zeros(len(level)) for level in ngrams.levels]
    known = [value[row] for value, row in zip(values, rows, strict=True)]
    for paths in texts():
        for total, row, count in zip(totals, rows, paths.expected(known, unknown).counts, strict=True):
            total[row] += count
    return totals


def process(ngrams: Ngrams, counts: Sequence[Floats], *, with_context: bool) -> tuple[list[Floats], float]:
    """Scores of the n-grams by the process after these counts, and that of a unit never seen.

    Args:
        ngrams: of the text.
        counts: for each level (m,), at least 0.
        with_context: whether a letter's probability is that after the one before.
    """
    log_p0, rare = (_spelled_in_context if with_context else _spelled)(ngrams, counts)
    total = float(np.log(sum(float(count.sum()) for count in counts) + CONCENTRATION))
    first = [np.log(CONCENTRATION) + spelled for spelled in log_p0]
    values = []
    for count, cost in zip(counts, first, strict=True):
        v = np.maximum(count, 1.0)
        value = np.where(count > 1, (cost + _log_gamma(v)) / v, -np.inf)
        values.append(np.maximum(value, cost) - total)
    return values, float(np.log(CONCENTRATION) + rare - total)


def _spelled(ngrams: Ngrams, counts: Sequence[Floats]) -> tuple[list[Floats], float]:
    """For each level (m,) ln p_0, of letters drawn one by one until a word ends; and that of a letter never seen."""
    last = letters(ngrams)
    passing = _passing(ngrams, counts)
    n_words = sum(float(_types(count).sum()) for count in counts)
    drawn = sum(
        (np.bincount(x, w, len(last[0])) for x, w in zip(last, passing, strict=True)), start=np.zeros(len(last[0]))
    )
    p_end = n_words / max(float(drawn.sum()), 1.0)
    p_end = min(max(p_end, 1e-3), 1 - 1e-3)
    log_letter = np.log((drawn + 0.5) / (drawn.sum() + 0.5 * (len(drawn) + 1)))
    rare = float(np.log(0.5 / (drawn.sum() + 0.5 * (len(drawn) + 1))))
    found = [log_letter]
    for k in range(1, len(last)):
        found.append(found[-1][ngrams.levels[k].prefix] + log_letter[last[k]] + np.log(1 - p_end))
    return [spelled + np.log(p_end) for spelled in found], rare + float(np.log(p_end))


def _spelled_in_context(ngrams: Ngrams, counts: Sequence[Floats]) -> tuple[list[Floats], float]:
    """The same, of letters each of which is drawn given the one before; so is the end."""
    last = letters(ngrams)
    A = len(last[0])  # as a row: nothing before; as a column: the end
    passing = _passing(ngrams, counts)
    drawn = np.zeros((A + 1, A + 1))
    drawn[A, :A] = passing[0]
    for k, count in enumerate(counts):
        drawn[:A, A] += np.bincount(last[k], _types(count), A)
        if k:
            before = last[k - 1][ngrams.levels[k].prefix]
            drawn[:A, :A] += np.bincount(before * A + last[k], passing[k], A * A).reshape(A, A)
    log_p = np.log((drawn + 0.1) / (drawn + 0.1).sum(1, keepdims=True))
    body = [log_p[A, :A]]
    for k in range(1, len(last)):
        head = ngrams.levels[k].prefix
        body.append(body[-1][head] + log_p[last[k - 1][head], last[k]])
    return [spelled + log_p[x, A] for spelled, x in zip(body, last, strict=True)], float(log_p.min() * 2)


def _types(counts: Floats) -> Floats:
    """How much of a word each is."""
    return np.where(counts > RARE, np.minimum(counts, 1.0), 0.0)


def _passing(ngrams: Ngrams, counts: Sequence[Floats]) -> list[Floats]:
    """For each level (m,) how many words begin with each n-gram."""
    found = [_types(count) for count in counts]
    for k in range(len(found) - 1, 0, -1):
        found[k - 1] = found[k - 1] + np.bincount(ngrams.levels[k].prefix, found[k], len(found[k - 1]))
    return found


def _redundant(ngrams: Ngrams, values: list[Floats], counts: Sequence[Floats]) -> list[Floats]:
    """The scores without words that are worth little more than the best of their cuts into others."""
    found = [values[0]]
    for k in range(2, len(values) + 1):
        value = values[k - 1].copy()
        rows = np.flatnonzero(np.isfinite(value) & (counts[k - 1] > 1))
        whole, parts, n_parts = worth(ngrams, values, k, rows)
        value[rows[whole - parts < REDUNDANT * (n_parts - 1)]] = -np.inf
        found.append(value)
    return found


def worth(
    ngrams: Ngrams, values: Sequence[Floats], k: int, rows: NDArray[np.int64]
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Of k-grams their scores, those of their best cuts into shorter ones, and how many parts these have."""
    arcs = [np.full((len(rows), k), -1, np.int32) for _ in values]
    tails = rows.astype(np.int32)
    for begin in range(k):
        heads = tails
        for length in range(k - begin, 0, -1):
            if length < k:
                arcs[length - 1][:, begin] = heads
            heads = ngrams.levels[length - 1].prefix[heads]
        tails = ngrams.levels[k - begin - 1].suffix[tails]
    starts = np.arange(0, len(rows) * k + 1, k)
    is_start, total = Paths([arc.ravel() for arc in arcs[: k - 1]], starts).best(values[: k - 1], 0.0)
    return values[k - 1][rows], total, is_start.reshape(len(rows), k).sum(1)


def _masked(values: Sequence[Floats], is_candidate: Sequence[NDArray[np.bool_]]) -> list[Floats]:
    return [np.where(candidate, value, -np.inf) for value, candidate in zip(values, is_candidate, strict=True)]


def _log_gamma(v: Floats) -> Floats:
    """Stirling's ln Gamma(v) for v of at least 1, to 1e-4."""
    return np.asarray((v - 0.5) * np.log(v) - v + 0.5 * np.log(2 * np.pi) + 1 / (12 * v) - 1 / (360 * v**3))
