"""The cells of the first sheet of an .xlsx file, read from its XML."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from xml.etree import ElementTree  # expat 2.4 and later refuse entities that blow up

SPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
ROWS_MOST, COLUMNS_MOST = 1_048_576, 16_384  # of the format


def xlsx_rows(path: Path) -> Iterator[list[str]]:
    """Each row of the sheet that comes first in the file, as texts; empty cells are empty texts, and empty rows empty.

    Raises ValueError where the file is none.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            names = packed.namelist()
            sheets = sorted((n for n in names if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", n)), key=_number)
            strings = _strings(packed) if "xl/sharedStrings.xml" in names else []
            with packed.open(sheets[0]) as sheet:
                yield from _rows(sheet, strings)
    except (zipfile.BadZipFile, KeyError, IndexError, ElementTree.ParseError) as error:
        raise ValueError(f"{path}: no .xlsx file ({error}); save the table as .xlsx or .csv") from error


def _number(name: str) -> int:
    return int(re.findall(r"\d+", name)[-1])


def _strings(packed: zipfile.ZipFile) -> list[str]:
    """The texts that cells name by number; phonetic hints beside Japanese ones are left out."""
    root = ElementTree.fromstring(packed.read("xl/sharedStrings.xml"))  # noqa: S314
    return [
        "".join(t.text or "" for t in (*one.findall(f"{SPACE}t"), *one.findall(f"{SPACE}r/{SPACE}t"))) for one in root
    ]


def _rows(sheet: IO[bytes], strings: list[str]) -> Iterator[list[str]]:
    expected = 1
    for _, row in ElementTree.iterparse(sheet):  # noqa: S314
        if row.tag != f"{SPACE}row":
            continue
        number = int(row.get("r", expected))
        if not expected <= number <= ROWS_MOST:
            raise KeyError(f"row {number}")
        yield from ([] for _ in range(number - expected))  # rows nothing was written in
        expected = number + 1
        cells: list[str] = []
        for cell in row.iter(f"{SPACE}c"):
            column = _column(cell.get("r", "")) if cell.get("r") else len(cells)
            cells += [""] * (column - len(cells))
            cells.append(_text(cell, strings))
        yield cells
        row.clear()


def _column(place: str) -> int:
    """0 for A7, 26 for AA1."""
    column = 0
    for letter in re.match(r"[A-Z]*", place)[0]:  # type: ignore[index]
        column = 26 * column + ord(letter) - 64
    if column > COLUMNS_MOST:
        raise KeyError(f"cell {place}")
    return column - 1


def _text(cell: ElementTree.Element, strings: list[str]) -> str:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        return "".join(t.text or "" for t in cell.iter(f"{SPACE}t"))
    value = cell.findtext(f"{SPACE}v") or ""
    if kind == "s" and value:
        return strings[int(value)]
    if kind == "b":
        return {"1": "true", "0": "false"}.get(value, value)
    return value.removesuffix(".0")
