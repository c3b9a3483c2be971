"""The demo's drawing and one run of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sized
from pathlib import Path

import numpy as np
import pytest

from dashboard import app
from experiments import demo, mine_lexicon
from experiments.cli import main
from experiments.config import resolve
from experiments.demo import Line, draw
from experiments.label import Label
from experiments.mine import Request, mine
from experiments.run import run
from experiments.store.location import Store, locate
from experiments.words import ENGLISH
from tests.dashboard.test_pages import no_arguments, open_page

__all__ = ["no_arguments"]  # a fixture
PAGES = {name for section in app.PAGES.values() for name in section}
pytestmark = pytest.mark.xdist_group("demo")  # one filled store for all


def test_a_picture_is_drawn_with_ink_in_proportion() -> None:
    image = np.array([[0, 255], [128, 0]], dtype=np.uint8)
    assert draw([image], 1, colours=False) == ["  @@", "++", ""]


def test_pictures_stand_beside_each_other_and_below() -> None:
    image = np.full((2, 2), 255, dtype=np.uint8)
    assert draw([image] * 3, 2, colours=False) == ["@@@@  @@@@", "@@@@  @@@@", "", "@@@@", "@@@@", ""]


def test_colours_show_two_rows_of_pixels_in_one_of_text() -> None:
    rows = draw([np.zeros((3, 2), dtype=np.uint8)], 1, colours=True)
    assert len(rows) == 3
    assert rows[0].startswith("\x1b[38;5;232;48;5;232m▀")
    assert rows[0].endswith("\x1b[0m")


def test_every_family_says_one_line_and_the_last_lines_say_what_next(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "FAMILIES", {"quick": lambda *given: Line("what", "1", "holds", 0.1)})
    assert main(["demo", "--store", str(store.folder), "--json"]) == 0
    said = capsys.readouterr()
    assert said.out == '[{"what": "what", "number": "1", "verdict": "holds", "seconds": 0.1}]\n'
    assert main(["demo", "--store", str(store.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(store.label)
    assert lines[1].split() == ["what", "1", "holds", "0.1", "s"]
    assert ["taolu dashboard" in lines[2], *(line.split("taolu ")[1] for line in lines[3:])] == [
        True,
        "run vae --model.latent_dim 16",
        "runs",
        "show last",
    ]


@pytest.fixture(scope="module")
def demonstrated(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Line]]:
    """A store filled by the quick families of the demo, the long ones replaced by a run of each kind they make."""
    folder = tmp_path_factory.mktemp("demonstrated")
    shutil.copy(template_database, folder / "mlflow.db")
    store = locate(str(folder))
    lines = {name: demo.FAMILIES[name](store, False, False, ENGLISH) for name in ("paths", "sweep", "claims")}
    overrides = {"trainer.max_epochs": 1, "threads": 1}
    assert run(resolve("vae", overrides=overrides), store=store, label=Label()).status == "FINISHED"
    (folder / "shop.basket").write_text("tea,milk\ntea,milk,jam\njam\n" * 9, encoding="utf-8")
    mine(Request(str(folder / "shop.basket")), store=store, label=Label(), say=lambda line: None)
    (folder / "text.txt").write_text("大学生在北京，北京的大学。" * 30, encoding="utf-8")
    words = mine_lexicon.Request((str(folder / "text.txt"),))
    mine_lexicon.mine(words, store=store, label=Label(), say=lambda line: None)
    return store, lines


def shows(store: Store, page: str) -> bool:
    """Whether a page has a chart, a table, an image or a figure to show, and no traceback."""
    opened = open_page(page, store)
    parts: tuple[Sized, ...] = (opened.get("plotly_chart"), opened.dataframe, opened.get("image"), opened.metric)
    return not opened.exception and any(map(len, parts))


@pytest.mark.parametrize("page", sorted(PAGES - {"launch"}))  # Launch shows a form
@pytest.mark.usefixtures("no_arguments")
def test_every_page_shows_something_after_the_demo(demonstrated: tuple[Store, dict[str, Line]], page: str) -> None:
    store, _ = demonstrated
    assert shows(store, page)


@pytest.mark.usefixtures("no_arguments")
def test_the_demos_sweep_is_a_map_with_its_law(demonstrated: tuple[Store, dict[str, Line]]) -> None:
    store, lines = demonstrated
    opened = open_page("sweeps", store, tab="grid")
    assert not opened.exception
    assert len(opened.get("plotly_chart")) == 2
    assert any("a + b = 0" in caption.value.replace("\\", "") for caption in opened.caption)
    assert lines["sweep"].what == "Sweep, 9 runs over lr and batch size B"
    assert lines["sweep"].number == "loss within 2.2% at equal lr / B, else 4.7x"
    assert lines["sweep"].verdict.startswith("holds")


@pytest.mark.slow
@pytest.mark.usefixtures("no_arguments")
def test_the_whole_demo_takes_at_most_150_processor_seconds_and_fills_every_page(store: Store) -> None:
    before = sum(os.times()[:4])
    lines = demo.demo(store, lambda line: None)
    assert sum(os.times()[:4]) - before <= 150
    assert [line.verdict.split(":")[0] for line in lines] == ["holds"] * len(demo.FAMILIES)
    assert [page for page in sorted(PAGES - {"launch"}) if not shows(store, page)] == []


def test_the_line_of_paths_counts_cells_and_draws_them(demonstrated: tuple[Store, dict[str, Line]]) -> None:
    line = demonstrated[1]["paths"]
    assert line.number == "43% reach the global minimum; beta 0: 0%"
    assert line.verdict.startswith("holds")
    assert [len(row) for row in line.drawing] == [48] * 12 + [0]
    assert set("".join(line.drawing)) == {"@", ":"}
    assert set(line.drawing[11]) == {":"}  # beta 0, the lowest row


def test_the_line_of_claims_counts_verdicts(demonstrated: tuple[Store, dict[str, Line]]) -> None:
    line = demonstrated[1]["claims"]
    assert line.what == "12 claims of the articles"
    assert line.number == "9 hold, 3 fail as written"
    assert line.verdict == "holds: verdicts as committed"
