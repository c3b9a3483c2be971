"""`taolu worker`: runs of the queue, one after the other on each of its places, until told to end.

The process that is started only watches. Each item is run in a process of its own, which takes it, runs it and moves
it on: code edited between two runs is read anew, and a run that dies takes nothing with it.
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from experiments.build import Say
from experiments.config import resolve
from experiments.errors import ConfigError
from experiments.notify import Notifier
from experiments.queue import Taken, count_waiting, recover, take
from experiments.run import FINISHED, KILLED, Label, Result, run
from experiments.signals import Interrupted, Signals
from experiments.store.location import Store
from experiments.store.write import open_store, release_connections
from experiments.workers import start

POLL_SECONDS = 0.5
AGAIN_SECONDS = 3.0  # until a run that has not ended is told again
MOST_CRASHES = 3  # in a row, of processes that could not even take an item
DONE, FAILED, PUT_BACK = 0, 1, 143  # exit status of a process that ran an item


@dataclass(frozen=True)
class Place:
    """Where runs go, one at a time.

    Args:
        device: its GPU, as CUDA_VISIBLE_DEVICES has it; None = whatever there is.
        threads: of a run whose config leaves them open; None = all cores.
    """

    device: str | None = None
    threads: int | None = None


def places(devices: str | None, workers: int | None) -> list[Place]:
    """A place for each device of a list such as "0,1", or that many for the processor with one thread each.

    With neither it is one place, with all there is.

    Raises ConfigError for what is no list of this machine's devices.
    """
    if devices is not None and workers is not None:
        raise ConfigError("--devices and --workers: give one; --devices runs one worker a device")
    if devices is None:
        return [Place()] if workers is None else [Place(threads=1)] * workers
    import torch

    names = devices.split(",")
    count = torch.cuda.device_count()
    if not all(name.isascii() and name.isdecimal() for name in names) or len({*names}) < len(names):
        raise ConfigError(f"--devices {devices}: must be different numbers with commas between, as in --devices 0,1")
    for name in names:
        if int(name) >= count:
            found = f"GPUs 0 to {count - 1}" if count else "no GPU that torch can use; runs on the processor: --workers"
            raise ConfigError(f"--devices {devices}: this machine has {found}")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")
    threads = max(len(os.sched_getaffinity(0)) // len(names), 1)
    return [Place(visible[int(name)], threads) for name in names]


def work(store: Store, where: Sequence[Place], *, once: bool, notify: Sequence[str] = (), say: Say) -> int:
    """The exit status of a worker that was told to end, or with `once` has emptied the queue: 1 if a run failed.

    Args:
        store: whose queue.
        where: the places, each a run at a time.
        once: end when nothing waits.
        notify: URLs of apprise, told how each run ends.
        say: prints one line.

    Raises ConfigError when the store cannot be used, and Interrupted when a signal ended it: runs at work are KILLED
    and their items wait again.
    """
    Notifier(tuple(notify), say).check()
    with Signals() as signals:
        open_store(store)
        resolve("vae")  # imports once what every run's process would import again
        signals.defer()
        crew = _Crew(store, where, once, tuple(notify), signals, say)
        status = crew.run()
        signals.check()
        return status


class _Crew:
    """The process that watches."""

    def __init__(
        self, store: Store, where: Sequence[Place], once: bool, notify: tuple[str, ...], signals: Signals, say: Say
    ) -> None:
        self._store = store
        self._free = list(where)
        self._once = once
        self._notify = notify
        self._signals = signals
        self._say = say
        self._running: dict[Connection, tuple[BaseProcess, Place]] = {}
        self._fresh: set[Connection] = set()  # of processes that have taken nothing yet
        self._crashes = 0
        self._failed = False
        self._told = 0.0

    def run(self) -> int:
        """Returns when there is nothing left to do, or nobody to do it."""
        try:
            while True:
                for item in recover(self._store):
                    self._say(f"item {item.number}: its process had died; {item.error or 'it waits again'}")
                self._fill()
                if not self._running and (self._once or self._is_ending or not self._free):
                    return FAILED if self._failed else DONE
                self._rest()
                self._pass_on()
        finally:
            for process, _ in self._running.values():
                process.kill()
                process.join()
            recover(self._store)

    @property
    def _is_ending(self) -> bool:
        return self._signals.received is not None

    def _fill(self) -> None:
        """Starts as many processes as there are free places and waiting items."""
        if self._is_ending:
            return
        for place in self._free[: max(count_waiting(self._store) - len(self._fresh), 0)]:
            self._free.remove(place)
            near, far = multiprocessing.Pipe(duplex=False)
            release_connections(self._store)  # a connection that two processes hold breaks the database
            self._running[near] = start(_perform, self._store, place, self._notify, far), place
            self._fresh.add(near)
            far.close()

    def _rest(self) -> None:
        """Until somebody says something or ends, or it is time to look again."""
        if not self._running:
            time.sleep(POLL_SECONDS)
            return
        for near in wait([*self._running], POLL_SECONDS):
            assert isinstance(near, Connection)
            try:
                self._say(near.recv())
                self._fresh.discard(near)
            except EOFError:
                self._collect(near)

    def _collect(self, near: Connection) -> None:
        process, place = self._running.pop(near)
        near.close()
        process.join()
        if process.exitcode == PUT_BACK and not self._is_ending:
            return  # somebody ended this one: its place is gone
        self._free.append(place)
        self._failed |= process.exitcode == FAILED
        crashed = near in self._fresh and process.exitcode != DONE
        self._fresh.discard(near)
        self._crashes = self._crashes + 1 if crashed else 0
        if self._crashes >= MOST_CRASHES:
            raise ConfigError(
                f"{self._crashes} processes in a row died before they could take an item (exit status "
                f"{process.exitcode}; -9 = killed, by the system when memory is short); try taolu run"
            )

    def _pass_on(self) -> None:
        """A signal for us is one for them: they are in sessions of their own, where Ctrl-C does not reach."""
        if not self._is_ending or time.monotonic() - self._told < AGAIN_SECONDS:
            return
        self._told = time.monotonic()
        for process, _ in self._running.values():
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, signal.SIGTERM)


# ---- the process that runs ------------------------------------------------------------------------------------------


def _perform(store: Store, place: Place, notify: tuple[str, ...], report: Connection) -> None:
    os.setsid()  # Ctrl-C is for the process that started us, which passes it on
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if place.device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.device
    sys.exit(perform(store, place.threads, notify, report.send))


def _end_with_parent() -> None:
    """Nobody works on when the process that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def perform(store: Store, threads: int | None, notify: Sequence[str], report: Say) -> int:
    """The exit status of the next item's run in this process, the item moved on: done, failed or waiting again.

    Args:
        store: whose queue.
        threads: where the item's config leaves them open.
        notify: URLs of apprise.
        report: prints a line as the run begins and when it has ended.
    """
    taken = None
    with Signals() as signals:
        try:
            taken = take(store)
            if taken is None:
                return DONE
            _tell(report, f"item {taken.item.number}: {taken.item.command}")
            result: Result | str = _run(store, taken, threads, notify, report)
        except Interrupted:
            result = KILLED
        signals.ignore()
        return PUT_BACK if taken is None else _move_on(taken, result, report)


def _run(store: Store, taken: Taken, threads: int | None, notify: Sequence[str], report: Say) -> Result | str:
    """How the item's run ended, or in one line why there is none."""

    def started(run_id: str) -> None:
        taken.note(run_id)
        _tell(report, f"item {item.number} is run {run_id[:8]}")

    item = taken.item
    if not item.config:
        return item.error
    try:
        os.chdir(item.folder)
        sys.argv[1:] = ["run", *shlex.split(item.command)]  # what the run keeps as its command
        config = item.resolved()
        if config.values["threads"] is None and threads is not None:
            config = config.with_threads(threads)
        label = Label(item.name, dict(item.tags), item.note, notify=tuple(notify))
        return run(config, store=store, label=label, say=print, started=started)
    except Exception as failure:  # noqa: BLE001 - what cannot be built fails its item, not the worker
        return f"{type(failure).__name__}: {' '.join(str(failure).split())}"


def _move_on(taken: Taken, result: Result | str, report: Say) -> int:
    """The item where it belongs now."""
    number = taken.item.number
    status = result.status if isinstance(result, Result) else result
    if status == KILLED and not taken.is_stopped:
        taken.put_back()
        _tell(report, f"item {number} waits again")
        return PUT_BACK
    error = "stopped" if taken.is_stopped else "" if status == FINISHED else getattr(result, "error", "") or status
    taken.conclude(error)
    after = f" after {result.seconds:.1f} s" if isinstance(result, Result) else ""
    _tell(report, f"item {number} failed{after}: {error}" if error else f"item {number} done{after}")
    return FAILED if error else DONE


def _tell(report: Say, line: str) -> None:
    """Whoever listened may be gone."""
    with suppress(OSError):
        report(line)
