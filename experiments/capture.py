"""Everything a process prints, also in a file: by Python, by C code, by its children."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from experiments.scribe import CLOSED
from experiments.store.location import SECRETS

SCRIBE = Path(__file__).with_name("scribe.py")
START_SECONDS = 20.0  # for the scribe to be there; it needs 0.02
END_SECONDS = 30.0  # for the file to be complete; longer only when the user's own reader stands still
# The scribe must outlive the training, whoever ends it; SIGKILL to it alone is the one thing it cannot survive.
BLOCKED = {
    getattr(signal, f"SIG{name}") for name in ("INT", "TERM", "HUP", "QUIT", "TSTP", "USR1", "USR2", "ALRM", "XCPU")
}


class ConsoleLog:
    """While entered, what the process prints also goes to a file, without colours, redrawn lines and secrets.

    Descriptors 1 and 2 become pipes to `experiments/scribe.py`, a process that passes every byte on and keeps the copy.
    A thread of ours could not read them: C code that prints more than a pipe holds, while it holds the interpreter's
    lock, would wait for ever. The scribe lives as long as anybody can write, so kill -9 of the training loses nothing
    that was printed. What several streams share stays shared, so their order is kept.

    A terminal is replaced by a pseudo-terminal of its size, not by a tee of `sys.stdout`: it is a terminal to everybody
    (isatty, rich, tqdm, breakpoint), and the file has there, too, what C code and children print. A `sys.stdout` that
    does not write to descriptor 1 (pytest, notebooks), or a terminal without a pseudo-terminal, is teed in Python.

    Python's and C's standard output write whole lines while entered, so that the file is less than a second behind.
    Nothing is raised: where the file or the scribe fail, one line on stderr says so.

    Args:
        path: appended to.
        cap_bytes: of the file: the first half is kept, then a line says how much is left out, then the newest.
    """

    def __init__(self, path: Path, cap_bytes: int = 2_000_000) -> None:
        self.path = path
        self.cap_bytes = cap_bytes
        self._owner = 0  # the process that entered; forked children leave without touching anything
        self._saved: dict[int, int] = {}
        self._tees: dict[str, _Tee] = {}
        self._line_buffering: list[TextIOWrapper[Any]] = []
        self._control = self._answer = CLOSED
        self._scribe: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ConsoleLog:
        try:
            self._start()
        except (OSError, termios.error) as error:
            warn(f"{self.path} will not have what is printed ({error.args[-1]}); training goes on")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if os.getpid() != self._owner:
            if self._scribe is not None:
                self._scribe.returncode = 0  # not this process's child; without it Popen warns
            return
        self._owner = 0
        try:
            self._restore()
        finally:
            self._finish()

    # ---- entering ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        _flush()
        groups = _shared_descriptors()
        wires = [wire for descriptors in groups if (wire := _wire(descriptors)) is not None]
        replaced = [descriptor for wire in wires for descriptor in wire.replaces]
        unseen = [name for name in ("stdout", "stderr") if _is_unseen(getattr(sys, name), replaced)]
        if unseen:
            wires.append(_Wire(*_pipe(), CLOSED, []))
        try:
            if wires:
                self._launch(wires)
        except OSError:
            for wire in wires:
                os.close(wire.end)
            raise
        finally:
            for wire in wires:
                wire.give_away()
        self._owner = os.getpid()
        self._replace(wires, unseen)

    def _launch(self, wires: list[_Wire]) -> None:
        """Returns when the scribe listens."""
        kept = [number for wire in wires for number in (wire.source, wire.sink) if number != CLOSED]
        orders, self._control = _pipe()
        self._answer, answers = _pipe()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)  # inherited, so that there is no moment without
        try:
            self._scribe = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SCRIBE)],
                stdin=orders,
                stdout=answers,
                pass_fds=kept,
                cwd="/",
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(orders)
            os.close(answers)
            if self._scribe is None:
                self._hang_up()
        pairs = " ".join(f"{wire.source}:{wire.sink}" for wire in wires)
        secrets = [text for pattern, replacement in SECRETS for text in (pattern.pattern, replacement)]
        words = "\0".join([str(self.path.absolute()), str(self.cap_bytes), pairs, *secrets])
        order = words.encode("utf-8", "surrogateescape")
        os.write(self._control, b"%8d" % len(order) + order)
        if self._wait(START_SECONDS) != b"R":
            self._scribe.kill()
            self._scribe.wait()
            self._hang_up()
            raise ChildProcessError(0, "the process that copies it did not start")

    def _replace(self, wires: list[_Wire], unseen: list[str]) -> None:
        for wire in wires:
            for descriptor in wire.replaces:
                self._saved[descriptor] = _duplicate(descriptor)
                os.dup2(wire.end, descriptor)
            if wire.replaces:
                os.close(wire.end)
        for name in unseen:
            end = wires[-1].end if name == unseen[-1] else os.dup(wires[-1].end)
            self._tees[name] = tee = _Tee(getattr(sys, name), end)
            setattr(sys, name, tee)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper) and not stream.line_buffering and _number(stream) in self._saved:
                stream.reconfigure(line_buffering=True)
                self._line_buffering.append(stream)
        _make_c_write_lines()

    # ---- leaving -----------------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        _flush()
        for descriptor, saved in self._saved.items():
            os.dup2(saved, descriptor)
            os.close(saved)
        for name, tee in self._tees.items():
            if getattr(sys, name) is tee:
                setattr(sys, name, tee.stream)
            tee.detach()
        for stream in self._line_buffering:
            stream.reconfigure(line_buffering=False)
        self._saved, self._tees, self._line_buffering = {}, {}, []

    def _finish(self) -> None:
        """Returns when the file is complete."""
        if self._scribe is None:
            return
        with suppress(BrokenPipeError):
            os.write(self._control, b"E")
        answer = self._wait(END_SECONDS)
        if answer == b"":
            warn(f"{self.path} is incomplete: the process that copies what is printed was killed")
        if answer in (b".", b""):
            self._scribe.wait()
        else:  # it stays as long as a child of ours can print
            self._scribe.returncode = 0  # nobody will ask; without it Popen warns
        self._scribe = None
        self._hang_up()

    def _hang_up(self) -> None:
        os.close(self._control)
        os.close(self._answer)

    def _wait(self, seconds: float) -> bytes | None:
        """The scribe's next answer; empty when it is dead, None when the time is over."""
        poll = select.poll()
        poll.register(self._answer, select.POLLIN)
        return os.read(self._answer, 1) if poll.poll(seconds * 1000) else None


class _Tee:
    """A text stream whose text also goes to a descriptor.

    Args:
        stream: what the user sees.
        end: of a pipe that somebody reads.
    """

    def __init__(self, stream: TextIO, end: int) -> None:
        self.stream = stream
        self._end = end

    def write(self, text: str) -> int:
        count = self.stream.write(text)
        data = text.encode("utf-8", "replace")
        with suppress(OSError):
            while data:
                data = data[os.write(self._end, data) :]
        return count

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def detach(self) -> None:
        """No more copies; the number stays taken, as a thread may be writing to it."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._end, inheritable=False)
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __del__(self) -> None:
        os.close(self._end)


@dataclass
class _Wire:
    """From us to the scribe, and on to the user.

    Args:
        source: the scribe's end.
        end: ours.
        sink: the user's stream, as the scribe has it; CLOSED when we show it ourselves.
        replaces: the descriptors that become `end`.
    """

    source: int
    end: int
    sink: int
    replaces: list[int]

    def give_away(self) -> None:
        """Closes what only the scribe needs."""
        os.close(self.source)
        if self.sink != CLOSED:
            os.close(self.sink)


def _wire(descriptors: list[int]) -> _Wire | None:
    """What takes the place of descriptors that are one stream; None for a terminal where no other can be had."""
    if not os.isatty(descriptors[0]):
        return _Wire(*_pipe(), _duplicate(descriptors[0]), descriptors)
    try:
        near, far = os.openpty()
    except OSError:
        return None
    mode = termios.tcgetattr(descriptors[0])
    mode[1] &= ~termios.OPOST  # the real terminal turns \n into \r\n; twice would show
    termios.tcsetattr(far, termios.TCSANOW, mode)
    fcntl.ioctl(far, termios.TIOCSWINSZ, fcntl.ioctl(descriptors[0], termios.TIOCGWINSZ, bytes(8)))
    return _Wire(_above_2(near), _above_2(far), _duplicate(descriptors[0]), descriptors)


def _shared_descriptors() -> list[list[int]]:
    """1 and 2, together when they lead to one place, without those that are closed."""
    groups: dict[tuple[int, int], list[int]] = {}
    for descriptor in (1, 2):
        with suppress(OSError):
            found = os.fstat(descriptor)
            groups.setdefault((found.st_dev, found.st_ino), []).append(descriptor)
    return list(groups.values())


def _is_unseen(stream: TextIO | None, replaced: list[int]) -> bool:
    return stream is not None and _number(stream) not in replaced


def _number(stream: TextIO) -> int:
    """The stream's descriptor, CLOSED where it has none."""
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return CLOSED


def _duplicate(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)


def _above_2(descriptor: int) -> int:
    """The descriptor, moved away from 0, 1 and 2, which a daemon may have closed."""
    if descriptor > 2:
        return descriptor
    moved = _duplicate(descriptor)
    os.close(descriptor)
    return moved


def _pipe() -> tuple[int, int]:
    near, far = os.pipe()
    return _above_2(near), _above_2(far)


def _flush() -> None:
    """What Python and C still hold goes to where it was meant to go."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):  # ValueError: closed
                stream.flush()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).fflush(None)


def _make_c_write_lines() -> None:
    """C's stdout writes at each newline, as on a terminal; only where the C library lets us look first."""
    with suppress(OSError, AttributeError, ValueError):
        libc = ctypes.CDLL(None)
        stdout = ctypes.c_void_p.in_dll(libc, "stdout")
        if not libc.__flbf(stdout) and libc.__fbufsize(stdout) != 1:  # 1: unbuffered
            libc.setvbuf(stdout, None, 1, 0)  # _IOLBF


def warn(text: str) -> None:
    """One line on stderr."""
    with suppress(OSError):
        os.write(2, f"taolu: {text}\n".encode(errors="replace"))
