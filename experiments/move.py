"""`taolu export` and `import`: runs, sweeps or a whole store in a zip, and back under the same ids.

Whatever has an end is exported: a run with those it needs, a sweep with its trials and its study, a claim with the runs
it trained. An import takes everything or nothing, and what is there already, equal, it leaves as it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from experiments.collect import USES
from experiments.errors import ConfigError
from experiments.store.archive import Package, Packer, file_digest, is_inside, opened
from experiments.store.files import atomic_path, list_files
from experiments.store.heartbeat import refuse_live
from experiments.store.location import Store
from experiments.store.read import find_run, read_run
from experiments.store.run_documents import (
    Document,
    Reader,
    Value,
    comparable,
    difference,
    downloaded,
    fingerprint,
    models_folder,
    reader,
    refuse_server,
    write_runs,
)
from experiments.store.spool import spool_folder
from experiments.store.study_documents import name_studies, remove_unnamed, run_of, studies, write_study
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
        held = f"{_count(self.runs, 'run')}, {_count(self.studies, 'study')}, {self.files} files"
        yield f"written: {self.path} ({held}; {self.path.stat().st_size:,} bytes)"
        if self.left_out:
            yield f"left out: {self.left_out} deleted runs; bring one back first with taolu restore RUN"


@dataclass(frozen=True)
class Imported:
    """What came into a store.

    Args:
        store: as a person may see it.
        runs: ids of those that are new.
        studies: names of those that are new.
        present: runs and studies that were there already, equal.
    """

    store: str
    runs: tuple[str, ...]
    studies: tuple[str, ...]
    present: int

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**vars(self), "runs": list(self.runs), "studies": list(self.studies)}

    def lines(self) -> Iterator[str]:
        """In words."""
        there = f"; {self.present} were there already, equal" if self.present else ""
        yield f"imported into {self.store}: {_count(self.runs, 'run')}, {_count(self.studies, 'study')}{there}"


def _count(items: Sequence[str], what: str) -> str:
    plural = {"study": "studies"}.get(what, f"{what}s")
    return f"{len(items)} {what if len(items) == 1 else plural}"


# ---- export ---------------------------------------------------------------------------------------------------------


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
    """Whether a study goes along: with its sweep's run, if that was asked for; with everything also what is nobody's."""
    return run_id in chosen or (everything and (run_id in ids or run_id not in known))


def _refuse_undelivered(store: Store, ids: Iterable[str]) -> None:
    """Raises ConfigError for a run of which another host still holds values."""
    wanted = set(ids)
    for path in spool_folder(store).glob("*.jsonl"):
        with path.open("rb") as file, suppress(ValueError, LookupError, TypeError):
            owner = json.loads(file.readline())[1]
            if owner["run_id"] in wanted:
                raise ConfigError(
                    f"run {owner['run_id'][:8]}: values of it lie in {path.name}, not in the database yet; "
                    f"deliver them first: taolu runs, on {owner['host']}"
                )


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


# ---- import ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """What an import will do.

    Args:
        runs: ids of those the store has not.
        experiments: the names of theirs.
        folders: target -> name -> entry of its files, of folders that are not there.
        studies: documents of those the store has not.
        present: runs and studies it has, equal.
    """

    runs: list[str]
    experiments: set[str]
    folders: dict[Path, Mapping[str, str]]
    studies: list[Document]
    present: int


def import_package(path: Path, store: Store) -> Imported:
    """Everything in a file that `export` wrote, in the store, under the same ids.

    Args:
        path: of the file, which is checked to its last byte before anything is written.
        store: a folder or a database, made first if it does not exist.

    Raises ConfigError for a damaged file, a run or study that the store has otherwise, or a store that takes no ids.
    """
    refuse_server(store)
    with opened(path) as package:
        try:
            return _import(package, store)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise package.refusal(f"its content is not what taolu export writes ({error!r})") from error
        except OSError as error:
            reason = f"{error.strerror}: {error.filename or store.folder}"
            raise ConfigError(f"store {store.label}: cannot be written ({reason}); nothing was imported") from error


def _import(package: Package, store: Store) -> Imported:
    store.folder.mkdir(parents=True, exist_ok=True)
    # the lock of `gc`, which removes folders without a run: here they come before the rows
    with FileLock(store.folder / ".collect.lock"):
        plan = _plan(package, store)
        _refuse_full(package, store, plan)
        with _made(store, plan.studies) as name_them:
            with _placed(package, plan.folders):
                if plan.runs:
                    write_runs(store, _documents(package, plan.runs), plan.experiments)
            name_them()
        _add_store_files(package, store)
    names = tuple(study["name"] for study in plan.studies)
    return Imported(store.label, tuple(plan.runs), names, plan.present)


def _documents(package: Package, ids: Iterable[str]) -> Iterator[tuple[Document, Iterator[list[Value]]]]:
    for run_id in ids:
        yield package.document(f"runs/{run_id}/run.json"), _values(package, run_id)


def _values(package: Package, run_id: str) -> Iterator[list[Value]]:
    return ([Value(*each) for each in line] for line in package.lines(f"runs/{run_id}/metrics.jsonl"))


def _plan(package: Package, store: Store) -> _Plan:
    """What there is to do; nothing is written.

    Raises ConfigError where the store has something else under the same id or name.
    """
    known = {row.run_id for row in read_tables(store, Selection(stage=None), ()).runs}
    plan = _Plan([], set(), {}, [], 0)
    present = [run_id for run_id in package.manifest["runs"] if run_id in known]
    if present:
        with reader(store) as target:
            for run_id in present:
                _refuse_other(package, store, target, run_id)
    for run_id in package.manifest["runs"]:
        if run_id not in known:
            if not _ID.fullmatch(run_id):
                raise package.refusal(f"'{run_id[:80]}' is no id of a run")
            document = package.document(f"runs/{run_id}/run.json")
            if document["run"]["run_uuid"] != run_id:
                raise package.refusal(f"runs/{run_id}/run.json is another run's")
            plan.runs.append(run_id)
            plan.experiments.add(document["experiment"])
            for folder, files in _folders(store, document).items():
                if _is_missing(package, folder, files):
                    plan.folders[folder] = files
    there = {study["name"]: study for study in studies(store)}
    for number, name in enumerate(package.manifest["studies"]):
        study = package.document(f"studies/{number:06d}.json")
        if name not in there:
            plan.studies.append(study)
        elif found := difference(study, json.loads(json.dumps(there[name]))):
            raise ConfigError(f"study '{name}': the store has another: {found}; nothing was imported")
    count = len(present) + len(package.manifest["studies"]) - len(plan.studies)
    return _Plan(plan.runs, plan.experiments, plan.folders, plan.studies, count)


def _refuse_other(package: Package, store: Store, target: Reader, run_id: str) -> None:
    """Raises ConfigError where the run of this id in the store differs from the file's."""
    given = package.document(f"runs/{run_id}/run.json")
    present = json.loads(json.dumps(target.document(run_id)))
    folders = _folders(store, given)
    for document in (given, present):
        document.pop("files", None)
        for model in document["models"]:
            model.pop("files", None)
    found = difference(comparable(given), comparable(present))
    if not found:
        values, others = fingerprint(_values(package, run_id)), fingerprint(target.values(run_id))
        key = next((key for key in sorted({*values, *others}) if values.get(key) != others.get(key)), None)
        if key is not None:
            counts = [each.get(key, (0, 0))[0] for each in (values, others)]
            found = f"the values of {key} differ ({counts[0]} in the file, {counts[1]} in the store)"
    for folder, files in folders.items():
        found = found or _other_file(package, folder, files)
    if found:
        raise ConfigError(f"run {run_id[:8]}: the store has it otherwise: {found}; nothing was imported")


def _folders(store: Store, document: Document) -> dict[Path, Mapping[str, str]]:
    """Folder -> name -> entry of the files, of a run and its logged models.

    Raises ConfigError for a name that leads out of its folder.
    """
    found: dict[Path, Mapping[str, str]] = {store.run_folder(document["run"]["run_uuid"]): document["files"]}
    for model in document["models"]:
        model_id = model["logged_models"][0]["model_id"]
        if not _MODEL.fullmatch(model_id):
            raise ConfigError(f"'{model_id[:80]}' is no id of a logged model; nothing was imported")
        found[models_folder(store, model_id)] = model["files"]
    for files in found.values():
        for name in files:
            if not is_inside(name):
                raise ConfigError(f"'{name[:200]}' leads out of the folder it is meant for; nothing was imported")
    return {folder: files for folder, files in found.items() if files or folder.exists()}


def _is_missing(package: Package, folder: Path, files: Mapping[str, str]) -> bool:
    """Whether the files are still to be written: the store's folder may have held them before its database did.

    Raises ConfigError where other files lie there.
    """
    if not folder.exists():
        return bool(files)
    if found := _other_file(package, folder, files):
        raise ConfigError(f"{folder}: {found}, and no run of the store; move it away, then import again")
    return False


def _other_file(package: Package, folder: Path, files: Mapping[str, str]) -> str:
    """What a file in the folder differs in from the package's; empty where all are equal."""
    present = {name for name in list_files(folder) if (folder / name).is_file()}
    for name in sorted({*files} ^ present):
        return f"the file '{name}' is only in the {'file' if name in files else 'store'}"
    for name, entry in files.items():
        if file_digest(folder / name) != package.entries[entry].sha256:
            return f"the file '{name}' has another content in the store"
    return ""


def _refuse_full(package: Package, store: Store, plan: _Plan) -> None:
    """Raises ConfigError where the disk has no room for the files."""
    entries = {entry for files in plan.folders.values() for entry in files.values()}
    needed, free = sum(package.entries[entry].size for entry in entries), shutil.disk_usage(store.folder).free
    if needed > free:
        raise ConfigError(
            f"store {store.folder}: the files need {needed:,} bytes, its disk has {free:,} free; nothing was imported"
        )


@contextmanager
def _placed(package: Package, folders: Mapping[Path, Mapping[str, str]]) -> Iterator[None]:
    """The folders with their files for the time of the block, and for good where it ends without an error.

    Each is written beside its place and moved there whole. What a kill leaves is a folder without a run: the next
    import goes on from it, and `gc` removes it.
    """
    parts = {folder: folder.with_name(".artifacts.part") for folder in folders}
    written: dict[str, Path] = {}
    try:
        for folder, files in folders.items():
            shutil.rmtree(parts[folder], ignore_errors=True)
            for name, entry in files.items():
                _write(package, entry, parts[folder] / name, written)
        for folder, part in parts.items():
            part.rename(folder)
        yield
    except BaseException:
        for folder, part in parts.items():
            shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                folder.parent.rmdir()
        raise


def _write(package: Package, entry: str, path: Path, written: dict[str, Path]) -> None:
    """The entry at the path; a content that had several names on its disk has them here too, where that can be."""
    if entry in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            os.link(written[entry], path)
            return
    package.copy(entry, path)
    written[entry] = path


@contextmanager
def _made(store: Store, documents: Sequence[Document]) -> Iterator[Any]:
    """The studies, without their names until the function that the block is given was called."""
    if not documents:
        yield lambda: None
        return
    from experiments.sweep import locked, open_storage

    storage = open_storage(store)
    try:
        for document in documents:
            write_study(storage, document)

        def name_them() -> None:
            with locked(store):
                name_studies(storage)

        yield name_them
    finally:
        remove_unnamed(storage)
        storage.remove_session()
        storage.engine.dispose()


def _add_store_files(package: Package, store: Store) -> None:
    """Files of the store itself that this one has not."""
    for entry in package.entries:
        name = entry.removeprefix("store/")
        path = store.folder / name
        if name != entry and any(Path(name).match(pattern) for pattern in STORE_FILES) and not path.exists():
            with atomic_path(path) as part:
                package.copy(entry, part)
