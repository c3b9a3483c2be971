"""Everything a run recorded, appended to a file before it goes to the database, so that a kill loses nothing.

A line is a JSON list whose first item says what it is: `["owner", {...}]`, `["metrics", [[key, value, ms, step]]]`,
`["tags", {...}]` or `["status", "FINISHED"]`.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.store.heartbeat import is_alive, owner
from experiments.store.location import Store

# key, value, milliseconds since the epoch, step
Point = tuple[str, float, int, int]
SHRINK_BYTES = 1_000_000  # a spool that is delivered whole is emptied when it is larger than this


@dataclass
class Chunk:
    """What lies between two places of a spool.

    Args:
        points: in order.
        tags: the last value of each.
        status: the run's end, if it is in here.
        end: where the next chunk begins.
    """

    points: list[Point] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    status: str | None = None
    end: int = 0


class Spool:
    """The file of one process of a run. Appending and reading may happen in different threads.

    Args:
        path: created with its folder.
        run_id: of the run.
    """

    def __init__(self, path: Path, run_id: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)
        self._header = _line(["owner", {**owner(), "run_id": run_id}])
        if self._file.tell() == 0:
            self._file.write(self._header)
        self.written = self._file.tell()
        self.delivered = 0

    def append(self, kind: str, content: Any) -> None:
        """One line at the end, in the hands of the operating system when this returns.

        Raises OSError when the disk is full or gone; a line is there whole or, read back, not at all.
        """
        line = _line([kind, content])
        with self._lock:
            done = self._file.write(line)
            if done != len(line):  # a disk that filled up in the middle: take the torn part back
                os.ftruncate(self._file.fileno(), self.written)
                raise OSError(28, "No space left on device", str(self.path))
            self.written += len(line)

    def chunk(self, n_points: int) -> Chunk:
        """What comes after the part already delivered, about `n_points` values at most."""
        return read(self.path, self.delivered, n_points)

    def confirm(self, chunk: Chunk) -> None:
        """The chunk is in the database. A long file that is delivered whole is emptied."""
        with self._lock:
            self.delivered = chunk.end
            if self.delivered == self.written and self.written > SHRINK_BYTES:
                os.ftruncate(self._file.fileno(), 0)
                self._file.write(self._header)
                self.written = self.delivered = len(self._header)

    @property
    def waiting(self) -> int:
        """Bytes not yet delivered."""
        return self.written - self.delivered

    def sync(self) -> None:
        """Everything appended is on the disk, power cuts included."""
        os.fsync(self._file.fileno())

    def close(self, *, remove: bool) -> None:
        """The file closed, and gone when everything in it was delivered."""
        self._file.close()
        if remove:
            self.path.unlink(missing_ok=True)


def read(path: Path, start: int, n_points: int) -> Chunk:
    """The lines of a spool from byte `start` on, up to about `n_points` values; a torn last line is left out."""
    chunk = Chunk(end=start)
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                break
            kind, content = json.loads(line)
            if kind == "metrics":
                if chunk.points and len(chunk.points) + len(content) > n_points:
                    break
                chunk.points += [(key, float(value), ms, step) for key, value, ms, step in content]
            elif kind == "tags":
                chunk.tags |= content
            elif kind == "status":
                chunk.status = content
            chunk.end += len(line)
    return chunk


def spool_folder(store: Store) -> Path:
    """Where the spools of a store lie."""
    return store.folder / "spool"


def orphans(store: Store) -> Iterator[tuple[str, Path]]:
    """Run id and path of the spools whose process on this host is gone."""
    for path in sorted(spool_folder(store).glob("*.jsonl")):
        with path.open("rb") as file:
            first = file.readline()
        if not first.endswith(b"\n"):  # killed before its first line was whole: nothing was recorded
            path.unlink(missing_ok=True)
            continue
        header = json.loads(first)[1]
        if header["host"] == owner()["host"] and not is_alive(header):
            yield str(header["run_id"]), path


def _line(content: list[Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
