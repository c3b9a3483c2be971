"""What every page shares: the store it reads, the language, and tables read once until the store changes."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.words import LANGUAGES, Say, speaker
from experiments.store import read
from experiments.store.location import Store, locate

if TYPE_CHECKING:
    import pandas as pd

STORE, STORE_DIR = "TAOLU_DASHBOARD_STORE", "TAOLU_DASHBOARD_STORE_DIR"
_SERVER_SECONDS = 5  # how old a table of a database server may be


def chosen_store() -> Store:
    """The store of `-- --store`, else of the environment `python -m dashboard` sets, else the one `locate` finds."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--store", default=os.environ.get(STORE))
    parser.add_argument("--store_dir", default=os.environ.get(STORE_DIR))
    options, _ = parser.parse_known_args(sys.argv[1:])
    return locate(options.store, options.store_dir)


def chosen_language() -> Say:
    """The words of the language chosen in the side bar, which is `?lang=` of the address.

    Bound by hand: Streamlit would write the shown name of the language into the address.
    """
    asked = st.query_params.get("lang", "en")
    st.session_state.setdefault("lang", asked if asked in LANGUAGES else "en")
    chosen = st.sidebar.segmented_control(
        "Language 语言",
        list(LANGUAGES),
        format_func=LANGUAGES.__getitem__,
        required=True,
        key="lang",
        label_visibility="collapsed",
    )
    if chosen is None or chosen == "en":
        st.query_params.pop("lang", None)
    else:
        st.query_params["lang"] = chosen
    return speaker(chosen or "en")


def table(store: Store) -> pd.DataFrame:
    """All runs of the store; shared between pages and visitors, so it must not be changed."""
    return _table(store, _stamp(store))


def points(store: Store, run_id: str) -> pd.DataFrame:
    """Every value of one run; shared, so it must not be changed."""
    return _points(store, run_id, _stamp(store))


def _stamp(store: Store) -> tuple[int, ...]:
    """Changes whenever the database may have."""
    if store.database is None:
        return (int(time.monotonic() / _SERVER_SECONDS),)
    files = (store.database, store.database.with_name(store.database.name + "-wal"))
    stats = [path.stat() for path in files if path.exists()]
    return tuple(number for stat in stats for number in (stat.st_mtime_ns, stat.st_size))


@st.cache_resource(max_entries=2, show_spinner=False)
def _table(store: Store, stamp: tuple[int, ...]) -> pd.DataFrame:
    return read.runs_table(store)


@st.cache_resource(max_entries=16, show_spinner=False)
def _points(store: Store, run_id: str, stamp: tuple[int, ...]) -> pd.DataFrame:
    return read.history(store, run_id)
