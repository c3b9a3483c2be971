"""The queue as a folder: who has an item, and where it goes when its process dies."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

import taolu
from experiments.cli import main
from experiments.errors import ConfigError
from experiments.queue import BUILD_SECONDS, MOST_DEATHS, Taken, add, end_item_of, listed, recover, remove, take
from experiments.run import Label
from experiments.store.heartbeat import TAG, heartbeat
from experiments.store.location import Store
from experiments.store.read import read_run
from tests.conftest import Writer

NET = f"{Path(__file__).parent / 'sweep_net.py'}:SweepNet"
DEAD = (socket.gethostname(), 4_194_303, 1000)  # host, pid and start of a process that is no more
ELSEWHERE = ("elsewhere", 7, 1000)


def queued(store: Store, *words: str) -> int:
    return add(NET, words, store=store, label=Label()).number


def states(store: Store) -> dict[int, str]:
    return {row["number"]: row["state"] for row in listed(store, 20)}


def taken_by(store: Store, owner: tuple[str, int, int], run_id: str | None = None) -> Path:
    """The folder of a process that has the first waiting item."""
    taken = take(store)
    assert taken is not None
    if run_id:
        taken.note(run_id)
    own = taken._path.parent
    return own.rename(own.parent / ".".join(map(str, owner)))


def lost(store: Store, owner: tuple[str, int, int] = DEAD, run_id: str | None = None) -> Taken:
    """What becomes of an item whose process is gone."""
    taken_by(store, owner, run_id)
    recover(store)
    [path] = [path for path in (store.folder / "queue").rglob("*.yaml") if "taken" not in path.parts]
    return Taken(store, path)


def test_items_are_taken_in_the_order_they_were_given_and_only_once(store: Store) -> None:
    assert [queued(store), queued(store), queued(store)] == [1, 2, 3]
    taken = [take(store) for _ in range(4)]
    assert [each.item.number if each else None for each in taken] == [1, 2, 3, None]


def test_what_was_queued_runs_whatever_becomes_of_its_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(f"model: {{class: '{NET}', lr: 0.3}}")
    item = add("mine.yaml", ["--seed", "5"], store=store, label=Label("名字", {"a": "b"}, "α"))
    Path("mine.yaml").write_text("model: vae")
    taken = take(store)
    assert taken is not None
    assert taken.item == item
    config = taken.item.resolved()
    assert (config.name, config.values["model"]["lr"], config.values["seed"]) == ("mine", 0.3, 5)
    assert (item.folder, item.name, item.tags, item.note) == (str(tmp_path), "名字", {"a": "b"}, "α")


def test_a_number_is_not_used_again(store: Store) -> None:
    queued(store)
    assert [item.number for item in remove(store, ["1"])] == [1]
    assert queued(store) == 2


def test_a_secret_is_not_queued(store: Store, tmp_path: Path) -> None:
    net = "from tests.sweep_net import SweepNet\n\n\nclass Keyed(SweepNet):\n"
    net += "    def __init__(self, api_key: str = ''):\n        super().__init__()\n"
    (tmp_path / "keyed.py").write_text(net)
    with pytest.raises(ConfigError, match=r"model.api_key: a secret, which the queue's file would show"):
        add(f"{tmp_path / 'keyed.py'}:Keyed", ["--model.api_key", "hunter2x9"], store=store, label=Label())
    assert states(store) == {}


def test_an_item_put_back_is_first_again(store: Store) -> None:
    queued(store)
    queued(store)
    taken = take(store)
    assert taken is not None
    assert states(store) == {1: "running", 2: "waiting"}
    taken.put_back()
    again = take(store)
    assert again is not None
    assert again.item.number == 1


def test_an_item_of_a_dead_process_waits_again_until_three_have_died(store: Store) -> None:
    queued(store)
    for deaths in range(1, MOST_DEATHS):
        taken_by(store, DEAD)
        assert states(store) == {1: "waiting"}
        assert [item.deaths for item in recover(store)] == [deaths]
    taken_by(store, DEAD)
    assert "died 3 times; try it alone: taolu run " in recover(store)[0].error
    assert states(store) == {1: "failed"}
    assert list((store.folder / "queue" / "taken").iterdir()) == []


def test_the_half_run_of_a_dead_process_is_failed_and_its_item_waits(store: Store, writer: Writer) -> None:
    queued(store)
    beat = json.dumps({**json.loads(heartbeat(3, 9)), "pid": DEAD[1]})
    half = writer.run("half", status="RUNNING", tags={TAG: beat})
    assert lost(store, run_id=half).item.runs == (half,)
    assert states(store) == {1: "waiting"}
    assert read_run(store, half).status == "FAILED"


def test_an_item_whose_run_was_finished_when_its_process_died_is_not_run_again(store: Store, writer: Writer) -> None:
    queued(store)
    lost(store, run_id=writer.run("whole"))
    assert states(store) == {1: "done"}


def test_an_item_whose_run_was_told_to_stop_is_not_run_again(store: Store, writer: Writer) -> None:
    queued(store)
    run_id = writer.run("stopped", status="KILLED")
    taken_by(store, DEAD, run_id)
    assert end_item_of(store, run_id)
    assert [item.error for item in recover(store)] == ["stopped"]
    assert not end_item_of(store, run_id)


@pytest.mark.parametrize(("age", "state"), [(10.0, "running"), (100.0, "waiting")])
def test_a_process_of_another_host_is_dead_when_its_run_is_silent(
    store: Store, writer: Writer, age: float, state: str
) -> None:
    queued(store)
    beat = {"time": time.time() - age, "host": ELSEWHERE[0], "pid": ELSEWHERE[1]}
    taken_by(store, ELSEWHERE, writer.run("far", status="RUNNING", tags={TAG: json.dumps(beat)}))
    recover(store)
    assert states(store) == {1: state}


def test_a_process_of_another_host_has_time_to_begin_its_run(store: Store) -> None:
    queued(store)
    folder = taken_by(store, ELSEWHERE)
    assert recover(store) == []
    os.utime(folder, (0, time.time() - BUILD_SECONDS - 1))
    assert [item.number for item in recover(store)] == [1]


def test_who_was_taken_for_dead_concludes_what_waits_and_leaves_what_another_has(store: Store) -> None:
    queued(store)
    slow = take(store)
    assert slow is not None
    folder = slow._path.parent
    folder.rename(folder.parent / ".".join(map(str, DEAD)))
    recover(store)
    slow.conclude()
    assert states(store) == {1: "done"}
    queued(store)
    slow = take(store)
    assert slow is not None
    slow._path.parent.rename(folder.parent / ".".join(map(str, ELSEWHERE)))
    slow.conclude()
    assert states(store) == {1: "done", 2: "running"}


def test_a_file_that_is_no_item_is_shown_as_such(store: Store) -> None:
    queued(store)
    [path] = (store.folder / "queue" / "waiting").iterdir()
    path.write_text("config: [")
    [row] = listed(store, 20)
    assert "00000001.yaml: no item of a queue" in row["error"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("queue foo", "unknown task 'foo'; allowed: add, ls, rm"),
        ("queue lss", "unknown task 'lss' (did you mean 'ls'?)"),
        ("queue add", "name the experiment first, as in: taolu queue add vae"),
        ("queue add vea", "unknown experiment 'vea' (did you mean 'vae'?)"),
        ("queue add vae --modle.latent_dim 2", "(did you mean '--model.latent_dim'?)"),
        ("queue add vae --data.batch_size 100000", "larger than the 1437 training images"),
        ("queue add vae --trainer.accelerator tpu", "trainer (accelerator tpu"),
        ("queue add vae --limit 3", "--limit: belongs to queue ls, not to queue add"),
        ("queue add vae --notify json://x", "unknown option '--notify'"),
        ("queue add vae --tags foo", "--tags 'foo': write KEY=VALUE"),
        ("queue ls extra", "unexpected 'extra'"),
        ("queue ls --limit 0", "--limit 0: must be a whole number of at least 1"),
        ("queue ls --name x", "--name: belongs to queue add, not to queue ls"),
        ("queue rm", "give at least one item, as in: taolu queue rm 7"),
        ("queue rm x", "item 'x': give the number that taolu queue ls shows"),
        ("queue rm 7", "no item 7 in the queue of "),
        ("worker extra", "unexpected 'extra'"),
        ("worker --workers 0", "--workers 0: must be a whole number of at least 1"),
        ("worker --devices 0,x", "--devices 0,x: must be different numbers with commas between"),
        ("worker --devices 0,0", "--devices 0,0: must be different numbers"),
        ("worker --devices 99", "--devices 99: this machine has "),
        ("worker --devices 0 --workers 2", "--devices and --workers: give one"),
        ("stop", "give one RUN; found nothing"),
        ("stop last", "holds no run yet"),
        ("logs", "give one RUN; found nothing"),
        ("logs last", "holds no run yet"),
        ("logs last --folow", "unknown option '--folow' (did you mean '--follow'?)"),
        ("run vea --background", "unknown experiment 'vea' (did you mean 'vae'?)"),
        ("run --background", "name the experiment first"),
        ("run vea --needed", "unknown experiment 'vea' (did you mean 'vae'?)"),
    ],
)
def test_a_mistake_is_one_line_with_status_2_and_writes_nothing(
    store: Store, line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*line.split(), "--store", str(store.folder)]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert [path.name for path in store.folder.rglob("*") if path.name in ("artifacts", "queue")] == []


def test_the_queue_is_filled_shown_and_emptied_by_the_command(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--store", str(store.folder)]
    assert main(["queue", *where]) == 0
    assert "is empty; fill it: taolu queue add vae" in capsys.readouterr().out
    assert main(["queue", "add", NET, "--model.lr", "0.3", "--name", "x", *where]) == 0
    assert "item 1 waits: " in capsys.readouterr().out
    assert main(["queue", "ls", "--json", *where]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["number"], row["state"], row["run_id"]) == (1, "waiting", None)
    assert row["command"] == f"{NET} --model.lr 0.3"
    assert main(["queue", "ls", *where]) == 0
    assert "1 waiting, 0 running" in capsys.readouterr().out
    taken = take(store)
    assert taken is not None
    assert main(["queue", "rm", "1", *where]) == 2
    assert "item 1 is running; only waiting items are removed" in capsys.readouterr().err
    taken.put_back()
    assert main(["queue", "rm", "1", *where]) == 0
    assert main(["worker", "--once", *where]) == 0
    assert "the queue is empty" in capsys.readouterr().out


def test_python_queues_too(store: Store) -> None:
    good: dict[str, Any] = {"model.lr": 0.3}
    bad: dict[str, Any] = {"model.lrr": 0.3}
    number = taolu.enqueue(NET, name="mine", store=str(store.folder), **good)
    [row] = listed(store, 20)
    assert (row["number"], row["command"]) == (number, f"{NET} --model.lr=0.3")
    with pytest.raises(ConfigError, match=r"did you mean 'model\.lr'"):
        taolu.enqueue(NET, store=str(store.folder), **bad)
