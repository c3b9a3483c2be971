"""Messages to a real server on this machine: one that answers, one that is away, one that hangs."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from experiments.errors import ConfigError
from experiments.notify import Event, Notifier, message, notify

pytest.importorskip("apprise", reason="the optional extra taolu[notify]")

EVENT = Event("failed", "1a2b3c4d5e6f", "vae-1", "vae", {"val/elbo": -101.25, "val/kl": float("nan")}, "no", "h7")


class Server(HTTPServer):
    """Keeps what it was sent, and answers with `status`."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"json://ann:hunter2@127.0.0.1:{self.server_port}/hidden"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def hanging() -> Iterator[str]:
    """The URL of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield f"json://ann:hunter2@127.0.0.1:{found.getsockname()[1]}/hidden"


def test_a_message_arrives_with_all_that_matters(server: Server) -> None:
    notify([server.url], EVENT)
    assert server.received[0]["title"] == "FAILED vae-1"
    lines = server.received[0]["message"].splitlines()
    assert lines == ["experiment vae", "val/elbo -101.2", "val/kl nan", "no", "host h7", "taolu show 1a2b3c4d"]


def test_secrets_of_an_error_do_not_leave() -> None:
    event = Event("failed", "1a2b3c4d", "vae-1", "vae", detail="cannot reach postgresql://ann:hunter2@db/x")
    assert "hunter2" not in "".join(message(event))


def test_every_url_gets_it_and_a_refusal_is_one_line_without_the_url(server: Server) -> None:
    said: list[str] = []
    server.status = 500
    notifier = Notifier([server.url, server.url], said.append)
    notifier.check()
    notifier.send("title", "body")
    notifier.close()
    assert len(server.received) == 2
    assert said == ["notify: json://*** took no message 'title'; why: apprise -vv -b test URL"] * 2


def test_a_server_that_is_away_is_one_line_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    notify([f"json://ann:hunter2@127.0.0.1:{port}/hidden"], EVENT)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "hunter2" not in err
    assert "hidden" not in err


def test_sending_to_a_server_that_hangs_takes_no_time_and_closing_what_was_asked(hanging: str) -> None:
    said: list[str] = []
    notifier = Notifier([hanging], said.append)
    notifier.check()
    start = time.monotonic()
    notifier.send("title", "body")
    assert time.monotonic() - start < 0.2
    notifier.close(0.3)
    assert 0.2 < time.monotonic() - start < 2
    assert said == ["notify: 1 of the messages got no answer within 0.3 s"]


def test_a_server_that_hangs_does_not_keep_the_process_from_ending(hanging: str) -> None:
    code = """
import sys
from experiments.notify import Notifier
notifier = Notifier(sys.argv[1:])
notifier.check()
notifier.send("title", "body")
notifier.close(0.2)
print("end")
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, hanging], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "end\n"
    assert time.monotonic() - start < 3.5  # apprise alone waits 4 s
    assert done.stderr.count("\n") == 1


def test_no_url_needs_no_library_and_sends_nothing() -> None:
    notifier = Notifier([])
    notifier.check()
    notifier.send("title", "body")
    notifier.close(0)


@pytest.mark.parametrize("url", ["nothing://token", "slack://token", "token", "json://"])
def test_a_url_that_reaches_nothing_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="no service can be reached with this URL") as error:
        Notifier([url]).check()
    assert "token" not in str(error.value)


def test_a_missing_library_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^--notify needs apprise: pip install 'taolu\[notify\]'$"):
        Notifier(["json://localhost"]).check()
