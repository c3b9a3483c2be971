"""Runs told to end from another process: in the background, of another host, ended already."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from experiments.errors import ConfigError
from experiments.stop import stop
from experiments.store.heartbeat import TAG, heartbeat, is_alive, owner
from experiments.store.location import Store
from experiments.store.read import read_run
from tests.conftest import Writer
from tests.processes import start

NET = f"{Path(__file__).parent / 'sweep_net.py'}:SweepNet"


def beat(**changes: object) -> dict[str, str]:
    return {TAG: json.dumps({**json.loads(heartbeat(0, None)), **changes})}


def test_an_ended_run_is_left_as_it_is(store: Store, writer: Writer) -> None:
    run_id = writer.run("done")
    assert stop(store, run_id)[1] == f"run {run_id[:8]} done has ended already: FINISHED"


def test_a_run_of_another_host_is_to_be_stopped_there(store: Store, writer: Writer) -> None:
    run_id = writer.run("far", status="RUNNING", tags=beat(host="elsewhere", pid=7))
    with pytest.raises(ConfigError, match=r"is running on elsewhere \(process 7\); stop it there: taolu stop"):
        stop(store, run_id)


def test_a_run_that_taolu_did_not_start_is_refused(store: Store, writer: Writer) -> None:
    with pytest.raises(ConfigError, match="has no heartbeat: taolu did not start it"):
        stop(store, writer.run("foreign", status="RUNNING"))


def test_a_run_whose_process_is_gone_is_told_apart(store: Store, writer: Writer) -> None:
    run_id = writer.run("dead", status="RUNNING", tags=beat(pid=4_194_303))
    assert "its process is gone; taolu runs --reap marks it FAILED" in stop(store, run_id)[1]


def test_a_process_that_took_the_number_of_a_dead_one_is_not_stopped(store: Store, writer: Writer) -> None:
    run_id = writer.run("dead", status="RUNNING", tags=beat(pid_start=owner()["pid_start"] - 100))
    assert "its process is gone" in stop(store, run_id)[1]


def test_a_process_that_ended_and_nobody_asked_for_is_not_alive() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    own = owner()
    while is_alive({**own, "pid": pid, "pid_start": time.time()}):
        time.sleep(0.01)
    assert os.waitpid(pid, 0) == (pid, 0)


@pytest.mark.xdist_group("signals")
def test_a_run_in_the_background_is_followed_and_stopped(store: Store, tmp_path: Path) -> None:
    where = ["--store", str(store.folder)]
    options = ["--trainer.max_epochs", "2000", "--model.pause", "0.05", "--threads", "1", "--data.batch_size", "512"]
    starting = start(["run", NET, *options, "--background", *where], tmp_path / "started")
    starting.join(120)
    said = (tmp_path / "started").read_text().splitlines()
    assert starting.exitcode == 0, said
    run_id = said[0]
    assert f"taolu: watch it: taolu logs {run_id[:8]} -f   end it: taolu stop {run_id[:8]}" in said
    assert read_run(store, run_id).status == "RUNNING"
    following = start(["logs", run_id, "-f", *where], tmp_path / "followed")
    assert stop(store, run_id)[0].status == "KILLED"
    following.join(60)
    lines = (tmp_path / "followed").read_text().splitlines()
    assert lines[0].startswith(f"run {run_id[:8]} sweep_net-{run_id[:4]}")
    assert lines[-1].startswith(f"KILLED sweep_net-{run_id[:4]} after")
    assert following.exitcode == 0
