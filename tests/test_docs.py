"""What docs/ promises: a page an article in both languages, tables of committed figures, commands that are accepted."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from experiments.claims.lock import read_lock
from experiments.claims.registry import ARTICLES, all_claims, chosen
from experiments.cli import VERBS, main
from experiments.cli.options import take
from experiments.design import sweep_names
from experiments.errors import ConfigError
from experiments.store.location import Store
from tests.pages import ROOT, blocks, commands, headings, links, without_language

DOCS = ROOT / "docs"
ENGLISH = sorted(path for path in DOCS.glob("*.md") if not path.name.endswith(".zh.md"))
CHINESE = [path.with_suffix(".zh.md") for path in ENGLISH]
PAIRS = list(zip(ENGLISH, CHINESE, strict=True))
CLAIM = r"[AEGLMPSV]\d+(?:\.\d+)?c?"
MARKED = [ROOT / "README.md", ROOT / "README.zh.md", *ENGLISH, *CHINESE]


def in_tables(page: Path) -> list[list[str]]:
    """The words after `taolu` of every command in the page's tables."""
    return [shlex.split(text) for text in re.findall(r"\| `taolu ([^`]*)` \|", page.read_text(encoding="utf-8"))]


ASKED = sorted(
    {shlex.join(words) for page in ENGLISH for words in commands(page)}
    | {shlex.join(words) for words in in_tables(ROOT / "README.md")}
)


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that makes the tables."""
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("tables")


@pytest.fixture
def place(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store in the working directory."""
    monkeypatch.chdir(store.folder.parent)
    return store


def test_every_article_has_a_page_in_both_languages() -> None:
    assert {path.stem for path in ENGLISH} >= {"README", *map(str, ARTICLES)}
    assert sorted(DOCS.glob("*.md")) == sorted([*ENGLISH, *CHINESE])


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=[path.stem for path in ENGLISH])
def test_both_languages_have_the_same_commands_formulas_headings_and_links(english: Path, chinese: Path) -> None:
    assert blocks(english) == blocks(chinese)
    formulas = [re.findall(r"^\$\$\n.*?^\$\$$", page.read_text("utf-8"), re.M | re.S) for page in (english, chinese)]
    assert formulas[0] == formulas[1]
    assert [signs for signs, _ in headings(english)] == [signs for signs, _ in headings(chinese)]
    found = [sorted({without_language(link) for link in links(page)} - {english.name}) for page in (english, chinese)]
    assert found[0] == found[1]


@pytest.mark.parametrize("page", [*ENGLISH, *CHINESE], ids=lambda page: page.name)
def test_every_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        if "://" not in link:
            assert (page.parent / name).exists(), link
            assert not anchor or anchor in {text.lower().replace(" ", "-") for _, text in headings(page.parent / name)}


@pytest.mark.parametrize("page", MARKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_are_those_of_the_committed_figures(page: Path, tables: ModuleType) -> None:
    text = page.read_text(encoding="utf-8")
    assert tables.filled(text, page) == text, "edited by hand, or out of date: make tables"


def test_a_table_that_does_not_exist_is_refused_by_its_name(tables: ModuleType) -> None:
    with pytest.raises(ConfigError, match="<!-- nothing -->"):
        tables.filled("<!-- nothing -->\n<!-- nothing -->\n", DOCS / "README.md")
    with pytest.raises(ConfigError, match="stand twice"):
        tables.filled("<!-- claims -->\n", DOCS / "README.md")


def test_figures_are_taken_only_from_a_store_that_has_them(
    place: Store, tables: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tables.CLAIMS.read_bytes()
    assert tables.main(["--claims", str(place.folder)]) == 2
    assert f"{len(all_claims())} claims not run" in capsys.readouterr().err
    assert tables.CLAIMS.read_bytes() == before


def test_committed_figures_are_of_the_claims_as_they_are(tables: ModuleType) -> None:
    measured = json.loads(tables.CLAIMS.read_text(encoding="utf-8"))["claims"]
    assert {name: row["verdict"] for name, row in measured.items()} == read_lock()
    asked = {claim.id: (claim.rule, claim.expected, claim.tolerance) for claim in all_claims()}
    assert {name: (row["rule"], row["expected"], row["tolerance"]) for name, row in measured.items()} == asked


@pytest.mark.parametrize("article", ARTICLES)
def test_every_claim_stands_once_on_its_articles_page(article: int) -> None:
    text = (DOCS / f"{article}.md").read_text(encoding="utf-8")
    rows = re.findall(rf"^\| ({CLAIM}) \|", text, flags=re.M)
    assert sorted(rows) == sorted(claim.id.partition("-")[2] for claim in all_claims() if claim.article == article)


@pytest.mark.parametrize("article", ARTICLES)
def test_both_languages_speak_of_the_same_claims_all_of_them_on_the_page(article: int) -> None:
    english, chinese = ((DOCS / f"{article}{ending}").read_text(encoding="utf-8") for ending in (".md", ".zh.md"))
    named = [
        set(re.findall(rf"(?<![\w{{]){CLAIM}", re.sub(r"^[|>].*$", "", text, flags=re.M)))
        for text in (english, chinese)
    ]
    assert named[0] == named[1]
    rows = "".join(f"{row}\n" for row in re.findall(rf"^\| ({CLAIM}) \|", english, flags=re.M))
    assert [name for name in named[0] if not re.search(rf"^{name}(\.|c?$)", rows, flags=re.M)] == []


@pytest.mark.parametrize("command", ASKED)
def test_every_command_is_accepted(command: str, place: Store, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)
    found, rest = take(words[1:], VERBS[words[0]])
    if words[0] == "run":
        assert main([*words, "--print_config"]) == 0
    elif command.startswith("claims show"):
        assert main(words) == 0
    elif words[0] == "claims":
        assert rest[0] in ("run", "check")
        assert chosen(rest[1:], all_claims())
    elif "dry_run" in found:  # tests/test_design.py builds every cell of the sweeps that come along
        assert rest[0] in sweep_names()
    assert not (place.folder / "artifacts").exists()
