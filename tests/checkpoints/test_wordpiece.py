"""BERT's WordPiece, against its rules written out as Python."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.checkpoints.wordpiece import wordpiece

CJK = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F))
CJK += ((0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))  # type: ignore[assignment]
LETTERS = "abcdefghijklmnopqrstuvwxyzας0123456789,.[]!今天气的"
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *LETTERS,
    *(f"##{c}" for c in LETTERS),
    "the",
    "##ing",
    "sep",
]
# what people type, and what a Unicode older than Python's knows: tables differ in what was added since
CHARACTERS = st.characters(max_codepoint=0x2FFFF, exclude_categories=["Cs", "Cn"]).filter(
    lambda c: ord(c) < 0x700 or 0x1E00 <= ord(c) < 0x2C00 or 0x2E80 <= ord(c) < 0xA000 or ord(c) >= 0xF900
)
TEXTS = st.text(
    st.sampled_from("the ingsep[]SEPPAD,.今天气的，。İΣς\u3000\t\ue000\U0002b820é") | CHARACTERS, max_size=30
)


def words(text: str) -> list[str]:
    """Cleaned, split around Chinese characters, lower-cased, without accents, split at punctuation."""
    category = unicodedata.category
    kept = [c for c in text if c not in "\0\ufffd" and (c in "\t\n\r" or category(c) not in ("Cc", "Cf"))]
    spaced = "".join(" " if c in "\t\n\r" or category(c) == "Zs" else c for c in kept)
    spaced = "".join(f" {c} " if any(a <= ord(c) <= b for a, b in CJK) else c for c in spaced)
    found = []
    for word in spaced.split():
        bare = [c for c in unicodedata.normalize("NFD", word.lower()) if category(c) != "Mn"]
        marks = (f" {c} " if category(c)[0] == "P" or c in "$+<=>^`|~" else c for c in bare)
        found += "".join(marks).split()
    return found


def pieces(word: str) -> list[str]:
    """The longest piece first; one [UNK] where any is missing or the word has over 200 characters."""
    found: list[str] = []
    start = 0
    while start < len(word) <= 200:
        ends = range(len(word), start, -1)
        fits = [end for end in ends if ("##" if start else "") + word[start:end] in VOCABULARY]
        if not fits:
            return ["[UNK]"]
        found.append(("##" if start else "") + word[start : fits[0]])
        start = fits[0]
    return found or ["[UNK]"]


TOKENIZER = wordpiece(VOCABULARY)


@given(TEXTS)
def test_tokens_are_those_of_the_public_rules(text: str) -> None:
    assert TOKENIZER.encode(text).tokens == [piece for word in words(text) for piece in pieces(word)]


@pytest.mark.parametrize("n", [199, 200, 201])
def test_a_word_of_more_than_200_characters_is_unknown(n: int) -> None:
    assert TOKENIZER.encode("a" * n).tokens == pieces("a" * n)


def test_special_words_in_a_text_are_text() -> None:
    assert TOKENIZER.encode("[SEP]").tokens == ["[", "sep", "]"]
    assert TOKENIZER.encode("今[PAD]").tokens == ["今", "[", "p", "##a", "##d", "]"]


def test_decoding_leaves_no_space_beside_chinese() -> None:
    text = "今天the ing，的气 aς"
    assert (
        wordpiece([*VOCABULARY, "，"]).decode(wordpiece([*VOCABULARY, "，"]).encode(text).ids) == "今天the ing，的气aς"
    )
