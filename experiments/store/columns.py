"""The table of runs by the names a person knows its columns by: filtered, sorted, cut to a few of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from experiments.errors import ConfigError, did_you_mean

PREFIXES = ("tags.", "params.", "metrics.")  # a short name two of them share means the last
ALIASES = {"run": "run_id", "took": "seconds"}  # heads of the printed table
OBJECTIVE = "objective"  # of each run its own
WORDS = ("and", "or", "not", "in", "is", "True", "False", "None")
FUNCTIONS = ("abs", "sqrt", "exp", "log", "log10")
EXAMPLE = "\"val/elbo > -30 and status == 'FINISHED'\""
NAME = r"[^\W\d]\w*(?:[./]\w+)*"  # what needs no backticks
_TOKEN = re.compile(
    r"""(?P<text>'[^']*'|"[^"]*")|`(?P<quoted>[^`]*)`|(?P<number>\d[\w.]*(?:(?<=[eE])[+-]\d+)?)"""
    rf"""|(?P<name>{NAME})|(?P<refused>[@`;\\\n])"""
)


class FilterError(ConfigError):
    """A filter that cannot be used, with the characters that are at fault.

    Args:
        reason: what is wrong there, without the place.
        start: index of the first such character; None where the whole expression is at fault.
        end: index behind the last one.
    """

    def __init__(self, reason: str, start: int | None = None, end: int | None = None) -> None:
        where = "--filter" if start is None else f"--filter, at character {start + 1}"
        super().__init__(f"{where}: {reason}")
        self.reason = reason
        self.start = start
        self.end = end


@dataclass(frozen=True)
class Choice:
    """Which runs are shown, in which order, and what of each.

    Args:
        filter: an expression as pandas' query takes it; None = every run.
        sort: a column; with - in front the largest first; None = newest first.
        columns: names; empty = the usual ones.
    """

    filter: str | None = None
    sort: str | None = None
    columns: tuple[str, ...] = ()

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table's rows that are wanted, in order, with all their columns.

        Raises ConfigError for a name or expression that cannot be used.
        """
        columns = Columns(table)
        for name in self.columns:
            columns.find(name, "--columns")
        if self.filter is not None:
            table = table[columns.fulfil(self.filter)]
        if self.sort is not None:
            name = self.sort.removeprefix("-")
            keys = columns.series(name, "--sort").loc[table.index]
            order = keys.sort_values(ascending=name == self.sort, kind="stable", na_position="last").index
            table = table.loc[order]
        return table

    def cut(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table's chosen columns under the names they were asked for by; all of them where none was."""
        columns = Columns(table)
        return (
            pd.DataFrame({name: columns.series(name, "--columns") for name in self.columns}) if self.columns else table
        )


class Columns:
    """The columns of a table of runs by name: `val/elbo`, `optimizer.lr`, `status`, or in full `metrics.val/elbo`.

    Args:
        table: as `runs_table` returns it.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table
        names = [str(name) for name in table.columns]
        self.names: dict[str, str] = {}
        for prefix in PREFIXES:
            self.names |= {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
        self.names |= {name: name for name in names}
        self.names |= {alias: name for alias, name in ALIASES.items() if alias not in names}
        self.names.setdefault(OBJECTIVE, OBJECTIVE)

    def find(self, name: str, where: str) -> str:
        """The table's column of that name.

        Raises ConfigError, beginning with `where`, when there is none.
        """
        if name in self.names:
            return self.names[name]
        raise ConfigError(f"{where}: {self._unknown(name)}")

    def _unknown(self, name: str) -> str:
        few = [known for known in self.names if not known.startswith((*PREFIXES, "taolu."))]
        hint, more = did_you_mean(name, few) or did_you_mean(name, self.names), ", ..." if len(few) > 24 else ""
        return f"unknown column '{name}'{hint}; there are {', '.join(few[:24])}{more} (taolu runs --csv has them all)"

    def series(self, name: str, where: str) -> pd.Series[Any]:
        """The column of that name: numbers where every value is one, though parameters are stored as text."""
        column = self.find(name, where)
        if column == OBJECTIVE and OBJECTIVE not in self.table:
            return self._objectives()
        found = self.table[column]
        if not column.startswith(("params.", "tags.")):
            return found
        texts = found.mask(found == "null")
        numbers = pd.to_numeric(texts, errors="coerce")
        return numbers if len(found) and int(numbers.notna().sum()) == int(texts.notna().sum()) else found

    def _objectives(self) -> pd.Series[Any]:
        values = pd.Series(float("nan"), index=self.table.index, dtype=float)
        stated = self.table.get("tags.taolu.objective")
        if stated is None:
            return values
        for text in stated.dropna().unique():
            column = f"metrics.{str(text).rpartition(' ')[0]}"
            if column in self.table:
                values = values.mask(stated == text, self.table[column])
        return values

    # -- the filter ------------------------------------------------------------------------------------------------

    def fulfil(self, expression: str) -> pd.Series[bool]:
        """For every row whether the expression is true of it.

        Raises FilterError that points at what cannot be read.
        """
        used: dict[str, str] = {}
        pieces = list(self._pieces(expression, used))
        text = "".join(new for _, new in pieces)
        try:
            ast.parse(text.lstrip(), mode="eval")
        except SyntaxError as error:
            before = len(text) - len(text.lstrip())
            place = before + error.offset - 1 if error.offset else len(text)  # 0: it ends too early
            raise _unreadable(expression, pieces, place) from error
        frame = pd.DataFrame({short: _plain(self.series(name, "--filter")) for name, short in used.items()})
        try:
            found = frame.eval(text.strip(), engine="python") if used else None
        except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, NameError) as error:
            reason = " ".join(str(error).split())
            for name, short in used.items():
                reason = re.sub(rf"\b{short}\b", name, reason)
            raise FilterError(f"cannot be judged ({reason}); write it as in {EXAMPLE}") from error
        if not isinstance(found, pd.Series) or found.dtype != bool:
            raise FilterError(f"'{expression}' is not true or false of a run; write it as in {EXAMPLE}")
        return found

    def _pieces(self, expression: str, used: dict[str, str]) -> Iterator[tuple[int, str]]:
        """Place and text of the pieces of the expression, columns renamed to what pandas can read in any case."""
        end = 0
        for token in _TOKEN.finditer(expression):
            yield end, expression[end : token.start()]
            end = token.end()
            if token["refused"]:
                raise FilterError(f"'{token['refused']}' has no meaning here; write it as in {EXAMPLE}", *token.span())
            if token["quoted"] is not None:
                if token["quoted"] not in self.names:
                    raise FilterError(self._unknown(token["quoted"]), *token.span())
                yield token.start(), used.setdefault(token["quoted"], f"column_{len(used)}")
            elif token["name"] and token["name"] not in (*WORDS, *FUNCTIONS):
                cut = self._prefix(token["name"])
                if not cut:
                    raise FilterError(self._unknown(token["name"]), *token.span())
                short = used.setdefault(cut, f"column_{len(used)}")
                yield token.start(), short + token["name"][len(cut) :]  # a method too: name.str.contains('x')
            else:
                yield token.start(), token[0]
        yield end, expression[end:]

    def _prefix(self, name: str) -> str:
        """The longest beginning of a dotted name that is a column; empty where there is none."""
        ends = [match.start() for match in re.finditer(r"[./]|$", name)]
        return next((name[:end] for end in reversed(ends) if name[:end] in self.names), "")


def _plain(series: pd.Series[Any]) -> pd.Series[Any]:
    """Times without their zone, which is UTC: pandas compares only such with text."""
    return series.dt.tz_localize(None) if isinstance(series.dtype, pd.DatetimeTZDtype) else series


def _unreadable(expression: str, pieces: Sequence[tuple[int, str]], left: int) -> FilterError:
    """The error that points into the expression, for the place `left` in the text that the pieces make."""
    place = len(expression)
    for start, text in pieces:
        if left < len(text):
            place = start + (left if expression[start : start + len(text)] == text else 0)
            break
        left -= len(text)
    rest = expression[place:].split()
    found = f"'{rest[0]}'" if rest else "the end"
    hint = "; equality is ==" if rest and rest[0].startswith("=") else ""
    reason = f"{found} cannot be read{hint}; write it as in {EXAMPLE}"
    return FilterError(reason, place, place + (len(rest[0]) if rest else 1))
