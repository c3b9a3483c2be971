"""A form of an experiment's options that composes the command; with `--allow_launch` it also queues and stops runs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard import address, artifacts, commands
from dashboard.links import go
from dashboard.state import allows
from dashboard.words import Say, plain
from experiments.errors import ConfigError
from experiments.store.location import Store

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

RUN = ("seed", "threads")
FIRST = "vae"
LIVE_SECONDS, LOG_LINES, MOST_ITEMS = 2, 40, 50
_OPEN = ("waiting", "running")


def page(store: Store, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """The page.

    Args:
        store: where runs go.
        say: the words of the chosen language.
        pages: every page by name, to link to.
    """
    st.title(say("launch"))
    try:
        with st.spinner(say("schema_wait")):
            schema = _schema()
    except ConfigError as error:
        st.error(plain(str(error), 600), icon=":material/error:")
        return
    names = sorted(schema)
    experiment = st.selectbox(say("experiment"), names, **address.one("launch", names, FIRST))
    st.caption(plain(schema[experiment].get("why", ""), 400))
    above = st.container()  # what the form below makes, and what became of it
    words = _form(experiment, schema[experiment], say)
    with above:
        if words is not None:
            _command(store, words, say)
        if allows("launch"):
            _queue(store, say, pages)


@st.cache_resource(show_spinner=False)
def _schema() -> dict[str, Any]:
    """Every experiment's options, asked once: the code these pages run with does not change under them."""
    found: dict[str, Any] = commands.call(["list", "--schema"])
    return found


@st.cache_data(max_entries=64, ttl=600, show_spinner=False)
def _resolved(experiment: str, part: str, name: str) -> list[commands.Field]:
    """The options of a part of another class than the experiment's own."""
    config = commands.call(["run", experiment, f"--{part}", name, "--print_config", "--json"])
    return commands.fields_of_config(config, part)


# ---- the form -------------------------------------------------------------------------------------------------------


def _form(experiment: str, schema: Mapping[str, Any], say: Say) -> list[str] | None:
    """The words after `taolu run`: only what differs from the experiment's own; None where something is wrong."""
    options: dict[str, str] = {}
    wrong = False
    known = commands.fields_of(schema["options"])
    for part in [*schema["parts"], "trainer"]:
        with st.expander(say(f"part_{part}"), expanded=part == "model"):
            fields = [field for field in known if field.part == part]
            if part in schema["parts"]:
                try:
                    fields = _class(experiment, part, schema, options, say) or fields
                except ConfigError as error:
                    st.error(plain(str(error), 600), icon=":material/error:")
                    wrong = True
            wrong |= _fields(fields, options, say)
    with st.expander(say("part_run"), expanded=True):
        wrong |= _fields([field for field in known if not field.part], options, say)
        labels = _labels(options, say)
    return None if wrong else commands.compose(experiment, options, labels)


def _class(
    experiment: str, part: str, schema: Mapping[str, Any], options: dict[str, str], say: Say
) -> list[commands.Field]:
    """The choice of a part's class; the options of one that is not the experiment's own."""
    names, own = schema["parts"][part], schema["classes"][part]
    names = names if own in names else [own, *names]
    name = st.selectbox(say("class"), names, **address.one(part, names, own))
    if name == own:
        return []
    options[part] = name
    with st.spinner(say("schema_wait")):
        return _resolved(experiment, part, name)


def _fields(fields: list[commands.Field], options: dict[str, str], say: Say) -> bool:
    """A widget for each option, its value put into `options` where it is not the default; whether any is wrong."""
    columns = st.columns(3)
    wrong = False
    for i, field in enumerate(fields):
        label, place = field.key.partition(".")[2] or field.key, columns[i % 3]
        about = plain(f"{field.help} ({field.type})".strip(), 600)
        if field.choices and field.default in field.choices:
            value = place.selectbox(
                label, field.choices, help=about, **address.one(field.key, field.choices, field.default)
            )
        else:
            value = place.text_input(label, help=about, **address.text(field.key, field.default)) or field.default
        if not field.takes(value):
            place.error(say("not_of_type", type=plain(field.type)), icon=":material/error:")
            wrong = True
        if value != field.default:
            options[field.key] = value
    return wrong


def _labels(options: dict[str, str], say: Say) -> list[tuple[str, str]]:
    """The run's name and note put into the options; its tags."""
    columns = st.columns(3)
    for column, key in zip(columns, ("name", "note"), strict=False):
        if value := column.text_input(say(key), **address.text(f"run.{key}")):
            options[key] = value
    tags = columns[2].text_input(say("tags"), placeholder=say("tag_hint"), **address.text("run.tags")) or ""
    return [("tags", tag.strip()) for tag in tags.split(",") if "=" in tag.strip()[1:]]


def _command(store: Store, words: list[str], say: Say) -> None:
    """The command as one types it, with a button that copies it; and the button that queues it."""
    st.code(commands.shown(["run", *words]), language="bash", wrap_lines=True)
    if not allows("launch"):
        st.caption(say("launch_off"))
        st.code("taolu dashboard --allow_launch", language="bash")
        return
    if st.button(say("queue_add"), type="primary", icon=":material/playlist_add:"):
        try:
            with st.spinner(say("queue_wait")):
                added = commands.call(["queue", "add", *words, "--json"], store)
            _work(store)
        except (ConfigError, OSError) as error:
            st.error(plain(str(error), 900), icon=":material/error:")
        else:
            st.toast(say("queued", n=added["number"]), icon=":material/check:")


# ---- the queue ------------------------------------------------------------------------------------------------------


@st.cache_resource
def _workers() -> dict[Store, subprocess.Popen[bytes]]:
    """The worker that these pages started, of each store."""
    return {}


def _is_working(store: Store) -> bool:
    return store in _workers() and _workers()[store].poll() is None


def _work(store: Store) -> None:
    """Starts a worker unless one of ours is at work."""
    if not _is_working(store):
        _workers()[store] = commands.start_worker(store)


def _queue(store: Store, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """What waits, runs and is over, drawn again while anything is open."""
    st.subheader(say("queue"))
    was_open = _is_open(store)

    @st.fragment(run_every=LIVE_SECONDS if was_open else None)
    def part() -> None:
        _items(store, say, pages)
        if was_open and not _is_open(store):
            st.rerun()

    part()


def _is_open(store: Store) -> bool:
    return _is_working(store) or any(item["state"] in _OPEN for item in _listed(store, *_stamp(store)))


def _stamp(store: Store) -> tuple[tuple[tuple[str, int], ...], int]:
    """Changes when the queue does; and every ten seconds, in which a worker may have died."""
    folders = sorted(path for path in (store.folder / "queue").glob("**/") if path.is_dir())
    return tuple((str(path), path.stat().st_mtime_ns) for path in folders), int(time.time() // 10)


@st.cache_data(max_entries=4, show_spinner=False)
def _listed(_store: Store, state: tuple[tuple[str, int], ...], decade: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = commands.call(["queue", "ls", "--limit", str(MOST_ITEMS), "--json"], _store)
    return items


def _items(store: Store, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    import pandas as pd

    try:
        items = _listed(store, *_stamp(store))
    except ConfigError as error:
        st.error(plain(str(error), 600), icon=":material/error:")
        return
    if not items:
        st.caption(say("queue_empty"))
        return
    states = {item["number"]: item["state"] for item in items}
    table = pd.DataFrame(items)[["number", "state", "command", "error"]]
    table["state"] = [say(f"item_{state}") for state in table["state"]]
    config = st.column_config
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "number": config.NumberColumn(say("item"), format="%d", width=70),
            "state": config.TextColumn(say("status"), width=110),
            "command": config.TextColumn(say("command"), width="large"),
            "error": config.TextColumn(say("failure")),
        },
    )
    if any(state == "waiting" for state in states.values()) and not _is_working(store):
        st.button(say("work"), icon=":material/play_arrow:", on_click=_work, args=(store,))
    numbers = sorted(states, reverse=True)
    number = st.selectbox(say("item"), numbers, **address.one("item", numbers))
    _item(store, next(item for item in items if item["number"] == number), say, pages)


def _item(store: Store, item: Mapping[str, Any], say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """What can be done with one item, and the end of what its run printed."""
    number, run_id, key = item["number"], item["run_id"], f"{item['number']}"
    with st.container(horizontal=True):
        if run_id and st.button(say("open_run"), icon=":material/show_chart:", key=f"open {key}"):
            go(pages["run"], run=[run_id])
        if item["state"] == "running" and run_id:
            stop = partial(_tell, ["stop", run_id, "--json"], store, say)
            st.button(say("stop"), icon=":material/stop_circle:", key=f"stop {key}", on_click=stop)
        if item["state"] == "waiting":
            remove = partial(_tell, ["queue", "rm", str(number), "--json"], store, say)
            st.button(say("queue_rm"), icon=":material/delete:", key=f"remove {key}", on_click=remove)
    text = artifacts.read_tail(store.run_folder(run_id), "console.log") if run_id else None
    if text:
        st.code("\n".join(text.splitlines()[-LOG_LINES:]), language=None, height=320)


def _tell(words: list[str], store: Store, say: Say) -> None:
    """Runs a verb for a button; what it refuses is shown."""
    try:
        commands.call(words, store)
    except ConfigError as error:
        st.toast(plain(str(error), 600), icon=":material/error:")
    else:
        st.toast(say("done"), icon=":material/check:")
