"""The dashboard's pages. Started by `python -m dashboard`, or `streamlit run dashboard/app.py -- --store DIR`."""

from __future__ import annotations

import streamlit as st

from dashboard.state import chosen_language, chosen_store
from dashboard.views import run, runs
from dashboard.words import plain
from experiments.errors import ConfigError


def main() -> None:
    """The page that the address names, or one line that says why it cannot be shown."""
    st.set_page_config(page_title="taolu", page_icon="🥋", layout="wide")
    say = chosen_language()
    try:
        store = chosen_store()
        st.sidebar.caption(f"{say('store')}: {plain(store.label)}")
        run_page = st.Page(lambda: run.page(store, say), title=say("run"), icon=":material/show_chart:", url_path="run")
        runs_page = st.Page(
            lambda: runs.page(store, say, run_page), title=say("runs"), icon=":material/table_rows:", default=True
        )
        st.navigation([runs_page, run_page]).run()
    except ConfigError as error:
        st.error(plain(str(error), 600), icon=":material/error:")


if __name__ == "__main__":  # Streamlit runs this file as the main program
    main()
