"""A zip of documents and files with the SHA-256 of each: streamed, checked whole, equal bytes for equal content."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import quote_from_bytes

from experiments.errors import ConfigError

FORMAT = 1
MANIFEST = "manifest.json"
_BLOCK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time a zip can hold: equal content gives an equal file
_DENSE = re.compile(r"\.(png|jpe?g|npz|parquet|ckpt|pt|safetensors|zip|gz)$")  # weights shrink by a tenth at most
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, KeyError, RuntimeError)


class Entry(NamedTuple):
    """What the manifest says of an entry: SHA-256 in hexadecimal and size in bytes."""

    sha256: str
    size: int


class Packer:
    """A zip being written.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w")
        self._linked: dict[tuple[int, int], str] = {}
        self.entries: dict[str, Entry] = {}

    def document(self, name: str, value: Any) -> None:
        """The value as an entry of JSON."""
        self._write(name, [(json.dumps(value, indent=1) + "\n").encode()])

    def lines(self, name: str, values: Iterable[Any]) -> None:
        """An entry with a line of JSON for each value."""
        self._write(name, (f"{json.dumps(value)}\n".encode() for value in values))

    def file(self, folder: str, name: str, path: Path) -> str:
        """The entry that holds the file: a content that has several names on the disk is written once."""
        found = path.stat()
        key = (found.st_dev, found.st_ino)
        if found.st_nlink == 1 or key not in self._linked:
            with path.open("rb") as source:
                entry = f"{folder}/{_readable(name)}"
                self._write(entry, _blocks(source), dense=bool(_DENSE.search(name)))
            self._linked[key] = entry
        return self._linked[key]

    def close(self, **about: Any) -> None:
        """Writes the manifest, with more about the content, and the directory."""
        entries = {name: list(entry) for name, entry in self.entries.items()}
        self._write(MANIFEST, [json.dumps({"format": FORMAT, **about, "entries": entries}, indent=1).encode()])
        self._zip.close()

    def _write(self, name: str, blocks: Iterable[bytes], *, dense: bool = False) -> None:
        info, digest, size = zipfile.ZipInfo(name, _EPOCH), hashlib.sha256(), 0
        info.compress_type = zipfile.ZIP_STORED if dense else zipfile.ZIP_DEFLATED
        with self._zip.open(info, "w", force_zip64=True) as target:
            for block in blocks:
                target.write(block)
                digest.update(block)
                size += len(block)
        self.entries[name] = Entry(digest.hexdigest(), size)


class Package:
    """A zip whose every entry is as its manifest says.

    Args:
        path: of the file.
        opened: it.
        manifest: what it says.
    """

    def __init__(self, path: Path, opened: zipfile.ZipFile, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.entries = {name: Entry(*entry) for name, entry in manifest["entries"].items()}
        self._zip = opened

    def document(self, name: str) -> Any:
        """The value of an entry of JSON."""
        self._known(name)
        return json.loads(self._zip.read(name))

    def lines(self, name: str) -> Iterator[Any]:
        """The values of an entry with a line for each."""
        self._known(name)
        with self._zip.open(name) as source:
            for line in source:
                yield json.loads(line)

    def copy(self, name: str, path: Path) -> None:
        """The content of an entry at the path, with its folder."""
        self._known(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._zip.open(name) as source, path.open("wb") as target:
            for block in _blocks(source):
                target.write(block)

    def refusal(self, reason: str) -> ConfigError:
        """The error for content that is no export's."""
        return ConfigError(f"{self.path}: {reason}; export it again")

    def _known(self, name: str) -> None:
        if name not in self.entries:  # else bytes that nobody has checked would be read
            raise self.refusal(f"its manifest does not name '{name[:200]}'")

    def _check(self) -> None:
        """Raises ConfigError, which names the entry, where a byte is not as the manifest says."""
        for name, entry in self.entries.items():
            try:
                with self._zip.open(name) as source:
                    found = _digest(source)
            except _DAMAGE as error:
                raise self.refusal(f"'{name}' is damaged or missing ({_first_line(error)})") from error
            if found != entry:
                raise self.refusal(f"'{name}' is damaged: its content is not that of its SHA-256")


@contextmanager
def opened(path: Path) -> Iterator[Package]:
    """The package in a file, checked to the last byte.

    Raises ConfigError in one line for a file that `export` did not write, or that is damaged.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: a folder; give the FILE.zip that taolu export wrote")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; write one: taolu export --all --out {path.name}")
    try:
        with zipfile.ZipFile(path) as found:
            package = Package(path, found, _manifest(path, found))
            package._check()
            yield package
    except zipfile.BadZipFile as error:
        raise ConfigError(f"{path}: no zip, or a part of one ({_first_line(error)}); export it again") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as source:
        return _digest(source).sha256


def is_inside(name: str) -> bool:
    """Whether a name stays below the folder it is joined to.

    >>> is_inside("media/a.png"), is_inside("../a"), is_inside("/etc/passwd"), is_inside("")
    (True, False, False, False)
    """
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and "\0" not in name


def _manifest(path: Path, found: zipfile.ZipFile) -> dict[str, Any]:
    """What the manifest says, once its form is known."""
    names = found.namelist()
    if MANIFEST not in names:
        raise ConfigError(f"{path}: a zip, but not one that taolu export writes: it has no {MANIFEST}")
    for name in names:
        if not is_inside(name):
            raise ConfigError(f"{path}: '{name[:200]}' leads out of the folder it is meant for; nothing was written")
    try:
        manifest: dict[str, Any] = json.loads(found.read(MANIFEST))
        form, writer = manifest["format"], manifest["taolu"]
        if form == FORMAT and all(len(entry) == 2 for entry in manifest["entries"].values()):
            return manifest
    except (*_DAMAGE, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: '{MANIFEST}' is damaged ({_first_line(error)}); export it again") from error
    raise ConfigError(
        f"{path}: of form {form}, written by taolu {writer}; this taolu reads form {FORMAT}: pip install -U taolu"
    )


def _blocks(source: IO[bytes]) -> Iterator[bytes]:
    while block := source.read(_BLOCK):
        yield block


def _digest(source: IO[bytes]) -> Entry:
    digest, size = hashlib.sha256(), 0
    for block in _blocks(source):
        digest.update(block)
        size += len(block)
    return Entry(digest.hexdigest(), size)


def _readable(name: str) -> str:
    """The name as one of an entry, which no system reads as another: percent-escaped where it has odd characters."""
    odd = not name.isprintable() or any(mark in name for mark in '%\\:"|?*<>')
    return quote_from_bytes(os.fsencode(name)) if odd else name


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
