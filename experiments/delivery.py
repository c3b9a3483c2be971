"""The thread that brings a run's spool to the database, whatever the database does."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import Any

from experiments.store.heartbeat import TAG, heartbeat, rank
from experiments.store.replay import deliver
from experiments.store.spool import Chunk, Spool
from experiments.store.write import BATCH, RunWriter

INTERVAL_SECONDS = 1.0
HEARTBEAT_SECONDS = 10.0
SYNC_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 5.0
MOST_IN_MEMORY = 100_000  # values kept when the disk of the spool is full


class Delivery:
    """Takes what is put, appends it to the spool, and delivers the spool in the background.

    Args:
        writer: of the run.
        spool: of this process.
    """

    def __init__(self, writer: RunWriter, spool: Spool) -> None:
        self.writer = writer
        self.spool = spool
        self.beat: dict[str, Any] = {"step": 0, "total_steps": None}
        self._memory: deque[tuple[str, Any]] = deque()
        self._since_wake = 0
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._deadline: float | None = None
        self._trouble = ""
        self._incomplete = False
        self._last_beat = self._last_sync = 0.0
        self._thread = threading.Thread(target=self._run, name="taolu-delivery", daemon=True)
        self._thread.start()

    # -- any thread -------------------------------------------------------------------------------------------

    def put(self, kind: str, content: Any) -> None:
        """A line for the spool: metrics, tags or status. Kept in memory, within bounds, when its disk is full."""
        try:
            self.spool.append(kind, content)
        except (OSError, ValueError) as error:
            self._without_spool(kind, content, error)
        self._since_wake += len(content)
        if self._since_wake >= BATCH or kind == "status":
            self.wake()

    def _without_spool(self, kind: str, content: Any, error: Exception) -> None:
        if not self._incomplete:
            self._incomplete = True
            _warn(f"the spool {self.spool.path} cannot be written ({error}); values stay in memory, some may be lost")
        self._memory.append((kind, content))
        while sum(len(item) for _, item in self._memory) > MOST_IN_MEMORY:
            self._memory.popleft()

    def wake(self) -> None:
        """Delivers now rather than within a second."""
        self._since_wake = 0
        self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Whether everything put so far was delivered, waiting up to `timeout` seconds."""
        if not self._thread.is_alive():
            return self._is_done()
        self._idle.clear()
        self.wake()
        return self._idle.wait(timeout) and self._is_done()

    def close(self, timeout: float) -> bool:
        """Whether everything was delivered within `timeout` seconds; the spool stays if not. Ends the thread."""
        self._deadline = time.monotonic() + timeout
        self.wake()
        self._thread.join(timeout + 30.0)  # a call under way has its own timeout
        done = self._is_done()
        if not done:
            _warn(f"{self.writer.store.label} lacks values; the next taolu command here delivers {self.spool.path}")
        if not self._thread.is_alive():
            self.spool.close(remove=done)
        return done

    def _is_done(self) -> bool:
        return self.spool.waiting == 0 and not self._memory

    # -- the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = 0.0
        while True:
            self._wake.wait(pause or INTERVAL_SECONDS)
            self._wake.clear()
            try:
                self._deliver_all()
                self._housekeeping()
                pause = self._recovered()
            except Exception as error:  # noqa: BLE001 - the database may fail in any way; tracking never ends a training
                pause = self._failed(error, pause)
            if self._is_done():
                self._idle.set()
            closing = self._deadline is not None
            if closing and (self._is_done() or time.monotonic() > (self._deadline or 0.0)):
                return

    def _deliver_all(self) -> None:
        while self.spool.waiting:
            self._check_database()
            chunk = self.spool.chunk(BATCH)
            deliver(self.writer, chunk)
            self.spool.confirm(chunk)
        while self._memory:
            self._check_database()
            kind, content = self._memory[0]
            deliver(self.writer, _chunk(kind, content))
            self._memory.popleft()

    def _check_database(self) -> None:
        database = self.writer.store.database
        if database is not None and not database.exists():  # connecting would make an empty one in its place
            raise FileNotFoundError(f"no database {database}")

    def _housekeeping(self) -> None:
        now = time.monotonic()
        if now - self._last_sync > SYNC_SECONDS:
            self._last_sync = now
            self.spool.sync()
        if now - self._last_beat > HEARTBEAT_SECONDS and self._deadline is None:
            self._last_beat = now
            self._check_database()
            incomplete = {"taolu.incomplete": "the spool's disk was full"} if self._incomplete else {}
            beat = {TAG: heartbeat(**self.beat)} if rank() == 0 else {}  # the run is alive as long as that one is
            self.writer.tags({**beat, **incomplete})

    def _failed(self, error: Exception, pause: float) -> float:
        """Seconds until the next try. Said once, not at every try."""
        if not self._trouble:
            self._trouble = type(error).__name__
            text = " ".join(str(error).split())[:300]
            label = self.writer.store.label
            _warn(f"{label} takes no values ({text}); training goes on, they wait in {self.spool.path}")
        return min(max(2 * pause, 0.1), LONGEST_PAUSE_SECONDS)

    def _recovered(self) -> float:
        if self._trouble:
            self._trouble = ""
            _warn(f"{self.writer.store.label} takes values again; everything waiting was delivered")
        return 0.0


def _chunk(kind: str, content: Any) -> Chunk:
    if kind == "metrics":
        return Chunk(points=content)
    return Chunk(tags=content) if kind == "tags" else Chunk(status=content)


def _warn(text: str) -> None:
    os.write(2, f"taolu: {text}\n".encode())  # from a thread, or at the interpreter's end: print may be gone
