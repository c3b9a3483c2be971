"""Two processes that train together, started as torchrun or SLURM start theirs: by their environment."""

from __future__ import annotations

import os
import socket
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.processes import _main, fork


class Pair:
    """`taolu ARGUMENTS` on rank 0 and rank 1.

    Args:
        arguments: of both.
        folder: what rank N prints goes to N.txt.
        slurm: whether SLURM's variables tell them who they are.
    """

    def __init__(self, arguments: list[str], folder: Path, *, slurm: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.outputs = [folder / "0.txt", folder / "1.txt"]
        port = str(_free_port())
        self.processes: list[BaseProcess] = [
            fork(_as_rank, _variables(rank, port, slurm=slurm), arguments, output)
            for rank, output in enumerate(self.outputs)
        ]

    def send(self, rank: int, signum: int) -> None:
        """The signal to one of them."""
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, signum)

    def statuses(self) -> list[int | None]:
        """Exit statuses of both, once they have ended."""
        for process in self.processes:
            process.join(60)
        return [process.exitcode for process in self.processes]

    @property
    def said(self) -> list[str]:
        """What each has printed."""
        return [output.read_text() for output in self.outputs]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _variables(rank: int, port: str, *, slurm: bool) -> dict[str, str]:
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    if slurm:
        job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "vae", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
        task = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0", "SLURM_NNODES": "1"}
        return {**where, **job, **task}
    return {**where, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}


def _as_rank(variables: dict[str, str], arguments: list[str], output: Path) -> None:
    os.environ |= variables
    _main(arguments, output)
