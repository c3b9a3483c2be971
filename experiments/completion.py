"""Shell completion: verbs and experiments at once, options from a schema cached by the code's digest."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from experiments.errors import ConfigError, unknown
from experiments.store.files import write_text

_MAKE = "from experiments.cli.output import print_json; from experiments.manual import schema; print_json(schema())"
NEWEST = 100  # runs whose names are offered
SCRIPTS = {
    "bash": """_taolu() {
  local IFS=$'\\n'
  COMPREPLY=($(taolu _complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o default -F _taolu taolu""",
    "zsh": """#compdef taolu
_taolu() {
  local -a found
  found=("${(@f)$(taolu _complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -- $found || _files
}
compdef _taolu taolu""",
    "fish": """complete -c taolu -a '(taolu _complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'""",
}


def script(shell: str) -> str:
    """What the shell evaluates: `eval "$(taolu completion bash)"`.

    Raises ConfigError for a shell there is no script for.
    """
    if shell not in SCRIPTS:
        raise unknown("shell", shell, SCRIPTS)
    return SCRIPTS[shell]


def complete(words: list[str]) -> list[str]:
    """What the last word can become.

    Args:
        words: those after `taolu`, the last one unfinished and possibly empty.
    """
    from experiments.cli import VERBS
    from experiments.cli.options import OPTIONS
    from experiments.config import PARTS, experiment_names

    *before, last = words or [""]
    if not before:
        return _starting(last, VERBS)
    verb = VERBS.get(before[0])
    if verb is None:
        return []
    own = [f"--{name}" for name in (*verb.options, "help")]
    previous = before[-1].removeprefix("--")
    if before[-1] in own and OPTIONS[previous][0]:
        known = _handles(before) if previous == "lexicon" else _words(OPTIONS[previous][0])
        return _starting(last, known)  # a value of the user's own: the shell offers files
    if before[0] == "completion":
        return _starting(last, SCRIPTS)
    if before[:2] == ["queue", "add"]:  # takes what run takes
        before = before[1:]
    elif before[0] not in ("run", "check", "find"):
        return _starting(last, own if last.startswith("-") else _offered(before, verb.usage))
    if len(before) == 1:
        return _starting(last, experiment_names())
    if before[-1].startswith("--") and previous.removesuffix(".class") in PARTS:
        return _starting(last, PARTS[previous.removesuffix(".class")])
    schema = cached_schema().get(before[1], {})
    options = schema.get("options", {})
    if before[-1].startswith("--") and previous in options:
        return _starting(last, _values(options[previous]["type"]))
    parts = [f"--{part}" for part in schema.get("parts", {})]
    return _starting(last, [*own, *parts, *(f"--{key}" for key in options)]) if last.startswith("-") else []


def _offered(before: list[str], usage: str) -> list[str]:
    """What a verb takes that is no option and no experiment: tasks, names of sweeps, runs."""
    if " RUN" in usage.partition(" --")[0]:
        return _handles(before)
    offered = {"claims": _claims, "sweep": _sweeps, "queue": _queue, "mine": _miners, "lexicon": _lexicons}
    return offered[before[0]](before[1:]) if before[0] in offered else []


def _words(placeholder: str) -> list[str]:
    """The words of a placeholder such as quick|full; none of one that stands for a value of the user's own."""
    return placeholder.removesuffix(" *").split("|") if placeholder.islower() else []


def _claims(before: list[str]) -> list[str]:
    """Tasks of the verb claims, then what they take: articles, and the claims that claims.lock names."""
    from experiments.claims.lock import read_lock
    from experiments.claims.registry import ARTICLES
    from experiments.cli.claims import TASKS

    if not before:
        return [task for task in TASKS if task]
    articles = [] if before[0] == "show" else [str(article) for article in ARTICLES]
    return [*articles, *read_lock()] if before[0] in ("show", "run", "check") else []


def _sweeps(before: list[str]) -> list[str]:
    """What the verb sweep takes first: the shipped sweeps, experiments, and worker."""
    from experiments.config import experiment_names
    from experiments.design import sweep_names

    return [] if before else ["worker", *sweep_names(), *experiment_names()]


def _handles(before: list[str]) -> list[str]:
    """What names a run: `last` and names of the newest; of the deleted ones after restore."""
    from experiments.store.location import locate
    from experiments.store.tables import Selection, read_tables

    given = dict(pairwise(before))
    stage = "deleted" if before[0] == "restore" else "active"
    try:
        rows = read_tables(locate(given.get("--store"), given.get("--store_dir")), Selection(stage=stage), ()).runs
    except ConfigError:
        return []
    names = [
        row.name for row in rows[:NEWEST] if row.name and not set(row.name) & set(" :'\"")
    ]  # the shell breaks there
    return list(dict.fromkeys(["last", *names])) if rows else []


def _queue(before: list[str]) -> list[str]:
    """Tasks of the verb queue."""
    from experiments.cli.queue import TASKS

    return [] if before else list(TASKS)


def _miners(before: list[str]) -> list[str]:
    """Tasks of the verb mine, then the sources that have names."""
    from experiments.cli.mining import MINERS

    if not before:
        return list(MINERS)
    if before[0] == "lexicon":
        from mining.sources import NAMES

        return list(NAMES)
    return ["stdlib", "quest"] if before == ["apriori"] else []


def _lexicons(before: list[str]) -> list[str]:
    """Tasks of the verb lexicon."""
    from experiments.cli.lexicon import TASKS

    return [] if before else [task for task in TASKS if task]


def _values(kind: str) -> list[str]:
    """The values of a type that has few of them."""
    if kind.startswith("true or false"):
        return ["true", "false"]
    return kind.removeprefix("one of ").removesuffix(" or null").split(", ") if kind.startswith("one of ") else []


def _starting(word: str, names: Any) -> list[str]:
    return [name for name in names if name.startswith(word)]


def cached_schema() -> dict[str, Any]:
    """The schema of every experiment, made once for this version of the code: that takes seconds, reading it none."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "taolu"
    file = folder / f"schema-{code_digest()}.json"
    if not file.exists():
        made = subprocess.run(
            [sys.executable, "-P", "-c", _MAKE],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            return {}
        for old in folder.glob("schema-*.json"):
            old.unlink(missing_ok=True)
        write_text(file, made.stdout.splitlines()[-1])
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def code_digest() -> str:
    """A digest of the names, sizes and times of the source files the schema is made from."""
    root = Path(__file__).parent
    files = sorted([*root.rglob("*.py"), *root.rglob("*.yaml"), *(root.parent / "lightning_modules").rglob("*.py")])
    text = "".join(f"{file}{(stat := file.stat()).st_size}{stat.st_mtime_ns}" for file in files)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
