"""Baskets of files: text of any usual form and encoding, JSON lines, spreadsheets, Parquet.

What is not said about a file is looked for in its first lines, and `Layout.said` tells what was found.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import re
import zlib
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, cast

import numpy as np

from mining.baskets import Baskets
from mining.encodings import encoding_of
from mining.layouts import NO, YES, Layout, completed, place
from mining.stdlib import stdlib_baskets
from mining.xlsx import xlsx_rows

SAMPLE = 1000  # lines looked at
PIECE = 1 << 20


def read_baskets(path: Path | str, layout: Layout | None = None) -> tuple[Baskets, Layout]:
    """The baskets of a file, and how it was read.

    Args:
        path: .xlsx, .parquet, .feather, .jsonl (lists, or objects), else text: with commas, tabs, ..., or FIMI's .dat;
            .gz on top of any text.
        layout: what is known of it.

    Raises ValueError in one line: for a file that is not there, or cannot be read so.
    """
    source = _Source(_existing(path), layout or Layout())
    return source.baskets(), source.layout


def baskets_of(source: Any) -> Baskets:
    """The baskets of a file (a path, or its name), of "stdlib", or of whatever `Baskets.of` reads."""
    if isinstance(source, Baskets):
        return source
    if not isinstance(source, (str, Path)):
        return Baskets.of(source)
    return stdlib_baskets() if source == "stdlib" else read_baskets(source)[0]


def basket_chunks(path: Path | str, size: int, layout: Layout | None = None) -> Iterator[Baskets]:
    """The baskets of a file, so many at a time; files with a basket a line are never held as a whole."""
    yield from _Source(_existing(path), layout or Layout()).chunks(size)


def _existing(path: Path | str) -> Path:
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; give a file of baskets")
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    return path


class _Source:
    """One file, looked at: `layout` is complete for text."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path, self.layout = path, layout
        self.suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
        if self.suffix in (".parquet", ".feather", ".arrow"):
            self._kind = "table"
        elif self.suffix in (".jsonl", ".ndjson"):
            self._kind = "json"
            self.layout = self._with_encoding()
        else:
            self._kind = "text"
            self.layout = self._looked_at()

    def baskets(self) -> Baskets:
        """All of them."""
        if self._kind == "table":
            from mining.frames import table_file

            made, found = table_file(self.path, self.layout.transaction, self.layout.item, self.layout.form)
            self.layout = replace(self.layout, form=found)
            return made
        if self._kind == "json":
            return self._json_baskets()
        form, rows = self.layout.form, self._rows()
        if form == "long":
            return self._long(rows)
        return self._onehot(rows) if form == "onehot" else tidy(Baskets.of(rows))

    def chunks(self, size: int) -> Iterator[Baskets]:
        """Some at a time."""
        if self._kind == "text" and self.layout.form == "baskets":
            rows = self._rows()
            while some := list(itertools.islice(rows, size)):
                yield tidy(Baskets.of(some))
            return
        whole = self.baskets()
        for first in range(0, len(whole), size):
            ends = whole.indptr[first : first + size + 1]
            yield Baskets(whole.items, ends - ends[0], whole.indices[ends[0] : ends[-1]], Counter())

    # -- text -------------------------------------------------------------------------------------------------

    def _open(self, encoding: str) -> IO[str]:
        opened = gzip.open if self.path.suffix == ".gz" else Path.open
        return cast("IO[str]", opened(self.path, "rt", encoding=encoding))  # newlines of any system become \n

    def _with_encoding(self) -> Layout:
        """The layout with an encoding the whole file is valid in."""
        if self.suffix == ".xlsx":
            return self.layout
        name = self.layout.encoding
        try:
            with gzip.open(self.path) if self.path.suffix == ".gz" else self.path.open("rb") as stream:
                name = name or encoding_of(cast("BinaryIO", stream), str(self.path))
            with self._open(name) as text:
                while text.read(PIECE):
                    pass
        except UnicodeDecodeError as error:
            found = f"byte {error.object[error.start]:#04x}"
            raise ValueError(
                f"{self.path}: {found} is not {name}; name the encoding, as in --encoding latin-1"
            ) from error
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{self.path}: {error}; it is damaged, or not packed: then leave out .gz") from error
        return replace(self.layout, encoding=name)

    def _lines(self) -> Iterator[list[str]]:
        """The cells of each line, as they are; lines that are empty have none, and there are none at the end."""
        rows = xlsx_rows(self.path) if self.suffix == ".xlsx" else self._text_lines()
        empty = 0
        for row in rows:
            if not any(row):
                empty += 1
                continue
            yield from ([] for _ in range(empty))
            empty = 0
            yield row

    def _text_lines(self) -> Iterator[list[str]]:
        layout = self.layout
        assert layout.encoding is not None
        with self._open(layout.encoding) as file:
            if layout.delimiter == " ":
                yield from map(str.split, file)
                return
            mark = '"' if layout.quotes else None
            quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if layout.quotes else csv.QUOTE_NONE
            reader = csv.reader(
                file,
                delimiter=layout.delimiter or ",",
                quotechar=mark,
                quoting=quoting,
                strict=True,
                skipinitialspace=True,
            )
            try:
                yield from reader
            except csv.Error as error:
                hint = "close the quote, or say --quotes no"
                raise ValueError(f"{self.path}: line {reader.line_num}: {error}; {hint}") from error

    def _rows(self) -> Iterator[list[str]]:
        """Lines without the titles."""
        return itertools.islice(self._lines(), 1 if self.layout.header else 0, None)

    def _looked_at(self) -> Layout:
        """The layout, completed by what the first lines look like."""
        self.layout = self._with_encoding()
        if self.suffix != ".xlsx":
            delimiter = self.layout.delimiter or self._delimiter()
            self.layout = replace(self.layout, delimiter=delimiter, quotes=self._quotes(delimiter))
        sample = [[cell.strip() for cell in row] for row in itertools.islice(self._lines(), SAMPLE)]
        return completed(self.layout, [row for row in sample if row], self.path)

    def _delimiter(self) -> str:
        """The one that stands in most lines, outside of quotes; white space only where there is no other."""
        assert self.layout.encoding is not None
        with self._open(self.layout.encoding) as file:
            lines = [re.sub(r'"[^"]*"', "", line.strip("\n")) for line in itertools.islice(file, SAMPLE)]
        counts = {mark: sum(mark in line for line in lines) for mark in "\t,;|"}
        best = max(counts, key=lambda mark: counts[mark])
        return best if counts[best] else " "

    def _quotes(self, delimiter: str) -> bool:
        """Whether the first lines can be read as quoted cells."""
        if self.layout.quotes is not None or delimiter == " ":
            return bool(self.layout.quotes)
        assert self.layout.encoding is not None
        with self._open(self.layout.encoding) as file:
            lines = list(itertools.islice(file, SAMPLE))
        try:
            list(csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True))
        except csv.Error as error:
            # a quote that closes after the sample is no mistake
            return "unexpected end of data" in str(error) and len(lines) == SAMPLE
        return True

    def _long(self, rows: Iterable[list[str]]) -> Baskets:
        """Items by the basket they name."""
        titles = next(self._lines(), []) if self.layout.header else []
        at = [place(titles, name, self.path) for name in (self.layout.transaction, self.layout.item)]
        table = [row for row in rows if row]
        short = next((number for number, row in enumerate(table) if len(row) <= max(at)), None)
        if short is not None:
            raise ValueError(
                f"{self.path}: row {short + 1 + bool(titles)} has {len(table[short])} cells; wanted {max(at) + 1}"
            )
        return long_baskets(*([row[place].strip() or None for row in table] for place in at))

    def _onehot(self, rows: Iterable[list[str]]) -> Baskets:
        """The titles of the columns that say yes."""
        titles = [title.strip() for title in next(self._lines(), [])] if self.layout.header else []
        left_out = {place(titles, self.layout.transaction, self.path)} if self.layout.transaction else set()
        made: list[list[Hashable]] = []
        for number, row in enumerate(rows, 1):
            words = [cell.strip().lower() for cell in row]
            for at, word in enumerate(words):
                if word not in YES and word not in NO and at not in left_out:
                    where = f"row {number}, column {titles[at] if at < len(titles) else at + 1}"
                    raise ValueError(
                        f"{self.path}: {where} is {row[at]!r}; a one-hot table holds 0 and 1, or yes and no"
                    )
            names: Sequence[Hashable] = titles or range(1, len(row) + 1)
            made.append([names[at] for at, word in enumerate(words) if word in YES and at not in left_out])
        return Baskets.of(made)

    # -- JSON -------------------------------------------------------------------------------------------------

    def _json_baskets(self) -> Baskets:
        layout = self.layout
        rows = list(self._json_rows())
        if rows and isinstance(rows[0], dict) and layout.item is None:
            lists = [key for key, value in rows[0].items() if isinstance(value, list)]
            if len(lists) != 1:
                raise ValueError(f"{self.path}: which key holds the items? one of {', '.join(rows[0])}, by --item KEY")
            layout = self.layout = replace(layout, item=lists[0])
        if layout.transaction is not None:
            pairs = [
                [self._value(row, key, at) for key in (layout.transaction, layout.item)] for at, row in enumerate(rows)
            ]
            self.layout = replace(layout, form="long")
            return long_baskets([t for t, _ in pairs], [item for _, item in pairs])
        if layout.item is not None:
            rows = [self._value(row, layout.item, at) for at, row in enumerate(rows)]
        self.layout = replace(layout, form="baskets")
        return Baskets.of(cast("list[list[Hashable]]", rows))

    def _json_rows(self) -> Iterator[object]:
        assert self.layout.encoding is not None
        with self._open(self.layout.encoding) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        yield json.loads(line)
                    except ValueError as error:
                        raise ValueError(f"{self.path}: line {number} is no JSON ({error}); a list a line") from error

    def _value(self, row: object, key: str | None, at: int) -> object:
        if not isinstance(row, dict) or key not in row:
            raise ValueError(f"{self.path}: row {at + 1} has no {key}; give --item KEY, and --transaction KEY")
        return row[key]


def long_baskets(transactions: Sequence[object], items: Sequence[object]) -> Baskets:
    """Baskets of pairs, in the order in which their numbers first appear; pairs without a number are left out.

    >>> len(long_baskets([7, 8, 7], ["tea", "tea", "milk"]))
    2
    """
    if len(transactions) != len(items):
        raise ValueError(f"{len(transactions)} transactions and {len(items)} items: a pair each is needed")
    numbers: dict[Hashable, int] = {}
    known = [numbers.setdefault(t, len(numbers)) if t is not None and t == t else -1 for t in transactions]
    rows = np.array(known, np.int64)
    order = np.argsort(rows, kind="stable")[int((rows < 0).sum()) :]
    ends = np.cumsum(np.bincount(rows[order], minlength=len(numbers))).tolist() if len(order) else []
    taken = [items[at] for at in order.tolist()]
    starts = [0, *ends[:-1]]
    made = Baskets.of([taken[start:end] for start, end in zip(starts, ends, strict=True)] if ends else [])
    if len(order) < len(rows):
        made.notes["without a basket"] = len(rows) - len(order)
    return made


def tidy(baskets: Baskets) -> Baskets:
    """The baskets with white space around items cut off; items of nothing else are missing.

    >>> tidy(Baskets.of([[" tea", "tea", ""]])).notes
    Counter({'missing': 1, 'duplicates': 1})
    """
    names = [item.strip() if isinstance(item, str) else item for item in baskets.items]
    if names == [*baskets.items] and "" not in names:
        return baskets
    ids: dict[Hashable, int] = {}
    new = np.array([ids.setdefault(name, len(ids)) for name in names], np.int64)
    items = [None if name == "" else name for name in ids]
    made = Baskets._from_ids(items, np.diff(baskets.indptr), new.take(baskets.indices))
    notes = baskets.notes + made.notes
    return replace(made, notes=Counter(notes | {"empty": made.notes["empty"]}) if notes["empty"] else notes)
