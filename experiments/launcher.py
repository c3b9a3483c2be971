"""Rank zero starts the other processes of this machine by Lightning's launcher, and watches over them."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from experiments.group import GRACE_SECONDS, PARENT, Word, mailbox
from experiments.signals import Signals
from experiments.store.location import Store

POLL_SECONDS = 0.1


class Launcher(_SubprocessScriptLauncher):
    """Lightning's, which tells the processes what run they belong to and leaves the run time to end.

    Lightning's own watcher kills rank zero within 5 s of the first process that ends with another status than 0:
    nobody would write down how the run ended.

    Args:
        launcher: Lightning's, whose place this one takes.
        word: for the processes.
        store: of the run; a queue's item does not name it.
        signals: of this process.
        on_loss: called in a thread with the rank and exit status of a process that died when this one, which may wait
            for it for ever, has not ended by itself.
    """

    def __init__(
        self,
        launcher: _SubprocessScriptLauncher,
        word: Word,
        *,
        store: Store,
        signals: Signals,
        on_loss: Callable[[int, int], None],
    ) -> None:
        super().__init__(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)
        self._word = word
        self._store = store
        self._signals = signals
        self._on_loss = on_loss
        self._is_over = threading.Event()

    def launch(self, function: Callable[..., Any], *args: Any, trainer: pl.Trainer | None = None, **kwargs: Any) -> Any:
        """Starts the processes, where nobody else did, and calls the function."""
        environment = self.cluster_environment
        environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        self._signals.agree()
        if not environment.creates_processes_externally:
            mailbox(environment.main_address, environment.main_port, True).put(self._word, self.num_processes - 1)
            self._call_children_scripts()
            atexit.register(self.close)
            threading.Thread(target=self._watch, name="taolu-ranks", daemon=True).start()
        return function(*args, **kwargs)

    def _call_children_scripts(self) -> None:
        self._check_can_spawn_children()
        environment = self.cluster_environment
        os.environ |= {
            "MASTER_ADDR": environment.main_address,
            "MASTER_PORT": str(environment.main_port),
            "NODE_RANK": str(environment.node_rank()),
            "LOCAL_RANK": "0",
            "WORLD_SIZE": str(self.num_processes),
        }
        for rank in range(1, self.num_processes):
            own = {"LOCAL_RANK": str(rank), PARENT: str(os.getpid()), "MLFLOW_TRACKING_URI": self._store.url}
            self.procs.append(subprocess.Popen(_command(self._store), env={**os.environ, **own}))

    def losses(self) -> dict[int, int]:
        """Exit statuses of the processes that have died, by rank."""
        codes = {rank: process.poll() for rank, process in enumerate(self.procs, 1)}
        return {rank: code for rank, code in codes.items() if code}

    def _watch(self) -> None:
        while not self._is_over.wait(POLL_SECONDS):
            lost = self.losses()
            if lost and not self._is_over.wait(GRACE_SECONDS):
                self._on_loss(*next(iter(lost.items())))
                return

    def rest(self) -> None:
        """The run has ended: whatever becomes of the processes now is no loss."""
        self._is_over.set()

    def close(self) -> None:
        """Returns when all processes have ended; those that do not end by themselves are killed."""
        self.rest()
        end = time.monotonic() + GRACE_SECONDS
        for process in self.procs:
            try:
                process.wait(max(end - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()


def _command(store: Store) -> list[str]:
    """What starts a process like this one: the same command, or, for a script of the user's own, that."""
    import __main__

    place = Path(sys.argv[0])
    if place.name == "taolu" or place.parent == Path(__file__).parent:
        is_told = store.database is not None or any(word.startswith("--store_dir") for word in sys.argv)
        folder = [] if is_told else ["--store_dir", str(store.folder)]
        return [sys.executable, "-P", "-m", "experiments", *sys.argv[1:], *folder]
    if __main__.__spec__ is None:
        return [sys.executable, str(place.absolute()), *sys.argv[1:]]
    return [sys.executable, "-m", __main__.__spec__.name, *sys.argv[1:]]


def prepare(
    trainer: pl.Trainer, word: Word, *, store: Store, signals: Signals, on_loss: Callable[[int, int], None]
) -> None:
    """The trainer without Lightning's own handling of signals, requeuing included, and of processes that die.

    Its handlers end a run inside an accumulation window, and with several processes exchange tensors inside the
    handler, where gloo raises.
    """
    trainer._signal_connector.register_signal_handlers = _none  # type: ignore[method-assign]
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        trainer.strategy._launcher = Launcher(launcher, word, store=store, signals=signals, on_loss=on_loss)


def losses(trainer: pl.Trainer) -> dict[int, int]:
    """Exit statuses of the processes that this one started and that have died, by rank."""
    launcher = trainer.strategy.launcher
    return launcher.losses() if isinstance(launcher, Launcher) else {}


def part(trainer: pl.Trainer, *, all_end: bool) -> None:
    """The processes of a group part.

    Args:
        trainer: of this process.
        all_end: whether the others end, too: those that wait for this one notice by the closed connection.
    """
    launcher = trainer.strategy.launcher
    if isinstance(launcher, Launcher):
        launcher.rest()
    if all_end and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if all_end and isinstance(launcher, Launcher):
        launcher.close()


def _none() -> None:
    """Sets no handlers."""
