"""Repetitions of a config in the store, and how much they differ by themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.store.configs import LIMITS
from experiments.store.groups import Member, member_of
from experiments.store.location import Store
from experiments.store.origin import Origin, read_origin

if TYPE_CHECKING:
    import pandas as pd

MOST_REPEATS = 50  # the newest count


@dataclass(frozen=True)
class Noise:
    """How much a metric's last value differs between repetitions of one config.

    Args:
        sd: of the difference between two of them: sqrt(2) times their standard deviation.
        n: runs behind it.
        of: "seeds", or "reruns" of one seed where no config has two.
    """

    sd: float
    n: int
    of: str


def repetitions_of(store: Store, table: pd.DataFrame, member: Member) -> list[Member]:
    """The finished runs of a run's config, on its data and by its code, itself among them.

    Args:
        store: where they are.
        table: of `runs_table`.
        member: the run.
    """
    wanted = {}
    if digest := member.tags.get("taolu.data_digest"):
        wanted["tags.taolu.data_digest"] = digest
    # limits may have grown since the parameters were written: config.yaml has the last word on them
    for key, value in member.identity.items():
        if key not in LIMITS and value != "null":
            wanted["experiment" if key == "experiment" else f"params.{key}"] = value
    kept = table[(table["status"] == "FINISHED") & table["kind"].isin(["run", "trial"])]
    for column, value in wanted.items():
        if column in kept:
            kept = kept[kept[column] == value]
    found = [member_of(store, row) for row in kept.head(MOST_REPEATS).to_dict("records")]
    origin = read_origin(store.run_folder(member.run_id))
    return [each for each in found if each.identity == member.identity and _is_same_code(store, each, origin)]


def _is_same_code(store: Store, member: Member, origin: Origin) -> bool:
    other = read_origin(store.run_folder(member.run_id))
    return other.code == origin.code and other.environment.get("git_commit") == origin.environment.get("git_commit")


def noise_of(metric: str, groups: Sequence[Sequence[Member]]) -> Noise | None:
    """The noise of a metric's last value, pooled over groups of repetitions; None where no group has two."""
    for of in ("seeds", "reruns"):
        samples = [_sample(metric, group, of) for group in groups]
        known = [sample for sample in samples if len(sample) > 1]
        if known:
            squares = sum((value - sum(sample) / len(sample)) ** 2 for sample in known for value in sample)
            freedom = sum(len(sample) - 1 for sample in known)
            return Noise(math.sqrt(2 * squares / freedom), sum(map(len, known)), of)
    return None


def _sample(metric: str, group: Sequence[Member], of: str) -> list[float]:
    """Finite values: one a seed, the newest, or every run's."""
    members = sorted(group, key=lambda each: each.started)
    keys = {each.run_id if of == "reruns" else each.seed: each for each in members}
    values = [each.metrics.get(metric, math.nan) for each in keys.values()]
    return [value for value in values if math.isfinite(value)]
