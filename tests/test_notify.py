"""Messages to a real server on this machine: one that answers, one that is away, one that hangs; and who sends them."""

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
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import taolu
from experiments.cli import main
from experiments.errors import ConfigError
from experiments.notify import Event, Notifier, message, notify
from experiments.run import silent
from experiments.store.heartbeat import TAG, heartbeat
from experiments.store.location import Store
from experiments.store.read import find_run, read_run
from experiments.store.replay import NOTIFIED
from tests.conftest import Writer
from tests.dropout_net import DropoutNet
from tests.processes import start, wait_for

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
    assert notify([server.url], [EVENT]) == [True]
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
    assert notify([f"json://ann:hunter2@127.0.0.1:{port}/hidden"], [EVENT]) == [False]
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


# ---- who sends ------------------------------------------------------------------------------------------------------

NET = f"{Path(__file__).parent / 'dropout_net.py'}:DropoutNet"
ONE_STEP = ["--data.batch_size", "256", "--trainer.max_steps", "1", "--threads", "1"]


def titles(server: Server) -> list[str]:
    return [each["title"] for each in server.received]


def reap(store: Store, *words: str) -> int:
    return main(["runs", "--reap", "--store", str(store.folder), *words])


def gone(*, host: str = socket.gethostname(), seconds: float = 300.0) -> dict[str, str]:
    """The heartbeat of a process that does not exist, so many seconds ago."""
    beat = {**json.loads(heartbeat(3, 9)), "host": host, "pid_start": 0.0}
    return {TAG: json.dumps({**beat, "time": beat["time"] - seconds})}


def test_run_resume_and_rerun_tell_how_they_end_and_keep_no_url(
    server: Server, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["--trainer.max_steps", "2"]
    for words in (["run", NET, "--name", "a", *ONE_STEP], ["resume", "a", *more], ["rerun", "a", "--name", "b"]):
        command = ["taolu", *words, "--store", str(store.folder), "--notify", server.url]
        monkeypatch.setattr(sys, "argv", command)
        assert main(command[1:]) == 0
    assert titles(server) == ["FINISHED a", "FINISHED a", "FINISHED b"]
    files = [path for path in store.folder.rglob("*") if path.is_file() and path.name != "git.patch"]
    assert [path for path in files if b"hunter2" in path.read_bytes() or b"/hidden" in path.read_bytes()] == []
    told = read_run(store, find_run(store, "a")).folder / "command.txt"
    assert told.read_text().count("--notify '***'") == 2


def test_the_python_door_tells_how_runs_end(server: Server, store: Store) -> None:
    given: dict[str, Any] = {"notify": server.url, "store": store.url, "say": silent}
    first = taolu.run(NET, name="a", **{**given, "data.batch_size": 256, "trainer.max_steps": 1})
    taolu.resume(first.run_id, **{**given, "trainer.max_steps": 2})
    taolu.rerun(first.run_id, name="b", **given)
    loader = DataLoader(TensorDataset(torch.rand(8, 64), torch.zeros(8, dtype=torch.long)), batch_size=4)
    fitted = taolu.fit(DropoutNet(), loader, run_name="c", trainer={"max_steps": 1}, **given)
    taolu.fit(DropoutNet(), loader, resume=fitted.run_id, trainer={"max_steps": 2}, **{**given, "notify": [server.url]})
    assert titles(server) == ["FINISHED a", "FINISHED a", "FINISHED b", "FINISHED c", "FINISHED c"]


@pytest.mark.xdist_group("signals")  # the worker whose forkserver has imported everything
def test_a_run_that_was_killed_is_told_once_with_what_is_known_of_it(
    server: Server, store: Store, tmp_path: Path
) -> None:
    diary, net = tmp_path / "diary.txt", Path(__file__).parent / "slow_net.py"
    words = ["run", f"{net}:SlowNet", "--data.batch_size", "256", "--trainer.max_epochs", "40", "--threads", "1"]
    given = ["--name", "a", "--model.diary", str(diary), "--store", str(store.folder)]
    process = start([*words, *given], tmp_path / "output.txt")
    wait_for(diary, "train 1 2")
    process.kill()
    process.join(60)
    assert reap(store, "--notify", server.url) == 0
    assert reap(store, "--notify", server.url) == 0
    (told,) = server.received
    assert told["title"] == "FAILED a"
    facts = told["message"].splitlines()
    assert facts[0] == "experiment slow_net"
    assert facts[1].startswith("val/loss ")
    assert facts[2].startswith("its process is gone; last heartbeat ")
    assert facts[3:] == [f"host {socket.gethostname()}", f"taolu show {find_run(store, 'a')[:8]}"]


def test_a_stale_run_is_told_once_and_again_when_it_has_lived_since(
    server: Server, store: Store, writer: Writer
) -> None:
    run_id = writer.run("a", status="RUNNING", tags={**gone(host="h7"), "taolu.objective": "val/elbo max"})
    for _ in range(2):
        reap(store, "--notify", server.url)
    told = server.received[0]["message"].splitlines()
    assert told == ["experiment vae", "last heartbeat 5 min ago at step 3 of 9", "host h7", f"taolu show {run_id[:8]}"]
    assert titles(server) == ["no sign of life from a"]
    writer.client.set_tag(run_id, TAG, gone(host="h7", seconds=90.0)[TAG])
    reap(store, "--notify", server.url)
    assert titles(server) == ["no sign of life from a"] * 2
    assert read_run(store, run_id).status == "RUNNING"


def test_a_stale_run_that_nobody_was_told_of_is_told_at_the_next_reap(
    server: Server, store: Store, writer: Writer
) -> None:
    writer.run("a", status="RUNNING", tags=gone(host="h7"))
    server.status = 500
    reap(store, "--notify", server.url)
    server.status = 200
    for _ in range(2):
        reap(store, "--notify", server.url)
    assert len(server.received) == 2


def test_a_stale_run_found_dead_at_home_is_told_as_failed(server: Server, store: Store, writer: Writer) -> None:
    beat = gone()
    stale = f"stale {json.loads(beat[TAG])['time']}"  # what another host told
    run_id = writer.run("a", status="RUNNING", tags={**beat, NOTIFIED: stale})
    reap(store, "--notify", server.url)
    assert titles(server) == ["FAILED a"]
    assert read_run(store, run_id).tags[NOTIFIED] == stale.replace("stale", "failed")


def test_the_dashboard_tells_before_it_starts_and_hands_no_url_on(
    server: Server, store: Store, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[str] = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: became.extend(arguments))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.url)  # put back afterwards: the verb sets it
    writer.run("a", status="RUNNING", tags=gone())
    main(["dashboard", "--store", str(store.folder), "--notify", server.url])
    assert titles(server) == ["FAILED a"]
    assert "dashboard" in became
    assert "json://" not in " ".join(became)


def test_a_url_that_reaches_nothing_is_refused_before_any_run_is_marked(
    store: Store, writer: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = writer.run("a", status="RUNNING", tags=gone())
    assert reap(store, "--notify", "nothing://token") == 2
    assert "no service can be reached with this URL" in capsys.readouterr().err
    assert read_run(store, run_id).status == "RUNNING"


def test_notify_without_reap_is_refused(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--notify", "json://localhost", "--store", str(store.folder)]) == 2
    assert capsys.readouterr().err == "taolu: --notify: tells of what --reap finds; add --reap\n"
