"""The verdicts as they were committed, claims.lock, against those of a store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.errors import ConfigError
from experiments.store.files import write_text
from experiments.store.verdicts import Judged

LOCK = Path(__file__).with_name("claims.lock")
HEAD = "# Verdict of each claim at seed 0, effort quick. Compared by `taolu claims check`, written by its --update.\n"
NONE = "not run"


@dataclass(frozen=True)
class Change:
    """A claim whose verdict is not the committed one.

    Args:
        claim: its id.
        locked: verdict in claims.lock, or "not locked".
        found: verdict in the store, or "not run".
        run_id: of the run that found it, or "".
    """

    claim: str
    locked: str
    found: str
    run_id: str


def read_lock(path: Path | None = None) -> dict[str, str]:
    """Claim -> verdict, of claims.lock or the file given.

    Raises ConfigError for a line that is not a claim and its verdict.
    """
    path, locked = path or LOCK, {}
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or words[1] not in ("holds", "fails", "undetermined"):
            raise ConfigError(f"{path.name}:{number}: '{line}': write CLAIM holds|fails|undetermined")
        locked[words[0]] = words[1]
    return locked


def changes(ids: Iterable[str], locked: Mapping[str, str], runs: Mapping[str, Judged]) -> list[Change]:
    """The claims among `ids` whose newest verdict differs from the committed one, or that lack either."""
    found = []
    for claim in ids:
        run = runs.get(claim)
        before, now = locked.get(claim, "not locked"), run.verdict if run else NONE
        if before != now:
            found.append(Change(claim, before, now, run.run_id if run else ""))
    return found


def update(ids: Iterable[str], runs: Mapping[str, Judged]) -> int:
    """Number of verdicts written; claims among `ids` that have none keep the line they had."""
    locked = read_lock()
    new = {claim: run.verdict for claim in ids if (run := runs.get(claim)) is not None}
    lines = [f"{claim:12} {verdict}\n" for claim, verdict in sorted((locked | new).items(), key=_order)]
    write_text(LOCK, HEAD + "".join(lines))
    return len(new)


def _order(item: tuple[str, str]) -> tuple[object, ...]:
    """Articles, labels and rows in the order of their numbers.

    >>> sorted([("1-S10", ""), ("1-S2.1c", ""), ("1-S2", "")], key=_order)
    [('1-S2', ''), ('1-S2.1c', ''), ('1-S10', '')]
    """
    return tuple(int(piece) if piece.isdigit() else piece for piece in re.findall(r"\d+|\D+", item[0]))
