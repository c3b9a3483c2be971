"""Maps over processes, of this machine or of a Dask cluster, for the engines that take `map=`."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import logging
import multiprocessing
import os
import platform
import signal
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from experiments.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client, Future

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
CONNECT_SECONDS = 10.0  # until a scheduler that does not answer is refused


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


# ---- a Dask cluster -------------------------------------------------------------------------------------------------


def check_scheduler(scheduler: str | None, parts: Path | None, n: int) -> None:
    """Raises ConfigError where a cluster is asked for, and what it needs is not given."""
    if scheduler is None:
        return
    if n != 1:
        raise ConfigError("--scheduler and --workers: give one; the workers of a cluster are those it has")
    if parts is None:
        raise ConfigError("--scheduler: needs --parts DIR, a folder that this machine and all workers see")
    address_of(scheduler)


def address_of(scheduler: str) -> tuple[str, int]:
    """Host and port of a scheduler's address.

    Raises ConfigError for what is no such address.
    """
    try:
        place = urlsplit(scheduler)
        if place.scheme in ("tcp", "tls") and place.hostname and place.port:
            return place.hostname, place.port
    except ValueError:  # a port that is no number
        pass
    raise ConfigError(f"--scheduler {scheduler}: must be as tcp://HOST:PORT, which `dask scheduler` prints")


@contextlib.contextmanager
def workers(scheduler: str | None, n: int, folder: Path | None) -> Iterator[Map]:
    """A map over the workers of a Dask cluster if there is a scheduler, else over n processes of this machine.

    Args:
        scheduler: address of Dask's; None = none.
        n: processes where there is none.
        folder: through which the jobs of a cluster hand over what they made; every worker has to see it.

    Raises:
        ConfigError: as `cluster` and `processes` do.
    """
    with processes(n) if scheduler is None else cluster(scheduler, folder) as spread:
        yield spread


@contextlib.contextmanager
def cluster(address: str, folder: Path | None = None) -> Iterator[Map]:
    """A map whose calls run on the workers of a Dask cluster; results come in the order of the items.

    The calls of a worker that dies are made again by another. What a call raises is raised here: a ValueError as it
    is, other exceptions as a RuntimeError that names the item. However the block is left, no call of it goes on.

    Args:
        address: of the scheduler, as tcp://10.0.0.1:8786.
        folder: that every worker has to see at the same path; None = none.

    Raises:
        ConfigError: Dask is not installed; nobody answers; there are no workers; one of them has other code, another
            NumPy or Python than this process, whose results may differ; one does not see the folder.
    """
    client = _connected(address)
    try:
        _check_workers(client, address, folder)
        yield functools.partial(_spread, client, address)
    finally:
        with contextlib.suppress(Exception):  # a scheduler that is gone has nothing to be told
            client.close(timeout=CONNECT_SECONDS)  # type: ignore[no-untyped-call]


def _connected(address: str) -> Client:
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError("--scheduler: needs Dask: pip install 'taolu[dask]'") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what went wrong is said in one line, by us
    place = address_of(address)
    try:
        # A client that cannot connect prints a traceback long afterwards.
        socket.create_connection(place, CONNECT_SECONDS).close()
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"--scheduler {address}: no Dask scheduler answers there ({reason}); start one by `dask scheduler`, and"
            " `dask worker ADDRESS` on each machine"
        ) from error


def _check_workers(client: Client, address: str, folder: Path | None) -> None:
    found = _asked(client, address, fingerprint)
    if not found:
        raise ConfigError(f"--scheduler {address}: has no workers; start some by `dask worker {address}`")
    mine = fingerprint()
    for worker, theirs in found.items():
        for what, value in mine.items():
            if theirs[what] != value:
                raise ConfigError(
                    f"worker {worker}: has {what} {theirs[what]}, here it is {value}, and results may differ; install"
                    " the same on every worker"
                )
    if folder is None:
        return
    mark = folder / f"seen-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        raise ConfigError(f"--parts {folder}: cannot be written ({error.strerror}); give another folder") from error
    try:
        for worker, is_seen in _asked(client, address, functools.partial(os.path.exists, mark.absolute())).items():
            if not is_seen:
                raise ConfigError(f"worker {worker}: does not see {folder.absolute()}; give --parts on a shared path")
    finally:
        mark.unlink()


def _asked(client: Client, address: str, function: Callable[[], Any]) -> Mapping[str, Any]:
    """What a function gives on every worker, by the worker's address."""
    try:
        return cast("Mapping[str, Any]", client.run(function))
    except ModuleNotFoundError as error:
        raise ConfigError(f"--scheduler {address}: its workers lack {error.name}; install taolu there") from error
    except Exception as error:
        raise ConfigError(f"--scheduler {address}: its workers do not answer ({_said(error)})") from error


def fingerprint() -> dict[str, str]:
    """What results depend on: the miners' code (first digits of its SHA-256), NumPy and Python."""
    import numpy

    specification = importlib.util.find_spec("mining")
    places = specification.submodule_search_locations if specification else None
    whole = hashlib.sha256()
    for path in sorted(file for place in places or () for file in Path(place).glob("*.py")):
        whole.update(path.name.encode() + path.read_bytes())
    return {
        "the miners' code": whole.hexdigest()[:12],
        "NumPy": numpy.__version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),
    }


def _spread(client: Client, address: str, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    listed = list(items)
    # Not pure: a call leaves files behind, and a result that Dask still holds would leave none.
    futures: list[Future[Any]] = client.map(function, listed, pure=False)
    try:
        for item, future in zip(listed, futures, strict=True):
            yield _result(future, item, address)
    finally:
        with contextlib.suppress(Exception):
            client.cancel(futures, force=True)  # type: ignore[no-untyped-call]


def _result(future: Future[Any], item: Any, address: str) -> Any:
    from distributed import CancelledError, KilledWorker
    from distributed.comm.core import CommClosedError

    try:
        return future.result()
    except ValueError:
        raise
    except KilledWorker as error:
        raise RuntimeError(
            f"every worker died over {item!r}; if memory ran out, give them more, or make smaller parts"
        ) from error
    except (CancelledError, CommClosedError, TimeoutError, OSError) as error:
        raise RuntimeError(f"the scheduler {address} is gone ({_said(error)}); again with --parts goes on") from error
    except Exception as error:
        raise RuntimeError(f"a worker failed over {item!r}: {_said(error)}") from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
