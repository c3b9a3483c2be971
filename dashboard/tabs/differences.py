"""Where the compared runs differ: in their configs, and in the code and machine that made them."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.tabs.selection import Selection
from dashboard.words import Say
from experiments.store.configs import config_now
from experiments.store.origin import COMPARED, read_origin

if TYPE_CHECKING:
    import pandas as pd

_KEY = "key"


def differing(settings: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Rows: the keys whose values are not the same in all; columns: key, then a run each; None where it has none.

    Args:
        settings: name of a run -> key -> value.
    """
    import pandas as pd

    keys = dict.fromkeys(key for values in settings.values() for key in values)
    rows = {key: [values.get(key) for values in settings.values()] for key in keys}
    kept = {key: row for key, row in rows.items() if len(set(row)) > 1}
    return pd.DataFrame([[key, *row] for key, row in kept.items()], columns=[_KEY, *settings])


def draw(chosen: Selection, say: Say) -> None:
    """The tab: a table of each."""
    if len(chosen.runs) < 2:
        st.info(say("too_few_compared"))
        return
    params = {str(row["run_id"]): _params(row) for row in chosen.runs.to_dict("records")}
    configs = {chosen.names[key]: config_now(chosen.store.run_folder(key), own) for key, own in params.items()}
    _table(differing(configs), say("config"), say("same_configs"), say)
    origins = {chosen.names[run_id]: _origin(chosen, run_id) for run_id in chosen.ids}
    _table(differing(origins), say("code_and_machine"), say("same_origins"), say)


def _params(row: Mapping[object, object]) -> dict[str, str]:
    return {
        str(key).removeprefix("params."): value
        for key, value in row.items()
        if str(key).startswith("params.") and isinstance(value, str)
    }


def _origin(chosen: Selection, run_id: str) -> dict[str, str]:
    """What made the run, key by key; of source files their length and digest."""
    found = read_origin(chosen.store.run_folder(run_id))
    packages = found.environment.get("packages", {})
    code = {name: (len(text.splitlines()), sha256(text.encode()).hexdigest()[:6]) for name, text in found.code.items()}
    return {
        **{key: str(found.environment[key]) for key in COMPARED if key in found.environment},
        **({str(key): str(value) for key, value in packages.items()} if isinstance(packages, dict) else {}),
        **{name: f"{n_lines} lines, {digest}" for name, (n_lines, digest) in code.items()},
    }


def _table(table: pd.DataFrame, title: str, if_same: str, say: Say) -> None:
    st.subheader(title)
    if table.empty:
        st.caption(if_same)
    else:
        st.dataframe(
            table,
            hide_index=True,
            placeholder="–",
            column_config={_KEY: st.column_config.TextColumn(say("key"), pinned=True)},
        )
