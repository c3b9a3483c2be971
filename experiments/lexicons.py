"""Lexicons that were mined: found by run or file, to cut texts by and to compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.basket_source import refused
from experiments.errors import ConfigError
from experiments.store.location import Store
from experiments.store.read import find_run, read_run
from experiments.words import ENGLISH, Words
from mining.lexicon import read_words
from mining.segment import Segmenter

SHOWN = 20


def segmenter_of(store: Store, handle: str) -> Segmenter:
    """By the full scores of a run or a folder, or the words of a file.

    Raises ConfigError for what is neither.
    """
    place = _place(store, handle)
    with refused():
        if place.is_dir() or place.suffix == ".npz":
            return Segmenter.load(place)
        return Segmenter(read_words(place))


def words_of(store: Store, handle: str) -> dict[str, float]:
    """The words of a run, a folder or a file, with their counts."""
    place = _place(store, handle)
    with refused():
        return read_words(place / "words.json" if place.is_dir() else place)


def _place(store: Store, handle: str) -> Path:
    """The file, or the folder that a lexicon is in."""
    path = Path(handle).expanduser()
    if path.suffix == ".parquet" and path.exists():
        raise ConfigError(f"{handle}: give the folder it is in, or its words.csv, words.json or words.txt")
    if path.exists():
        return path
    if "/" in handle or path.suffix:
        raise ConfigError(f"{handle}: no such file; give a run, a folder of a lexicon, or a file with a word a line")
    record = read_run(store, find_run(store, handle))
    if not (record.folder / "scores.npz").exists():
        raise ConfigError(
            f"run {record.run_id[:8]} ({record.experiment}) holds no lexicon; mine one: taolu mine lexicon"
        )
    return record.folder


@dataclass(frozen=True)
class Difference:
    """What two lexicons differ in.

    Args:
        first: words that the first alone has, the most frequent first.
        second: words that the second alone has.
        both: how many they share.
        ratios: of shared words, share in the second over share in the first, the farthest from 1 first.
    """

    first: list[str]
    second: list[str]
    both: int
    ratios: list[tuple[str, float]]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {"only_a": self.first, "only_b": self.second, "both": self.both, "ratios": self.ratios}

    def lines(self, words: Words = ENGLISH) -> list[str]:
        """For a person."""
        parts = [words("lexicon_both", both=self.both, first=len(self.first), second=len(self.second))]
        for name, alone in (("A", self.first), ("B", self.second)):
            parts.append(words("lexicon_alone", name=name, words=" ".join(alone[:SHOWN]) or words("none")))
        more = " ".join(f"{word} x{ratio:.2g}" for word, ratio in self.ratios[:SHOWN])
        return [*parts, words("lexicon_ratios", words=more or words("none"))]


def difference(first: Mapping[str, float], second: Mapping[str, float]) -> Difference:
    """Words of one lexicon alone, and how differently the others are used.

    >>> found = difference({"ab": 3, "c": 1}, {"ab": 1, "d": 1})
    >>> found.first, found.second, found.ratios
    (['c'], ['d'], [('ab', 0.666...)])
    """
    totals = [sum(each.values()) or 1.0 for each in (first, second)]
    shared = [word for word in first if word in second]
    ratios = [(word, second[word] / totals[1] * totals[0] / first[word]) for word in shared if first[word]]
    return Difference(
        sorted((word for word in first if word not in second), key=lambda word: -first[word]),
        sorted((word for word in second if word not in first), key=lambda word: -second[word]),
        len(shared),
        sorted(ratios, key=lambda row: -max(row[1], 1 / row[1] if row[1] else 0.0)),
    )
