"""The sorted table of LevelDB, in which TensorFlow keeps the index of a checkpoint."""

from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from lightning_modules.checkpoints.snappy import decompress
from lightning_modules.checkpoints.varint import varint

MAGIC = 0xDB4775248B80FB57
FOOTER = 48  # bytes: two handles, padding, the magic number
TRAILER = 5  # bytes behind each block: its compression and its checksum


def read_table(path: Path) -> dict[bytes, bytes]:
    """Every key of the table and its value, in order.

    Raises ValueError naming the file where it is no table, cut off, or a block's checksum differs.
    """
    data = path.read_bytes()
    if len(data) < FOOTER or int.from_bytes(data[-8:], "little") != MAGIC:
        raise ValueError(f"{path}: no checkpoint index (its last 8 bytes are not the table's mark); copy it again")
    try:
        footer = data[-FOOTER:]
        _, _, at = _handle(footer, 0)  # of the metaindex, which is empty
        offset, size, _ = _handle(footer, at)
        found: dict[bytes, bytes] = {}
        for _, handle in _entries(_block(data, offset, size)):
            offset, size, _ = _handle(handle, 0)
            found.update(_entries(_block(data, offset, size)))
    except ValueError as error:
        raise ValueError(f"{path}: damaged checkpoint index ({error}); copy it again") from error
    return found


def masked_crc32c(checksum: int) -> int:
    """The checksum as the format stores it: rotated by 15 bits and shifted, so that checksums of checksums differ.

    >>> hex(masked_crc32c(0))
    '0xa282ead8'
    """
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _handle(data: bytes, at: int) -> tuple[int, int, int]:
    """Offset and size of a block, and where the next byte stands."""
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return offset, size, at


def _block(data: bytes, offset: int, size: int) -> bytes:
    """The content of a block, its checksum compared."""
    end = offset + size
    if end + TRAILER > len(data):
        raise ValueError(f"the block at byte {offset} ends beyond the file")
    stored = int.from_bytes(data[end + 1 : end + TRAILER], "little")
    if masked_crc32c(google_crc32c.value(data[offset : end + 1])) != stored:
        raise ValueError(f"the block at byte {offset} differs from its checksum")
    if data[end] not in (0, 1):
        raise ValueError(f"the block at byte {offset} has compression {data[end]}; known: 0 none, 1 Snappy")
    return decompress(data[offset:end]) if data[end] else data[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; a key is stored without the beginning it shares with the one before."""
    n_restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (n_restarts + 1)
    if end < 0:
        raise ValueError("a block is shorter than its own list of restarts")
    key, at = b"", 0
    while at < end:
        shared, at = varint(block, at)
        own, at = varint(block, at)
        size, at = varint(block, at)
        if shared > len(key) or at + own + size > end:
            raise ValueError("an entry is longer than its block")
        key = key[:shared] + block[at : at + own]
        at += own
        yield key, block[at : at + size]
        at += size
