from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboard.views import runs
from experiments.store.location import Store
from tests.conftest import Writer, png
from tests.dashboard.test_charts import paths

APP = Path(runs.__file__).parents[1] / "app.py"
TABS = ("Curves", "Config", "Images", "Console", "Files")


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["app.py"])


def open_runs(store: Store, monkeypatch: pytest.MonkeyPatch, **address: str) -> AppTest:
    """The page Runs after its first run."""
    monkeypatch.setenv("TAOLU_DASHBOARD_STORE", store.url)
    app = AppTest.from_file(str(APP), default_timeout=30)
    app.query_params.update(address)
    return app.run()


def open_run(store: Store, **address: str) -> AppTest:
    """The page Run after its first run."""

    def script(url: str, folder: str) -> None:
        from pathlib import Path

        from dashboard.views import run
        from dashboard.words import speaker
        from experiments.store.location import Store

        run.page(Store(url, Path(folder)), speaker("en"))

    app = AppTest.from_function(script, default_timeout=30, args=(store.url, str(store.folder)))
    app.query_params.update(address)
    return app.run()


def texts(app: AppTest) -> str:
    """Everything the page says in words."""
    parts = [*app.title, *app.caption, *app.code, *app.markdown, *app.info, *app.warning, *app.error, *app.subheader]
    return "\n".join(str(part.value) for part in parts)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_empty_store_names_the_commands_that_fill_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    app = open_runs(store, monkeypatch, lang=language)
    assert not app.exception
    assert [block.value for block in app.code] == ["taolu run vae", "taolu demo"]
    page = open_run(store)
    assert not page.exception
    assert [block.value for block in page.code] == ["taolu run vae", "taolu demo"]


def test_the_table_shows_runs_newest_first_with_what_varies(
    filled_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_runs(filled_store, monkeypatch)
    assert not app.exception
    table = app.dataframe[0].value
    assert table["name"].tolist() == ["going", "broken", "steady"]
    assert {"params.model.latent_dim", "params.optimizer.lr", "metrics.val/elbo"} <= set(table.columns)
    assert "Runs: 3 · 1 running · 1 failed" in texts(app)


def test_a_copied_address_restores_the_filters(filled_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_runs(filled_store, monkeypatch, q="steady")
    assert app.dataframe[0].value["name"].tolist() == ["steady"]
    assert "1 of 3 runs" in texts(app)


def test_filters_that_fit_no_run_say_so(filled_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_runs(filled_store, monkeypatch, q="nowhere", lang="zh")
    assert not app.exception
    assert app.info[0].value == "没有符合筛选条件的运行。"


@pytest.mark.parametrize(
    ("name", "tab"), [*(("steady", tab) for tab in TABS), ("going", "Curves"), ("going", "Config"), ("broken", "Files")]
)
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
    assert "latent_dim: 8" in texts(open_run(filled_store, run="steady", tab="Config"))
    assert "epoch 0 done\nfinished" in texts(open_run(filled_store, run="steady", tab="Console"))


def test_a_run_that_recorded_paths_has_a_tab_for_them(writer: Writer) -> None:
    run_id, other = writer.run("walk"), writer.run("other")
    buffer = io.BytesIO()
    np.savez(buffer, **paths(2))  # type: ignore[arg-type]
    writer.file(run_id, "paths.npz", buffer.getvalue())
    app = open_run(writer.store, run="walk", tab="Paths")
    assert not app.exception
    assert len(app.get("plotly_chart")) == 2
    assert "Blue cells end in the basin of the global minimum" in texts(app)
    assert [tab.label for tab in app.tabs] == [*TABS[:3], "Paths", *TABS[3:]]
    assert [tab.label for tab in open_run(writer.store, run=other).tabs] == [*TABS]


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
        app = open_run(writer.store, run=name, tab="Paths")
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
    app = open_run(writer.store, run=model, tab="Config")
    assert not app.exception
    links = " · ".join(f"[f{i}](?run={forks[i]}&tab=Config) (step 7)" for i in (5, 4, 3, 2))
    assert f"Forks: {links} · 2 more" in texts(app)
    assert f"Evaluations: [judged](?run={judged}&tab=Config)" in texts(app)
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
    for tab in TABS:
        app = open_run(writer.store, run=run_id, tab=tab)
        assert not app.exception
        assert "](http" not in texts(app).replace(bad, "")  # `bad` itself stands in code blocks only
        assert "root:" not in texts(app)
        assert not [part for part in app.markdown if part.allow_html]


@pytest.mark.parametrize(("content", "message"), [(b"garbage " * 999, "no SQLite database"), (b"", "No run yet")])
def test_a_store_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    (tmp_path / "mlflow.db").write_bytes(content)
    app = open_runs(Store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path), monkeypatch)
    assert not app.exception
    assert message in texts(app).replace("\\", "")


def test_an_unknown_run_in_the_address_is_named(filled_store: Store) -> None:
    app = open_run(filled_store, run="stedy")
    assert "did you mean 'steady'" in app.exception[0].message  # app.py, which is not part of this script, shows it


def test_filters_select_by_experiment_status_and_words() -> None:
    columns = ["run_id", "name", "experiment", "status", "note", "params.lr", "tags.t"]
    rows = [["1", "a", "vae", "FINISHED", "", "0.1", None], ["2", "b", "gan", "FAILED", "[odd]", None, "x"]]
    table = pd.DataFrame(rows, columns=columns)
    assert runs.select(table, [], [], "").equals(table)
    assert runs.select(table, ["vae"], [], "")["run_id"].tolist() == ["1"]
    assert runs.select(table, [], ["FAILED"], "")["run_id"].tolist() == ["2"]
    assert runs.select(table, [], [], "GAN [odd")["run_id"].tolist() == ["2"]
    assert runs.select(table, ["vae"], [], "odd").empty


def test_validation_stands_before_training_and_the_clock_last() -> None:
    names = [f"metrics.{name}" for name in ("time/x", "train/a", "other", "val/b", "system/y")]
    table = pd.DataFrame([[1.0] * 5 + [float("nan")]], columns=[*names, "metrics.none"])
    ordered = [name.removeprefix("metrics.") for name in runs.metric_columns(table)]
    assert ordered == ["val/b", "train/a", "other", "system/y", "time/x"]


def test_the_pages_load_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys, dashboard.views.run, dashboard.views.runs, dashboard.state, dashboard.__main__\n"
        "print({'torch', 'pytorch_lightning', 'mlflow', 'optuna'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=APP.parents[1])
    assert done.stdout == "set()\n"
