"""Maps over processes for the engines that take `map=`."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from experiments.errors import ConfigError

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


@contextlib.contextmanager
def processes(n: int | None = None) -> Iterator[Map]:
    """A map whose calls run in n processes; results come in the order of the items.

    What a worker raises is raised here: a ValueError as it is, other exceptions as a RuntimeError that names the item.
    A script that uses it starts under `if __name__ == "__main__"`, as the workers import it.

    Args:
        n: None = one a core; 1 is the builtin map.

    Raises:
        ValueError: n is not positive.

    >>> with processes(1) as map_:
    ...     list(map_(abs, [-2, 3]))
    [2, 3]
    """
    if n is not None and n < 1:
        raise ConfigError(f"processes = {n}: must be at least 1; leave it out for one a core")
    n = n or os.cpu_count() or 1
    if n == 1:
        yield map
        return
    # Not fork: a thread of this process may hold a lock, which no thread of the worker would release.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n, context, initializer=_deaf_to_ctrl_c)
    try:
        yield lambda function, items: _ordered(pool, function, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _ordered(pool: ProcessPoolExecutor, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    futures = [(item, pool.submit(function, item)) for item in items]
    for item, future in futures:
        try:
            yield future.result()
        except ValueError:
            raise
        except BrokenProcessPool as error:
            raise RuntimeError(f"a worker died over {item!r} or beside it; if memory ran out, use fewer") from error
        except Exception as error:
            raise RuntimeError(f"a worker failed over {item!r}: {type(error).__name__}: {error}") from error


def _deaf_to_ctrl_c() -> None:
    """The process that started the worker ends it; a terminal sends Ctrl-C to both."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
