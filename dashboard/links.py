"""The way from one page to another, with Back and the language kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from typing import NoReturn

    from streamlit.navigation.page import StreamlitPage

_LEAVING = "leaving"
_BOUND = "lang"  # Streamlit itself keeps what is bound, and lets nobody write it


def go(target: StreamlitPage, **fields: list[str]) -> NoReturn:
    """Leads to another page, these fields added to the address.

    The others stay in it: Streamlit (1.67) leaves the new fields at the old page's path in the browser's history, and
    Back must show there what was left.
    """
    before = {name: st.query_params.get_all(name) for name in st.query_params if name != _BOUND}
    st.session_state[_LEAVING] = (target, {**before, **fields})
    st.rerun()  # the whole page: a switch out of a part of it loses the language


def leave() -> None:
    """Goes where `go` wanted to; called before a page is drawn."""
    if found := st.session_state.pop(_LEAVING, None):
        st.switch_page(found[0], query_params=found[1])
