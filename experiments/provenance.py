"""What produced a run: code, packages, machine. Enough to say later why two runs differ."""

from __future__ import annotations

import getpass
import os
import platform
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SOURCE_SUFFIXES = (".py", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".sh", ".txt", ".md", ".ipynb", ".c", ".cpp", ".cu")
UNTRACKED_BYTES = 1_000_000


def packages() -> dict[str, str]:
    """Installed distributions and their versions, sorted: what `pip freeze` would list."""
    # Read off the folders' names: opening 160 metadata files costs 0.3 CPU-s a run.
    names = (path.name for entry in sys.path if Path(entry).is_dir() for path in Path(entry).glob("*.*-info"))
    found = {
        match[1]: match[2] for name in names if (match := re.match(r"(.+?)-([^-]+?)(-py[\d.]+)?\.\w+-info$", name))
    }
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def environment(threads: int) -> dict[str, Any]:
    """Versions, host, user, processor and devices of this process."""
    import psutil
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "user": _user(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "threads": threads,
        "gpus": gpus,
        "cuda": torch.version.cuda,
        "working_directory": str(Path.cwd()),
        "packages": packages(),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def command_line() -> str:
    """The command that started this process, quoted so that a shell reads it back."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


class GitState:
    """The working directory's repository: commit, uncommitted changes, and source files git does not know yet.

    Args:
        folder: a folder of the repository. Outside a repository, or without git, everything is empty.
    """

    def __init__(self, folder: Path) -> None:
        self.top = _git(folder, "rev-parse", "--show-toplevel").strip()
        self.commit = _git(folder, "rev-parse", "HEAD").strip() if self.top else ""
        self.patch = _git(folder, "diff", "HEAD", "--binary") if self.commit else ""

    @property
    def untracked(self) -> Mapping[str, str]:
        """Text of the untracked source files under 1 MB, by their path in the repository."""
        if not self.top:
            return {}
        found = {}
        for name in _git(Path(self.top), "ls-files", "--others", "--exclude-standard", "-z").split("\0"):
            path = Path(self.top, name)
            if name and path.suffix in SOURCE_SUFFIXES and path.is_file() and path.stat().st_size < UNTRACKED_BYTES:
                found[name] = path.read_text(encoding="utf-8", errors="replace")
        return found


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
