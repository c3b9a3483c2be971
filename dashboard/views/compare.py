"""Runs side by side: their curves, settings, pictures, texts and statistics. `?runs=ID&runs=ID` says which."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.state import table
from dashboard.tabs import curves, differences, draw_open_tab, media, relations, statistics
from dashboard.tabs.selection import choose
from dashboard.views.runs import empty
from dashboard.words import Say
from experiments.store.location import Store

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

TABS = {
    "curves": curves.draw,
    "parallel": relations.draw_parallel,
    "scatter": relations.draw_scatter,
    "images": media.draw_images,
    "texts": media.draw_texts,
    "config": differences.draw,
    "statistics": statistics.draw,
}


def page(store: Store, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """The page: which runs, then a tab for each way to compare them."""
    runs = table(store)
    st.title(say("compare"))
    if runs.empty:
        empty(say)
        return
    chosen = choose(store, runs, say)
    if chosen.runs.empty:
        st.info(say("none_compared"))
        return
    draw_open_tab(say, {name: partial(draw, chosen, say) for name, draw in TABS.items()})
