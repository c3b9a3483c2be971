"""A console log followed while it grows."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from experiments.errors import ConfigError
from experiments.logs import Tail, logs
from experiments.scribe import Cleaner, Copy
from experiments.store.heartbeat import TAG, heartbeat
from experiments.store.location import Store
from experiments.store.write import open_store
from tests.conftest import Writer


def read(tail: Tail, *, whole: bool = False) -> str:
    return "".join(tail.read(whole=whole))


def test_only_complete_lines_are_read_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    tail = Tail(path)
    assert read(tail) == ""
    path.write_text("one\ntw")
    assert [read(tail), read(tail)] == ["one\n", ""]
    path.write_text("one\ntwo 二\nthr")
    assert read(tail) == "two 二\n"
    assert read(tail, whole=True) == "thr"


def test_every_line_that_stays_is_read_once_though_the_middle_of_the_file_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    copy, tail = Copy(str(path), 40_000, Cleaner([])), Tail(path)
    lines = [f"line {number}" for number in range(6000)]
    found = ""
    for start in range(0, 6000, 50):
        copy.add("".join(f"{line}\n" for line in lines[start : start + 50]).encode())
        copy.write([b"begun"])
        found += read(tail)
    assert "bytes left out" in path.read_text()
    assert found.splitlines() == lines


def test_after_a_flood_reading_goes_on_behind_what_was_left_out(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    tail = Tail(path)
    path.write_text("old\n" * 3000)
    read(tail)
    path.write_text("old\n" * 10 + "[... 12345 bytes left out ...]\n" + "new\n" * 3)
    assert read(tail) == "[... 12345 bytes left out ...]\nnew\nnew\nnew\n"


def test_the_log_of_an_ended_run_is_shown_whole(store: Store, writer: Writer) -> None:
    run_id = writer.run("done")
    writer.file(run_id, "console.log", "one\ntwo")
    for follow in (False, True):
        assert "".join(logs(store, run_id, follow=follow)) == "one\ntwo"


def test_a_run_without_a_console_is_refused(store: Store, writer: Writer) -> None:
    run_id = writer.run("claimed", tags={"taolu.kind": "claim"})
    with pytest.raises(ConfigError, match=r"\(kind claim\) kept no console.log in .*; see what it has: taolu show"):
        next(logs(store, run_id))


def test_a_run_whose_process_is_gone_is_not_waited_for(store: Store, writer: Writer) -> None:
    beat = json.dumps({**json.loads(heartbeat(0, None)), "pid": 4_194_303})
    run_id = writer.run("dead", status="RUNNING", tags={TAG: beat})
    writer.file(run_id, "console.log", "one\n")
    assert list(logs(store, run_id, follow=True)) == ["one\n"]


def test_a_log_is_followed_until_its_run_has_ended(store: Store, writer: Writer) -> None:
    run_id = writer.run("going", status="RUNNING", tags={TAG: heartbeat(0, None)})
    assert json.loads(heartbeat(0, None))["host"] == socket.gethostname()

    def train() -> None:
        time.sleep(0.4)
        path = writer.file(run_id, "console.log", "one\n")
        time.sleep(0.4)
        path.write_text("one\ntwo\nend")
        open_store(store).set_terminated(run_id, "FINISHED")

    training = threading.Thread(target=train)
    training.start()
    assert "".join(logs(store, run_id, follow=True)) == "one\ntwo\nend"
    training.join()
