"""What is printed, reported, checked and returned to Python."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import taolu
from experiments.claims import lock
from experiments.claims.record import Settings
from experiments.claims.registry import all_claims
from experiments.claims.runner import run
from experiments.cli import main
from experiments.store.location import Store
from experiments.store.questions import QUESTIONS
from experiments.store.read import find_run
from tests.claims.test_runner import OWN, silent
from tests.conftest import Writer

PLANTED = ["5655-P1", "5655-P2", "5655-P3"]


@pytest.fixture
def measured(store: Store) -> Store:
    """A store with the user's claims in it, one of which raises."""
    run(["9999"], Settings(files=(OWN,)), store, silent)
    return store


def taolu_claims(store: Store, *words: str) -> int:
    return main(["claims", *words, "--store", str(store.folder)])


def test_an_empty_store_lists_every_question_and_claim(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert taolu_claims(store, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["questions"]) == len(QUESTIONS)
    assert {row["verdict"] for row in found["claims"]} == {"not run"}
    assert [row["id"] for row in found["claims"]] == [claim.id for claim in all_claims()]
    assert all(row["answer_zh"].startswith("尚未运行") for row in found["questions"])
    assert taolu_claims(store) == 0
    said = capsys.readouterr().out
    assert f"{len(all_claims())} claims: 0 holds, 0 fails, 0 undetermined, {len(all_claims())} not run" in said
    assert not any(name in said for name in PLANTED)


def test_the_table_shows_the_newest_verdict_of_the_users_claims_too(
    measured: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert taolu_claims(measured, "--import", OWN) == 0
    lines = {words[1]: words for line in capsys.readouterr().out.splitlines() if len(words := line.split()) > 2}
    assert [lines[name][0] for name in ("9999-D1", "9999-D2", "9999-D3")] == ["holds", "undetermined", "fails"]


def test_show_says_all_of_a_claim(measured: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert taolu_claims(measured, "show", "9999-D1", "--import", OWN) == 0
    said = capsys.readouterr().out
    parts = [r"P(6) = \frac{1}{6}", "equals 0.166667 +- 0.02", "a tenth of the share", "own_claim.py:9"]
    parts += ["https://kexue.fm/archives/9999", "share of sixes = 0.16", "n 20000", "seed 0, effort quick"]
    assert [part for part in [*parts, "taolu claims run 9999-D1"] if part not in said] == []
    assert taolu_claims(measured, "show", "5655-P1") == 0


def test_a_mistyped_claim_or_task_is_refused_with_the_closest(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert taolu_claims(store, "show", "5655-S1x") == 2
    assert "did you mean '5655-S1'" in capsys.readouterr().err
    assert taolu_claims(store, "shwo", "5655-S1") == 2
    assert "unknown task 'shwo' (did you mean 'show'?)" in capsys.readouterr().err
    assert main(["claims", "5655"]) == 2
    assert "to do what with? as in: taolu claims run 5655" in capsys.readouterr().err


def test_the_report_is_one_page_without_network_and_markdown(
    measured: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert taolu_claims(measured, "report", "--import", OWN, "--output", str(tmp_path / "out")) == 0
    page, text = ((tmp_path / "out" / f"claims.{kind}").read_text() for kind in ("html", "md"))
    assert re.findall(r"(?:src|@import|<link|<script)", page) == []
    assert "<math" in page
    assert page.count("<svg") == 2  # the one whose probe raised has none
    for drawing in re.findall(r"<svg.*?</svg>", page):
        ET.fromstring(drawing)
    assert 'id="9999-D3"' in page
    assert r"| [9999-D1](https://kexue.fm/archives/9999) | A die shows a six in one throw of six. | $P(6)" in text
    assert taolu_claims(measured, "report", "--output", str(tmp_path / "one.html")) == 0
    assert (tmp_path / "one.md").exists()
    assert taolu_claims(measured, "report", "--output", str(tmp_path / "one.md")) == 2
    assert "a file, but no .html" in capsys.readouterr().err


def test_check_compares_with_the_lock_and_says_what_changed(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock, "LOCK", tmp_path / "claims.lock")
    first, second = (claim.id for claim in all_claims()[:2])
    for name, word in ((first, "holds"), (second, "fails")):
        tags = {"taolu.kind": "claim", "taolu.claim": name, "taolu.verdict": word}
        writer.run(name, experiment="claims", tags=tags)
    assert taolu_claims(writer.store, "check", first, second, "--update") == 0
    assert taolu_claims(writer.store, "check", first, second) == 0
    assert taolu_claims(writer.store, "check") == 1  # the others were not run
    lock.LOCK.write_text(lock.LOCK.read_text().replace(" fails", " holds"))
    capsys.readouterr()
    assert taolu_claims(writer.store, "check", first, second) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].split()[:4] == [second, "holds", "->", "fails"]
    assert said[1] == "1 of 2 claims as in claims.lock; taolu claims run measures anew"


def test_the_lock_names_every_claim_there_is() -> None:
    assert list(lock.read_lock()) == sorted(
        (claim.id for claim in all_claims()), key=lambda name: lock._order((name, ""))
    )


def test_a_line_of_the_lock_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "claims.lock").write_text("# head\n5655-S1 hold\n")
    with pytest.raises(ValueError, match=r"claims\.lock:2: '5655-S1 hold': write CLAIM holds"):
        lock.read_lock(tmp_path / "claims.lock")


def test_python_gets_the_same_tables(measured: Store) -> None:
    place = str(measured.folder)
    found = taolu.claims("9999-D1", run=True, files=[OWN], design={"throws": 30_000}, store=place, say=silent)
    assert (found["verdict"].tolist(), found["n"].tolist()) == (["holds"], [30_000])
    assert set(taolu.claims("5655", store=place)["verdict"]) == {"not run"}


def test_last_passes_over_claims(measured: Store) -> None:
    with pytest.raises(ValueError, match="no run of that kind yet"):
        find_run(measured, "last")
