"""`taolu doctor`: whether this machine and this store can do what the platform does."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from experiments.errors import ConfigError
from experiments.store.location import Store, locate

PACKAGES = ("torch", "pytorch-lightning", "mlflow", "optuna", "streamlit", "jsonargparse", "pandas", "numpy")


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Args:
        what: was looked at.
        value: was found.
        good: whether the platform can work with it.
    """

    what: str
    value: str
    good: bool = True


def examine(store: Store, *, create: bool = False) -> list[Finding]:
    """Everything looked at, in order.

    Args:
        store: whose state is told.
        create: make its database now, if it has none.
    """
    return [*_versions(), *_machine(), *_store(store, create)]


def _versions() -> Iterator[Finding]:
    yield Finding("python", platform.python_version())
    for name in PACKAGES:
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            yield Finding(name, f"missing; pip install {name}", good=False)


def _machine() -> Iterator[Finding]:
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    mps = torch.backends.mps.is_available()
    yield Finding("devices", ", ".join(gpus) or ("Apple GPU (mps)" if mps else "processor only"))
    backends = [name for name in ("gloo", "nccl") if torch.distributed.is_backend_available(name)]
    yield Finding("processes together", f"by {', '.join(backends)}" if backends else "not in this build of torch")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("threads", f"{torch.get_num_threads()} used by torch, {cores} cores allowed to this process")
    yield Finding("platform", platform.platform())


def _store(store: Store, create: bool) -> Iterator[Finding]:
    yield Finding("store", store.label)
    if store.database is not None and not store.database.exists() and not create:
        yield Finding("database", "none yet; the first run creates it, or: taolu doctor --create")
        yield _creation()
        return
    from experiments.store.read import runs_table
    from experiments.store.write import open_store, rehome

    try:
        open_store(store)
        moved = rehome(store)
        table = runs_table(store)
        gone = runs_table(store, deleted=True)
    except ConfigError as error:
        yield Finding("database", str(error), good=False)
        return
    size = f", {store.database.stat().st_size / 1e6:.1f} MB" if store.database else ""
    running = int((table["status"] == "RUNNING").sum()) if len(table) else 0
    yield Finding("database", f"{len(table)} runs ({running} running), {len(gone)} deleted{size}")
    if moved:
        yield Finding("moved", f"the folder has moved: {moved} artifact paths rewritten")
    free = shutil.disk_usage(store.folder).free
    yield Finding("disk", f"{free / 1e9:.1f} GB free", good=free > 1e9)


def _creation() -> Finding:
    """Whether a database can be made here, tried in a temporary folder."""
    from experiments.store.write import open_store

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            open_store(locate(str(Path(folder, "mlruns"))))
        except ConfigError as error:
            return Finding("database creation", str(error), good=False)
    return Finding("database creation", f"works ({time.perf_counter() - start:.1f} s)")
