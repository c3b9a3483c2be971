"""TensorFlow's checkpoints, written here as TensorFlow 1.15 wrote them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.checkpoints.bundle import Bundle, open_bundle
from lightning_modules.checkpoints.table import masked_crc32c, read_table
from lightning_modules.checkpoints.varint import fields
from tests.checkpoints.bundle_writer import message, number, write_bundle, write_table

ARRAYS = {
    "a/kernel": np.arange(12, dtype="float32").reshape(3, 4),
    "a/bias": np.array([1.5, -0.0, np.inf], "float16"),
    "b/kernel": np.array([[1, 2], [3, 4]], "float64"),
    "bits": np.array([0x3F80, 0xC000], "uint16"),
    "global_step": np.array(7),
}


def bundle_at(folder: Path, n_shards: int = 1, compress: bool = True, sliced: str = "") -> Bundle:
    write_bundle(folder / "model.ckpt-7", ARRAYS, n_shards, compress, sliced)
    return open_bundle(folder / "model.ckpt-7")


def test_the_checksum_is_crc32c() -> None:
    assert google_crc32c.value(b"123456789") == 0xE3069283  # the check value of its catalogue entry, CRC-32/ISCSI


@given(st.integers(0, 2**32 - 1))
def test_a_masked_checksum_can_be_unmasked(checksum: int) -> None:
    rotated = (masked_crc32c(checksum) - 0xA282EAD8) % 2**32
    assert (rotated >> 17 | rotated << 15) % 2**32 == checksum


@pytest.mark.parametrize(("n_shards", "compress"), [(1, True), (1, False), (3, True)])
def test_arrays_come_back_bit_for_bit(tmp_path: Path, n_shards: int, compress: bool) -> None:
    bundle = bundle_at(tmp_path, n_shards, compress)
    bundle.check_shards()
    assert {*bundle.variables} == {*ARRAYS}
    assert all(bundle.read(name).tobytes() == array.tobytes() for name, array in ARRAYS.items())
    assert all(bundle.read(name).shape == array.shape for name, array in ARRAYS.items())
    assert bundle.variables["bits"].dtype == "bfloat16"


def test_an_index_of_many_blocks_gives_every_key(tmp_path: Path) -> None:
    entries = {f"newslm/layer{i:02d}/x{j}".encode(): bytes([i, j]) * j for i in range(12) for j in range(40)}
    write_table(tmp_path / "t", entries, per_block=50)
    assert read_table(tmp_path / "t") == dict(sorted(entries.items()))


def test_the_path_of_the_index_serves_too(tmp_path: Path) -> None:
    bundle = bundle_at(tmp_path)
    assert open_bundle(tmp_path / "model.ckpt-7.index") == bundle


def test_a_flipped_bit_is_refused_by_the_name_of_the_variable(tmp_path: Path) -> None:
    bundle = bundle_at(tmp_path)
    data = bytearray(bundle.shard(0).read_bytes())
    data[bundle.variables["b/kernel"].offset + 9] ^= 4
    bundle.shard(0).write_bytes(data)
    with pytest.raises(ValueError, match=r"data-00000-of-00001: b/kernel differs from its checksum"):
        bundle.read("b/kernel")
    assert bundle.read("a/kernel").sum() == 66


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_index_is_refused_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    folder.mkdir(exist_ok=True)
    whole = bundle_at(folder)
    path = folder / "model.ckpt-7.index"
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)
    with contextlib.suppress(ValueError):
        assert open_bundle(folder / "model.ckpt-7") == whole  # the footer's padding and metaindex


def test_missing_and_truncated_files_are_named(tmp_path: Path) -> None:
    bundle = bundle_at(tmp_path, n_shards=2)
    bundle.shard(1).write_bytes(bundle.shard(1).read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"data-00001-of-00002: \d+ bytes where the index needs \d+; download"):
        bundle.check_shards()
    bundle.shard(0).unlink()
    with pytest.raises(ValueError, match=r"data-00000-of-00002: missing; the index needs 2 data files"):
        bundle.check_shards()
    with pytest.raises(ValueError, match=r"nothing.index: no such file; found there: .*model.ckpt-7"):
        open_bundle(tmp_path / "nothing")
    (tmp_path / "short.index").write_bytes((tmp_path / "model.ckpt-7.index").read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"short.index: no checkpoint index"):
        open_bundle(tmp_path / "short")


def test_what_is_no_whole_array_is_listed_and_not_read(tmp_path: Path) -> None:
    bundle = bundle_at(tmp_path, sliced="a/kernel")
    assert bundle.variables["a/kernel"].is_partitioned
    with pytest.raises(ValueError, match="a/kernel is partitioned"):
        bundle.read("a/kernel")
    write_table(tmp_path / "s.index", {b"": message((1, 1)), b"graph": message((1, 7), (5, 3)), b"q": message((1, 11))})
    strings = open_bundle(tmp_path / "s")
    assert [each.dtype for each in strings.variables.values()] == ["string", "type 11"]
    with pytest.raises(ValueError, match="graph has type string"):
        strings.read("graph")


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ({b"": message((1, 1), (2, 1))}, "big-endian"),
        ({b"x": message((1, 1))}, "no header"),
        ({b"": message((1, 1)), b"x": message((1, b"text"))}, "bytes where a number belongs"),
        ({b"": message((1, 1)), b"x": message((2, 5))}, "a number where a shape belongs"),
        ({b"": message((1, 1)), b"x": b"\x0b"}, "field 1 has wire type 3"),
        ({b"": message((1, 1)), b"x": b"\x12\x05ab"}, "field 2 is cut off"),
        ({b"": b"\x0a\x01a"}, "bytes where a number belongs"),
    ],
)
def test_an_index_that_cannot_be_understood_is_refused(tmp_path: Path, entries: dict[bytes, bytes], found: str) -> None:
    write_table(tmp_path / "x.index", entries)
    with pytest.raises(ValueError, match=found):
        open_bundle(tmp_path / "x")


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 2**63) | st.binary(max_size=9)), max_size=6))
def test_messages_come_back(pairs: list[tuple[int, int | bytes]]) -> None:
    assert list(fields(message(*pairs))) == pairs


def test_numbers_beyond_64_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 64 bits"):
        list(fields(b"\x08" + number(2**80)))


@pytest.mark.parametrize("compress", [False, True])
def test_tensorflow_reads_what_these_tests_write(tmp_path: Path, compress: bool) -> None:
    tf = pytest.importorskip("tensorflow")
    arrays = {name: array for name, array in ARRAYS.items() if name != "bits"}
    write_bundle(tmp_path / "ours", arrays, 2, compress)
    reader = tf.train.load_checkpoint(str(tmp_path / "ours"))
    assert all(reader.get_tensor(name).tobytes() == array.tobytes() for name, array in arrays.items())


def test_what_tensorflow_writes_is_read(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    arrays = {name: array for name, array in ARRAYS.items() if name != "bits"}
    prefix = str(tmp_path / "theirs")
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=[*arrays], shape_and_slices=[""] * len(arrays), tensors=[*arrays.values()]
    )
    bundle = open_bundle(tmp_path / "theirs")
    assert all(bundle.read(name).tobytes() == array.tobytes() for name, array in arrays.items())
