from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.errors import ConfigError
from experiments.store.files import inside, list_files, write_text


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "a.txt", "套路")
    write_text(tmp_path / "deep" / "a.txt", "second")
    assert (tmp_path / "deep" / "a.txt").read_text() == "second"
    assert list_files(tmp_path) == ["deep/a.txt"]


def test_an_error_in_the_block_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "first")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "half \ud800")
    assert (tmp_path / "a.txt").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_process_killed_in_the_block_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "first")
    code = (
        "import os, sys; from pathlib import Path; from experiments.store.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as part:\n"
        "    part.write_text('half'); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.txt")], check=False, cwd=Path(__file__).parents[2]
    )
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "a.txt").read_text() == "first"
    assert list_files(tmp_path) == ["a.txt"]  # the unfinished file is not listed


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "/etc/passwd", "link", "folder/secret"])
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    write_text(tmp_path / "secret", "x")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="lies outside"):
        inside(root, name)


def test_a_name_inside_is_resolved(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/../b.txt") == tmp_path.resolve() / "b.txt"


def test_links_that_lead_outside_are_not_listed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_text(root / "a.txt", "x")
    write_text(tmp_path / "secret", "x")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "loop").symlink_to(root / "loop")
    assert list_files(root) == ["a.txt"]


def test_a_folder_that_does_not_exist_holds_no_file(tmp_path: Path) -> None:
    assert list_files(tmp_path / "none") == []
