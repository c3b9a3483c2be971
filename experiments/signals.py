"""SIGINT and SIGTERM end a run at the next batch border; a second SIGINT ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType

from experiments.store.heartbeat import rank

NOTICE = b"\nending at the next batch; Ctrl-C again ends at once\n"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PRE_EMPTING = (signal.SIGTERM, signal.SIGUSR1)  # by which a cluster asks for its machine back
TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h: the same command, given again, goes on


class Interrupted(BaseException):
    """The run was told to end. Not an Exception: nobody's `except Exception` may swallow it.

    Args:
        signum: the signal.
        is_preempted: whether the run is to be started again.
    """

    def __init__(self, signum: int, *, is_preempted: bool = False) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.is_preempted = is_preempted

    @property
    def exit_status(self) -> int:
        """128 + the signal, as shells have it: 130 or 143; 75 for a run that is to be started again."""
        return TEMPORARY if self.is_preempted else 128 + self.signum


class Signals:
    """While entered, a signal sets a flag that `check` turns into Interrupted; until `defer`, it interrupts at once.

    In a thread other than the main one, where Python takes no handlers, nothing is changed.

    Args:
        preemptible: whether SIGTERM and SIGUSR1 mean that the run is to be started again.
    """

    def __init__(self, *, preemptible: bool = False) -> None:
        self.received: int | None = None
        self.is_urgent = False  # a second SIGINT: no border is waited for
        self._preemptible = preemptible
        self._deferred = False
        self._ignored = False
        self._agreed = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Signals:
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        self._previous = {}

    def install(self) -> None:
        """Our handlers, in front of whoever's are there."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in {*SIGNALS, *(PRE_EMPTING if self._preemptible else ())}:
            current = signal.getsignal(signum)
            if current != self._handle:
                self._previous.setdefault(signum, current)
                signal.signal(signum, self._handle)

    def defer(self) -> None:
        """From here on a run exists: signals wait for a border, where its state can be kept."""
        self._deferred = True

    def ignore(self) -> None:
        """From here on nothing is interrupted: the run's end is being written down."""
        self._ignored = True

    def heed(self) -> None:
        """What `ignore` began ends: raises Interrupted when a signal has come since."""
        self._ignored = False
        self.check()

    def agree(self) -> None:
        """From here on several processes train: none leaves alone, they ask each other at borders (`border.py`)."""
        self._agreed = True

    def check(self) -> None:
        """Raises Interrupted when a signal has come, unless the processes of a group must agree first."""
        if self.received is not None and not self._agreed:
            raise self.interruption(self.received)

    def interruption(self, signum: int) -> Interrupted:
        """What the signal means for this run."""
        return Interrupted(signum, is_preempted=self._preemptible and signum in PRE_EMPTING)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._ignored:
            self.received = self.received or signum
            return
        self.is_urgent = self.received is not None and signum == signal.SIGINT
        self.received = signum
        if self.is_urgent or not self._deferred:
            raise self.interruption(signum)
        if signum == signal.SIGINT and rank() == 0:  # os.write: a handler may not print, it can meet a print half-way
            os.write(2, NOTICE)
