"""SIGINT and SIGTERM end a run at the next batch border; a second SIGINT ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType

NOTICE = b"\nending at the next batch; Ctrl-C again ends at once\n"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The run was told to end. Not an Exception: nobody's `except Exception` may swallow it.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    @property
    def exit_status(self) -> int:
        """128 + the signal, as shells have it: 130 or 143."""
        return 128 + self.signum


class Signals:
    """While entered, a signal sets a flag that `check` turns into Interrupted; until `defer`, it interrupts at once.

    In a thread other than the main one, where Python takes no handlers, nothing is changed.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._deferred = False
        self._ignored = False
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
        """Our handlers; again when a fit starts, as Lightning puts its own before them, which ends inside a window."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in SIGNALS:
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

    def check(self) -> None:
        """Raises Interrupted when a signal has come."""
        if self.received is not None:
            raise Interrupted(self.received)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._ignored:
            self.received = self.received or signum
            return
        again = self.received is not None and signum == signal.SIGINT
        self.received = signum
        if again or not self._deferred:
            raise Interrupted(signum)
        if signum == signal.SIGINT:  # os.write: a handler may not print, it can meet a print half-way
            os.write(2, NOTICE)
