"""The user's own files that a sweep is made of, kept with its study for workers of other machines."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.store.files import write_text
from experiments.store.location import Store, redact

WHOLE = re.compile(r".+\.py(?=:\w+$)|.+\.ya?ml$")  # a value that names a file: FILE.py:Class, FILE.yaml
INSIDE = re.compile(r"[^\s'\",:{}\[\]]+\.py(?=:\w)")  # the same somewhere in a YAML text


def carried(design: Mapping[str, Any]) -> dict[str, str]:
    """The texts of the files that a design names, and that its YAML files name, by the path they are named by.

    What holds a secret is left out, as everywhere in a store: it must lie on every machine. So must whatever the files
    import or read.

    Args:
        design: as a sweep file writes it.
    """
    found: dict[str, str] = {}
    waiting: list[str] = []
    _replaced(design, WHOLE, lambda name: waiting.append(name) or name)  # type: ignore[func-returns-value]
    while waiting:
        path = Path(name := waiting.pop()).expanduser()
        if name in found or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        if redact(text) == text:
            found[name] = text
            waiting += INSIDE.findall(text) if path.suffix != ".py" else []
    return found


def unpacked(design: Mapping[str, Any], files: Mapping[str, str], store: Store) -> dict[str, Any]:
    """The design with its study's files in place of those this machine does not have, or has otherwise.

    Args:
        design: as a sweep file writes it.
        files: texts by the path they are named by.
        store: in whose folder they are written.
    """
    places = {name: _place(name, text, store) for name, text in files.items()}
    moved = {name: str(place) for name, place in places.items() if place is not None}
    for name, place in moved.items():
        text = files[name]
        write_text(Path(place), text if name.endswith(".py") else _replaced(text, INSIDE, lambda n: moved.get(n, n)))
    found: dict[str, Any] = _replaced(design, WHOLE, lambda name: moved.get(name, name))
    return found


def _place(name: str, text: str, store: Store) -> Path | None:
    """Where a file is to be written; None where the same one is on this machine already."""
    path = Path(name).expanduser()
    if path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text:
        return None
    return store.folder / "carried" / hashlib.sha256(text.encode()).hexdigest()[:12] / path.name


def _replaced(value: Any, pattern: re.Pattern[str], new: Callable[[str], str]) -> Any:
    """The value with every file named in its texts replaced."""
    if isinstance(value, Mapping):
        return {key: _replaced(item, pattern, new) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(item, pattern, new) for item in value]
    return pattern.sub(lambda match: new(match[0]), value) if isinstance(value, str) else value
