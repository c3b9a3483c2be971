"""Texts as units: what is counted, found in a text by the classes of its characters."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

NUMBER, LATIN = 0x110000, 0x110001  # the codes of a run of digits and of a run of letters, beyond every code point
LONGEST = 1 << 20  # characters without punctuation after which a segment ends all the same: a piece fits in memory

Treatment = Literal["run", "each", "break"]

_BREAK, _JOINER, _INVISIBLE, _ACCENT, _LETTER, _DIGIT, _LATIN = range(7)
_KINDS = {"Lu": _LATIN, "Ll": _LATIN, "Lt": _LATIN, "Nd": _DIGIT, "No": _DIGIT, "Cf": _INVISIBLE}
_KINDS |= dict.fromkeys(("Mn", "Me"), _ACCENT) | dict.fromkeys(("Lo", "Lm", "Mc", "Nl", "Co"), _LETTER)
_POINTS, _PERCENTS = ".．", "%％‰"  # of a number: between two digits, behind a digit
_HAN_PLANES = range(0x20000, 0x40000)  # Han alone, some of it younger than Python's tables


@dataclass(frozen=True)
class Policy:
    """What becomes of digits and of letters: a run is one unit, each is one, or they break the text.

    Args:
        numbers: of digits; 3.5% and full-width digits are in a run.
        latin: of letters that have an upper and a lower case, Latin or not. Where each is a unit its code is that
            of the lower case.
    """

    numbers: Treatment = "run"
    latin: Treatment = "run"

    def __post_init__(self) -> None:
        for name, value in (("numbers", self.numbers), ("latin", self.latin)):
            if value not in get_args(Treatment):
                raise ValueError(f"{name} = {value!r}: unknown; allowed: {', '.join(get_args(Treatment))}")


@dataclass(frozen=True, eq=False)
class Units:
    """A text cut into units; punctuation, white space and line ends part it into segments.

    Args:
        text: what was cut.
        codes: (n,), the code point of each unit, or `NUMBER`, or `LATIN`.
        offsets: (n,), where each begins.
        ends: (n,); unit i is `text[offsets[i] : ends[i]]`.
        starts: (n_segments + 1,); segment s is the units `starts[s] : starts[s + 1]`, at least one.
    """

    text: str
    codes: NDArray[np.int32]
    offsets: NDArray[np.int64]
    ends: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.codes)


def units(text: str, policy: Policy = Policy()) -> Units:
    """The units of a text.

    A character is a unit unless the policy says otherwise. Invisible ones (joiners, variation selectors) belong to
    the unit before them, accents too where that is a run. A segment longer than `LONGEST` characters ends there.

    >>> found = units("2019年，iPhone卖了3.5%。")
    >>> [found.text[start:end] for start, end in zip(found.offsets, found.ends)]
    ['2019', '年', 'iPhone', '卖', '了', '3.5%']
    >>> found.starts
    array([0, 2, 6])
    """
    points = _points(text)
    kinds = _kinds(points)
    if len(cuts := _cuts(kinds)):
        return _joined(text, [units(part, policy) for part in _parts(text, cuts)])
    codes = _settle(points, kinds, policy)
    is_unit = kinds >= _LETTER
    is_unit[1:] &= (kinds[1:] == _LETTER) | (kinds[1:] != kinds[:-1])  # the first of a run
    borders = np.flatnonzero(is_unit | (kinds == _BREAK))
    inside = is_unit[borders]
    offsets = borders[inside]
    ends = np.append(borders, len(points))[1:][inside]
    is_first = inside.copy()
    is_first[1:] &= ~inside[:-1]
    starts = np.flatnonzero(is_first[inside])
    return Units(text, codes[offsets], offsets, ends, np.append(starts, len(offsets)))


def pieces(chunks: Iterable[str]) -> Iterator[str]:
    """A text that comes in chunks, cut anew where its units do not notice: behind a break, else after `LONGEST`."""
    held = ""
    for chunk in chunks:
        end = _last_break(chunk)  # there is none in what is held
        if end:
            yield held + chunk[:end]
            held = ""
        held += chunk[end:]
        while len(held) > LONGEST:
            yield held[:LONGEST]
            held = held[LONGEST:]
    if held:
        yield held


def _last_break(text: str) -> int:
    """Where the text behind its last break begins, or 0."""
    if end := text.rfind("\n") + 1:
        return end
    breaks = np.flatnonzero(_kinds(_points(text)) == _BREAK)
    return int(breaks[-1]) + 1 if len(breaks) else 0


def _points(text: str) -> NDArray[np.int32]:
    """Code points; half a surrogate pair is one like any other."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<i4")


def _kinds(points: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The class of each character; Unicode's tables are asked once for a distinct one."""
    table = np.zeros(int(points.max(initial=0)) + 1, np.uint8)
    table[points] = 1
    present = np.flatnonzero(table)
    table[present] = [_kind(point) for point in present.tolist()]
    return table.take(points)


def _kind(point: int) -> int:
    character = chr(point)
    if character in _POINTS + _PERCENTS:
        return _JOINER
    if "VARIATION SELECTOR" in unicodedata.name(character, ""):
        return _INVISIBLE
    return _KINDS.get(unicodedata.category(character), _LETTER if point in _HAN_PLANES else _BREAK)


def _cuts(kinds: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Every `LONGEST` characters behind a break, where no other break comes before."""
    if len(kinds) <= LONGEST:
        return np.empty(0, np.int64)
    borders = np.concatenate(([-1], np.flatnonzero(kinds == _BREAK), [len(kinds)]))
    long = np.flatnonzero(np.diff(borders) > LONGEST + 1)
    found = [np.arange(borders[at] + 1 + LONGEST, borders[at + 1], LONGEST) for at in long]
    return np.concatenate([np.empty(0, np.int64), *found])


def _parts(text: str, cuts: NDArray[np.int64]) -> Iterator[str]:
    edges = [0, *cuts.tolist(), len(text)]
    return (text[start:end] for start, end in itertools.pairwise(edges))


def _joined(text: str, parts: list[Units]) -> Units:
    """One behind the other."""
    places = np.cumsum([0, *(len(part.text) for part in parts)])
    counts = np.cumsum([0, *(len(part) for part in parts)])
    return Units(
        text,
        np.concatenate([part.codes for part in parts]),
        np.concatenate([part.offsets + place for part, place in zip(parts, places, strict=False)]),
        np.concatenate([part.ends + place for part, place in zip(parts, places, strict=False)]),
        np.concatenate([*(part.starts[:-1] + count for part, count in zip(parts, counts, strict=False)), counts[-1:]]),
    )


def _settle(points: NDArray[np.int32], kinds: NDArray[np.uint8], policy: Policy) -> NDArray[np.int32]:
    """Decides in place what joiners, accents and the policy's runs are; returns the codes."""
    _settle_joiners(points, kinds)
    codes = points.copy()
    for kind, treatment, code in ((_DIGIT, policy.numbers, NUMBER), (_LATIN, policy.latin, LATIN)):
        places = np.flatnonzero(kinds == kind)
        if treatment == "run":
            codes[places] = code
        elif treatment == "each":
            kinds[places] = _LETTER
            codes[places] = _lower(points[places])
        else:
            kinds[places] = _BREAK
    _settle_accents(kinds)
    return codes


def _settle_joiners(points: NDArray[np.int32], kinds: NDArray[np.uint8]) -> None:
    places = np.flatnonzero(kinds == _JOINER)
    after_digit = (places > 0) & (kinds[places - 1] == _DIGIT)
    before_digit = kinds[np.minimum(places + 1, len(kinds) - 1)] == _DIGIT
    is_percent = np.isin(points[places], [ord(character) for character in _PERCENTS])
    kinds[places] = np.where(after_digit & (before_digit | is_percent), _DIGIT, _BREAK)


def _settle_accents(kinds: NDArray[np.uint8]) -> None:
    """An accent is what stands before it; what is invisible goes on with a run, and else is nothing."""
    places = np.flatnonzero((kinds == _ACCENT) | (kinds == _INVISIBLE))
    if not len(places):
        return
    is_first = np.append(True, np.diff(places) > 1)
    before = (places[is_first] - 1)[np.cumsum(is_first) - 1]
    kind = np.where(before < 0, _BREAK, kinds[before])
    kinds[places] = np.where((kinds[places] == _INVISIBLE) & (kind <= _LETTER), _INVISIBLE, kind)


def _lower(points: NDArray[np.int32]) -> NDArray[np.int32]:
    """Lower case of each, where that is one character."""
    distinct, at = np.unique(points, return_inverse=True)
    lower = [character.lower() for character in map(chr, distinct.tolist())]
    return np.array(
        [ord(low) if len(low) == 1 else code for low, code in zip(lower, distinct.tolist(), strict=True)], np.int32
    )[at]
