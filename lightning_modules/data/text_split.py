"""Which part of a text validates, and what of it stands in the training part too."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from lightning_modules.data.text_sources import Piece

FEW_DOCUMENTS = 20  # fewer are not shared out whole: the end of the text validates
WINDOW = 50  # bytes that must be equal for a place to count as seen in training
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that powers of it stay distinct mod 2^64

Pieces = Callable[[], Iterator[Piece]]


def hold_out(pieces: Pieces, fraction: float, where: str, *, whole: bool = True) -> tuple[Pieces, Pieces]:
    """The training and the validation part of documents.

    Of `FEW_DOCUMENTS` or more, and of documents with labels or prompts, those with the smallest hashes validate: equal
    ones stand on one side, and the order does not matter. Of fewer, the end of the text does.

    Args:
        pieces: Reads the documents; called once here, and once by each part each time it is read.
        fraction: Share that validates, of the documents or of the characters.
        where: What to call the text in a message.
        whole: Whether many documents are shared out whole; False = the end of the text validates in any case.

    Raises:
        ValueError: No text, or documents that are all equal.
    """
    hashes, n_characters, is_whole = _survey(pieces())
    if not n_characters:
        raise ValueError(f"{where}: holds no text; give a file with some")
    if not whole or len(hashes) < (2 if is_whole else FEW_DOCUMENTS):
        cut = n_characters - max(1, round(n_characters * fraction))
        return (lambda: _up_to(pieces(), cut)), (lambda: _from(pieces(), cut))
    n_held_out = min(len(hashes) - 1, max(1, round(len(hashes) * fraction)))
    is_held_out = hashes <= np.partition(hashes, n_held_out - 1)[n_held_out - 1]
    if is_held_out.all():
        raise ValueError(f"{where}: its {len(hashes)} documents are all the same; give others, or a validation file")
    return (lambda: _documents(pieces(), ~is_held_out)), (lambda: _documents(pieces(), is_held_out))


def without_shared_blocks(train: Iterable[Piece], validation: Iterable[Piece]) -> Iterator[Piece]:
    """The training part without its paragraphs of at least `WINDOW` bytes that stand in the validation part too.

    Args:
        train: Paragraphs are set apart by blank lines.
        validation: Fits into memory.
    """
    held_out = "\n\n".join(piece.text for piece in validation)
    for piece in train:
        blocks = re.split(r"(\n\s*\n)", piece.text)  # paragraph, blank lines, paragraph, ...
        kept = [
            block + gap
            for block, gap in zip(blocks[::2], [*blocks[1::2], ""], strict=True)
            if len(block.encode()) < WINDOW or block not in held_out
        ]
        if kept:
            yield piece._replace(text="".join(kept))


def is_clean(train: Iterable[Piece], validation: Iterable[Piece]) -> npt.NDArray[np.bool_]:
    """For each byte of the validation part, whether no window of `WINDOW` bytes over it stands in the training part.

    Windows lie within a document, of the validation part within a piece; they are compared by a 64-bit hash.

    Args:
        train: Read piece by piece.
        validation: Its hashes, 8 bytes a byte of text, fit into memory.

    Returns:
        (n,), one after the other for all documents.
    """
    documents = [content for content, _ in _contents(validation)]
    hashes = [_window_hashes(content) for content in documents]
    wanted = np.unique(np.concatenate([*hashes, np.empty(0, np.uint64)]))
    seen = np.zeros(len(wanted), bool)
    before = b""
    for content, is_first in _contents(train):
        joined = content if is_first else before + content
        seen |= np.isin(wanted, _window_hashes(joined))
        before = joined[-(WINDOW - 1) :]
    found = []
    for content, windows in zip(documents, hashes, strict=True):
        edges = np.zeros(len(content) + 1, np.int64)  # +1 where a shared window begins, -1 behind its end
        begins = np.flatnonzero(seen[np.searchsorted(wanted, windows)]) if len(windows) else np.empty(0, np.int64)
        edges[begins] += 1
        edges[begins + WINDOW] -= 1
        found.append(edges[:-1].cumsum() == 0)
    return np.concatenate([*found, np.empty(0, bool)])


def _contents(pieces: Iterable[Piece]) -> Iterator[tuple[bytes, bool]]:
    return (((piece.prompt + piece.text).encode(), piece.is_first) for piece in pieces)


def _window_hashes(content: bytes) -> npt.NDArray[np.uint64]:
    """sum_j b[i + j] M^j mod 2^64 of every window, by doubling: hash(2 n) = hash(n) + M^n hash(n), n further on."""
    if len(content) < WINDOW:
        return np.empty(0, np.uint64)
    n_windows = len(content) - WINDOW + 1
    power, doubled = MULTIPLIER, np.frombuffer(content, np.uint8).astype(np.uint64) + np.uint64(1)
    total, done, width = np.zeros(n_windows, np.uint64), 0, 1
    scale = np.uint64(1)  # M^done
    with np.errstate(over="ignore"):
        while done < WINDOW:
            if WINDOW & width:
                total += scale * doubled[done : done + n_windows]
                scale, done = scale * power, done + width
            doubled = doubled[:-width] + power * doubled[width:]
            power, width = power * power, 2 * width
    return total


def _survey(pieces: Iterable[Piece]) -> tuple[npt.NDArray[np.uint64], int, bool]:
    """The hash of each document, the characters of all, and whether they are too much of one piece to be cut."""
    hashes: list[int] = []
    n_characters, is_whole = 0, False
    running = hashlib.blake2b(digest_size=8)
    for number, piece in enumerate(pieces):
        if piece.is_first and number:
            hashes.append(int.from_bytes(running.digest(), "big"))
            running = hashlib.blake2b(digest_size=8)
        running.update((piece.prompt + piece.text).encode())
        n_characters += len(piece.text)
        is_whole = is_whole or bool(piece.prompt) or piece.label is not None
    if n_characters:
        hashes.append(int.from_bytes(running.digest(), "big"))
    return np.array(hashes, np.uint64), n_characters, is_whole


def _documents(pieces: Iterable[Piece], chosen: npt.NDArray[np.bool_]) -> Iterator[Piece]:
    number = -1
    for piece in pieces:
        number += piece.is_first
        if chosen[number]:
            yield piece


def _up_to(pieces: Iterable[Piece], cut: int) -> Iterator[Piece]:
    for piece in pieces:
        if cut <= 0:
            return
        yield piece._replace(text=piece.text[:cut])
        cut -= len(piece.text)


def _from(pieces: Iterable[Piece], cut: int) -> Iterator[Piece]:
    is_cut = False
    for piece in pieces:
        if cut < len(piece.text):
            is_cut, was_cut = True, is_cut
            yield piece._replace(text=piece.text[max(0, cut) :], is_first=piece.is_first or not was_cut)
        cut -= len(piece.text)
