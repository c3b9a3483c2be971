"""The best cut and expected counts against all cuts, one by one."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining import paths
from mining.paths import Floats, Ints, Paths, Rows


def drawn(seed: int) -> tuple[list[Rows], Ints, list[Floats], float]:
    """Segments with arcs of up to three units, some missing, and a score for each."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *rng.integers(1, 8, rng.integers(1, 5))])
    n = int(starts[-1])
    rows = [np.where(rng.random(n) < share, rng.integers(0, 9, n), -1).astype(np.int32) for share in (0.9, 0.7, 0.6)]
    return rows, starts, [rng.normal(size=9) for _ in rows], float(rng.normal())


def all_cuts(
    rows: list[Rows], scores: list[Floats], unknown: float, begin: int, end: int
) -> Iterator[tuple[float, list[int], list[tuple[int, int]]]]:
    """Score and borders of each way to cut the units from begin to end."""
    for inner in itertools.product((False, True), repeat=end - begin - 1):
        edges = [begin, *(begin + 1 + at for at, is_cut in enumerate(inner) if is_cut), end]
        total, arcs = 0.0, []
        for a, b in itertools.pairwise(edges):
            row = rows[b - a - 1][a] if b - a <= len(rows) else -1
            total += scores[b - a - 1][row] if row >= 0 else (unknown if b - a == 1 else -np.inf)
            arcs.append((b - a, row))
        if np.isfinite(total):
            yield total, edges[:-1], arcs


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_best_is_the_best_of_all_cuts(seed: int) -> None:
    rows, starts, scores, unknown = drawn(seed)
    is_start, totals = Paths(rows, starts).best(scores, unknown)
    for (begin, end), total in zip(itertools.pairwise(starts.tolist()), totals, strict=True):
        best = max(all_cuts(rows, scores, unknown, begin, end))
        assert np.isclose(total, best[0])
        assert np.flatnonzero(is_start[begin:end]).tolist() == [at - begin for at in best[1]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_expected_counts_are_those_of_all_cuts_by_their_weight(seed: int) -> None:
    rows, starts, scores, unknown = drawn(seed)
    found = Paths(rows, starts).expected(scores, unknown)
    counts = [np.zeros(9) for _ in rows]
    borders = np.zeros(starts[-1])
    log_likelihood = 0.0
    for begin, end in itertools.pairwise(starts.tolist()):
        cuts = list(all_cuts(rows, scores, unknown, begin, end))
        total = sum(np.exp(cut[0]) for cut in cuts)
        log_likelihood += np.log(total)
        for score, edges, arcs in cuts:
            borders[edges] += np.exp(score) / total
            for k, row in arcs:
                counts[k - 1][row] += np.exp(score) / total * (row >= 0)
    assert np.isclose(found.log_likelihood, log_likelihood)
    np.testing.assert_allclose(found.borders, borders, atol=1e-9)
    np.testing.assert_allclose(found.counts, counts, atol=1e-7)


def test_words_of_a_cut_come_with_their_rows() -> None:
    rows = [np.array([0, 1, 2, 3], np.int32), np.array([4, -1, 5, -1], np.int32)]
    begins, lengths, found = Paths(rows, np.array([0, 2, 4])).words(np.array([True, False, True, True]))
    assert (begins.tolist(), lengths.tolist(), found.tolist()) == ([0, 2, 3], [2, 1, 1], [4, 2, 3])


def test_no_word_leaves_its_segment() -> None:
    rows = [np.zeros(4, np.int32), np.zeros(4, np.int32)]
    is_start, _ = Paths(rows, np.array([0, 1, 4])).best([np.zeros(1), np.full(1, 5.0)], 0.0)
    assert is_start.sum() == 3
    assert is_start[:2].all()


def test_expected_counts_have_no_trouble_with_tiny_weights_and_long_segments() -> None:
    n = 5000
    found = Paths([np.zeros(n, np.int32), np.zeros(n, np.int32)], np.array([0, n])).expected(
        [np.full(1, -300.0), np.full(1, -600.0)], 0.0
    )
    assert np.isclose(found.counts[0][0] + 2 * found.counts[1][0], n)


def test_counts_add_up_to_the_same_bits_however_segments_are_parted() -> None:
    rng = np.random.default_rng(0)
    starts = np.cumsum([0, *rng.integers(1, 9, 300)])
    rows = [rng.integers(0, 50, starts[-1]).astype(np.int32) for _ in range(3)]
    scores = [rng.normal(size=50) for _ in rows]
    whole = Paths(rows, starts).expected(scores, 0.0).counts
    cut = int(starts[111])
    first = Paths([row[:cut] for row in rows], starts[:112]).expected(scores, 0.0).counts
    second = Paths([row[cut:] for row in rows], starts[111:] - cut).expected(scores, 0.0).counts
    np.testing.assert_array_equal(np.add(first, second), whole)


def test_a_segment_without_end_is_cut_where_it_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "LONGEST", 4)
    rows = [np.zeros(10, np.int32), np.zeros(10, np.int32), np.zeros(10, np.int32)]
    is_start, totals = Paths(rows, np.array([0, 10])).best([np.zeros(1), np.zeros(1), np.ones(1)], 0.0)
    assert is_start[[0, 4, 8]].all()
    assert totals.tolist() == [1.0, 1.0, 0.0]


def test_no_segments_have_no_cuts() -> None:
    empty = Paths([np.empty(0, np.int32)], np.array([0]))
    assert len(empty.best([np.zeros(1)], 0.0)[0]) == 0
    assert empty.expected([np.zeros(1)], 0.0).counts[0].tolist() == [0]
