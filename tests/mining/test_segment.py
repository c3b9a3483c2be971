"""Cuts of texts, and their agreement with a gold standard against counting by hand."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.corpus import LATIN, NUMBER, Policy, units
from mining.scores import Scores
from mining.segment import Segmenter, score

WORDS = {
    "北京": 4.0,
    "大学": 4.0,
    "北京大学": 1.0,
    "学生": 3.0,
    "生": 2.0,
    "2019年": 1.0,
    "A股": 1.0,
    "\U00020000山": 1.0,
}
SEGMENTER = Segmenter(WORDS)
texts = st.text(st.sampled_from("北京大学生年股山\U00020000 ，。。\n\r\t3aB\x00\ud800\u0301\u200d"), max_size=40)


def test_words_with_more_weight_are_found_and_punctuation_stands_alone() -> None:
    assert SEGMENTER.cut("北京大学生,2018年B股!!") == ["北京大学", "生", ",", "2018年", "B股", "!!"]


def test_a_run_of_digits_in_a_word_stands_for_any() -> None:
    found = units("2019年", Policy())
    assert found.codes.tolist() == [NUMBER, ord("年")]
    assert SEGMENTER.cut("一九年３．５年7年") == ["一", "九", "年", "３．５年", "7年"]


@settings(max_examples=60, deadline=None)
@given(texts)
def test_nothing_but_white_space_is_lost(text: str) -> None:
    assert "".join(SEGMENTER.cut(text)) == "".join(text.split())


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 7))
def test_a_stream_is_the_cut_with_single_spaces_and_all_lines_whatever_its_chunks(text: str, size: int) -> None:
    chunks = (text[at : at + size] for at in range(0, len(text), size))
    assert "".join(SEGMENTER.stream(chunks)) == "\n".join(" ".join(SEGMENTER.cut(line)) for line in text.split("\n"))


@settings(max_examples=50, deadline=None)
@given(texts)
def test_every_gap_inside_a_segment_has_a_probability(text: str) -> None:
    gaps = SEGMENTER.gaps(text)
    found = units(text)
    assert len(gaps.offsets) == len(found) - (len(found.starts) - 1)
    assert ((gaps.borders >= 0) & (gaps.borders <= 1)).all()


def test_gaps_are_shares_of_all_cuts() -> None:
    gaps = Segmenter({"北京": 2.0, "北": 1.0, "京": 1.0}).gaps("北京")
    assert gaps.offsets.tolist() == [1]
    assert gaps.borders[0] == pytest.approx((1 / 16) / (1 / 16 + 1 / 2))


def test_one_character_without_end_is_cut() -> None:
    assert len(SEGMENTER.starts(units("北" * 50_000))) == 50_000


def test_scores_are_the_same_once_saved(tmp_path: Path) -> None:
    SEGMENTER.scores.save(tmp_path / "scores.npz")
    for path in (tmp_path, tmp_path / "scores.npz"):
        again = Segmenter.load(path)
        assert again.cut("北京大学学生北京2019年") == SEGMENTER.cut("北京大学学生北京2019年")
    for k in range(1, 5):
        rows = np.arange(len(again.scores.keys[k - 1]))
        assert again.scores.words(k, rows) == SEGMENTER.scores.words(k, rows)
    assert "0年" in again.scores.words(2, np.arange(len(again.scores.keys[1])))


def test_a_file_without_scores_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "scores.npz", other=np.zeros(1))
    for path in (tmp_path / "scores.npz", tmp_path / "none.npz"):
        with pytest.raises(ValueError, match="holds no scores of a lexicon"):
            Segmenter.load(path)


def test_words_that_no_text_can_hold_are_left_out() -> None:
    scores = Scores.of_words({"北,京": 1.0, "北京": 1.0, "大": 0.0, "": 1.0, "学": -1.0})
    rows = np.flatnonzero(np.isfinite(scores.values[1]))
    assert scores.words(2, rows) == ["北京"]
    with pytest.raises(ValueError, match="no words among 1 entries"):
        Scores.of_words({",": 3.0})


def test_locate_finds_every_beginning_of_a_word_and_nothing_else() -> None:
    found = units("北京大学，北京a3年")
    rows = SEGMENTER.scores.locate(found)
    spelled = [
        {int(at): SEGMENTER.scores.words(k, row[[at]].astype(np.int64))[0] for at in np.flatnonzero(row >= 0)}
        for k, row in enumerate(rows, 1)
    ]
    assert spelled[1] == {0: "北京", 2: "大学", 4: "北京", 7: "0年"}
    assert spelled[3] == {0: "北京大学"}
    assert found.codes[6] == LATIN


def naive(ours: list[str], gold: list[str]) -> list[float]:
    """Precision, recall and F of tokens and of inner borders."""

    def spans(tokens: list[str]) -> set[tuple[int, int]]:
        ends = list(itertools.accumulate(map(len, tokens)))
        return set(zip([0, *ends[:-1]], ends, strict=True))

    a, b = spans(ours), spans(gold)
    inner_a, inner_b = ({begin for begin, _ in found} - {0} for found in (a, b))
    rates: list[float] = []
    for x, y in ((a, b), (inner_a, inner_b)):
        both = len(x & y)
        precision, recall = both / len(x) if x else 0.0, both / len(y) if y else 0.0
        rates += [precision, recall, 2 * precision * recall / (precision + recall) if both else 0.0]
    return rates


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_agreement_is_what_spans_compared_one_by_one_give(cuts: list[tuple[bool, bool]]) -> None:
    text = "ab" * len(cuts)
    ours, gold = (
        "".join(f"{letter} " if is_cut else letter for letter, is_cut in zip(text, column, strict=False)).split()
        for column in zip(*cuts, strict=True)
    )
    assert score(" ".join(ours), " ".join(gold)) == pytest.approx(naive(ours, gold))


def test_agreement_adds_up_lines_and_takes_any_white_space() -> None:
    found = score("a b\u3000c\nde\n", ["a  bc", "d e", ""])
    assert (found.token_precision, found.token_recall) == (1 / 4, 1 / 4)
    assert (found.border_precision, found.border_recall, found.border_f) == (1 / 2, 1 / 2, 1 / 2)


def test_texts_that_differ_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"line 2, character 2 .*'xe' was segmented, and the gold standard has 'e'"):
        score("a b\nd xe", "ab\nde")
