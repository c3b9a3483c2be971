"""What the tabs of the pages Compare and Run draw, a file a tab; and the tabs themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from dashboard.palette import swatch
from dashboard.words import Say, plain

CHART = {  # Plotly's own settings: its buttons shown on hover, without its logo and without what selects points
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}


MOST_IN_LEGEND = 30


def draw_legend(colors: Mapping[str, str]) -> None:
    """Every name beside a disc of its colour, for all charts below it; of many none is shown.

    Args:
        colors: name -> #RRGGBB.
    """
    if len(colors) <= MOST_IN_LEGEND:
        with st.container(horizontal=True, gap="medium"):
            for name, color in colors.items():
                with st.container(horizontal=True, gap="xxsmall", width="content", vertical_alignment="center"):
                    st.image(swatch(color), width=14)
                    st.caption(plain(name, 80), width="content")


def draw_open_tab(say: Say, draws: Mapping[str, Callable[[], None]]) -> None:
    """Tabs named by the words of these keys; draws the open one alone, which the address names by its key, `?tab=`."""
    names = list(draws)
    asked = st.query_params.get("tab")
    st.session_state["tab"] = say(asked if asked in names else names[0])

    def note() -> None:
        chosen = next(name for name in names if say(name) == st.session_state["tab"])
        if chosen == names[0]:
            st.query_params.pop("tab", None)
        else:
            st.query_params["tab"] = chosen

    tabs = st.tabs([say(name) for name in names], key="tab", on_change=note)
    for name, tab in zip(names, tabs, strict=True):
        if tab.open:
            with tab:
                draws[name]()
