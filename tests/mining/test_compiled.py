"""The compiled loops against NumPy's; without numba, the same loops as plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining import compiled
from mining.apriori import mine_itemsets
from mining.bitmaps import joins, marks
from mining.conditional import Block, Found, Part, _prefix_by_prefix, followers

needs_numba = pytest.mark.skipif(
    not compiled.is_installed(), reason="numba is not installed: pip install 'taolu[numba]'"
)


def one_class(rows: list[list[int]], n_items: int) -> tuple[Block, Part]:
    """The root of some baskets of two items or more, and all of it as one part."""
    lengths = np.array([len(row) for row in rows])
    numbers = np.arange(n_items)
    entries = np.concatenate([np.array(row) for row in rows])
    starts = np.cumsum(lengths) - lengths
    block = Block(1, numbers, numbers, np.array([0, n_items]), np.array([0]), entries, starts, lengths)
    return block, Part(starts, lengths - 1, lengths)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 9), min_size=2, max_size=6).map(sorted), min_size=1, max_size=20), st.integers(1, 4)
)
def test_all_ways_to_find_followers_find_the_same(rows: list[list[int]], minimum: int) -> None:
    block, part = one_class(rows, 10)
    ends, lasts = part.starts + part.lengths, part.starts + part.prefixes
    low, top = min(row[0] for row in rows), max(row[-2] for row in rows)
    cells = block.cells[low : top + 2]
    n_triples = int((part.lengths * (part.lengths - 1) // 2).sum())
    common = (block.entries, part.starts, lasts, ends, low)
    wanted = as_dict(followers(block, part, minimum))
    assert as_dict(_prefix_by_prefix(block, part, minimum)) == wanted
    assert as_dict(Found(*compiled._by_cell(*common, cells - cells[0], n_triples, minimum))) == wanted
    assert as_dict(Found(*compiled._by_prefix(*common, top, n_triples, minimum))) == wanted


def as_dict(found: Found) -> tuple[dict[tuple[int, int], int], list[list[int]]]:
    """Counts of the pairs, and the followers of each basket that is left, as a sorted list."""
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    ends = found.starts + found.lengths
    groups = [found.entries[a:z].tolist() for a, z in zip(found.starts.tolist(), ends.tolist(), strict=True)]
    owners = [found.first[group[0]] for group in groups]
    assert owners == sorted(owners)
    return dict(zip(pairs, found.counts.tolist(), strict=True)), sorted(groups)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # of Python's scalars; machine words wrap
def test_marks_and_joins_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    has = rng.random((12, 130)) < 0.5
    member = np.nonzero(has.T)[1]
    ranks, lengths = np.arange(130), has.sum(axis=0)
    bits = np.zeros((12, 3), np.uint64)
    compiled._mark(member, ranks, lengths, bits)
    assert (bits == marks(member, ranks, lengths, (12, 3))).all()
    ends = np.array([5] * 5 + [12] * 7)
    for ours, numpys in zip(compiled._join(bits, ends, 2, 34), joins(bits, ends, 2, 34), strict=True):
        assert len(numpys) > 3
        assert (ours == numpys).all()


@needs_numba
@pytest.mark.parametrize(("n_items", "density", "minimum"), [(40, 0.1, 4), (18, 0.7, 40), (300, 0.03, 3)])
def test_compiled_and_plain_mining_give_the_same_sets(n_items: int, density: float, minimum: int) -> None:
    rng = np.random.default_rng(1)
    rows = [np.flatnonzero(row).tolist() for row in rng.random((400, n_items)) < density]
    assert dict(mine_itemsets(rows, minimum, engine="numba")) == dict(mine_itemsets(rows, minimum, engine="numpy"))


@pytest.mark.skipif(compiled.is_installed(), reason="numba is installed")
def test_without_numba_the_engine_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="numba is not installed; pip install"):
        mine_itemsets([[1]], 1, engine="numba")
