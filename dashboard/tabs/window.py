"""The stretch of the horizontal axis that charts of curves show: dragged over in one, kept in the address, for all.

Streamlit (1.67) draws a chart anew when its data change, and forgets what Plotly had zoomed to. So the zoom is ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from dashboard.tabs import CHART
from dashboard.words import Say

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

FIELDS = ("from", "to")  # of the address; a date in milliseconds since 1970


def window() -> tuple[float, float] | tuple[None, None]:
    """Its ends, as the address names them; None where it names none that can be read."""
    try:
        low, high = (float(st.query_params[name]) for name in FIELDS)
    except (KeyError, ValueError):
        return None, None
    return (low, high) if low < high else (None, None)


def draw_whole_range(say: Say) -> None:
    """A button that leaves the window, where there is one."""

    def leave() -> None:
        for name in FIELDS:
            st.query_params.pop(name, None)

    if window() != (None, None):
        st.button(say("whole_range"), icon=":material/zoom_out_map:", help=say("window_help"), on_click=leave)


def draw_chart(figure: Figure, name: str) -> None:
    """A chart of curves; a stretch that is dragged over becomes the window.

    Args:
        figure: what is drawn.
        name: no other chart of the page has it.
    """
    figure.update_layout(dragmode="select", selectdirection="h")
    key = " ".join(map(str, (name, *window())))  # another window, another widget: a selection is used once
    event = st.plotly_chart(figure, key=key, config=CHART, on_select="rerun", selection_mode="box")
    if event.selection.box:
        low, high = sorted(map(_place, event.selection.box[0]["x"]))
        st.query_params.update({FIELDS[0]: f"{low:.13g}", FIELDS[1]: f"{high:.13g}"})
        st.rerun()


def _place(x: float | str) -> float:
    """A number on the axis; of a date, as Plotly writes it, its milliseconds since 1970."""
    return float(np.datetime64(x.replace(" ", "T"), "ms").astype("int64")) if isinstance(x, str) else float(x)
