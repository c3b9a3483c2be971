"""Texts by name: Python's own documentation, in English without a download and in Chinese, and sets on the Hub."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mining.corpus import Policy
from mining.po import translations
from mining.texts import CHUNK, read

NAMES = ("pydoc", "pydoc_zh")
HUB = "hub:"

# The Chinese translation of Python 3.11's documentation (translation CC0, originals PSF), at one commit of
# github.com/python/python-docs-zh-cn.
COMMIT = "40e2bdd28fda1d2e93bf8a04ef21fcf7b80a78b3"
ADDRESS = f"https://raw.githubusercontent.com/python/python-docs-zh-cn/{COMMIT}"
DIGEST = "bb9000415215990e415308c98dc2416ffb3064748e2d54a7faa2ffd4c1117c2b"  # of its files, one behind the other
PAGES = {
    "faq": "design extending general gui index installed library programming windows",
    "howto": "annotations argparse clinic cporting curses descriptor enum functional gdb_helpers index "
    "instrumentation ipaddress isolating-extensions logging logging-cookbook pyporting regex sockets "
    "sorting unicode urllib2",
    "reference": "compound_stmts datamodel executionmodel expressions grammar import index introduction "
    "lexical_analysis simple_stmts toplevel_components",
    "tutorial": "appendix appetite classes controlflow datastructures errors floatingpoint index inputoutput "
    "interactive interpreter introduction modules stdlib stdlib2 venv whatnow",
}
SECONDS = 30.0


def open_texts(
    names: Sequence[str], *, encoding: str | None = None, field: str | None = None, chunk: int = CHUNK
) -> Iterator[str]:
    """Texts of sources by name and of paths.

    Args:
        names: "pydoc": English without its spaces; "pydoc_zh"; "hub:OWNER/NAME"; or a path as `texts.read` takes it.
        encoding: of files.
        field: key or column of the text, in files and on the Hub.
        chunk: bytes that are read in one go.
    """
    for name in names:
        if name == "pydoc":
            yield "\n".join(map("".join, pydoc_words()))
        elif name == "pydoc_zh":
            yield "\n".join(chinese for _, chinese in pydoc_zh())
        elif name.startswith(HUB):
            from mining.frames import hub_texts

            yield from hub_texts(name.removeprefix(HUB), field or "text")
        else:
            yield from read(name, encoding=encoding, field=field, chunk=chunk)


@dataclass(frozen=True)
class Sources:
    """Texts of sources, opened again each time they are gone through.

    Args:
        names: as `open_texts` takes them.
        encoding: of files.
        field: key or column of the text.
    """

    names: tuple[str, ...]
    encoding: str | None = None
    field: str | None = None

    def __iter__(self) -> Iterator[str]:
        return open_texts(self.names, encoding=self.encoding, field=self.field)


def named(name: str) -> str:
    """The name of a source, or of a path that exists.

    Raises:
        ValueError: Neither; as for a text.
    """
    try:
        if name in NAMES or name.startswith(HUB) or Path(name).expanduser().exists():
            return name
    except (OSError, ValueError):  # too long for a path, or with a NUL
        pass
    raise ValueError(
        f"{name[:40]!r}: no such file; give a path, {', '.join(NAMES)}, {HUB}OWNER/NAME, or a list of texts"
    )


def policy_of(names: Sequence[str]) -> Policy:
    """What units suit them: letters where spaces are removed."""
    return Policy(latin="each") if "pydoc" in names else Policy()


def pydoc_words() -> list[list[str]]:
    """Segments of the English text that Python's help is, as words in lower case: what a segmenter has to find.

    All but letters and spaces ends a segment, and so does a blank line. Segments of one letter are left out: there is
    nothing to find in them.
    """
    from pydoc_data.topics import topics  # 0.7 MB

    text = "\n\n".join(topics[name] for name in sorted(topics)).lower()
    segments = (part.split() for part in re.split(r"[^a-z\s]|\n\s*\n", text))
    return [words for words in segments if sum(map(len, words)) > 1]


def pydoc_zh(folder: Path | str | None = None, address: str = ADDRESS) -> list[tuple[str, str]]:
    """Paragraphs of Python's documentation in English, and their Chinese translation.

    Args:
        folder: holds its .po files, which are downloaded if it does not; None = in the user's cache.
        address: where from.

    Raises:
        ValueError: No network, or files that are not those of `DIGEST`.
    """
    home = Path(folder).expanduser() if folder else _cache() / f"pydoc_zh-{COMMIT[:12]}"
    pages = [f"{part}/{page}.po" for part, names in PAGES.items() for page in names.split()]
    for page in pages:
        if not (home / page).exists():
            _download(f"{address}/{page}", home / page)
    contents = [(home / page).read_bytes() for page in pages]
    digest = hashlib.sha256(b"".join(contents)).hexdigest()
    if digest != DIGEST:
        raise ValueError(f"{home}: holds other files than those of commit {COMMIT[:12]}; delete it and run this again")
    parts = zip(pages, contents, strict=True)
    return [pair for page, content in parts for pair in translations(content.decode(), str(home / page))]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "taolu"


def _download(address: str, path: Path) -> None:
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as response:  # noqa: S310 (a constant, https)
            content = response.read()
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f"half-{path.name}")
        half.write_bytes(content)
        half.replace(path)
    except (OSError, urllib.error.URLError) as error:
        raise ValueError(
            f"{address}: cannot be had ({getattr(error, 'reason', error)}); where there is a network run this"
            f" once and copy {path.parents[1]}, or give Chinese texts by path"
        ) from error
