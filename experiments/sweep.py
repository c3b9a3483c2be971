"""An Optuna study as the queue of a sweep's trials: begun, gone on with, shared by any number of workers."""

from __future__ import annotations

import inspect
import json
import math
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from experiments.design import Design, design_of
from experiments.errors import ConfigError, unknown
from experiments.space import Point, Range, identity
from experiments.store.heartbeat import owner
from experiments.store.location import Store, redact, redact_value
from experiments.store.outage import is_outage
from experiments.store.studies import (
    ATTRIBUTE,
    BEAT_SECONDS,
    KILLED,
    VOID,
    WAITING_SECONDS,
    StudyRecord,
    TrialRecord,
    is_lost,
    latest,
    leases,
    read_study,
    records,
    silent_numbers,
    study_url,
)
from experiments.trial import COMPLETE, DIVERGED, ERROR, PRUNED, STOPPED, TIMED_OUT, Outcome

MOST_ERRORS = 1  # attempts that may fail before no other follows
LONGEST_HOLD_SECONDS = 30  # of the study's lock: a machine that vanished with it keeps nobody waiting for longer
END_STATES = {COMPLETE: TrialState.COMPLETE, DIVERGED: TrialState.COMPLETE, PRUNED: TrialState.PRUNED}
END_STATES |= {TIMED_OUT: TrialState.PRUNED, ERROR: TrialState.FAIL, STOPPED: TrialState.FAIL}


class Taken:
    """A trial that is ours to run.

    Args:
        study: Optuna's.
        trial_id: in the database.
        number: within the study.
        point: of the space, with the seed where a grid is repeated.
    """

    def __init__(self, study: optuna.Study, trial_id: int, number: int, point: Point) -> None:
        self.trial_id = trial_id
        self.number = number
        self.point = point
        self._study = study

    def report(self, value: float, step: int) -> bool:
        """Tells the pruner the value so far; whether it gives the trial up. A database that is away gives up none."""
        storage = self._study._storage
        try:
            storage.set_trial_intermediate_value(self.trial_id, step, value)
            return self._study.pruner.prune(self._study, storage.get_trial(self.trial_id))
        except optuna.exceptions.UpdateFinishedTrialError:  # the lease was lost, as the run finds out
            return False
        except optuna.exceptions.StorageInternalError as error:
            if not is_outage(error):
                raise
            return False


@dataclass(frozen=True)
class _Place:
    """Where the next trial comes from.

    Args:
        params: its point, as Optuna holds it; None = Optuna's queue, or else its sampler, says.
        attributes: of the trial: the attempt it takes the place of.
    """

    params: Mapping[str, Any] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Lease:
    """Renews the lease on a trial from a thread while entered, and finds out when it was lost.

    Args:
        storage: of the study.
        taken: the trial; its lease began when it was taken.
    """

    def __init__(self, storage: optuna.storages.RDBStorage, taken: Taken) -> None:
        self._storage = storage
        self._id = taken.trial_id
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="taolu-lease", daemon=True)
        self.is_lost = False

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def _renew(self) -> None:
        pause = float(BEAT_SECONDS)
        while not self._over.wait(pause) and not self.is_lost:
            try:
                self.is_lost = self._storage.get_trial(self._id).state != TrialState.RUNNING
                self._storage.record_heartbeat(self._id)
                pause = float(BEAT_SECONDS)
            except optuna.exceptions.StorageInternalError:  # away: the lease outlasts a cut of half a minute
                pause = 2.0
        self._storage.remove_session()  # this thread's own


class Queue:
    """The trials of one study. Every process makes its own.

    Trials are taken and put back under the study's lock, by one process of all machines at a time. What a process that
    dies, or a database that goes away, leaves half done, whoever takes a trial next puts right.

    Args:
        store: where.
        design: with objectives.
        old: the study as it is; None begins one.
        join: whether it has been begun, by another process.
    """

    def __init__(self, store: Store, design: Design, old: StudyRecord | None = None, *, join: bool = False) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.store = store
        self.design = design
        self._storage = open_storage(store)
        self._looked = 0.0
        self._unsure: int | None = None  # a trial that may be ours, the database having gone away as it was taken
        if join:
            self._study = optuna.load_study(study_name=design.name, storage=self._storage)
        elif old is None:
            self._study = _begun(self._storage, design)
        else:
            self._study = optuna.load_study(study_name=old.name, storage=self._storage)
            self._recover()
            with self.locked():
                self._study = _extended(self._storage, self._study, design, old)
        self._study.pruner = make_pruner(design)

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """Every attempt there is."""
        return records(self._study.get_trials(deepcopy=False))

    @property
    def run_id(self) -> str:
        """Of the sweep's run; empty before it has one."""
        return str(self._study.user_attrs.get(ATTRIBUTE, {}).get("run_id", ""))

    def describe(self, run_id: str, more: Mapping[str, Any] | None = None) -> None:
        """Keeps the design, the sweep's run and what else a worker needs with the study."""
        self._study.set_user_attr(
            ATTRIBUTE, {"design": redact_value("", self.design.plain()), "run_id": run_id, **(more or {})}
        )

    def release(self) -> None:
        """Closes the connections: one that two processes hold breaks the database."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    @contextmanager
    def locked(self) -> Iterator[Callable[[], object]]:
        """One process at a time: two that count before they ask would start one trial too many.

        On a server it is one of any machine, and what this gives is a function that raises where the lock was lost
        meanwhile, with the server or by holding it for too long.
        """
        if self._storage.engine.dialect.name != "postgresql":
            with locked(self.store):
                yield lambda: None
            return
        limit = f"SET LOCAL idle_in_transaction_session_timeout = '{LONGEST_HOLD_SECONDS}s'"
        lock = f"SELECT pg_advisory_xact_lock({zlib.crc32(self.design.name.encode())})"
        with self._storage.engine.connect() as connection:
            connection.exec_driver_sql(f"{limit}; {lock}")
            yield lambda: connection.exec_driver_sql("SELECT 1")
            with suppress(SQLAlchemyError):  # gone with the server
                connection.commit()

    # -- a worker's -------------------------------------------------------------------------------------------

    def take(self, deadline: float | None) -> Taken | None:
        """The next trial, ours from now on; None when there is none left to start, or it is past the deadline.

        May be called again after the database went away in the middle.
        """
        while deadline is None or time.time() <= deadline:
            with suppress(optuna.exceptions.UpdateFinishedTrialError):  # by whoever has the lock since, it being lost
                return self._take()
        return None

    def _take(self) -> Taken | None:
        with self.locked() as holds:
            trials = self._reclaimed()
            place = self._next(trials)
            if place is None:
                return None
            trial_id, params = self._made(place, len(trials))
            self._unsure = trial_id
            self._storage.record_heartbeat(trial_id)
            # A trial without an owner is void. So it is ours only if it was there, for all to see, under the lock, and
            # nobody who had the lock since has found it without.
            holds()
            self._storage.set_trial_user_attr(trial_id, "owner", {**owner(), "time": time.time()})
            self._unsure = None
        number = self._study._storage.get_trial_number_from_id(trial_id)
        return Taken(self._study, trial_id, number, _point(self.design, params))

    def _next(self, trials: Sequence[TrialRecord]) -> _Place | None:
        """Where the next trial comes from; None when there is none left to start."""
        heads, count = latest(trials), self.design.n_planned()
        waiting = sum(trial.state == "WAITING" for trial in heads)
        if waiting and (count is None or len(heads) - waiting < count):
            return _Place()
        for trial in heads:
            if trial.is_given_back:
                deaths = trial.deaths + (trial.end == KILLED)
                return _Place(trial.params, {"retry_of": trial.number, "errors": trial.errors, "deaths": deaths})
        if count is not None and len(heads) >= count:
            return None
        if not self.design.is_grid:
            return _Place()
        present = {identity(trial.params) for trial in heads}
        points = ({key: _category(value) for key, value in point.items()} for point in self.design.plan())
        return _Place(next(point for point in points if identity(point) not in present))

    def _made(self, place: _Place, number: int) -> tuple[int, Mapping[str, Any]]:
        """Id and parameters of a new trial that runs."""
        kinds = distributions(self.design)
        if place.params is None:
            self._study.sampler = make_sampler(self.design, number)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that ask renews no lease: `lease` does
                trial = self._study.ask(kinds)
            return trial._trial_id, trial.params
        kinds = {key: kinds[key] for key in place.params}
        new = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=dict(place.params),
            distributions=kinds,
            user_attrs=dict(place.attributes),
        )
        return self._study._storage.create_new_trial(self._study._study_id, new), place.params

    def lease(self, taken: Taken) -> Lease:
        """The lease on a trial that was taken, to be entered while it runs."""
        return Lease(self._storage, taken)

    def is_left(self, trials: Sequence[TrialRecord]) -> bool:
        """Whether there is a trial to start."""
        return self._next(trials) is not None

    def conclude(self, taken: Taken, outcome: Outcome) -> bool:
        """The outcome in the study; what was stopped is tried again.

        False where the lease was lost: another attempt takes the trial's place, and the outcome counts for nothing.
        May be called again after the database went away in the middle.
        """
        state, number = END_STATES[outcome.end], taken.trial_id
        noted = {"runs": list(outcome.run_ids), "error": outcome.error}
        noted["end"] = "" if outcome.end == COMPLETE else outcome.end
        values = list(outcome.values) if state == TrialState.COMPLETE else None
        if state == TrialState.PRUNED and len(outcome.values) == len(self.design.objectives) == 1:
            values = [outcome.values[0]] if not math.isnan(outcome.values[0]) else None
        try:
            for key, value in noted.items():
                if value:
                    self._storage.set_trial_user_attr(number, key, value)
            self._storage.set_trial_state_values(number, state, values)  # one process can do so, once
        except optuna.exceptions.UpdateFinishedTrialError:
            now = self._storage.get_trial(number)
            return now.state == state and tuple(now.user_attrs.get("runs", ())) == outcome.run_ids
        return True

    def best_numbers(self) -> set[int]:
        """Trials no other is better than in every objective: Optuna's view of several objectives."""
        return {trial.number for trial in self._study.best_trials}

    # -- what was left behind ---------------------------------------------------------------------------------

    def at_work(self, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Those that somebody works on."""
        if not any(trial.state == "RUNNING" for trial in trials):
            return []
        silent = silent_numbers(self._storage, self._study._study_id, self._study.get_trials(deepcopy=False))
        return [trial for trial in trials if trial.state == "RUNNING" and not is_lost(trial, silent)]

    def bury(self, pid: int, status: int) -> None:
        """The trial of a worker of this host that died has failed, and is tried again."""
        host = owner()["host"]
        with self.locked():
            for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                own = trial.user_attrs.get("owner", {})
                if (own.get("pid"), own.get("host")) == (pid, host):
                    self._end(trial, KILLED, f"its process ended with status {status}")

    def _reclaimed(self) -> tuple[TrialRecord, ...]:
        """Every attempt, those that nobody works on ended. Leases are looked at now and then."""
        found = self._study.get_trials(deepcopy=False)
        running = [trial for trial in found if trial.state == TrialState.RUNNING]
        silent: frozenset[int] = frozenset()
        if running and time.monotonic() - self._looked > BEAT_SECONDS / 2:
            self._looked = time.monotonic()
            silent = silent_numbers(self._storage, self._study._study_id, running)
        pairs = zip(running, records(running), strict=True)
        lost = [trial for trial, each in pairs if is_lost(each, silent) or trial._trial_id == self._unsure]
        for trial in lost:
            is_void = "owner" not in trial.user_attrs or trial._trial_id == self._unsure
            self._end(trial, VOID if is_void else KILLED, "its process is gone")
        return self.trials if lost else records(found)

    def _recover(self) -> None:
        """Trials of dead processes ended, and those that raised in the queue again, unless they did so often enough."""
        with self.locked():
            for trial in latest(self._reclaimed()):
                errors = trial.errors + (trial.end == ERROR)
                if trial.state == "FAIL" and trial.end == ERROR and errors <= MOST_ERRORS:
                    attributes = {"retry_of": trial.number, "errors": errors, "deaths": trial.deaths}
                    self._study.enqueue_trial(dict(trial.params), user_attrs=attributes)

    def _end(self, trial: optuna.trial.FrozenTrial, end: str, error: str) -> None:
        """A running trial has failed, unless it came to its end just now."""
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(trial._trial_id, "end", end)
            self._storage.set_trial_user_attr(trial._trial_id, "error", error)
            self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """One process of this host at a time: two that count before they ask would start one trial too many."""
    store.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(store.folder / ".studies.lock"):
        yield


# ---- the study ------------------------------------------------------------------------------------------------------


def study_to_go_on(store: Store, design: Design, *, resume: bool) -> StudyRecord | None:
    """The study that has the design's name, None where there is none; nothing is written.

    Raises ConfigError when it is of another space, or may not be gone on with.
    """
    old = read_study(store, design.name)
    if old is None or not old.design:
        spare = read_study(store, _spare(design.name))  # there only where an extension did not come to its end
        old = spare if spare is not None and spare.design else old
    if old is None:
        return None
    if not old.design:
        raise ConfigError(f"study '{design.name}' was not made by taolu sweep; choose another name with --name")
    new = design_of(redact_value("", design.plain()))
    if departs := new.departs(design_of(old.design)):
        raise ConfigError(
            f"study '{design.name}' exists and differs: {'; '.join(departs)}; choose another name with --name"
        )
    if not resume:
        done = sum(trial.is_result for trial in latest(old.trials))
        raise ConfigError(
            f"study '{design.name}' exists, with {done} trials done; go on with --resume, see it with --show, "
            "or choose another name with --name"
        )
    if old.at_work:
        live = old.at_work[0].owner
        raise ConfigError(
            f"study '{design.name}' is being worked on by process {live.get('pid')} on {live.get('host')}; "
            f"stop that sweep first, or join it: taolu sweep worker {design.name}"
        )
    return old


def open_storage(store: Store) -> optuna.storages.RDBStorage:
    """Optuna's storage of the store, made first if there is none.

    Raises ConfigError when it cannot be reached.
    """
    url = study_url(store)
    try:
        with warnings.catch_warnings(), locked(store) if url.startswith("sqlite") else _creating(url):
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = optuna.storages.RDBStorage(url, engine_kwargs=_engine(url), **leases())  # type: ignore[arg-type]
            if url.startswith("sqlite"):
                with storage.engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")  # readers do not wait for writers
        return storage
    except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, ImportError, OSError) as error:
        reason = redact(" ".join(str(error.__cause__ or error).split())[:300])
        raise ConfigError(f"studies of {store.label}: cannot be opened ({reason}); is the store there?") from error


def _engine(url: str) -> dict[str, Any]:
    """A connection that finds out within a minute that its server is gone."""
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": WAITING_SECONDS}}
    alive = {"connect_timeout": 10, "keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 4}
    return {"pool_size": 2, "connect_args": {**alive, "tcp_user_timeout": 60_000}}


@contextmanager
def _creating(url: str) -> Iterator[None]:
    """The study's database, made if there is none; two processes of any machine that make its tables at once fail."""
    name = make_url(url).database or ""
    engine = create_engine(make_url(url).set(database=name.removesuffix("_optuna")), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(7295)"))  # given back when the connection closes
            if not connection.execute(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}).first():
                quoted = name.replace('"', '""')
                connection.execute(text(f'CREATE DATABASE "{quoted}"'))
            yield
    finally:
        engine.dispose()


def _begun(storage: optuna.storages.RDBStorage, design: Design) -> optuna.Study:
    directions = ["maximize" if objective.direction == "max" else "minimize" for objective in design.objectives]
    try:
        return optuna.create_study(storage=storage, study_name=design.name, directions=directions)  # type: ignore[arg-type]
    except optuna.exceptions.DuplicatedStudyError as error:
        raise ConfigError(f"study '{design.name}' was made by another process just now; go on with --resume") from error


def _extended(
    storage: optuna.storages.RDBStorage, study: optuna.Study, design: Design, old: StudyRecord
) -> optuna.Study:
    """The study under the design's name, its trials told of the wider space where it is one.

    Optuna refuses a choice that was not there from the start, so the trials move to a new study of the same name. A
    copy lies beside until that is done, and is gone on from when it was not.
    """
    if old.name == design.name:
        if design_of(old.design).space.parameters == design.space.parameters:
            return study
        study = _copy(storage, study, _spare(design.name), distributions(design))
    whole = _copy(storage, study, design.name, distributions(design))
    optuna.delete_study(study_name=_spare(design.name), storage=storage)
    return whole


def _spare(name: str) -> str:
    return f"{name} (being extended)"


def _copy(
    storage: optuna.storages.RDBStorage, study: optuna.Study, name: str, new: Mapping[str, BaseDistribution]
) -> optuna.Study:
    """A study with the same trials, whose parameters have the new distributions, in place of any of that name."""
    if name in {each.study_name for each in storage.get_all_studies()}:
        optuna.delete_study(study_name=name, storage=storage)
    copy = optuna.create_study(storage=storage, study_name=name, directions=study.directions)
    for trial in study.trials:
        trial.distributions = {key: new.get(key, kind) for key, kind in trial.distributions.items()}
        copy.add_trial(trial)
    for key, value in study.user_attrs.items():  # last: who has them is whole
        copy.set_user_attr(key, value)
    return copy


def distributions(design: Design) -> dict[str, BaseDistribution]:
    """Optuna's form of the space, and of a grid's seeds."""
    found: dict[str, BaseDistribution] = {}
    for key, axis in design.space.parameters.items():
        if not isinstance(axis, Range):
            found[key] = CategoricalDistribution([_category(value) for value in axis.values()])
        elif axis.is_whole:
            found[key] = IntDistribution(int(axis.low), int(axis.high), axis.log, int(axis.step or 1))
        else:
            found[key] = FloatDistribution(axis.low, axis.high, axis.log, axis.step)
    if design.is_grid and "seed" not in design.space.keys:
        found["seed"] = IntDistribution(0, 2**31 - 1)
    return found


def _category(value: Any) -> Any:
    """A choice as Optuna can hold it: lists and mappings as text."""
    return json.dumps(value) if isinstance(value, list | tuple | Mapping) else value


def _point(design: Design, params: Mapping[str, Any]) -> Point:
    """Parameters as Optuna holds them as a point of the space."""
    point = dict(params)
    for key, axis in design.space.parameters.items():
        if not isinstance(axis, Range) and key in point:
            point[key] = next(value for value in axis.values() if _category(value) == point[key])
    return point


def make_sampler(design: Design, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of one trial: what it draws is a function of the design's seed and the trial's number.

    So it does not depend on how many workers there are, and a resumed study does not draw what it has drawn.
    Raises ConfigError for an unknown name or setting.
    """
    if design.is_grid:  # the points are in the queue: nothing is drawn
        return optuna.samplers.RandomSampler(seed=0)
    kinds = _named("Sampler", ("Base", "BaseGA", "Grid", "PartialFixed"))
    first = int(design.settings.get("seed", 0))
    scramble = design.sampler.name == "qmc"  # one sequence, which all trials must agree on
    seed = first if scramble else zlib.crc32(f"{first}/{number}".encode())
    settings = {"seed": seed, **design.sampler.settings}
    sampler: optuna.samplers.BaseSampler = _made("sampler", design.sampler.name, kinds, settings, also=("grid",))
    return sampler


def make_pruner(design: Design) -> optuna.pruners.BasePruner:
    """The pruner.

    Raises ConfigError for an unknown name or setting.
    """
    kinds = _named("Pruner", ("Base", "Nop"))
    name, settings = design.pruner.name, design.pruner.settings
    return optuna.pruners.NopPruner() if name == "none" else _made("pruner", name, kinds, settings, also=("none",))


def _named(what: str, left_out: Sequence[str]) -> dict[str, Any]:
    """Optuna's samplers or pruners by short name."""
    module = optuna.samplers if what == "Sampler" else optuna.pruners
    names = [name.removesuffix(what) for name in module.__all__ if name.endswith(what)]
    return {name.lower(): getattr(module, name + what) for name in names if name not in left_out}


def _made(what: str, name: str, kinds: Mapping[str, Any], settings: Mapping[str, Any], also: Sequence[str]) -> Any:
    short = name.removesuffix(what).replace("-", "").replace("_", "")
    if short not in kinds:
        raise unknown(what, name, [*kinds, *also])
    accepted = inspect.signature(kinds[short]).parameters
    for key in settings:
        if key not in accepted:
            raise ConfigError(f"{what} {name}: {unknown('setting', key, accepted)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return kinds[short](**settings)
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"{what} {name}: {' '.join(str(error).split())}") from error
