"""The machine a run had: its load while the run went on, and what env.json says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from dashboard.words import Say
from experiments.store.origin import read_environment
from experiments.store.read import RunRecord

LOAD = ("system/", "time/")  # metrics of the machine and the clock


def draw(run: RunRecord, groups: Mapping[str, Sequence[str]], chart: Callable[[str], None], say: Say) -> None:
    """The tab: charts of the load, then the machine, its versions and packages.

    Args:
        run: the run.
        groups: quantity -> its metrics.
        chart: draws the quantity of that name.
        say: the words.
    """
    names = [name for name in groups if name.startswith(LOAD)]
    if not names:
        st.info(say("no_system"))
    columns = st.columns(2)
    for i, name in enumerate(names):
        with columns[i % 2]:
            chart(name)
    st.subheader(say("environment"))
    environment = read_environment(run.folder)
    if not environment:
        st.info(say("no_environment"))
        return
    packages = environment.pop("packages", {})
    _pairs({key: _word(value) for key, value in environment.items()}, say("key"), say("value"))
    if isinstance(packages, dict) and packages:
        with st.expander(f"{say('packages')} ({len(packages)})"):
            _pairs({str(key): str(value) for key, value in packages.items()}, say("key"), say("version"))


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pairs(pairs: Mapping[str, str], head: str, value: str) -> None:
    import pandas as pd

    frame = pd.DataFrame(sorted(pairs.items()), columns=["key", "value"])
    st.dataframe(frame, hide_index=True, column_config={"key": head, "value": value})
