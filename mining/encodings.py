"""Bytes as text: UTF-8, UTF-16 and GB18030 are told apart, other encodings are named."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

SAMPLE = 1 << 16  # bytes from the first that is not ASCII on, by which an encoding is told
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WIDE = ("utf-16-le", "utf-16-be")  # without a mark
COMMON = 0.8  # least share of GB2312's characters in what is taken for Chinese: nearly any bytes are some text


def decoded(stream: BinaryIO, where: str, encoding: str | None = None, chunk: int = 1 << 22) -> Iterator[str]:
    """The text of a stream, in chunks.

    Half a surrogate pair is passed on where the encoding can write one.

    Args:
        stream: read to its end.
        where: its name in messages.
        encoding: None = told from the bytes.
        chunk: bytes read in one go.

    Raises:
        ValueError: At the first byte that is not of the encoding; if none is given and none fits; if there is none
            of that name.
    """
    decoder = None if encoding is None else _decoder(encoding)
    place = 0
    while content := stream.read(chunk if decoder else max(chunk, SAMPLE)):
        if decoder is None:
            encoding, content = _looked_at(content, stream, where, place)
            decoder = _decoder(encoding) if encoding else None
        yield content.decode("ascii") if decoder is None else _decode(decoder, content, where, encoding, place)
        place += len(content)
    if decoder:
        yield _decode(decoder, b"", where, encoding, place)


def encoding_of(stream: BinaryIO, where: str) -> str:
    """The encoding of a stream by its beginning, up to a little after its first byte that is not ASCII.

    Raises:
        ValueError: None fits.

    >>> import io
    >>> encoding_of(io.BytesIO("面包,牛奶".encode("gb18030")), "food.csv")
    'gb18030'
    """
    place = 0
    while content := stream.read(SAMPLE):
        encoding, content = _looked_at(content, stream, where, place)
        if encoding:
            return encoding
        place += len(content)
    return "utf-8"


def _looked_at(content: bytes, stream: BinaryIO, where: str, place: int) -> tuple[str | None, bytes]:
    """The encoding, unless all of the content is ASCII, and the content with what was read to tell it."""
    special = re.search(rb"[^\x01-\x7f]", content)
    if special is None:
        return None, content
    if len(content) < special.start() + SAMPLE:
        content += stream.read(SAMPLE)
    return _told(content, special.start(), where, place), content


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    try:
        bytes(4).decode(encoding, "ignore")  # refuses those that are not of text, as base64
        return codecs.getincrementaldecoder(encoding)("surrogatepass" if _is_unicode(encoding) else "strict")
    except LookupError as error:
        raise ValueError(f"encoding = {encoding!r}: unknown; allowed: those of Python, as utf-8 or gb18030") from error


def _is_unicode(encoding: str) -> bool:
    return codecs.lookup(encoding).name.startswith("utf-") and "7" not in encoding


def _decode(decoder: codecs.IncrementalDecoder, content: bytes, where: str, encoding: str | None, place: int) -> str:
    place -= len(decoder.getstate()[0])
    try:
        return decoder.decode(content, final=not content)
    except UnicodeError as error:
        at = error.start if isinstance(error, UnicodeDecodeError) else 0
        raise ValueError(
            f"{where}: byte {place + at} is not {encoding}; name the file's encoding, as --encoding gb18030"
        ) from error


def _told(content: bytes, start: int, where: str, place: int) -> str:
    """The encoding of content, which is ASCII up to `start`."""
    sample = content[start : start + SAMPLE]
    if place == 0 and (mark := next((mark for mark in MARKS if content.startswith(mark)), None)):
        return MARKS[mark]
    wide = place == 0 and next((name for name in WIDE if _is_common(content[: start + SAMPLE], name)), None)
    if wide and 4 * content.count(0) > len(content):  # ASCII as UTF-16 would pass for UTF-8
        return wide
    if (bad := _first_bad(sample, "utf-8")) is None:
        return "utf-8"
    if _is_common(sample, "gb18030"):
        return "gb18030"
    if wide:
        return wide
    raise ValueError(
        f"{where}: byte {place + start + bad} is not UTF-8, and the file looks like neither GB18030 nor UTF-16; name"
        " its encoding, as --encoding big5"
    )


def _first_bad(sample: bytes, encoding: str) -> int | None:
    try:
        _decoder(encoding).decode(sample)
    except UnicodeDecodeError as error:
        return error.start
    return None


def _is_common(sample: bytes, encoding: str) -> bool:
    """Whether bytes are of the encoding, and most characters that are not ASCII then are of GB2312."""
    if _first_bad(sample, encoding) is not None:
        return False
    text = _decoder(encoding).decode(sample)
    n_ascii = sum("\0" < character < "\x80" for character in text)
    n_kept = len(text.encode("gb2312", "ignore").replace(b"\0", b""))
    return (n_kept - n_ascii) / 2 >= COMMON * (len(text) - n_ascii)
