"""Exact counts of all n-grams of a text, and the branching entropy on both sides of each.

Shapes: A units in the alphabet, m n-grams of a length, q n-grams looked for.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import json
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mining.blocks import Progress, Texts, edged, write_blocks
from mining.corpus import LATIN, Policy, Units
from mining.levels import Map, close_level, count_levels
from mining.runs import Ints, Rows, Run, sort_keys
from mining.runs import merge as merge_runs
from mining.spill import Folder, Memory, Shelf, put

BYTES_PER_UNIT = 64  # at the peak of a step over a block
SPILLED_MB = 400.0  # for a block that is spilled, unless said otherwise
FEW = 4096  # n-grams that are looked for one by one


@dataclass(frozen=True, eq=False)
class Level:
    """The k-grams of one length k, in lexicographic order of their codes.

    Args:
        counts: (m,), how often each occurs.
        prefix: (m,), the row of its first k - 1 units in the level below; -1 at level 1.
        suffix: (m,), the row of its last k - 1 units there.
        left: (m,), entropy in nats of the unit before it. The edge of a segment is another neighbour each time.
        right: (m,), entropy in nats of the unit behind it.
    """

    counts: Ints
    prefix: Rows
    suffix: Rows
    left: NDArray[np.float64]
    right: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.counts)


@dataclass(frozen=True, eq=False)
class Ngrams:
    """The n-grams of a text that occur `min_count` times, by length.

    Args:
        alphabet: (A,), codes of the units, rising; row i of level 1 is the unit `alphabet[i]`.
        levels: one for each length from 1.
        n_units: of the text.
        n_segments: of the text.
        min_count: rarer n-grams are left out. The entropies of the others count them.
        fringe: the n-grams one unit longer than the last level's, without entropies, if kept for `merge`.
    """

    alphabet: NDArray[np.int32]
    levels: tuple[Level, ...]
    n_units: int
    n_segments: int
    min_count: int = 1
    fringe: Level | None = None

    def codes(self, k: int) -> NDArray[np.int32]:
        """(m, k) codes of the k-grams."""
        rows = np.arange(len(self.levels[k - 1]), dtype=np.int32)
        columns = []
        for length in range(k, 1, -1):
            columns.append(self._lasts[length - 1][rows])
            rows = self.levels[length - 1].prefix[rows]
        return self.alphabet[np.stack([rows, *columns[::-1]], axis=1)]

    def find(self, grams: NDArray[np.int32]) -> Ints:
        """(q,) rows of (q, k) codes in level k; -1 for what is not there."""
        letters = self._letters[np.asarray(grams)]
        rows = letters[:, 0].astype(np.int64)
        for k in range(1, letters.shape[1]):
            rows = self._longer(k, rows, letters[:, k])
        return rows

    def locate(self, found: Units) -> list[Rows]:
        """For each level (n_units,) rows of the n-gram that begins at each unit; -1 where it is not there."""
        codes = edged(found)
        inside = codes > 0
        letters = self._letters[codes]
        rows, located = letters, [letters[inside]]
        for k in range(1, len(self.levels)):
            last = np.full(len(letters), -1, np.int32)
            last[: max(len(letters) - k, 0)] = letters[k:]
            rows = self._longer(k, rows, last).astype(np.int32)
            located.append(rows[inside])
        return located

    def pruned(self, min_count: int) -> Ngrams:
        """The n-grams that occur `min_count` times."""
        if min_count <= self.min_count:
            return self
        kept = [level.counts >= min_count for level in self.levels]
        levels = []
        rows = np.full(1, -1, np.int32)  # where the rows of the level below are now
        for level, keep in zip(self.levels, kept, strict=True):
            old = Level(*(array[keep] for array in vars(level).values()))
            levels.append(replace(old, prefix=rows[old.prefix], suffix=rows[old.suffix]))
            rows = np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int32)
        return Ngrams(self.alphabet[kept[0]], tuple(levels), self.n_units, self.n_segments, min_count)

    def save(self, path: Path | str) -> None:
        """Writes an .npz file, whole or not at all."""
        levels = {f"level{k}": level for k, level in enumerate(self.levels, 1)}
        levels |= {} if self.fringe is None else {"fringe": self.fringe}
        arrays = {f"{name}.{key}": array for name, level in levels.items() for key, array in vars(level).items()}
        facts = np.array([self.n_units, self.n_segments, self.min_count])
        half = Path(path).with_name(f"half-{Path(path).name}")
        with half.open("wb") as file:
            np.savez(file, alphabet=self.alphabet, facts=facts, **arrays)
        half.replace(path)

    @classmethod
    def load(cls, path: Path | str) -> Ngrams:
        """What `save` wrote; ValueError for anything else."""
        try:
            with np.load(path) as file:
                arrays = dict(file)
            n = sum(name.startswith("level") and name.endswith(".counts") for name in arrays)
            levels = {name: _level(arrays, name) for name in (*(f"level{k}" for k in range(1, n + 1)), "fringe")}
            n_units, n_segments, min_count = arrays["facts"].tolist()
            fringe = levels.pop("fringe")
            kept = tuple(level for level in levels.values() if level is not None)
            return cls(arrays["alphabet"], kept, n_units, n_segments, min_count, fringe)
        except (OSError, KeyError, EOFError, zipfile.BadZipFile, ValueError) as error:
            raise ValueError(f"{path}: holds no counts of n-grams ({error}); count the texts again") from error

    @functools.cached_property
    def _letters(self) -> Rows:
        """The row at level 1 of every code."""
        table = np.full(LATIN + 1, -1, np.int32)
        table[self.alphabet] = np.arange(len(self.alphabet))
        return table

    @functools.cached_property
    def _lasts(self) -> tuple[Rows, ...]:
        """The row at level 1 of each n-gram's last unit, by level."""
        found = [np.arange(len(self.alphabet), dtype=np.int32)]
        for level in self.levels[1:]:
            found.append(found[-1][level.suffix])
        return tuple(found)

    @functools.cached_property
    def _keys(self) -> tuple[Ints, ...]:
        """What the rows of each level are sorted by."""
        size = len(self.alphabet)
        pairs = zip(self.levels, self._lasts, strict=True)
        return tuple(level.prefix.astype(np.int64) * size + last for level, last in pairs)

    def _longer(self, k: int, rows: NDArray[np.signedinteger], last: Rows) -> Ints:
        """Rows of level k + 1, of k-grams and the units behind them; -1 where there is none."""
        places = np.flatnonzero((rows >= 0) & (last >= 0))
        keys = rows[places].astype(np.int64) * len(self.alphabet) + last[places]
        longer = np.full(len(rows), -1)
        if len(keys) <= FEW:
            longer[places] = _search(self._keys[k], keys)
        else:  # in order the search stays in the cache
            order = sort_keys(keys, len(self.levels[k - 1]) * len(self.alphabet))
            longer[places[order.places]] = np.repeat(_search(self._keys[k], order.keys), order.counts)
        return longer


def count(
    texts: Texts,
    n: int,
    *,
    min_count: int = 1,
    policy: Policy = Policy(),  # noqa: B008 (frozen)
    memory: float | None = None,
    folder: Path | str | None = None,
    map: Map = map,  # noqa: A002 (it is what it is called everywhere else)
    progress: Progress | None = None,
    mergeable: bool = False,
) -> Ngrams:
    """The n-grams of texts up to length n, with the exact entropies of their neighbours.

    The same to the last bit for any memory, chunks and processes.

    Args:
        texts: read once; no n-gram crosses the end of one. Pieces of a long one are cut by `pieces`. Units keep
            the policy they were made by.
        n: greatest length.
        min_count: rarer n-grams are left out, but counted as neighbours.
        policy: of the units.
        memory: megabytes for a block of the texts, in each process; the result comes on top. None = all in one go.
        folder: for the blocks and what was counted in them; another run with it resumes, and does not read what it
            holds. It grows to ten times the text. None = a temporary one, if blocks are needed.
        map: the builtin, or that of a pool of processes.
        progress: called with what is being done, how much of it is done, and of how much; 0 = not known.
        mergeable: whether to keep what `merge` needs.

    Raises:
        ValueError: A setting out of range; a folder of another job; a disk that is full.

    >>> found = count(["abab", "aba"], 2, policy=Policy(latin="each"))
    >>> [(chr(a) + chr(b), int(n)) for (a, b), n in zip(found.codes(2), found.levels[1].counts)]
    [('ab', 3), ('ba', 2)]
    """
    _check(n, min_count, memory)
    is_spilled = memory is not None or folder is not None or map is not builtins.map
    size = max(int((memory or SPILLED_MB) * 2**20 / BYTES_PER_UNIT), 1) if is_spilled else None
    with _shelf(folder, is_spilled=is_spilled) as shelf:
        job = {"n": n, "min_count": min_count, "policy": vars(policy), "units_of_a_block": size, "mergeable": mergeable}
        _claim(shelf, folder, job)
        facts = write_blocks(shelf, texts, policy, size, progress or _silent)
        count_levels(
            shelf,
            facts.n_blocks,
            n,
            min_count,
            mergeable=mergeable,
            limit=size or 1,
            map=map,
            progress=progress or _silent,
        )
        return _result(shelf, n, facts.n_units, facts.n_segments, min_count, mergeable=mergeable)


def merge(parts: Sequence[Ngrams]) -> Ngrams:
    """What counting the texts of all parts together gives.

    Args:
        parts: counted to one n, with `mergeable` and all n-grams; `pruned` leaves out rare ones afterwards.
    """
    n = len(parts[0].levels) if parts else 0
    for at, part in enumerate(parts):
        if part.min_count > 1 or part.fringe is None or len(part.levels) != n:
            raise ValueError(
                f"part {at}: {len(part.levels)}-grams, min_count = {part.min_count}, mergeable ="
                f" {part.fringe is not None}; only counts of {n}-grams, all and mergeable, add up: count its text anew"
            )
    if not n:
        raise ValueError("no counts to merge; give at least one part")
    shelf = Memory()
    alphabet = functools.reduce(np.union1d, (part.alphabet for part in parts)).astype(np.int32)
    base = len(alphabet) + 1
    letters = [np.searchsorted(alphabet, part.alphabet) for part in parts]
    totals = np.zeros(len(alphabet), np.int64)
    for part, own in zip(parts, letters, strict=True):
        totals[own] += part.levels[0].counts
    put(shelf, "alphabet", codes=alphabet)
    put(shelf, "level-1", keys=np.arange(1, base), counts=totals, suffix=np.full(len(alphabet), -1, np.int32))
    rows = letters  # where the rows of each part's level lie in the whole's
    for k in range(1, n + 1):
        runs = [_as_run(part, k, base, own, at) for part, own, at in zip(parts, letters, rows, strict=True)]
        close_level(shelf, k, base, merge_runs(runs, 1 << 62), (), 1)
        keys = shelf.read(f"level-{k + 1}")["keys"][:]
        rows = [np.searchsorted(keys, run.keys[:]) for run in runs]
    n_units, n_segments = sum(part.n_units for part in parts), sum(part.n_segments for part in parts)
    return _result(shelf, n, n_units, n_segments, 1, mergeable=True)


def _as_run(part: Ngrams, k: int, base: int, letters: Ints, rows: Ints) -> Run:
    """A part's (k + 1)-grams, keyed as the whole's are."""
    level = part.levels[k] if k < len(part.levels) else cast("Level", part.fringe)
    last = letters[part._lasts[k - 1][level.suffix]]
    return Run(rows[level.prefix] * base + last + 1, level.counts, rows[level.suffix].astype(np.int32))


def _result(shelf: Shelf, n: int, n_units: int, n_segments: int, min_count: int, *, mergeable: bool) -> Ngrams:
    alphabet = shelf.read("alphabet")["codes"][:]
    levels = []
    for k in range(1, n + 2 if mergeable else n + 1):
        keys, counts, suffix = (shelf.read(f"level-{k}")[key][:] for key in ("keys", "counts", "suffix"))
        prefix = suffix if k == 1 else (keys // (len(alphabet) + 1)).astype(np.int32)
        found = shelf.read(f"entropy-{k}") if k <= n else {}
        left, right = (found[side][:] if found else np.empty(0) for side in ("left", "right"))
        levels.append(Level(counts, prefix, suffix, left, right))
    units_kept = alphabet[shelf.read("level-1")["keys"][:] - 1]
    fringe = levels.pop() if mergeable else None
    return Ngrams(units_kept, tuple(levels), n_units, n_segments, min_count, fringe)


def _level(arrays: dict[str, NDArray[Any]], name: str) -> Level | None:
    if f"{name}.counts" not in arrays:
        return None
    return Level(**{field.name: arrays[f"{name}.{field.name}"] for field in fields(Level)})


def _search(table: NDArray[np.signedinteger], keys: Ints) -> Ints:
    """Where the keys stand in a rising table; -1 for those that do not."""
    if not len(table):
        return np.full(len(keys), -1)
    places = np.searchsorted(table, keys)
    places[places == len(table)] = 0
    return np.where(table[places] == keys, places, -1)


def _check(n: int, min_count: int, memory: float | None) -> None:
    for name, value in (("n", n), ("min_count", min_count)):
        if value < 1:
            raise ValueError(f"{name} = {value}: must be at least 1")
    if memory is not None and not memory > 0:
        raise ValueError(f"memory = {memory}: must be positive, in megabytes; {SPILLED_MB:.0f} is a good choice")


def _silent(_what: str, _done: int, _of: int) -> None:
    pass


@contextlib.contextmanager
def _shelf(folder: Path | str | None, *, is_spilled: bool) -> Iterator[Shelf]:
    if not is_spilled:
        yield Memory()
    elif folder is not None:
        yield Folder(Path(folder))
    else:
        with tempfile.TemporaryDirectory(prefix="taolu-ngrams-") as path:
            yield Folder(Path(path))


def _claim(shelf: Shelf, folder: Path | str | None, job: dict[str, object]) -> None:
    """Refuses a folder that holds another job's parts."""
    text = json.dumps(job, sort_keys=True)
    if not shelf.has("job"):
        put(shelf, "job", text=np.frombuffer(text.encode(), np.uint8))
    elif (found := shelf.read("job")["text"][:].tobytes().decode()) != text:
        raise ValueError(f"{folder}: holds the counts of another job, {found}; delete it or give another folder")
