"""Words by merging: again and again the pair of neighbouring tokens that a criterion prefers becomes one token.

Pairs are counted once; a merge looks at the places of its pair alone. Source: kexue.fm/archives/5476, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mining.corpus import Units
from mining.entropy import BIT, fstar, merge_gain, pmi
from mining.scores import SHOWN

Criterion = Literal["fstar", "count", "pmi", "gain"]
Ints = NDArray[np.int64]

NONE = -1


@dataclass(frozen=True)
class Merge:
    """One step: tokens `left` and `right` became the token `token`.

    Args:
        left: number of a token; the first ones are `Merger.alphabet`'s.
        right: another.
        token: the new one's number.
        n_ab: how often they stood together.
        n_a: how often `left` occurred.
        n_b: how often `right` did.
        n_tokens: of the text before.
        bits_before: a character, by frequencies of tokens.
        bits_after: the same after the merge.
        gain: F_ab, in nats.
        parts: what the two were, as text.
    """

    left: int
    right: int
    token: int
    n_ab: int
    n_a: int
    n_b: int
    n_tokens: int
    bits_before: float
    bits_after: float
    gain: float
    parts: tuple[str, str]


def greedy_merges(
    text: Units, *, criterion: Criterion = "fstar", n_merges: int | None = None, has_cost: bool = False
) -> Iterator[Merge]:
    """The merges, one by one, for as long as the criterion's best is positive (a count: at least 2).

    Args:
        text: no token crosses the end of a segment.
        criterion: F* (2.15); how often a pair occurs, which is byte-pair encoding; PMI; or F_ab (2.11).
        n_merges: at most.
        has_cost: whether a merge also has to save more than it takes to spell the new word, ln(alphabet) a unit.
    """
    merger = Merger(text)
    while (n_merges is None or merger.n_merges < n_merges) and (merge := merger.step(criterion, has_cost=has_cost)):
        yield merge


class Merger:
    """A text as tokens, at first its units, of which pairs are merged. Pairs of one token with itself are not.

    Args:
        text: not changed.
        min_count: a pair that came up less often is never merged; at least 2.
        max_length: units of a token; None = any.
    """

    def __init__(self, text: Units, *, min_count: int = 2, max_length: int | None = None) -> None:
        self.alphabet, tokens = np.unique(text.codes, return_inverse=True)
        n = len(tokens)
        self._tokens: Ints = tokens.astype(np.int64)
        is_last = np.zeros(n, bool)
        is_last[text.starts[1:] - 1] = True
        self._next: Ints = np.where(is_last, NONE, np.arange(1, n + 1))
        self._before: Ints = np.where(np.roll(is_last, 1) | (np.arange(n) == 0), NONE, np.arange(-1, n - 1))
        self._kinds = _Kinds(np.bincount(self._tokens))
        self.spelled: list[tuple[int, ...]] = [(int(code),) for code in self.alphabet]
        self.n_units = self.n_tokens = n
        self.n_merges = 0
        self._pairs = _Pairs(max(min_count, 2))
        self._max_length = max_length
        self._n_log_n = sum(map(_n_log_n, self.counts.tolist()))
        places = np.flatnonzero(~is_last)
        self._add(self._tokens[places], self._tokens[places + 1], places)

    @property
    def bits(self) -> float:
        """L, bits a character by the frequencies of tokens."""
        nats = _n_log_n(self.n_tokens) - self._n_log_n
        return nats / BIT / max(self.n_units, 1)

    @property
    def counts(self) -> Ints:
        """How often each token occurs, by its number."""
        return self._kinds.counts[: self._kinds.n]

    @property
    def lengths(self) -> Ints:
        """Units of each token."""
        return self._kinds.lengths[: self._kinds.n]

    @property
    def is_start(self) -> NDArray[np.bool_]:
        """(n_units,) whether a token begins at a unit."""
        return np.asarray(self._tokens != NONE)

    def step(self, criterion: Criterion = "fstar", *, has_cost: bool = False) -> Merge | None:
        """Merges the best pair; None if there is none left."""
        if criterion not in SCORES:
            raise ValueError(f"criterion = '{criterion}': unknown; allowed: {', '.join(get_args(Criterion))}")
        pairs = self._pairs
        n_ab, left, right = pairs.counts[: pairs.n], pairs.left[: pairs.n], pairs.right[: pairs.n]
        lengths = self.lengths[left] + self.lengths[right]
        alive = np.flatnonzero((n_ab > 1) & (lengths <= (self._max_length or self.n_units)))
        n_a, n_b = self.counts[left[alive]], self.counts[right[alive]]
        p_ab, p_a, p_b = (n / max(self.n_tokens, 1) for n in (n_ab[alive], n_a, n_b))
        scores = SCORES[criterion](p_ab, p_a, p_b)
        cost = lengths[alive] * np.log(max(len(self.alphabet), 2)) / max(self.n_tokens, 1) * has_cost
        best = int(np.argmax(scores)) if len(scores) else 0
        if has_cost and len(scores) and merge_gain(p_ab[best], p_a[best], p_b[best]) <= cost[best]:
            scores[merge_gain(p_ab, p_a, p_b) <= cost] = 0
            best = int(np.argmax(scores))
        if not len(scores) or scores[best] <= 0:
            return None
        gain = float(merge_gain(p_ab[best], p_a[best], p_b[best]))
        return self._merge(int(alive[best]), gain)

    def _merge(self, pair: int, gain: float) -> Merge:
        a, b = int(self._pairs.left[pair]), int(self._pairs.right[pair])
        before, n_a, n_b, n_tokens = self.bits, int(self.counts[a]), int(self.counts[b]), self.n_tokens
        places = self._pairs.places[pair]
        follower = self._next[places]
        stands = (self._tokens[places] == a) & (follower != NONE)
        places, follower = places[stands], follower[stands]
        stands = self._tokens[follower] == b
        places, follower = places[stands], follower[stands]
        token = self._kinds.n
        self._replace(places, follower, token)
        n_ab = len(places)
        self._pairs.counts[pair] = 0
        self._n_log_n += sum(map(_n_log_n, (n_ab, n_a - n_ab, n_b - n_ab))) - _n_log_n(n_a) - _n_log_n(n_b)
        self._kinds.merge(a, b, n_ab)
        parts = (self._shown(a), self._shown(b))
        self.spelled.append(self.spelled[a] + self.spelled[b])
        self.n_tokens -= n_ab
        self.n_merges += 1
        return Merge(a, b, token, n_ab, n_a, n_b, n_tokens, before, self.bits, gain, parts)

    def _shown(self, token: int) -> str:
        return "".join(SHOWN.get(code) or chr(code) for code in self.spelled[token])

    def _replace(self, first: Ints, second: Ints, token: int) -> None:
        """Puts the token where a pair was, at rising places, and counts the pairs that are gone and new."""
        left, right = self._before[first], self._next[second]
        has_left, has_right = left != NONE, right != NONE
        is_chained = np.append(False, second[:-1] == left[1:]) if len(first) else has_left  # abab: one pair ba
        lone = has_left & ~is_chained
        self._pairs.remove(self._tokens[left[lone]], self._tokens[first[lone]])
        self._pairs.remove(self._tokens[second[has_right]], self._tokens[right[has_right]])
        self._tokens[first] = token
        self._tokens[second] = NONE
        self._next[first] = right
        self._before[right[has_right]] = first[has_right]
        left, right = self._before[first[lone]], self._next[first[has_right]]
        places = np.concatenate([left, first[has_right]])
        self._add(self._tokens[places], np.append(self._tokens[first[lone]], self._tokens[right]), places)

    def _add(self, left: Ints, right: Ints, places: Ints) -> None:
        differ = left != right
        self._pairs.add(left[differ], right[differ], places[differ])


def _n_log_n(n: int) -> float:
    return n * math.log(n) if n else 0.0


class _Kinds:
    """How often each token occurs, and its units."""

    def __init__(self, counts: Ints) -> None:
        self.n = len(counts)
        self.counts = counts.astype(np.int64)
        self.lengths = np.ones(self.n, np.int64)

    def merge(self, a: int, b: int, n_ab: int) -> None:
        """A new token instead of so many of both."""
        if self.n == len(self.counts):
            self.counts, self.lengths = (np.concatenate([array, array]) for array in (self.counts, self.lengths))
        self.counts[a] -= n_ab
        self.counts[b] -= n_ab
        self.counts[self.n], self.lengths[self.n] = n_ab, self.lengths[a] + self.lengths[b]
        self.n += 1


class _Pairs:
    """Pairs of tokens that were frequent when they came up, with their counts and the places they came up at."""

    def __init__(self, min_count: int) -> None:
        self._min_count = min_count
        self.n = 0
        self.left, self.right, self.counts = (np.empty(1024, np.int64) for _ in range(3))
        self.places: list[Ints] = []
        self._rows: dict[tuple[int, int], int] = {}

    def add(self, left: Ints, right: Ints, places: Ints) -> None:
        """Takes in pairs that were not there before; rare ones never come back, and are left out."""
        order = np.lexsort((places, right, left))
        left, right, places = left[order], right[order], places[order]
        firsts = np.flatnonzero(np.append(True, (left[1:] != left[:-1]) | (right[1:] != right[:-1]))[: len(left)])
        counts = np.diff(firsts, append=len(left))
        is_kept = counts >= self._min_count
        for first, count in zip(firsts[is_kept].tolist(), counts[is_kept].tolist(), strict=True):
            if self.n == len(self.left):
                self.left, self.right, self.counts = (
                    np.concatenate([array, np.empty_like(array)]) for array in (self.left, self.right, self.counts)
                )
            a, b = int(left[first]), int(right[first])
            self._rows[a, b] = self.n
            self.left[self.n], self.right[self.n], self.counts[self.n] = a, b, count
            self.places.append(places[first : first + count])
            self.n += 1

    def remove(self, left: Ints, right: Ints) -> None:
        """Counts each of these once less."""
        pairs, counts = np.unique(np.stack([left, right]), axis=1, return_counts=True)
        for a, b, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
            if (row := self._rows.get((a, b))) is not None:
                self.counts[row] -= count


SCORES: dict[str, Callable[..., NDArray[np.float64]]] = {
    "fstar": fstar,
    "count": lambda p_ab, _a, _b: np.array(p_ab),
    "pmi": pmi,
    "gain": merge_gain,
}
