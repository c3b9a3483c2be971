"""Labelled images from a file or folder of any form that `Images` reads; this file reads archives and MNIST's idx."""

import difflib
import gzip
import math
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_modules.data.encoded_images import parquet_files, read_class_folders, read_parquet
from lightning_modules.data.image_arrays import ImagePart, ImageSource, channels_first, checked_part

NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
FORMS = "an .npz archive, a .parquet file, or a folder with idx files, parquet files or one sub-folder a class"


def read_images(path: Path, image_size: int | None = None) -> ImageSource:
    """The images at `path`, whatever their form; ValueError with the file's name where they cannot be read.

    Args:
        path: A file or folder.
        image_size: Side to cut and resize encoded images to while they are decoded; None keeps their size.
    """
    if not path.exists():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, siblings, n=1)
        hint = f" (did you mean '{path.with_name(close[0])}'?)" if close else ""
        raise ValueError(f"data.path = '{path}': no such file or folder{hint}; give {FORMS}")
    if path.is_dir():
        if any(re.search(r"[-.]idx\d-ubyte", entry.name) for entry in path.iterdir()):
            return _read_idx_folder(path)
        if parquet_files(path):
            return read_parquet(path, image_size)
        return read_class_folders(path, image_size)
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.suffix == ".parquet":
        return read_parquet(path, image_size)
    raise ValueError(f"data.path = '{path}': unknown kind of file '{path.suffix}'; give {FORMS}")


def _read_npz(path: Path) -> ImageSource:
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path}: no .npz archive, or cut short; save it with numpy.savez and the arrays {', '.join(NPZ_KEYS)}"
        )
    try:
        archive = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a whole .npz archive ({_line(error)}); save it again") from error
    with archive:
        has_test = "x_test" in archive or "y_test" in archive
        for key in NPZ_KEYS if has_test else NPZ_KEYS[:2]:
            if key not in archive:
                raise ValueError(
                    f"{path}: no '{key}' in the archive; found: {', '.join(archive.files)}; needed: x_train,"
                    " y_train, and both or neither of x_test and y_test"
                )
        train = _npz_part(archive, "train", path)
        return ImageSource(train, _npz_part(archive, "test", path) if has_test else None, f"{path.resolve()} (npz)")


def _npz_part(archive: Any, part: str, path: Path) -> ImagePart:
    arrays = {}
    for key in (f"x_{part}", f"y_{part}"):
        try:
            arrays[key] = archive[key]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path}: '{key}' cannot be read ({_line(error)}); save the archive again") from error
        if arrays[key].ndim == 0:
            raise ValueError(f"{path}: '{key}' is a single number; it must have one row an image")
    where = f"x_{part} of {path}"
    return checked_part(channels_first(arrays[f"x_{part}"], where), arrays[f"y_{part}"], where)


def _read_idx_folder(folder: Path) -> ImageSource:
    train = _idx_part(folder, "train")
    has_test = any(entry.name.startswith("t10k-") for entry in folder.iterdir())
    return ImageSource(train, _idx_part(folder, "t10k") if has_test else None, f"{folder.resolve()} (idx)")


def _idx_part(folder: Path, part: str) -> ImagePart:
    images = _read_idx(_idx_file(folder, f"{part}-images", 3), 3)
    labels = _read_idx(_idx_file(folder, f"{part}-labels", 1), 1)
    return checked_part(images[:, None], labels, f"{part} images of {folder}")


def _idx_file(folder: Path, stem: str, n_axes: int) -> Path:
    for name in (f"{stem}-idx{n_axes}-ubyte", f"{stem}.idx{n_axes}-ubyte"):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    found = ", ".join(sorted(entry.name for entry in folder.iterdir()))
    raise ValueError(f"{folder}: no {stem}-idx{n_axes}-ubyte or {stem}-idx{n_axes}-ubyte.gz; found: {found}")


def _read_idx(path: Path, n_axes: int) -> npt.NDArray[np.uint8]:
    """The array of an idx file: two zero bytes, type 8 (unsigned byte), the number of axes, their lengths, the data."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a whole gzip file ({_line(error)}); fetch it again") from error
    if content[:4] != bytes([0, 0, 8, n_axes]):
        raise ValueError(
            f"{path}: begins with {content[:4].hex(' ') or 'nothing'}, an idx file of {n_axes} axes of bytes with"
            f" 00 00 08 {n_axes:02x}; fetch it again"
        )
    start = 4 + 4 * n_axes
    shape = struct.unpack(f">{n_axes}I", content[4:start].ljust(4 * n_axes, b"\0"))
    n_needed = max(1, math.prod(shape))
    if len(content) - start != n_needed:
        raise ValueError(
            f"{path}: {max(0, len(content) - start)} bytes of data where shape {shape} needs {n_needed};"
            " it is cut short or damaged: fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _line(error: BaseException) -> str:
    """The first line of an error's own words."""
    return next(iter(str(error).splitlines()), type(error).__name__)
