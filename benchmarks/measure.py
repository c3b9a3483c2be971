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
