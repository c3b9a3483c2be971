"""Snappy's raw format."""

from __future__ import annotations

import contextlib

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.checkpoints.snappy import decompress
from tests.checkpoints.bundle_writer import number

REPETITIVE = st.lists(st.sampled_from([b"abcd", b"newslm/layer", b"\0" * 70, b"xyz"]), max_size=60).map(b"".join)


@given(st.binary(max_size=300) | REPETITIVE)
def test_what_snappy_itself_compresses_comes_back(data: bytes) -> None:
    assert decompress(pyarrow.compress(data, codec="snappy", asbytes=True)) == data


def test_long_literals_and_far_copies_come_back() -> None:
    noise = np.random.default_rng(0).bytes(3000)
    data = noise + noise[:500] + b"\0" * 100_000 + noise
    assert decompress(pyarrow.compress(data, codec="snappy", asbytes=True)) == data


def test_a_copy_with_four_bytes_of_offset_reaches_back_70000_bytes() -> None:
    start = bytes(range(250)) * 280
    stream = number(70_010) + bytes([62 << 2]) + (69_999).to_bytes(3, "little") + start
    assert decompress(stream + bytes([9 << 2 | 3]) + (70_000).to_bytes(4, "little")) == start + start[:10]


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"\x05\x10abc", "ends at byte 5, 7 are needed"),
        (b"\x05\x04ab\x0a\x03\x00", "a copy from 3 back where 2 bytes stand"),
        (b"\x05\x04ab\x0a\x00\x00", "a copy from 0 back"),
        (b"\x05\x04ab", "2 bytes where 5 are announced"),
        (b"\x05\x04ab\x0a\x02", "ends at byte 6, 7 are needed"),
        (b"\x80", "cut off"),
        (b"\x03\xf4", "ends at byte 2, 4 are needed"),
    ],
)
def test_a_damaged_stream_is_refused(stream: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decompress(stream)


@given(st.binary(max_size=40))
def test_any_bytes_are_decompressed_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(decompress(data), bytes)
