"""All ways to cut segments into words, for many segments at once: the best one, and what to expect of them all.

An arc is a word of k units at a place. Legend: n units, T units in the longest segment, K the most units of a word, S
segments. Units are put in order of time: the first of every segment, then the second of those that have one, longest
segments first; so one step for all of them is arithmetic on slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rows = NDArray[np.int32]

GRAIN = 2.0**30  # an expected count is a multiple of 1 / GRAIN
LONGEST = 1 << 14  # units of a segment; a longer one is cut there, since each unit is a step of Python


class Expected(NamedTuple):
    """What to expect of a cut that is drawn by exp(score).

    Args:
        counts: for each k (m,) how often each row of the level is a word.
        borders: (n,) the probability that a word begins at a unit.
        log_likelihood: ln of the sum of exp(score) over all cuts of all segments.
    """

    counts: list[Floats]
    borders: Floats
    log_likelihood: float


class Paths:
    """The cuts of a text's segments.

    Args:
        rows: for each k from 1 to K (n,) what is looked up for the arc of k units that begins at a unit; -1 = none
            begins there, or, for k = 1, a unit that is not known.
        starts: (S + 1,) segment s is the units `starts[s] : starts[s + 1]`.
    """

    def __init__(self, rows: Sequence[Rows], starts: Ints) -> None:
        starts = _shortened(starts)
        lengths = np.diff(starts)
        order = np.argsort(-lengths, kind="stable")
        self.n = int(starts[-1])
        self._order = order
        falling = -lengths[order]
        longest = int(lengths.max(initial=0))
        # sizes[t]: segments that have a unit t
        self._sizes: list[int] = np.searchsorted(falling, -np.arange(1, longest + 2), side="right").tolist()
        self._offsets: list[int] = np.cumsum([0, *self._sizes]).tolist()
        time = np.repeat(np.arange(longest), self._sizes[:longest])
        self._units = starts[order][np.arange(self.n) - np.array(self._offsets)[time]] + time
        self._rows = [row[self._units] for row in rows]
        for k, row in enumerate(self._rows, 1):  # no arc leaves its segment
            for t in range(longest):
                row[self._offsets[t] + self._size(t + k - 1) : self._offsets[t + 1]] = -1

    def _size(self, t: int) -> int:
        return self._sizes[t] if t < len(self._sizes) else 0

    def best(self, scores: Sequence[Floats], unknown: float) -> tuple[NDArray[np.bool_], Floats]:
        """Whether a word begins at each unit (n,) in the cut with the greatest sum of scores, and that sum (S,).

        Args:
            scores: for each k (m,) of the rows; those of single units are finite. Of equal cuts the one whose last
                words are shorter is taken.
            unknown: score of a unit that is not known.
        """
        otherwise = [unknown, *[-np.inf] * (len(scores) - 1)]
        arcs = [_looked_up(*each) for each in zip(scores, self._rows, otherwise, strict=True)]
        reached: list[Floats] = [np.zeros(len(self._order))]
        length: list[NDArray[np.int8]] = []
        for t in range(len(self._sizes) - 1):  # one unit more
            size = self._sizes[t]
            value = reached[t][:size] + self._at(arcs[0], t, size)
            steps = np.ones(size, np.int8)
            for k in range(2, min(len(arcs), t + 1) + 1):
                longer = reached[t + 1 - k][:size] + self._at(arcs[k - 1], t + 1 - k, size)
                better = longer > value
                np.copyto(value, longer, where=better)
                steps[better] = k
            reached.append(value)
            length.append(steps)
        return self._walk_back(length), self._ends(reached)

    def expected(self, scores: Sequence[Floats], unknown: float) -> Expected:
        """What to expect of cuts drawn by exp of the sum of scores.

        Backwards each place's arcs get the chance to be taken from there; forwards these give the chance to be there.
        Nothing is added over more than K units, so nothing runs out of range.
        """
        otherwise = [float(np.exp(unknown)), *[0.0] * (len(scores) - 1)]
        arcs = [_looked_up(np.exp(score), *each) for score, *each in zip(scores, self._rows, otherwise, strict=True)]
        log_likelihood = self._normalise(arcs)
        borders = self._visit(arcs)
        counts: list[Floats] = []
        for score, row, taken in zip(scores, self._rows, arcs, strict=True):
            exact = np.rint(taken * GRAIN)  # sums of these are the same in any order
            counts.append(np.bincount(row + 1, exact, len(score) + 1)[1:] / GRAIN)
        in_text = np.empty(self.n)
        in_text[self._units] = borders
        return Expected(counts, in_text, log_likelihood)

    def words(self, is_start: NDArray[np.bool_]) -> tuple[Ints, Ints, Rows]:
        """Where the words of a cut begin, how long they are, and the rows of their arcs; (w,) each."""
        begins = np.flatnonzero(is_start)
        lengths = np.diff(begins, append=self.n)
        place = np.empty(self.n, np.int64)
        place[self._units] = np.arange(self.n)
        rows = np.empty(len(begins), np.int32)
        for k, row in enumerate(self._rows, 1):
            rows[lengths == k] = row[place[begins[lengths == k]]]
        return begins, lengths, rows

    def _normalise(self, arcs: list[Floats]) -> float:
        """Turns weights of arcs in place into chances to be taken at their place; returns the log-likelihood."""
        K = len(arcs)
        log_likelihood = 0.0
        ratio = np.empty((K, 0))  # of the sum behind the arc's end to that behind the next unit
        for t in range(len(self._sizes) - 2, -1, -1):
            size = self._sizes[t]
            entered = np.zeros((K, size))
            entered[0] = 1.0
            entered[:, : ratio.shape[1]] = ratio
            here = [self._at(arc, t, size) for arc in arcs]
            for k in range(K):
                here[k] *= entered[k]
            total = np.add.reduce(here)
            log_likelihood += float(np.log(total).sum())
            for arc in here:
                arc /= total
            ratio = np.concatenate([np.ones((1, size)), entered[: K - 1] / total])
        return log_likelihood

    def _visit(self, arcs: list[Floats]) -> Floats:
        """Turns chances to be taken in place into those of each arc in the whole; returns those of each place."""
        borders = np.zeros(self.n + 1)
        borders[: len(self._order)] = 1.0
        for t in range(len(self._sizes) - 1):
            visited = self._at(borders, t, self._sizes[t])
            for k, arc in enumerate(arcs, 1):
                taken = self._at(arc, t, self._sizes[t])
                taken *= visited
                if size := self._size(t + k):
                    self._at(borders, t + k, size)[:] += taken[:size]
        return borders[: self.n]

    def _at(self, arcs: Floats, t: int, size: int) -> Floats:
        """The first `size` segments' at unit t."""
        return arcs[self._offsets[t] : self._offsets[t] + size]

    def _ends(self, reached: list[Floats]) -> Floats:
        total = np.zeros(len(self._order))
        for t in range(1, len(reached)):
            ending = slice(self._size(t), self._sizes[t - 1])
            total[self._order[ending]] = reached[t][ending]
        return total

    def _walk_back(self, length: list[NDArray[np.int8]]) -> NDArray[np.bool_]:
        is_start = np.zeros(self.n + 1, bool)
        offsets = np.array(self._offsets)
        is_start[: self._size(0)] = True
        for t in range(len(length) - 1, -1, -1):  # of words that end before unit t + 1
            ends = np.ones(self._sizes[t], bool)
            ends[: self._size(t + 1)] = is_start[self._offsets[t + 1] : self._offsets[t + 1] + self._size(t + 1)]
            places = np.flatnonzero(ends)
            begin = t + 1 - length[t][places].astype(np.int64)
            is_start[offsets[begin] + places] = True
        in_text = np.empty(self.n, bool)
        in_text[self._units] = is_start[: self.n]
        return in_text


def _looked_up(values: Floats, rows: Rows, otherwise: float) -> Floats:
    return np.append(values, otherwise)[rows]  # row -1 is the last


def _shortened(starts: Ints) -> Ints:
    lengths = np.diff(starts)
    if lengths.max(initial=0) <= LONGEST:
        return starts
    cuts = [np.arange(starts[at] + LONGEST, starts[at + 1], LONGEST) for at in np.flatnonzero(lengths > LONGEST)]
    return np.sort(np.concatenate([starts, *cuts]))
