"""What every page shares: the store it reads, the language, and tables read once until the store changes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import streamlit as st

from dashboard.words import LANGUAGES, Say, speaker
from experiments.errors import ConfigError
from experiments.store import read
from experiments.store.cache import CurvesCache, RunsCache
from experiments.store.curves import Curve
from experiments.store.location import Store, locate

if TYPE_CHECKING:
    import pandas as pd

STORE, STORE_DIR, ALLOWED = "TAOLU_DASHBOARD_STORE", "TAOLU_DASHBOARD_STORE_DIR", "TAOLU_DASHBOARD_ALLOW"
T = TypeVar("T")


def chosen_store() -> Store:
    """The store of `-- --store`, else of the environment `python -m dashboard` sets, else the one `locate` finds."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--store", default=os.environ.get(STORE))
    parser.add_argument("--store_dir", default=os.environ.get(STORE_DIR))
    options, _ = parser.parse_known_args(sys.argv[1:])
    return locate(options.store, options.store_dir)


def allows(what: Literal["launch", "edit"]) -> bool:
    """Whether visitors may start and stop runs, or write notes, tags and archive marks."""
    return what in os.environ.get(ALLOWED, "").split()


def chosen_language() -> Say:
    """The words of the language chosen in the side bar: the field `lang` of the address, on every page."""
    chosen = st.sidebar.segmented_control(
        "Language 语言", list(LANGUAGES), default="en", required=True, key="lang", bind="query-params"
    )
    return speaker(chosen or "en")


def table(store: Store) -> pd.DataFrame:
    """All runs of the store; shared between pages and visitors, so it must not be changed."""
    return _runs(store).table()


def curves(store: Store, run_ids: Sequence[str], keys: Sequence[str] | None = None) -> dict[tuple[str, str], Curve]:
    """(run id, metric) -> its curve, at full length, for the metrics of `keys`, or all; shared likewise."""
    return _curves(store).curves(tuple(run_ids), None if keys is None else tuple(keys))


def points(store: Store, run_id: str) -> pd.DataFrame:
    """Every value of one run, as `history` gives it; shared likewise."""
    return read.curve_table(curves(store, [run_id])).drop(columns="run_id")


def kept(store: Store, read: Callable[..., T], *arguments: Any) -> T:
    """`read(store, *arguments)`, or what it gave the last time if the store cannot be read just now."""
    last: dict[tuple[Any, ...], T] = _last(store)
    key = (read.__qualname__, *arguments)
    try:
        last[key] = read(store, *arguments)
    except ConfigError:
        if trouble(store) is None or key not in last:
            raise
    return last[key]


def forget(store: Store) -> None:
    """What is asked for next is read anew: call it after writing to the store."""
    _runs(store).forget()


def trouble(store: Store) -> str | None:
    """Why what a page shows is not the newest: the store could not be read; None where it could."""
    return _runs(store).trouble


@st.cache_resource(max_entries=4, show_spinner=False)
def _runs(store: Store) -> RunsCache:
    return RunsCache(store)


@st.cache_resource(max_entries=4, show_spinner=False)
def _curves(store: Store) -> CurvesCache:
    return CurvesCache(store)


@st.cache_resource(max_entries=4, show_spinner=False)
def _last(store: Store) -> dict[tuple[Any, ...], Any]:
    return {}
