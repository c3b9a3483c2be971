"""Arrays of a job by name, in memory or in the files of a folder: what is finished is not made again."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray


class Column(Protocol):
    """An array, or one in a file of which slices are read."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[Any]: ...


Columns = Mapping[str, Column]


class Shelf(Protocol):
    """Where named sets of arrays lie."""

    def has(self, name: str) -> bool:
        """Whether all arrays of that name are there."""

    def read(self, name: str) -> Columns:
        """The arrays of that name."""

    def write(self, name: str) -> contextlib.AbstractContextManager[Append]:
        """A function that appends to the arrays of that name; they are there once the block is left."""

    def drop(self, name: str) -> None:
        """Forgets them."""


class Append(Protocol):
    """Appends to each array of a set."""

    def __call__(self, **arrays: NDArray[Any]) -> None:
        """Appends."""


def put(shelf: Shelf, name: str, **arrays: NDArray[Any]) -> None:
    """Puts whole arrays on a shelf."""
    with shelf.write(name) as append:
        append(**arrays)


class Memory:
    """Arrays in memory."""

    def __init__(self) -> None:
        self._arrays: dict[str, dict[str, NDArray[Any]]] = {}

    def has(self, name: str) -> bool:
        """Whether all arrays of that name are there."""
        return name in self._arrays

    def read(self, name: str) -> Columns:
        """The arrays of that name."""
        return self._arrays[name]

    @contextlib.contextmanager
    def write(self, name: str) -> Iterator[Append]:
        """A function that appends to the arrays of that name."""
        parts: list[dict[str, NDArray[Any]]] = []
        yield lambda **arrays: parts.append(arrays)
        whole = len(parts) == 1
        self._arrays[name] = (
            parts[0] if whole else {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        )

    def drop(self, name: str) -> None:
        """Forgets them."""
        self._arrays.pop(name, None)


class Folder:
    """Arrays in the files of a folder, of which slices are read; a set is there whole or not at all.

    Args:
        path: made if need be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{path}: no folder to spill into ({error.strerror}); give another") from error

    def has(self, name: str) -> bool:
        """Whether all arrays of that name are there."""
        return self._index(name).exists()

    def read(self, name: str) -> Columns:
        """The arrays of that name."""
        kinds = json.loads(self._index(name).read_text())
        return {key: _File(self.path / f"{name}.{key}", np.dtype(kind)) for key, kind in kinds.items()}

    @contextlib.contextmanager
    def write(self, name: str) -> Iterator[Append]:
        """A function that appends to the arrays of that name.

        Raises:
            ValueError: The disk is full, or takes no file; what was begun is removed, what is whole stays.
        """
        files: dict[str, BinaryIO] = {}
        kinds: dict[str, str] = {}
        mark = f"half-{uuid.uuid4().hex}"  # two machines may write it, when one was taken for dead
        try:
            with contextlib.ExitStack() as stack:

                def append(**arrays: NDArray[Any]) -> None:
                    for key, array in arrays.items():
                        if key not in files:
                            files[key] = stack.enter_context((self.path / f"{name}.{key}.{mark}").open("wb"))
                            kinds[key] = array.dtype.str
                        files[key].write(np.ascontiguousarray(array).data)

                yield append
            for key in files:
                (self.path / f"{name}.{key}.{mark}").replace(self.path / f"{name}.{key}")
            half = self._index(name).with_suffix(f".{mark}")
            half.write_text(json.dumps(kinds))
            half.replace(self._index(name))
        except BaseException as error:
            for key in files:
                (self.path / f"{name}.{key}.{mark}").unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise ValueError(
                    f"{self.path}: could not be written ({error.strerror}); make room or give another folder: what is"
                    " finished there is not counted again"
                ) from error
            raise

    def drop(self, name: str) -> None:
        """Forgets them."""
        if self.has(name):
            kinds = json.loads(self._index(name).read_text())
            self._index(name).unlink()
            for key in kinds:
                (self.path / f"{name}.{key}").unlink(missing_ok=True)

    def _index(self, name: str) -> Path:
        return self.path / f"{name}.json"


class _File:
    """An array in a file. It is read, not mapped: pages that were looked at once would count as memory in use."""

    def __init__(self, path: Path, kind: np.dtype[Any]) -> None:
        self._path, self._kind = path, kind
        self._length = path.stat().st_size // kind.itemsize

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        start, stop, _ = rows.indices(self._length)
        return np.fromfile(self._path, self._kind, stop - start, offset=start * self._kind.itemsize)
