from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dashboard import artifacts
from experiments.store.files import write_text
from tests.conftest import png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder beside a file that is none of its business."""
    write_text(tmp_path / "secret.txt", "secret")
    (tmp_path / "run" / "media" / "samples").mkdir(parents=True)
    return tmp_path / "run"


@pytest.mark.parametrize("name", ["../secret.txt", "link.txt", "none.txt", "media"])
def test_no_text_is_read_outside_the_folder_nor_where_there_is_none(folder: Path, name: str) -> None:
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    assert artifacts.read_tail(folder, name) is None


def test_only_the_end_of_a_long_text_is_read(folder: Path) -> None:
    write_text(folder / "console.log", "x" * 1_000 + "end")
    assert artifacts.read_tail(folder, "console.log", 5) == "xxend"


def test_terminal_codes_and_states_drawn_over_are_left_out(folder: Path) -> None:
    (folder / "console.log").write_bytes(b"0%\r50%\r100%\r\n\x1b[1;32mgreen\x1b[0m \x07\xff\n")
    assert artifacts.read_tail(folder, "console.log") == "100%\ngreen \ufffd"


def test_pictures_are_found_by_name_and_step(folder: Path) -> None:
    for name in (
        "samples/00000050.png",
        "samples/00000000.png",
        "samples/x.png",
        "samples/00000001.svg",
        "00000002.png",
    ):
        write_text(folder / "media" / name, "")
    found = {0: "media/samples/00000000.png", 50: "media/samples/00000050.png"}
    assert artifacts.media(folder) == {"samples": found}


def test_texts_are_prompts_with_what_became_of_them(folder: Path) -> None:
    write_text(folder / "media" / "samples" / "00000007.json", '[{"prompt": "双十", "text": "一。\\n"}]')
    write_text(folder / "media" / "samples" / "00000009.json", '{"prompt": 1}')
    assert artifacts.media(folder, ".json") == {
        "samples": {7: "media/samples/00000007.json", 9: "media/samples/00000009.json"}
    }
    assert artifacts.read_texts(folder, "media/samples/00000007.json") == [("双十", "一。\n")]
    assert artifacts.read_texts(folder, "media/samples/00000009.json") == []
    assert artifacts.read_texts(folder, "../secret.txt") == []


def test_a_small_picture_is_enlarged_by_a_whole_factor(folder: Path) -> None:
    (folder / "a.png").write_bytes(png(0))
    image = artifacts.read_image(folder, "a.png")
    assert image is not None
    assert image.size == (480, 480)


@pytest.mark.parametrize(
    "content", [b"", b"<svg onload='alert(1)'/>", b"\x80\x04K\x01.", png(0)[:60], b"GIF89a" + b"\0" * 40]
)
def test_what_is_no_whole_png_is_not_shown(folder: Path, content: bytes) -> None:
    (folder / "a.png").write_bytes(content)
    assert artifacts.read_image(folder, "a.png") is None


def test_a_file_of_a_gigabyte_is_not_loaded(folder: Path) -> None:
    with (folder / "a.png").open("wb") as file:
        file.write(png(0))
        file.truncate(1 << 30)
    assert artifacts.read_image(folder, "a.png") is None


def test_a_picture_outside_the_folder_is_not_shown(folder: Path) -> None:
    (folder.parent / "b.png").write_bytes(png(0))
    (folder / "link.png").symlink_to(folder.parent / "b.png")
    assert artifacts.read_image(folder, "link.png") is None
    assert artifacts.read_image(folder, "../b.png") is None


def test_files_are_listed_with_sizes_and_links_outside_are_not(folder: Path) -> None:
    write_text(folder / "a.txt", "123")
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    assert artifacts.file_table(folder).to_dict("list") == {"file": ["a.txt"], "size": [3]}


def test_arrays_are_read_by_name(folder: Path) -> None:
    np.savez(folder / "paths.npz", t=np.arange(3))
    arrays = artifacts.read_arrays(folder, "paths.npz")
    assert arrays is not None
    assert {name: array.tolist() for name, array in arrays.items()} == {"t": [0, 1, 2]}


def test_arrays_that_are_missing_broken_large_or_objects_are_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 not really")
    np.savez(folder / "objects.npz", a=np.array([print]))
    np.savez_compressed(folder / "large.npz", a=np.zeros(300_000))
    monkeypatch.setattr(artifacts, "LARGEST_ARRAYS_MB", 2)
    for name in ("none.npz", "broken.npz", "objects.npz", "large.npz", "../secret.txt"):
        assert artifacts.read_arrays(folder, name) is None
