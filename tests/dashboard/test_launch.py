"""The page Launch."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import commands
from dashboard.views import launch
from experiments.completion import code_digest
from experiments.queue import WAITING, Item
from experiments.store.location import Store
from tests.dashboard.test_pages import no_arguments, open_page, texts

__all__ = ["no_arguments"]  # a fixture


def write_schema(cache: Path) -> None:
    """Two small experiments where taolu keeps the schema it has made, which takes it 8 CPU-s."""

    def option(kind: str, default: Any) -> dict[str, Any]:
        return {"type": kind, "default": default, "help": "What it *does*."}

    options = {
        "seed": option("a whole number", 0),
        "model.latent_dim": option("a whole number", 2),
        "model.network": option("one of mlp, cnn", "mlp"),
        "model.sigma": option("a number or null", None),
        "trainer.compile": option("true or false", False),
    }
    entry = {"why": "a <b>map</b>", "options": options, "parts": {"model": ["vae", "gan"]}, "classes": {"model": "vae"}}
    file = cache / "taolu" / f"schema-{code_digest()}.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"vae": entry, "wide": entry}), encoding="utf-8")


@pytest.fixture
def schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The schema of `write_schema`, and none that was asked before."""
    write_schema(tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    launch._schema.clear()
    launch._listed.clear()


def command(app: AppTest) -> str:
    return str(app.code[0].value)


@pytest.mark.usefixtures("schema")
def test_the_form_composes_the_command_of_what_was_changed(store: Store) -> None:
    app = open_page("launch", store, "zh")
    assert not app.exception
    assert command(app) == "taolu run vae"
    app.text_input(key="model.latent_dim").set_value("16")
    app.selectbox(key="model.network").set_value("cnn")
    app.text_input(key="model.sigma").set_value("-1")
    app.text_input(key="run.name").set_value("my run; rm -rf /")
    app.text_input(key="run.tags").set_value("for=me, b=c, torn").run()
    assert not app.exception
    expected = "taolu run vae --model.latent_dim 16 --model.network cnn --model.sigma=-1"
    assert command(app) == f"{expected} --name 'my run; rm -rf /' --tags for=me --tags b=c"
    assert "taolu dashboard --allow_launch" in texts(app)
    assert not app.button
    copied = {key: app.query_params[key] for key in app.query_params}
    assert command(open_page("launch", store, "zh", **copied)) == command(app)


@pytest.mark.usefixtures("schema")
def test_an_address_may_name_the_experiment_and_its_options(store: Store) -> None:
    app = open_page("launch", store, launch="wide", **{"model.latent_dim": "8", "model.network": "nosuch"})
    assert command(app) == "taolu run wide --model.latent_dim 8"
    assert command(open_page("launch", store, launch="../../x.py:Evil")) == "taolu run vae"


@pytest.mark.usefixtures("schema")
def test_a_value_of_another_type_makes_no_command(store: Store) -> None:
    app = open_page("launch", store, **{"model.latent_dim": "two"})
    assert app.error[0].value == "must be a whole number"
    assert not [block.value for block in app.code if "latent_dim" in block.value]


@pytest.mark.usefixtures("schema")
def test_the_queue_is_shown_and_a_waiting_item_taken_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAOLU_DASHBOARD_ALLOW", "launch")
    waiting = store.folder / "queue" / WAITING
    waiting.mkdir(parents=True)
    for number in (1, 2):
        (waiting / f"{number:08d}.yaml").write_text(Item(number, command=f"vae --seed {number}").to_yaml())
    app = open_page("launch", store, item="1")
    assert not app.exception
    assert app.dataframe[0].value[["number", "state", "command"]].values.tolist() == [
        [1, "waiting", "vae --seed 1"],
        [2, "waiting", "vae --seed 2"],
    ]
    assert [button.label for button in app.button] == ["Put into the queue", "Start a worker", "Take it out"]
    app.button(key="remove 1").click().run()
    assert not app.exception
    assert [path.name for path in waiting.iterdir()] == ["00000002.yaml"]
    assert app.dataframe[0].value["number"].tolist() == [2]


@pytest.mark.slow
@pytest.mark.usefixtures("schema")
def test_what_the_command_refuses_is_shown_in_its_own_words(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAOLU_DASHBOARD_ALLOW", "launch")
    app = open_page("launch", store, launch="wide")
    app.button[0].click().run(timeout=60)
    assert not app.exception
    assert "wide" in app.error[0].value
    assert not (store.folder / "queue" / WAITING).exists()


@pytest.mark.slow
def test_a_run_is_queued_started_followed_and_stopped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAOLU_DASHBOARD_ALLOW", "launch")
    launch._schema.clear()
    commands.call(["list", "--schema"])  # made now: the page's first run has 30 s
    app = open_page("launch", store, **{"trainer.max_epochs": "2000", "trainer.quality.metrics": "[]", "threads": "1"})
    app.button[0].click().run(timeout=120)
    assert not app.exception
    assert not app.error
    end = time.monotonic() + 120
    while "stop 1" not in [button.key for button in app.button] and time.monotonic() < end:
        time.sleep(1)
        app.run(timeout=60)
    app.button(key="stop 1").click().run(timeout=120)
    assert not app.exception
    assert app.dataframe[0].value["state"].tolist() == ["failed"]
    assert "stopped" in app.dataframe[0].value["error"].tolist()[0]
    while launch._is_working(store):
        time.sleep(0.1)
