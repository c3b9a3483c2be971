"""Files behind addresses, as s3://bucket/part-*.txt: copied to this machine while a block lasts, by fsspec."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.errors import ConfigError
from experiments.store.location import redact

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_address(source: str) -> bool:
    """Whether a source is an address, not a path.

    >>> [is_address(source) for source in ("s3://bucket/texts.gz", "C:/texts", "hub:owner/name", "-")]
    [True, False, False, False]
    """
    return ADDRESS.match(source) is not None


@contextlib.contextmanager
def here(sources: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The sources, with a file or folder of this machine in place of each address.

    A miner reads its texts several times, and more than once is what a copy costs.

    Args:
        sources: paths, names, and addresses of any protocol that fsspec knows; stars match files, a folder's address is
            the files in it.

    Raises:
        ConfigError: An address whose protocol is unknown or needs another package, where there is nothing, or that
            nobody lets us read; and those raised while the block lasts, with the address for the copy's path.
    """
    with tempfile.TemporaryDirectory(prefix="taolu-sources-") as folder:
        copies = {
            source: _copied(source, Path(folder) / str(number))
            for number, source in enumerate(sources)
            if is_address(source)
        }
        try:
            yield tuple(copies.get(source, source) for source in sources)
        except ConfigError as error:
            said = str(error)
            for source, copy in copies.items():
                said = said.replace(copy, redact(source))
            if said == str(error):
                raise
            raise ConfigError(said) from error


def _copied(address: str, folder: Path) -> str:
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(address)
        is_folder = system.isdir(path)
        found = sorted(system.find(path)) if is_folder else sorted(system.glob(path))
        if not found:
            raise FileNotFoundError
        root = path.rstrip("/") + "/" if is_folder else found[0].rpartition("/")[0] + "/"
        for file in found:
            own = file.removeprefix(root) if file.startswith(root) else file.lstrip("/")
            if ".." in Path(own).parts:
                raise ConfigError(f"{redact(address)}: holds {file}, which would lie outside; leave it out by stars")
            (folder / own).parent.mkdir(parents=True, exist_ok=True)
            system.get_file(file, str(folder / own))
    except ConfigError:
        raise
    except (ImportError, ValueError) as error:  # a protocol that fsspec lacks a package for, or does not know
        raise ConfigError(f"{redact(address)}: {' '.join(str(error).split())}") from error
    except FileNotFoundError as error:
        raise ConfigError(f"{redact(address)}: no such file or folder; stars match, as in s3://bucket/*.txt") from error
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{redact(address)}: cannot be read ({redact(said)})") from error
    return str(folder / found[0].removeprefix(root)) if len(found) == 1 and not is_folder else str(folder)
