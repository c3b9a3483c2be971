"""The small process beside a training: passes on what the training prints, and keeps a readable copy in a file.

`experiments.capture` starts it as a script. It imports none of ours and little else: 20 ms of CPU instead of 60.
"""

from __future__ import annotations

import errno
import os
import re
import select
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

BEHIND_SECONDS = 0.4  # a copy is written at most this long after what it copies
LONGEST_LINE = 1 << 16  # a longer one is broken
BACKLOG = 1 << 18  # lines waiting for the file; beyond it the middle of a flood is left out instead of slowing it
WORD = 256  # the patterns for secrets need time that grows with the square of a word's length
ANSI = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[ -/]+[0-~]|\x1b[0-~]?|[\x00-\x08\x0b-\x1f\x7f]"
)
LONG_WORD = re.compile(rf"(\S{{{WORD},}})")
MARK = "[... {} bytes left out ...]\n"
MARK_LINE = re.compile(rb"^\[\.\.\. (\d+) bytes left out \.\.\.\]\n", re.MULTILINE)
MARK_ROOM = 64
CLOSED = -1
GONE = (errno.EPIPE, errno.EIO, errno.ECONNRESET)


class Cleaner:
    """Makes one printed line readable: its last state, without colours and secrets.

    Args:
        secrets: regular expressions and what replaces them.
    """

    def __init__(self, secrets: Sequence[tuple[str, str]]) -> None:
        self.secrets = [(re.compile(pattern), replacement) for pattern, replacement in secrets]

    def line(self, raw: bytes) -> str:
        """The line as a person last saw it."""
        text = raw.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
        text = ANSI.sub("", text)
        return "".join(self._redact(piece) for piece in _pieces(text))

    def _redact(self, text: str) -> str:
        for pattern, replacement in self.secrets:
            text = pattern.sub(replacement, text)
        return text


def _pieces(text: str) -> list[str]:
    """The text in parts that are quick to search: endless words are cut.

    >>> [len(piece) for piece in _pieces("a " + "x" * 300 + " b")]
    [2, 256, 44, 2]
    """
    if len(text) < WORD:
        return [text]
    parts = []
    for part in LONG_WORD.split(text):
        step = WORD if LONG_WORD.fullmatch(part) else max(len(part), 1)
        parts += [part[i : i + step] for i in range(0, len(part), step)]
    return parts


class Copy:
    """The file: complete lines, after them what is begun; when it would grow over the cap its middle goes.

    The first half of the cap stays, one line says how many bytes are left out, and the newest lines follow.

    Args:
        path: appended to.
        cap: bytes.
        cleaner: of every line.
    """

    def __init__(self, path: str, cap: int, cleaner: Cleaner) -> None:
        self.path = path
        self.cap = cap
        self.cleaner = cleaner
        self.is_dirty = False
        self.due = 0.0
        self._file: int | None = None
        self._end = 0  # of the complete lines
        self._head: int | None = None  # where the line about the left out bytes begins, once there is one
        self._left_out = 0
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._skipped = 0
        self._failures = 0

    def open(self) -> None:
        """Makes the file, so that it is there before the first line; what fails is tried again."""
        try:
            self._open()
        except OSError as error:
            self._fail(error)

    def add(self, lines: bytes) -> None:
        """Complete lines, to be written soon."""
        self.is_dirty = True
        self._queue.append(lines)
        self._queued += len(lines)
        if self._queued > BACKLOG and self._head is None and not self._failures:
            self.write([])
        while self._queued > BACKLOG and len(self._queue) > 1:
            oldest = len(self._queue.popleft())
            self._queued -= oldest
            self._skipped += oldest

    def write(self, begun: Sequence[bytes]) -> None:
        """Everything waiting goes to the file; what fails is tried again later, said once, and never raises."""
        lines = b"".join(self._queue).split(b"\n")[:-1]
        text = "".join(f"{self.cleaner.line(line)}\n" for line in lines).encode()
        tail = "\n".join(self.cleaner.line(line) for line in begun).encode()
        self.is_dirty = False
        try:
            self._write(text, tail)
        except OSError as error:
            self._fail(error)
            return
        self._queue.clear()
        self._queued = self._skipped = self._failures = 0
        self.due = time.monotonic() + BEHIND_SECONDS

    def _fail(self, error: OSError) -> None:
        if not self._failures:
            text = f"taolu: {self.path} lacks what is printed now ({error.strerror}); training goes on\n"
            _say(text.encode(errors="replace"))
        self._failures += 1
        self.is_dirty = True
        self.due = time.monotonic() + min(2.0**self._failures, 30.0)
        if self._file is not None:
            with suppress(OSError):
                os.ftruncate(self._file, self._end)

    def _open(self) -> int:
        """The file, continued where an earlier session ended."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._end = os.fstat(file).st_size
        found = MARK_LINE.search(os.pread(file, self.cap // 2 + MARK_ROOM, 0))
        if found:
            self._head, self._left_out = found.start(), int(found[1])
        self._file = file
        return file

    def _write(self, text: bytes, tail: bytes) -> None:
        file = self._open() if self._file is None else self._file
        if self._end and os.pread(file, 1, self._end - 1) != b"\n":
            text = b"\n" + text  # an earlier session was killed within a line
        if self._skipped and self._head is None:  # only after a failure
            text = f"[... {self._skipped} bytes lost ...]\n".encode() + text
        start, head, left_out = self._end, self._head, self._left_out
        if (self._skipped and head is not None) or start + len(text) + len(tail) > self.cap:
            start, head, left_out, text = self._shorten(file, text, len(tail))
        _write_all(file, text + tail, start)
        os.ftruncate(file, start + len(text) + len(tail))
        self._end, self._head, self._left_out = start + len(text), head, left_out

    def _shorten(self, file: int, text: bytes, tail: int) -> tuple[int, int, int, bytes]:
        """Where to write, where the head ends, how much is left out by now, and what to write."""
        head, left_out = self._head, self._left_out
        if head is None:
            whole = os.pread(file, self._end, 0) + text
            head = whole.rfind(b"\n", 0, self.cap // 2) + 1 or self.cap // 2
            body = whole[head:]
            if self._end < head:
                _write_all(file, whole[self._end : head], self._end)
        elif self._skipped:
            left_out += self._end - head - len(MARK.format(left_out)) + self._skipped
            body = text
        else:
            begin = head + len(MARK.format(left_out))
            body = os.pread(file, self._end - begin, begin) + text
        room = max(self.cap - head - MARK_ROOM - tail, 0)
        if len(body) > room:  # half of it, so that the next lines need no new shortening
            cut = len(body) - room // 2
            cut = body.find(b"\n", cut) + 1 or cut
            left_out, body = left_out + cut, body[cut:]
        return head, head, left_out, MARK.format(left_out).encode() + body


def _write_all(file: int, data: bytes, offset: int) -> None:
    while data:
        count = os.pwrite(file, data, offset)
        data, offset = data[count:], offset + count


def _say(text: bytes) -> None:
    with suppress(OSError):
        os.write(2, text)


class Channel:
    """One stream of the training: read, passed on unchanged, and cut into lines.

    Args:
        source: what to read: a pipe, or the near end of a pseudo-terminal.
        sink: where the user looks; CLOSED when the user has seen it already.
    """

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self.sink = sink
        self.unsent = b""
        self.begun = b""
        self._is_terminal = sink != CLOSED and os.isatty(source)
        self._sized = 0.0

    def receive(self) -> bytes:
        """The lines that are complete now."""
        try:
            data = os.read(self.source, 1 << 16)
        except OSError:  # a pseudo-terminal that nobody holds any more
            data = b""
        if not data:
            self.close()
            return b""
        if self.sink != CLOSED:
            self.unsent = data
            self._resize()
        lines, newline, rest = (self.begun + data).rpartition(b"\n")
        redrawn = rest.rstrip(b"\r").rfind(b"\r")
        self.begun = rest[redrawn + 1 :]
        if len(self.begun) > LONGEST_LINE:
            lines, newline, self.begun = lines + newline + self.begun, b"\n", b""
        return lines + newline

    def send(self) -> None:
        """Passes on what has room; a reader that went away is told to the training as it would have been."""
        try:
            # PIPE_BUF: what a pipe that is ready takes without blocking
            self.unsent = self.unsent[os.write(self.sink, self.unsent[:4096]) :]
        except BlockingIOError:
            return
        except OSError as error:
            self.unsent = b""
            if error.errno in GONE:
                self.close()

    def close(self) -> None:
        """No more is read."""
        if self.source != CLOSED:
            os.close(self.source)
            self.source = CLOSED

    def _resize(self) -> None:
        """The pseudo-terminal gets the size of the terminal."""
        if self._is_terminal and time.monotonic() - self._sized > 0.25:
            self._sized = time.monotonic()
            import fcntl
            import termios

            size = fcntl.ioctl(self.sink, termios.TIOCGWINSZ, bytes(8))
            if size != fcntl.ioctl(self.source, termios.TIOCGWINSZ, bytes(8)):
                fcntl.ioctl(self.source, termios.TIOCSWINSZ, size)


class Scribe:
    """Serves the channels until nobody can write to them any more.

    Args:
        channels: of the training.
        copy: the file.
    """

    def __init__(self, channels: list[Channel], copy: Copy) -> None:
        self.channels = channels
        self.copy: Copy | None = copy
        self._control: int | None = 0
        self._is_ending = False

    def serve(self) -> None:
        """Returns when the training has left or died and its children, too."""
        while self._is_needed():
            ready = self._wait()
            for channel in self.channels:
                if channel.unsent and channel.sink in ready:
                    channel.send()
                elif channel.source in ready:
                    self._receive(channel)
            if self._control in ready:
                self._obey()
            elif self._is_ending and not ready and not any(channel.unsent for channel in self.channels):
                self._finish()
            if self.copy and self.copy.is_dirty and time.monotonic() >= self.copy.due:
                self._write()
        self._write()

    def _is_needed(self) -> bool:
        used = any(channel.source != CLOSED or channel.unsent for channel in self.channels)
        return used or self._control is not None or self._is_ending

    def _wait(self) -> set[int]:
        poll = select.poll()
        for channel in self.channels:
            if channel.unsent:
                poll.register(channel.sink, select.POLLOUT)
            elif channel.source != CLOSED:
                poll.register(channel.source, select.POLLIN)
        if self._control is not None:
            poll.register(self._control, select.POLLIN)
        timeout = None
        if self.copy and self.copy.is_dirty:
            timeout = max(self.copy.due - time.monotonic(), 0.0) * 1000 + 1
        if self._is_ending and not any(channel.unsent for channel in self.channels):
            timeout = 0
        return {descriptor for descriptor, _ in poll.poll(timeout)}

    def _receive(self, channel: Channel) -> None:
        lines = channel.receive()
        if self.copy:
            self.copy.is_dirty = True
            if lines:
                self.copy.add(lines)

    def _write(self) -> None:
        if self.copy:
            self.copy.write([channel.begun for channel in self.channels if channel.begun])

    def _obey(self) -> None:
        """The training leaves, and wants to know when everything is written; or it died."""
        self._is_ending = os.read(0, 1) == b"E"
        self._control = None

    def _finish(self) -> None:
        """The file is complete; children that still run keep being passed on."""
        self._is_ending = False
        self._write()
        self.copy = None
        with suppress(OSError):
            os.write(1, b"+" if any(channel.source != CLOSED for channel in self.channels) else b".")


def main() -> None:
    """Reads from standard input what to do: path, cap, channels, patterns; then serves."""
    size = int(os.read(0, 8))  # written at once, with what follows; shorter than a pipe's buffer
    path, cap, pairs, *secrets = os.read(0, size).decode("utf-8", "surrogateescape").split("\0")
    channels = []
    for pair in pairs.split():
        source, sink = (int(part) for part in pair.split(":"))
        channels.append(Channel(source, sink))
    copy = Copy(path, int(cap), Cleaner(list(zip(secrets[::2], secrets[1::2], strict=True))))
    copy.open()
    os.write(1, b"R")
    Scribe(channels, copy).serve()


if __name__ == "__main__":
    main()
