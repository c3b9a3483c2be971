"""`taolu import`: what `export` wrote, in another store under the same ids.

An import takes everything or nothing, and leaves what is there already, equal, as it is. Files come first, for a run is
there when its row is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from experiments.errors import ConfigError
from experiments.move import STORE_FILES, count
from experiments.store.archive import Package, file_digest, is_inside, opened
from experiments.store.files import atomic_path, list_files
from experiments.store.location import Store
from experiments.store.run_documents import (
    Document,
    Reader,
    Value,
    comparable,
    difference,
    fingerprint,
    models_folder,
    reader,
)
from experiments.store.run_rows import Whole, refuse_server, write_runs
from experiments.store.study_documents import name_studies, remove_unnamed, studies, write_study
from experiments.store.tables import Selection, read_tables

_ID = re.compile(r"[0-9a-f]{32}")
_MODEL = re.compile(r"m-[0-9a-f]{32}")


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
        yield f"imported into {self.store}: {count(self.runs, 'run')}, {count(self.studies, 'study')}{there}"


@dataclass
class _Plan:
    """What an import will do.

    Args:
        runs: ids of those the store has not.
        experiments: the names of theirs.
        folders: target -> name -> entry of its files, of folders that are not there.
        studies: documents of those the store has not.
        present: runs and studies it has, equal.
    """

    runs: list[str] = field(default_factory=list)
    experiments: set[str] = field(default_factory=set)
    folders: dict[Path, Mapping[str, str]] = field(default_factory=dict)
    studies: list[Document] = field(default_factory=list)
    present: int = 0


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
        except OSError as error:
            reason = f"{error.strerror}: {error.filename or store.folder}"
            raise ConfigError(f"store {store.label}: cannot be written ({reason}); nothing was imported") from error


def _import(package: Package, store: Store) -> Imported:
    store.folder.mkdir(parents=True, exist_ok=True)
    # the lock of `gc`, which removes folders without a run: here they come before the rows
    with FileLock(store.folder / ".collect.lock"):
        try:
            plan = _plan(package, store)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise package.refusal(f"its content is not what taolu export writes ({error!r})") from error
        _refuse_full(package, store, plan)
        with _made(store, plan.studies) as name_them:
            with _placed(package, plan.folders):
                if plan.runs:
                    write_runs(store, _documents(package, plan.runs), plan.experiments)
            name_them()
        _add_store_files(package, store)
    names = tuple(study["name"] for study in plan.studies)
    return Imported(store.label, tuple(plan.runs), names, plan.present)


def _documents(package: Package, ids: Iterable[str]) -> Iterator[Whole]:
    for run_id in ids:
        yield package.document(f"runs/{run_id}/run.json"), _values(package, run_id)


def _values(package: Package, run_id: str) -> Iterator[list[Value]]:
    return ([Value(*each) for each in line] for line in package.lines(f"runs/{run_id}/metrics.jsonl"))


def _plan(package: Package, store: Store) -> _Plan:
    """What there is to do; nothing is written.

    Raises ConfigError where the store has something else under the same id or name.
    """
    known = {row.run_id for row in read_tables(store, Selection(stage=None), ()).runs}
    plan, ids = _Plan(), package.manifest["runs"]
    if known.intersection(ids):
        with reader(store) as target:
            for run_id in filter(known.__contains__, ids):
                _refuse_other(package, store, target, run_id)
                plan.present += 1
    for run_id in ids:
        if run_id not in known:
            _plan_run(package, store, plan, run_id)
    there = {study["name"]: study for study in studies(store)}
    for number, name in enumerate(package.manifest["studies"]):
        study = package.document(f"studies/{number:06d}.json")
        if name not in there:
            plan.studies.append(study)
        elif found := difference(study, json.loads(json.dumps(there[name]))):
            raise ConfigError(f"study '{name}': the store has another: {found}; nothing was imported")
    plan.present += len(package.manifest["studies"]) - len(plan.studies)
    return plan


def _plan_run(package: Package, store: Store, plan: _Plan, run_id: str) -> None:
    document = package.document(f"runs/{run_id}/run.json")
    if not _ID.fullmatch(run_id) or document["run"]["run_uuid"] != run_id:
        raise package.refusal(f"'{run_id[:80]}' is no id of a run, or another's")
    plan.runs.append(run_id)
    plan.experiments.add(document["experiment"])
    for folder, files in _folders(store, document).items():
        if _is_missing(package, folder, files):
            plan.folders[folder] = files


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
def _made(store: Store, documents: Sequence[Document]) -> Iterator[Callable[[], None]]:
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
