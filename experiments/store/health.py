"""The state of a store: its size, what waits in its spool, and runs whose process is gone. Reads only."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.store.erase import database_bytes
from experiments.store.heartbeat import is_dead, is_stale
from experiments.store.location import Store
from experiments.store.spool import spool_folder


@dataclass(frozen=True)
class Sizes:
    """What a store takes of the disk, in bytes.

    Args:
        database: its SQLite files; 0 for a server's.
        files: of all runs.
        free: left on that disk.
        runs: id of a run -> its files; space that a sparse file only claims is not counted.
    """

    database: int
    files: int
    free: int
    runs: Mapping[str, int]


@dataclass(frozen=True)
class Waiting:
    """The spool of one process: what it recorded, some of which may not be in the database yet.

    Args:
        run_id: of the run; empty where the file does not say.
        host: of the process, likewise.
        is_gone: the process is known to have ended: the next `taolu` command on that host delivers.
        n_bytes: of the file.
        changed: seconds since 1970.
    """

    run_id: str
    host: str
    is_gone: bool
    n_bytes: int
    changed: float


def sizes(store: Store) -> Sizes:
    """What the store takes now; walks over every run's folder."""
    root = store.artifacts
    folders = [entry for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)] if root.is_dir() else []
    runs = {entry.name: sum(_disk_bytes(Path(entry.path))) for entry in folders}
    place = next(folder for folder in (store.folder, *store.folder.parents) if folder.is_dir())
    return Sizes(database_bytes(store), sum(runs.values()), shutil.disk_usage(place).free, runs)


def _disk_bytes(folder: Path) -> Iterator[int]:
    for place, _, names in os.walk(folder):  # not into linked folders
        for name in names:
            try:
                found = Path(place, name).lstat()
            except OSError:  # removed since it was listed
                continue
            yield min(found.st_size, found.st_blocks * 512)


def waiting(store: Store) -> list[Waiting]:
    """Every spool of the store, the oldest first."""
    found = [_waiting(path) for path in spool_folder(store).glob("*.jsonl")]
    return sorted((each for each in found if each is not None), key=lambda each: each.changed)


def _waiting(path: Path) -> Waiting | None:
    try:
        stat = path.stat()
        with path.open("rb") as file:
            first = file.readline(65_536)
    except OSError:  # delivered since it was listed
        return None
    owner: Any = {}
    try:
        owner = json.loads(first)[1]
        is_gone = is_dead(owner) or is_stale({**owner, "time": stat.st_mtime})
        return Waiting(str(owner["run_id"]), str(owner["host"]), is_gone, stat.st_size, stat.st_mtime)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):  # torn, or nobody's
        return Waiting("", "", True, stat.st_size, stat.st_mtime)
