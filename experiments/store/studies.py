"""Optuna's studies beside the store's runs, read-only. Importing this loads no Optuna."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from experiments.errors import ConfigError, unknown
from experiments.store.heartbeat import is_dead
from experiments.store.location import Store, redact

if TYPE_CHECKING:
    import pandas as pd
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

DATABASE = "optuna.db"
ATTRIBUTE = "taolu"  # of a study: {"design": as its sweep file, "run_id": of the sweep's run, and what a worker needs}
WAITING_SECONDS = 60  # for another process's lock on the database
KILLED = "killed"  # the end of a trial whose process died
VOID = "void"  # and of one whose taker died half-way: it never was
MOST_DEATHS = 3  # of the processes that tried a point, before no other does
BEAT_SECONDS, LEASE_SECONDS = 10, 60  # a worker renews its lease on a trial so often, and loses it after such a silence


@dataclass(frozen=True)
class TrialRecord:
    """One attempt at a point of a study.

    Args:
        number: within the study.
        state: Optuna's word: COMPLETE, PRUNED, FAIL, RUNNING or WAITING.
        values: one an objective; infinite where the trial diverged; empty where there are none.
        params: the point.
        run_ids: of its runs, once it ended.
        end: in our words: complete, diverged, pruned, timed out, error, stopped, killed, void; empty while it lasts.
        error: one line.
        retry_of: number of the attempt this one takes the place of.
        errors: attempts before this one that raised.
        deaths: attempts before this one whose process was killed.
        owner: host, pid and pid_start of its process; empty before it has one.
        started: local time.
        ended: local time.
    """

    number: int
    state: str
    values: tuple[float, ...]
    params: Mapping[str, Any]
    run_ids: tuple[str, ...]
    end: str
    error: str
    retry_of: int | None
    errors: int
    deaths: int
    owner: Mapping[str, Any]
    started: datetime | None
    ended: datetime | None

    @property
    def is_result(self) -> bool:
        """Whether it need not be tried again."""
        return self.state in ("COMPLETE", "PRUNED")

    @property
    def is_given_back(self) -> bool:
        """Whether the next worker tries it again, as nothing was wrong with it: its process was stopped or died."""
        return self.state == "FAIL" and (self.end == "stopped" or (self.end == KILLED and self.deaths < MOST_DEATHS))


@dataclass(frozen=True)
class StudyRecord:
    """A study.

    Args:
        name: of the study.
        design: as its sweep file; empty for a study of somebody else's.
        run_id: of the sweep's run; empty for a study of somebody else's.
        directions: min or max, one an objective.
        trials: every attempt, in order.
        silent: numbers of running trials whose lease is over.
        more: what else a worker needs: trial_timeout, and files by the path the design names.
    """

    name: str
    design: Mapping[str, Any]
    run_id: str
    directions: tuple[str, ...]
    trials: tuple[TrialRecord, ...]
    silent: frozenset[int] = frozenset()
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def at_work(self) -> list[TrialRecord]:
        """Trials that somebody works on, as far as can be known."""
        return [each for each in self.trials if each.state == "RUNNING" and not is_lost(each, self.silent)]


def study_url(store: Store) -> str:
    """Where the studies of a store lie: optuna.db in its folder, or a second database `<name>_optuna` on its server.

    Never in MLflow's own database: both keep a table `alembic_version`.
    """
    if not store.url.startswith("postgresql"):
        return f"sqlite:///{store.folder / DATABASE}"
    from sqlalchemy.engine import make_url

    url = make_url(store.url)
    return url.set(database=f"{url.database}_optuna").render_as_string(hide_password=False)


def study_names(store: Store) -> list[str]:
    """Names of the store's studies, in order of their making."""
    storage = _open(store)
    return [] if storage is None else [study.study_name for study in storage.get_all_studies()]


def read_study(store: Store, name: str) -> StudyRecord | None:
    """The study of that name, None where there is none."""
    storage = _open(store)
    if storage is None or name not in {study.study_name for study in storage.get_all_studies()}:
        return None
    found = next(study for study in storage.get_all_studies() if study.study_name == name)
    own = found.user_attrs.get(ATTRIBUTE, {})
    trials = storage.get_all_trials(found._study_id, deepcopy=False)
    return StudyRecord(
        name=name,
        design=own.get("design", {}),
        run_id=own.get("run_id", ""),
        directions=tuple("max" if direction.name == "MAXIMIZE" else "min" for direction in found.directions),
        trials=records(trials),
        silent=silent_numbers(storage, found._study_id, trials),
        more={key: value for key, value in own.items() if key not in ("design", "run_id")},
    )


def silent_numbers(storage: RDBStorage, study_id: int, trials: Iterable[FrozenTrial]) -> frozenset[int]:
    """Numbers of the running trials whose lease is over, by the clock of the database, which all workers share."""
    running = {trial._trial_id: trial.number for trial in trials if trial.state.name == "RUNNING"}
    if not running:
        return frozenset()
    return frozenset(running[key] for key in storage._get_stale_trial_ids(study_id) if key in running)


def is_lost(trial: TrialRecord, silent: frozenset[int] | set[int]) -> bool:
    """Whether nobody works on a running trial: its taker died half-way, its process is gone, or its lease is over.

    Args:
        trial: that runs.
        silent: numbers of trials whose lease is over.
    """
    return not trial.owner or is_dead(trial.owner) or trial.number in silent


def leases() -> dict[str, int]:
    """What makes Optuna's storage keep leases."""
    return {"heartbeat_interval": BEAT_SECONDS, "grace_period": LEASE_SECONDS}


def find_study(store: Store, name: str) -> StudyRecord:
    """The study of that name.

    Raises ConfigError when there is none.
    """
    found = read_study(store, name)
    if found is None:
        raise unknown("study", name, study_names(store))
    return found


def importances(store: Store, name: str, objective: int = 0) -> dict[str, float]:
    """Setting -> the share of a study's variance it explains, the largest first; empty where too little was tried.

    Functional ANOVA over a random forest of the completed trials (Hutter, Hoos & Leyton-Brown 2014), Optuna's.
    """
    storage = _open(store)
    if storage is None:
        return {}
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings that some trials lack
        study = optuna.load_study(study_name=name, storage=storage)
        try:
            found = optuna.importance.get_param_importances(
                study,
                evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
                target=lambda trial: trial.values[objective],
            )
        except (ValueError, RuntimeError, IndexError, ImportError, AssertionError):
            return {}  # fewer than two trials, or nothing varies, or values whose variance overflows
    return {key: float(share) for key, share in found.items()}


def records(trials: Iterable[FrozenTrial]) -> tuple[TrialRecord, ...]:
    """Optuna's trials in our words."""
    return tuple(_record(trial) for trial in trials)


def _record(trial: FrozenTrial) -> TrialRecord:
    own = trial.user_attrs
    end = own.get("end", "")
    if trial.state.name in ("COMPLETE", "PRUNED") and end in ("", KILLED):  # ended while it was taken for dead
        end = trial.state.name.lower()
    return TrialRecord(
        number=trial.number,
        state=trial.state.name,
        values=tuple(trial.values or ()),
        params=trial.system_attrs.get("fixed_params") or trial.params,  # whole even before all were asked for
        run_ids=tuple(own.get("runs", ())),
        end=end,
        error=own.get("error", ""),
        retry_of=own.get("retry_of"),
        errors=own.get("errors", 0),
        deaths=own.get("deaths", 0),
        owner=own.get("owner", {}),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
    )


def latest(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The trials without those another attempt has taken the place of."""
    trials = tuple(trial for trial in trials if trial.end != VOID)
    replaced = {trial.retry_of for trial in trials}
    return [trial for trial in trials if trial.number not in replaced]


def ranked(trials: Iterable[TrialRecord], direction: str) -> list[TrialRecord]:
    """Completed trials, the best by their first value first, diverged ones last."""
    sign = -1 if direction == "max" else 1
    found = [trial for trial in trials if trial.state == "COMPLETE" and trial.values]
    return sorted(found, key=lambda trial: (sign * trial.values[0], trial.number))


def trials_table(study: StudyRecord) -> pd.DataFrame:
    """One row a trial, without attempts that were repeated.

    Columns: number, state, end, `params.<key>`, `values.<metric>` (NaN where there is none), seconds, run_id (of its
    last run), error.
    """
    import pandas as pd

    metrics = [each["metric"] for each in study.design.get("objectives", ())] or [
        str(i) for i in range(len(study.directions))
    ]
    trials = latest(study.trials)
    keys = dict.fromkeys(key for trial in trials for key in trial.params)
    rows = [
        {
            "number": trial.number,
            "state": trial.state,
            "end": trial.end,
            **{f"params.{key}": trial.params.get(key) for key in keys},
            **{f"values.{metric}": _value(trial.values, i) for i, metric in enumerate(metrics)},
            "seconds": _seconds(trial),
            "run_id": trial.run_ids[-1] if trial.run_ids else "",
            "error": trial.error,
        }
        for trial in trials
    ]
    columns = ["number", "state", "end", *(f"params.{key}" for key in keys), *(f"values.{name}" for name in metrics)]
    return pd.DataFrame(rows, columns=[*columns, "seconds", "run_id", "error"])


def _value(values: Sequence[float], i: int) -> float:
    return values[i] if i < len(values) else math.nan


def _seconds(trial: TrialRecord) -> float:
    if trial.started is None or trial.ended is None:
        return math.nan
    return (trial.ended - trial.started).total_seconds()


def _open(store: Store) -> RDBStorage | None:
    """The storage as it is, nothing created; None where there is none yet."""
    if not store.url.startswith("postgresql") and not (store.folder / DATABASE).exists():
        return None
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.storages.RDBStorage(study_url(store), skip_table_creation=True, **leases())  # type: ignore[arg-type]
    except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, ImportError) as error:
        cause = error.__cause__ or error  # Optuna's own words hide the database's
        if "does not exist" in str(cause):  # PostgreSQL: nobody has swept yet
            return None
        reason = redact(" ".join(str(cause).split())[:300])
        raise ConfigError(f"studies of {store.label}: cannot be opened ({reason})") from error
