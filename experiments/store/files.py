"""Files of a run: written whole or not at all, and never outside the run's folder."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from experiments.errors import ConfigError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the place of `path` when the block ends without an error.

    A process killed inside the block leaves the previous file as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())  # else a power cut may leave the new name with no content
        part.chmod(0o644)  # mkstemp gives 0600, which hides the file from a group that shares the store
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def write_text(path: Path, text: str) -> None:
    """The text at `path`, in UTF-8, whole or not at all."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def finite(value: Any) -> Any:
    """The value with the numbers that JSON has no word for as text.

    >>> finite({"loss": [1.0, float("nan"), float("-inf")]})
    {'loss': [1.0, 'NaN', '-Infinity']}
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def inside(root: Path, name: str) -> Path:
    """The path of the file `name` below `root`; a name that leads outside (.., absolute, a link) is refused."""
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ConfigError(f"'{name}' lies outside {root}")
    return path


def list_files(root: Path) -> list[str]:
    """Names of the files below `root`, relative, sorted; links that lead outside and unfinished files are left out."""
    if not root.is_dir():
        return []
    top, found = root.resolve(), []
    for folder, _, names in os.walk(
        root
    ):  # not into linked folders; a trial's files are listed twice, so this is quick
        prefix = Path(folder).relative_to(root).as_posix().removeprefix(".")
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 - as quick as can be
            if name.endswith(".part") or (os.path.islink(path) and not _leads_inside(Path(path), top)):  # noqa: PTH114
                continue
            found.append(f"{prefix}/{name}" if prefix else name)
    return sorted(found)


def _leads_inside(link: Path, top: Path) -> bool:
    return link.is_file() and link.resolve().is_relative_to(top)
