from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.views import runs
from experiments.store.location import Store

APP = Path(runs.__file__).parents[1] / "app.py"


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["app.py"])


def open_app(store: Store, monkeypatch: pytest.MonkeyPatch, **address: str) -> AppTest:
    """The first page, in its frame, after its first run."""
    monkeypatch.setenv("TAOLU_DASHBOARD_STORE", store.url)
    app = AppTest.from_file(str(APP), default_timeout=30)
    app.query_params.update(address)
    return app.run()


def open_page(name: str, store: Store, language: str = "en", **address: str | list[str]) -> AppTest:
    """One page, without its frame, after its first run."""

    def script(name: str, url: str, folder: str, language: str) -> None:
        import importlib
        from pathlib import Path

        from dashboard.words import speaker
        from experiments.store.location import Store

        view = importlib.import_module(f"dashboard.views.{name}")
        view.page(Store(url, Path(folder)), speaker(language), {})

    app = AppTest.from_function(script, default_timeout=30, args=(name, store.url, str(store.folder), language))
    app.query_params.update(address)
    return app.run()


def open_runs(store: Store, language: str = "en", **address: str) -> AppTest:
    """The page Runs after its first run."""
    return open_page("runs", store, language, **address)


def texts(app: AppTest) -> str:
    """Everything the page says in words."""
    parts = [*app.title, *app.caption, *app.code, *app.markdown, *app.info, *app.warning, *app.error, *app.subheader]
    return "\n".join(str(part.value) for part in parts)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_empty_store_names_the_commands_that_fill_it(store: Store, language: str) -> None:
    app = open_runs(store, language)
    assert not app.exception
    assert [block.value for block in app.code] == ["taolu run vae", "taolu demo"]
    page = open_page("run", store)
    assert not page.exception
    assert [block.value for block in page.code] == ["taolu run vae", "taolu demo"]


@pytest.mark.parametrize(("content", "message"), [(b"garbage " * 999, "no SQLite database"), (b"", "No run yet")])
def test_a_store_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    (tmp_path / "mlflow.db").write_bytes(content)
    app = open_app(Store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path), monkeypatch)
    assert not app.exception
    assert message in texts(app).replace("\\", "")


def test_the_pages_load_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys, dashboard.views.run, dashboard.views.runs, dashboard.state, dashboard.__main__\n"
        "print({'torch', 'pytorch_lightning', 'mlflow', 'optuna'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=APP.parents[1])
    assert done.stdout == "set()\n"
