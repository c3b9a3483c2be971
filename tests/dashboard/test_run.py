from __future__ import annotations

import io
import json

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboard.curves import THICK, THIN
from experiments.store.location import Store
from tests.conftest import Writer, png
from tests.dashboard.hostile import hostile
from tests.dashboard.test_charts import paths
from tests.dashboard.test_pages import no_arguments, open_page, texts

__all__ = ["no_arguments"]  # a fixture that every test takes

TABS = ("curves", "config", "images", "console", "system", "files")


def open_run(store: Store, **address: str) -> AppTest:
    """The page Run after its first run."""
    return open_page("run", store, **address)


@pytest.mark.parametrize(("name", "tab"), [*(("steady", tab) for tab in TABS), ("going", "curves")])
def test_every_tab_opens(filled_store: Store, name: str, tab: str) -> None:
    app = open_run(filled_store, run=name, tab=tab)
    assert not app.exception
    assert app.title[0].value == name


def test_a_failed_run_shows_why(filled_store: Store) -> None:
    app = open_run(filled_store, run="broken")
    assert r"RuntimeError\: loss is \*not\* finite" in app.error[0].value
    assert "Traceback (most recent call last)" in texts(app)


def test_a_run_shows_its_command_config_and_console(filled_store: Store) -> None:
    assert "taolu run vae --model.latent_dim 8" in texts(open_run(filled_store, run="steady"))
    assert "latent_dim: 8" in texts(open_run(filled_store, run="steady", tab="config"))
    assert "epoch 0 done\nfinished" in texts(open_run(filled_store, run="steady", tab="console"))


def test_a_run_that_recorded_paths_has_a_tab_for_them(writer: Writer) -> None:
    run_id, other = writer.run("walk"), writer.run("other")
    buffer = io.BytesIO()
    np.savez(buffer, **paths(2))  # type: ignore[arg-type]
    writer.file(run_id, "paths.npz", buffer.getvalue())
    app = open_run(writer.store, run="walk", tab="paths")
    assert not app.exception
    assert len(app.get("plotly_chart")) == 2
    assert "Blue cells end in the basin of the global minimum" in texts(app)
    labels = [name.capitalize() for name in TABS]
    assert [tab.label for tab in app.tabs] == [*labels[:3], "Paths", *labels[3:]]
    assert [tab.label for tab in open_run(writer.store, run=other).tabs] == labels


def test_a_claims_run_opens_with_its_verdict_statement_and_plot(writer: Writer) -> None:
    run_id = writer.run("9999-D1", experiment="claims", tags={"taolu.kind": "claim"}, metrics={"estimate": [1.0]})
    evidence = {"verdict": "fails", "statement": "A die has *six* faces.", "statement_zh": "骰子有六个面。"}
    writer.file(run_id, "evidence.json", json.dumps(evidence))
    writer.file(run_id, "plot.png", png(1))
    app = open_run(writer.store, run="9999-D1")
    assert not app.exception
    assert app.tabs[0].label == "Evidence"
    assert app.text[0].value == "A die has *six* faces.\n骰子有六个面。"
    assert len(app.get("image")) == 1
    assert [json.loads(block.value)["verdict"] for block in app.json] == ["fails"]


def test_evidence_that_cannot_be_read_is_named(writer: Writer) -> None:
    writer.file(writer.run("torn", experiment="claims"), "evidence.json", "{")
    app = open_run(writer.store, run="torn")
    assert not app.exception
    assert app.warning[0].value == "evidence.json is broken or too large."


def test_paths_that_cannot_be_drawn_are_named(writer: Writer) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, other=np.ones(3))
    for name, content in (("broken", b"PK"), ("lacking", buffer.getvalue())):
        writer.file(writer.run(name), "paths.npz", content)
        app = open_run(writer.store, run=name, tab="paths")
        assert not app.exception
        assert app.warning[0].value == "paths.npz is broken, lacks arrays, or is larger than 50 MB."


def test_a_run_with_three_hundred_metrics_draws_at_most_eight_charts(writer: Writer) -> None:
    writer.run("wide", metrics={f"val/m{i}": [1.0, 2.0] for i in range(300)})
    app = open_run(writer.store, run="wide")
    assert not app.exception
    assert len(app.get("plotly_chart")) == 8


def test_a_run_names_its_parent_its_forks_and_its_evaluations(writer: Writer) -> None:
    model = writer.run("a [model]")
    forks = [
        writer.run(f"f{i}", start=i, tags={"taolu.parent": model, "taolu.fork": '{"from_step": 7}'}) for i in range(6)
    ]
    judged = writer.run("judged", tags={"taolu.parent": model, "taolu.kind": "evaluation"})
    app = open_run(writer.store, run=model, tab="config")
    assert not app.exception
    links = " · ".join(f"[f{i}](?run={forks[i]}&tab=config) (step 7)" for i in (5, 4, 3, 2))
    assert f"Forks: {links} · 2 more" in texts(app)
    assert f"Evaluations: [judged](?run={judged}&tab=config)" in texts(app)
    assert rf"Fork of [a \[model\]](?run={model}) (step 7)" in texts(open_run(writer.store, run="f0"))
    assert rf"Evaluation of [a \[model\]](?run={model})" in texts(open_run(writer.store, run="judged"))


def test_a_deleted_run_opens_by_its_id(writer: Writer) -> None:
    run_id = writer.run("gone")
    writer.client.delete_run(run_id)
    app = open_run(writer.store, run=run_id)
    assert not app.exception
    assert "deleted" in texts(app)


def test_hostile_content_is_shown_as_text(writer: Writer) -> None:
    bad = "<script>alert(1)</script>![x](http://evil/x.png) $x$ :red[y]"
    run_id = writer.run(
        bad,
        experiment="<b>bold</b>",
        status="FAILED",
        params={"p": "=1+1", "long": "x" * 6_000},
        metrics={"验证/ppl": [1.0, float("nan"), float("inf")]},
        tags={"mlflow.note.content": bad, "taolu.kind": bad},
    )
    folder = writer.store.run_folder(run_id)
    writer.file(run_id, "traceback.txt", bad)
    writer.file(run_id, "model.pkl", b"\x80\x04cos\nsystem\n.")
    writer.file(run_id, "media/x/00000001.png", "<svg onload='alert(1)'/>")
    for step in (1, 2):
        writer.file(run_id, f"media/x/0000000{step}.json", json.dumps([{"prompt": bad, "text": bad}]))
    (folder / "console.log").symlink_to("/etc/passwd")
    (folder / "media" / "out").symlink_to("/etc")
    for tab in ("images", "console", "files"):
        app = open_run(writer.store, run=run_id, tab=tab)
        assert not app.exception
        assert "](http" not in texts(app).replace(bad, "")  # `bad` itself stands in code blocks only
        assert "root:" not in texts(app)
        assert not [part for part in app.markdown if part.allow_html]


def test_an_unknown_run_in_the_address_is_named(filled_store: Store) -> None:
    app = open_run(filled_store, run="stedy")
    assert "did you mean 'steady'" in app.exception[0].message  # app.py, which is not part of this script, shows it


def test_a_run_is_drawn_in_its_own_colour_with_training_thin(filled_store: Store) -> None:
    app = open_run(filled_store, run="steady")
    charts = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    run_id = app.query_params.get("run")
    lines = [trace for chart in charts for trace in chart["data"]]
    assert run_id is not None
    assert len({line["line"]["color"] for line in lines}) == 1
    assert {line["line"]["width"] for line in lines} == {THIN, THICK}


def test_the_newest_run_that_trained_opens_first(writer: Writer) -> None:
    writer.run("model")
    writer.run("judged", start=9, tags={"taolu.kind": "claim"})
    assert open_run(writer.store).title[0].value == "model"


def test_a_run_names_what_it_uses_and_who_uses_it(writer: Writer) -> None:
    used = writer.run("features")
    user = writer.run("judged", tags={"taolu.uses": f"{used}, {'0' * 32}"})
    assert f"Uses: [features](?run={used}) · [00000000](?run={'0' * 32})" in texts(open_run(writer.store, run=user))
    assert f"Used by: [judged](?run={user})" in texts(open_run(writer.store, run=used))


def test_the_commands_that_repeat_a_run_name_its_store(filled_store: Store) -> None:
    app = open_run(filled_store, run="steady")
    [run_id] = [block.value.split()[2] for block in app.code if block.value.startswith("taolu rerun")]
    assert f"taolu rerun {run_id} --store {filled_store.folder}" in texts(app)
    assert "taolu resume" not in texts(app)  # it kept no state


def test_the_machine_and_its_load_have_a_tab(writer: Writer) -> None:
    run_id = writer.run("busy", metrics={"system/rank0/cpu_percent": [5.0, 9.0], "val/x": [1.0]})
    writer.file(run_id, "env.json", json.dumps({"host": "alpha", "gpus": [], "packages": {"torch": "2.13"}}))
    app = open_run(writer.store, run=run_id, tab="system")
    assert not app.exception
    assert len(app.get("plotly_chart")) == 1
    assert [frame.value.to_numpy().tolist() for frame in app.dataframe] == [
        [["gpus", "[]"], ["host", "alpha"]],
        [["torch", "2.13"]],
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.txt", "plain"),
        ("page.html", "<script>alert(1)</script>"),
        ("model.pkl", "model\\.pkl is not shown"),
        ("broken.npz", "broken\\.npz cannot be read"),
        ("broken.png", "broken\\.png is not shown"),
    ],
)
def test_a_file_is_looked_into_without_being_run(writer: Writer, name: str, shown: str) -> None:
    run_id = writer.run("files")
    contents = {"a.txt": b"plain", "page.html": b"<script>alert(1)</script>", "model.pkl": b"\x80\x04cos\nsystem\n."}
    for each, content in {**contents, "broken.npz": b"PK", "broken.png": b"GIF89a"}.items():
        writer.file(run_id, each, content)
    app = open_run(writer.store, run=run_id, tab="files", file=name)
    assert not app.exception
    assert shown in texts(app)


def test_arrays_are_told_by_shape_and_pictures_are_shown(writer: Writer) -> None:
    run_id = writer.run("files")
    buffer = io.BytesIO()
    np.savez(buffer, z=np.zeros((3, 4)))
    writer.file(run_id, "latent.npz", buffer.getvalue())
    writer.file(run_id, "plot.png", png(1))
    app = open_run(writer.store, run=run_id, tab="files", file="latent.npz")
    assert app.dataframe[1].value.to_numpy().tolist() == [["z", "3 × 4", "float64"]]
    assert len(open_run(writer.store, run=run_id, tab="files", file="plot.png").get("image")) == 1


@pytest.mark.slow  # tests/browser opens them too
def test_hostile_runs_open(writer: Writer) -> None:
    runs = hostile(writer)
    curves = [(run, "curves") for run in ("numbers", "restarted", "dead", "empty")]
    for run, tab in [*curves, *(("script", tab) for tab in TABS), ("files", "files")]:
        app = open_run(writer.store, run=runs[run], tab=tab)
        assert not app.exception, (run, tab, app.exception)
        assert not [part for part in app.markdown if part.allow_html]
