"""What produced a run: code, packages, machine. Enough to say later why two runs differ."""

from __future__ import annotations

import getpass
import os
import platform
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.store.files import list_files
from experiments.store.origin import CODE, COMPARED, Origin

SOURCE_SUFFIXES = (".py", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".sh", ".ipynb", ".c", ".cpp", ".cu")
UNTRACKED_BYTES = 1_000_000  # of one file
UNTRACKED_TOTAL_BYTES = 10_000_000
UNTRACKED_FILES = 200


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

    torch = sys.modules.get("torch")  # what has not loaded it, as a mining job, has computed nothing with it
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if torch else []
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
        "cuda": torch.version.cuda if torch else None,
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
    program = Path(sys.argv[0])
    is_ours = program.name == "__main__.py" and program.parent.name == "experiments"  # python -m experiments
    return shlex.join(["taolu" if is_ours else program.name, *sys.argv[1:]])


class GitState:
    """A repository: commit, uncommitted changes, and source files git does not know yet.

    Args:
        folder: a folder of the repository. Outside a repository, or without git, everything is empty.
        exclude: the store's folder: what runs wrote is nobody's source.

    Attributes: `untracked`, text by path in the repository, of files under 1 MB until 200 files or 10 MB are reached;
    `untracked_left_out`, how many source files that leaves out.
    """

    def __init__(self, folder: Path, exclude: Path | None = None) -> None:
        self.top = _git(folder, "rev-parse", "--show-toplevel").strip()
        self.commit = _git(folder, "rev-parse", "HEAD").strip() if self.top else ""
        self.patch = _git(folder, "diff", "HEAD", "--binary") if self.commit else ""
        self.untracked: dict[str, str] = {}
        self.untracked_left_out = 0
        room = UNTRACKED_TOTAL_BYTES
        for name in self._untracked_sources(exclude):
            size = Path(self.top, name).stat().st_size
            if size < UNTRACKED_BYTES and size <= room and len(self.untracked) < UNTRACKED_FILES:
                self.untracked[name] = Path(self.top, name).read_text(encoding="utf-8", errors="replace")
                room -= size
            else:
                self.untracked_left_out += 1

    def _untracked_sources(self, exclude: Path | None) -> list[str]:
        if not self.top:
            return []
        store = exclude.resolve() if exclude else None
        names = _git(Path(self.top), "ls-files", "--others", "--exclude-standard", "-z").split("\0")
        paths = {name: Path(self.top, name) for name in names if name}
        return [
            name
            for name, path in paths.items()
            if path.suffix in SOURCE_SUFFIXES and path.is_file()
            if store is None or not path.resolve().is_relative_to(store)
        ]


def repositories(folders: Iterable[Path], exclude: Path) -> list[GitState]:
    """The distinct repositories the folders lie in, in order; a folder outside of any has none."""
    states: dict[str, GitState] = {}
    for folder in dict.fromkeys(folders):
        top = _git(folder, "rev-parse", "--show-toplevel").strip()
        if top and top not in states:
            states[top] = GitState(folder, exclude)
    return list(states.values())


def code_files(states: Iterable[GitState]) -> dict[str, str]:
    """Name and text of the artifacts that keep the repositories: git.patch and untracked/, git-2.patch and so on."""
    files = {}
    for number, state in enumerate(states, 1):
        mark = "" if number == 1 else f"-{number}"
        if state.patch:
            files[f"git{mark}.patch"] = state.patch
        files |= {f"untracked{mark}/{name}": text for name, text in state.untracked.items()}
    return files


def share_origin(source: Path, target: Path) -> None:
    """Command, environment and code of one run's folder, also in another's: second names of the same bytes."""
    names = [name for name in list_files(source) if CODE.match(name)]
    for name in (*names, "env.json", "command.txt"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source / name, target / name)
        except OSError:  # a file system without links
            shutil.copyfile(source / name, target / name)


def differences(first: Origin, second: Origin) -> list[str]:
    """What differs between two runs, or two sessions of one, in a few words each."""
    before, after = first.environment, second.environment
    found = [f"{key} {before.get(key)} -> {after.get(key)}" for key in COMPARED if before.get(key) != after.get(key)]
    names = sorted({*first.code, *second.code}, key=lambda name: ("/" in name, name))
    found += [f"{name} changed" for name in names if first.code.get(name) != second.code.get(name)]
    old, new = before.get("packages", {}), after.get("packages", {})
    changed = [
        f"{name} {old.get(name)} -> {new.get(name)}" for name in sorted({*old, *new}) if old.get(name) != new.get(name)
    ]
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        found.append(f"packages: {', '.join(changed[:5])}{more}")
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
