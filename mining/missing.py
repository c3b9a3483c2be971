"""Supports and measures where cells of a one-hot table are missing, by mlxtend's definition.

The support of a set is its share of the rows in which none of its cells is missing: each set has rows of its own.
`present` and `missing` are (n_rows, n_items) masks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mining.apriori import Itemsets
from mining.lattice import Ints
from mining.rules import MEASURES, Rules
from mining.significance import Floats

Mask = NDArray[np.bool_]
RULES = 1 << 12  # measured in one go


def rows_of_sets(found: Itemsets, present: Mask, missing: Mask) -> tuple[Mask, Mask]:
    """(n_itemsets, n_rows) which rows hold the whole set, and in which some cell of it is missing."""
    whole = np.ones((len(found), len(present)), bool)
    lacking = np.zeros((len(found), len(present)), bool)
    first = 0
    for length, (table, _) in found.by_length().items():
        last = first + len(table)
        for column in table.T[:length]:
            whole[first:last] &= present.T[column]
            lacking[first:last] |= missing.T[column]
        first = last
    return whole, lacking


def supports(whole: Mask, lacking: Mask) -> Floats:
    """(n_itemsets,) supports; 0 where no row is complete."""
    known = whole.shape[1] - lacking.sum(axis=1)
    shares: Floats = np.divide(whole.sum(axis=1), known, out=np.zeros(len(whole)), where=known > 0)
    return shares


def measures_with_missing(made: Rules, supports: Floats, whole: Mask, lacking: Mask) -> dict[str, Floats]:
    """All of `MEASURES`, (n_rules,) each.

    Args:
        made: the rules.
        supports: (n_itemsets,).
        whole: of `rows_of_sets`, as lacking.
        lacking: see whole.
    """
    n = whole.shape[1]
    a, c, both = (supports.take(numbers) for numbers in (made.antecedents, made.consequents, made.unions))
    n_lacking = lacking.sum(axis=1)
    known_a, known_c, known_both = (n - n_lacking.take(x) for x in (made.antecedents, made.consequents, made.unions))
    with np.errstate(divide="ignore", invalid="ignore"):
        forth = both * known_both / (a * known_a - _overlap(whole, made.antecedents, lacking, made.consequents))
        back = both * known_both / (c * known_c - _overlap(whole, made.consequents, lacking, made.antecedents))
        leverage = both - a * c
        scale = np.maximum(both * (1 - a), a * (c - both))
        columns = (
            a,
            c,
            both,
            forth,
            forth / c,
            known_both / n,
            leverage,
            np.where(forth < 1, (1 - c) / (1 - forth), np.inf),
            np.where(scale == 0, 0.0, leverage / scale),
            both / (a + c - both),
            np.where(c == 1, 0.0, (forth - c) / (1 - c)),
            (forth + back) / 2,
        )
    return dict(zip(MEASURES, columns, strict=True))


def _overlap(whole: Mask, sets: Ints, lacking: Mask, others: Ints) -> Ints:
    """(n_rules,) rows that hold one side whole while a cell of the other is missing."""
    counts = np.empty(len(sets), np.int64)
    for at in range(0, len(sets), RULES):
        counts[at : at + RULES] = (whole[sets[at : at + RULES]] & lacking[others[at : at + RULES]]).sum(axis=1)
    return counts
