"""Texts of files: plain, JSON lines, Parquet or .po, compressed or not, alone or in folders, in pieces of any size."""

from __future__ import annotations

import difflib
import gzip
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from mining.corpus import pieces
from mining.encodings import decoded
from mining.po import translations

SUFFIXES = (".txt", ".jsonl", ".parquet", ".po")  # of the files of a folder that are read, and these with .gz
CHUNK = 1 << 22
STDIN = "-"

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def read(paths: Paths, *, encoding: str | None = None, field: str | None = None, chunk: int = CHUNK) -> Iterator[str]:
    """Texts, and pieces of long ones, cut where no unit notices.

    Args:
        paths: files, folders (all files with a suffix of `SUFFIXES` in them, in the order of their names), or "-" for
            standard input. A .po file gives its translations, a file of another suffix is read as text.
        encoding: of texts; None = found among UTF-8, UTF-16 and GB18030.
        field: key or column of the text in .jsonl and .parquet files; None = "text".
        chunk: bytes that are read in one go.

    Raises:
        ValueError: A path that is not there, or cannot be read; a folder without texts; bytes of another encoding; a
            row without text.
    """
    if chunk < 1:
        raise ValueError(f"chunk = {chunk}: must be at least 1 byte")
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        for file in [path] if path == STDIN else _files(Path(path).expanduser()):
            yield from _read(file, encoding, field or "text", chunk)


def files(paths: Paths) -> list[Path]:
    """The files that `read` would read, but for standard input."""
    listed = [paths] if isinstance(paths, str | os.PathLike) else paths
    return [file for path in listed if path != STDIN for file in _files(Path(path).expanduser())]


def _files(path: Path) -> list[Path]:
    if path.is_file() or path.is_fifo() or path.is_char_device():
        return [path]
    if not path.is_dir():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, siblings, n=1)
        hint = f" (did you mean '{path.with_name(close[0])}'?)" if close else ""
        raise ValueError(f"{path}: no such file or folder{hint}; give texts, {', '.join(SUFFIXES)}, .gz, or '-'")
    found = sorted(file for file in path.rglob("*") if file.is_file() and _kind(file) in SUFFIXES)
    if not found:
        raise ValueError(f"{path}: no {', '.join(SUFFIXES)} in this folder, nor with .gz; name its files one by one")
    return found


def _kind(path: Path) -> str:
    """The suffix, without that of compression."""
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def _read(path: Path | str, encoding: str | None, field: str, chunk: int) -> Iterator[str]:
    kind = _kind(Path(path))
    try:
        if kind == ".parquet":
            from mining.frames import text_column

            yield from text_column(Path(path), field)
            return
        with _opened(path) as stream:
            chunks = decoded(stream, str(path), encoding, chunk)
            if kind == ".jsonl":
                yield from _texts_of_rows(chunks, str(path), field)
            elif kind == ".po":
                yield "\n".join(translation for _, translation in translations("".join(chunks), str(path)))
            else:
                yield from pieces(chunks)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path}: cannot be read ({reason}); give another file, or yourself the right") from error


def _opened(path: Path | str) -> BinaryIO:
    if path == STDIN:
        return cast("BinaryIO", open(sys.stdin.fileno(), "rb", buffering=0, closefd=False))  # lines as they come
    return cast("BinaryIO", gzip.open(path)) if Path(path).suffix == ".gz" else Path(path).open("rb")


def _texts_of_rows(chunks: Iterable[str], where: str, field: str) -> Iterator[str]:
    for number, line in enumerate(_lines(chunks), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where}: line {number}: no JSON ({error}); each line must be one object") from error
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            found = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            raise ValueError(
                f"{where}: line {number}: no text '{field}'; found: {found or 'nothing'}; name it by --field"
            )
        yield row[field]


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    held: list[str] = []
    for chunk in chunks:
        first, *rest = chunk.split("\n")
        held.append(first)
        for line in rest:
            yield "".join(held)
            held = [line]
    yield "".join(held)
