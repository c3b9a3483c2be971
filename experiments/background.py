"""`taolu run --background`: a run in a process and session of its own, which outlives the terminal.

The process is a new one, not a fork: what torch and its threads hold in this one stays here. It is told what to do on
standard input, where no list of processes shows it, and answers with the run's id.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

FLAG = "--background"


@dataclass(frozen=True)
class Launch:
    """What became of a run started in the background.

    Args:
        run_id: empty where none was made.
        exit_status: of the process where no run was made.
        said: by the process until then, on standard error.
    """

    run_id: str
    exit_status: int
    said: str


def launch(words: Sequence[str], options: Mapping[str, Any]) -> Launch:
    """The run of `taolu run`'s words and options; returns as soon as it has an id, or was refused."""
    answer, reply = os.pipe()
    argv = [word for word in sys.argv if word != FLAG]
    job = json.dumps({"words": list(words), "options": dict(options), "argv": argv, "reply": reply})
    with tempfile.TemporaryFile() as said:  # not a pipe, which would be full some day
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "experiments", "_background"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            pass_fds=[reply],
            start_new_session=True,  # no Ctrl-C and no hang-up of this terminal reaches it
        )
        os.close(reply)
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin:
                process.stdin.write(job.encode())
            with os.fdopen(answer) as channel:
                run_id = channel.read()
            status = 0 if run_id else process.wait()
        except BaseException:
            process.terminate()
            raise
        process.returncode = status  # nobody will ask; without it Popen warns
        said.seek(0)
        return Launch(run_id, status, said.read().decode("utf-8", "replace"))


@dataclass(frozen=True)
class Job:
    """What this process was started to run.

    Args:
        words: those after `taolu run` that are no option of the verb.
        options: the verb's.
        reply: descriptor that the run's id goes to.
    """

    words: list[str]
    options: dict[str, Any]
    reply: int

    def started(self, run_id: str) -> None:
        """Tells the id; from here on what is printed is only in the run's console.log."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        with suppress(BrokenPipeError):
            os.write(self.reply, run_id.encode())
        os.close(self.reply)


def job() -> Job:
    """The job this process reads from standard input; its command line becomes the one that was typed."""
    found = json.load(sys.stdin)
    sys.argv = found.pop("argv")
    os.set_inheritable(found["reply"], False)  # a child of the training would keep the asker waiting
    return Job(**found)
