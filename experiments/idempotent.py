"""`taolu run --id KEY`: the same command given any number of times is one run: started, continued, or finished."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from filelock import FileLock, Timeout

from experiments.build import Say
from experiments.config import Config, resolve
from experiments.errors import ConfigError
from experiments.group import Word
from experiments.needed import result_of
from experiments.notify import Notifier
from experiments.parser import Settings
from experiments.resume import changes, go_on, revealed, stopped_run, stored_config
from experiments.run import FINISHED, Label, Result, Seat, run, seated
from experiments.store.configs import LIMITS
from experiments.store.heartbeat import TAG, is_stale
from experiments.store.location import Store, redact
from experiments.store.read import RunRecord, read_run
from experiments.store.tables import Selection, read_tables
from experiments.store.write import RunWriter, open_store

ID = "taolu.id"  # tag: what the user calls the run, in however many sessions it is trained
LONGEST_ID = 250
POLL_SECONDS = 1.0


def run_once(
    config: Config, key: str, *, store: Store, label: Label, say: Say, started: Callable[[str], None] | None = None
) -> Result:
    """The run of that id: begun where there is none, continued where it has not ended, as it is where it has.

    A signal that takes the machine away (SIGTERM, SIGUSR1) ends it at the next batch with everything kept, tag
    taolu.preempted and exit status 75: the same command goes on. A run that was ended before its first checkpoint
    passes the id on to a new one.

    Args:
        config: resolved; where the run is there, only what a resumed run may change may differ.
        key: the id, of the user's own.
        store: where the run is kept.
        label: of a new run.
        say: prints one line.
        started: told the run's id when it begins or goes on.

    Raises ConfigError when the run is at work already, or its settings are others.
    """
    if not key or len(key) > LONGEST_ID or redact(key) != key:
        raise ConfigError(f"--id {redact(key[:40])}: must be 1 to {LONGEST_ID} characters, and no secret")
    label.tags[ID] = key
    with seated(config, preemptible=True) as seat:
        once = _Once(config, key, store, label, say, started, seat)
        word = seat.word
        if word is None:
            return once.decide()
        if word.state == "started":
            return once.begin()
        record = read_run(store, word.run_id)
        return result_of(record) if word.state == "finished" else once.proceed(record)


@dataclass(frozen=True)
class _Once:
    config: Config
    key: str
    store: Store
    label: Label
    say: Say
    started: Callable[[str], None] | None
    seat: Seat

    def decide(self) -> Result:
        """On rank zero: what is to be done."""
        with _only_one(self.store, self.key) as done:
            record = self._found()
            if record is None:
                return replace(self, started=_first(done, self.started)).begin()
            _await_news(self.store, record)
            with stopped_run(self.store, record.run_id) as record:
                done()
                old, config = self._settings(record)
                if record.status != FINISHED or any(key in LIMITS for key in changes(old, config.flat())):
                    return self._go_on(record, old, config)
                self.seat.group.tell(Word(record.run_id, "finished", 1))
                short = record.run_id[:8]
                self.say(f"run {short} {record.name} is finished; look: taolu show {short}")
                return result_of(record)

    def begin(self) -> Result:
        """A new run."""
        return run(self.config, store=self.store, label=self.label, say=self.say, started=self.started, seat=self.seat)

    def proceed(self, record: RunRecord) -> Result:
        """The run continued."""
        return self._go_on(record, *self._settings(record))

    def _go_on(self, record: RunRecord, old: Settings, config: Config) -> Result:
        notifier = Notifier(self.label.notify, self.say)
        notifier.check()
        return go_on(self.seat, self.store, record, old, config, say=self.say, notifier=notifier, started=self.started)

    def _found(self) -> RunRecord | None:
        """The run of the id, if it has come far enough to be continued; one that has not loses the id."""
        tables = read_tables(self.store, Selection(kinds=("run",)), ("tags",))
        known = {row.run_id for row in tables.runs}
        ids = [run_id for run_id, name, value in tables.tags if (name, value) == (ID, self.key) and run_id in known]
        if not ids:
            return None
        record = read_run(self.store, ids[0])
        if record.status == FINISHED or (record.folder / "checkpoints" / "last.ckpt").exists():
            return record
        _await_news(self.store, record)
        with stopped_run(self.store, record.run_id):
            writer = RunWriter(self.store, record.run_id, open_store(self.store))
            writer.client.delete_tag(record.run_id, ID)
            if record.status == "RUNNING":
                writer.finish("FAILED")
        self.say(f"run {record.run_id[:8]} {record.name} had no checkpoint yet; another begins in its place")
        return None

    def _settings(self, record: RunRecord) -> tuple[Settings, Config]:
        """The run's own settings by dotted key, and those given; threads that are not given are the run's."""
        given = self.config
        if record.experiment != given.name:
            raise ConfigError(f"--id {self.key}: is a run of experiment {record.experiment}; give {given.name} another")
        old = resolve(str(stored_config(record))).flat()
        if given.values["threads"] is None:
            given = given.with_threads(int(old["threads"]))
        try:
            old = revealed(old, given.flat())
            changes(old, given.flat())
        except ConfigError as error:
            raise ConfigError(f"--id {self.key} is run {record.run_id[:8]}: {error}") from error
        return old, given


@contextmanager
def _only_one(store: Store, key: str) -> Iterator[Callable[[], None]]:
    """One process at a time decides what becomes of an id; it calls the function when the store shows it.

    Raises ConfigError when another process is about to.
    """
    open_store(store)
    folder = store.folder / "ids"
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / f"{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ConfigError(f"--id {key}: another process is starting this run just now") from error
    try:
        yield lock.release
    finally:
        lock.release()


def _first(done: Callable[[], None], started: Callable[[str], None] | None) -> Callable[[str], None]:
    def both(run_id: str) -> None:
        done()
        if started:
            started(run_id)

    return both


def _await_news(store: Store, record: RunRecord) -> None:
    """Returns when it can be told whether a run of another host is at work: it was heard of, or is silent too long.

    A cluster starts a job anew, elsewhere, within seconds of the death of its machine.
    """
    first = last = json.loads(record.tags.get(TAG, "{}"))
    is_elsewhere = first.get("host") != socket.gethostname()
    while is_elsewhere and record.status == "RUNNING" and last == first and not is_stale(last):
        time.sleep(POLL_SECONDS)
        record = read_run(store, record.run_id)
        last = json.loads(record.tags.get(TAG, "{}"))
