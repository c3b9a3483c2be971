from __future__ import annotations

import io
import json

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from experiments.store.location import Store
from tests.conftest import Writer, png
from tests.dashboard.hostile import SCRIPT, hostile
from tests.dashboard.test_latent import space
from tests.dashboard.test_pages import no_arguments, open_page, texts

__all__ = ["no_arguments"]  # a fixture that every test takes

TABS = ("images", "latent", "texts", "generate")


@pytest.fixture
def models(writer: Writer) -> Store:
    """A VAE with pictures and a latent space, a GPT-2 with texts, and an optimizer's path with pictures."""
    vae = writer.run("vae", params={"model": "vae"})
    writer.file(vae, "media/latent/00000009.png", png(0))
    for step in (0, 9):
        writer.file(vae, f"media/samples/{step:08d}.png", png(step))
    buffer = io.BytesIO()
    np.savez(buffer, **space())  # type: ignore[arg-type]
    writer.file(vae, "latent.npz", buffer.getvalue())
    speaker = writer.run("speaker", start=10, params={"model": "gpt2"})
    writer.file(speaker, "media/texts/00000005.json", json.dumps([{"prompt": "Once", "text": " upon"}]))
    writer.file(speaker, "checkpoints/best.json", "{}")
    walker = writer.run("walker", start=20, params={"model": "paths"})
    writer.file(walker, "media/path/00000009.png", png(1))
    return writer.store


def open_tab(store: Store, tab: str, language: str = "en", **address: str) -> AppTest:
    return open_page("samples", store, language, tab=tab, **address)


@pytest.mark.parametrize(
    ("tab", "command"),
    [
        ("images", "taolu run vae"),
        ("latent", "taolu run vae"),
        ("texts", "taolu run gpt2_pydoc"),
        ("generate", "taolu run gpt2_pydoc"),
    ],
)
def test_an_empty_tab_names_the_command_that_fills_it(store: Store, tab: str, command: str) -> None:
    app = open_tab(store, tab, "zh")
    assert not app.exception
    assert [block.value for block in app.code] == [command]


def test_pictures_begin_with_samples_and_leave_paths_to_their_own_page(models: Store) -> None:
    app = open_tab(models, "images")
    assert not app.exception
    assert app.multiselect(key="runs").options == ["vae"]
    assert app.selectbox(key="media").value == "samples"
    assert len(app.get("image")) == 2


def test_the_latent_space_shows_the_point_of_the_sliders(models: Store) -> None:
    app = open_tab(models, "latent", z1="3", z2="1")
    assert not app.exception
    captions = [image.proto.imgs[0].caption for image in app.get("image")]
    assert captions[0] == "z = (1, -1)"
    assert len(app.get("plotly_chart")) == 1
    app.slider(key="z1").set_value(2).run()
    assert app.get("image")[0].proto.imgs[0].caption == "z = (0, -1)"


def test_texts_stand_by_prompt_and_step(models: Store) -> None:
    app = open_tab(models, "texts")
    assert not app.exception
    assert app.multiselect(key="runs").options == ["speaker"]
    assert app.code[0].value == " upon"


def test_the_command_that_continues_a_prompt_can_be_copied(models: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAOLU_DASHBOARD_ALLOW", raising=False)
    app = open_tab(models, "generate", say="-x; rm 'y'", max_length="8", top_p="7")
    assert not app.exception
    shown = app.code[0].value
    assert "'--prompt=-x; rm '\"'\"'y'\"'\"''" in shown
    assert "--max_length 8 --num 1 --seed 0 --top_p 1 --temperature 1" in shown
    assert not app.button
    assert "taolu dashboard --allow_launch" in texts(app)


@pytest.mark.slow
def test_the_button_runs_the_command_and_shows_what_it_refuses(models: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAOLU_DASHBOARD_ALLOW", "launch")
    app = open_tab(models, "generate")
    app.button[0].click().run(timeout=60)
    assert not app.exception
    assert app.error[0].value  # there are no weights


@pytest.mark.parametrize("tab", TABS)
def test_a_hostile_store_opens(writer: Writer, tab: str) -> None:
    hostile(writer)
    app = open_tab(writer.store, tab, runs="nobody", run="x", z1="1e9", upto="x", prompt=SCRIPT)
    assert not app.exception
