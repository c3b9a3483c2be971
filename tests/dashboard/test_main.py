from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard.__main__ import check_port, command, environment
from experiments.errors import ConfigError
from experiments.store.location import locate


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that something listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_the_command_shuts_what_streamlit_leaves_open() -> None:
    arguments = command("127.0.0.1", 9000)
    for setting in (
        "server.address=127.0.0.1",
        "server.port=9000",
        "server.headless=true",
        "browser.gatherUsageStats=false",
        "client.showErrorDetails=none",
        "server.maxUploadSize=1",
    ):
        assert f"--{setting}" in arguments
    assert arguments[:4] == [sys.executable, "-m", "streamlit", "run"]
    assert Path(arguments[4]).is_file()


def test_a_password_travels_by_the_environment_alone(tmp_path: Path) -> None:
    store = locate("postgresql://ann:hunter2@db/x", str(tmp_path))
    assert "hunter2" not in " ".join(command())
    assert environment(store)["TAOLU_DASHBOARD_STORE"] == store.url
    assert environment(store)["TAOLU_DASHBOARD_STORE_DIR"] == str(tmp_path)


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
