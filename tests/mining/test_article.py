"""The article's word list against counts by hand."""

import math
from collections import Counter

from mining.article import cut_at_once, remove_redundant
from mining.corpus import units
from mining.ngrams import count


def test_pairs_that_are_rare_or_go_together_by_chance_are_cut() -> None:
    text = "甲乙丙丁甲乙，丙甲乙2019年，2018年丁"  # 14 units
    found = units(text)
    pairs = count(text, 2)
    whole = Counter({"甲乙": 3, "丙": 2, "丁": 2, "0年": 2})
    assert cut_at_once([found], pairs, 0.1, 1.0) == whole
    assert cut_at_once([found], pairs, 2 / 14, 1.0) == whole - Counter({"0年": 2}) + Counter({"0": 2, "年": 2})
    assert cut_at_once([found], pairs, 0.1, math.log(14 / 3) + 1e-9)["甲乙"] == 0
    assert cut_at_once([units("")], pairs, 0.1, 1.0) == Counter()


def test_a_word_no_better_than_its_parts_goes_and_leaves_them_its_count() -> None:
    counts = {"的": 50, "人": 30, "的人": 10, "中国": 5, "中": 2, "国": 2, "中国的": 1}
    kept, removed = remove_redundant(counts)
    assert [(each.word, each.count, each.parts) for each in removed] == [
        ("中国的", 1, ("中国", "的")),
        ("的人", 10, ("的", "人")),
    ]
    assert kept == {"的": 61, "人": 40, "中国": 6, "中": 2, "国": 2}
    total = 100
    assert math.isclose(removed[0].gain, math.log(1 / total) - math.log(5 / total) - math.log(50 / total))
    assert math.isclose(removed[1].gain, math.log(10 / 101) - math.log(51 / 101) - math.log(30 / 101))


def test_a_word_goes_or_stays_by_the_gain_asked_for() -> None:
    counts = {"中": 50, "国": 50, "中国": 20}
    gain = math.log(20 / 120) - 2 * math.log(50 / 120)
    assert "中国" in remove_redundant(counts, min_gain=gain - 1e-9)[0]
    assert "中国" not in remove_redundant(counts, min_gain=gain + 1e-9)[0]


def test_words_that_are_too_long_go_whatever_they_are_worth() -> None:
    kept, removed = remove_redundant({"甲乙丙": 9, "甲": 1, "乙": 1, "丙": 1}, max_length=2)
    assert kept == {"甲": 10, "乙": 10, "丙": 10}
    assert removed[0].gain > 1


def test_letters_that_are_no_words_become_words_when_they_are_left_over() -> None:
    assert remove_redundant({"的人": 1, "的": 9}, min_gain=9.0)[0] == {"的": 10, "人": 1}
