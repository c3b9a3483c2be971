"""Parts of a page that are drawn again every two seconds while runs are going on, and never when none is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.state import table
from experiments.store.heartbeat import TAG, is_lost
from experiments.store.location import Store

if TYPE_CHECKING:
    import pandas as pd

EVERY_SECONDS = 2


def going(runs: pd.DataFrame) -> pd.Series:
    """Which of the runs are going on: RUNNING, and their process not known to be gone."""
    is_running = runs["status"] == "RUNNING"
    tag = f"tags.{TAG}"
    if tag in runs and is_running.any():
        is_running &= ~runs[tag].where(is_running).map(is_lost, na_action="ignore").eq(True)
    return is_running


def refreshed(store: Store, draw: Callable[[], None], run_ids: list[str] | None = None) -> None:
    """Calls `draw`, and again every two seconds while one of the runs (None: any run) is going on.

    Widgets and charts in it keep their state as long as their keys stay the same. The rest of the page is not run
    again but once: when the last of the runs has ended.
    """

    def is_live() -> bool:
        runs = table(store)
        return bool(going(runs if run_ids is None else runs[runs["run_id"].isin(run_ids)]).any())

    was_live = is_live()

    @st.fragment(run_every=EVERY_SECONDS if was_live else None)
    def part() -> None:
        draw()
        if was_live and not is_live():
            st.rerun()

    part()
