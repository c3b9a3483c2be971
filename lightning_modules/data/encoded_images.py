"""Labelled images from encoded files: folders of PNG or JPEG by class, and parquet as on the Hugging Face Hub.

Shapes: an image is (C, H, W) uint8 with C = 1 or 3.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from lightning_modules.data.image_arrays import ImagePart, ImageSource, checked_part

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
TEST_NAMES = ("validation", "valid", "val", "test")  # the first found is the held-out part
IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L")  # more than 8 bits a channel


def read_class_folders(folder: Path, image_size: int | None) -> ImageSource:
    """The images of a folder whose sub-folders are the classes, numbered in the order of their names."""
    where = f"{folder.resolve()} (class folders)"
    if not (folder / "train").is_dir():
        return ImageSource(_class_part(folder, _classes(folder), image_size), None, where)
    classes = _classes(folder / "train")
    train = _class_part(folder / "train", classes, image_size)
    held_out = next((folder / name for name in TEST_NAMES if (folder / name).is_dir()), None)
    if held_out is None:
        return ImageSource(train, None, where)
    unknown = sorted(set(_classes(held_out)) - set(classes))
    if unknown:
        raise ValueError(f"{held_out}: class '{unknown[0]}' is none of the training classes {', '.join(classes)}")
    return ImageSource(train, _class_part(held_out, _classes(held_out), image_size, classes), where)


def parquet_files(folder: Path) -> list[Path]:
    """Every parquet file in or below the folder, by name."""
    return sorted(folder.rglob("*.parquet"))


def read_parquet(path: Path, image_size: int | None) -> ImageSource:
    """The images of one parquet file, or of a folder's train*.parquet and, held out, test*.parquet."""
    where = f"{path.resolve()} (parquet)"
    if path.is_file():
        return ImageSource(_parquet_part([path], image_size), None, where)
    files = parquet_files(path)
    train = [file for file in files if file.name.startswith("train")]
    held_out: list[Path] = []
    for name in reversed(TEST_NAMES):
        held_out = [file for file in files if file.name.startswith(name)] or held_out
    if not train:
        raise ValueError(f"{path}: no train*.parquet; found: {', '.join(file.name for file in files)}")
    folders = sorted({str(file.parent) for file in train})
    if len(folders) > 1:
        raise ValueError(f"{path}: train*.parquet in several folders: {', '.join(folders)}; give one of them")
    test = _parquet_part(held_out, image_size) if held_out else None
    return ImageSource(_parquet_part(train, image_size), test, where)


def table_part(table: Any, where: str, image_size: int | None) -> ImagePart:
    """The images and labels of an Arrow table.

    Args:
        table: A column `image` or `img` of encoded bytes, or of structs with a field `bytes`; a column of labels.
        where: What to call it in a message.
        image_size: Side to cut and resize to; None keeps the size.
    """
    encoded = table.column(_column(table, IMAGE_COLUMNS, where)).to_pylist()
    labels = table.column(_column(table, LABEL_COLUMNS, where)).to_numpy()
    images = []
    for row, cell in enumerate(encoded):
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise ValueError(f"{where}: row {row} holds no image bytes; export the images into the file")
        images.append((f"row {row} of {where}", decode(content, f"row {row} of {where}", image_size)))
    return checked_part(_stack(images, where), labels, where)


def decode(content: bytes, where: str, image_size: int | None = None) -> npt.NDArray[np.uint8]:
    """The (C, H, W) pixels of an encoded image: 1 channel if it is grey, else 3; ValueError if it is broken.

    Opaque transparency is dropped; an image that is truly transparent, or has more than 8 bits a channel, is refused.

    Args:
        content: PNG, JPEG or another form that Pillow reads.
        where: What to call it in a message.
        image_size: Side to cut and resize the middle square to; None keeps the size.
    """
    try:
        with PIL.Image.open(io.BytesIO(content)) as opened:
            opened.load()
            image: PIL.Image.Image = opened.copy()
    except (OSError, SyntaxError, ValueError, EOFError, PIL.Image.DecompressionBombError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{where}: not a whole image ({reason}); replace or remove it") from error
    if image.mode in DEEP_MODES:
        raise ValueError(f"{where}: mode {image.mode} has more than 8 bits a channel; convert it to 8 bits")
    if image.has_transparency_data:
        if image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise ValueError(f"{where}: has transparent pixels; flatten it onto a background")
        image = image.convert("L" if image.mode.startswith("L") else "RGB")
    image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    if image_size is not None and image.size != (image_size, image_size):
        short = min(image.size)
        left, top = (image.width - short) // 2, (image.height - short) // 2
        square = image.crop((left, top, left + short, top + short))
        image = square.resize((image_size, image_size), PIL.Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _classes(folder: Path) -> list[str]:
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise ValueError(
            f"{folder}: no sub-folders, idx or parquet files; put the images of each class into a sub-folder"
        )
    return classes


def _class_part(
    folder: Path, present: list[str], image_size: int | None, classes: list[str] | None = None
) -> ImagePart:
    """The images of the classes present, numbered by their place in `classes`."""
    numbers = {name: number for number, name in enumerate(classes or present)}
    images: list[tuple[str, npt.NDArray[np.uint8]]] = []
    labels = []
    for name in present:
        files = sorted(file for file in (folder / name).iterdir() if _is_image(file))
        if not files:
            raise ValueError(
                f"{folder / name}: no images in this class folder; allowed: {', '.join(SUFFIXES)}; fill or remove it"
            )
        images += [(str(file), decode(file.read_bytes(), str(file), image_size)) for file in files]
        labels += [numbers[name]] * len(files)
    return checked_part(_stack(images, str(folder)), np.array(labels), str(folder))


def _is_image(file: Path) -> bool:
    return file.is_file() and file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def _stack(images: list[tuple[str, npt.NDArray[np.uint8]]], where: str) -> npt.NDArray[np.uint8]:
    """(N, C, H, W) of named images; where some are in colour the grey ones get three equal channels."""
    first_of_size: dict[tuple[int, int], str] = {}
    for name, image in images:
        first_of_size.setdefault((image.shape[1], image.shape[2]), name)
    if len(first_of_size) > 1:
        found = " and ".join(f"{w} x {h} ({name})" for (h, w), name in list(first_of_size.items())[:2])
        raise ValueError(f"{where}: images of different sizes, {found}; set data.image_size to make them equal")
    n_channels = max((len(image) for _, image in images), default=1)
    stacked = np.empty((len(images), n_channels, *next(iter(first_of_size), (1, 1))), np.uint8)
    for row, (_, image) in enumerate(images):
        stacked[row] = image  # (1, H, W) spreads over three channels
    return stacked


def _parquet_part(files: list[Path], image_size: int | None) -> ImagePart:
    import pyarrow
    import pyarrow.parquet

    where = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    tables = []
    for file in files:
        try:
            tables.append(pyarrow.parquet.read_table(file))
        except (OSError, pyarrow.ArrowException) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(f"{file}: not a whole parquet file ({reason}); fetch it again") from error
    return table_part(pyarrow.concat_tables(tables), where, image_size)


def _column(table: Any, allowed: tuple[str, ...], where: str) -> str:
    for name in allowed:
        if name in table.column_names:
            return name
    raise ValueError(f"{where}: no column {' or '.join(allowed)}; found: {', '.join(table.column_names)}; rename it")
