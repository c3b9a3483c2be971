"""`taolu gc`: deleted runs removed for good, and what no run needs any more; nothing that is used."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from filelock import FileLock

from experiments.errors import ConfigError
from experiments.store.erase import database_bytes, deleted_at, erase_runs, refuse_server, vacuum
from experiments.store.heartbeat import refuse_live
from experiments.store.location import DATABASE, Store
from experiments.store.read import read_run
from experiments.store.spool import spool_folder
from experiments.store.tables import RunRow, Selection, Tables, read_tables
from experiments.store.write import SHARED

SETTLED_SECONDS = 3600.0  # a file that changed since may still be somebody's
USES = ("taolu.uses", "taolu.parent", "mlflow.parentRunId")  # tags that name the runs a run needs
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
RUN, ORPHAN, LEFTOVER, CHECKPOINT = "deleted run", "orphan folder", "leftover", "checkpoint"
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Waste:
    """Something to remove.

    Args:
        what: deleted run, orphan folder, leftover or checkpoint.
        path: a file or folder.
        run_id: of the deleted run.
        name: of the deleted run.
    """

    what: str
    path: Path
    run_id: str = ""
    name: str = ""


@dataclass(frozen=True)
class Collection:
    """What was removed, or would be.

    Args:
        waste: what.
        kept: one line for each deleted run, or kind of file, that stays, with the reason.
        file_bytes: freed by removing files; content with another name that stays is not counted.
        database_bytes: freed in the store's SQLite files; 0 where nothing was removed yet.
        is_done: whether it was removed.
        failures: one line for each thing that could not be.
    """

    waste: tuple[Waste, ...]
    kept: tuple[str, ...]
    file_bytes: int
    database_bytes: int = 0
    is_done: bool = False
    failures: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {what: sum(each.what == what for each in self.waste) for what in (RUN, ORPHAN, LEFTOVER, CHECKPOINT)}

    def plain(self) -> dict[str, object]:
        """As plain values, for JSON."""
        return {
            "removed": self.is_done,
            **{f"{what.replace(' ', '_')}s": count for what, count in self.counts().items()},
            "runs": [each.run_id for each in self.waste if each.what == RUN],
            "paths": [str(each.path) for each in self.waste],
            "bytes": self.file_bytes + self.database_bytes,
            "file_bytes": self.file_bytes,
            "database_bytes": self.database_bytes,
            "kept": list(self.kept),
            "failures": list(self.failures),
        }

    def lines(self) -> Iterator[str]:
        """In words."""
        for each in self.waste:
            what = f"{each.run_id[:8]} {each.name}" if each.what == RUN else str(each.path)
            yield f"{each.what}  {what}"
        yield from (f"kept  {line}" for line in self.kept)
        yield from (f"not removed  {line}" for line in self.failures)
        found = [f"{count} {what}{'s' if count > 1 else ''}" for what, count in self.counts().items() if count]
        listed = ", ".join(found) or "nothing"
        if not self.is_done:
            yield f"would remove {listed}: {self.file_bytes:,} bytes of files, and what the database shrinks by"
            return
        parts = f"{self.file_bytes:,} of files, {self.database_bytes:,} of the database"
        yield f"removed {listed}: {self.file_bytes + self.database_bytes:,} bytes freed ({parts})"


def collect(store: Store, *, older_than: float = 0.0, dry_run: bool = False) -> Collection:
    """Deleted runs, orphan folders, leftovers and checkpoints nobody keeps, removed for good.

    Args:
        store: a folder or a database.
        older_than: seconds since a run was deleted, or a file changed.
        dry_run: remove nothing.

    Running runs, and runs that one uses which stays, are kept. Raises ConfigError for a store behind a server.
    """
    refuse_server(store)
    if dry_run or not store.folder.is_dir():
        waste, kept = _plan(store, older_than)
        return Collection(tuple(waste), tuple(kept), _freed_by(each.path for each in waste))
    with FileLock(store.folder / ".collect.lock"):
        before = database_bytes(store)
        waste, kept = _plan(store, older_than)
        # the rows first: a kill then leaves a folder without a run, which the next collection finds
        ids = [each.run_id for each in waste if each.what == RUN]
        erased = erase_runs(store, ids) if ids else []
        waste = [each for each in waste if each.what != RUN or each.run_id in erased]
        freed, failures = _remove_all(waste)
        failures += vacuum(store)
        shrunk = before - database_bytes(store)
    return Collection(tuple(waste), tuple(kept), freed, shrunk, is_done=True, failures=tuple(failures))


def seconds_of(text: str) -> float:
    """The length of `30d`, `12h`, `2w`, in seconds.

    Raises ConfigError for anything else.

    >>> seconds_of("1.5h")
    5400.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if found is None:
        raise ConfigError(f"--older_than {text}: must be a number and its unit, s, m, h, d or w, as in 30d")
    return float(found[1]) * UNITS[found[2]]


# ---- what to remove -------------------------------------------------------------------------------------------------


def _plan(store: Store, older_than: float) -> tuple[list[Waste], list[str]]:
    now = time.time()
    settled = now - max(older_than, SETTLED_SECONDS)
    # folders before rows: a run that begins meanwhile has its row before its folder
    folders = sorted(path for path in store.artifacts.glob("*") if path.is_dir() and _ID.fullmatch(path.name))
    tables = read_tables(store, Selection(stage=None), ("tags", "params"))
    kept: list[str] = []
    runs = _removable(store, tables, now - older_than, kept)
    waste = [Waste(RUN, store.artifacts / row.run_id, row.run_id, row.name or "") for row in runs]
    known = {row.run_id for row in tables.runs}
    orphans = [path for path in folders if path.name not in known and _changed(path) < settled]
    if orphans and (other := _other_store(store)):
        kept.append(f"{len(orphans)} folders without a run: the folder also serves {other}, whose they may be")
        orphans = []
    waste += [Waste(ORPHAN, path) for path in orphans]
    gone = {each.path for each in waste}
    waste += [Waste(LEFTOVER, path) for path in _leftovers(store, settled) if not gone & {*path.parents}]
    waste += [Waste(CHECKPOINT, path) for path in _unkept(store, tables) if not gone & {*path.parents}]
    return waste, kept


def _removable(store: Store, tables: Tables, before: float, kept: list[str]) -> list[RunRow]:
    """Deleted runs nobody needs; a line in `kept` for each of the others."""
    times = deleted_at(store)
    rows = {row.run_id: row for row in tables.runs}
    chosen = {run_id: rows[run_id] for run_id, moment in times.items() if moment <= before and run_id in rows}
    for run_id, row in list(chosen.items()):
        try:
            if row.status == "RUNNING":
                refuse_live(read_run(store, run_id))
        except ConfigError as error:
            kept.append(str(error))
            del chosen[run_id]
    users = _users(tables)
    while needed := {run_id: by for run_id in chosen if (by := users.get(run_id, set()) - {*chosen})}:
        for run_id, by in needed.items():
            row, first = chosen.pop(run_id), rows[min(by)]
            who = f"run {first.run_id[:8]} {first.name}" + (f" and {len(by) - 1} more" if len(by) > 1 else "")
            kept.append(
                f"run {run_id[:8]} {row.name}: needed by {who}; delete that too, or bring this one back: "
                f"taolu restore {run_id[:8]}"
            )
    return list(chosen.values())


def _users(tables: Tables) -> Mapping[str, set[str]]:
    """Run -> the runs that need it."""
    there = {row.run_id for row in tables.runs}
    users: dict[str, set[str]] = {}
    for run_id, key, value in tables.tags:
        if key in USES and run_id in there:
            for used in _ID.findall(value or ""):
                users.setdefault(used, set()).add(run_id)
    return users


def _other_store(store: Store) -> str:
    """Another database whose runs' files lie in the store's folder; empty where there is none."""
    if store.database is None and (store.folder / DATABASE).exists():
        return DATABASE
    marker = store.folder / SHARED
    labels = marker.read_text(encoding="utf-8").splitlines() if marker.exists() else []
    return next((label for label in labels if label != store.label), "")


def _leftovers(store: Store, settled: float) -> Iterator[Path]:
    """Files that a killed process was writing, and values of runs that are gone."""
    for folder, _, names in os.walk(store.folder):
        for name in names:
            path = Path(folder, name)
            if name.startswith(".") and re.search(r"\.part(-wal|-shm|-journal)?$", name) and _changed(path) < settled:
                yield path
    for path in sorted(spool_folder(store).glob("*.orphan")):  # see replay: the run was removed for good
        if _changed(path) < settled:
            yield path


def _unkept(store: Store, tables: Tables) -> Iterator[Path]:
    """Checkpoints that a finished run's config says not to keep: it was killed before it removed them."""
    names = {"trainer.keep.last": "last.ckpt", "trainer.keep.best": "best.ckpt"}
    finished = {row.run_id for row in tables.runs if row.status == "FINISHED"}
    for run_id, key, value in tables.params:
        if key in names and value == "false" and run_id in finished:
            path = store.run_folder(run_id) / "checkpoints" / names[key]
            if path.exists():
                yield path


def _changed(path: Path) -> float:
    """When the file, or the newest of the folder's files, was changed; now, where it is gone meanwhile."""
    try:
        newest = path.lstat().st_mtime
        for folder, _, names in os.walk(path):
            newest = max([newest, *(os.lstat(os.path.join(folder, name)).st_mtime for name in names)])  # noqa: PTH118
        return newest
    except FileNotFoundError:
        return time.time()


# ---- files ----------------------------------------------------------------------------------------------------------


def _freed_by(paths: Iterable[Path]) -> int:
    """Bytes that removing the paths would free: a file with another name elsewhere stays."""
    names: dict[tuple[int, int], int] = {}
    sizes: dict[tuple[int, int], tuple[int, int]] = {}
    for path in paths:
        for file in _files(path):
            found = file.lstat()
            key = found.st_dev, found.st_ino
            names[key] = names.get(key, 0) + 1
            sizes[key] = found.st_nlink, found.st_size if S_ISREG(found.st_mode) else 0
    return sum(size for key, (links, size) in sizes.items() if names[key] >= links)


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir() or path.is_symlink():
        if path.exists() or path.is_symlink():
            yield path
        return
    for folder, folders, names in os.walk(path):
        yield from (Path(folder, name) for name in names)
        yield from (Path(folder, name) for name in folders if Path(folder, name).is_symlink())


def _remove_all(waste: Iterable[Waste]) -> tuple[int, list[str]]:
    """Bytes freed, and a line for each that could not be removed."""
    freed, failures = 0, []
    for each in waste:
        try:
            freed += _remove(each.path)
        except OSError as error:
            failures.append(f"{error.filename or each.path} ({error.strerror})")
    return freed, failures


def _remove(path: Path) -> int:
    """Bytes freed by removing the file or folder; links are removed, never followed."""
    freed = 0
    for file in list(_files(path)):
        found = file.lstat()
        with suppress(FileNotFoundError):
            file.unlink()
            freed += found.st_size if S_ISREG(found.st_mode) and found.st_nlink == 1 else 0
    if path.is_dir():
        for folder, _, _ in os.walk(path, topdown=False):
            Path(folder).rmdir()
    return freed
