"""Snappy's raw format, decompressed: TensorFlow 1.15 compressed the index of its checkpoints with it."""

from lightning_modules.checkpoints.varint import varint


def decompress(data: bytes) -> bytes:
    """The bytes that a raw Snappy stream stands for.

    Raises ValueError where the stream ends early, copies from before its start or has another length than it says.

    Source: the format description of google/snappy.

    >>> decompress(bytes([5, 0b100, *b"ab", 0b1010, 2, 0]))  # a literal of two, a copy of three from two back
    b'ababa'
    """
    length, at = varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        kind, at = tag & 3, at + 1
        if kind == 0:
            size, at = _literal_size(tag, data, at)
            out += _taken(data, at, size)
            at += size
            continue
        n_bytes = (0, 1, 2, 4)[kind]
        offset = int.from_bytes(_taken(data, at, n_bytes), "little")
        at += n_bytes
        if kind == 1:  # 3 bits of the length and 3 of the offset in the tag
            size, offset = 4 + (tag >> 2 & 7), offset + (tag >> 5 << 8)
        else:
            size = 1 + (tag >> 2)
        if not 0 < offset <= len(out):
            raise ValueError(f"Snappy: a copy from {offset} back where {len(out)} bytes stand")
        pattern = out[-offset:]  # shorter than the copy where it overlaps itself
        out += (pattern * (size // len(pattern) + 1))[:size]
    if len(out) != length:
        raise ValueError(f"Snappy: {len(out)} bytes where {length} are announced")
    return bytes(out)


def _literal_size(tag: int, data: bytes, at: int) -> tuple[int, int]:
    """The size of a literal, and where it begins: up to 60 bytes in the tag, else in one to four bytes behind it."""
    if tag >> 2 < 60:
        return (tag >> 2) + 1, at
    n_bytes = (tag >> 2) - 59
    return int.from_bytes(_taken(data, at, n_bytes), "little") + 1, at + n_bytes


def _taken(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError(f"Snappy: ends at byte {len(data)}, {at + size} are needed")
    return data[at : at + size]
