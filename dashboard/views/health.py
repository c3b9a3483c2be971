"""Whether the store is well: runs whose process is gone, values not delivered yet, its size, what could be removed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard import address, commands
from dashboard.live import going, refreshed
from dashboard.state import table
from dashboard.views.runs import empty
from dashboard.words import Say, ago, plain, size_text
from experiments.errors import ConfigError
from experiments.store import health
from experiments.store.heartbeat import TAG
from experiments.store.location import Store

if TYPE_CHECKING:
    import pandas as pd
    from streamlit.navigation.page import StreamlitPage

_LARGEST = 10
_MOST_ROWS = 200
_SIZES_SECONDS = 60  # how old the sizes may be: a walk over 10,000 runs takes a second
_GC_SECONDS = 300


def page(store: Store, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """The page.

    Args:
        store: what is examined.
        say: the words of the chosen language.
        pages: every page by name, to link to.
    """
    st.title(say("health"))
    if table(store).empty:
        empty(say)
        return
    refreshed(store, lambda: _runs(store, say))
    _sizes(store, say)
    _collection(store, say)


def _runs(store: Store, say: Say) -> None:
    """What changes by the second: counts, runs whose process is gone, spools."""
    runs = table(store)
    is_going, is_running = going(runs), runs["status"] == "RUNNING"
    lost, waiting = runs[is_running & ~is_going], health.waiting(store)
    gone = [each for each in waiting if each.is_gone]
    counts = {
        "section_runs": len(runs),
        "RUNNING": int(is_going.sum()),
        "health_lost": len(lost),
        "FAILED": int((runs["status"] == "FAILED").sum()),
        "health_spools": len(waiting),
    }
    _figures({say(name): f"{count:,}" for name, count in counts.items()})
    if not len(lost) and not gone:
        st.success(say("health_well"), icon=":material/check_circle:")
    if len(lost):
        st.subheader(say("health_lost"))
        st.write(say("health_lost_text"))
        st.code("taolu runs --reap", language="bash")
        st.dataframe(_lost(lost.head(_MOST_ROWS), say), hide_index=True, key="lost")
    if waiting:
        st.subheader(say("health_spools"))
        st.write(say("health_spools_text"))
        if gone:
            st.code("taolu runs", language="bash")
        st.dataframe(_spools(waiting[:_MOST_ROWS], runs, say), hide_index=True, key="spools")


def _figures(figures: Mapping[str, str]) -> None:
    """Names over figures, beside each other as far as the screen is wide."""
    with st.container(horizontal=True):
        for name, figure in figures.items():
            st.metric(name, figure, width=150)


def _lost(lost: pd.DataFrame, say: Say) -> pd.DataFrame:
    import pandas as pd

    now = datetime.now(UTC)
    beats = [_beat(text) for text in lost.get(f"tags.{TAG}", [None] * len(lost))]
    return pd.DataFrame(
        {
            say("name"): lost["name"].to_numpy(),
            say("experiment"): lost["experiment"].to_numpy(),
            say("health_host"): [str(beat.get("host", "")) for beat in beats],
            say("health_process"): [str(beat.get("pid", "")) for beat in beats],
            say("step"): [str(beat.get("step", "")) for beat in beats],
            say("health_heard"): [_when(beat.get("time"), now, say) for beat in beats],
        }
    )


def _beat(text: object) -> dict[str, Any]:
    try:
        found = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def _when(seconds: object, now: datetime, say: Say) -> str:
    try:
        return ago(say, datetime.fromtimestamp(float(str(seconds)), UTC), now)
    except (ValueError, OverflowError, OSError):
        return ""


def _spools(waiting: list[health.Waiting], runs: pd.DataFrame, say: Say) -> pd.DataFrame:
    import pandas as pd

    names = dict(zip(runs["run_id"], runs["name"], strict=True))
    now = datetime.now(UTC)
    rows = [
        {
            say("name"): names.get(each.run_id, each.run_id[:8]),
            say("health_host"): each.host,
            say("health_process"): say("health_gone" if each.is_gone else "RUNNING"),
            say("size"): size_text(each.n_bytes),
            say("health_changed"): _when(each.changed, now, say),
        }
        for each in waiting
    ]
    return pd.DataFrame(rows)


def _sizes(store: Store, say: Say) -> None:
    found = _measured(store)
    st.subheader(say("health_size"))
    shown = {"health_database": found.database, "health_files": found.files, "health_free": found.free}
    _figures({say(name): size_text(n_bytes) for name, n_bytes in shown.items()})
    largest = sorted(found.runs.items(), key=lambda item: -item[1])[:_LARGEST]
    if not largest:
        return
    import pandas as pd

    runs = table(store).set_index("run_id")
    names = [runs["name"].get(run_id, "") or run_id[:8] for run_id, _ in largest]
    experiments = [runs["experiment"].get(run_id, say("health_unknown")) for run_id, _ in largest]
    frame = pd.DataFrame(
        {say("name"): names, say("experiment"): experiments, say("size"): [n_bytes for _, n_bytes in largest]}
    )
    most = max(n_bytes for _, n_bytes in largest)
    with st.expander(say("health_largest", n=len(largest))):
        bar = st.column_config.ProgressColumn(say("size"), format="bytes", min_value=0, max_value=max(most, 1))
        st.dataframe(frame, hide_index=True, column_config={say("size"): bar}, key="largest")


@st.cache_data(ttl=_SIZES_SECONDS, max_entries=4, show_spinner=False)
def _measured(store: Store) -> health.Sizes:
    return health.sizes(store)


def _collection(store: Store, say: Say) -> None:
    """What `taolu gc` would remove; asked only when the reader wants it, in a process of its own."""
    st.subheader(say("health_gc"))
    st.write(say("health_gc_text"))
    st.code("taolu gc --dry_run", language="bash")
    if not st.toggle(say("health_gc_show"), **address.flag("gc")):
        return
    try:
        with st.spinner(say("health_gc_wait")):
            found = _foretold(store)
    except ConfigError as error:
        st.error(plain(str(error), 600), icon=":material/error:")
        return
    kinds = ("deleted_runs", "orphan_folders", "leftovers", "checkpoints")
    shown = {say(f"health_{kind}"): f"{int(found.get(kind, 0)):,}" for kind in kinds}
    _figures({**shown, say("health_freed"): size_text(int(found.get("file_bytes", 0)))})
    paths = [*found.get("paths", []), *found.get("kept", [])]
    if paths:
        with st.expander(say("health_gc_list", n=len(paths))):
            st.code("\n".join(map(str, paths[:_MOST_ROWS])), language=None)


@st.cache_data(ttl=_SIZES_SECONDS, max_entries=4, show_spinner=False)
def _foretold(store: Store) -> dict[str, Any]:
    found = commands.call(["gc", "--dry_run", "--json"], store, seconds=_GC_SECONDS)
    return found if isinstance(found, dict) else {}
