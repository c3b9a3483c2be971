"""A TensorFlow checkpoint (`PREFIX.index` and its data shards) read without TensorFlow, every checksum compared."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from lightning_modules.checkpoints.table import masked_crc32c, read_table
from lightning_modules.checkpoints.varint import fields

# TensorFlow's numbers of types; bfloat16 is read as its bits
DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    19: "float16",
    22: "uint32",
    23: "uint64",
}


@dataclass(frozen=True)
class Variable:
    """Where the bytes of a variable lie.

    Args:
        name: in the graph, as newslm/embeddings/word_embed.
        dtype: NumPy's name, or bfloat16, string, or TensorFlow's number.
        shape: of the array.
        shard: number of the data file.
        offset: of its first byte there.
        size: in bytes.
        checksum: masked crc32c of its bytes.
        is_partitioned: stored in slices under names of their own.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    is_partitioned: bool


@dataclass(frozen=True)
class Bundle:
    """The variables of a checkpoint by name.

    Args:
        prefix: path without `.index`.
        n_shards: data files.
        variables: by name, sorted.
    """

    prefix: Path
    n_shards: int
    variables: dict[str, Variable] = field(repr=False)

    def shard(self, number: int) -> Path:
        """The data file of that number."""
        return self.prefix.with_name(f"{self.prefix.name}.data-{number:05d}-of-{self.n_shards:05d}")

    def check_shards(self) -> None:
        """ValueError naming a data file that is missing, or shorter than its variables need."""
        needed = dict.fromkeys(range(self.n_shards), 0)
        for each in self.variables.values():
            if each.shard not in needed:
                raise ValueError(f"{self.prefix}.index: {each.name} lies in shard {each.shard} of {self.n_shards}")
            needed[each.shard] = max(needed[each.shard], each.offset + each.size)
        for number, size in needed.items():
            path = self.shard(number)
            if not path.is_file():
                raise ValueError(f"{path}: missing; the index needs {self.n_shards} data files beside it")
            if path.stat().st_size < size:
                raise ValueError(f"{path}: {path.stat().st_size} bytes where the index needs {size}; download it again")

    def read(self, name: str) -> NDArray[np.generic]:
        """The array of a variable, read-only, bfloat16 as its uint16 bits.

        Raises ValueError for a type or size that is none of an array, and where the bytes differ from their checksum.
        """
        found = self.variables[name]
        if found.is_partitioned or found.dtype not in DTYPES.values() or found.dtype == "string":
            kind = "is partitioned" if found.is_partitioned else f"has type {found.dtype}"
            raise ValueError(f"{self.prefix}: {name} {kind}; only whole arrays of numbers can be read")
        dtype = np.dtype("uint16" if found.dtype == "bfloat16" else found.dtype).newbyteorder("<")
        if math.prod(found.shape) * dtype.itemsize != found.size:
            raise ValueError(f"{self.prefix}.index: {name} of shape {found.shape} cannot have {found.size} bytes")
        path = self.shard(found.shard)
        with path.open("rb") as file:
            file.seek(found.offset)
            data = file.read(found.size)
        if masked_crc32c(google_crc32c.value(data)) != found.checksum:
            raise ValueError(f"{path}: {name} differs from its checksum; the file is damaged, download it again")
        return np.frombuffer(data, dtype).reshape(found.shape)


def open_bundle(prefix: Path) -> Bundle:
    """The checkpoint at a prefix, or at the path of its index; only the index is read.

    Raises ValueError naming the file where there is no index, it is damaged, or the data are big-endian.
    """
    prefix = prefix.with_suffix("") if prefix.suffix == ".index" else prefix
    index = prefix.with_name(f"{prefix.name}.index")
    if not index.is_file():
        near = sorted(
            str(path.with_suffix("")) for path in (prefix if prefix.is_dir() else prefix.parent).glob("*.index")
        )
        hint = f"found there: {', '.join(near)}" if near else "give the path without .index or .data-00000-of-00001"
        raise ValueError(f"{index}: no such file; {hint}")
    table = read_table(index)
    try:
        if b"" not in table:
            raise ValueError("no header")
        header = dict(fields(table.pop(b"")))
        n_shards, byte_order = _whole(header.get(1, 0)), _whole(header.get(2, 0))
        # the slices of partitioned variables stand under keys that begin with a zero byte
        entries = [_variable(key, value) for key, value in table.items() if not key.startswith(b"\0")]
    except ValueError as error:
        raise ValueError(f"{index}: damaged checkpoint index ({error}); copy it again") from error
    if byte_order != 0:
        raise ValueError(f"{index}: big-endian data; only little-endian checkpoints can be read")
    return Bundle(prefix, n_shards, {each.name: each for each in entries})


def _variable(key: bytes, message: bytes) -> Variable:
    """An entry of the index."""
    found: dict[int, int | bytes] = {}
    is_partitioned = False
    for number, value in fields(message):
        found[number] = value
        is_partitioned |= number == 7
    number = _whole(found.get(1, 0))
    return Variable(
        name=key.decode("utf-8", "backslashreplace"),
        dtype=DTYPES.get(number, f"type {number}"),
        shape=tuple(_shape(found.get(2, b""))),
        shard=_whole(found.get(3, 0)),
        offset=_whole(found.get(4, 0)),
        size=_whole(found.get(5, 0)),
        checksum=_whole(found.get(6, 0)),
        is_partitioned=is_partitioned,
    )


def _whole(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("bytes where a number belongs")
    return value


def _shape(message: int | bytes) -> list[int]:
    """The sizes of a TensorShapeProto."""
    if isinstance(message, int):
        raise ValueError("a number where a shape belongs")
    axes = [value for number, value in fields(message) if number == 2 and isinstance(value, bytes)]
    return [_whole(dict(fields(axis)).get(1, 0)) for axis in axes]
