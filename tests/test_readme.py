"""What both READMEs promise: same blocks, commands that run, links and pictures that exist."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from experiments.cli import VERBS, main
from experiments.store.location import Store
from experiments.store.read import runs_table
from tests.pages import ROOT, blocks, commands, headings, links, without_language

README, CHINESE = (ROOT / name for name in ("README.md", "README.zh.md"))
PAGES = [README, CHINESE, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "mlruns/README.md"))]
SERVERS = ("dashboard", "ui")  # they do not end by themselves
ELSEWHERE = ("convert", "generate")  # ask for a checkpoint; tests/test_convert.py and tests/test_generate.py run them
TINY = {"limit_train_batches": "2", "limit_val_batches": "1", "quality_every": "1000"}
TINY_WORDS = [word for key, value in TINY.items() for word in (f"--trainer.{key}", value)]


@pytest.fixture
def folder(store: Store, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a store and the README's own files in it."""
    place = store.folder.parent
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    for text in [*blocks(README, "python"), *blocks(README, "yaml")]:
        if named := re.match(r"# (\w+\.\w+)\n", text):
            (place / named[1]).write_text(text, encoding="utf-8")
    return place


@pytest.fixture
def small_run(folder: Path) -> Path:
    """The folder with one finished run in its store, of two steps an epoch."""
    assert main(["run", "vae", "--trainer.max_epochs", "1", *TINY_WORDS]) == 0
    return folder


def test_both_languages_have_the_same_blocks() -> None:
    assert blocks(README) == blocks(CHINESE)


def test_both_languages_have_the_same_sections_links_and_pictures() -> None:
    assert [signs for signs, _ in headings(README)] == [signs for signs, _ in headings(CHINESE)]
    own = {"README.md", "README.zh.md"}
    assert [without_language(x) for x in links(README) if x not in own] == [
        without_language(x) for x in links(CHINESE) if x not in own
    ]


@pytest.mark.parametrize("page", [README, CHINESE], ids=lambda page: page.name)
def test_result_and_the_two_commands_come_first(page: Path) -> None:
    head = page.read_text(encoding="utf-8").splitlines()[:25]
    assert "make demo" in head
    assert "make test" in head
    assert head.index("make demo") > next(i for i, line in enumerate(head) if "docs/pictures/run.png" in line)


def test_every_verb_is_shown_and_every_verb_shown_exists() -> None:
    shown = {words[0] for words in commands(README)}
    shown |= set(re.findall(r"taolu (\w+)", "".join(blocks(README, r"(?:sh|bat)"))))
    shown |= {"demo"} if "make demo" in README.read_text(encoding="utf-8") else set()
    assert shown == set(VERBS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_picture_exists(page: Path) -> None:
    targets = [link.partition("#")[0] for link in links(page)]
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs" / "pictures").glob("*.png"))
    assert pictures
    assert [picture.name for picture in pictures if picture.stat().st_size > 200_000] == []


def test_the_tree_names_what_exists_in_twenty_lines() -> None:
    [tree] = blocks(README, "text")
    assert len(tree.splitlines()) <= 20
    tops = re.findall(r"^(\S+)", tree, flags=re.M)
    under = re.findall(r"^  (\S+)", tree, flags=re.M)
    assert [name for name in tops if not (ROOT / name).exists()] == []
    assert [name for name in under if not any((ROOT / top / name).exists() for top in tops)] == []


@pytest.mark.parametrize("words", [w for w in commands(README) if w[0] == "run"], ids=" ".join)
def test_every_run_command_is_accepted(folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    extra = [] if {"--help", "--print_config"} & set(words) else ["--print_config"]
    assert main([*words, *extra]) == 0
    assert capsys.readouterr().out


def test_the_commands_on_runs_work_in_the_order_they_stand(small_run: Path) -> None:
    others = [words for words in commands(README) if words[0] not in ("run", *SERVERS, *ELSEWHERE)]
    assert {words[0] for words in others} == set(VERBS) - {"run", "demo", *SERVERS, *ELSEWHERE}
    assert [words for words in others if main(words) != 0] == []


def test_the_users_module_runs_is_listed_resumed_and_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "net.py:Net", "--trainer.max_epochs", "1", *TINY_WORDS]) == 0
    assert main(["resume", "last:net", "--trainer.max_epochs", "2"]) == 0
    assert main(["runs"]) == 0
    assert main(["show", "last:net"]) == 0
    assert "val/accuracy" in capsys.readouterr().out


def test_the_python_examples_run(folder: Path, store: Store) -> None:
    for code in blocks(README, "python"):
        if not code.startswith("# net.py"):
            exec(compile(code, "README.md", "exec"), {})
    del sys.modules["net"]  # it lies in this test's folder
    assert sorted(runs_table(store, kinds=("run",))["experiment"]) == ["net", "script", "vae"]
    assert set(runs_table(store)["status"]) == {"FINISHED"}


def test_the_users_module_is_short() -> None:
    [code] = [text for text in blocks(README, "python") if text.startswith("# net.py")]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20


def test_no_page_names_a_place_outside_of_the_repository() -> None:
    for page in [*PAGES, ROOT / "docs" / "pictures.py"]:
        assert not re.search(r"\.\./|/home/|/root/", page.read_text(encoding="utf-8")), page.name
