"""Code, packages and machine of a run, and what differs between two."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from experiments import provenance
from experiments.provenance import GitState, code_files, differences, repositories
from experiments.store.files import write_text
from experiments.store.origin import Origin, read_origin


def repository(folder: Path) -> Path:
    """A repository of one commit with one edited file."""
    folder.mkdir(parents=True)
    (folder / "train.py").write_text("x = 1\n")
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@y.z"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    (folder / "train.py").write_text("x = 2\n")
    return folder


def test_untracked_sources_are_kept_and_texts_are_not(tmp_path: Path) -> None:
    project = repository(tmp_path / "project")
    for name in ("new.py", "notes.txt", "README.md", "sub/net.yaml"):
        write_text(project / name, name)
    state = GitState(project)
    assert state.untracked == {"new.py": "new.py", "sub/net.yaml": "sub/net.yaml"}
    assert "+x = 2" in state.patch


def test_what_runs_wrote_is_no_source(tmp_path: Path) -> None:
    project = repository(tmp_path / "project")
    write_text(project / "mlruns" / "artifacts" / "1" / "config.yaml", "seed: 0")
    write_text(project / "mlruns2" / "own.py", "x = 3")
    assert [*GitState(project, project / "mlruns").untracked] == ["mlruns2/own.py"]


def test_what_is_too_much_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "UNTRACKED_FILES", 2)
    monkeypatch.setattr(provenance, "UNTRACKED_TOTAL_BYTES", 10)
    project = repository(tmp_path / "project")
    for name, size in (("a.py", 4), ("b.py", 7), ("c.py", 4), ("d.py", 1)):
        write_text(project / name, "x" * size)
    state = GitState(project)
    assert ([*state.untracked], state.untracked_left_out) == (["a.py", "c.py"], 2)


def test_a_folder_outside_of_any_repository_is_empty(tmp_path: Path) -> None:
    state = GitState(tmp_path)
    assert (state.commit, state.patch, state.untracked, state.untracked_left_out) == ("", "", {}, 0)


def test_each_repository_is_kept_once(tmp_path: Path) -> None:
    one, two = repository(tmp_path / "one"), repository(tmp_path / "two")
    write_text(two / "sub" / "net.py", "y = 1")
    states = repositories([one, tmp_path, two / "sub", two, one], tmp_path / "mlruns")
    assert [Path(state.top).name for state in states] == ["one", "two"]
    assert [*code_files(states)] == ["git.patch", "git-2.patch", "untracked-2/sub/net.py"]


def test_an_origin_is_read_from_a_runs_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "env.json", json.dumps({"threads": 2}))
    for name in ("git-2.patch", "untracked/new.py", "code/net.py", "config.yaml", "params/git.patch"):
        write_text(tmp_path / name, name)
    origin = read_origin(tmp_path)
    assert origin.environment == {"threads": 2}
    assert {*origin.code} == {"git-2.patch", "untracked/new.py", "code/net.py"}
    assert read_origin(tmp_path / "nothing") == Origin({}, {})


def test_differences_are_said_in_a_few_words() -> None:
    first = Origin({"threads": 1, "packages": {"torch": "1.0", "numpy": "2.0"}}, {"code/net.py": "a"})
    second = Origin({"threads": 2, "packages": {"torch": "2.0", "numpy": "2.0"}}, {"git.patch": "b"})
    assert differences(first, second) == [
        "threads 1 -> 2",
        "git.patch changed",
        "code/net.py changed",
        "packages: torch 1.0 -> 2.0",
    ]
    assert differences(first, first) == []
