"""Runs that wait for a worker: a YAML file each in the store's folder, taken by renaming it. There is no broker.

`queue/waiting`, `queue/taken/<host>.<pid>.<start>`, `queue/done` and `queue/failed` hold NUMBER.yaml. Whoever renames a
file has it; the folder's name says which process that is, so that the item of a dead one goes back.
"""

from __future__ import annotations

import json
import shlex
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from experiments.config import Config, resolve
from experiments.errors import ConfigError
from experiments.parser import Settings
from experiments.store.files import write_text
from experiments.store.heartbeat import TAG, is_dead, is_stale, owner
from experiments.store.location import Store, redact, redact_value
from experiments.store.read import read_run
from experiments.store.replay import reap, replay
from experiments.words import ENGLISH, Words, padded

if TYPE_CHECKING:
    from experiments.run import Label

WAITING, DONE, FAILED = "waiting", "done", "failed"
ORPHAN = "its worker is gone; the next one takes it"
MOST_DEATHS = 3  # of the processes that ran an item, before no other takes it
BUILD_SECONDS = 3600.0  # a process of another host that has taken an item may need so long to begin its run
STOPPED = "stopped"  # file beside a taken item: `taolu stop` ends the item too


@dataclass(frozen=True)
class Item:
    """A run that waits, is at work, or is over.

    Args:
        number: by which it is called; smaller ones are taken first.
        command: what followed `taolu queue add`, as a person sees it.
        folder: the working directory it was given in, and runs in.
        config: resolved when it was given: what was queued is what runs, whatever becomes of its YAML file.
        added: when, UTC.
        name: of the run.
        tags: of the run, the user's own.
        note: of the run.
        deaths: of processes that ran it.
        runs: ids, one an attempt.
        error: why it failed, in one line.
    """

    number: int
    command: str = ""
    folder: str = ""
    config: Settings = field(default_factory=dict)
    added: str = ""
    name: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    note: str | None = None
    deaths: int = 0
    runs: tuple[str, ...] = ()
    error: str = ""

    def to_yaml(self) -> str:
        """The file."""
        plain = {**asdict(self), "runs": list(self.runs)}
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)

    def resolved(self) -> Config:
        """The config, checked again: the code may have changed since it was queued.

        Raises ConfigError in one line.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "config.yaml"
            file.write_text(yaml.safe_dump(self.config, allow_unicode=True), encoding="utf-8")
            return resolve(str(file))


# ---- giving and taking back -----------------------------------------------------------------------------------------


def add(target: str, options: Sequence[str] = (), *, store: Store, label: Label, overrides: Any = None) -> Item:
    """The item that will run what `taolu run` would, put in the queue.

    Args:
        target: NAME, FILE.yaml or FILE.py:Class.
        options: command-line words of the experiment.
        store: where it waits and runs.
        label: name, tags and note of the run.
        overrides: dotted keys to values, from Python.

    Raises ConfigError, before anything is written, for whatever `taolu run` would refuse here, and for secrets.
    """
    from experiments.build import build_parts, check_session
    from experiments.trainer import TrainerOptions

    config = resolve(target, options, overrides)
    _refuse_secrets(config, label)
    module, data = build_parts(config)
    check_session(module, data, TrainerOptions.from_config(config.values["trainer"]))
    given = [f"--{key}={value}" for key, value in (overrides or {}).items()]
    item = Item(
        number=0,
        command=redact(shlex.join([target, *options, *given])),
        folder=str(Path.cwd()),
        config={"name": config.name, **config.values},
        added=datetime.now(UTC).isoformat(timespec="seconds"),
        name=label.name,
        tags={key: str(redact_value(key, value)) for key, value in label.tags.items()},
        note=label.note,
    )
    return _put(store, item)


def _refuse_secrets(config: Config, label: Label) -> None:
    """A run keeps no secrets, and a queue is files."""
    hidden, given = config.redacted().flat(), config.flat()
    for key in given:
        if hidden[key] != given[key]:
            raise ConfigError(f"{key}: a secret, which the queue's file would show; start this one with taolu run")
    if label.notify:
        raise ConfigError("--notify: such URLs hold secrets and are kept nowhere; give them to taolu worker")


def _put(store: Store, item: Item) -> Item:
    from filelock import FileLock

    root = _root(store)
    try:
        (root / WAITING).mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".number.lock"):
            counter = root / ".number"  # not the largest number there is: an item is in no folder while it moves
            number = 1 + (int(counter.read_text()) if counter.exists() else 0)
            write_text(counter, str(number))
            item = replace(item, number=number)
            write_text(root / WAITING / _file_name(number), item.to_yaml())
    except OSError as error:
        raise ConfigError(
            f"store {store.label}: cannot be written ({error.strerror}); choose another with --store DIR"
        ) from error
    return item


def remove(store: Store, words: Sequence[str]) -> list[Item]:
    """The waiting items of these numbers, no longer in the queue.

    Raises ConfigError, before any is removed, for what is no number of a waiting item.
    """
    recover(store)
    paths = [_waiting(store, word) for word in dict.fromkeys(words)]
    removed = []
    for path in paths:
        item = read_item(path)
        try:
            path.unlink()
        except FileNotFoundError as error:
            raise ConfigError(f"item {item.number} was taken by a worker just now; see taolu queue ls") from error
        removed.append(item)
    return removed


def _waiting(store: Store, word: str) -> Path:
    if not (word.isascii() and word.isdecimal()):
        raise ConfigError(f"item '{word}': give the number that taolu queue ls shows, as in: taolu queue rm 7")
    path = _root(store) / WAITING / _file_name(int(word))
    if path.exists():
        return path
    for state, _, other in _files(store):
        if other.name == path.name:
            item = read_item(other)
            after = f"; stop it: taolu stop {item.runs[-1][:8]}" if state == "running" and item.runs else ""
            raise ConfigError(f"item {word} is {state}; only waiting items are removed{after}")
    raise ConfigError(f"no item {word} in the queue of {store.label}; see what it holds: taolu queue ls")


# ---- taking ---------------------------------------------------------------------------------------------------------


class Taken:
    """An item that is this process's until it is put back or concluded.

    Args:
        store: where.
        path: of its file, in this process's folder.
    """

    def __init__(self, store: Store, path: Path) -> None:
        self.item = read_item(path)
        self._root = _root(store)
        self._path = path

    @property
    def is_stopped(self) -> bool:
        """Whether `taolu stop` ended its run."""
        return (self._path.parent / STOPPED).exists()

    def note(self, run_id: str) -> None:
        """Keeps the id of the run that has just begun."""
        self.item = replace(self.item, runs=(*self.item.runs, run_id))
        write_text(self._path, self.item.to_yaml())

    def put_back(self, *, deaths: int | None = None) -> None:
        """Leaves the item to the next worker."""
        if deaths is not None:
            self.item = replace(self.item, deaths=deaths)
            write_text(self._path, self.item.to_yaml())
        self._move(WAITING)

    def conclude(self, error: str = "") -> None:
        """The item is over: done, or failed where there is an error."""
        self.item = replace(self.item, error=error)
        state = FAILED if error else DONE
        if self._move(state):
            write_text(self._root / state / self._path.name, self.item.to_yaml())

    def _move(self, state: str) -> bool:
        """Whether the item was still ours, or waits because somebody took this process for dead."""
        target, waiting = (self._root / name / self._path.name for name in (state, WAITING))
        target.parent.mkdir(parents=True, exist_ok=True)
        is_moved = _renamed(self._path, target) or (target != waiting and _renamed(waiting, target))
        _leave(self._path.parent)
        return is_moved


def _renamed(path: Path, target: Path) -> bool:
    """Whether it was this process that moved the file."""
    try:
        path.rename(target)
    except FileNotFoundError:
        return False
    return True


def _leave(folder: Path) -> None:
    """A process's folder removed, unless something else lies in it."""
    (folder / STOPPED).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def count_waiting(store: Store) -> int:
    """Items that nobody has taken."""
    return sum(1 for _ in (_root(store) / WAITING).glob("*.yaml"))


def is_empty(store: Store) -> bool:
    """Whether nothing waits and nobody, dead or alive, has taken anything."""
    return not count_waiting(store) and not _owners(store)


def take(store: Store) -> Taken | None:
    """The first waiting item, this process's from now on; None where there is none."""
    paths = sorted((_root(store) / WAITING).glob("*.yaml"))
    if not paths:
        return None
    own = _own_folder(store)
    own.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if _renamed(path, own / path.name):  # else another worker was quicker
            return Taken(store, own / path.name)
    _leave(own)
    return None


def recover(store: Store) -> list[Item]:
    """The items of dead processes, put back or concluded; their half runs are FAILED."""
    gone = [folder for folder in _owners(store) if _is_gone(store, folder)]
    if not gone:
        return []
    replay(store)  # a run that came to its end says so in its spool
    reap(store)
    found = []
    for folder in gone:
        is_stopped = (folder / STOPPED).exists()
        for path in sorted(folder.glob("*.yaml")):
            own = _own_folder(store)
            own.mkdir(parents=True, exist_ok=True)
            if _renamed(path, own / path.name):  # else another worker looked, too
                taken = Taken(store, own / path.name)
                _after_death(store, taken, is_stopped)
                found.append(taken.item)
        _leave(folder)
    return found


def _after_death(store: Store, taken: Taken, is_stopped: bool) -> None:
    deaths = taken.item.deaths + 1
    if _is_finished(store, taken.item):  # killed between the run's end and the item's: it is not run twice
        taken.conclude()
    elif is_stopped:
        taken.conclude("stopped")
    elif deaths >= MOST_DEATHS:
        taken.conclude(f"the process that ran it died {deaths} times; try it alone: taolu run {taken.item.command}")
    else:
        taken.put_back(deaths=deaths)


def _is_finished(store: Store, item: Item) -> bool:
    try:
        return bool(item.runs) and read_run(store, item.runs[-1]).status == "FINISHED"
    except ConfigError:  # the run was removed for good
        return False


def end_item_of(store: Store, run_id: str) -> bool:
    """Whether the run is a queue's; its item is then not put back when the run is told to end."""
    for folder in _owners(store):
        for path in folder.glob("*.yaml"):
            if read_item(path).runs[-1:] == (run_id,):
                (folder / STOPPED).touch()
                return True
    return False


# ---- looking --------------------------------------------------------------------------------------------------------


def listed(store: Store, limit: int) -> list[dict[str, Any]]:
    """The queue as plain values, in its order: what is over (the newest `limit`), at work, and waiting."""
    files = list(_files(store))
    over = sorted((file for file in files if file[0] in (DONE, FAILED)), key=lambda file: file[2].name)[-limit:]
    running = [file for file in files if file[0] == "running"]
    waiting = [file for file in files if file[0] == WAITING]
    return [_row(*file) for file in (*over, *running, *waiting)]


def table_lines(rows: Sequence[Mapping[str, Any]], store: Store, words: Words = ENGLISH) -> Iterator[str]:
    """The rows of `listed` as a table."""
    if not rows:
        yield words("queue_empty", store=store.label)
        return
    item, state, run, command = (words(f"queue_{name}") for name in ("item", "state", "run", "command"))
    yield "  ".join([padded(item, 5, right=True), padded(state, 8), padded(run, 8), command])
    for row in rows:
        error = words("queue_orphan") if row["error"] == ORPHAN else row["error"]
        cells = [f"{row['number']:>5}", padded(words(f"state_{row['state']}"), 8), f"{(row['run_id'] or '-')[:8]:8}"]
        yield "  ".join([*cells, row["command"], *([f"({error})"] if error else [])])
    counts = {name: sum(row["state"] == name for row in rows) for name in (WAITING, "running")}
    hint = words("queue_work") if rows[-1]["state"] == WAITING else ""
    yield words("queue_counts", **counts, store=store.label) + hint


def _row(state: str, where: Mapping[str, Any], path: Path) -> dict[str, Any]:
    item = read_item(path)
    return {
        "number": item.number,
        "state": state,
        "command": item.command,
        "run_id": item.runs[-1] if item.runs else None,
        "runs": list(item.runs),
        "added": item.added,
        "host": where.get("host"),
        "pid": where.get("pid"),
        "error": item.error or (ORPHAN if where and state == WAITING else ""),
    }


def _files(store: Store) -> Iterator[tuple[str, dict[str, Any], Path]]:
    """State, owner and file of every item. One of a dead process waits: the next worker puts it back."""
    root = _root(store)
    for folder in _owners(store):
        where = _owner_of(folder)
        state = WAITING if is_dead(where) else "running"
        yield from ((state, where, path) for path in sorted(folder.glob("*.yaml")))
    for state in (WAITING, DONE, FAILED):
        yield from ((state, {}, path) for path in sorted((root / state).glob("*.yaml")))


def read_item(path: Path) -> Item:
    """The item in a file; one that is no item has an error and no config."""
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - a SafeLoader
        return Item(**{**loaded, "number": int(path.stem), "runs": tuple(loaded.get("runs", ()))})
    except FileNotFoundError:  # moved just now
        return Item(int(path.stem))
    except (yaml.YAMLError, TypeError, ValueError, AttributeError, OSError) as error:
        return Item(int(path.stem) if path.stem.isdecimal() else 0, error=f"{path.name}: no item of a queue ({error})")


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as quick, where there is one


def _root(store: Store) -> Path:
    return store.folder / "queue"


def _file_name(number: int) -> str:
    return f"{number:08d}.yaml"


def _own_folder(store: Store) -> Path:
    me = owner()
    return _root(store) / "taken" / f"{me['host']}.{me['pid']}.{round(me['pid_start'] * 1000)}"


def _owners(store: Store) -> list[Path]:
    """The folders of processes that have taken something."""
    taken = _root(store) / "taken"
    return sorted(folder for folder in taken.iterdir() if folder.is_dir()) if taken.is_dir() else []


def _owner_of(folder: Path) -> dict[str, Any]:
    """Host, pid and pid_start that a folder's name says, as a heartbeat has them."""
    host, pid, start = folder.name.rsplit(".", 2)
    return {"host": host, "pid": int(pid), "pid_start": int(start) / 1000}


def _is_gone(store: Store, folder: Path) -> bool:
    """Whether the process a folder belongs to is dead, as far as can be known; of another host its run tells."""
    who = _owner_of(folder)
    if who["host"] == socket.gethostname():
        return is_dead(who)
    beats = [_beat(store, read_item(path)) for path in folder.glob("*.yaml")]
    own = [beat for beat in beats if (beat.get("host"), beat.get("pid")) == (who["host"], who["pid"])]
    try:
        age = time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return False
    return all(is_stale(beat) for beat in own) if own else age > BUILD_SECONDS


def _beat(store: Store, item: Item) -> dict[str, Any]:
    """The heartbeat of the item's last run; nothing where it has none."""
    try:
        found: dict[str, Any] = json.loads(read_run(store, item.runs[-1]).tags.get(TAG, "{}")) if item.runs else {}
    except ConfigError:
        return {}
    return found
