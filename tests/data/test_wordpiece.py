from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules.data.wordpiece import WordPiece

VOCABULARY = [
    *(
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[",
        "]",
        "sep",
        "今",
        "天",
        "气",
        "。",
        ",",
        "!",
        "$",
        "gp",
        "##t",
    ),
    *("a", "b", "c", "e", "##a", "##b", "##c", "##e", "abc", "##bc", "σ", "##α", "##ς", "\U0002b820"),
]
PIECES = WordPiece(VOCABULARY)
TEXTS = st.text(st.sampled_from("今天气。abcABCéÉ ,!$\t\n\u3000\u00a0\u200b\u2028\u0301\ufffd\x00\x0b[]龥"))


def pieces(text: str) -> list[str]:
    return [VOCABULARY[number] for number in PIECES.encode(text)]


@settings(max_examples=200)
@given(TEXTS)
def test_ordinary_text_gives_the_ids_of_hugging_faces_wordpiece(text: str) -> None:
    model = tokenizers.models.WordPiece({piece: n for n, piece in enumerate(VOCABULARY)}, unk_token="[UNK]")
    fast = tokenizers.Tokenizer(model)
    fast.normalizer = tokenizers.normalizers.BertNormalizer()
    fast.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    assert PIECES.encode(text) == fast.encode(text).ids


def test_a_literal_control_token_is_text_in_brackets() -> None:
    assert pieces("今[SEP]天[UNK]") == ["今", "[", "sep", "]", "天", "[", "[UNK]", "]"]


def test_letters_lose_case_and_accents_and_chinese_characters_stand_alone() -> None:
    assert pieces("GPT今天ABÇ é") == ["gp", "##t", "今", "天", "abc", "e"]


def test_the_public_rules_hold_where_fast_tokenizers_differ() -> None:
    assert pieces("ΣΑΣ") == ["σ", "##α", "##ς"]
    assert pieces("a\U0002b820b") == ["a", "\U0002b820", "b"]


def test_a_word_with_an_uncovered_character_and_one_of_201_are_unknown_as_a_whole() -> None:
    assert pieces("abd") == ["[UNK]"]
    assert len(pieces("a" * 200)) == 200
    assert pieces("a" * 201) == ["[UNK]"]


@settings(max_examples=200)
@given(TEXTS)
def test_ids_with_bytes_are_the_ids_and_the_bytes_are_those_of_the_text(text: str) -> None:
    ids, n_bytes = PIECES.encode_with_bytes(text)
    assert ids == PIECES.encode(text)
    assert sum(n_bytes) == (len(text.encode()) if ids else 0)


def test_decoding_joins_pieces_and_puts_spaces_between_latin_words_alone() -> None:
    assert PIECES.decode(PIECES.encode("今天 abc gpt,今天 abcbc。龥")) == "今天abc gpt,今天abcbc。"
    assert PIECES.decode([0, 8, 99, 3]) == "今"


def test_a_saved_folder_holds_the_same_vocabulary_and_opens_in_transformers_without_additions(tmp_path: Path) -> None:
    PIECES.save(tmp_path)
    assert WordPiece.read(tmp_path / "vocab.txt").digest == PIECES.digest
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("今天 GPT[SEP]").input_ids == PIECES.encode("今天 GPT[SEP]")


def test_a_vocabulary_is_cut_at_newlines_alone_and_may_lack_the_last(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes("[UNK]\n\u2028x\u2028y\r\n今".encode())
    assert WordPiece.read(tmp_path / "vocab.txt").vocabulary == ("[UNK]", "\u2028x\u2028y".strip(), "今")


def test_an_unfit_vocabulary_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    with pytest.raises(ValueError, match=r"vocab.txt: cannot be read \(No such file or directory\); give BERT's"):
        WordPiece.read(path)
    path.write_bytes(b"[UNK]\n\xb0\xa1")
    with pytest.raises(ValueError, match=r"vocab.txt: byte 6 is not UTF-8"):
        WordPiece.read(path)
    path.write_text("a\nb")
    with pytest.raises(ValueError, match=r"vocab.txt: WordPiece vocabulary of 2 pieces: no '\[UNK\]'; give BERT's"):
        WordPiece.read(path)
    path.write_text("[UNK]\nb\nb")
    with pytest.raises(ValueError, match=r"vocab.txt: WordPiece vocabulary: 'b' stands in it twice"):
        WordPiece.read(path)
