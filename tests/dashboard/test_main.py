from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard.__main__ import address, check_port, environment
from dashboard.state import ALLOWED, STORE, STORE_DIR, allows
from experiments.errors import ConfigError
from experiments.store.location import locate


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that something listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_the_pages_learn_by_the_environment_what_no_other_user_may_see(tmp_path: Path) -> None:
    store = locate("postgresql://ann:hunter2@db/x", str(tmp_path))
    told = {STORE: store.url, STORE_DIR: str(tmp_path), ALLOWED: "edit"}
    assert environment(store, ["edit"]) == told


def test_what_visitors_may_do_is_allowed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOWED, raising=False)
    assert (allows("launch"), allows("edit")) == (False, False)
    monkeypatch.setenv(ALLOWED, "edit")
    assert (allows("launch"), allows("edit")) == (False, True)


def test_the_printed_address_can_be_opened() -> None:
    assert address("127.0.0.1", 8501, None) == "http://127.0.0.1:8501"
    assert address("0.0.0.0", 80, "k") == f"http://{socket.gethostname()}:80/?token=k"


def test_a_port_in_use_is_refused_with_the_next_free_one(taken: int) -> None:
    with pytest.raises(ConfigError, match=rf"--port {taken}: in use on 127.0.0.1, .*; the next free one: --port \d+"):
        check_port("127.0.0.1", taken)


@pytest.mark.parametrize("port", [0, 65_536])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(ConfigError, match="must lie in 1 to 65535"):
        check_port("127.0.0.1", port)


def test_a_refusal_is_one_line_and_exit_status_two(taken: int, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "dashboard", "--store", str(tmp_path), "--port", str(taken)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
