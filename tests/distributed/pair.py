"""Two processes that train together, forked as `tests.processes` forks the command: half a second instead of twelve."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.processes import fork


def pair(function: Callable[..., None], folder: Path, *arguments: Any, seconds: float = 240.0) -> None:
    """The function on ranks 0 and 1, as a launcher of processes would start it; what a rank raises is raised here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    ranks = [fork(_as_rank, rank, port, folder, function, *arguments) for rank in range(2)]
    for process in ranks:
        process.join(seconds)
    ended = [process.exitcode for process in ranks]
    for process in ranks:
        if process.is_alive():
            process.kill()
    if ended != [0, 0]:
        said = "\n".join((folder / f"rank{rank}.txt").read_text() for rank in range(2))
        raise RuntimeError(f"ranks ended with {ended}:\n{said[-6000:]}")


def _as_rank(rank: int, port: int, folder: Path, function: Callable[..., None], *arguments: Any) -> None:
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    with (folder / f"rank{rank}.txt").open("w", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        try:
            function(*arguments)
        except BaseException:  # noqa: BLE001 - a rank is to say whatever ended it
            traceback.print_exc()
            file.flush()
            os._exit(1)
        file.flush()
        os._exit(0)
