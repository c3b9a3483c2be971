"""What models make: pictures by run and step, the latent space under two sliders, texts by prompt; and new texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard import address, commands
from dashboard.artifacts import LARGEST_ARRAYS_MB, read_arrays
from dashboard.latent import codes_chart, enlarged, is_latent, manifold
from dashboard.links import go
from dashboard.live import refreshed
from dashboard.state import allows, table
from dashboard.tabs import CHART, draw_open_tab, media
from dashboard.tabs.selection import Selection, runs_with, unique_names
from dashboard.words import Say, plain
from experiments.errors import ConfigError
from experiments.store.location import Store

if TYPE_CHECKING:
    import pandas as pd
    from streamlit.navigation.page import StreamlitPage

FIRST = 3  # runs shown before any is chosen
LATENT, MODEL = "latent.npz", "params.model"
SPEAKERS = ("gpt2", "gpt2_ml")
MOST_TOKENS, MOST_TEXTS, MOST_LETTERS, MOST_SEED = 256, 4, 4_000, 999_999
SECONDS = 300  # for which a text is waited for


def page(store: Store, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """The page: a tab each for pictures, the latent space, texts and new texts."""
    st.title(say("samples"))
    runs = table(store)
    kinds: dict[str, Callable[[], None]] = {
        "images": partial(_media, store, runs, say, pages, media.draw_images, "taolu run vae"),
        "latent": partial(_latent, store, runs, say),
        "texts": partial(_media, store, runs, say, pages, media.draw_texts, "taolu run gpt2_pydoc"),
        "generate": partial(_generate, store, runs, say),
    }
    draw_open_tab(say, kinds)


# ---- pictures and texts ---------------------------------------------------------------------------------------------


def _media(
    store: Store,
    runs: pd.DataFrame,
    say: Say,
    pages: Mapping[str, StreamlitPage],
    draw: Callable[[Selection, Say], None],
    command: str,
) -> None:
    """A row a run, a column a step; drawn again while one of them goes on."""
    found = runs_with(store, runs, "media")
    if MODEL in found:
        found = found[found[MODEL] != "paths"]  # they have a page of their own
    is_text = draw is media.draw_texts
    suffix = ".json" if is_text else ".png"
    found = found.loc[[_has(store, run_id, suffix) for run_id in found["run_id"]]]
    if found.empty:
        _empty(say("samples_no_texts" if is_text else "samples_no_images"), command)
        return
    names = unique_names(found)
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    ids = left.multiselect(
        say("compared_runs"),
        list(names),
        format_func=names.__getitem__,
        placeholder=say("choose_runs"),
        max_selections=media.MOST_ROWS,
        **address.many("runs", list(names), list(names)[:FIRST]),
    )
    if not ids:
        st.info(say("none_compared"))
        return
    if "compare" in pages and right.button(say("compare"), icon=":material/stacked_line_chart:"):
        go(pages["compare"], runs=ids)
    rows = found.set_index("run_id", drop=False).loc[ids].reset_index(drop=True)
    refreshed(store, partial(draw, Selection(store, rows, runs), say), ids)


def _has(store: Store, run_id: str, suffix: str) -> bool:
    return next(store.run_folder(run_id).glob(f"media/*/*{suffix}"), None) is not None


def _empty(text: str, command: str) -> None:
    st.info(text)
    st.code(command, language="bash")


# ---- the latent space -----------------------------------------------------------------------------------------------


def _latent(store: Store, runs: pd.DataFrame, say: Say) -> None:
    """The image at a point of the latent space, the whole map around it, and where the data's codes lie."""
    found = runs_with(store, runs, LATENT)
    if found.empty:
        _empty(say("samples_no_latent"), "taolu run vae")
        return
    names = unique_names(found)
    run_id = st.selectbox(say("one_run"), list(names), format_func=names.__getitem__, **address.one("run", list(names)))
    arrays = read_arrays(store.run_folder(run_id), LATENT)
    if arrays is None or not is_latent(arrays):
        st.warning(say("latent_refused", most=LARGEST_ARRAYS_MB))
        return
    row, column = _point(arrays, say)
    left, middle, right = st.columns([1, 2, 2])
    z = arrays["grid"][row, column]
    text = ", ".join(f"{value:.3g}" for value in z[:8]) + (" …" if len(z) > 8 else "")
    left.image(enlarged(arrays["decoded"][row, column]), caption=f"z = ({text})", width="stretch", alt=f"z = {text}")
    middle.image(
        manifold(arrays["decoded"], row, column), caption=say("latent_map"), width="stretch", alt=say("latent_map")
    )
    if "codes" in arrays:
        words = {name: say(name) for name in ("latent_codes", "latent_class", "latent_point")}
        right.plotly_chart(codes_chart(arrays, z, words), key="codes", config=CHART)


def _point(arrays: Mapping[str, Any], say: Say) -> tuple[int, int]:
    """Row and column of the grid that the sliders stand at, at first its middle."""
    grid = arrays["grid"]
    labels = ("z₁", "z₂") if grid.shape[2] == 2 else (say("latent_line"), say("latent_way"))
    found = []
    for place, label, key, n in zip(st.columns(2), labels, ("z1", "z2"), grid.shape[:2], strict=True):
        bound = address.number(key, (n + 1) // 2, 1, n)
        found.append(int(place.slider(label, 1, n, **bound)) - 1 if n > 1 else 0)
    return found[0], found[1]


# ---- new texts ------------------------------------------------------------------------------------------------------


def _generate(store: Store, runs: pd.DataFrame, say: Say) -> None:
    """A prompt, the command that continues it, and with --allow_launch what it answers."""
    speakers = runs[runs[MODEL].isin(SPEAKERS)] if MODEL in runs else runs.head(0)
    speakers = runs_with(store, speakers, "checkpoints")
    if speakers.empty:
        _empty(say("samples_no_speaker"), "taolu run gpt2_pydoc")
        return
    names = unique_names(speakers)
    run_id = st.selectbox(say("one_run"), list(names), format_func=names.__getitem__, **address.one("run", list(names)))
    prompt = st.text_area(say("prompt"), max_chars=MOST_LETTERS, **address.text("say", "The "))
    options = {"prompt": prompt, **_options(say)}
    words = ["generate", *commands.compose(run_id, options)]
    st.code(commands.shown([*words, "--store", str(store.folder)]), language="bash", wrap_lines=True)
    if not allows("launch"):
        st.caption(say("launch_off"))
        st.code("taolu dashboard --allow_launch", language="bash")
        return
    if st.button(say("generate_now"), type="primary", icon=":material/edit_note:", disabled=not prompt):
        try:
            with st.spinner(say("generate_wait")):
                st.session_state["spoken"] = (words, commands.call([*words, "--json"], store, seconds=SECONDS))
        except ConfigError as error:
            st.error(plain(str(error), 900), icon=":material/error:")
    said, answer = st.session_state.get("spoken", (None, None))
    if said == words and answer:  # of another prompt's texts nothing is shown under this one
        for row in answer["rows"]:
            st.code(f"{row['prompt']}{row['text']}", language=None, wrap_lines=True)
        st.caption(say("generate_cost", tokens=answer["tokens"], seconds=f"{answer['seconds']:.1f}"))


def _options(say: Say) -> dict[str, str]:
    """How texts are drawn."""
    places = st.columns(5, vertical_alignment="bottom")
    wholes = {"max_length": (64, 1, MOST_TOKENS), "num": (1, 1, MOST_TEXTS), "seed": (0, 0, MOST_SEED)}
    shares = {"top_p": (0.9, 0.05, 1.0), "temperature": (1.0, 0.0, 2.0)}
    found = {}
    for place, (key, (first, low, high)) in zip(places, wholes.items(), strict=False):
        found[key] = str(place.number_input(say(f"generate_{key}"), low, high, **address.number(key, first, low, high)))
    for place, (name, (start, least, most)) in zip(places[3:], shares.items(), strict=True):
        value = place.slider(
            say(f"generate_{name}"), least, most, step=0.05, **address.number(name, start, least, most)
        )
        found[name] = f"{value:.6g}"
    return found
