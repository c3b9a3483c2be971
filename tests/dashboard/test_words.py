from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.words import LANGUAGES, STATUS, WORDS, ago, plain, span, speaker, status_text


def test_every_language_has_every_text() -> None:
    assert set(WORDS) == set(LANGUAGES)
    assert all(set(words) == set(WORDS["en"]) for words in WORDS.values())


def test_a_text_has_the_same_gaps_in_every_language() -> None:
    gaps = [{key: set(re.findall(r"{(\w+)}", text)) for key, text in words.items()} for words in WORDS.values()]
    assert all(found == gaps[0] for found in gaps)


def test_no_text_is_empty_or_left_untranslated() -> None:
    assert all(WORDS["en"].values())
    assert not [key for key, text in WORDS["zh"].items() if not re.search(r"[\u4e00-\u9fff]", text)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_status_has_a_word_and_a_shape_of_its_own(language: str) -> None:
    assert len({status_text(speaker(language), status) for status in STATUS}) == len(STATUS)
    assert len({shape for _, shape, _ in STATUS.values()}) == len(STATUS)


def test_an_unknown_status_is_shown_as_it_is() -> None:
    assert status_text(speaker("en"), "PAUSED") == "PAUSED"


@settings(max_examples=50)
@given(st.text(max_size=60))
def test_a_users_text_keeps_no_sign_that_markdown_would_render(text: str) -> None:
    assert not re.search(r"(?<!\\)[<>\[\]()`*_$:!#|~&]", re.sub(r"\\(.)", "", plain(text)))


def test_a_users_text_stays_on_one_line_and_is_cut() -> None:
    assert plain("a\n# b\tc") == r"a \# b c"
    assert plain("x" * 300) == "x" * 199 + "…"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.6, "1 min"), (3600, "1 h"), (90_061, "1 d 1 h"), (3_599.7, "1 h")],
)
def test_a_length_of_time_has_one_or_two_units(seconds: float, text: str) -> None:
    assert span(speaker("en"), seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "just now"), (59, "just now"), (61, "1 min ago"), (7_300, "2 h ago"), (200_000, "2 d ago")],
)
def test_a_moment_is_told_by_its_largest_unit(seconds: float, text: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert ago(speaker("en"), now - timedelta(seconds=seconds), now) == text
