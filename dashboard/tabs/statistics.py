"""What the compared runs found over seeds: means with intervals, paired tests, and how much repetitions differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.address import one
from dashboard.palette import colors
from dashboard.relations import means_figure
from dashboard.tabs import CHART
from dashboard.tabs.selection import Selection
from dashboard.words import Say, plain
from experiments.store.groups import Group, Mean, grouped, mean_of, members_of, paired
from experiments.store.repeats import Noise, noise_of, repetitions_of
from mining.significance import holm

if TYPE_CHECKING:
    from experiments.store.groups import Member

MOST_GROUPS = 20
FINISHED = "FINISHED"


def draw(chosen: Selection, say: Say) -> None:
    """The tab: of one metric, a chart, the means, the tests against the first group, the noise."""
    members = [each for each in members_of(chosen.store, chosen.ids, chosen.runs) if each.status == FINISHED]
    metrics = _metrics(members, list(chosen.objectives))
    if not metrics:
        st.info(say("no_statistics"))
        return
    left, right = st.columns(2)
    metric = left.selectbox(say("metric"), metrics, **one("stat", metrics))
    members = [each for each in members if metric in each.metrics]
    groups = grouped(members)[:MOST_GROUPS]
    labels = [group.label for group in groups]
    if len(groups) > 1:
        first = right.selectbox(say("compared_with"), labels, **one("with", labels))
        groups.sort(key=lambda group: group.label != first)
    means = [mean_of(group.values(metric).values()) for group in groups]
    words = {"seed": say("seed"), "mean": say("group_mean")}
    own = colors([group.members[0].run_id for group in groups])
    st.plotly_chart(means_figure(groups, means, metric, own, words), key="means", config=CHART)
    st.caption(_left_out(chosen, members, groups, say))
    noise = noise_of(metric, [repetitions_of(chosen.store, chosen.all_runs, group.members[0]) for group in groups])
    _means_table(groups, means, metric, say)
    if len(groups) > 1:
        _tests(groups, metric, noise, say)
    _noise(noise, say)


def _metrics(members: Sequence[Member], objectives: Sequence[str]) -> list[str]:
    """The objectives, then validation, then the rest but what a clock decides."""
    keys = {key for each in members for key in each.metrics if not key.startswith(("time/", "system/", "epoch"))}
    first = [key for key in objectives if key in keys]
    return list(dict.fromkeys([*first, *sorted(keys, key=lambda key: (not key.startswith("val/"), key))]))


def _left_out(chosen: Selection, members: Sequence[Member], groups: Sequence[Group], say: Say) -> str:
    unfinished = len(chosen.runs) - len(members)
    repeated = len(members) - sum(len(group.members) for group in groups)
    notes = [say("statistics_hint")]
    notes += [say("unfinished_left_out", n=unfinished)] if unfinished else []
    notes += [say("repeated_left_out", n=repeated)] if repeated else []
    return " ".join(notes)


def _means_table(groups: Sequence[Group], means: Sequence[Mean], metric: str, say: Say) -> None:
    rows = [
        {"group": group.label, "n": mean.n, "mean": mean.mean, "low": mean.low, "high": mean.high, "sd": mean.sd}
        | {"not_finite": mean.n_lost}
        for group, mean in zip(groups, means, strict=True)
    ]
    number = st.column_config.NumberColumn
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        placeholder="–",
        column_config={
            "group": st.column_config.TextColumn(say("group"), pinned=True),
            "n": number(say("seeds"), format="%d"),
            "mean": number(say("group_mean"), format="%.5g"),
            "low": number(say("interval_low"), format="%.5g"),
            "high": number(say("interval_high"), format="%.5g"),
            "sd": number(say("sd"), format="%.3g"),
            "not_finite": number(say("not_finite"), format="%d"),
        },
    )


def _tests(groups: Sequence[Group], metric: str, noise: Noise | None, say: Say) -> None:
    """Every further group against the first, seed by seed."""
    first, *others = groups
    found = [paired(first.values(metric), group.values(metric)) for group in others]
    corrected = iter(holm(np.array([test.p for test in found if test is not None])).tolist())
    st.subheader(say("paired_title", name=plain(first.label)))
    rows = [
        {"group": group.label, "pairs": test.n, "difference": test.difference, "low": test.low, "high": test.high}
        | {"p": next(corrected), "times": abs(test.difference) / noise.sd if noise and noise.sd else math.nan}
        for group, test in zip(others, found, strict=True)
        if test is not None
    ]
    if len(rows) < len(others):
        st.caption(say("not_paired", n=len(others) - len(rows)))
    if not rows:
        return
    number = st.column_config.NumberColumn
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        placeholder="–",
        column_config={
            "group": st.column_config.TextColumn(say("group"), pinned=True),
            "pairs": number(say("pairs"), format="%d"),
            "difference": number(say("difference"), format="%+.5g"),
            "low": number(say("interval_low"), format="%.5g"),
            "high": number(say("interval_high"), format="%.5g"),
            "p": number(say("p_holm"), format="%.2g"),
            "times": number(say("times_noise"), format="%.1f", help=say("times_noise_help")),
        },
    )


def _noise(noise: Noise | None, say: Say) -> None:
    """How much the last value differs between two repetitions of one config, by all of the store."""
    if noise is None:
        st.caption(say("no_noise"))
    else:
        st.caption(say("noise", sd=f"{noise.sd:.3g}", n=noise.n, of=say(f"{noise.of}_of")))
