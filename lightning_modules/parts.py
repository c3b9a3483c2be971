"""A class from the name a config gives it: a name in a dictionary, `path/file.py:Class` or `package.module:Class`."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
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
        raise ValueError(
            f"unknown name '{spec}'{did_you_mean(spec, known)}; "
            f"allowed: {', '.join(known)}, path/file.py:Class, package.module:Class"
        )
    place, _, name = target.rpartition(":")
    module = load_file(Path(place)) if place.endswith(".py") else _named_module(place)
    found = getattr(module, name, None)
    if not isinstance(found, type):
        own = [
            key
            for key, value in vars(module).items()
            if isinstance(value, type) and value.__module__.startswith(module.__name__)
        ]
        raise ValueError(
            f"{place} has no class '{name}'{did_you_mean(name, own)}; it has: {', '.join(own) or 'no class'}"
        )
    return found


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """A hint at the closest allowed name, or the empty string; what stands before a last dot may be left out.

    >>> did_you_mean("latnet_dim", ["latent_dim", "beta"])
    " (did you mean 'latent_dim'?)"
    >>> did_you_mean("adam", ["torch.Adam", "torch.SGD"]), did_you_mean("torch.loss", ["torch.Adam", "torch.SGD"])
    (" (did you mean 'torch.Adam'?)", '')
    """
    names = {each.lower().lstrip("-"): each for each in allowed}
    wanted = name.lower().lstrip("-")
    head, dot, tail = wanted.rpartition(".")
    tails = {key.rpartition(".")[2]: each for key, each in names.items() if not dot or key.rpartition(".")[0] == head}
    close = difflib.get_close_matches(tail, tails, n=1)
    if close:
        return f" (did you mean '{tails[close[0]]}'?)"
    elsewhere = {} if tails and dot else names
    close = difflib.get_close_matches(wanted, elsewhere, n=1)
    return f" (did you mean '{elsewhere[close[0]]}'?)" if close else ""


def load_file(path: Path) -> ModuleType:
    """The module in a Python file anywhere; an edited file is another module.

    Raises ValueError where there is no such file.
    """
    path = path.expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"no file {path}; give the path of a Python file, as in path/file.py:Class")
    # Kept in sys.modules, where dataclasses look their module up; an edited file is another module, as in a notebook.
    digest = hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()
    name = f"taolu_user_{path.stem}_{digest[:8]}"
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
