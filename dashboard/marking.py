"""Notes, tags and archive marks: what `--allow_edit` lets a visitor write about runs, and nothing else."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.state import allows, forget
from dashboard.words import Say, plain
from experiments.errors import ConfigError
from experiments.store.location import Store
from experiments.store.marks import ARCHIVED, LONGEST_NOTE, LONGEST_TAG, set_archived, set_note, set_tags

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd


def mark(store: Store, runs: pd.DataFrame, say: Say) -> None:
    """The button that opens what can be written of these runs, rows of the store's table.

    Without `--allow_edit` it says how to allow it.
    """
    with st.popover(say("mark"), icon=":material/edit_note:", disabled=runs.empty):
        if not allows("edit"):
            st.caption(say("edit_off"))
            st.code("taolu dashboard --allow_edit", language="bash")
            return
        if runs.empty:
            return
        run_ids = runs["run_id"].tolist()
        notes = set(runs["note"])
        name = ",".join(sorted(run_ids))  # of other runs the widgets are others
        note = st.text_area(
            say("note"), notes.pop() if len(notes) == 1 else "", max_chars=LONGEST_NOTE, key=f"note {name}"
        )
        if st.button(say("save_note"), key=f"save {name}"):
            _write(store, partial(set_note, store, run_ids, note), say)
        tag = st.text_input(
            say("tag"), placeholder=say("tag_hint"), help=say("tag_help"), max_chars=LONGEST_TAG, key=f"tag {name}"
        )
        key, equals, value = tag.partition("=")
        if st.button(say("save_tag"), key=f"save tag {name}", disabled=not (equals and key.strip())):
            _write(store, partial(set_tags, store, run_ids, {key.strip(): value.strip()}), say)
        column = runs.get(f"tags.{ARCHIVED}")
        is_archived = column is not None and bool(column.notna().all())
        if st.button(say("unarchive" if is_archived else "archive"), icon=":material/archive:", key=f"archive {name}"):
            _write(store, partial(set_archived, store, run_ids, archived=not is_archived), say)


def _write(store: Store, write: Callable[[], None], say: Say) -> None:
    try:
        write()
    except ConfigError as error:
        st.error(plain(str(error), 600), icon=":material/error:")
    else:
        forget(store)
        st.toast(say("saved"), icon=":material/check:")
        st.rerun()
