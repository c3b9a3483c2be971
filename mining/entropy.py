"""What a lexicon is judged by: information a character, what a merge saves, and how freely n-grams are continued.

Nats, unless a name says bits. N tokens, n_w of them the word w, p_w = n_w / N; l the mean length of a token.
Source: kexue.fm/archives/5448 and 5476, whose equation numbers stand below.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mining.ngrams import Level, Ngrams

Floats = NDArray[np.float64]

BIT = float(np.log(2))  # nats


def entropy(counts: ArrayLike, *, miller_madow: bool = False) -> float:
    """H = -sum_w p_w ln p_w of a token; 0 of none.

    Args:
        counts: (V,), how often each word occurs.
        miller_madow: adds (V - 1) / 2N, the first term of what a sample's entropy is too small by (Miller 1955).

    >>> entropy([1, 1, 2]) / BIT
    1.5
    """
    n = np.asarray(counts, float)
    n = n[n > 0]
    total = float(n.sum())
    if not total:
        return 0.0
    p = n / total
    return float(-(p * np.log(p)).sum()) + miller_madow * (len(n) - 1) / (2 * total)


def bits_per_character(counts: ArrayLike, lengths: ArrayLike, *, miller_madow: bool = False) -> float:
    """L = H / l (2.6, 2.7): bits of a token over its mean length. It is no fair judge on the text it was made from.

    Args:
        counts: (V,), of the words.
        lengths: (V,), in characters.
        miller_madow: of the entropy.
    """
    n = np.asarray(counts, float)
    n_characters = float((n * np.asarray(lengths)).sum())
    return entropy(n, miller_madow=miller_madow) / BIT * float(n.sum()) / n_characters if n_characters else 0.0


def description_length(counts: ArrayLike, lengths: ArrayLike, n_letters: int) -> float:
    """Bits of a text in two parts: N H for its tokens, and each word in use spelled out (Rissanen 1978).

    Args:
        counts: (V,), of the words.
        lengths: (V,), in characters. Each costs log2(`n_letters` + 1), and so does the end of a word.
        n_letters: of the alphabet.
    """
    n = np.asarray(counts, float)
    spelled = float((np.asarray(lengths)[n > 0] + 1).sum()) * float(np.log2(n_letters + 1))
    return entropy(n) / BIT * float(n.sum()) + spelled


def held_out_bits(counts: ArrayLike, held_out: ArrayLike, lengths: ArrayLike, n_letters: int) -> float:
    """Bits a character of a held-out text, by the word frequencies of another.

    The word w has (n_w + V p_0) / (N + V), V words in use: p_0 spells it, so that an unknown one costs an escape
    and its letters (Witten & Bell 1991, method C).

    Args:
        counts: (V,), in the text that frequencies are of; 0 for an unknown word.
        held_out: (V,), in the other.
        lengths: (V,), in characters.
        n_letters: of the alphabet.
    """
    n, m, length = (np.asarray(array, float) for array in (counts, held_out, lengths))
    n_types = float((n > 0).sum())
    p_0 = np.exp(-np.minimum((length + 1) * np.log(n_letters + 1), 700))
    bits = -np.log2((n + n_types * p_0) / (n.sum() + n_types))
    return float((m * bits).sum() / (m * length).sum())


def pmi(p_ab: ArrayLike, p_a: ArrayLike, p_b: ArrayLike) -> Floats:
    """ln(p_ab / (p_a p_b)): how much more often a and b stand together than by chance."""
    ab, a, b = (np.asarray(p, float) for p in (p_ab, p_a, p_b))
    return np.asarray(np.log(ab) - np.log(a) - np.log(b))


def merge_gain(p_ab: ArrayLike, p_a: ArrayLike, p_b: ArrayLike) -> Floats:
    """F_ab (2.11) for a other than b: merging them changes L by -F_ab / l, with l before the merge (2.13).

    The whole text gets shorter by N F_ab. Probabilities are counts over N, that of the pair too.

    >>> before, after = [4, 4, 2], [4, 2]  # ababababcc, of letters and with the word ab
    >>> saved = entropy(before) - entropy(after) * 6 / 10
    >>> bool(np.isclose(merge_gain(0.4, 0.4, 0.4), saved))
    True
    """
    ab, a, b = (np.asarray(p, float) for p in (p_ab, p_a, p_b))
    left = _x_log(a - ab, 1 - ab / a) + _x_log(b - ab, 1 - ab / b)
    return np.asarray(ab * pmi(ab, a, b) - (1 - ab) * np.log1p(-ab) + left)


def fstar(p_ab: ArrayLike, p_a: ArrayLike, p_b: ArrayLike) -> Floats:
    """F* = p_ab (ln(p_ab / (p_a p_b)) - 1) (2.15), never above F_ab: a merge pays where it is positive."""
    return np.asarray(np.asarray(p_ab, float) * (pmi(p_ab, p_a, p_b) - 1))


def solidity(ngrams: Ngrams) -> list[Floats]:
    """For each level (m,) the least PMI of an n-gram over its splits in two; infinite for single units."""
    log_p = [np.log(level.counts / max(ngrams.n_units, 1)) for level in ngrams.levels]
    found = [np.full(len(log_p[0]), np.inf)]
    for k in range(2, len(log_p) + 1):
        heads, tails = (_parts(ngrams.levels, k, side) for side in ("prefix", "suffix"))
        splits = [log_p[j - 1][heads[j]] + log_p[k - j - 1][tails[k - j]] for j in range(1, k)]
        found.append(log_p[k - 1] - np.maximum.reduce(splits))
    return found


def _parts(levels: tuple[Level, ...], k: int, side: str) -> dict[int, NDArray[np.int32]]:
    """For j < k the rows of the first (prefix) or the last (suffix) j units of each k-gram."""
    rows = np.arange(len(levels[k - 1]), dtype=np.int32)
    found = {}
    for length in range(k, 1, -1):
        rows = getattr(levels[length - 1], side)[rows]
        found[length - 1] = rows
    return found


def variation(ngrams: Ngrams) -> list[Floats]:
    """For each level (m,) how branching entropy changes with the last unit, z-scored by length, mean of both sides.

    Behind an n-gram H(x_1 .. x_k) - H(x_1 .. x_k-1), before it H(x_1 .. x_k) - H(x_2 .. x_k); where both entropies
    are 0 it has no part in the mean and the deviation of its length. A word is freely continued: its z is high.
    Source: Magistry & Sagot 2012.
    """
    alone = entropy(ngrams.levels[0].counts)  # what stands behind nothing
    found = []
    for k, level in enumerate(ngrams.levels, 1):
        below = ngrams.levels[k - 2]
        right = below.right[level.prefix] if k > 1 else np.full(len(level), alone)
        left = below.left[level.suffix] if k > 1 else np.full(len(level), alone)
        found.append((_z_scores(level.right, right) + _z_scores(level.left, left)) / 2)
    return found


def _z_scores(entropies: Floats, before: Floats) -> Floats:
    change = entropies - before
    known = change[(entropies > 0) | (before > 0)]
    deviation = float(known.std()) if len(known) else 0.0
    return (change - known.mean()) / deviation if deviation else np.zeros(len(change))


def _x_log(x: Floats, y: Floats) -> Floats:
    """The product x ln y, which is 0 where x is."""
    return np.asarray(x * np.log(np.where(x > 0, y, 1.0)))
