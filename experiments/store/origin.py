"""What a run's folder says of the code and the machine that made it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import ConfigError
from experiments.store.files import inside, list_files

LARGEST_BYTES = 50_000_000
CODE = re.compile(r"git(-\d+)?\.patch$|code/|untracked(-\d+)?/")  # files of a run that keep its code
COMPARED = ("git_commit", "python", "platform", "host", "processor", "threads", "gpus", "cuda")


@dataclass(frozen=True)
class Origin:
    """What a run's folder says of its code and machine.

    Args:
        environment: env.json.
        code: text of the patches and source files, by name.
    """

    environment: Mapping[str, Any]
    code: Mapping[str, str]


def read_environment(folder: Path) -> dict[str, Any]:
    """What env.json of a run's folder says; nothing where there is none, or a broken one."""
    try:
        found = json.loads(_read(inside(folder, "env.json")))
    except (OSError, ValueError, RecursionError, ConfigError):
        return {}
    return found if isinstance(found, dict) else {}


def read_origin(folder: Path) -> Origin:
    """The origin kept in a run's folder; that of a run that kept none is empty."""
    names = [name for name in list_files(folder) if CODE.match(name)]
    return Origin(read_environment(folder), {name: _read(folder / name) for name in names})


def _read(path: Path) -> str:
    """The text of a file; of one too large to be source, how large it is."""
    size = path.stat().st_size
    return path.read_text(encoding="utf-8", errors="replace") if size <= LARGEST_BYTES else f"{size} bytes"
