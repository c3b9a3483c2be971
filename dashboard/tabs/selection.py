"""The runs that the page Compare compares: those of the address, else the newest that go together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.address import many
from dashboard.palette import colors
from dashboard.table import objectives, varying_parameters
from dashboard.words import Say
from experiments.store.groups import grouped, members_of
from experiments.store.location import Store

if TYPE_CHECKING:
    import pandas as pd

MOST_RUNS = 100
MOST_OPTIONS = 1_000  # offered by name: each is sent to the browser
MOST_SEARCHED = 2_000  # whose folders are looked into: 30 ms
MODELS = ("run", "trial")  # kinds that train
FIRST = 5  # runs compared before any is chosen


@dataclass(frozen=True)
class Selection:
    """Runs that are compared.

    Args:
        store: where they are.
        runs: their rows of the table of runs, in the order of choice.
        all_runs: the whole table.
    """

    store: Store
    runs: pd.DataFrame
    all_runs: pd.DataFrame

    @cached_property
    def ids(self) -> list[str]:
        """Of the runs, in order."""
        return [str(run_id) for run_id in self.runs["run_id"]]

    @cached_property
    def colors(self) -> dict[str, str]:
        """Run id -> #RRGGBB."""
        return colors(self.ids)

    @cached_property
    def names(self) -> dict[str, str]:
        """Run id -> a name no other of them has."""
        return unique_names(self.runs)

    @cached_property
    def metrics(self) -> list[str]:
        """Keys of the metrics that the runs have, or others of their experiments and kinds: a last value may be NaN."""
        alike = [self.all_runs[name].isin(self.runs[name].unique()) for name in ("experiment", "kind")]
        near = self.all_runs[alike[0] & alike[1]]
        names = [name for name in near.columns if name.startswith("metrics.") and near[name].notna().any()]
        return [name.removeprefix("metrics.") for name in names]

    @cached_property
    def objectives(self) -> dict[str, str]:
        """Metric that runs are judged by -> min or max, the most frequent first."""
        return objectives(self.runs)


def unique_names(runs: pd.DataFrame) -> dict[str, str]:
    """Run id -> the run's name; with the beginning of the id where another run has the name too, or it has none."""
    repeated = runs["name"].duplicated(keep=False) | (runs["name"] == "")
    return {
        str(run_id): f"{name} {run_id[:8]}".strip() if again else str(name)
        for run_id, name, again in zip(runs["run_id"], runs["name"], repeated, strict=True)
    }


def first_choice(runs: pd.DataFrame) -> list[str]:
    """The newest runs of the newest experiment that has two or more; where none has, the newest of all."""
    models = runs[runs["kind"].isin(MODELS)]
    models = models if len(models) > 1 else runs
    sizes = models["experiment"].map(models["experiment"].value_counts())
    together = models[sizes > 1]
    if len(together):
        together = together[together["experiment"] == together["experiment"].iloc[0]]
    return [str(run_id) for run_id in (together if len(together) else models)["run_id"].head(FIRST)]


def runs_with(store: Store, runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """Runs of models whose folder has a file or folder of this name: of the newest, and those of the address."""
    asked = {*st.query_params.get_all("run"), *st.query_params.get_all("runs")}
    runs = runs[runs["kind"].isin(MODELS)]
    near = runs[(runs.reset_index(drop=True).index < MOST_SEARCHED) | runs["run_id"].isin(asked)]
    return near.loc[[(store.run_folder(run_id) / name).exists() for run_id in near["run_id"]]]


def varying_settings(runs: pd.DataFrame) -> list[str]:
    """The parameters with more than one value among the runs; a missing one counts as a value."""
    return [name.removeprefix("params.") for name in varying_parameters(runs)]


def config_labels(chosen: Selection) -> dict[str, str]:
    """Run id -> what its config has that others' have not; runs that differ in their seed alone share it."""
    members = members_of(chosen.store, chosen.ids, chosen.runs)
    labels = {str(group.members[0].identity): group.label for group in grouped(members)}
    return {each.run_id: labels[str(each.identity)] for each in members}


def choose(store: Store, runs: pd.DataFrame, say: Say) -> Selection:
    """The widgets that choose runs, and the choice: at most MOST_RUNS."""
    experiments = sorted(runs["experiment"].unique())
    asked = set(st.query_params.get_all("runs"))
    offered = runs[(runs.reset_index(drop=True).index < MOST_OPTIONS) | runs["run_id"].isin(asked)]
    names = unique_names(offered)
    default = [] if st.query_params.get_all("experiment") else first_choice(runs)
    left, right = st.columns([3, 1])
    chosen = left.multiselect(
        say("compared_runs"),
        list(names),
        format_func=lambda run_id: names[run_id],
        placeholder=say("choose_runs"),
        **many("runs", list(names), default),
    )
    whole = right.multiselect(
        say("whole_experiments"), experiments, placeholder=say("none"), **many("experiment", experiments)
    )
    ids = [*chosen, *runs.loc[runs["experiment"].isin(whole), "run_id"]]
    ids = list(dict.fromkeys(map(str, ids)))
    if len(ids) > MOST_RUNS:
        st.caption(say("first_compared", n=MOST_RUNS, total=f"{len(ids):,}"))
    rows = runs.set_index("run_id", drop=False).loc[ids[:MOST_RUNS]].reset_index(drop=True)
    return Selection(store, rows, runs)
