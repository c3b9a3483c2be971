"""Criteria against closed forms and counts by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.corpus import Policy
from mining.entropy import (
    BIT,
    bits_per_character,
    description_length,
    entropy,
    fstar,
    held_out_bits,
    merge_gain,
    pmi,
    solidity,
    variation,
)
from mining.ngrams import count

TEXT = "abracadabra\nabab\ncadabra\nbra\n"
LETTERS = Policy(latin="each")


def test_entropy_of_equal_counts_is_the_logarithm_of_their_number() -> None:
    assert entropy([3] * 7) == pytest.approx(math.log(7))
    assert entropy([]) == entropy([0, 0]) == entropy([5]) == 0


def test_miller_madow_adds_half_a_nat_for_each_kind_but_one_over_the_sample() -> None:
    assert entropy([2, 3, 0, 5], miller_madow=True) - entropy([2, 3, 5]) == pytest.approx(2 / (2 * 10))


def test_miller_madow_is_nearer_to_the_truth_on_small_samples() -> None:
    rng = np.random.default_rng(0)
    samples = [np.bincount(rng.integers(0, 50, 200)) for _ in range(50)]
    plain, corrected = (np.mean([entropy(n, miller_madow=is_on) for n in samples]) for is_on in (False, True))
    assert abs(corrected - math.log(50)) < abs(plain - math.log(50)) / 4


def test_bits_per_character_are_bits_of_a_token_over_its_mean_length() -> None:
    assert bits_per_character([1, 1, 2], [1, 1, 3]) == pytest.approx(1.5 / 2)
    assert bits_per_character([], []) == 0


def test_description_length_spells_each_word_once() -> None:
    whole = description_length([4, 4], [1, 3], 7)
    assert whole == pytest.approx(8 * 1.0 + (2 + 4) * math.log2(8))
    assert description_length([4, 4, 0], [1, 3, 9], 7) == whole


def test_a_text_learnt_by_heart_is_short_but_for_the_learning() -> None:
    letters, lengths = [3, 3, 3, 3], [1, 1, 1, 1]
    assert bits_per_character([1], [12]) < bits_per_character(letters, lengths)
    assert description_length([1], [200], 4) > description_length([50] * 4, lengths, 4)


def test_held_out_probabilities_of_all_words_sum_to_less_than_one() -> None:
    n_letters, longest = 3, 4
    lengths = [k for k in range(1, longest + 1) for _ in range(n_letters**k)]
    counts = np.random.default_rng(0).integers(0, 3, len(lengths))
    one = np.eye(len(lengths))
    p = [
        2 ** -(held_out_bits(counts, row, lengths, n_letters) * length)
        for row, length in zip(one, lengths, strict=True)
    ]
    assert 0.8 < sum(p) <= 1


def test_an_unknown_word_costs_more_held_out_the_longer_it_is() -> None:
    known = held_out_bits([5, 5, 0], [1, 0, 0], [2, 2, 2], 26) * 2
    short, long = (held_out_bits([5, 5, 0], [0, 0, 1], [2, 2, k], 26) * k for k in (2, 6))
    assert known < short < long


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_merge_lowers_bits_per_character_by_exactly_its_gain_over_the_length(data: st.DataObject) -> None:
    n = np.array(data.draw(st.lists(st.integers(2, 500), min_size=3, max_size=6)), float)
    lengths = np.array(data.draw(st.lists(st.integers(1, 4), min_size=len(n), max_size=len(n))), float)
    n_ab = data.draw(st.integers(1, int(min(n[0], n[1]))))
    N = n.sum()
    mean_length = (n * lengths).sum() / N
    merged = np.append(n, n_ab) - np.array([n_ab, n_ab, *[0] * (len(n) - 1)])
    after = bits_per_character(merged, np.append(lengths, lengths[0] + lengths[1]))
    gain = merge_gain(n_ab / N, n[0] / N, n[1] / N)
    assert (after - bits_per_character(n, lengths)) * BIT == pytest.approx(-gain / mean_length, abs=1e-9)
    assert fstar(n_ab / N, n[0] / N, n[1] / N) <= gain + 1e-12


def test_pmi_is_zero_of_what_stands_together_by_chance() -> None:
    assert pmi(0.06, 0.2, 0.3) == pytest.approx(0)


def by_hand(text: str) -> tuple[int, dict[str, int]]:
    segments = text.split()
    n = sum(map(len, segments))
    grams = {
        k: [s[i : i + k] for s in segments for i in range(len(s) - k + 1)]
        for k in range(1, max(map(len, segments)) + 1)
    }
    return n, {gram: rows.count(gram) for rows in grams.values() for gram in set(rows)}


def test_solidity_is_the_least_pmi_over_all_splits() -> None:
    n, counts = by_hand(TEXT)
    ngrams = count(TEXT, 4, policy=LETTERS)
    for k in (2, 3, 4):
        for codes, least in zip(ngrams.codes(k).tolist(), solidity(ngrams)[k - 1], strict=True):
            gram = "".join(map(chr, codes))
            splits = [math.log(counts[gram] * n / counts[gram[:at]] / counts[gram[at:]]) for at in range(1, k)]
            assert least == pytest.approx(min(splits))


def neighbours(text: str, gram: str, side: str) -> list[int]:
    """Counts of what stands beside, each edge another."""
    found: dict[str, int] = {}
    edges = 0
    for segment in text.split():
        for at in range(len(segment) - len(gram) + 1):
            if segment[at : at + len(gram)] == gram:
                beside = at - 1 if side == "left" else at + len(gram)
                edges += not 0 <= beside < len(segment)
                if 0 <= beside < len(segment):
                    found[segment[beside]] = found.get(segment[beside], 0) + 1
    return [*found.values(), *[1] * edges]


def test_variation_is_the_z_score_of_the_change_of_branching_entropy() -> None:
    ngrams = count(TEXT, 3, policy=LETTERS)
    alone = entropy(ngrams.levels[0].counts)
    for k in (1, 2, 3):
        grams = ["".join(map(chr, codes)) for codes in ngrams.codes(k).tolist()]
        sides = []
        for side, cut in (("right", slice(0, -1)), ("left", slice(1, None))):
            now = [entropy(neighbours(TEXT, gram, side)) for gram in grams]
            before = [entropy(neighbours(TEXT, gram[cut], side)) if k > 1 else alone for gram in grams]
            change = np.subtract(now, before)
            known = change[[a > 0 or b > 0 for a, b in zip(now, before, strict=True)]]
            sides.append((change - known.mean()) / known.std())
        np.testing.assert_allclose(variation(ngrams)[k - 1], np.mean(sides, axis=0), atol=1e-9)


def test_what_never_varies_has_no_variation() -> None:
    found = variation(count("aaaa", 2, policy=LETTERS))
    assert all(np.isfinite(values).all() for values in found)


def test_all_pairs_of_a_text_have_a_gain_above_fstar() -> None:
    ngrams = count(TEXT, 2, policy=LETTERS)
    p = ngrams.levels[0].counts / ngrams.n_units
    pair = ngrams.levels[1]
    differs = pair.prefix != pair.suffix
    each = (pair.counts / ngrams.n_units, p[pair.prefix], p[pair.suffix])
    assert (fstar(*each) < merge_gain(*each))[differs].all()
    assert len(list(itertools.compress(pair.counts, differs))) > 5
