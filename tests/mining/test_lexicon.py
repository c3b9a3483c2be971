"""Lexicons: found words, their evidence against counts by hand, files, bad input, and quality on real text."""

import csv
import itertools
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from mining.blocks import batched
from mining.corpus import Policy, units
from mining.entropy import fstar
from mining.lexicon import Lexicon, Method, mine_lexicon, read_words
from mining.ngrams import count
from mining.segment import Segmenter, score
from mining.sources import pydoc_words

LETTERS = Policy(latin="each")
WORDS = ["北京", "天气", "朋友", "喜欢", "学习", "经济", "我", "在", "很", "好"]
TEXT = "\n".join(map("".join, itertools.product(WORDS, repeat=3)))
METHODS: tuple[Method, ...] = ("best", "article", "greedy")


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return mine_lexicon(TEXT, known={"北京", "好"})


@pytest.mark.parametrize("method", METHODS)
def test_the_words_a_text_is_made_of_are_found_by_every_method(method: Method) -> None:
    found = mine_lexicon(TEXT, method=method)
    assert sorted(found.words) == sorted(WORDS)
    assert Segmenter(found.scores).cut("我喜欢北京经济") == ["我", "喜欢", "北京", "经济"]


def test_evidence_is_what_counting_by_hand_gives(lexicon: Lexicon) -> None:
    at = lexicon.words.index("北京")
    n_units = len(TEXT.replace("\n", ""))
    p = TEXT.count("北京") / n_units
    assert lexicon.count[at] == TEXT.count("北京") == 300
    assert lexicon.probability[at] == 300 / 3000
    assert lexicon.pmi[at] == pytest.approx(-np.log(p))  # of both halves the same p
    assert lexicon.fstar[at] == pytest.approx(float(fstar(p, p, p)))
    edges, others = 100, 200 / 10
    right = -100 * (1 / 300) * np.log(1 / 300) - 10 * (others / 300) * np.log(others / 300)
    assert edges + 10 * others == 300
    assert lexicon.right_entropy[at] == lexicon.left_entropy[at] == pytest.approx(right)
    tree = lexicon.scores
    rows = tree.locate(units("北京"))
    halves = tree.values[0][rows[0]].sum()
    assert lexicon.saved_bits[at] == pytest.approx(300 * (tree.values[1][rows[1][0]] - halves) / np.log(2))
    assert np.isnan(lexicon.pmi[lexicon.words.index("我")])


def test_a_word_in_all_parts_of_the_text_stands_before_one_in_few(lexicon: Lexicon) -> None:
    parts = [TEXT.replace("北京", "上海")] * 2 + [TEXT] * 8
    found = mine_lexicon(parts)
    assert found.words.index("上海") > found.words.index("北京") > found.words.index("天气")
    assert (np.diff(found.score) <= 0).all()
    assert lexicon.score.max() <= 50


def test_lists_mark_keep_and_leave_out(lexicon: Lexicon) -> None:
    assert {word for word, is_known in zip(lexicon.words, lexicon.is_known, strict=True) if is_known} == {"北京", "好"}
    new = mine_lexicon(TEXT, known={"北京", "好"}, new_only=True)
    assert set(new.words) == set(WORDS) - {"北京", "好"}
    without = mine_lexicon(TEXT, stop={"北京"})
    assert "北京" not in without.words
    assert Segmenter(without.scores).cut("北京") == ["北", "京"]
    text = TEXT + "\n" + "我好" * 300
    assert "我好" not in mine_lexicon(text, min_pmi=3.0).words
    assert "我好" in mine_lexicon(text, min_pmi=3.0, keep={"我好"}).words


def test_thresholds_keep_candidates_out() -> None:
    assert all(len(word) == 1 for word in mine_lexicon(TEXT, min_pmi=9).words)
    assert all(len(word) == 1 for word in mine_lexicon(TEXT, min_pmi=(0, 9)).words)
    assert all(len(word) == 1 for word in mine_lexicon(TEXT, max_length=1).words)
    assert all(len(word) == 1 for word in mine_lexicon(TEXT, min_prob=0.5).words)
    assert mine_lexicon(TEXT, min_count=301).words == ()


def test_facts_compare_units_with_words(lexicon: Lexicon) -> None:
    facts = lexicon.facts
    assert (facts["n_units"], facts["n_segments"], facts["n_words"], facts["n_types"]) == (4800, 1000, 3000, 10)
    assert facts["bits_per_character"]["words"] == pytest.approx(np.log2(10) / 1.6)
    assert facts["bits_per_character"]["words"] < facts["bits_per_character"]["units"]
    assert facts["description_bits"]["words"] < facts["description_bits"]["units"]


@pytest.mark.parametrize("method", METHODS)
def test_the_same_comes_out_of_any_pieces_and_of_counts_made_before(method: Method) -> None:
    text = TEXT[: TEXT.rfind("\n", 0, 3000) + 1] + "\n2019年，abc 5年\n"
    whole = mine_lexicon(text, method=method, min_count=1)
    lines = mine_lexicon(iter(text.splitlines()), method=method, min_count=1)
    counted = count([units(batch) for batch in batched(text, 50) if isinstance(batch, str)], 4)
    again = mine_lexicon(text.splitlines(), method=method, min_count=1, ngrams=counted)
    once = mine_lexicon(iter(text.splitlines()), method=method, min_count=1, ngrams=counted)
    for other in (lines, again, once):
        assert other.words == whole.words
        for name, array in whole.columns().items():
            np.testing.assert_array_equal(getattr(other, name), array, err_msg=name)
        for mine, theirs in zip(whole.scores.values, other.scores.values, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_text_that_is_read_anew_for_each_pass_has_the_same_lexicon(
    lexicon: Lexicon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mining.lexicon.IN_MEMORY", 100)
    again = mine_lexicon(TEXT.splitlines())
    assert again.words == lexicon.words
    np.testing.assert_array_equal(again.score, lexicon.score)


def test_files_hold_the_lexicon_for_people_programs_and_jieba(lexicon: Lexicon, tmp_path: Path) -> None:
    names = [path.name for path in lexicon.save(tmp_path)]
    assert names == ["words.csv", "words.json", "words.txt", "scores.npz"]
    assert (tmp_path / "words.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    with (tmp_path / "words.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["word"] for row in rows] == list(lexicon.words)
    assert json.loads((tmp_path / "words.json").read_text())["facts"]["n_words"] == 3000
    plain = (tmp_path / "words.txt").read_text(encoding="utf-8").splitlines()
    assert plain == [f"{word} 300" for word in lexicon.words if len(word) > 1]
    again = Lexicon.load(tmp_path)
    assert again.words == lexicon.words
    for name, array in lexicon.columns().items():
        np.testing.assert_array_equal(getattr(again, name), array)
    assert list(lexicon.to_frame()["word"]) == list(lexicon.words)


def test_words_of_any_of_these_files_are_read(lexicon: Lexicon, tmp_path: Path) -> None:
    lexicon.save(tmp_path)
    (tmp_path / "plain.txt").write_text("北京\n\n天气 3 n\n", encoding="utf-8")
    for name in ("words.csv", "words.json"):
        assert read_words(tmp_path / name) == dict.fromkeys(lexicon.words, 300.0)
    assert read_words(tmp_path / "plain.txt") == {"北京": 1.0, "天气": 3.0}


def test_what_was_removed_is_written_with_its_parts(tmp_path: Path) -> None:
    text = "\n".join(["甲乙"] * 30 + ["乙丙"] * 30 + ["丙"] * 60 + ["甲乙丙"] * 3)
    found = mine_lexicon(text, method="article", min_pmi=0.05)
    assert [(each.word, each.parts) for each in found.removed] == [("甲乙丙", ("甲乙", "丙"))]
    found.save(tmp_path)
    with (tmp_path / "removed.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [(row["word"], row["count"], row["parts"]) for row in csv.DictReader(file)] == [
            ("甲乙丙", "3", "甲乙 丙")
        ]


def test_a_text_of_rare_words_alone_falls_into_units() -> None:
    assert set(mine_lexicon(TEXT, method="article", min_prob=0.9, min_pmi=-9.0).words) == set("".join(WORDS))


ODD = ["好", "好\n", "好" * 500, "2019", "\ud800好好\ud800好好", "\U00020000\U00020001" * 9, "e\u0301a" * 9]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("text", ODD)
def test_odd_texts_have_lexicons_too(method: Method, text: str, tmp_path: Path) -> None:
    found = mine_lexicon(text, method=method, min_count=1)
    assert found.count.sum() == found.facts["n_words"] > 0
    assert np.isfinite(found.score).all()
    found.save(tmp_path)
    assert Lexicon.load(tmp_path).words == found.words
    if len(set(text)) < 3:
        assert mine_lexicon(text, method=method, min_count=10**4).words == ()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("text", ["", "\n\n", "，。!", "\x00"])
def test_no_text_is_refused(method: Method, text: str) -> None:
    with pytest.raises(ValueError, match="no words in no text"):
        mine_lexicon(text, method=method)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "bset"}, "method = 'bset': unknown; allowed: best, article, greedy"),
        ({"min_count": 0}, "min_count = 0: must be at least 1"),
        ({"min_prob": 1.0}, r"min_prob = 1.0: must lie in \[0, 1\)"),
        ({"max_length": 0}, r"max_length = 0: must lie in \[1, 100\]"),
        ({"method": "article", "min_pmi": (0, 2)}, r"min_pmi = \(0, 2\): one for each length goes with method best"),
        ({"min_pmi": ()}, r"min_pmi = \(\)"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mine_lexicon(TEXT, **cast("Any", options))


def test_folders_and_files_without_words_are_refused(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text("{}")
    (tmp_path / "words.txt").write_text("\n")
    with pytest.raises(ValueError, match="holds no lexicon"):
        Lexicon.load(tmp_path)
    with pytest.raises(ValueError, match=r"words\.txt: no word in it"):
        read_words(tmp_path / "words.txt")
    with pytest.raises(ValueError, match=r"none\.txt: cannot be read"):
        read_words(tmp_path / "none.txt")


def test_english_without_its_spaces_is_cut_into_words() -> None:
    words = pydoc_words()
    text = "\n".join(map("".join, words))
    cut = "".join(Segmenter(mine_lexicon(text, policy=LETTERS).scores).stream([text]))
    found = score(cut, (" ".join(segment) for segment in words))
    assert found.token_f >= 0.65
    assert found.border_f >= 0.80
