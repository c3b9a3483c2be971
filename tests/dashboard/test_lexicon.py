from __future__ import annotations

import html
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from dashboard import lexicon
from dashboard.lexicon import NUMBERS, Wanted, doubtful, marked, select
from experiments.store.location import Store
from mining.lexicon import mine_lexicon
from mining.segment import Segmenter
from tests.conftest import Writer
from tests.dashboard.hostile import FORMULA, IMAGE, MARKS, SCRIPT
from tests.dashboard.test_pages import no_arguments, open_page, texts

__all__ = ["no_arguments"]  # a fixture that every test takes

TEXTS = ["北京大学在北京，北京大学的大学生在大学。", "大学生在北京，北京的大学。"] * 30
TABS = ["lexicon_words", "lexicon_cut", "lexicon_bits", "lexicon_diff", "lexicon_removed"]


def table(words: list[str], **columns: list[float]) -> pa.Table:
    """Words with a 1 in every column that is not given."""
    ones = {name: [1.0] * len(words) for name in NUMBERS} | {"is_known": [False] * len(words)}
    return pa.table({"word": pa.array(words, pa.string()), **ones, **columns})


def mined(writer: Writer, name: str, method: str = "best") -> str:
    """A run that left what the miner leaves."""
    found = mine_lexicon(TEXTS, method=method)  # type: ignore[arg-type]
    run_id = writer.run(
        name, experiment="mine-lexicon", tags={"taolu.kind": "lexicon"}, params={"sources": "['texts']"},
        metrics={"lexicon/words": [float(len(found))], "bits_per_character": [3.0, 2.5, 2.0]},
    )  # fmt: skip
    folder = writer.store.run_folder(run_id)
    found.save(folder)
    parquet.write_table(pa.table({"word": found.words, **found.columns()}), folder / "words.parquet")
    (folder / "sample.txt").write_text(TEXTS[0], encoding="utf-8")
    return run_id


@pytest.fixture
def two(writer: Writer) -> list[str]:
    return [mined(writer, "one"), mined(writer, "other", "article")]


def test_words_below_a_threshold_and_words_without_pmi_are_left_out() -> None:
    words = table(["a", "bc", "def"], count=[9, 5, 1], pmi=[float("nan"), 3.0, 4.0], right_entropy=[1.0, 0.5, 1.0])
    assert select(words, Wanted(count=5))["word"].to_pylist() == ["a", "bc"]
    assert select(words, Wanted(pmi=3.0))["word"].to_pylist() == ["bc", "def"]
    assert select(words, Wanted(entropy=0.6))["word"].to_pylist() == ["a", "def"]
    assert select(words, Wanted(lengths=[2], text="c"))["word"].to_pylist() == ["bc"]


def test_known_and_new_words_are_told_apart_and_the_largest_stand_first() -> None:
    words = table(["a", "b", "c"], count=[1, 3, 2], is_known=[True, False, False])
    assert select(words, Wanted(known="known"))["word"].to_pylist() == ["a"]
    assert select(words, Wanted(known="new", sort="count"))["word"].to_pylist() == ["b", "c"]


def test_the_ratio_of_two_lexicons_is_of_shares_and_words_of_one_alone_have_none() -> None:
    found = lexicon.difference(table(["a", "b"], count=[1, 3]), table(["a", "c"], count=[4, 4])).set_index("word")
    assert found.loc["a", "ratio"] == (4 / 8) / (1 / 4)
    assert np.isnan(found.loc[["b", "c"], "ratio"]).all()


@given(st.text('ab<>&" \n北京大学', max_size=40))
def test_marked_text_is_the_text_and_opens_no_other_element(text: str) -> None:
    found = marked(text, Segmenter({"ab": 3, "北京": 2}).gaps(text))
    assert html.unescape(re.sub(r"</?(div|span)[^<>]*>", "", found)) == text
    assert "<" not in re.sub(r"</?(div|span)[^<>]*>", "", found)


def test_the_most_doubtful_border_is_the_one_nearest_to_one_half() -> None:
    text = "北京大学生"
    gaps = Segmenter({"北京": 4, "大学": 3, "学生": 3, "大": 1, "生": 1}).gaps(text)
    assert doubtful(text, gaps, 1)["border"][0] == min(gaps.borders, key=lambda border: abs(border - 0.5))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_without_a_lexicon_the_page_names_the_commands_that_mine_one(store: Store, language: str) -> None:
    app = open_page("lexicon", store, language)
    assert not app.exception
    assert app.code[0].value == "taolu mine lexicon"


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_opens(two: list[str], store: Store, tab: str) -> None:
    app = open_page("lexicon", store, "zh", tab=tab, lexicon=two[1])
    assert not app.exception
    assert not app.warning


def test_a_threshold_in_the_address_filters_words_and_a_slider_writes_it_there(two: list[str], store: Store) -> None:
    app = open_page("lexicon", store, lexicon=two[0], word="大")
    assert all("大" in word for word in app.dataframe[0].value["word"])
    app.select_slider("count").set_value(20).run()
    assert app.query_params["count"] == "20"
    assert (app.dataframe[0].value["count"] >= 20).all()


def test_a_pasted_text_is_cut_as_the_segmenter_cuts_it(two: list[str], store: Store) -> None:
    app = open_page("lexicon", store, tab="lexicon_cut", lexicon=two[0])
    app.text_area("to_cut").set_value("大学生在北京，来了").run()
    cut = Segmenter.load(store.run_folder(two[0])).cut("大学生在北京，来了")
    assert app.code[0].value == " ".join(cut)
    assert f"{len(cut)} words" in texts(app)


def test_a_hostile_lexicon_opens_without_a_traceback(writer: Writer) -> None:
    run_id = mined(writer, f"{SCRIPT}{MARKS}", "article")
    folder = writer.store.run_folder(run_id)
    parquet.write_table(table([SCRIPT, IMAGE, FORMULA, ""], count=[1, 0, -5, 2]), folder / "words.parquet")
    for name in ("scores.npz", "merges.parquet", "sample.txt"):
        (folder / name).write_bytes(b"PK\x03\x04 torn \x00\xff")
    (folder / "removed.csv").write_text(f'word,count\n"{IMAGE}\n', encoding="utf-8")
    apps = [open_page("lexicon", writer.store, tab=tab, lexicon=run_id) for tab in TABS]
    assert not any(app.exception for app in apps)
    assert "scores" in apps[1].warning[0].value


def test_words_that_are_no_table_are_named(writer: Writer) -> None:
    run_id = mined(writer, "torn")
    writer.file(run_id, "words.parquet", b"PAR1 torn PAR1")
    app = open_page("lexicon", writer.store, lexicon=run_id)
    assert not app.exception
    assert app.warning[0].value == "words\\.parquet cannot be read."
