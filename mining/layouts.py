"""How a file of baskets is laid out: what the user says of it, completed by what its first lines look like."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Form = Literal["baskets", "long", "onehot"]
FORMS = ("baskets", "long", "onehot")
DELIMITERS = {"tab": "\t", "comma": ",", "semicolon": ";", "bar": "|", "space": " "}
YES = {"1", "1.0", "true", "t", "yes", "y", "x", "√", "是"}
NO = {"0", "0.0", "false", "f", "no", "n", "", "?", "否"}
_TITLES = {
    "transaction": r"trans|order|invoice|basket|ticket|receipt|session|customer|member|user|visit|bill|cart|^t?id$|"
    r"交易|订单|单号|购物|小票|会员|客户|顾客|用户",
    "item": r"item|product|article|sku|descr|name|good|stock|commodity|商品|物品|产品|品名|项",
}


@dataclass(frozen=True)
class Layout:
    """How a file is to be read; None is looked for.

    Args:
        form: `baskets`, a line each; `long`, a line an item, with the number of its basket; `onehot`, a column an item.
        delimiter: between the cells of a line; a space stands for any white space.
        encoding: of the text, by a name Python knows.
        header: whether the first line holds titles.
        quotes: whether cells may stand in double quotes.
        transaction: title, or number from 1, of the column that says which basket.
        item: of the column, or JSON key, that holds the item or items.
    """

    form: Form | None = None
    delimiter: str | None = None
    encoding: str | None = None
    header: bool | None = None
    quotes: bool | None = None
    transaction: str | None = None
    item: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for what no file can be read by."""
        if self.form not in (None, *FORMS):
            raise ValueError(f"form = {self.form!r}: must be one of {', '.join(FORMS)}")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ValueError(f"delimiter = {self.delimiter!r}: must be one character; a space stands for white space")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise ValueError(
                    f"encoding = {self.encoding!r}: unknown; utf-8, gb18030, utf-16, latin-1, ..."
                ) from None

    def said(self) -> str:
        """What was found, in words."""
        words = {"baskets": "a basket a line", "long": "an item a line", "onehot": "a column an item", None: "baskets"}
        parts = [words[self.form]]
        if self.form == "long":
            parts.append(f"baskets by {self.transaction}, items in {self.item}")
        elif self.item:
            parts.append(f"items in {self.item}")
        if self.delimiter:
            parts.append(f"cells by {next((k for k, v in DELIMITERS.items() if v == self.delimiter), self.delimiter)}")
        parts += [self.encoding] if self.encoding else []
        parts += ["first line as titles"] if self.header else []
        return ", ".join(parts)


def completed(layout: Layout, sample: list[list[str]], path: Path) -> Layout:
    """The layout with form, header and columns, from the first lines."""
    if layout.transaction is not None and layout.item is None and layout.form != "onehot":
        raise ValueError(f"{path}: --transaction {layout.transaction} without --item; name both columns")
    if layout.item is not None and layout.transaction is None:
        raise ValueError(f"{path}: --item {layout.item} without --transaction; name both columns")
    first = sample[0] if sample else []
    if layout.form is None and layout.transaction is not None:
        layout = replace(layout, form="long")
    if layout.form is None and layout.header is not False and _is_onehot(sample):
        layout = replace(layout, form="onehot")
    if layout.form is None and layout.header is not False and (columns := _pair(sample)):
        layout = replace(layout, form="long", transaction=columns[0], item=columns[1], header=True)
    if layout.form == "long" and layout.item is None:
        columns = _pair(sample) if layout.header is not False else None
        layout = replace(layout, transaction=(columns or ("1", "2"))[0], item=(columns or ("1", "2"))[1])
    if layout.header is None:
        named = layout.form == "long" and bool({layout.transaction, layout.item} & {*first})
        titled = layout.form == "onehot" and not {word.lower() for word in first} <= YES | NO
        numbered = len(first) > 1 and all(re.fullmatch(r"(items?|products?|商品)[ _]?\d*", w.lower()) for w in first)
        layout = replace(layout, header=bool(named or titled or (layout.form is None and numbered)))
    return replace(layout, form=layout.form or "baskets")


def _is_onehot(sample: list[list[str]]) -> bool:
    """Whether titles stand above yes and no alone."""
    if len(sample) < 2 or len(sample[0]) < 2:
        return False
    cells = {word.lower() for row in sample[1:] for word in row}
    width = {len(row) for row in sample}
    return (
        cells <= YES | NO and bool(cells & YES) and not {w.lower() for w in sample[0]} <= YES | NO and len(width) == 1
    )


def _pair(sample: list[list[str]]) -> tuple[str, str] | None:
    """Titles of the basket's and the item's column, where there are two columns and a line of titles above them."""
    if len(sample) < 2 or {len(row) for row in sample} != {2}:
        return None
    titles = sample[0]
    if len({*titles}) < 2 or not all(titles) or any(title in column for title in titles for column in sample[1:]):
        return None
    for at in (0, 1):
        if all(re.search(_TITLES[kind], titles[at ^ other].lower()) for other, kind in enumerate(_TITLES)):
            return titles[at], titles[at ^ 1]
    is_number = [all(re.fullmatch(r"[-+]?\d+(\.\d+)?", row[at]) for row in sample[1:]) for at in (0, 1)]
    return (titles[0], titles[1]) if is_number == [True, False] and not titles[0].isdecimal() else None


def place(titles: Sequence[str], name: str | None, path: Path) -> int:
    """Number of the column, from 0."""
    names = [title.strip() for title in titles]
    if name in names:
        return names.index(name)
    if name is not None and name.isdecimal() and int(name) > 0:
        return int(name) - 1
    raise ValueError(f"{path}: no column {name!r}; there are {', '.join(names) or 'no titles: give numbers from 1'}")
