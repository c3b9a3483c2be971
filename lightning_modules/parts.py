"""A class from the name a config gives it: a name in a dictionary, `path/file.py:Class` or `package.module:Class`."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


def load_class(spec: str, known: Mapping[str, str]) -> type[Any]:
    """The class that `spec` names.

    Args:
        spec: a key of `known`, `path/file.py:Class`, or `package.module:Class`.
        known: names to `package.module:Class`.

    Raises ValueError naming what was found and what is allowed when there is no such name, file, module or class.
    """
    target = known.get(spec, spec)
    if ":" not in target:
        close = difflib.get_close_matches(spec, list(known), n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise ValueError(
            f"unknown name '{spec}'{hint}; allowed: {', '.join(known)}, path/file.py:Class, package.module:Class"
        )
    place, _, name = target.rpartition(":")
    module = _file_module(Path(place)) if place.endswith(".py") else _named_module(place)
    found = getattr(module, name, None)
    if not isinstance(found, type):
        own = [
            key
            for key, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == module.__name__
        ]
        close = difflib.get_close_matches(name, own, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise ValueError(f"{place} has no class '{name}'{hint}; it has: {', '.join(own) or 'no class'}")
    return found


def _file_module(path: Path) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"no file {path}; give the path of a Python file, as in path/file.py:Class")
    # One name a file, kept in sys.modules: pickling and dataclasses look their module up there.
    name = f"taolu_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))  # a user's file imports its neighbours, as a script would
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


def _named_module(name: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:  # the installed command, unlike `python -m`, does not see the working directory
        sys.path.append(str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        raise ValueError(f"no module '{name}'; give package.module:Class or path/file.py:Class") from error
