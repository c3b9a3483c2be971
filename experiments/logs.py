"""`taolu logs`: what a run printed, and what it goes on to print."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

from experiments.errors import ConfigError
from experiments.scribe import MARK_LINE
from experiments.store.heartbeat import TAG, is_dead, is_stale
from experiments.store.location import Store
from experiments.store.read import RunRecord, find_run, read_run

POLL_SECONDS = 0.3
LOOK_SECONDS = 1.0  # between two looks whether the run has ended
QUIET_SECONDS = 1.0  # without a new line, after a run's end, its log is complete
MEMORY = 4096  # bytes by which the place in the file is found again


def logs(store: Store, handle: str, *, follow: bool = False) -> Iterator[str]:
    """Pieces of a run's console.log; with `follow` until the run has ended.

    Raises ConfigError when there is no such run, or it kept no console.
    """
    record = read_run(store, find_run(store, handle))
    path = record.folder / "console.log"
    goes_on = follow and not _has_ended(record)
    if not (path.exists() or goes_on):
        raise ConfigError(
            f"run {record.run_id[:8]} (kind {record.kind}) kept no console.log in {record.folder}; "
            f"see what it has: taolu show {record.run_id[:8]}"
        )
    tail = Tail(path)
    if goes_on:
        yield from _following(store, record, tail)
    yield from tail.read(whole=True)


def _following(store: Store, record: RunRecord, tail: Tail) -> Iterator[str]:
    looked = printed = time.monotonic()
    ended = False
    while not ended or time.monotonic() - printed < QUIET_SECONDS:
        for text in tail.read():
            printed = time.monotonic()
            yield text
        if not ended and time.monotonic() - looked > LOOK_SECONDS:
            looked, ended = time.monotonic(), _has_ended(read_run(store, record.run_id))
        time.sleep(POLL_SECONDS)


def _has_ended(record: RunRecord) -> bool:
    beat = json.loads(record.tags.get(TAG, "{}"))
    return record.status != "RUNNING" or not beat or is_dead(beat) or is_stale(beat)


class Tail:
    """A file that grows, and now and then loses its middle: see scribe.Copy.

    Args:
        path: of the file; it may come later.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._end = 0  # of what was read
        self._memory = b""  # the bytes before it
        self._seen = (0, 0)  # size and time of the file as it was read

    def read(self, *, whole: bool = False) -> Iterator[str]:
        """The complete lines that are new, if there are any; with `whole` what is begun, too."""
        if not self._path.exists():
            return
        stat = self._path.stat()
        if (stat.st_size, stat.st_mtime_ns) == self._seen and not whole:
            return
        self._seen = stat.st_size, stat.st_mtime_ns
        data = self._path.read_bytes()
        begin = self._place(data)
        end = len(data) if whole else data.rfind(b"\n") + 1
        if end > begin:
            self._end, self._memory = end, data[max(end - MEMORY, 0) : end]
            yield data[begin:end].decode("utf-8", "replace")

    def _place(self, data: bytes) -> int:
        """Where the unread begins."""
        if data.startswith(self._memory, max(self._end - len(self._memory), 0)):
            return self._end
        found = data.rfind(self._memory)  # what stood between has been left out
        if found >= 0:
            return found + len(self._memory)
        mark = MARK_LINE.search(data)
        return mark.start() if mark else 0
