"""Units against a slow reading of their definition; texts of every encoding and shape; what is refused."""

import gzip
import hashlib
import http.server
import io
import itertools
import json
import sys
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mining import corpus, sources
from mining.corpus import LATIN, NUMBER, Policy, Units, pieces, units
from mining.encodings import decoded
from mining.po import translations
from mining.sources import open_texts, policy_of, pydoc_words, pydoc_zh
from mining.texts import files, read

MIXED = "2019年，iPhone卖了３.５%。"
CHARACTERS = st.sampled_from("中文字，。 \n.%0９aBé\u0301\u200d\ufe0f\ud800\0か々𠀀Ж한①")
LETTERS = Policy(latin="each")


def words(found: Units) -> list[list[str]]:
    spans = list(zip(found.offsets.tolist(), found.ends.tolist(), strict=True))
    edges = found.starts.tolist()
    return [[found.text[start:end] for start, end in spans[first:last]] for first, last in itertools.pairwise(edges)]


def kind(character: str) -> str:
    category = unicodedata.category(character)
    if character in ".．%％‰":
        return "joiner"
    if category == "Cf" or character == "\ufe0f":
        return "invisible"
    kinds = {"Lu": "latin", "Ll": "latin", "Lt": "latin", "Nd": "digit", "No": "digit", "Mn": "accent"}
    return kinds.get(category, "letter" if category[0] in "LM" else "break")


def slow_segments(text: str) -> list[list[str]]:
    """Character by character."""
    segments: list[list[str]] = [[]]
    before = "break"
    for at, character in enumerate(text):
        now = kind(character)
        if now == "joiner":
            is_inside = (at + 1 < len(text) and kind(text[at + 1]) == "digit") or character in "%％‰"
            is_digit = at > 0 and kind(text[at - 1]) == "digit" and is_inside
            now = "digit" if is_digit else "break"
        elif now == "accent":
            now = before
        elif now == "invisible":
            if before not in ("break", None):
                segments[-1][-1] += character
            continue
        if now == "break":
            segments.append([])
        elif now == before and now != "letter":
            segments[-1][-1] += character
        else:
            segments[-1].append(character)
        before = now
    return [segment for segment in segments if segment]


@settings(deadline=None)
@given(st.text(CHARACTERS))
@example(MIXED)
def test_units_are_what_reading_the_characters_one_by_one_gives(text: str) -> None:
    assert words(units(text)) == slow_segments(text)


@settings(deadline=None)
@given(st.lists(st.text(CHARACTERS, max_size=8)))
def test_chunks_of_any_size_give_the_units_of_the_whole(chunks: list[str]) -> None:
    cut = [segment for piece in pieces(chunks) for segment in words(units(piece))]
    assert cut == words(units("".join(chunks)))


def test_codes_are_code_points_and_runs_are_one_code() -> None:
    assert units(MIXED).codes.tolist() == [NUMBER, ord("年"), LATIN, ord("卖"), ord("了"), NUMBER]


def test_policies_make_letters_units_or_breaks() -> None:
    assert words(units("Ab3中", LETTERS)) == [["A", "b", "3", "中"]]
    assert units("Ab", LETTERS).codes.tolist() == [ord("a"), ord("b")]
    assert words(units("中1a文", Policy("break", "break"))) == [["中"], ["文"]]
    with pytest.raises(ValueError, match="latin = 'letters': unknown; allowed: run, each, break"):
        Policy(latin="letters")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "\n\n\r\n", "，。", "\0", "\ud800", "\u0301", "\u200d", "\ufeff"])
def test_a_text_without_units_has_none(text: str) -> None:
    found = units(text)
    assert len(found) == 0
    assert found.starts.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("中", [["中"]]),
        ("中\0文", [["中"], ["文"]]),
        ("中\ud800文", [["中"], ["文"]]),
        ("中\r\n\r\n文\r\n", [["中"], ["文"]]),
        ("\ufeff中", [["中"]]),
        ("葛\U000e0100城", [["葛\U000e0100", "城"]]),
        ("𠀀𰻝", [["𠀀", "𰻝"]]),
        ("cafe\u0301 か\u3099", [["cafe\u0301"], ["か", "\u3099"]]),
        ("中русский한국ไทย", [["中", "русский", "한", "국", "ไ", "ท", "ย"]]),
    ],
)
def test_odd_characters_are_units_or_borders(text: str, segments: list[list[str]]) -> None:
    assert words(units(text)) == segments


def test_a_segment_without_end_is_cut_at_the_same_places_however_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "LONGEST", 10)
    text = "，" + "哈" * 25 + "。" + "1" * 11
    whole = units(text)
    assert np.diff(whole.starts).tolist() == [10, 10, 5, 1, 1]
    for size in (1, 7, 30):
        chunks = (text[at : at + size] for at in range(0, len(text), size))
        assert [segment for piece in pieces(chunks) for segment in words(units(piece))] == words(whole)


def test_one_character_a_million_times_is_one_segment() -> None:
    assert units("哈" * 1_000_000).starts.tolist() == [0, 1_000_000]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
def test_encodings_are_told_apart(tmp_path: Path, encoding: str, chunk: int) -> None:
    text = "中文，𠀀是汉字。\n" + "我们的生活很好，" * 20
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    assert "".join(read(path, chunk=chunk)).removeprefix("\ufeff") == text


def test_an_encoding_is_told_where_ascii_ends() -> None:
    content = b"a line\n" * 20_000 + "中文很好。".encode("gb18030")
    assert "".join(decoded(io.BytesIO(content), "a.txt", chunk=5000)).endswith("中文很好。")


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        ("caf\xe9 noir".encode("latin-1"), None, "byte 3 is not UTF-8, .* name its encoding, as --encoding big5"),
        ("繁體中文的資料".encode("big5"), None, "byte 0 is not UTF-8"),
        ("中文".encode() + b"\xff", "utf-8", "byte 6 is not utf-8; name the file's encoding, as --encoding gb18030"),
        ("中文".encode()[:-1], "utf-8", "byte 3 is not utf-8"),
        (b"abc", "klingon", "encoding = 'klingon': unknown; allowed: those of Python"),
    ],
)
def test_bytes_of_another_encoding_are_refused_in_one_line(
    tmp_path: Path, content: bytes, encoding: str | None, message: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        list(read(path, encoding=encoding))
    assert "\n" not in str(caught.value)


def test_half_a_surrogate_pair_of_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("中\ud800文".encode(errors="surrogatepass"))
    assert "".join(read(path)) == "中\ud800文"


def test_a_folder_gives_all_its_texts_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.txt").write_text("乙")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("甲".encode()))
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "丙"}) + "\n\n" + json.dumps({"text": "丁\ud800"}))
    (tmp_path / "d.po").write_text('msgid "four"\nmsgstr "四"\n')
    (tmp_path / "ignored.png").write_bytes(b"\xff")
    assert list(read(tmp_path)) == ["甲", "乙", "丙", "丁\ud800", "四"]
    assert [path.name for path in files(tmp_path)] == ["a.txt.gz", "x.txt", "c.jsonl", "d.po"]


def test_a_column_of_parquet_is_read(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": ["甲", None, "乙"], "id": [1, 2, 3]}), path)
    assert list(read(path, field="body")) == ["甲", "乙"]
    with pytest.raises(ValueError, match="no column 'id' of texts; found: body, id; name it by --field"):
        list(read(path, field="id"))
    path.write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="not a whole Parquet file"):
        list(read(path))


def test_standard_input_is_a_dash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("中文", encoding="utf-8")
    with (tmp_path / "a.txt").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert list(read("-")) == ["中文"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"zh": "x"}', "line 1: no text 'text'; found: zh; name it by --field"),
        ("a.jsonl", b"[1]", "line 1: no text 'text'; found: list"),
        ("a.jsonl", b"\n{", "line 2: no JSON"),
        ("a.txt.gz", b"not gzip", r"a.txt.gz: cannot be read \(Not a gzipped file"),
        ("a.txt.gz", gzip.compress(b"a" * 999, mtime=0)[:-9], "cannot be read"),
        ("a.po", b'msgid "a"\nmsgstr b', "line 2 is no line of a .po file"),
        ("a.po", b'msgid "a"b"', 'line 1: "a"b" is no string'),
    ],
)
def test_files_that_are_not_what_they_seem_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read(tmp_path / name))


def test_paths_that_hold_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "book.txt").touch()
    assert list(read(tmp_path / "book.txt")) == []
    with pytest.raises(ValueError, match=r"no such file or folder \(did you mean '.*book.txt'\?\)"):
        list(read(tmp_path / "bok.txt"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: no .txt, .jsonl, .parquet, .po in this folder"):
        list(read([tmp_path / "empty"]))
    with pytest.raises(ValueError, match="chunk = 0: must be at least 1 byte"):
        list(read(tmp_path, chunk=0))


def test_translations_lose_their_markup() -> None:
    content = (
        '#, fuzzy\nmsgid ""\nmsgstr "Language: zh"\n\n#: a.rst:1\nmsgid ""\n"See :func:`open <io.open>` "\n"now::"\n'
        'msgstr "参见 ``open`` 和 `主页 <https://a.b>`_ *现在*::"\n\n#, fuzzy\nmsgid "b"\nmsgstr "乙"\n\n'
        'msgid "c"\nmsgstr ""\n'
    )
    assert list(translations(content, "a.po")) == [("See open now:", "参见 open 和 主页 现在:")]


def test_pydoc_is_english_in_segments_of_words() -> None:
    segments = pydoc_words()
    text = "".join(open_texts(["pydoc"]))
    assert text.split("\n") == ["".join(segment) for segment in segments]
    assert len(segments) > 10_000
    assert policy_of(["pydoc"]) == LETTERS
    assert len(units(text, LETTERS)) == sum(len(word) for segment in segments for word in segment)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A site with the page that `pydoc_zh` is cut down to."""
    site = tmp_path / "site"
    (site / "faq").mkdir(parents=True)
    page = 'msgid "yes"\nmsgstr "是"\n'.encode()
    (site / "faq" / "gui.po").write_bytes(page)
    monkeypatch.setattr(sources, "PAGES", {"faq": "gui"})
    monkeypatch.setattr(sources, "DIGEST", hashlib.sha256(page).hexdigest())
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *arguments: handler(*arguments, directory=site)
    ) as httpd:
        threading.Thread(target=httpd.serve_forever).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_chinese_documentation_is_downloaded_once(tmp_path: Path, server: str) -> None:
    assert pydoc_zh(tmp_path / "cache", server) == [("yes", "是")]
    assert pydoc_zh(tmp_path / "cache", "http://127.0.0.1:1") == [("yes", "是")]
    (tmp_path / "cache" / "faq" / "gui.po").write_text("")
    with pytest.raises(ValueError, match=r"cache: holds other files than those of commit .*; delete it"):
        pydoc_zh(tmp_path / "cache", server)


def test_without_a_network_chinese_documentation_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"design.po: cannot be had \(.*\); where there is a network run this once"):
        pydoc_zh(tmp_path / "cache", "http://127.0.0.1:1")


def test_the_name_of_the_chinese_documentation_stands_for_its_translations(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pydoc_zh(None, server)
    assert list(open_texts(["pydoc_zh"])) == ["是"]


def test_a_set_of_the_hub_that_is_not_there_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read once, by whoever imported it first
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"hub:nobody/nothing: .*; or give its files") as caught:
        list(open_texts(["hub:nobody/nothing"]))
    assert "\n" not in str(caught.value)


def test_texts_of_a_set_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "train.jsonl").write_text('{"text": "甲", "id": 1}\n{"text": "乙", "id": 2}\n', encoding="utf-8")
    assert list(open_texts([f"hub:{tmp_path}"])) == ["甲", "乙"]
    with pytest.raises(ValueError, match="row 0 has no text 'id' but text, id: name it by --field; or give its files"):
        list(open_texts([f"hub:{tmp_path}"], field="id"))
