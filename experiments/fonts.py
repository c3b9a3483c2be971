"""A font on this machine that has the letters of some words: pictures of Chinese words need one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

HOME = Path("~").expanduser()
FOLDERS = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    HOME / ".fonts",
    HOME / ".local/share/fonts",
    Path("/System/Library/Fonts"),
    Path("/Library/Fonts"),
    HOME / "Library/Fonts",
    Path("C:/Windows/Fonts"),
)
# Parts of file names, lower case; the first found is tried first.
NAMES = (
    *("notosanscjk", "notosanssc", "sourcehansans", "pingfang", "msyh", "hiragino sans gb", "stheiti", "heiti"),
    *("simhei", "deng", "wqy", "droidsansfallback", "unifont", "uming", "ukai", "notoserifcjk", "sourcehanserif"),
    *("simsun", "songti", "arial unicode", "arialuni", "dejavusans", "liberationsans", "arial"),
)
MOST_LETTERS = 2000  # looked at
HINT = "no installed font has the letters of the labels; pictures show numbers (install one, as fonts-noto-cjk)"


def font_for(texts: Iterable[str], folders: Sequence[Path] = FOLDERS) -> Path | None:
    """A font file with every letter of the texts, or None; plain ASCII needs none, so ask `needs_font` first."""
    letters = sorted({letter for text in texts for letter in text if not letter.isspace()})[:MOST_LETTERS]
    return next((file for file in _candidates(folders) if _has(file, letters)), None)


def needs_font(texts: Iterable[str]) -> bool:
    """Whether Pillow's own font lacks a letter of the texts."""
    return not all(text.isascii() for text in texts)


def _candidates(folders: Sequence[Path]) -> list[Path]:
    files = [file for folder in folders if folder.is_dir() for file in folder.rglob("*")]
    ranked = [
        (rank, "bold" in file.name.lower(), "italic" in file.name.lower(), file.as_posix(), file)
        for file in files
        if file.suffix.lower() in (".ttf", ".ttc", ".otf")
        for rank, name in enumerate(NAMES)
        if name in file.name.lower()
    ]
    return [row[-1] for row in sorted(ranked)]


def _has(file: Path, letters: Sequence[str]) -> bool:
    """Whether the font draws each letter otherwise than one it cannot know."""
    from PIL import ImageFont

    try:
        font = ImageFont.truetype(str(file), 24)
        unknown = bytes(font.getmask("\U0010fffe"))
        return all(bytes(font.getmask(letter)) != unknown for letter in letters)
    except OSError:  # no font, whatever its name
        return False
