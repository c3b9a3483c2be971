"""`taolu fork --against parent`: what a change does from one state on, in pairs with common random numbers.

For each seed the state is continued twice, with the parent's config and with the changed one, over the same batches
with the same noise. What chance does to both cancels in their difference.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experiments.build import Say
from experiments.claims.intervals import jackknife
from experiments.config import Config
from experiments.errors import ConfigError
from experiments.fork import Origin, Plan, carry_on, origin_of, parts_of, planned_fork
from experiments.resume import stored_and_given
from experiments.run import FINISHED, KILLED, Label, Result, silent
from experiments.store.configs import LIMITS
from experiments.store.location import Store, locate
from experiments.trainer import PLACE
from experiments.words import ENGLISH, Words, padded

AGAINST = "taolu.against"  # tag
ARMS = ("parent", "changed")


@dataclass(frozen=True)
class Pair:
    """Two continuations of one state with the same seed.

    Args:
        seed: of both.
        parent: last value of the objective with the parent's config; None where it has none that is finite.
        changed: the same with the changes.
        run_ids: of the two.
    """

    seed: int
    parent: float | None
    changed: float | None
    run_ids: tuple[str, ...]

    @property
    def difference(self) -> float | None:
        """Changed - parent."""
        return None if self.parent is None or self.changed is None else self.changed - self.parent


@dataclass(frozen=True)
class Effect:
    """The paired effect of a change.

    Args:
        run_id: of the run whose state it is.
        metric: the objective.
        mode: "min" or "max".
        changes: in words.
        pairs: in the order of their seeds.
        exit_status: 0, or that of a signal.
    """

    run_id: str
    metric: str
    mode: str
    changes: tuple[str, ...]
    pairs: tuple[Pair, ...]
    exit_status: int = 0

    @property
    def values(self) -> np.ndarray:
        """(2, n): parent's and changed value of the pairs that have both."""
        whole = [(pair.parent, pair.changed) for pair in self.pairs if pair.difference is not None]
        return np.array(whole, dtype=float).reshape(-1, 2).T

    def plain(self) -> dict[str, Any]:
        """What `--json` prints."""
        parent, changed = self.values
        found = {
            "parent": self.run_id,
            "metric": self.metric,
            "mode": self.mode,
            "changes": list(self.changes),
            "pairs": [{**vars(pair), "difference": pair.difference} for pair in self.pairs],
            "n": len(parent),
            "mean": None,
            "low": None,
            "high": None,
            "independent_runs": None,
        }
        if len(parent) > 1:
            interval = jackknife(changed - parent, float)  # of a plain mean: Student's t
            found |= {"mean": interval.estimate, "low": interval.low, "high": interval.high}
            found["independent_runs"] = independent_runs(parent, changed)
        return found

    def lines(self, words: Words = ENGLISH) -> Iterator[str]:
        """A table of the pairs, and the effect in a sentence or two."""
        heads = [words(f"pair_{name}") for name in ("seed", "parent", "changed", "difference")]
        yield "  ".join(padded(head, width, right=True) for head, width in zip(heads, (6, 12, 12, 12), strict=True))
        for pair in self.pairs:
            cells = [_cell(value) for value in (pair.parent, pair.changed)]
            yield f"{pair.seed:>6}  {cells[0]:>12}  {cells[1]:>12}  {_cell(pair.difference, '+'):>12}"
        found = self.plain()
        lost = len(self.pairs) - found["n"]
        if lost:
            yield words("pairs_lost", lost=lost, n=len(self.pairs), metric=self.metric)
        if found["mean"] is None:
            yield words("pairs_none")
            return
        told = {key: found[key] for key in ("mean", "low", "high", "n")}
        told |= {"mode": words(f"mode_{self.mode}"), "verdict": words(f"effect_{self._verdict(found)}")}
        yield words("effect", metric=self.metric, changes="; ".join(self.changes), **told)
        if (n_runs := found["independent_runs"]) is not None:
            yield words("effect_saved", paired=2 * found["n"], independent=n_runs)

    def _verdict(self, found: Mapping[str, Any]) -> str:
        if found["low"] <= 0 <= found["high"]:
            return "none"
        return "better" if (found["mean"] > 0) == (self.mode == "max") else "worse"


def independent_runs(parent: np.ndarray, changed: np.ndarray) -> int | None:
    """Runs of independent seeds, both arms together, whose difference of means has the standard error of these pairs.

    None where the differences do not vary at all.

    >>> independent_runs(np.array([1.0, 3.0, 5.0]), np.array([2.0, 4.0, 7.0]))
    186
    """
    spread = float((changed - parent).var(ddof=1))
    if spread == 0:
        return None
    ratio = (float(parent.var(ddof=1)) + float(changed.var(ddof=1))) / spread
    return 2 * math.ceil(len(parent) * ratio)


def against_parent(
    handle: str,
    options: Sequence[str] = (),
    *,
    seeds: int = 8,
    start: str | int = "last",
    reset: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    store: Store | None = None,
    label: Label | None = None,
    say: Say | None = None,
) -> Effect:
    """The effect of a change on the last value of the objective, over pairs of runs from one state of the run `handle`.

    Limits (trainer.max_epochs, ...) and the place of computation go to both arms; everything else that is given is the
    change. The first pair has the seed of the run itself: its batches and noise; the others the seeds after it. The
    runs keep their values, and no checkpoint.

    Args:
        handle: id prefix, name, last, ...
        options: as of fork.
        seeds: pairs, at least 2.
        start: as of fork.
        reset: as of fork; part of the change.
        overrides: as of fork.
        store: default as everywhere.
        label: tags and note of every run; its name begins theirs.
        say: prints one line.

    Raises ConfigError when the fork cannot be made, nothing is changed, or the run states no objective.
    """
    say, label, store = say or silent, label or Label(), store or locate()
    if seeds < 2:
        raise ConfigError(f"--seeds {seeds}: an interval needs at least 2 pairs")
    origin = origin_of(store, handle, start)
    plan = planned_fork(origin, options, overrides, reset)
    shared = {key: pair for key, pair in plan.changed.items() if key in (*LIMITS, *PLACE)}
    effect = {key: pair for key, pair in plan.changed.items() if key not in shared}
    if "seed" in effect:
        raise ConfigError("--seed: the pairs have the run's own seed and those after it; leave it out")
    if not effect and not plan.reset:
        raise ConfigError("nothing is changed against the parent; give a change, as in --optimizer.lr 1e-4")
    metric, mode = _objective(origin)
    config = _like_parent(origin, {key: after for key, (_, after) in shared.items()}, plan.config)
    plans = (Plan(origin, config, shared), plan)
    parts_of(plan)  # refused before the first run
    changes = [f"{key} {old} -> {new}" for key, (old, new) in effect.items()]
    changes += [f"{part} begins anew" for part in plan.reset]
    pairs, status, recorded = [], 0, None
    for seed in range(int(config.values["seed"]), int(config.values["seed"]) + seeds):
        results = []
        for arm, own in zip(ARMS, plans, strict=True):
            result = carry_on(
                _seeded(own, seed), store, _label(label, origin, arm, seed), silent, recorded=recorded, only_last=True
            )
            recorded = recorded or result.folder
            shutil.rmtree(result.folder / "checkpoints", ignore_errors=True)  # for its values alone
            results.append(result)
            status = result.exit_status if result.status == KILLED else status
            if status:
                break
        if status:
            break
        first, second = results
        ids = (first.run_id, second.run_id)
        pairs.append(Pair(seed, _last(first, metric), _last(second, metric), ids))
        say(f"seed {seed}: {metric} {_cell(pairs[-1].parent)} and {_cell(pairs[-1].changed)}")
    return Effect(origin.record.run_id, metric, mode, tuple(changes), tuple(pairs), status)


def _objective(origin: Origin) -> tuple[str, str]:
    metric, _, mode = origin.record.tags.get("taolu.objective", "").rpartition(" ")
    if not metric:
        raise ConfigError(
            f"run {origin.record.run_id[:8]}: its model states no objective to compare; "
            "give its class one, as objective = ('val/loss', 'min'), and train again"
        )
    return metric, mode


def _like_parent(origin: Origin, shared: Mapping[str, Any], given: Config) -> Config:
    """The parent's own config, with what both arms share; what was kept secret is as it was given."""
    secrets = {
        key: value
        for key, value in given.flat().items()
        if isinstance(value, str) and "." in key and origin.record.params.get(key) == "***"
    }
    return stored_and_given(origin.record, (), {**secrets, **shared})[1]


def _seeded(plan: Plan, seed: int) -> Plan:
    before = plan.config.values["seed"]
    if seed == before:
        return plan
    config = replace(plan.config, values={**plan.config.values, "seed": seed}, notes=())
    return replace(plan, config=config, changed={**plan.changed, "seed": (before, seed)})


def _label(label: Label, origin: Origin, arm: str, seed: int) -> Label:
    made = Label(f"{label.name or origin.record.name}-{arm}-{seed}", dict(label.tags), label.note, kind="trial")
    made.tags |= {"mlflow.parentRunId": origin.record.run_id, AGAINST: json.dumps({"arm": arm, "seed": seed})}
    return made


def _last(result: Result, metric: str) -> float | None:
    value = result.metrics.get(metric, math.nan)
    return value if result.status == FINISHED and math.isfinite(value) else None


def _cell(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.6g}"
