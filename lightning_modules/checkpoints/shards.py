"""Sharded safetensors written tensor by tensor: memory holds one tensor, whatever the size of the model."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = {"float32": ("F32", 4), "float64": ("F64", 8), "float16": ("F16", 2), "bfloat16": ("BF16", 2)}


@dataclass(frozen=True)
class Source:
    """A tensor that is read when its turn comes.

    Args:
        name: in the state dict.
        dtype: a key of KINDS.
        shape: of the tensor.
        read: gives its values; bfloat16 as uint16 bits.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], NDArray[Any]]

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * KINDS[self.dtype][1]


def write_shards(folder: Path, sources: Sequence[Source], shard_size: int) -> list[Path]:
    """The files written: model.safetensors, or numbered shards and model.safetensors.index.json where one is too small.

    Args:
        folder: where they go.
        sources: in the order they are written.
        shard_size: Most bytes of tensors in one file; a larger tensor has a file of its own.
    """
    shards = _split(sources, shard_size)
    names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    if len(shards) == 1:
        names = ["model.safetensors"]
    else:
        weight_map = {each.name: name for name, shard in zip(names, shards, strict=True) for each in shard}
        index = {"metadata": {"total_size": sum(each.size for each in sources)}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    for name, shard in zip(names, shards, strict=True):
        _write(folder / name, shard)
    return [folder / name for name in names]


def _split(sources: Iterable[Source], shard_size: int) -> list[list[Source]]:
    """The tensors in order, cut before the one that would fill a shard beyond its size."""
    shards: list[list[Source]] = [[]]
    filled = 0
    for each in sources:
        if shards[-1] and filled + each.size > shard_size:
            shards.append([])
            filled = 0
        shards[-1].append(each)
        filled += each.size
    return shards


def _write(path: Path, sources: Sequence[Source]) -> None:
    """One file of the format: the length of the header, the header as JSON, the tensors without gaps."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for each in sources:
        kind, _ = KINDS[each.dtype]
        header[each.name] = {"dtype": kind, "shape": each.shape, "data_offsets": [offset, offset + each.size]}
        offset += each.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for each in sources:
            file.write(np.ascontiguousarray(each.read()).data)
