"""Small labelled image sets, written in every form that `Images` reads."""

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pyarrow
import pyarrow.parquet

from lightning_modules.data.images import Images

Array = npt.NDArray[Any]
RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (20, 6, 6), dtype=np.uint8), np.arange(20, dtype=np.uint8) // 5  # sorted by class
X_TEST, Y_TEST = RNG.integers(0, 256, (8, 6, 6), dtype=np.uint8), np.arange(8, dtype=np.uint8) % 4


def npz(folder: Path, **arrays: Any) -> Path:
    path = folder / "set.npz"
    np.savez_compressed(path, **arrays)
    return path


def with_test(folder: Path) -> Path:
    return npz(folder, x_train=X, y_train=Y, x_test=X_TEST, y_test=Y_TEST)


def write_idx(path: Path, array: Array) -> Path:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.tobytes()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def idx_folder(folder: Path, ending: str = "") -> Path:
    for part, x, y in (("train", X, Y), ("t10k", X_TEST, Y_TEST)):
        write_idx(folder / f"idx/{part}-images-idx3-ubyte{ending}", x)
        write_idx(folder / f"idx/{part}-labels-idx1-ubyte{ending}", y)
    return folder / "idx"


def encoded(image: Array, form: str = "png") -> bytes:
    stream = io.BytesIO()
    PIL.Image.fromarray(image).save(stream, form)
    return stream.getvalue()


def class_folders(folder: Path, x: Array = X, y: Array = Y) -> Path:
    for number, (image, label) in enumerate(zip(x, y, strict=True)):
        path = folder / f"class{label}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(image))
    return folder


def parquet(path: Path, x: Array, y: Array, image: str = "image", label: str = "label", bare: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [encoded(row) if bare else {"bytes": encoded(row), "path": None} for row in x]
    pyarrow.parquet.write_table(pyarrow.table({image: cells, label: y.tolist()}), path)
    return path


def load(path: Path, **settings: Any) -> Images:
    return Images(str(path), **{"batch_size": 4, **settings})
