from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.store.configs import LARGEST_CONFIG_BYTES, config_now
from experiments.store.files import write_text
from experiments.store.origin import LARGEST_BYTES, read_environment, read_origin

PARAMS = {"optimizer.lr": "0.1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder beside a file that is none of its business."""
    write_text(tmp_path / "secret", "password: x")
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_a_config_is_that_of_the_last_session(folder: Path) -> None:
    for lr in (0.2, 0.3):
        write_text(folder / "config.yaml", f"name: a\noptimizer:\n  class: torch.SGD\n  lr: {lr}\n")
        assert config_now(folder, PARAMS) == {"optimizer": "torch.SGD", "optimizer.lr": str(lr)}


@pytest.mark.parametrize("text", ["- a\n- b", "a: [", "[" * 3_000, "#" * (LARGEST_CONFIG_BYTES + 1)])
def test_parameters_stand_in_for_a_config_that_cannot_be_read(folder: Path, text: str) -> None:
    write_text(folder / "config.yaml", text)
    assert config_now(folder, PARAMS) == PARAMS


def test_nothing_is_read_through_a_link_that_leads_out(folder: Path) -> None:
    for name in ("config.yaml", "env.json", "git.patch"):
        (folder / name).symlink_to(folder.parent / "secret")
    assert config_now(folder, PARAMS) == PARAMS
    assert read_origin(folder).code == {}
    assert read_environment(folder) == {}


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000])
def test_a_broken_environment_is_an_empty_one(folder: Path, text: str) -> None:
    write_text(folder / "env.json", text)
    assert read_environment(folder) == {}


def test_of_a_patch_too_large_to_read_the_size_is_kept(folder: Path) -> None:
    write_text(folder / "env.json", json.dumps({"host": "alpha"}))
    with (folder / "git.patch").open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    found = read_origin(folder)
    assert (found.environment, found.code) == ({"host": "alpha"}, {"git.patch": f"{LARGEST_BYTES + 1} bytes"})
