"""Files of baskets as people have them, each read as it is meant or refused in one line."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mining.baskets import Baskets
from mining.layouts import Layout
from mining.readers import basket_chunks, baskets_of, read_baskets
from tests.mining.test_baskets import rows_of

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of text or bytes."""

    def file(content: str | bytes, name: str = "baskets.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return file


def read(path: Path, **layout: object) -> list[set[object]]:
    return rows_of(read_baskets(path, Layout(**layout))[0])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\nc\n", [{"a", "b"}, {"c"}]),
        ("a,b\r\nc", [{"a", "b"}, {"c"}]),  # no newline at the end
        ("a\tb c\nd\n", [{"a", "b c"}, {"d"}]),
        ("1 2 3\n2  5 \n", [{"1", "2", "3"}, {"2", "5"}]),  # FIMI
        ("a;b\n;c;\n", [{"a", "b"}, {"c"}]),  # blank items
        ("a, b ,\n\nc,c\n\n\n", [{"a", "b"}, set(), {"c"}]),  # an empty basket, but none at the end
        ('"a, or b",c\n"say ""x""",c\n', [{"a, or b", "c"}, {'say "x"', "c"}]),
        ('5" pipe,tape\n3" pipe,tape\n', [{'5" pipe', "tape"}, {'3" pipe', "tape"}]),
        ("牛奶,面包\n牛奶\n", [{"牛奶", "面包"}, {"牛奶"}]),
        ("", []),
        ("\n\n", []),
    ],
)
def test_text_is_read_as_it_looks(write: Write, text: str, rows: list[set[str]]) -> None:
    assert read(write(text)) == rows


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_encodings_of_chinese_text_are_found(write: Write, encoding: str) -> None:
    path = write("牛奶,面包\r\n牛奶,鸡蛋\r\n".encode(encoding))
    baskets, layout = read_baskets(path)
    assert rows_of(baskets) == [{"牛奶", "面包"}, {"牛奶", "鸡蛋"}]
    assert layout.encoding == encoding


def test_another_encoding_is_asked_for_and_taken(write: Write) -> None:
    path = write("café,thé\n".encode("latin-1") + b"\xff\n")
    with pytest.raises(ValueError, match="byte 3 is not UTF-8, and the file looks like neither"):
        read_baskets(path)
    assert read(path, encoding="latin-1") == [{"café", "thé"}, {"ÿ"}]


def test_what_is_given_wins_over_what_it_looks_like(write: Write) -> None:
    path = write("a b,c\nd,e f\n")
    assert read(path, delimiter=" ") == [{"a", "b,c"}, {"d,e", "f"}]
    assert read(path, header=True) == [{"d", "e f"}]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("order_id,product\n1,tea\n1,milk\n2,tea\n1,jam\n", ("order_id", "product")),
        ("商品,订单号\ntea,1\nmilk,1\ntea,2\njam,1\n", ("订单号", "商品")),
        ("Nr,Was\n1,tea\n1,milk\n2,tea\n1,jam\n", ("Nr", "Was")),
    ],
)
def test_an_item_a_line_is_guessed_from_two_titles_and_said(write: Write, text: str, columns: tuple[str, str]) -> None:
    baskets, layout = read_baskets(write(text))
    assert rows_of(baskets) == [{"tea", "milk", "jam"}, {"tea"}]
    assert f"baskets by {columns[0]}, items in {columns[1]}" in layout.said()


def test_columns_of_a_wider_table_are_named_or_numbered(write: Write) -> None:
    path = write("day,who,what\nmon,1,tea\nmon,2,tea\ntue,1,milk\ntue,,jam\n")
    assert read(path, transaction="who", item="what") == [{"tea", "milk"}, {"tea"}]
    assert read(path, transaction="2", item="3", header=True) == [{"tea", "milk"}, {"tea"}]
    assert read_baskets(path, Layout(transaction="who", item="what"))[0].notes["without a basket"] == 1


def test_two_items_a_basket_are_not_taken_for_a_table(write: Write) -> None:
    assert read(write("a,b\nb,c\na,c\n")) == [{"a", "b"}, {"b", "c"}, {"a", "c"}]


def test_a_column_an_item_is_seen_by_its_zeros_and_ones(write: Write) -> None:
    path = write("tea,milk,jam\n1,0,1\n0,0,0\nTrue,yes,\n")
    assert read(path) == [{"tea", "jam"}, set(), {"tea", "milk"}]
    with pytest.raises(ValueError, match=r"row 2, column milk is '2'"):
        read(write("tea,milk\n1,0\n1,2\n"), form="onehot", header=True)


def test_json_lines_keep_the_types_of_items(write: Write, tmp_path: Path) -> None:
    path = tmp_path / "baskets.jsonl"
    path.write_text('[1, "1", null]\n\n["a"]\n')
    assert read(path) == [{1, "1"}, {"a"}]
    path.write_text('{"id": 7, "items": ["a", "b"]}\n{"id": 8, "items": []}\n')
    assert read(path) == [{"a", "b"}, set()]
    path.write_text('{"id": 7, "item": "a"}\n{"id": 8, "item": "b"}\n{"id": 7, "item": "c"}\n')
    assert read(path, transaction="id", item="item") == [{"a", "c"}, {"b"}]


def test_broken_json_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "baskets.jsonl"
    path.write_text('["a"]\n["b"\n')
    with pytest.raises(ValueError, match="line 2 is no JSON"):
        read_baskets(path)


def test_packed_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / "baskets.dat.gz"
    path.write_bytes(gzip.compress(b"1 2\n3\n"))
    assert read(path) == [{"1", "2"}, {"3"}]
    path.write_bytes(b"1 2\n")
    with pytest.raises(ValueError, match=r"leave out \.gz"):
        read_baskets(path)


def xlsx(path: Path, rows: list[str], strings: str = "") -> None:
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    with zipfile.ZipFile(path, "w") as packed:
        sheet = f"<worksheet {space}><sheetData>{''.join(rows)}</sheetData></worksheet>"
        packed.writestr("xl/worksheets/sheet1.xml", sheet)
        packed.writestr("xl/sharedStrings.xml", f"<sst {space}>{strings}</sst>")


def test_a_spreadsheet_is_read_from_its_xml(tmp_path: Path) -> None:
    path = tmp_path / "baskets.xlsx"
    strings = "<si><t>牛奶</t></si><si><r><t>面</t></r><r><t>包</t></r><rPh><t>no</t></rPh></si>"
    first = '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="C1" t="s"><v>1</v></c></row>'
    second = '<row r="3"><c r="A3"><v>7</v></c><c r="B3" t="inlineStr"><is><t>tea</t></is></c></row>'
    xlsx(path, [first, second], strings)
    assert read(path) == [{"牛奶", "面包"}, set(), {"7", "tea"}]
    path.write_text("no zip")
    with pytest.raises(ValueError, match=r"no \.xlsx file"):
        read_baskets(path)


def test_parquet_is_read_in_each_of_its_forms(tmp_path: Path) -> None:
    path = tmp_path / "baskets.parquet"
    pd.DataFrame({"items": [["a", "b"], ["a"], None]}).to_parquet(path)
    assert read(path) == [{"a", "b"}, {"a"}, set()]
    pd.DataFrame({"order": [1, 1, 2], "item": ["a", "b", "a"]}).to_parquet(path)
    assert read(path, transaction="order", item="item") == [{"a", "b"}, {"a"}]
    pd.DataFrame({"a": [True, False], "b": [True, True]}).to_parquet(path)
    assert read(path) == [{"a", "b"}, {"b"}]
    path.write_text("no table")
    with pytest.raises(ValueError, match="cannot be read"):
        read_baskets(path)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"transaction": "who"}, "without --item"),
        ({"transaction": "who", "item": "nothing"}, "no column 'nothing'; there are who, what"),
        ({"form": "wide"}, "must be one of baskets, long, onehot"),
        ({"encoding": "klingon"}, "unknown; utf-8"),
        ({"delimiter": ",,"}, "must be one character"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(write: Write, layout: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(write("who,what\n1,tea\n"), **layout)


def test_a_quote_that_is_never_closed_is_named(write: Write) -> None:
    with pytest.raises(ValueError, match=r"line \d+: .*--quotes no"):
        read(write('a,b\n"c,d\ne\n'), quotes=True)


def test_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_baskets(tmp_path / "nothing.csv")
    with pytest.raises(ValueError, match="is a folder"):
        baskets_of(tmp_path)


@given(st.integers(1, 7))
def test_chunks_are_the_baskets_of_the_whole(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    path = tmp_path_factory.mktemp("chunks") / "baskets.csv"
    path.write_text("a,b\n\nc\na,c\nb\n")
    assert [row for chunk in basket_chunks(path, size) for row in rows_of(chunk)] == rows_of(read_baskets(path)[0])


def test_a_long_row_and_many_items_are_read(write: Write) -> None:
    row = ",".join(map(str, range(100_000)))
    baskets = read_baskets(write(f"{row}\n1,2\n"))[0]
    assert np.diff(baskets.indptr).tolist() == [100_000, 2]
    assert isinstance(baskets, Baskets)


def test_json_of_text_is_refused_as_a_basket(tmp_path: Path) -> None:
    path = tmp_path / "baskets.jsonl"
    path.write_text(json.dumps("tea") + "\n")
    with pytest.raises(ValueError, match="basket 0 is 'tea'"):
        read_baskets(path)
