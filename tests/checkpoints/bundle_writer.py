"""Writes TensorFlow's checkpoint format, so that the reader meets what TensorFlow 1.15 wrote: Snappy, slots, shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow
from numpy.typing import NDArray

from lightning_modules.checkpoints.table import MAGIC, masked_crc32c

Arrays = Mapping[str, NDArray[Any]]
TYPES = {"float32": 1, "float64": 2, "int64": 9, "uint16": 14, "float16": 19}  # uint16 stands for bfloat16


def number(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    out = b""
    for key, value in fields:
        if isinstance(value, bytes):
            out += number(key << 3 | 2) + number(len(value)) + value
        elif key == 6:  # the checksum has a fixed width
            out += number(key << 3 | 5) + value.to_bytes(4, "little")
        elif value:
            out += number(key << 3) + number(value)
    return out


def block(entries: Sequence[tuple[bytes, bytes]], compress: bool) -> bytes:
    """A block with its trailer, a restart every sixteen keys."""
    body, restarts, last = b"", [], b""
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % 16 == 0:
            restarts.append(len(body))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        body += number(shared) + number(len(key) - shared) + number(len(value)) + key[shared:] + value
        last = key
    body += b"".join(at.to_bytes(4, "little") for at in [*restarts, len(restarts)])
    if compress:
        body = pyarrow.compress(body, codec="snappy", asbytes=True)
    body += bytes([compress])
    return body + masked_crc32c(google_crc32c.value(body)).to_bytes(4, "little")


def write_table(path: Path, entries: Mapping[bytes, bytes], compress: bool = True, per_block: int = 100) -> None:
    keys = sorted(entries)
    out, handles = b"", []
    for start in range(0, len(keys), per_block):
        part = keys[start : start + per_block]
        piece = block([(key, entries[key]) for key in part], compress)
        handles.append((part[-1], number(len(out)) + number(len(piece) - 5)))
        out += piece
    footer = b""
    for content in ([], handles):  # metaindex, index
        piece = block(content, compress)
        footer += number(len(out)) + number(len(piece) - 5)
        out += piece
    path.write_bytes(out + footer.ljust(40, b"\0") + MAGIC.to_bytes(8, "little"))


def write_bundle(prefix: Path, arrays: Arrays, n_shards: int = 1, compress: bool = True, sliced: str = "") -> None:
    """The checkpoint; the variable called `sliced` is marked as partitioned."""
    shards = [bytearray() for _ in range(n_shards)]
    entries = {b"": message((1, n_shards), (3, message((1, 1))))}
    for i, (name, array) in enumerate(sorted(arrays.items())):
        data, shard = array.tobytes(), i % n_shards
        shape = b"".join(message((2, message((1, size)))) for size in array.shape)
        place = ((3, shard), (4, len(shards[shard])), (5, len(data)), (6, masked_crc32c(google_crc32c.value(data))))
        slices: tuple[tuple[int, bytes], ...] = ((7, b"\n\0"),) if name == sliced else ()
        entries[name.encode()] = message((1, TYPES[array.dtype.name]), (2, shape), *place, *slices)
        shards[shard] += data
    for i, content in enumerate(shards):
        prefix.with_name(f"{prefix.name}.data-{i:05d}-of-{n_shards:05d}").write_bytes(content)
    write_table(prefix.with_name(f"{prefix.name}.index"), entries, compress)


def gpt2_ml_shapes(config: Mapping[str, Any], n_rows: int) -> dict[str, tuple[int, ...]]:
    """The public names and shapes, as the public training code makes them."""
    H, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings/word_embed": (n_rows, H),
        "embeddings/pos_embed": (config["max_position_embeddings"], H),
        "embeddings/LayerNorm_embed_norm/gamma": (H,),
        "embeddings/LayerNorm_embed_norm/beta": (H,),
    }
    for i in range(config["num_hidden_layers"]):
        dense = dict.fromkeys(("query_layer", "key_layer", "value_layer", "context_projection_layer"), (H, H))
        for name, size in {**dense, "intermediate": (H, inner), "output": (inner, H)}.items():
            shapes |= {f"layer{i:02d}/{name}/kernel": size, f"layer{i:02d}/{name}/bias": size[1:]}
        for name in ("mlp_ln0", "mlp_ln1"):
            shapes |= {f"layer{i:02d}/LayerNorm_{name}/{each}": (H,) for each in ("gamma", "beta")}
    return {f"newslm/{name}": shape for name, shape in shapes.items()}


def gpt2_ml_arrays(config: Mapping[str, Any], n_rows: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random weights of some size, AdaFactor's slots and the step counter, as in the public files."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {"global_step": np.array(220_000)}
    for name, shape in gpt2_ml_shapes(config, n_rows).items():
        offset = 1.0 if name.endswith("gamma") else 0.0
        arrays[name] = (offset + 0.3 * rng.standard_normal(shape)).astype("float32")
        if len(shape) == 1:
            arrays[f"{name}/adafactor_v"] = np.zeros(shape, "float32")
        else:
            arrays[f"{name}/adafactor_vr"] = np.zeros(shape[:1], "float32")
            arrays[f"{name}/adafactor_vc"] = np.zeros(shape[1:], "float32")
    return arrays
