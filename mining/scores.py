"""What segmentation needs: the candidate words as n-grams with their scores, looked up unit by unit."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mining.corpus import LATIN, NUMBER, Policy, Treatment, Units, units
from mining.ngrams import Ngrams
from mining.runs import sort_keys

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rows = NDArray[np.int32]

SHOWN = {NUMBER: "0", LATIN: "A"}  # how a run is written in a word


@dataclass(frozen=True, eq=False)
class Scores:
    """Candidate words by length, in lexicographic order, with scores in nats; a tree of which each level is an array.

    Args:
        alphabet: (A,) codes of units, rising.
        keys: for each length (m,), rising: A times the row of the first k - 1 units, plus that of the last unit.
        values: for each length (m,), -inf where it only begins a longer one.
        unknown: that of a unit that is not in the alphabet.
        policy: of the units.
    """

    alphabet: NDArray[np.int32]
    keys: tuple[Ints, ...]
    values: tuple[Floats, ...]
    unknown: float
    policy: Policy = Policy()  # noqa: RUF009 (frozen)

    @classmethod
    def of(cls, ngrams: Ngrams, is_candidate: Sequence[NDArray[np.bool_]], policy: Policy) -> tuple[Scores, list[Ints]]:
        """The candidates among n-grams and their beginnings, without values yet; and their rows in each level."""
        base = len(ngrams.alphabet)
        lasts = letters(ngrams)
        kept = [candidate.copy() for candidate in is_candidate]
        kept[0][:] = True
        for k in range(len(kept) - 1, 0, -1):
            kept[k - 1][ngrams.levels[k].prefix[kept[k]]] = True
        keys = [np.arange(base)]
        rows = np.arange(base)  # where the rows of the level below are now
        for k in range(1, len(kept)):
            keys.append(rows[ngrams.levels[k].prefix[kept[k]]] * base + lasts[k][kept[k]])
            rows = np.cumsum(kept[k]) - 1
        values = tuple(np.zeros(len(key)) for key in keys)
        return cls(ngrams.alphabet, tuple(keys), values, 0.0, policy), [np.flatnonzero(keep) for keep in kept]

    @classmethod
    def of_words(cls, counts: Mapping[str, float], policy: Policy = Policy()) -> Scores:  # noqa: B008 (frozen)
        """Words alone: ln(count / sum); what has a break inside is left out, and so is what is not positive.

        Raises:
            ValueError: No word is left.
        """
        words = [word for word, count in counts.items() if count > 0]
        found = units("\n".join(words), policy)
        begins = np.cumsum([0, *(len(word) + 1 for word in words)])
        firsts, lasts = found.offsets[found.starts[:-1]], found.ends[found.starts[1:] - 1]
        at = np.searchsorted(begins, firsts, side="right") - 1
        is_whole = (begins[at] == firsts) & (begins[at + 1] - 1 == lasts)
        if not is_whole.any():
            raise ValueError(f"no words among {len(counts)} entries: nothing to segment by; give words with counts > 0")
        n = np.zeros(len(firsts))
        n[is_whole] = [counts[words[word]] for word in at[is_whole].tolist()]
        tree, rows = cls.of_segments(found, policy)
        return tree.valued(rows, np.diff(found.starts), n)

    @classmethod
    def of_segments(cls, found: Units, policy: Policy) -> tuple[Scores, Ints]:
        """Segments and what they begin with, without values yet; and each one's row (S,) in the level of its length."""
        alphabet, letter = np.unique(found.codes, return_inverse=True)
        base = len(alphabet)
        lengths = np.diff(found.starts)
        keys = [np.arange(base)]
        rows = letter[found.starts[:-1]].astype(np.int64)
        for k in range(1, int(lengths.max(initial=1))):
            longer = np.flatnonzero(lengths > k)
            key, row = np.unique(rows[longer] * base + letter[found.starts[longer] + k], return_inverse=True)
            rows[longer] = row
            keys.append(key)
        return cls(alphabet, tuple(keys), tuple(np.zeros(len(key)) for key in keys), 0.0, policy), rows

    def valued(self, rows: Ints, lengths: Ints, counts: Floats) -> Scores:
        """The same with ln(count / sum) of words, by their rows and lengths, (V,) each; -inf where a count is 0.

        Single units have at least half the least count, and so has what is unknown.
        """
        totals = [np.zeros(len(keys)) for keys in self.keys]
        for k, total in enumerate(totals, 1):
            np.add.at(total, rows[lengths == k], counts[lengths == k])
        unknown = float(np.log(counts[counts > 0].min() / 2 / counts.sum()))
        with np.errstate(divide="ignore"):
            values = [np.log(total / counts.sum()) for total in totals]
        values[0] = np.maximum(values[0], unknown)
        return replace(self, values=tuple(values), unknown=unknown)

    def locate(self, found: Units) -> list[Rows]:
        """For each length (n,) the row of the n-gram that begins at each unit, -1 = none, as `Paths` takes them."""
        base = len(self.alphabet)
        if not base or not len(found):
            return [np.full(len(found), -1, np.int32) for _ in self.keys]
        at = np.minimum(np.searchsorted(self.alphabet, found.codes), base - 1)
        letter = np.where(self.alphabet[at] == found.codes, at, -1)
        segment_end = np.repeat(found.starts[1:], np.diff(found.starts))
        rows: Ints = letter.astype(np.int64)
        located = [letter.astype(np.int32)]
        for k in range(1, len(self.keys)):
            last = np.append(letter[k:], np.full(min(k, len(letter)), -1))
            places = np.flatnonzero((rows >= 0) & (last >= 0) & (np.arange(len(letter)) + k < segment_end))
            longer = np.full(len(letter), -1, np.int64)
            longer[places] = _find(self.keys[k], rows[places] * base + last[places])
            rows = longer
            located.append(rows.astype(np.int32))
        return located

    def codes(self, k: int, rows: Ints) -> NDArray[np.int32]:
        """(q, k) codes of rows of length k."""
        base = len(self.alphabet)
        columns = []
        for keys in self.keys[k - 1 : 0 : -1]:
            columns.append(keys[rows] % base)
            rows = keys[rows] // base
        return self.alphabet[np.stack([rows, *columns[::-1]], axis=1)]

    def words(self, k: int, rows: Ints) -> list[str]:
        """What rows of length k spell; a run of digits as 0, of letters as A."""
        codes = self.codes(k, rows)
        for code, shown in SHOWN.items():
            codes[codes == code] = ord(shown)
        text = codes.astype("<i4").tobytes().decode("utf-32-le", "surrogatepass")
        return [text[at : at + k] for at in range(0, len(text), k)]

    def save(self, path: Path | str) -> None:
        """Writes an .npz file, whole or not at all."""
        arrays: dict[str, NDArray[Any]] = {f"keys{k}": keys for k, keys in enumerate(self.keys, 1)}
        arrays |= {f"values{k}": values for k, values in enumerate(self.values, 1)}
        arrays |= {
            "unknown": np.array(self.unknown),
            "alphabet": self.alphabet,
            "policy": np.array([self.policy.numbers, self.policy.latin]),
        }
        half = Path(path).with_name(f"half-{Path(path).name}")
        with half.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        half.replace(path)

    @classmethod
    def load(cls, path: Path | str) -> Scores:
        """What `save` wrote; ValueError for anything else."""
        try:
            with np.load(path) as file:
                arrays = dict(file)
            numbers, latin = (cast("Treatment", treatment) for treatment in arrays.pop("policy").tolist())
            lengths = range(1, sum(name.startswith("keys") for name in arrays) + 1)
            keys = tuple(arrays[f"keys{k}"] for k in lengths)
            values = tuple(arrays[f"values{k}"] for k in lengths)
            return cls(arrays["alphabet"], keys, values, float(arrays["unknown"]), Policy(numbers, latin))
        except (OSError, KeyError, EOFError, zipfile.BadZipFile, ValueError) as error:
            raise ValueError(f"{path}: holds no scores of a lexicon ({error}); mine it again") from error


def letters(ngrams: Ngrams) -> list[Rows]:
    """For each level (m,) the row at level 1 of the last unit."""
    found = [np.arange(len(ngrams.alphabet), dtype=np.int32)]
    for level in ngrams.levels[1:]:
        found.append(found[-1][level.suffix])
    return found


def _find(table: Ints, keys: Ints) -> Ints:
    """Rows of keys in a rising table, -1 where absent; looked for in order, which the cache likes."""
    if not len(table):
        return np.full(len(keys), -1)
    order = sort_keys(keys, int(max(table[-1], keys.max(initial=0))) + 1)
    places = np.minimum(np.searchsorted(table, order.keys), len(table) - 1)
    found = np.empty(len(keys), np.int64)
    found[order.places] = np.repeat(np.where(table[places] == order.keys, places, -1), order.counts)
    return found
