"""Frequent itemsets of baskets: which sets of items stand together in many of them.

Source: kexue.fm/archives/5525, whose level-wise algorithm is `method="article"`; Agrawal & Srikant 1994; Zaki 2000.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mining.baskets import Baskets, sort_rows
from mining.conditional import Block
from mining.lattice import Budget, Ints, Lattice, OverBudget
from mining.search import Kernels, search
from mining.subsets import Index

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Budget", "Itemsets", "estimate", "mine_itemsets", "threshold"]

Kind = Literal["frequent", "closed", "maximal"]
Method = Literal["fast", "article"]
Engine = Literal["numpy", "numba"]
MANY = 1 << 22  # entries from which compiled loops are worth the import
STEPS = 64  # of a logarithm, in an estimate


@dataclass(frozen=True, eq=False)
class Itemsets:
    """Itemsets, the shorter first.

    Args:
        items: the item ids of all sets, one set after the other, the rarest item of a set first.
        lengths: (n_itemsets,) items of each.
        counts: (n_itemsets,) baskets each is in.
        n_baskets: in all.
        names: the item of each id.
        minimum: the count from which a set is frequent.
        complete: False if the budget ended the search.
        notes: what was remarkable about the baskets.
    """

    items: Ints
    lengths: Ints
    counts: Ints
    n_baskets: int
    names: Sequence[Hashable]
    minimum: int
    complete: bool = True
    notes: dict[str, int] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[tuple[frozenset[Hashable], int]]:
        """Each set with its count."""
        for table, counts in self.by_length().values():
            for row, count in zip(table.tolist(), counts.tolist(), strict=True):
                yield frozenset(self.names[item] for item in row), count

    @property
    def supports(self) -> NDArray[np.float64]:
        """(n_itemsets,) shares of the baskets."""
        return self.counts / max(self.n_baskets, 1)

    def by_length(self) -> dict[int, tuple[Ints, Ints]]:
        """The (n, length) items and (n,) counts of the sets of each length."""
        totals = np.bincount(self.lengths)
        tables: dict[int, tuple[Ints, Ints]] = {}
        first = at = 0
        for length, total in enumerate(totals.tolist()):
            if total:
                table = self.items[at : at + total * length].reshape(total, length)
                tables[length] = (table, self.counts[first : first + total])
            first, at = first + total, at + total * length
        return tables

    def where(self, kept: NDArray[np.bool_]) -> Itemsets:
        """Some of the sets, by a mask of (n_itemsets,)."""
        items = self.items[np.repeat(kept, self.lengths)]
        return dataclasses.replace(self, items=items, lengths=self.lengths[kept], counts=self.counts[kept])

    def to_frame(self) -> DataFrame:
        """A table with mlxtend's columns: `support` and `itemsets`, frozensets."""
        from mining.frames import itemsets_frame

        return itemsets_frame(self)


def threshold(min_support: float, n_baskets: int, strict: bool = False) -> int:
    """The smallest count that is frequent.

    Args:
        min_support: a share (float), read as the decimal it is written as, or a count (int).
        n_baskets: in all.
        strict: whether a set must lie above the threshold, as in the article, instead of at least at it.

    >>> threshold(0.28, 25), threshold(0.28, 25, strict=True), threshold(7, 25)
    (7, 8, 7)
    """
    if isinstance(min_support, (bool, np.bool_)) or not isinstance(min_support, (int, float, np.integer, np.floating)):
        raise ValueError(f"min_support = {min_support!r}: must be a share (0.01) or a count of baskets (100)")
    if isinstance(min_support, (int, np.integer)):
        if min_support < 1:
            raise ValueError(
                f"min_support = {min_support}: a count must be at least 1; 0.01 keeps sets in 1 % of baskets"
            )
        return int(min_support) + strict
    if not 0 < min_support <= 1:
        raise ValueError(
            f"min_support = {min_support}: a share must lie in (0, 1]; 0.01 keeps sets in 1 % of baskets, "
            "a count is given as an integer"
        )
    # Fraction(0.001) is a hair above 1/1000, and would ask for 101 baskets of 100,000
    least = Fraction(str(float(min_support))) * n_baskets
    return max(int(least) + 1 if strict else -int(-least // 1), 1)


def mine_itemsets(
    baskets: Baskets | Iterable[Iterable[Hashable]],
    min_support: float,
    *,
    max_length: int | None = None,
    strict: bool = False,
    kind: Kind = "frequent",
    include: Collection[Hashable] = (),
    exclude: Collection[Hashable] = (),
    top_k: int | None = None,
    budget: Budget | None = None,
    method: Method = "fast",
    engine: Engine | None = None,
    progress: Callable[[int], None] | None = None,
) -> Itemsets:
    """The sets of items that stand together in enough baskets.

    Args:
        baskets: `Baskets`, or whatever `Baskets.of` reads.
        min_support: a share of the baskets (float) or a count (int).
        max_length: the longest sets looked for.
        strict: whether a set must lie above `min_support` instead of at least at it.
        kind: `closed` leaves out sets with a superset of equal count, `maximal` those with a frequent superset.
        include: items every set must hold.
        exclude: items no set may hold.
        top_k: only so many sets, the most frequent; those that tie with the last are kept too.
        budget: bounds at which the search ends with what it has, `complete` then being False.
        method: `article` is the level-wise algorithm of kexue.fm/archives/5525, kept to compare with.
        engine: `numba` compiles the innermost loops, if that package is installed; the sets are the same. None takes it
            from 4 million entries on: importing it costs more than it saves below.
        progress: called now and then with the number of sets found.

    >>> found = mine_itemsets([["tea", "milk"], ["tea", "milk", "jam"], ["tea"]], 0.5)
    >>> sorted((sorted(items), count) for items, count in found)
    [(['milk'], 2), (['milk', 'tea'], 2), (['tea'], 3)]
    """
    baskets = baskets if isinstance(baskets, Baskets) else Baskets.of(baskets)
    minimum = threshold(min_support, len(baskets), strict)
    _check(max_length, kind, top_k, method, engine)
    allowed, required = _constraints(baskets, include, exclude)
    lattice = Lattice(budget or Budget(), max_length, progress)
    run = _article if method == "article" else partial(_fast, kernels=_kernels(engine, len(baskets.indices)))
    if top_k is not None:
        minimum, lattice = _top(baskets, minimum, top_k, allowed, required, lattice, run)
    ids, complete = run(baskets, minimum, allowed, required, lattice)
    items, lengths, counts = lattice.arrays(ids)
    notes = {name: int(count) for name, count in baskets.notes.items()}
    found = Itemsets(items, lengths, counts, len(baskets), baskets.items, minimum, complete, notes)
    if kind != "frequent":
        found = found.where(Index(found.by_length()).without_superset(equal_counts=kind == "closed"))
    if top_k is not None and len(found) > top_k:
        found = found.where(found.counts >= np.partition(found.counts, -top_k)[-top_k])
    return found


def estimate(baskets: Baskets | Iterable[Iterable[Hashable]], min_support: float, strict: bool = False) -> float:
    """About how many itemsets are frequent, from single items and pairs alone; an order of magnitude.

    Within the baskets of its rarest item, the other items of a set are taken to be independent. How many sets then stay
    frequent is the number of ways to spend log(count / minimum) on followers that cost log(count / count of the pair).
    """
    found = mine_itemsets(baskets, min_support, strict=strict, max_length=2)
    levels = found.by_length()
    if 2 not in levels:
        return float(len(found))
    (singles, counts), (pairs, pair_counts) = levels[1], levels[2]
    place = np.zeros(len(found.names), np.int64)
    place[singles[:, 0]] = np.arange(len(singles))
    owner = place[pairs[:, 0]]
    order = np.argsort(owner, kind="stable")
    owner, pair_counts = owner[order], pair_counts[order]
    room = np.log(counts / found.minimum)
    cost = np.log(counts[owner] / pair_counts)
    shares = np.divide(cost, room[owner], out=np.zeros(len(cost)), where=room[owner] > 0)
    shifts = np.ceil(np.clip(shares, 0, 1) * STEPS - 0.5).astype(np.int64)
    ways = np.zeros((len(singles), 2 * STEPS + 1))  # the lower half stays zero, and is what comes from below no cost
    ways[:, STEPS] = 1
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    by_rank = np.argsort(rank, kind="stable")
    upper = np.arange(STEPS, 2 * STEPS + 1)
    for now in np.split(by_rank, np.cumsum(np.bincount(rank))[:-1]):
        ways[owner[now], STEPS:] += ways[owner[now, None], upper - shifts[now, None]]
    return float(ways.sum())


def _check(max_length: int | None, kind: str, top_k: int | None, method: str, engine: str | None) -> None:
    """Raises ValueError for a setting out of range."""
    for name, value in (("max_length", max_length), ("top_k", top_k)):
        if value is not None and value < 1:
            raise ValueError(f"{name} = {value}: must be at least 1; None sets no bound")
    choices = {
        "kind": (kind, ("frequent", "closed", "maximal")),
        "method": (method, ("fast", "article")),
        "engine": (engine or "numpy", ("numpy", "numba")),
    }
    for name, (chosen, allowed) in choices.items():
        if chosen not in allowed:
            raise ValueError(f"{name} = {chosen!r}: must be one of {', '.join(allowed)}")


def _constraints(
    baskets: Baskets, include: Collection[Hashable], exclude: Collection[Hashable]
) -> tuple[NDArray[np.bool_], list[int]]:
    """Which ids may stand in a set, and which must."""
    for name, value in (("include", include), ("exclude", exclude)):
        if isinstance(value, str):
            raise ValueError(f"{name} = {value!r}: must be a collection of items; write [{value!r}]")
    wanted, unwanted = set(include), set(exclude)
    if both := wanted & unwanted:
        raise ValueError(
            f"include and exclude share {sorted(map(str, both))}: an item can be asked for or left out, not both"
        )
    allowed = np.ones(len(baskets.items), bool)
    required: list[int] = []
    if wanted or unwanted:
        ids = {item: number for number, item in enumerate(baskets.items)}
        if unknown := wanted - ids.keys():
            raise ValueError(
                f"include: {sorted(map(str, unknown))} is in no basket; items are written as in the baskets"
            )
        allowed[[ids[item] for item in unwanted if item in ids]] = False
        required = sorted(ids[item] for item in wanted)
    return allowed, required


def _kernels(engine: Engine | None, n_entries: int) -> Kernels:
    """The innermost loops of an engine."""
    if engine == "numpy" or (engine is None and n_entries < MANY):
        return Kernels()
    from mining import compiled

    return compiled.kernels() if engine == "numba" or compiled.is_installed() else Kernels()


def _fast(
    baskets: Baskets,
    minimum: int,
    allowed: NDArray[np.bool_],
    required: list[int],
    lattice: Lattice,
    kernels: Kernels,
) -> tuple[Ints, bool]:
    """Fills the lattice; the item id behind each code, and whether the search came to its end."""
    rows, lengths = baskets.indices, np.diff(baskets.indptr)
    if required:
        hits = np.bincount(np.repeat(np.arange(len(baskets)), lengths)[np.isin(rows, required)], minlength=len(baskets))
        holds = hits == len(required)
        rows, lengths = rows[np.repeat(holds, lengths)], lengths[holds]
    counts = np.bincount(rows, minlength=len(baskets.items))
    usable = allowed.copy()
    usable[required] = False
    frequent = np.flatnonzero((counts >= minimum) & usable)
    frequent = frequent[np.argsort(counts[frequent], kind="stable")]  # the rarest first: short conditional databases
    ids = np.r_[frequent, required].astype(_narrow(len(baskets.items)))
    codes, level, node = np.arange(len(frequent)), 0, 0
    if required:
        if len(lengths) < minimum:
            return ids, True
        for level, code in enumerate(range(len(frequent), len(ids)), start=1):
            node = lattice.add(level, np.array([node]), np.array([code]), np.array([len(lengths)]))
        lattice.hide(level)
    try:
        if lattice.allows(level + 1):
            lattice.add(level + 1, np.full(len(frequent), node), codes, counts[frequent])
            lattice.check()
        if lattice.allows(level + 2) and len(frequent) > 1:
            block = _root(rows, lengths, frequent, level + 1, node, len(baskets.items))
            search(block, lattice, minimum, kernels)
    except OverBudget:
        return ids, False
    return ids, True


def _root(rows: Ints, lengths: Ints, frequent: Ints, level: int, node: int, n_items: int) -> Block:
    """The one class of all frequent items; their codes are their places in `frequent`."""
    code = np.full(n_items, -1, np.int32)
    code[frequent] = np.arange(len(frequent), dtype=np.int32)
    codes = code.take(rows)
    kept = codes >= 0
    width = len(frequent)
    if not kept.all():
        ends = np.cumsum(lengths)
        through = np.concatenate(([0], np.cumsum(kept)))
        lengths = through.take(ends) - through.take(ends - lengths)
        codes = codes.take(np.flatnonzero(kept))
    if not (frequent[1:] > frequent[:-1]).all():  # else the entries of a basket rise as they did
        codes = codes.astype(np.int32)
        sort_rows(codes, lengths, width)
    starts, long = np.cumsum(lengths) - lengths, np.flatnonzero(lengths > 1)
    numbers = np.arange(width)
    return Block(
        level, numbers, numbers, np.array([0, width]), np.array([node]), codes, starts.take(long), lengths.take(long)
    )


def _narrow(n_items: int) -> type[np.unsignedinteger[Any]]:
    """The narrowest type that holds the ids."""
    return np.uint8 if n_items <= 1 << 8 else np.uint16 if n_items <= 1 << 16 else np.uint32


def _top(
    baskets: Baskets,
    minimum: int,
    top_k: int,
    allowed: NDArray[np.bool_],
    required: list[int],
    lattice: Lattice,
    run: Callable[..., tuple[Ints, bool]],
) -> tuple[int, Lattice]:
    """The highest threshold, to a factor, at which there are `top_k` sets or more, and an empty lattice."""
    counts = np.bincount(baskets.indices, minlength=1)
    trial = max(int(counts.max()), minimum)
    while True:
        fresh = Lattice(lattice.budget, lattice.max_length)
        _, complete = run(baskets, trial, allowed, required, fresh)
        if fresh.n_itemsets >= top_k or trial == minimum or not complete:
            return trial, Lattice(lattice.budget, lattice.max_length, lattice.progress)
        trial = max(minimum, min(trial - 1, int(trial * 0.8)))


def _article(
    baskets: Baskets, minimum: int, allowed: NDArray[np.bool_], required: list[int], lattice: Lattice
) -> tuple[Ints, bool]:
    """The article's algorithm: sets of a level that agree in all but the last item are joined, and counted, two by two.

    Departs from it: the table holds frequent items alone, a repeated item counts once, and sums are NumPy's.
    """
    if required:
        raise ValueError("include is not part of method='article'; use method='fast'")
    counts = np.bincount(baskets.indices, minlength=len(baskets.items))
    frequent = np.flatnonzero((counts >= minimum) & allowed)
    table = np.zeros((len(baskets), len(frequent)), bool)  # D of the article
    column = np.full(len(baskets.items), -1)
    column[frequent] = np.arange(len(frequent))
    entries = column[baskets.indices]
    rows = np.repeat(np.arange(len(baskets)), np.diff(baskets.indptr))
    table[rows[entries >= 0], entries[entries >= 0]] = True
    sets = [(code,) for code in range(len(frequent))]
    lattice.add(1, np.zeros(len(frequent), np.int64), np.arange(len(frequent)), counts[frequent])
    level = 1
    ids = frequent.astype(_narrow(len(baskets.items)))
    try:
        while sets and lattice.allows(level + 1):
            found = []
            for (a, left), (_, right) in itertools.combinations(enumerate(sets), 2):
                lattice.check()
                if left[:-1] == right[:-1]:
                    count = int(table[:, [*left, right[-1]]].all(axis=1).sum())
                    if count >= minimum:
                        found.append((a, (*left, right[-1]), count))
            level += 1
            if found:
                parents, sets, totals = (list(column) for column in zip(*found, strict=True))
                lattice.add(level, np.array(parents), np.array([s[-1] for s in sets]), np.array(totals))
            else:
                sets = []
    except OverBudget:
        return ids, False
    return ids, True
