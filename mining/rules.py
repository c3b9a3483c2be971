"""Association rules of itemsets: from the baskets that hold the antecedent, how many hold the consequent too."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Hashable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mining.apriori import Itemsets
from mining.lattice import Ints
from mining.significance import Floats, benjamini_hochberg, fisher, holm
from mining.subsets import Index, Keys

if TYPE_CHECKING:
    from pandas import DataFrame

CHUNK = 1 << 13  # rules measured in one go: all columns stay in a second-level cache
MEASURES = (
    "antecedent support",
    "consequent support",
    "support",
    "confidence",
    "lift",
    "representativity",
    "leverage",
    "conviction",
    "zhangs_metric",
    "jaccard",
    "certainty",
    "kulczynski",
)


@dataclass(frozen=True, eq=False)
class Rules:
    """Rules between itemsets, each named by its number among the itemsets.

    Args:
        itemsets: where the numbers point to.
        antecedents: (n_rules,).
        consequents: (n_rules,).
        unions: (n_rules,) both together.
        n_candidates: rules there were before any threshold: what a test for significance has to correct for.
    """

    itemsets: Itemsets
    antecedents: Ints
    consequents: Ints
    unions: Ints
    n_candidates: int

    def __len__(self) -> int:
        return len(self.unions)

    def __iter__(self) -> Iterator[tuple[frozenset[Hashable], frozenset[Hashable], float, float]]:
        """Antecedent, consequent, confidence and support of each rule."""
        sides = (self.sets(self.antecedents), self.sets(self.consequents))
        figures = (self.measure("confidence").tolist(), self.measure("support").tolist())
        return zip(*sides, *figures, strict=True)

    def sets(self, numbers: Ints) -> list[frozenset[Hashable]]:
        """The items of some itemsets."""
        found = self.itemsets
        starts = self._starts.take(numbers)
        ends = (starts + found.lengths.take(numbers)).tolist()
        names = found.names
        return [
            frozenset(names[item] for item in found.items[start:end].tolist())
            for start, end in zip(starts.tolist(), ends, strict=True)
        ]

    @cached_property
    def _starts(self) -> Ints:
        return np.cumsum(self.itemsets.lengths, dtype=np.int64) - self.itemsets.lengths

    def counts(self) -> tuple[Ints, Ints, Ints]:
        """(n_rules,) baskets with the antecedent, with the consequent, with both."""
        counts = self.itemsets.counts.astype(np.int64)
        return counts.take(self.antecedents), counts.take(self.consequents), counts.take(self.unions)

    def measure(self, name: str) -> NDArray[np.float64]:
        """One of `MEASURES`, defined as mlxtend defines it, from exact counts; or `p_value`, `holm`, `q_value`.

        `p_value` is Fisher's exact test, one-sided; `holm` and `q_value` (Benjamini & Hochberg) correct it for
        `n_candidates` tests, not only for the rules that were kept.
        """
        if name == "p_value":
            return self.p_values
        if name in ("holm", "q_value"):
            correct = holm if name == "holm" else benjamini_hochberg
            return correct(self.p_values, max(self.n_candidates, len(self)))
        if name not in MEASURES:
            raise ValueError(f"measure {name!r}: must be one of {', '.join((*MEASURES, 'p_value', 'holm', 'q_value'))}")
        return self.measures()[name]

    def measures(self) -> dict[str, NDArray[np.float64]]:
        """All of `MEASURES`, (n_rules,) each."""
        a, c, both = self.counts()
        return measures_of(a.astype(float), c.astype(float), both.astype(float), self.itemsets.n_baskets)

    @cached_property
    def p_values(self) -> NDArray[np.float64]:
        """(n_rules,) how likely so many baskets with both are if antecedent and consequent have nothing to do."""
        a, c, both = self.counts()
        return fisher(both, a, c, self.itemsets.n_baskets)

    def where(self, kept: NDArray[np.bool_] | Ints) -> Rules:
        """Some of the rules, by a mask or in an order of (n_rules,)."""
        picked = {name: getattr(self, name)[kept] for name in ("antecedents", "consequents", "unions")}
        return dataclasses.replace(self, **picked)

    def sorted(self, by: str = "confidence") -> Rules:
        """The rules with the largest measure first (p_value, holm and q_value: the smallest); support breaks ties."""
        sign = 1 if by in ("p_value", "holm", "q_value") else -1
        return self.where(np.lexsort((-self.measure("support"), sign * self.measure(by))))

    def holding(self, *, antecedent: Collection[Hashable] = (), consequent: Collection[Hashable] = ()) -> Rules:
        """The rules whose sides hold these items."""
        kept = np.ones(len(self), bool)
        for numbers, wanted in ((self.antecedents, antecedent), (self.consequents, consequent)):
            for item in wanted:
                kept &= self._holders(item).take(numbers)
        return self.where(kept)

    def _holders(self, item: Hashable) -> NDArray[np.bool_]:
        """(n_itemsets,) which sets hold the item; None do if it is unknown."""
        ids = [number for number, name in enumerate(self.itemsets.names) if name == item]
        lengths = self.itemsets.lengths
        owner = np.repeat(np.arange(len(lengths)), lengths)
        return np.bincount(owner[np.isin(self.itemsets.items, ids)], minlength=len(lengths)) > 0

    def recommend(self, basket: Collection[Hashable]) -> Rules:
        """The rules whose antecedent lies in a basket and whose consequent brings something new, by confidence."""
        inside = np.isin(self.itemsets.items, [i for i, name in enumerate(self.itemsets.names) if name in set(basket)])
        lengths = self.itemsets.lengths
        owner = np.repeat(np.arange(len(lengths)), lengths)
        within = np.bincount(owner[inside], minlength=len(lengths)) == lengths
        return self.where(within.take(self.antecedents) & ~within.take(self.consequents)).sorted()

    def without_redundant(self) -> Rules:
        """The rules more confident than every rule of the same consequent and fewer items before it, none included.

        Source: Bayardo, Agrawal & Gunopulos 2000 (improvement above 0).
        """
        return self.where(~_redundant(self))

    def to_frame(self) -> DataFrame:
        """A table with mlxtend's columns."""
        from mining.frames import rules_frame

        return rules_frame(self)


def rules(
    itemsets: Itemsets, min_confidence: float = 0.5, *, max_head: int | None = None, strict: bool = False
) -> Rules:
    """All rules between disjoint parts of an itemset that are confident enough.

    Args:
        itemsets: what `mine_itemsets` gives; rules one of whose sides is not among them are left out.
        min_confidence: share of the antecedent's baskets, read as the decimal it is written as.
        max_head: the most items of a consequent; 1 is the form of kexue.fm/archives/5525.
        strict: whether confidence must lie above `min_confidence`, as in the article, instead of at least at it.

    >>> from mining.apriori import mine_itemsets
    >>> found = rules(mine_itemsets([["tea", "milk"], ["tea", "milk"], ["tea"]], 0.5), 0.9)
    >>> [(set(a), set(c), confidence) for a, c, confidence, _ in found]
    [({'milk'}, {'tea'}, 1.0)]
    """
    if not 0 <= min_confidence <= 1:  # NaN fails too
        raise ValueError(
            f"min_confidence = {min_confidence}: must lie in [0, 1]; 0.5 keeps rules right every second time"
        )
    if max_head is not None and max_head < 1:
        raise ValueError(f"max_head = {max_head}: must be at least 1; None sets no bound")
    found = _generate(itemsets, min_confidence, max_head, strict)
    antecedents, consequents, unions = (np.concatenate([*column, np.empty(0, np.int64)]) for column in found)
    return Rules(itemsets, antecedents, consequents, unions, possible_rules(itemsets, max_head))


def article_rules(found: Rules) -> dict[tuple[Hashable, ...], tuple[float, float]]:
    """The form of kexue.fm/archives/5525: the last item follows from those before it; (confidence, support), sorted."""
    order = found.sorted()
    singles = order.itemsets.lengths.take(order.consequents) == 1
    return {
        (*sorted(antecedent, key=str), next(iter(consequent))): (confidence, support)
        for antecedent, consequent, confidence, support in order.where(singles)
    }


def possible_rules(itemsets: Itemsets, max_head: int | None) -> int:
    """Ways to cut the itemsets in two."""
    total = 0
    for length, n in enumerate(np.bincount(itemsets.lengths).tolist()):
        ways = 1
        for head in range(1, min(max_head or length, length - 1) + 1):
            ways = ways * (length - head + 1) // head
            total += n * ways
    return total


def _needed(counts: Ints, min_confidence: float, strict: bool) -> Ints:
    """(n_itemsets,) with a set as antecedent, the smallest count of the union that is confident enough."""
    share = Fraction(str(float(min_confidence)))
    distinct, place = np.unique(counts, return_inverse=True)
    exact = [int(share * n) + 1 if strict else -int(-share * n // 1) for n in distinct.tolist()]
    return np.array(exact, np.int64).take(place) if exact else np.empty(0, np.int64)


Heads = tuple[Ints, Keys, Ints]  # rows of the length's table, keys of the heads so far, numbers of the antecedents


def _generate(
    itemsets: Itemsets, min_confidence: float, max_head: int | None, strict: bool
) -> tuple[list[Ints], list[Ints], list[Ints]]:
    """Antecedents, consequents and unions.

    A consequent grows only while its rule is confident: moving an item from antecedent to consequent lowers confidence.
    """
    tables = itemsets.by_length()
    index = Index(tables)
    needed = _needed(itemsets.counts, min_confidence, strict)
    antecedents: list[Ints] = []
    consequents: list[Ints] = []
    unions: list[Ints] = []
    for length, (table, counts) in tables.items():
        if length < 2:
            continue
        codes = [index.code.take(column) for column in table.T]
        confident = np.zeros((length, len(table)), bool)
        last: list[Heads] = [(np.arange(len(table)), np.zeros(len(table), np.uint64), np.empty(0, np.int64))]
        for head in range(1, min(max_head or length, length - 1) + 1):
            grown: list[Heads] = []
            for place in range(length):
                rows, keys = _to_grow(last, confident, place, head)
                keys = keys + codes[place].take(rows)
                part = index.find(index.keys[length].take(rows) - keys, length - head)
                good = np.flatnonzero((part >= 0) & (counts.take(rows) >= needed.take(part)))
                rows, keys, part = rows.take(good), keys.take(good), part.take(good)
                if head == 1:
                    confident[place, rows] = True
                grown.append((rows, keys, part))
            last = grown
            for rows, keys, part in grown:
                other = index.find(keys, head)
                known = slice(None) if (other >= 0).all() else other >= 0
                antecedents.append(part[known])
                consequents.append(other[known])
                unions.append(rows[known] + index.firsts[length])
    return antecedents, consequents, unions


def _to_grow(last: list[Heads], confident: NDArray[np.bool_], place: int, head: int) -> tuple[Ints, Keys]:
    """Rows and keys of the heads that end before a place and may take the item that stands there."""
    if head == 1:
        return last[0][0], last[0][1]
    rows = np.concatenate([rows for rows, _, _ in last[:place]] or [np.empty(0, np.int64)])
    keys = np.concatenate([keys for _, keys, _ in last[:place]] or [np.empty(0, np.uint64)])
    good = np.flatnonzero(confident[place].take(rows))
    return rows.take(good), keys.take(good)


def measures_of(a: Floats, c: Floats, both: Floats, n: int) -> dict[str, Floats]:
    """All of `MEASURES`, from counts among n; where mlxtend divides by a difference of floats, it is exact here."""
    columns = np.empty((len(MEASURES), len(a)))
    for at in range(0, len(a), CHUNK):
        some = slice(at, at + CHUNK)
        _measure(a[some], c[some], both[some], n, columns[:, some])
    return dict(zip(MEASURES, columns, strict=True))


def _measure(a: Floats, c: Floats, both: Floats, n: int, columns: Floats) -> None:
    """Fills the columns of a few rules."""
    confidence = both / a
    surplus = both * n - a * c  # leverage times n squared
    scale = np.maximum(both * (n - a), a * (c - both))
    with np.errstate(divide="ignore", invalid="ignore"):
        columns[:] = (
            a / n,
            c / n,
            both / n,
            confidence,
            confidence / (c / n),
            np.ones(len(a)),  # nothing is missing from a basket
            both / n - (a / n) * (c / n),
            np.where(a > both, (n - c) / n / (1 - confidence), np.inf),
            np.where(scale > 0, surplus / scale, 0.0),
            both / (a + c - both),
            np.where(c < n, surplus / (a * (n - c)), 0.0),
            (confidence + both / c) / 2,
        )


def _redundant(found: Rules) -> NDArray[np.bool_]:
    """(n_rules,) whether a rule with the same consequent and part of the antecedent is at least as confident."""
    itemsets = found.itemsets
    index = Index(itemsets.by_length())
    counts = itemsets.counts.astype(np.int64)
    all_keys = np.concatenate([*index.keys.values(), np.empty(0, np.uint64)])
    lengths = itemsets.lengths
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    redundant = np.zeros(len(found), bool)
    sizes = lengths.take(found.antecedents)
    a, c, both = found.counts()
    redundant |= both * float(itemsets.n_baskets) <= a * c.astype(float)  # the empty antecedent
    for size in np.unique(sizes).tolist():
        which = np.flatnonzero(sizes == size)
        items = itemsets.items.take(starts.take(found.antecedents.take(which))[:, None] + np.arange(size))
        head, head_size = found.consequents.take(which), lengths.take(found.consequents.take(which))
        for mask in range(1, (1 << size) - 1):
            open_ = np.flatnonzero(~redundant.take(which))
            inside = [place for place in range(size) if mask >> place & 1]
            part_keys = index.code.take(items[open_][:, inside]).sum(axis=1, dtype=np.uint64)
            part = index.find(part_keys, len(inside))
            whole = np.full(len(open_), -1)
            for h in np.unique(head_size[open_]).tolist():
                same = np.flatnonzero(head_size[open_] == h)
                keys = part_keys.take(same) + all_keys.take(head[open_].take(same))
                whole[same] = index.find(keys, len(inside) + h)
            known = (part >= 0) & (whole >= 0)
            rule = which.take(open_)
            better = counts.take(whole) * a.take(rule).astype(float) >= both.take(rule) * counts.take(part).astype(
                float
            )
            redundant[rule[known & better]] = True
    return redundant
