"""The run that another began from, and the runs that began from it: forks and evaluations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from experiments.store.location import Store
from experiments.store.read import RunRecord
from experiments.store.tables import PARENT, Selection, read_tables

FORK, EVALUATION = "fork", "evaluation"


@dataclass(frozen=True)
class Relative:
    """A run that is another's parent or child.

    Args:
        run_id: its id.
        name: empty where the run is gone.
        relation: what the younger of the two is, fork or evaluation.
        step: the step of the state the younger began from; None where its tags do not say.
    """

    run_id: str
    name: str
    relation: str
    step: int | None


@dataclass(frozen=True)
class Relatives:
    """Of one run.

    Args:
        parent: the run it is a fork or an evaluation of.
        children: its forks and evaluations that are not deleted, newest first.
    """

    parent: Relative | None
    children: tuple[Relative, ...]

    def of(self, relation: str) -> tuple[Relative, ...]:
        """The children that are forks, or evaluations."""
        return tuple(child for child in self.children if child.relation == relation)


def read_relatives(store: Store, run: RunRecord) -> Relatives:
    """The parent of the run, deleted or not, and its children."""
    parent = None
    if run_id := run.tags.get(PARENT):
        found = read_tables(store, Selection(run_id=run_id, stage=None), ()).runs
        parent = _relative(run_id, found[0].name if found else None, run.tags)
    tables = read_tables(store, Selection(parent=run.run_id), ("tags",))
    tags: dict[str, dict[str, str]] = {row.run_id: {} for row in tables.runs}
    for run_id, key, value in tables.tags:
        if run_id in tags:
            tags[run_id][key] = value
    return Relatives(parent, tuple(_relative(row.run_id, row.name, tags[row.run_id]) for row in tables.runs))


def _relative(run_id: str, name: str | None, tags: Mapping[str, str]) -> Relative:
    """The run beside the younger's tags."""
    relation = EVALUATION if tags.get("taolu.kind") == EVALUATION else FORK
    try:
        step = json.loads(tags[f"taolu.{relation}"])["from_step" if relation == FORK else "step"]
    except (KeyError, TypeError, ValueError):  # a tag can be changed by hand
        step = None
    return Relative(run_id, name or "", relation, step if isinstance(step, int) else None)
