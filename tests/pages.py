"""What a page in Markdown holds: fenced blocks, commands, headings, links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]


def blocks(page: Path, language: str = r"(?:sh|bat|python|yaml)") -> list[str]:
    """The fenced blocks in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    """The words after `taolu` of every command in the page's blocks."""
    lines = re.findall(r"""^(?:eval "\$\()?taolu (.*?)(?:\)")?$""", "".join(blocks(page, "sh")), flags=re.M)
    return [shlex.split(line, comments=True) for line in lines]


def headings(page: Path) -> list[tuple[str, str]]:
    """Signs and text of every heading."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.findall(r"^(#+) (.*)$", text, flags=re.M)


def links(page: Path) -> list[str]:
    """The targets of links and pictures."""
    return re.findall(r"""(?:\]\(|src=")([^)"]+)""", page.read_text(encoding="utf-8"))


def without_language(link: str) -> str:
    """The link, the same whichever language the page is in: no anchor, no `.zh`."""
    return link.partition("#")[0].replace(".zh.md", ".md")
