import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from lightning_modules.data.text_sources import PIECE, Piece, Reading, TextSource, open_source

CHINESE = "今天天气不错,双十一科学空间。\n"

SCRIPT = """
import os, shutil, sys
from pathlib import Path
import datasets
from lightning_modules.data.text_sources import Reading, open_source

cache = Path(os.environ["HF_HOME"]) / "datasets"
files = {"train": sys.argv[1], "test": sys.argv[1]}
parts = datasets.load_dataset("json", data_files=files, cache_dir=str(cache / "built"))
lines = cache / "someone___lines/default/0.0.0/0123"  # where a download would lie
shutil.copytree(Path(parts["train"].cache_files[0]["filename"]).parent, lines)
for file in lines.glob("json-*"):
    file.rename(file.with_name(file.name.replace("json-", "lines-")))

source = open_source("hub:someone/lines", Reading())
print(source.where, source.digest == open_source("hub:someone/lines", Reading()).digest)
print([piece.text for piece in source.train()], [piece.text for piece in source.validation()])
try:
    open_source("hub:someone/else", Reading())
except ValueError as error:
    print(error)
"""


def read(path: Path, **settings: Any) -> list[Piece]:
    return list(open_source(str(path), Reading(**settings)).train())


def rows(path: Path, *objects: Any) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in objects))
    return path


def test_a_text_file_is_one_document_of_pieces_that_make_up_the_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(CHINESE * 60_000, encoding="utf-8")  # 2.8 MB; characters lie across chunks
    pieces = read(tmp_path / "a.txt")
    assert [number for number, piece in enumerate(pieces) if piece.is_first] == [0]
    assert len(pieces) > 2
    assert "".join(piece.text for piece in pieces) == CHINESE * 60_000
    assert max(len(piece.text.encode()) for piece in pieces) < 1.1 * PIECE


def test_lines_and_paragraphs_may_be_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\ntwo\r\n\r\n \r\nthree".encode())
    assert read(path, document="line") == [Piece("one"), Piece("two"), Piece("three")]
    assert read(path, document="paragraph") == [Piece("one\ntwo"), Piece("three")]


def test_an_endless_line_is_read_in_pieces_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 10 * PIECE)
    pieces = read(tmp_path / "a.txt")
    assert sum(len(piece.text) for piece in pieces) == 10 * PIECE
    assert len(pieces) > 1


def test_rows_of_jsonl_and_parquet_are_documents_pairs_or_labelled(tmp_path: Path) -> None:
    found = [{"text": "one", "kind": 1}, {"text": ""}, {"text": "two", "kind": 0}]
    assert read(rows(tmp_path / "a.jsonl", *found)) == [Piece("one"), Piece("two")]
    assert read(rows(tmp_path / "b.jsonl", *found[::2]), label_key="kind") == [
        Piece("one", label=1),
        Piece("two", label=0),
    ]
    assert read(rows(tmp_path / "c.jsonl", {"prompt": "2+2=", "completion": "4"})) == [Piece("4", "2+2=")]
    pa.parquet.write_table(pa.table({"body": ["one", "two"]}), tmp_path / "d.parquet")
    assert read(tmp_path / "d.parquet", text_key="body") == [Piece("one"), Piece("two")]


def test_a_folder_may_hold_both_parts_by_name(tmp_path: Path) -> None:
    rows(tmp_path / "train-0.jsonl", {"text": "one"})
    rows(tmp_path / "train-1.jsonl", {"text": "two"})
    rows(tmp_path / "test.jsonl", {"text": "three"})
    source = open_source(str(tmp_path), Reading())
    assert [piece.text for piece in source.train()] == ["one", "two"]
    assert source.validation is not None
    assert [piece.text for piece in source.validation()] == ["three"]


def test_a_folder_without_such_names_is_one_text(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("two")
    (tmp_path / "a.txt").write_text("one")
    source = open_source(str(tmp_path), Reading())
    assert source.validation is None
    assert list(source.train()) == [Piece("one"), Piece("two")]


def test_the_digest_follows_the_content_and_how_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("one")
    (tmp_path / "c.txt").write_text("two")

    def digest(name: str, **settings: Any) -> str:
        source: TextSource = open_source(str(tmp_path / name), Reading(**settings))
        return source.digest

    assert digest("a.txt") == digest("b.txt")
    assert len({digest("a.txt"), digest("c.txt"), digest("a.txt", document="line")}) == 3


def test_what_is_not_utf8_is_refused_at_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * (PIECE - 1) + "今".encode() + "今".encode("gb18030"))
    with pytest.raises(ValueError, match=rf"a.txt: byte {PIECE + 2} \(0xbd\) is not UTF-8; convert the file, as with"):
        read(path)
    path.write_bytes("今".encode()[:2])
    with pytest.raises(ValueError, match=r"a.txt: byte 0 \(0xe4\) is not UTF-8"):
        read(path)


def test_a_missing_or_unknown_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("x")
    (tmp_path / "corpus.doc").write_text("x")
    (tmp_path / "empty").mkdir()
    message = r"^data.path = '.*corpsu.txt': no such file or folder \(did you mean '.*corpus.txt'\?\); give a .txt,"
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "corpsu.txt")
    with pytest.raises(ValueError, match=r"corpus.doc': unknown kind of file '.doc'; give a .txt, .jsonl or .parquet"):
        read(tmp_path / "corpus.doc")
    with pytest.raises(ValueError, match=r"empty': no .txt, .jsonl, .parquet in this folder; give a .txt"):
        read(tmp_path / "empty")


def test_a_row_without_its_key_is_refused_by_its_line(tmp_path: Path) -> None:
    path = rows(tmp_path / "a.jsonl", {"text": "one"}, {"txt": "two"})
    with pytest.raises(ValueError, match=r"a.jsonl: line 2: no key 'text'; found: txt; set data.text_key, or give"):
        read(path)
    with pytest.raises(ValueError, match=r"a.jsonl: line 1: no key 'kind'; found: text; set data.text_key"):
        read(path, label_key="kind")
    pa.parquet.write_table(pa.table({"body": ["one"]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b.parquet: row 0: no key 'text'; found: body; set data.text_key"):
        read(tmp_path / "b.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n{'text': 1}\n", r"line 2: no JSON \(.+\); each line must be one object$"),
        ("[1]\n", r"line 1: is no JSON object; each line must be one, as {'text': ...}$"),
        ('{"text": 1}\n', r"line 1: 'text' is int, and must be text$"),
        ('{"text": "\\ud800"}\n', r"line 1: 'text' holds half a surrogate pair at 0; repair it$"),
    ],
)
def test_a_row_that_is_no_document_is_refused_by_its_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.jsonl")


def test_unfit_settings_and_files_are_refused(tmp_path: Path) -> None:
    path = rows(tmp_path / "a.jsonl", {"text": "one", "kind": 0.5})
    with pytest.raises(ValueError, match=r"line 1: 'kind' is float; a class is a number or a name$"):
        read(path, label_key="kind")
    message = r"^data.document = 'lines': unknown unit \(did you mean 'line'\?\); allowed: file, paragraph, line$"
    with pytest.raises(ValueError, match=message):
        Reading(document="lines").check()  # type: ignore[arg-type]
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"b.parquet: not a whole parquet file \(.+\); fetch it again$"):
        read(tmp_path / "b.parquet")


def test_a_set_of_the_hub_is_read_from_the_cache_or_said_how_to_fetch(tmp_path: Path) -> None:
    path = rows(tmp_path / "rows.jsonl", {"text": "one"}, {"text": "two"})
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", SCRIPT, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "https://huggingface.co/datasets/someone/lines True",
        "['one', 'two'] ['one', 'two']",
        (
            "someone/else could not be loaded from the Hugging Face Hub or its cache (Couldn't reach 'someone/else' on"
            " the Hub (OfflineModeIsEnabled)); fetch its parquet files on another machine, put them into one folder and"
            " give --data.path FOLDER"
        ),
    ]
