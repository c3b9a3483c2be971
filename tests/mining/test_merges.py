"""Merges against recounting everything after each."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.corpus import Policy, units
from mining.entropy import BIT, bits_per_character, fstar
from mining.merges import Criterion, Merger, greedy_merges

LETTERS = Policy(latin="each")
texts = st.lists(st.text("abcd", min_size=1, max_size=12), min_size=1, max_size=8).map("\n".join)


def pairs_of(lines: Iterable[Sequence[str]]) -> Counter[tuple[str, str]]:
    return Counter(pair for line in lines for pair in itertools.pairwise(line) if pair[0] != pair[1])


def merged(line: list[str], pair: tuple[str, str]) -> list[str]:
    found: list[str] = []
    for token in line:
        if found and (found[-1], token) == pair:
            found[-1] = "".join(pair)
        else:
            found.append(token)
    return found


@settings(max_examples=30, deadline=None)
@given(texts)
def test_merging_by_count_is_what_recounting_all_pairs_each_time_gives(text: str) -> None:
    lines = [list(line) for line in text.split()]
    merger = Merger(units(text, LETTERS))
    while merge := merger.step("count"):
        left, right = ("".join(map(chr, merger.spelled[token])) for token in (merge.left, merge.right))
        pair = (left, right)
        counts = pairs_of(lines)
        assert merge.n_ab == counts[pair] == max(counts.values())
        lines = [merged(line, pair) for line in lines]
        tokens = Counter(token for line in lines for token in line)
        spelled = ["".join(map(chr, codes)) for codes in merger.spelled]
        assert {word: n for word, n in zip(spelled, merger.counts, strict=True) if n} == dict(tokens)
        assert merger.bits == pytest.approx(bits_per_character(list(tokens.values()), list(map(len, tokens))))
    assert max(pairs_of(lines).values(), default=0) < 2


@settings(max_examples=30, deadline=None)
@given(texts)
def test_the_best_fstar_is_merged_first_and_lowers_bits(text: str) -> None:
    n = Counter(text.replace("\n", ""))
    N = sum(n.values())
    found = {
        pair: float(fstar(c / N, n[pair[0]] / N, n[pair[1]] / N)) for pair, c in pairs_of(text.split()).items() if c > 1
    }
    merge = next(greedy_merges(units(text, LETTERS)), None)
    best = max(found.values(), default=0)
    if merge is None:
        assert best <= 0
    else:
        n_ab, n_a, n_b = (x / merge.n_tokens for x in (merge.n_ab, merge.n_a, merge.n_b))
        assert float(fstar(n_ab, n_a, n_b)) == pytest.approx(best)
        assert merge.bits_after < merge.bits_before


def test_each_merge_moves_bits_by_its_gain_over_the_length_before_it() -> None:
    text = units("thecatsatonthematwiththecat\nthedogsatonthecat\n" * 3, LETTERS)
    merges = list(greedy_merges(text, criterion="gain"))
    assert len(merges) > 10
    for merge in merges:
        length = len(text) / merge.n_tokens
        assert (merge.bits_after - merge.bits_before) * BIT == pytest.approx(-merge.gain / length, abs=1e-9)


def test_what_costs_more_than_it_saves_is_not_merged() -> None:
    text = units("abcdefabghiajklbmnoapqrbstuvwxyz", LETTERS)
    assert list(greedy_merges(text))
    assert not list(greedy_merges(text, has_cost=True))
    longer = units("abcdefabghijklmnopqrstuvwxyz\n" * 30, LETTERS)
    assert list(greedy_merges(longer, has_cost=True))


def test_a_token_is_never_longer_than_asked_for_nor_rarer() -> None:
    text = units("abcdabcdabxd\n" * 5, LETTERS)
    merger = Merger(text, min_count=6, max_length=2)
    merges = list(iter(lambda: merger.step("count"), None))
    assert merger.lengths.max() == 2
    assert min(merge.n_ab for merge in merges) >= 6


def test_a_number_of_merges_and_their_tokens_are_as_asked() -> None:
    text = units("ababcabab", LETTERS)
    assert len(list(greedy_merges(text, criterion="count", n_merges=1))) == 1
    merger = Merger(text)
    merger.step("count")
    np.testing.assert_array_equal(np.flatnonzero(merger.is_start), [0, 2, 4, 5, 7])


def test_a_pair_of_one_token_with_itself_is_never_merged() -> None:
    assert list(greedy_merges(units("aaaaaaaa", LETTERS), criterion="count")) == []


def test_no_text_has_no_merges() -> None:
    assert list(greedy_merges(units("", LETTERS))) == []


def test_an_unknown_criterion_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="criterion = 'bpe': unknown; allowed: fstar, count, pmi, gain"):
        next(greedy_merges(units("abab", LETTERS), criterion=cast("Criterion", "bpe")))
