"""Texts as blocks of units on a shelf, each as large as memory allows."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from mining.corpus import Policy, Units, pieces, units
from mining.runs import Rows
from mining.spill import Shelf, put

Progress = Callable[[str, int, int], None]
Texts = str | Units | Iterable[str | Units]

CHARACTERS = 1 << 20  # of a text that are cut into units in one go


class Facts(NamedTuple):
    """What a text comes to."""

    n_units: int
    n_segments: int
    n_blocks: int


class Block(NamedTuple):
    """Some of a text as codes with a 0 behind each segment, and the batches of text it was made of."""

    codes: Rows
    n_batches: int
    checksum: int


def write_blocks(shelf: Shelf, texts: Texts, policy: Policy, size: int | None, progress: Progress) -> Facts:
    """Puts `block-<number>` on the shelf: `codes`, which of them are `distinct`, and the `counts` of these.

    If all blocks are there, the texts are not read. If some are, their texts are read, and not cut again.

    Args:
        shelf: where to.
        texts: read once.
        policy: of the units.
        size: units after which a block ends; None = never.
        progress: called with the characters read.
    """
    if not shelf.has("facts"):
        totals = np.zeros(3, np.int64)
        watched = _watched(batched(texts, min(size or CHARACTERS, CHARACTERS)), progress)
        while (known := _write_block(shelf, int(totals[2]), watched, policy, size)) is not None:
            totals += known
        put(shelf, "facts", totals=totals)
    return Facts(*shelf.read("facts")["totals"][:].tolist())


def edged(found: Units) -> Rows:
    """(n_units + n_segments,) codes with a 0 behind each segment."""
    n_segments = len(found.starts) - 1
    codes = np.zeros(len(found) + n_segments, np.int32)
    is_unit = np.ones(len(codes), bool)
    is_unit[found.starts[1:] + np.arange(n_segments)] = False
    codes[is_unit] = found.codes
    return codes


def batched(texts: Texts, n_characters: int = CHARACTERS) -> Iterator[str | Units]:
    """The texts, short ones joined and long ones parted; the same ones whenever the texts are.

    Args:
        texts: no segment crosses the end of one.
        n_characters: about so many in a batch.

    Raises:
        ValueError: A text that is no string.
    """
    held: list[str] = []
    n_held = 0
    for at, text in enumerate([texts] if isinstance(texts, str | Units) else texts):
        if isinstance(text, Units):
            yield text
            continue
        if not isinstance(text, str):
            raise ValueError(f"text {at} is {type(text).__name__}: texts are strings, or Units")
        for piece in _parted(text, n_characters):
            held.append(piece)
            n_held += len(piece)
            if n_held >= n_characters:
                yield "\n".join(held)  # a line end parts them, as the end of a text does
                held, n_held = [], 0
    if held:
        yield "\n".join(held)


def _parted(text: str, n_characters: int) -> Iterable[str]:
    if len(text) <= n_characters:
        return (text,)
    return pieces(text[start : start + n_characters] for start in range(0, len(text), n_characters))


def _write_block(
    shelf: Shelf, number: int, batches: Iterator[str | Units], policy: Policy, size: int | None
) -> tuple[int, int, int] | None:
    """Units, segments and 1 of the block, which is written unless it is there; None if nothing is left for one."""
    name = f"block-{number}"
    if shelf.has(name):  # of a run that was stopped
        n_batches, checksum, *known = shelf.read(name)["facts"][:].tolist()
        if _checksum(itertools.islice(batches, n_batches)) != checksum:
            raise ValueError(f"{name} of the folder was made of another text; delete the folder or give another")
        return known[0], known[1], 1
    codes, n_batches, checksum = _gather(batches, policy, size)
    if not n_batches and number:
        return None
    n_segments = len(codes) - int(np.count_nonzero(codes))
    counts = np.bincount(codes)
    distinct = np.flatnonzero(counts)
    facts = np.array([n_batches, checksum, len(codes) - n_segments, n_segments])
    put(shelf, name, codes=codes, distinct=distinct, counts=counts[distinct], facts=facts)
    return len(codes) - n_segments, n_segments, 1


def _gather(batches: Iterator[str | Units], policy: Policy, size: int | None) -> Block:
    parts = [np.empty(0, np.int32)]
    n_codes = checksum = 0
    for batch in batches:
        checksum = _checksum([batch], checksum)
        parts.append(edged(batch if isinstance(batch, Units) else units(batch, policy)))
        n_codes += len(parts[-1])
        if size is not None and n_codes >= size:
            break
    return Block(np.concatenate(parts), len(parts) - 1, checksum)


def _checksum(batches: Iterable[str | Units], checksum: int = 0) -> int:
    for batch in batches:
        text = batch.text if isinstance(batch, Units) else batch
        checksum = zlib.crc32(text.encode(errors="surrogatepass"), checksum)
    return checksum


def _watched(batches: Iterable[str | Units], progress: Progress) -> Iterator[str | Units]:
    n_characters = 0
    for batch in batches:
        yield batch
        n_characters += len(batch.text if isinstance(batch, Units) else batch)
        progress("units", n_characters, 0)
