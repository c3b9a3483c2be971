"""Claims to be interrupted: one is done at once, one says so in a file beside this run and waits."""

from __future__ import annotations

import os
import signal
import time

from experiments.claims.context import Context
from experiments.claims.registry import Evidence
from tests.claims.own_claim import die, sixes


def waits(context: Context) -> Evidence:
    """Waits for a signal."""
    assert context.store is not None
    with (context.store.folder / "diary.txt").open("a") as diary:
        diary.write("waiting\n")
    time.sleep(60)
    return sixes(context)


def dies(context: Context) -> Evidence:
    """Ends its process as the system does where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    return sixes(context)


CLAIMS = (die("9999-W1", sixes), die("9999-W2", waits), die("9999-W3", dies))
