"""Numbers of seven bits a byte, lowest first, and the messages of Protocol Buffers made of them."""

from collections.abc import Iterator

WIDTHS = {1: 8, 5: 4}  # bytes of the fixed wire types


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where the next byte stands; ValueError where the data end first or it exceeds 64 bits.

    >>> varint(bytes([0xAC, 0x02]), 0)
    (300, 2)
    """
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError(f"a number is cut off at byte {at}")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError(f"a number of more than 64 bits before byte {at}")


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field of a Protocol Buffers message, in order.

    Fixed-width fields are read as unsigned little-endian numbers. Raises ValueError where the message is malformed.

    >>> list(fields(bytes([0x08, 0x96, 0x01, 0x12, 0x02, *b"hi"])))
    [(1, 150), (2, b'hi')]
    """
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = varint(message, at)
            yield number, value
            continue
        if kind == 2:
            size, at = varint(message, at)
        elif kind in WIDTHS:
            size = WIDTHS[kind]
        else:
            raise ValueError(f"field {number} has wire type {kind}; known: 0, 1, 2, 5")
        if at + size > len(message):
            raise ValueError(f"field {number} is cut off")
        piece = message[at : at + size]
        yield number, piece if kind == 2 else int.from_bytes(piece, "little")
        at += size
