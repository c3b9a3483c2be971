"""The dashboard's pages. Started by `taolu dashboard`, or `streamlit run dashboard/app.py -- --store DIR`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.links import leave
from dashboard.state import chosen_language, chosen_store, trouble
from dashboard.views import claims, compare, health, launch, lexicon, overview, paths, rules, run, runs, samples, sweeps
from dashboard.words import Say, plain
from experiments.errors import ConfigError
from experiments.store.location import Store

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

# Section -> page, which is its word, its address (the first has none) and the key of its link -> how it is drawn, icon.
PAGES: dict[str, dict[str, tuple[Callable[..., None], str]]] = {
    "section_runs": {
        "overview": (overview.page, ":material/home:"),
        "runs": (runs.page, ":material/table_rows:"),
        "compare": (compare.page, ":material/stacked_line_chart:"),
        "run": (run.page, ":material/show_chart:"),
    },
    "section_findings": {
        "claims": (claims.page, ":material/balance:"),
        "sweeps": (sweeps.page, ":material/tune:"),
    },
    "section_models": {
        "paths": (paths.page, ":material/route:"),
        "samples": (samples.page, ":material/photo_library:"),
    },
    "section_mined": {
        "lexicon": (lexicon.page, ":material/dictionary:"),
        "rules": (rules.page, ":material/shopping_basket:"),
    },
    "section_system": {
        "launch": (launch.page, ":material/rocket_launch:"),
        "health": (health.page, ":material/monitor_heart:"),
    },
}


def main() -> None:
    """The page that the address names, or one line that says why it cannot be shown."""
    st.set_page_config(page_title="taolu", page_icon="🥋", layout="wide")
    say = chosen_language()
    try:
        store = chosen_store()
        st.sidebar.caption(f"{say('store')}: {plain(store.label)}")
        current = st.navigation(_pages(store, say))
        banner = st.empty()
        leave()
        current.run()
        if problem := trouble(store):
            banner.warning(say("last_data", problem=plain(problem, 600)), icon=":material/history:")
    except ConfigError as error:
        st.error(plain(str(error), 600), icon=":material/error:")


def _pages(store: Store, say: Say) -> dict[str, list[StreamlitPage]]:
    """Section -> its pages; every page is given all of them by name, to link to."""
    pages: dict[str, StreamlitPage] = {}
    for section in PAGES.values():
        for name, (draw, icon) in section.items():
            call = partial(draw, store, say, pages)
            pages[name] = st.Page(call, title=say(name), icon=icon, url_path=name, default=not pages)
    return {say(section): [pages[name] for name in names] for section, names in PAGES.items()}


if __name__ == "__main__":  # Streamlit runs this file as the main program
    main()
