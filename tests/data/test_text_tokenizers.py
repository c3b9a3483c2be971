import json
import math
from itertools import combinations
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules.data.text_lexicon import Words, read_lexicon
from lightning_modules.data.text_sources import _at_lines
from lightning_modules.data.text_tokenizers import (
    Bytes,
    Characters,
    Tokenizer,
    build_tokenizer,
    load_tokenizer,
    train_bpe,
)
from lightning_modules.data.wordpiece import WordPiece

TEXT = (
    "The if statement is used for conditional execution:\n\n   if x:\n      pass\n今天天气不错。 émigré <|endoftext|>\n"
    * 3
)
BPE = train_bpe([TEXT], 300)
WORDS = Words(["today", "天气", "今天", "天", "if "])
LIKELY = Words(["ab", "abc", "bcd", "d", "a"], [5, 3, 4, 2, 1])
ALL: list[Tokenizer] = [Bytes(), Characters("".join(sorted(set(TEXT)))), BPE, WORDS, LIKELY]
TEXTS = st.text(st.sampled_from("abcdif <|endoftext>:\n今天气不\u3000é\U0001f600"))


@pytest.mark.parametrize("tokenizer", ALL, ids=lambda tokenizer: tokenizer.kind)
def test_decoding_inverts_encoding(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


@pytest.mark.parametrize("tokenizer", ALL, ids=lambda tokenizer: tokenizer.kind)
@settings(max_examples=50)
@given(text=TEXTS)
def test_ids_with_bytes_are_the_ids_and_sum_to_the_bytes_of_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids, n_bytes = tokenizer.encode_with_bytes(text)
    assert ids == tokenizer.encode(text)
    assert sum(n_bytes) == len(text.encode())
    assert min(n_bytes, default=0) >= 0


@pytest.mark.parametrize("tokenizer", ALL, ids=lambda tokenizer: tokenizer.kind)
def test_the_end_of_a_document_is_no_text_and_no_text_writes_it(tokenizer: Tokenizer) -> None:
    assert tokenizer.end_id is not None
    assert tokenizer.end_id < tokenizer.vocabulary_size
    assert tokenizer.end_id not in tokenizer.encode(TEXT)
    assert tokenizer.decode([tokenizer.end_id]) == ""


@pytest.mark.parametrize("tokenizer", [*ALL, WordPiece(["[UNK]", "a"])], ids=lambda tokenizer: tokenizer.kind)
def test_a_saved_tokenizer_is_loaded_with_the_same_digest_and_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.digest, loaded.end_id) == (tokenizer.digest, tokenizer.end_id)
    assert loaded.encode(TEXT) == tokenizer.encode(TEXT)


@settings(max_examples=50)
@given(st.lists(TEXTS, max_size=8))
def test_a_long_text_in_pieces_has_the_ids_of_the_whole(chunks: list[str]) -> None:
    pieces = list(_at_lines(chunks))
    assert "".join(pieces) == "".join(chunks)
    for tokenizer in (BPE, WORDS):
        assert [number for piece in pieces for number in tokenizer.encode(piece)] == tokenizer.encode("".join(chunks))


def test_bpe_learns_the_vocabulary_asked_for_and_merges_frequent_pairs() -> None:
    assert BPE.vocabulary_size == 300
    assert len(BPE.encode(TEXT)) < 0.6 * len(TEXT.encode())
    assert train_bpe([TEXT], 300).digest == BPE.digest


def test_a_saved_bpe_opens_in_transformers(tmp_path: Path) -> None:
    BPE.save(tmp_path)
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tmp_path)
    text = TEXT.replace("<|endoftext|>", "")
    assert theirs(text).input_ids == BPE.encode(text)
    assert theirs.eos_token_id == BPE.end_id


def test_gpt2s_own_two_files_are_a_tokenizer_too(tmp_path: Path) -> None:
    BPE.fast.model.save(str(tmp_path))
    assert load_tokenizer(tmp_path).encode("if émigré:\n") == BPE.encode("if émigré:\n")


@settings(max_examples=50)
@given(st.text("abcd", min_size=1, max_size=8))
def test_the_likeliest_cut_is_the_best_of_all_cuts(text: str) -> None:
    total = sum(LIKELY.counts or ())
    probability = {word: count / total for word, count in zip(LIKELY.words, LIKELY.counts or (), strict=True)}

    def cost(cuts: tuple[int, ...]) -> float:
        words = [text[first:last] for first, last in zip((0, *cuts), (*cuts, len(text)), strict=True)]
        if any(len(word) > 1 and word not in probability for word in words):
            return math.inf
        return sum(-math.log(probability.get(word, 1 / total / 256)) for word in words)

    found = LIKELY._cut(text)
    best = min(cost(cuts) for n in range(len(text)) for cuts in combinations(range(1, len(text)), n))
    assert sum(-math.log(probability.get(word, 1 / total / 256)) for word in found) == pytest.approx(best)


def test_a_lexicon_is_read_from_lines_lines_with_counts_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("今天\n天气\n", encoding="utf-8")
    (tmp_path / "jieba.txt").write_text("今天 30 t\n天气 10 n\n", encoding="utf-8")
    table = pa.table({"word": ["今天", "天气"], "count": [30, 10], "pmi": [1.0, 2.0]})
    pa.parquet.write_table(table, tmp_path / "words.parquet")
    plain, jieba, parquet = (
        read_lexicon(tmp_path / name, with_counts=name != "plain.txt")
        for name in ("plain.txt", "jieba.txt", "words.parquet")
    )
    assert plain.words == jieba.words == parquet.words == ("今天", "天气")
    assert plain.counts is None
    assert jieba.counts == parquet.counts == (30, 10)


def test_an_unknown_tokenizer_is_refused_with_the_nearest_name() -> None:
    message = (
        r"^data.tokenizer = 'bytse': unknown tokenizer \(did you mean 'bytes'\?\); allowed: bytes, characters, bpe,"
    )
    with pytest.raises(ValueError, match=message):
        build_tokenizer("bytse", 300, list)
    with pytest.raises(ValueError, match=r"^data.tokenizer = 'words': needs a file, as in words:PATH; allowed: bytes,"):
        build_tokenizer("words", 300, list)


def test_a_vocabulary_too_small_for_the_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^data.vocabulary_size = 256: a byte-level BPE has at least 257 tokens"):
        build_tokenizer("bpe", 256, lambda: [TEXT])


def test_an_unfit_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing: no such folder; give one that a tokenizer was saved in$"):
        load_tokenizer(tmp_path / "missing")
    with pytest.raises(ValueError, match=r": no tokenizer there \(no tokenizer.json, vocab.json with merges.txt, or"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r": no tokenizer there \(.+\); give a folder that one was saved in$"):
        load_tokenizer(tmp_path)
    BPE.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    with pytest.raises(ValueError, match=r"its end token '</s>' is not in its vocabulary"):
        load_tokenizer(tmp_path)


def test_an_unfit_lexicon_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    with pytest.raises(ValueError, match=r"words.txt: no such word list; give a text file with one word a line, or"):
        build_tokenizer(f"words:{path}", 0, list)
    path.write_text("a\nb\na\n")
    with pytest.raises(
        ValueError, match=r"words.txt: lexicon of 3 words: 'a' stands in it twice; give one word a line"
    ):
        read_lexicon(path)
    path.write_text("")
    with pytest.raises(ValueError, match=r"words.txt: lexicon of 0 words: has no words, or an empty one; give one"):
        read_lexicon(path)
    path.write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"words.txt: has no counts, which data.tokenizer = viterbi needs; use words:"):
        build_tokenizer(f"viterbi:{path}", 0, list)
    path.write_text("a 3\nb x\n")
    with pytest.raises(ValueError, match=r"words.txt: line 2: 'b' has no count; write word, space, number$"):
        read_lexicon(path)
    path.write_text("a 3\nb 0\n")
    with pytest.raises(ValueError, match=r"words.txt: lexicon: count 0.0 of 'b'; counts must be positive$"):
        read_lexicon(path, with_counts=True)
