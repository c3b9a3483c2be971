"""`taolu export`: runs, sweeps or a whole store in a zip.

A run comes with those it needs, a sweep with its trials and its study, a claim with the runs it trained.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.collect import USES
from experiments.errors import ConfigError
from experiments.store.archive import Packer
from experiments.store.files import atomic_path, list_files
from experiments.store.heartbeat import refuse_live
from experiments.store.location import Store
from experiments.store.read import find_run, read_run
from experiments.store.run_documents import (
    Reader,
    downloaded,
    models_folder,
    reader,
)
from experiments.store.spool import spool_folder
from experiments.store.study_documents import run_of, studies
from experiments.store.tables import Selection, Tables, read_tables

WITH_CHILDREN = ("sweep", "claim")  # kinds that are not whole without the runs they are the parent of
STORE_FILES = ("claims.json", "checks/*.json")  # of the store itself; --all takes them along
_ID = re.compile(r"[0-9a-f]{32}")
_MODEL = re.compile(r"m-[0-9a-f]{32}")


@dataclass(frozen=True)
class Exported:
    """What a file holds now.

    Args:
        path: of the file.
        runs: their ids, the oldest first.
        studies: names of the sweeps' studies.
        files: artifacts.
        left_out: deleted runs that nobody needs.
    """

    path: Path
    runs: tuple[str, ...]
    studies: tuple[str, ...]
    files: int
    left_out: int = 0

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        size = self.path.stat().st_size
        return {**vars(self), "path": str(self.path), "bytes": size, "runs": list(self.runs)}

    def lines(self) -> Iterator[str]:
        """In words."""
        held = f"{count(self.runs, 'run')}, {count(self.studies, 'study')}, {self.files} files"
        yield f"written: {self.path} ({held}; {self.path.stat().st_size:,} bytes)"
        if self.left_out:
            yield f"left out: {self.left_out} deleted runs; bring one back first with taolu restore RUN"


def count(items: Sequence[str], what: str) -> str:
    """How many runs, or studies.

    >>> count(["a", "b"], "study")
    '2 studies'
    """
    plural = {"study": "studies"}.get(what, f"{what}s")
    return f"{len(items)} {what if len(items) == 1 else plural}"


def export(store: Store, handles: Sequence[str], path: Path, *, everything: bool = False) -> Exported:
    """The runs in a zip, with all they need: whole, or not there.

    Args:
        store: where they are.
        handles: id prefixes, names, last, ...; a sweep by its name or its run.
        path: of the file, replaced if it exists.
        everything: every run that is not deleted, and every study, instead of those named.

    Raises ConfigError for a run that is still going on, or whose values are not all delivered.
    """
    tables = read_tables(store, Selection(stage=None), ("tags",))
    rows = {row.run_id: row for row in tables.runs}
    active = [row.run_id for row in tables.runs if row.stage == "active"]
    chosen = active if everything else [each for handle in handles for each in _family(store, tables, handle)]
    if not chosen:
        raise ConfigError(f"store {store.label} holds no run yet; start one: taolu run vae")
    ids = _with_needed(tables, chosen)
    ids.sort(key=lambda run_id: (rows[run_id].start or 0, run_id))
    for run_id in ids:
        if rows[run_id].status == "RUNNING":
            with suppress(json.JSONDecodeError):  # of a heartbeat that somebody has changed by hand
                refuse_live(read_run(store, run_id))
    _refuse_undelivered(store, ids)
    kept = [each for each in studies(store) if _is_taken(run_of(each), ids, {*rows}, {*chosen}, everything)]
    left_out = len(rows) - len(ids) if everything else 0
    try:
        with atomic_path(path) as part, reader(store) as source:
            packer = Packer(part)
            files = sum(_pack_run(packer, store, source, run_id) for run_id in ids)
            for number, study in enumerate(kept):
                packer.document(f"studies/{number:06d}.json", study)
            if everything:
                _pack_store(packer, store)
            names = [study["name"] for study in kept]
            packer.close(taolu=version("taolu"), everything=everything, runs=ids, studies=names)
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written ({error.strerror}: {error.filename or path})") from error
    return Exported(path, tuple(ids), tuple(study["name"] for study in kept), files, left_out)


def _family(store: Store, tables: Tables, handle: str) -> list[str]:
    """The run, and the runs it is the parent of where it is not whole without them."""
    run_id = find_run(store, handle)
    [kind] = [row.kind for row in tables.runs if row.run_id == run_id]
    if kind not in WITH_CHILDREN:
        return [run_id]
    active = {row.run_id for row in tables.runs if row.stage == "active"}
    own = [child for child, key, value in tables.tags if (key, value) == ("mlflow.parentRunId", run_id)]
    return [run_id, *(child for child in own if child in active)]


def _with_needed(tables: Tables, chosen: Iterable[str]) -> list[str]:
    """The runs and all that they need, directly or not, deleted ones included; not what was removed for good."""
    there = {row.run_id for row in tables.runs}
    needs: dict[str, set[str]] = {}
    for run_id, key, value in tables.tags:
        if key in USES:
            needs.setdefault(run_id, set()).update(there.intersection(_ID.findall(value or "")))
    found: dict[str, None] = {}
    waiting = list(chosen)
    while waiting:
        run_id = waiting.pop()
        if run_id not in found:
            found[run_id] = None
            waiting += needs.get(run_id, ())
    return list(found)


def _is_taken(run_id: str, ids: Sequence[str], known: set[str], chosen: set[str], everything: bool) -> bool:
    """Whether a study goes along: with its sweep's run, where that was asked for; with everything also nobody's."""
    return run_id in chosen or (everything and (run_id in ids or run_id not in known))


def _refuse_undelivered(store: Store, ids: Sequence[str]) -> None:
    """Raises ConfigError for a run of which another host still holds values."""
    for path in spool_folder(store).glob("*.jsonl"):
        owner = _owner(path)
        if owner.get("run_id", "") in ids:
            raise ConfigError(
                f"run {owner['run_id'][:8]}: values of it lie in {path.name}, not in the database yet; "
                f"deliver them first: taolu runs, on {owner.get('host')}"
            )


def _owner(spool: Path) -> dict[str, Any]:
    """What the first line of a spool says of its process; nothing where it is torn."""
    with spool.open("rb") as file:
        try:
            found: dict[str, Any] = json.loads(file.readline())[1]
            return found
        except ValueError:
            return {}


def _pack_run(packer: Packer, store: Store, source: Reader, run_id: str) -> int:
    """How many files of the run the zip holds now."""
    document = source.document(run_id)
    place = f"runs/{run_id}"
    with downloaded(store, run_id) as folder:
        document["files"] = _pack_folder(packer, f"{place}/artifacts", folder)
    for model in document["models"]:
        model_id = model["logged_models"][0]["model_id"]
        model["files"] = _pack_folder(packer, f"models/{model_id}", models_folder(store, model_id))
    packer.document(f"{place}/run.json", document)
    packer.lines(f"{place}/metrics.jsonl", source.values(run_id))
    return len(document["files"]) + sum(len(model["files"]) for model in document["models"])


def _pack_folder(packer: Packer, place: str, folder: Path) -> dict[str, str]:
    """Name -> entry of the files; pipes and devices are none."""
    return {name: packer.file(place, name, folder / name) for name in list_files(folder) if (folder / name).is_file()}


def _pack_store(packer: Packer, store: Store) -> None:
    for pattern in STORE_FILES:
        for path in sorted(store.folder.glob(pattern)):
            packer.file("store", path.relative_to(store.folder).as_posix(), path)
