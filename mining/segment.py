"""Texts cut into words by the scores of a lexicon, and cuts compared with a gold standard."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mining.corpus import Policy, Units, pieces, units
from mining.paths import Paths
from mining.scores import Scores

Ints = NDArray[np.int64]

CHARACTERS = 1 << 18  # that are cut at once


class Gaps(NamedTuple):
    """Between neighbouring units of a segment, how sure a border is.

    Args:
        offsets: (g,) the character that begins the unit on the right.
        borders: (g,) the probability of a border, over all cuts by exp(score).
    """

    offsets: Ints
    borders: NDArray[np.float64]


class Segmenter:
    """Cuts texts into the words with the greatest sum of scores. Punctuation stands alone, a run of one mark whole.

    Args:
        scores: of candidate words, a lexicon that has them, or words with their counts.
        policy: of units, for words; scores bring theirs.

    >>> Segmenter({"北京": 4, "大学": 4, "北京大学": 1, "生": 2}).cut("北京大学生来了,来了!!")
    ['北京', '大学', '生', '来', '了', ',', '来', '了', '!!']
    """

    def __init__(self, scores: Scores | Mapping[str, float], policy: Policy = Policy()) -> None:  # noqa: B008 (frozen)
        self.scores = scores if isinstance(scores, Scores) else Scores.of_words(scores, policy)

    @classmethod
    def load(cls, path: Path | str) -> Segmenter:
        """By the `scores.npz` of a lexicon, or the folder that holds it."""
        found = Path(path)
        return cls(Scores.load(found / "scores.npz" if found.is_dir() else found))

    def cut(self, text: str) -> list[str]:
        """The words and marks of a text, in order, without white space."""
        return [token for piece in self._pieces([text]) for token in self._tokens(piece, keeps_lines=False)]

    def stream(self, chunks: Iterable[str]) -> Iterator[str]:
        """The text of chunks in pieces, with single spaces between words and marks; lines are kept."""
        at_line = True
        for piece in self._pieces(chunks):
            tokens = self._tokens(piece, keeps_lines=True)
            if not tokens:
                continue
            line = " ".join(tokens).replace(" \n", "\n").replace("\n ", "\n")
            yield line if at_line or line[0] == "\n" else f" {line}"
            at_line = line[-1] == "\n"

    def gaps(self, text: str) -> Gaps:
        """How sure a border is at each place where one could be."""
        found = units(text, self.scores.policy)
        paths = Paths(self.scores.locate(found), found.starts)
        borders = paths.expected(self.scores.values, self.scores.unknown).borders
        inside = np.ones(len(found), bool)
        inside[found.starts[:-1]] = False
        return Gaps(found.offsets[inside], np.clip(borders[inside], 0.0, 1.0))

    def starts(self, found: Units) -> NDArray[np.bool_]:
        """(n,) whether a word begins at each unit."""
        paths = Paths(self.scores.locate(found), found.starts)
        return paths.best(self.scores.values, self.scores.unknown)[0]

    def _pieces(self, chunks: Iterable[str]) -> Iterator[str]:
        small = (chunk[at : at + CHARACTERS] for chunk in chunks for at in range(0, len(chunk), CHARACTERS))
        return _with_whole_runs(pieces(small))

    def _tokens(self, text: str, *, keeps_lines: bool) -> list[str]:
        found = units(text, self.scores.policy)
        is_start = self.starts(found)
        is_end = np.append(is_start[1:], True)[: len(found)]
        marks = _marks(text, found, keeps_lines=keeps_lines)
        begins = np.concatenate([found.offsets[is_start], marks[0]])
        ends = np.concatenate([found.ends[is_end], marks[1]])
        order = np.argsort(begins)
        spans = zip(begins[order].tolist(), ends[order].tolist(), strict=True)
        return [text[begin:end] for begin, end in spans]


def _with_whole_runs(parts: Iterable[str]) -> Iterator[str]:
    """The same text, but a run of one mark at the end of a part goes to the next one."""
    held = ""
    for part in parts:
        whole = held + part
        last = whole[-1]
        is_mark = last != "\n" and (unicodedata.category(last)[0] in "PS" or unicodedata.category(last) in ("Cc", "Cs"))
        end = len(whole.rstrip(last)) if is_mark else len(whole)
        if end:
            yield whole[:end]
        held = whole[end:]
    if held:
        yield held


def _marks(text: str, found: Units, *, keeps_lines: bool) -> tuple[Ints, Ints]:
    """Where what is neither unit nor white space begins and ends; line ends too, each alone, if they are kept."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<i4")
    depth = np.zeros(len(points) + 1, np.int64)
    np.add.at(depth, found.offsets, 1)
    np.add.at(depth, found.ends, -1)
    outside = np.flatnonzero(np.cumsum(depth[:-1]) == 0)
    distinct, at = np.unique(points[outside], return_inverse=True)
    is_line = distinct == ord("\n")
    is_mark = np.array([not chr(point).isspace() for point in distinct.tolist()], bool) | (is_line & keeps_lines)
    places, code = outside[is_mark[at]], points[outside][is_mark[at]]
    goes_on = np.zeros(len(places), bool)
    goes_on[1:] = (places[1:] == places[:-1] + 1) & (code[1:] == code[:-1]) & (code[1:] != ord("\n"))
    begins = np.flatnonzero(~goes_on)
    return places[begins], places[np.append(begins[1:], len(places)) - 1] + 1 if len(places) else places


class Agreement(NamedTuple):
    """Precision, recall and their harmonic mean F, of tokens and of borders between them."""

    token_precision: float
    token_recall: float
    token_f: float
    border_precision: float
    border_recall: float
    border_f: float


def score(segmented: str | Iterable[str], gold: str | Iterable[str]) -> Agreement:
    """How well a cut agrees with a gold standard, line by line.

    A token is right if both its ends are. A border stands between two tokens of a line: where a line begins and ends
    there is nothing to find.

    Args:
        segmented: lines of tokens between white space, as a text or one by one.
        gold: the same text, cut right.

    Raises:
        ValueError: The two do not hold the same characters; the line, and what stands there.

    >>> score("北京 大学 生", "北京 大学生").token_f
    0.4
    """
    totals = np.zeros(6, np.int64)
    lines = (text.split("\n") if isinstance(text, str) else text for text in (segmented, gold))
    for number, (ours, right) in enumerate(itertools.zip_longest(*lines, fillvalue=""), 1):
        first, second = ours.split(), right.split()
        if (a := "".join(first)) != (b := "".join(second)):
            at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            raise ValueError(
                f"line {number}, character {at + 1} (spaces not counted): {a[at : at + 10]!r} was segmented, and the"
                f" gold standard has {b[at : at + 10]!r}; both must hold the same text"
            )
        totals += _matches(_ends(first), _ends(second))
    return Agreement(*_rates(*totals[:3].tolist()), *_rates(*totals[3:].tolist()))


def _ends(tokens: list[str]) -> list[int]:
    return list(itertools.accumulate(map(len, tokens)))


def _matches(ours: list[int], right: list[int]) -> list[int]:
    """Right tokens, tokens and gold tokens, and the same of borders."""
    tokens, gold = (set(zip([0, *ends], ends, strict=False)) for ends in (ours, right))
    borders, gold_borders = set(ours[:-1]), set(right[:-1])
    both = len(borders & gold_borders)
    return [len(tokens & gold), len(tokens), len(gold), both, len(borders), len(gold_borders)]


def _rates(right: int, found: int, wanted: int) -> tuple[float, float, float]:
    return (
        right / found if found else 0.0,
        right / wanted if wanted else 0.0,
        2 * right / (found + wanted) if found + wanted else 0.0,
    )
