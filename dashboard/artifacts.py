"""A run's files as a page may show them: never outside the run's folder, never more than a cap, nothing unpickled."""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from experiments.errors import ConfigError
from experiments.store.files import inside, list_files

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from PIL.Image import Image

LARGEST_IMAGE_MB = 20
LARGEST_ARRAYS_MB = 50  # unpacked
LARGEST_TEXTS_MB = 5
PREVIEW_BYTES = 200_000  # of a text
MOST_ARRAYS = 500  # of one file that are listed
MOST_ROWS = 1_000  # of a table that are shown
_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_PIXELS = 40_000_000
_SMALL = 480  # pixels: a grid of digits is enlarged to about this width
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def read_tail(folder: Path, name: str, n_bytes: int = 65_536) -> str | None:
    """The end of a text file without terminal codes, None where there is no such file.

    Of a progress bar drawn over itself only the last state stays.
    """
    try:
        path = inside(folder, name)
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - n_bytes))
            text = file.read(n_bytes).decode("utf-8", errors="replace")
    except (OSError, ConfigError):
        return None
    lines = (line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))
    return _ESCAPES.sub("", "\n".join(lines)).strip("\n")


def read_head(folder: Path, name: str) -> str | None:
    """The beginning of a text file as it is, PREVIEW_BYTES at most; None for anything else.

    A page or a drawing (HTML, SVG) is text too: its source is shown, and never run.
    """
    try:
        with inside(folder, name).open("rb") as file:
            data = file.read(PREVIEW_BYTES)
    except (OSError, ConfigError):
        return None
    if b"\0" in data or data.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):  # pickles
        return None
    text = data.decode("utf-8", errors="replace")
    return _ESCAPES.sub("", text) if text.count("\ufffd") <= len(text) // 50 + 1 else None


def read_shapes(folder: Path, name: str) -> pd.DataFrame | None:
    """Columns array, shape and dtype of an .npz file, by its headers alone; None where it is broken."""
    import numpy as np
    import pandas as pd

    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    rows = []
    try:
        with zipfile.ZipFile(inside(folder, name)) as packed:
            for part in packed.infolist()[:MOST_ARRAYS]:
                with packed.open(part) as file:
                    shape, _, dtype = headers[np.lib.format.read_magic(file)](file)
                rows.append((part.filename.removesuffix(".npy"), " × ".join(map(str, shape)) or "()", str(dtype)))
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        ConfigError,
        RuntimeError,
        NotImplementedError,
        zipfile.BadZipFile,
    ):
        return None
    return pd.DataFrame(rows, columns=["array", "shape", "dtype"])


def read_rows(folder: Path, name: str) -> tuple[pd.DataFrame, int] | None:
    """The first rows of a Parquet table, MOST_ROWS at most, and how many there are; None where it is broken."""
    import pandas as pd
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(inside(folder, name))
        first = next(file.iter_batches(batch_size=MOST_ROWS), None)
        rows = file.metadata.num_rows
    except (OSError, ConfigError, pa.ArrowException, NotImplementedError):
        return None
    return (pd.DataFrame() if first is None else first.to_pandas()), rows


def file_table(folder: Path) -> pd.DataFrame:
    """Columns file and size (bytes): every file below the folder, sorted by name."""
    import pandas as pd

    names = list_files(folder)
    # a name that is no UTF-8 cannot be sent to a browser as it is
    shown = [name.encode("utf-8", errors="replace").decode() for name in names]
    return pd.DataFrame({"file": shown, "size": [_size(folder / name) for name in names]})


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # removed since it was listed
        return 0


def media(folder: Path, suffix: str = ".png") -> dict[str, dict[int, str]]:
    """Name of a picture -> step -> file, for every `media/<name>/<step>.png`; of texts with the suffix .json."""
    found: dict[str, dict[int, str]] = {}
    for file in list_files(folder / "media"):
        path = PurePosixPath(file)
        if path.suffix == suffix and re.fullmatch(r"\d{1,12}", path.stem) and len(path.parts) > 1:
            found.setdefault(str(path.parent), {})[int(path.stem)] = f"media/{file}"
    return found


def read_texts(folder: Path, name: str) -> list[tuple[str, str]]:
    """Prompts and what a model made of them; nothing where the file is broken, too large or holds anything else."""
    try:
        path = inside(folder, name)
        rows = json.loads(path.read_bytes()) if path.stat().st_size <= LARGEST_TEXTS_MB * 1_000_000 else []
        return [(str(row["prompt"]), str(row["text"])) for row in rows]
    except (OSError, ConfigError, ValueError, TypeError, KeyError):
        return []


def read_image(folder: Path, name: str) -> Image | None:
    """The PNG image, small ones enlarged with sharp pixels; None for anything else, a broken, huge or oversized one."""
    from PIL import Image as Pillow

    try:
        path = inside(folder, name)
        if path.stat().st_size > LARGEST_IMAGE_MB * 1_000_000:
            return None
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)  # the next line but one judges the size
            image = Pillow.open(io.BytesIO(data), formats=("PNG",)) if data.startswith(_PNG) else None
        if image is None or image.width * image.height > _MOST_PIXELS:
            return None
        image.load()
    except (
        OSError,
        ValueError,
        SyntaxError,
        Pillow.DecompressionBombError,
    ):  # SyntaxError: Pillow's word for a broken PNG
        return None
    factor = max(1, _SMALL // max(image.width, 1))
    return (
        image.resize((image.width * factor, image.height * factor), Pillow.Resampling.NEAREST) if factor > 1 else image
    )


def read_arrays(folder: Path, name: str) -> dict[str, np.ndarray] | None:
    """The arrays of an .npz file by name; None where there is none, or it is broken, too large or holds objects."""
    import numpy as np

    try:
        path = inside(folder, name)
        with zipfile.ZipFile(path) as packed:
            if sum(part.file_size for part in packed.infolist()) > LARGEST_ARRAYS_MB * 1_000_000:
                return None
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, ConfigError, zipfile.BadZipFile):
        return None
