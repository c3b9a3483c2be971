"""What dead processes left behind, put right: their spools delivered, their runs no longer RUNNING."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import ConfigError
from experiments.store.heartbeat import TAG, is_dead, is_stale
from experiments.store.location import Store
from experiments.store.read import runs_table
from experiments.store.spool import Chunk, orphans, read, spool_folder
from experiments.store.studies import read_study

if TYPE_CHECKING:
    from experiments.store.write import RunWriter

NOTIFIED = "taolu.notified"  # what somebody was told of a dead run: failed or stale, and the last heartbeat's time
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE")


def replay(store: Store) -> int:
    """Number of values delivered from the spools of dead processes of this host, which are removed.

    Delivering twice does no harm: MLflow keeps equal values once. Whoever comes second finds the lock taken and waits.
    """
    if not any(spool_folder(store).glob("*.jsonl")):
        return 0
    from filelock import FileLock

    from experiments.store.write import RunWriter, open_store

    delivered = 0
    with FileLock(spool_folder(store) / ".replay.lock"):
        for run_id, path in orphans(store):
            from mlflow.exceptions import MlflowException

            try:
                delivered += _deliver(RunWriter(store, run_id, open_store(store)), path)
            except MlflowException as error:
                if error.error_code in GONE:  # the run was removed for good: keep the values, ask no more
                    path.rename(path.with_suffix(".orphan"))
                    continue
                raise ConfigError(f"spool {path}: not delivered ({error}); it is kept, try again later") from error
            path.unlink()
    return delivered


def replay_own(store: Store) -> None:
    """Delivers what ended runs of this very process could not, the database being away; their spools are removed."""
    from experiments.store.write import RunWriter, open_store

    for path in spool_folder(store).glob(f"*.{os.getpid()}.jsonl"):
        run_id = path.name.partition(".")[0]
        _deliver(RunWriter(store, run_id, open_store(store)), path)
        path.unlink()


def _deliver(writer: RunWriter, path: Path) -> int:
    start, count = 0, 0
    while True:
        chunk = read(path, start, 1000)
        if chunk.end == start:
            return count
        deliver(writer, chunk)
        start, count = chunk.end, count + len(chunk.points)


def deliver(writer: RunWriter, chunk: Chunk) -> None:
    """A chunk of a spool in the database: values, tags, then the run's end."""
    writer.metrics(chunk.points)
    if chunk.tags:
        writer.tags(chunk.tags)
    if chunk.status:
        writer.finish(chunk.status)


@dataclass(frozen=True)
class Dead:
    """A run that says RUNNING and is not.

    Args:
        run_id: of the run.
        name: of the run.
        reaped: marked FAILED now; otherwise it is stale: on another host, without a heartbeat for a minute.
        beat: its last heartbeat.
        told: its tag taolu.notified.
    """

    run_id: str
    name: str
    reaped: bool
    beat: Mapping[str, Any]
    told: str = ""

    @property
    def news(self) -> str:
        """What there is to tell, as in taolu.notified: a run that came back and died again is news again."""
        return f"{'failed' if self.reaped else 'stale'} {self.beat.get('time', 0.0)}"


def reap(store: Store) -> list[Dead]:
    """The RUNNING runs nobody runs: those of this host are marked FAILED, others told.

    A sweep runs as long as a worker of any machine holds one of its trials.
    """
    table = runs_table(store)
    if not len(table) or not (running := table[table["status"] == "RUNNING"]).size:
        return []
    from experiments.store.write import RunWriter, open_store

    found = []
    for run in running.to_dict("records"):
        text = run.get(f"tags.{TAG}")
        if not isinstance(text, str):  # not one of ours
            continue
        beat = json.loads(text)
        if not (is_dead(beat) or is_stale(beat)) or _has_workers(store, run):
            continue
        reaped = is_dead(beat)
        if reaped:
            RunWriter(store, run["run_id"], open_store(store)).finish("FAILED")
        told = run.get(f"tags.{NOTIFIED}")
        found.append(Dead(run["run_id"], run["name"], reaped, beat, told if isinstance(told, str) else ""))
    return found


def _has_workers(store: Store, run: Mapping[Hashable, Any]) -> bool:
    if run.get("tags.taolu.kind") != "sweep":
        return False
    study = read_study(store, str(run.get("tags.taolu.study")))
    return study is not None and bool(study.at_work)


def record_told(store: Store, dead: Iterable[Dead]) -> None:
    """The tag taolu.notified of these runs, set."""
    from experiments.store.write import open_store

    client = open_store(store)
    for run in dead:
        client.set_tag(run.run_id, NOTIFIED, run.news)
