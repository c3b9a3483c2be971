"""Files of a run: written whole or not at all, and never outside the run's folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
    top = root.resolve()
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".part")
    return sorted(path.relative_to(root).as_posix() for path in files if path.resolve().is_relative_to(top))
