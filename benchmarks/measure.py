"""What the benchmarks share: processor time of the training thread and of the process, the machine, medians."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


class Stopwatch:
    """Processor time, which other programs of the machine hardly change, and wall time."""

    def __init__(self) -> None:
        self.thread_seconds = self.process_seconds = self.wall_seconds = 0.0
        self.start()

    def start(self) -> None:
        self._thread, self._process, self._wall = time.thread_time(), time.process_time(), time.perf_counter()

    def stop_thread(self) -> None:
        self.thread_seconds = time.thread_time() - self._thread

    def stop(self) -> None:
        self.process_seconds = time.process_time() - self._process
        self.wall_seconds = time.perf_counter() - self._wall


class Steps:
    """Counts steps, and the time between the first that matters and the last.

    Args:
        first: step after which the watch starts.
        last: step after which it stops.
    """

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.watch = Stopwatch()
        self.done = 0

    def step(self) -> bool:
        """One more is done. Whether it was the last."""
        self.done += 1
        if self.done == self.first:
            self.watch.start()
        if self.done == self.last:
            self.watch.stop_thread()
            self.watch.stop()
        return self.done >= self.last

    def row(self) -> dict[str, float]:
        """Milliseconds a step, of the training thread and of the process."""
        count = (self.last - self.first) / 1000
        return {"thread_ms": self.watch.thread_seconds / count, "process_ms": self.watch.process_seconds / count}


def machine() -> dict[str, str | int | None]:
    """The processor by its name, and its cores."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return {"processor": processor, "cores": os.cpu_count(), "platform": platform.platform()}


def versions(*packages: str) -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 4)
