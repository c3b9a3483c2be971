"""A database that is away for a while: told apart from other troubles, and waited for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_SECONDS = 600.0  # a server that has not come back by then is somebody's business
HURRY_SECONDS = 5.0  # for one that is told to end
LONGEST_PAUSE_SECONDS = 5.0

T = TypeVar("T")


def is_outage(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a database that cannot be reached, went away or is too busy."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OperationalError | InterfaceError):
            return True
        if isinstance(cause, DBAPIError) and cause.connection_invalidated:
            return True
        cause = cause.__cause__
    return False


def patiently(call: Callable[[], T], in_hurry: Callable[[], bool] = lambda: False) -> T:
    """What the call returns, tried again while the database is away: for ten minutes, in a hurry for five seconds.

    Args:
        call: may be made again after it failed half-way.
        in_hurry: asked between two tries.

    Raises whatever the call raises for another reason, and its outage once patience is over.
    """
    started, pause = time.monotonic(), 0.1
    while True:
        try:
            return call()
        except Exception as error:
            limit = HURRY_SECONDS if in_hurry() else PATIENCE_SECONDS
            if not is_outage(error) or time.monotonic() - started > limit:
                raise
        time.sleep(pause * random.uniform(0.5, 1.0))  # a restarted server is not met by all at once
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
