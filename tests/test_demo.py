"""The demo's drawing and one run of it."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import demo
from experiments.cli import main
from experiments.demo import Line, draw
from experiments.store.location import Store


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


def test_the_line_of_paths_counts_cells_and_draws_them(store: Store) -> None:
    line = demo.FAMILIES["paths"](store, False, False)
    assert line.number == "43% reach the global minimum; beta 0: 0%"
    assert line.verdict.startswith("holds")
    assert [len(row) for row in line.drawing] == [48] * 12 + [0]
    assert set("".join(line.drawing)) == {"@", ":"}
    assert set(line.drawing[11]) == {":"}  # beta 0, the lowest row


def test_the_line_of_claims_counts_verdicts(store: Store) -> None:
    line = demo.FAMILIES["claims"](store, False, False)
    assert line.what == "12 claims of the articles"
    assert line.number == "9 hold, 3 fail as written"
    assert line.verdict == "holds: verdicts as committed"
