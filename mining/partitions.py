"""Itemsets of more baskets than memory holds: parts are mined one by one, and what any finds is counted in all.

A set that is frequent in all baskets is frequent, by share, in at least one part (Savasere, Omiecinski & Navathe 1995):
the sets of all parts together hold every frequent one, and an exact count tells which. What a part gave lies in a file,
so that a killed run goes on where it was.
"""

from __future__ import annotations

import ast
import json
import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mining.apriori import Itemsets, mine_itemsets, threshold
from mining.baskets import Baskets, sort_rows
from mining.bitmaps import popcounts
from mining.lattice import Budget, Ints
from mining.subsets import Index

PART = 500_000  # baskets; mining one takes about 500 MB at 10 items a basket
BLOCK = 8192  # baskets whose bitmaps are made in one go: 128 words an item
SETS = 4096  # counted in one go: 4 MB of bitmaps
ENTRIES = 1 << 22  # recoded in one go

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Store:
    """Baskets on disk: item numbers and lengths, one after the other.

    Args:
        folder: holds `lengths.u4`, `entries.u4` and, once all is written, `store.json`.
        items: the item of each number.
        counts: (n_items,) baskets each is in.
        n_baskets: in all.
    """

    folder: Path
    items: Sequence[Hashable]
    counts: Ints
    n_baskets: int

    @classmethod
    def write(cls, folder: Path, chunks: Iterable[Baskets]) -> Store:
        """Baskets that come in chunks, each read once; items keep their numbers through all of them."""
        folder.mkdir(parents=True, exist_ok=True)
        numbers: dict[Hashable, int] = {}
        counts = np.zeros(0, np.int64)
        n_baskets = 0
        with (folder / "lengths.u4").open("wb") as lengths, (folder / "entries.u4").open("wb") as entries:
            for chunk in chunks:
                own = [numbers.setdefault(item, len(numbers)) for item in chunk.items]
                mapped = np.array(own, np.uint32).take(chunk.indices) if own else np.empty(0, np.uint32)
                mapped.tofile(entries)
                np.diff(chunk.indptr).astype(np.uint32).tofile(lengths)
                counts = np.concatenate((counts, np.zeros(len(numbers) - len(counts), np.int64)))
                counts += np.bincount(mapped, minlength=len(numbers))
                n_baskets += len(chunk)
        text = {"n_baskets": n_baskets, "items": [repr(item) for item in numbers], "counts": counts.tolist()}
        _write(folder / "store.json", lambda path: path.write_text(json.dumps(text), encoding="utf-8"))
        return cls(folder, list(numbers), counts, n_baskets)

    @classmethod
    def read(cls, folder: Path) -> Store:
        """The baskets that `write` left there."""
        text = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        items = [ast.literal_eval(item) for item in text["items"]]
        return cls(folder, items, np.array(text["counts"], np.int64), text["n_baskets"])


@dataclass(frozen=True)
class Job:
    """One part: its place, and what to look for in it."""

    folder: Path
    number: int
    first: int
    last: int
    minimum: int
    n_items: int
    max_length: int | None

    def baskets(self) -> Baskets:
        """The part's baskets, of codes."""
        ends = np.memmap(self.folder / "ends.i8", np.int64, "r")[self.first : self.last + 1]
        kind = _kind(self.n_items)
        codes = np.memmap(self.folder / "codes.bin", kind, "r") if ends[-1] else np.empty(0, kind)
        entries = codes[ends[0] : ends[-1]].astype(np.int32)
        sort_rows(entries, np.diff(ends), self.n_items)
        return Baskets(range(self.n_items), ends - ends[0], entries)

    def file(self, kind: str) -> Path:
        """Where the part's sets, or its counts of all sets, lie."""
        return self.folder / f"{kind}-{self.minimum}-{self.max_length}-{self.number:05d}.npz"


def mine_partitions(
    chunks: Iterable[Baskets],
    min_support: float,
    folder: Path | str,
    *,
    max_length: int | None = None,
    strict: bool = False,
    part_size: int = PART,
    map: Map = map,  # noqa: A002 (it is what it is called everywhere else)
) -> Itemsets:
    """What `mine_itemsets` finds, with memory for one part.

    Args:
        chunks: baskets as they come; not touched if the folder already holds them.
        min_support: a share (float) or a count (int).
        folder: for the baskets and what each part gave; another run with it resumes. Delete it for other baskets.
        max_length: the longest sets looked for.
        strict: whether a set must lie above `min_support` instead of at least at it.
        part_size: baskets mined together.
        map: the builtin, or that of a pool of processes.
    """
    if part_size < 1:
        raise ValueError(f"part_size = {part_size}: must be at least 1 basket; {PART} needs about 500 MB")
    folder = Path(folder)
    store = Store.read(folder) if (folder / "store.json").exists() else Store.write(folder, chunks)
    minimum = threshold(min_support, store.n_baskets, strict)
    frequent = np.flatnonzero(store.counts >= minimum)
    frequent = frequent[np.argsort(store.counts[frequent], kind="stable")]
    work = folder / f"minimum-{minimum}-{part_size}"
    if not (work / "ends.i8").exists():
        _encode(store, frequent, work)
    jobs = list(_jobs(store.n_baskets, len(frequent), work, minimum, max_length, part_size))
    for _ in map(_mine, jobs):
        pass
    tables = _union(jobs)
    files = map(_Count(tables), jobs)
    counts = sum((np.load(file)["counts"] for file in files), np.zeros(sum(map(len, tables.values())), np.int64))
    first = 0
    kept: dict[int, tuple[Ints, Ints]] = {}
    for length, table in tables.items():
        own = counts[first : first + len(table)]
        kept[length] = (frequent.take(table[own >= minimum]), own[own >= minimum])
        first += len(table)
    return _itemsets(kept, store, minimum)


def _itemsets(tables: dict[int, tuple[Ints, Ints]], store: Store, minimum: int) -> Itemsets:
    """Tables by length as one result."""
    empty = np.empty(0, np.int64)
    items = np.concatenate([table.ravel() for table, _ in tables.values()] or [empty])
    lengths = np.repeat(list(tables), [len(table) for table, _ in tables.values()]).astype(np.int32)
    counts = np.concatenate([counts for _, counts in tables.values()] or [empty])
    return Itemsets(items, lengths, counts, store.n_baskets, store.items, minimum)


def _kind(n_items: int) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if n_items <= 1 << 16 else np.uint32


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """A file that is there whole or not at all."""
    half = path.with_name(f"half-{uuid.uuid4().hex}-{path.name}")  # two machines may, when one was taken for dead
    write(half)
    half.replace(path)


def _encode(store: Store, frequent: Ints, work: Path) -> None:
    """Writes the frequent items of all baskets as codes, the rarest first, and where each basket ends."""
    work.mkdir(parents=True, exist_ok=True)
    code = np.full(len(store.items), -1, np.int64)
    code[frequent] = np.arange(len(frequent))
    lengths = np.fromfile(store.folder / "lengths.u4", np.uint32)
    borders = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    through = np.zeros(len(borders), np.int64)  # frequent entries before each basket
    written = 0
    with (work / "codes.bin").open("wb") as target, (store.folder / "entries.u4").open("rb") as source:
        for start in range(0, int(borders[-1]), ENTRIES):
            codes = code.take(np.fromfile(source, np.uint32, ENTRIES))
            known = codes >= 0
            low, high = np.searchsorted(borders, [start, start + len(codes)], side="left")
            count = np.concatenate(([0], np.cumsum(known)))
            through[low : high + 1] = written + count[np.minimum(borders[low : high + 1] - start, len(codes))]
            codes[known].astype(_kind(len(frequent))).tofile(target)
            written += int(count[-1])
    through[borders == borders[-1]] = written
    _write(work / "ends.i8", through.tofile)


def _jobs(
    n_baskets: int, n_items: int, work: Path, minimum: int, max_length: int | None, part_size: int
) -> Iterator[Job]:
    """The parts; each looks for the sets that are frequent in it by the share that is asked for."""
    for number, first in enumerate(range(0, n_baskets, part_size)):
        last = min(first + part_size, n_baskets)
        local = -(-minimum * (last - first) // n_baskets)
        yield Job(work, number, first, last, max(local, 1), n_items, max_length)


def _mine(job: Job) -> Path:
    """The file with a part's itemsets; mined unless it is there."""
    path = job.file("sets")
    if not path.exists():
        found = mine_itemsets(
            job.baskets(), job.minimum, max_length=job.max_length, budget=Budget(megabytes=float("inf"))
        )
        _write(path, lambda half: np.savez(half, items=found.items, lengths=found.lengths, counts=found.counts))
    return path


def _found(job: Job) -> dict[int, tuple[Ints, Ints]]:
    """A part's itemsets by length."""
    with np.load(job.file("sets")) as arrays:
        found = Itemsets(arrays["items"], arrays["lengths"], arrays["counts"], 0, (), job.minimum)
    return found.by_length()


def _union(jobs: list[Job]) -> dict[int, Ints]:
    """The sets any part found, by length; items rise in each."""
    tables: dict[int, Ints] = {}
    for job in jobs:
        for length, (table, _) in _found(job).items():
            rows = np.sort(table, axis=1)
            both = np.concatenate((tables[length], rows)) if length in tables else rows
            tables[length] = np.unique(both, axis=0)
    return dict(sorted(tables.items()))


@dataclass(frozen=True)
class _Count:
    """Counts all sets in a part: an object, not a closure, so that processes can be given it."""

    tables: dict[int, Ints]

    def __call__(self, job: Job) -> Path:
        """The file with the counts; those the part itself found are taken from there."""
        path = job.file("counts")
        if path.exists():
            return path
        index = Index({length: (table, np.zeros(len(table), np.int64)) for length, table in self.tables.items()})
        counts = np.full(index.n_itemsets, -1, np.int64)
        for length, (table, own) in _found(job).items():
            keys = index.code.take(table).sum(axis=1, dtype=np.uint64)
            counts[index.find(keys, length)] = own
        missing = np.flatnonzero(counts < 0)
        if len(missing):
            counts[missing] = 0
            baskets = job.baskets()
            for length, table in self.tables.items():
                first = index.firsts[length]
                own = missing[(missing >= first) & (missing < first + len(table))]
                if len(own):
                    counts[own] = _counted(baskets, table[own - first])
        _write(path, lambda half: np.savez(half, counts=counts))
        return path


def _counted(baskets: Baskets, table: Ints) -> Ints:
    """(n,) baskets that hold each of (n, length) sets."""
    counts = np.zeros(len(table), np.int64)
    for first in range(0, len(baskets), BLOCK):
        bits = _bits(baskets, first, min(first + BLOCK, len(baskets)))
        for at in range(0, len(table), SETS):
            some = table[at : at + SETS]
            both = bits.take(some[:, 0], axis=0)
            for column in some.T[1:]:
                both &= bits.take(column, axis=0)
            counts[at : at + SETS] += popcounts(both)
    return counts


def _bits(baskets: Baskets, first: int, last: int) -> NDArray[np.uint64]:
    """(n_items, n_words) bitmaps of some baskets."""
    n_words = -(-(last - first) // 64)
    bits = np.zeros(len(baskets.items) * n_words, np.uint64)
    rows = np.repeat(np.arange(last - first), np.diff(baskets.indptr[first : last + 1]))
    entries = baskets.indices[baskets.indptr[first] : baskets.indptr[last]].astype(np.int64)
    np.add.at(bits, entries * n_words + (rows >> 6), np.uint64(1) << (rows & 63).astype(np.uint64))
    return bits.reshape(-1, n_words)
