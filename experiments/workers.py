"""Processes that work on one job until nothing is left of it, watched by the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

from experiments.errors import ConfigError
from experiments.signals import Signals

POLL_SECONDS = 0.5
AGAIN_SECONDS = 3.0  # until a worker that has not ended is told again
MOST_DEATHS = 3  # in a row, without anything done between


class Workers:
    """Processes that end by themselves when there is nothing left to do; one that dies is buried and replaced.

    Args:
        count: how many.
        work: what each does, given its number.
        before_start: called before each is started: connections that must not be inherited are closed here.
        bury: takes the pid of a process that died and its exit status.
        progress: called twice a second; returns how much is done so far.
        signals: entered and deferred; what has come is passed on to the workers.
        devices: as CUDA_VISIBLE_DEVICES has them; workers take turns on them, by default on all there are.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[int], None],
        *,
        before_start: Callable[[], None],
        bury: Callable[[int, int], None],
        progress: Callable[[], int],
        signals: Signals,
        devices: Sequence[str] = (),
    ) -> None:
        self._work = work
        self._devices = tuple(devices)
        self._before_start = before_start
        self._bury = bury
        self._progress = progress
        self._signals = signals
        self._processes: dict[int, BaseProcess] = {}  # by number
        self._count = count
        self._deaths = self._done_at_death = 0
        self._told = 0.0

    def run(self, count: int | None = None) -> None:
        """Returns when every worker has ended; so many of them, by default all.

        Raises ConfigError when workers die again and again with nothing done. Whatever is raised, none stays behind.
        """
        try:
            for number in range(self._count if count is None else min(count, self._count)):
                self._start(number)
            while self._processes:
                wait([process.sentinel for process in self._processes.values()], POLL_SECONDS)
                self._pass_on()
                self._collect(self._progress())
        finally:
            for process in self._processes.values():
                process.kill()
                process.join()

    def kill(self, pid: int, host: str) -> None:
        """Ends the worker of that pid at once, if it is one of ours; it is buried and replaced like any that died."""
        for process in self._processes.values():
            if process.pid == pid and host == socket.gethostname():
                process.kill()

    def _start(self, number: int) -> None:
        self._before_start()
        self._processes[number] = start(_work, self._work, number, self._devices)

    def _pass_on(self) -> None:
        """A signal for us is one for them: they are in sessions of their own, where Ctrl-C does not reach."""
        if self._signals.received is None or time.monotonic() - self._told < AGAIN_SECONDS:
            return
        self._told = time.monotonic()
        for process in self._processes.values():
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, signal.SIGTERM)

    def _collect(self, done: int) -> None:
        for number, process in list(self._processes.items()):
            if process.is_alive():
                continue
            process.join()
            del self._processes[number]
            if process.exitcode == 0:
                continue
            self._bury(process.pid or 0, process.exitcode or 0)
            self._deaths = self._deaths + 1 if done == self._done_at_death else 1
            self._done_at_death = done
            if self._deaths >= MOST_DEATHS * self._count:
                raise ConfigError(
                    f"workers died {self._deaths} times with nothing done between (exit status {process.exitcode}; "
                    "-9 = killed, by the system when memory is short); try fewer --workers, or taolu run of one trial"
                )
            if self._signals.received is None:
                self._start(number)


def start(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """The function in a process of its own.

    A fork of this one, which has imported everything, where that is safe: on Linux, with one thread and no GPU in use.
    """
    context = multiprocessing.get_context(_method())
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(["experiments.conduct"])
    # Not of the caller's script, which a child of another method would import, and run again where it has no guard.
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        process: BaseProcess = context.Process(target=function, args=arguments)  # type: ignore[attr-defined]
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # Python 3.12 counts OpenBLAS's threads, which mind forks
            process.start()
    finally:
        sys.modules["__main__"] = main
    return process


def _method() -> str:
    import torch

    if sys.platform == "linux" and threading.active_count() == 1 and not torch.cuda.is_available():
        return "fork"
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def _work(work: Callable[[int], None], number: int, devices: Sequence[str]) -> None:
    os.setsid()  # Ctrl-C is for the process that started us, which passes it on
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _choose_gpu(number, devices)
    work(number)


def _end_with_parent() -> None:
    """Nobody sweeps on when the process that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _choose_gpu(number: int, devices: Sequence[str]) -> None:
    """Workers take turns on the GPUs there are, or on those that were named."""
    import torch

    if not devices:
        if torch.cuda.is_initialized() or not (count := torch.cuda.device_count()):  # type: ignore[no-untyped-call]
            return
        devices = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
