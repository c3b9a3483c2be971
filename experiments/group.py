"""Processes that train together: which they are, and how those that follow learn which run rank zero has made.

Lightning starts them, or torchrun, or SLURM, or the user; all of these name a host and a port where rank zero (or
torchrun's agent) can be met, and there lies the word.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cache
from typing import Literal

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.rank_zero import rank_zero_only
from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

from experiments.build import n_processes
from experiments.errors import ConfigError
from experiments.trainer import TrainerOptions

PARENT = "TAOLU_PARENT"  # pid of the rank zero that started this process
POLL_SECONDS = 0.05
MEET_SECONDS = 600.0  # for rank zero to be there: it may have the longer way to the data
GRACE_SECONDS = 5.0  # for a process to end by itself when another one has gone


@dataclass(frozen=True)
class Word:
    """What rank zero tells the other processes.

    Args:
        run_id: of the run they are part of.
        state: whether it began, goes on, or is finished and there is nothing to do.
        threads: of each process.
    """

    run_id: str
    state: Literal["started", "resumed", "finished"]
    threads: int


class Mailbox:
    """Where rank zero leaves one word a run, and the other processes read it.

    Args:
        address: of the host.
        port: on which the processes meet; PyTorch's own meeting uses it as well.
        is_host: whether this process keeps the words.
    """

    def __init__(self, address: str, port: int, is_host: bool) -> None:
        if not is_host:
            _await_server(address, port)
        self._store = TCPStore(
            address, port, is_master=is_host, multi_tenant=True, wait_for_workers=False, timeout=timedelta(seconds=60)
        )
        self._is_host = is_host
        self._number = 0  # of the run, where one process makes several

    def put(self, word: Word, readers: int) -> None:
        """Leaves the word; where nothing follows and the words go with this process, waits until all have read it."""
        key = self._next()
        self._store.set(key, json.dumps(asdict(word)))
        end = time.monotonic() + MEET_SECONDS
        while word.state == "finished" and self._is_host and time.monotonic() < end:
            if self._store.add(f"{key}/read", 0) >= readers:
                return
            time.sleep(POLL_SECONDS)

    def get(self) -> Word:
        """The word, once it is there.

        Raises ConfigError when whoever keeps it has gone.
        """
        key = self._next()
        try:
            while not self._store.check([key]):
                time.sleep(POLL_SECONDS)
            word = Word(**json.loads(self._store.get(key)))
            self._store.add(f"{key}/read", 1)
        except DistError as error:
            raise ConfigError("rank zero has ended without a run; its own message says why") from error
        return word

    def _next(self) -> str:
        self._number += 1
        return f"taolu/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{self._number}"


@cache  # rank zero's words must stay until PyTorch's meeting, at the same port, is over
def mailbox(address: str, port: int, is_host: bool) -> Mailbox:
    """The one of this process at that place."""
    return Mailbox(address, port, is_host)


def _await_server(address: str, port: int) -> None:
    """Returns when somebody listens; torch's own waiting could not be interrupted by a signal."""
    end = time.monotonic() + MEET_SECONDS
    while True:
        try:
            socket.create_connection((address, port), 1.0).close()
        except OSError as error:
            if time.monotonic() > end:
                minutes = MEET_SECONDS / 60
                raise ConfigError(f"rank zero was not at {address}:{port} within {minutes:.0f} minutes") from error
            time.sleep(POLL_SECONDS)
        else:
            return


@dataclass(frozen=True)
class Group:
    """This process among those that train together.

    Args:
        rank: its number, from 0.
        size: how many they are.
        n_local: how many of them are on this machine.
        mailbox: None where rank zero will start the others, or there are none.
    """

    rank: int = 0
    size: int = 1
    n_local: int = 1
    mailbox: Mailbox | None = None

    def tell(self, word: Word) -> None:
        """Rank zero's word to processes that somebody else has started."""
        if self.mailbox is not None and self.rank == 0:
            self.mailbox.put(word, self.size - 1)

    def hear(self) -> Word | None:
        """Rank zero's word; None on rank zero.

        Raises ConfigError when rank zero has gone.
        """
        return self.mailbox.get() if self.mailbox is not None and self.rank > 0 else None


def join(options: TrainerOptions) -> Group:
    """This process's place among those that the options ask for.

    Raises ConfigError when another number of processes was started.
    """
    size = n_processes(options)
    if size == 1 and _is_task():  # one of several that have nothing to do with each other, as the workers of a sweep
        rank_zero_only.rank = 0  # type: ignore[attr-defined]
        return Group()
    environment = _environment()
    if environment is None:
        if options.num_nodes > 1:
            raise ConfigError(
                f"trainer.num_nodes = {options.num_nodes}: somebody must start the processes on each machine; "
                "use torchrun or srun"
            )
        return Group(size=size, n_local=size)
    started, n_local = _started(environment, size), max(size // options.num_nodes, 1)
    if started != size:
        raise ConfigError(
            f"trainer.devices {options.devices} x num_nodes {options.num_nodes} = {size} processes, but {started} were "
            f"started; give --trainer.devices {max(started // options.num_nodes, 1)}"
        )
    if size == 1:
        return Group()
    rank = _rank(environment, n_local)
    os.environ["RANK"] = str(rank)
    if PARENT in os.environ:
        end_with(int(os.environ.pop(PARENT)))
    is_host = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    return Group(rank, size, n_local, mailbox(environment.main_address, environment.main_port, is_host))


def _environment() -> ClusterEnvironment | None:
    """What tells of processes that somebody else started; None where nobody did."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if _is_task() and SLURMEnvironment.detect():
        return SLURMEnvironment()
    return LightningEnvironment() if "LOCAL_RANK" in os.environ else None


def _is_task() -> bool:
    """Whether srun started this process and others."""
    several = int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ
    return several and "LOCAL_RANK" not in os.environ


def _started(environment: ClusterEnvironment, size: int) -> int:
    """Processes that were started. Lightning takes its number away again after a fit: those are as many as were."""
    if isinstance(environment, LightningEnvironment):
        return int(os.environ.get("WORLD_SIZE", size))
    return environment.world_size()


def _rank(environment: ClusterEnvironment, n_local: int) -> int:
    if isinstance(environment, LightningEnvironment):
        return int(os.environ.get("RANK", environment.node_rank() * n_local + environment.local_rank()))
    return environment.global_rank()


def end_with(pid: int) -> None:
    """This process ends soon after its parent, whatever it is waiting for."""

    def watch() -> None:
        while os.getppid() == pid:
            time.sleep(0.5)
        time.sleep(GRACE_SECONDS)
        os._exit(1)

    _start(watch)


def _start(function: Callable[[], None]) -> None:
    threading.Thread(target=function, daemon=True).start()
