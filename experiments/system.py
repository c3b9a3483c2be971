"""What the machine is doing while a run trains, every 10 s, from every process of the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from experiments.store.heartbeat import rank
from experiments.store.spool import Point

INTERVAL_SECONDS = 10.0


class SystemMetrics:
    """Samples the processor, memory, disk and GPU in a thread of its own, as `system/rank0/...`.

    Args:
        record: takes the points.
        step: tells the step they belong to.
        folder: on the disk that is watched.
    """

    def __init__(self, record: Callable[[list[Point]], None], step: Callable[[], int], folder: Path) -> None:
        self._record = record
        self._step = step
        self._folder = folder
        self._end = threading.Event()
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only starts the count
        self._thread = threading.Thread(target=self._run, name="taolu-system", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._end.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._end.wait(INTERVAL_SECONDS):
            now, step = time.time_ns() // 1_000_000, self._step()
            values = sample(self._process, self._folder)
            self._record([(f"system/rank{rank()}/{key}", value, now, step) for key, value in values.items()])


def sample(process: psutil.Process, folder: Path) -> dict[str, float]:
    """One reading: shares in percent, sizes in bytes."""
    memory = psutil.virtual_memory()
    found = {
        "cpu_percent": process.cpu_percent(),
        "machine_cpu_percent": psutil.cpu_percent(),
        "memory_bytes": float(process.memory_info().rss),
        "machine_memory_percent": memory.percent,
        "disk_percent": psutil.disk_usage(str(folder)).percent,
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        device = torch.cuda.current_device()
        free, total = torch.cuda.mem_get_info(device)
        found["gpu_memory_bytes"] = float(total - free)
        found["gpu_memory_percent"] = 100.0 * (total - free) / total
        with suppress(RuntimeError, ModuleNotFoundError):  # needs NVIDIA's management library
            found["gpu_utilization_percent"] = float(torch.cuda.utilization(device))
    return found
