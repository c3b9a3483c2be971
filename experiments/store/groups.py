"""Runs of one config with several seeds as one group: means with intervals, and tests where the seeds pair."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from experiments.errors import ConfigError
from experiments.store.configs import config_now
from experiments.store.location import Store
from experiments.store.read import runs_table

REPEATED = ("seed", "threads", "name")  # what the repetitions of one config may differ in
# No number of a run depends on these.
ASIDE = (
    *("keep.last", "keep.best", "checkpoint_every", "quality_every", "quality.metrics"),
    *("profiler", "dynamics", "dynamics_every"),
)


@dataclass(frozen=True)
class Member:
    """One run, as much of it as groups and tests need.

    Args:
        run_id: of the run.
        name: of the run.
        experiment: of the run.
        status: of the run.
        started: for the order.
        seed: as text; empty where the run has none.
        config: without seed, name and threads, as text by dotted key; with the state a fork began from.
        metrics: last values.
        tags: without MLflow's own.
    """

    run_id: str
    name: str
    experiment: str
    status: str
    started: pd.Timestamp
    seed: str
    config: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]

    @property
    def identity(self) -> dict[str, str]:
        """What the repetitions of it share; the experiment's name only where the config does not say what was run."""
        left_out = {f"trainer.{key}" for key in ASIDE} | ({"experiment"} if "model" in self.config else set())
        return {key: value for key, value in self.config.items() if key not in left_out}

    @property
    def objective(self) -> str:
        """The metric it is judged by; empty where it states none."""
        return self.tags.get("taolu.objective", "").rpartition(" ")[0]


@dataclass(frozen=True)
class Group:
    """Runs of one config.

    Args:
        label: what its config has that the other groups' have not.
        config: of all of them.
        members: one a seed: of several with one seed the newest.
    """

    label: str
    config: Mapping[str, str]
    members: tuple[Member, ...]

    def values(self, metric: str) -> dict[str, float]:
        """Seed -> last value of the metric; NaN also where a run has none."""
        return {each.seed: each.metrics.get(metric, math.nan) for each in self.members}


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Args:
        n: seeds with a finite value.
        mean: of them.
        low: of the 95 % interval by Student's t; NaN of fewer than two.
        high: of the interval.
        sd: standard deviation over the seeds; NaN of fewer than two.
        n_lost: seeds without a finite value: those diverged.
    """

    n: int
    mean: float
    low: float
    high: float
    sd: float
    n_lost: int = 0


@dataclass(frozen=True)
class Paired:
    """Student's t test of the differences between two groups, seed by seed.

    Args:
        n: seeds both have.
        difference: mean of second minus first.
        low: of its 95 % interval.
        high: of the interval.
        p: two-sided.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float


def members_of(store: Store, run_ids: Iterable[str], table: pd.DataFrame | None = None) -> list[Member]:
    """The runs with these ids, in that order.

    Args:
        store: where they are.
        run_ids: of runs that are not deleted.
        table: of `runs_table`, where it was read already.

    Raises ConfigError for a run that is not there.
    """
    wanted = list(dict.fromkeys(run_ids))
    table = runs_table(store) if table is None else table
    rows = {row["run_id"]: row for row in table[table["run_id"].isin(wanted)].to_dict("records")}
    for run_id in wanted:
        if run_id not in rows:
            raise ConfigError(f"store {store.label} holds no run '{run_id}'; see what it holds: taolu runs")
    return [member_of(store, rows[run_id]) for run_id in wanted]


def member_of(store: Store, row: Mapping[Any, Any]) -> Member:
    """The run of a row of `runs_table`."""
    config = config_now(store.run_folder(row["run_id"]), _under(row, "params."))
    tags = _under(row, "tags.")
    own = {"experiment": row["experiment"], **_start(tags)}
    return Member(
        run_id=row["run_id"],
        name=row["name"],
        experiment=row["experiment"],
        status=row["status"],
        started=row["started"],
        seed=config.get("seed", ""),
        config=own | {key: config[key] for key in config if key not in REPEATED},
        metrics={key: float(value) for key, value in _under(row, "metrics.").items()},
        tags=tags,
    )


def _start(tags: Mapping[str, str]) -> dict[str, str]:
    """What a fork began from: no repetition of a run that began at its start."""
    if "taolu.fork" not in tags:
        return {}
    try:
        step = json.loads(tags["taolu.fork"])["from_step"]
    except (KeyError, TypeError, ValueError):  # a tag can be changed by hand
        step = "unknown"
    return {"forked from": f"{tags.get('taolu.parent', '')[:8]} step {step}"}


def _under(row: Mapping[Any, Any], prefix: str) -> dict[str, Any]:
    return {
        str(key).removeprefix(prefix): value
        for key, value in row.items()
        if str(key).startswith(prefix) and not pd.isna(value)
    }


def grouped(members: Sequence[Member]) -> list[Group]:
    """The runs by config, in the order of each group's first."""
    found: dict[str, list[Member]] = {}
    for member in members:
        found.setdefault(str(sorted(member.identity.items())), []).append(member)
    identities = [each[0].identity for each in found.values()]
    keys = [key for key in varying(identities) if not _follows_from_class(key, identities)]
    groups = []
    for same in found.values():
        by_seed: dict[str, Member] = {}
        for member in sorted(same, key=lambda each: each.started):
            by_seed[member.seed] = member
        config = same[0].config
        label = ", ".join(f"{key} {config[key]}" for key in keys if key in config) or config["experiment"]
        groups.append(Group(label, config, tuple(sorted(by_seed.values(), key=_by_seed))))
    return groups


def _follows_from_class(key: str, configs: Sequence[Mapping[str, str]]) -> bool:
    """Whether a setting is that of one class of a part alone, whose name tells as much."""
    part = key.partition(".")[0]
    had = {config[key] for config in configs if key in config}
    return part != key and len(had) == 1 and len({config.get(part) for config in configs}) > 1


def _by_seed(member: Member) -> tuple[int, str]:
    return int(member.seed) if member.seed.isdecimal() else -1, member.seed


def varying(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys whose values differ between the configs, in order of appearance.

    >>> varying([{"model": "vae", "optimizer.lr": "0.1"}, {"model": "vae", "optimizer.lr": "0.2"}])
    ['optimizer.lr']
    """
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({config.get(key) for config in configs}) > 1]


def mean_of(values: Iterable[float]) -> Mean:
    """The mean of values of independent repetitions, those that are finite.

    >>> mean_of([1.0, 2.0, 3.0, float("nan")])  # 2 +- 4.303 / sqrt(3)
    Mean(n=3, mean=2.0, low=-0.484..., high=4.484..., sd=1.0, n_lost=1)
    """
    given = [float(value) for value in values]
    known = np.array([value for value in given if math.isfinite(value)])
    lost, nan = len(given) - len(known), math.nan
    if len(known) < 2:
        return Mean(len(known), float(known[0]) if len(known) else nan, nan, nan, nan, lost)
    half = _half_width(known)
    mean = float(known.mean())
    return Mean(len(known), mean, mean - half, mean + half, float(known.std(ddof=1)), lost)


def _half_width(values: np.ndarray) -> float:
    """Of Student's 95 % interval around the mean of two values or more."""
    from scipy.special import stdtrit

    return float(stdtrit(len(values) - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(len(values))


def paired(first: Mapping[str, float], second: Mapping[str, float]) -> Paired | None:
    """The test of second minus first over the seeds both have a finite value for; None of fewer than two.

    >>> paired({"0": 1.0, "1": 2.0, "2": 3.0}, {"0": 2.0, "1": 2.5, "2": 4.5}).p  # t = 3.464 of 2 degrees of freedom
    0.0741...
    """
    from scipy.special import stdtr

    gaps = np.array([second[seed] - first[seed] for seed in first if seed in second])
    gaps = gaps[np.isfinite(gaps)]
    if len(gaps) < 2:
        return None
    mean, half, error = float(gaps.mean()), _half_width(gaps), float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
    p = 2 * float(stdtr(len(gaps) - 1, -abs(mean) / error)) if error else float(mean == 0.0)
    return Paired(len(gaps), mean, mean - half, mean + half, p)
