"""Translations of gettext's .po files: what is translated, and into what, without the markup of documentation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

_STRING = re.compile(r'(?:(msgctxt|msgid_plural|msgid|msgstr)(?:\[\d+\])?\s+)?(".*")\s*')
_MARKUP = (  # :role:`text <target>`, ``text``, `text <address>`_, *text*
    (
        re.compile(r":[A-Za-z:+-]+:`!?~?(?:[^`<]*\.(?=[^`<.]+`))?([^`<]*?)\s*(?:<[^`]*>)?`"),
        r"\1",
    ),  # :role:`text <target>`
    (re.compile(r"``([^`]*)``"), r"\1"),
    (re.compile(r"`([^`<]*?)\s*(?:<[^`]*>)?`__?"), r"\1"),
    (re.compile(r"(\*\*?)(?=\S)([^*]*?)(?<=\S)\1"), r"\2"),
    (re.compile(r"::(?=\s*$)"), ":"),
)


def translations(content: str, where: str) -> Iterator[tuple[str, str]]:
    r"""Each translated text and its translation; those marked fuzzy are not translated.

    Args:
        content: of a .po file.
        where: its name in messages.

    Raises:
        ValueError: At the first line that is none of such a file.

    >>> list(translations('msgid "See :pep:`8`."\nmsgstr "参见 :pep:`8`。"', "a.po"))
    [('See 8.', '参见 8。')]
    """
    for number, entry in _entries(content):
        strings = {"msgid": "", "msgstr": ""}
        key = ""
        for at, line in enumerate(entry, number):
            if line.startswith("#"):
                continue
            found = _STRING.fullmatch(line)
            key = (found[1] or key) if found else ""
            if not found or not key:
                raise ValueError(f"{where}: line {at} is no line of a .po file; give one as gettext writes it")
            strings[key] = strings.get(key, "") + _unquoted(found[2], where, at)
        is_fuzzy = any(line.startswith("#,") and "fuzzy" in line for line in entry)
        if strings["msgid"] and strings["msgstr"] and not is_fuzzy:
            yield _plain(strings["msgid"]), _plain(strings["msgstr"])


def _entries(content: str) -> Iterator[tuple[int, list[str]]]:
    """Lines between blank ones, with the number of the first."""
    entry: list[str] = []
    for number, line in enumerate([*content.splitlines(), ""], 1):
        if line.strip():
            entry.append(line)
        elif entry:
            yield number - len(entry), entry
            entry = []


def _unquoted(string: str, where: str, number: int) -> str:
    try:
        return str(ast.literal_eval(string))
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{where}: line {number}: {string} is no string; mend its quotes") from error


def _plain(text: str) -> str:
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return text.replace("\\ ", "").replace("\\", "").strip()
