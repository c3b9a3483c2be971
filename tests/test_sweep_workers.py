"""Workers of several machines on one study, with a real PostgreSQL: killed, told to end, cut off."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from experiments.carried import carried, unpacked
from experiments.errors import ConfigError
from experiments.store.location import Store, locate
from experiments.store.outage import patiently
from experiments.store.read import runs_table
from experiments.store.studies import StudyRecord, TrialRecord, find_study, latest
from tests.postgres import Server, free_port, served
from tests.processes import start

HERE = Path(__file__).parent
NET = f"{HERE / 'sweep_net.py'}:SweepNet"
pytestmark = pytest.mark.xdist_group("processes")


class Study:
    """A study on a server, begun without workers; every crew that joins has a folder of its own, as a machine has."""

    def __init__(self, server: Server, folder: Path, points: int, *options: str) -> None:
        self.folder, self.crews = folder, list[BaseProcess]()
        self.server, self.store = server, locate(server.url, str(folder / "begun"))
        rates = ",".join(str(round(0.01 * (i + 1), 2)) for i in range(points))
        words = ["--data.batch_size", "512", "--grid", f"model.lr={rates}", *options, "--workers", "0", "--name", "far"]
        where = ["--store", server.url, "--store_dir", str(folder / "begun")]
        begun = start(["sweep", NET, *words, *where], folder / "begun.txt")
        begun.join(200)
        assert begun.exitcode == 0, (folder / "begun.txt").read_text()
        assert self.status() == "SCHEDULED"

    def join(self, *options: str, url: str = "") -> BaseProcess:
        """A crew more."""
        name = f"crew{len(self.crews)}"
        where = ["--store", url or self.server.url, "--store_dir", str(self.folder / name)]
        self.crews.append(start(["sweep", "worker", "far", *options, *where], self.folder / f"{name}.txt"))
        return self.crews[-1]

    def now(self) -> StudyRecord:
        return patiently(lambda: find_study(self.store, "far"))

    def done(self) -> int:
        return sum(trial.is_result for trial in latest(self.now().trials))

    def running(self) -> list[TrialRecord]:
        return self.now().at_work

    def status(self) -> str:
        table = runs_table(self.store, kinds=("sweep",))
        return str(table[table["tags.taolu.study"] == "far"]["status"].iloc[0])

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *error: object) -> None:
        for crew in self.crews:
            crew.kill()
            crew.join()

    def said(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.txt")))

    def check(self, points: int) -> None:
        """All results there, none twice, nothing left behind."""
        study = self.now()
        heads = latest(study.trials)
        assert [trial.state for trial in heads] == ["COMPLETE"] * points, self.said()
        assert len({trial.params["model.lr"] for trial in heads}) == points
        assert sum(trial.state == "COMPLETE" for trial in study.trials) == points
        assert {trial.state for trial in study.trials} <= {"COMPLETE", "FAIL"}
        assert self.status() == "FINISHED"
        runs = runs_table(self.store, kinds=("trial",)).set_index("run_id")
        assert "RUNNING" not in set(runs["status"])
        assert [len(trial.run_ids) for trial in heads] == [1] * points
        assert {runs.loc[trial.run_ids[0], "status"] for trial in heads} == {"FINISHED"}
        assert {runs.loc[trial.run_ids[0], "tags.taolu.trial"] for trial in heads} == {str(t.number) for t in heads}


def until(what: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What is found as soon as something is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.1)
    raise TimeoutError


def test_twelve_trials_by_workers_that_are_killed_on_a_server_that_restarts(tmp_path: Path) -> None:
    with served() as server, Study(server, tmp_path, 12, "--trainer.max_epochs", "2", "--model.pause", "0.15") as study:
        first, second = study.join("--workers", "2"), study.join()
        until(lambda: study.done() >= 1)
        os.kill(until(study.running)[0].owner["pid"], signal.SIGKILL)
        until(lambda: study.done() >= 3)
        server.stop()
        time.sleep(1.0)
        server.start()
        until(lambda: study.done() >= 5)
        assert second.pid is not None
        os.kill(second.pid, signal.SIGTERM)
        second.join(60)
        assert second.exitcode == 143, study.said()
        until(lambda: study.status() in ("RUNNING", "FINISHED"))  # the others go on
        first.kill()  # its workers end by themselves, and give their trials back
        last = study.join("--workers", "2")
        last.join(120)
        assert last.exitcode == 0, study.said()
        study.check(12)
        assert len(study.now().trials) > 12  # some were tried again


@pytest.mark.slow
def test_sixty_trials_by_four_workers_that_are_killed_at_random(tmp_path: Path) -> None:
    """With a restart of the server and a network cut of half a minute."""
    draw = random.Random(0)
    with (
        served() as server,
        wire(server.port) as cut,
        Study(server, tmp_path, 60, "--trainer.max_epochs", "3", "--model.pause", "0.3") as study,
    ):
        far = server.url.replace(f":{server.port}/", f":{cut.port}/")
        urls = ["", "", "", far]
        crews = [study.join(url=url) for url in urls]

        def rejoin() -> None:
            """In place of crews that came while the server was away, which is refused."""
            for i, process in enumerate(crews):
                if process.exitcode == 2:
                    crews[i] = study.join(url=urls[i])

        troubles = [*[signal.SIGKILL] * 8, *[signal.SIGTERM] * 4]
        draw.shuffle(troubles)
        for i, signum in enumerate(troubles):
            time.sleep(draw.uniform(1.0, 4.0))
            if i == 5:
                server.stop()
                time.sleep(5.0)
                server.start()
            if i == 8:
                cut.cut(30.0)
            rejoin()
            crew, at_work = draw.randrange(4), [trial.owner["pid"] for trial in study.running()]
            if draw.random() < 0.5 and at_work:
                os.kill(draw.choice(at_work), signum)
            else:
                os.kill(crews[crew].pid or 0, signum)
                crews[crew].join(60)
                crews[crew] = study.join(url=urls[crew])
        until(lambda: study.done() == 60 or rejoin(), 400)  # type: ignore[func-returns-value]
        for process in crews:
            process.join(100)
        assert [process.exitcode for process in crews] == [0] * 4, study.said()
        study.check(60)


@pytest.mark.slow
def test_a_worker_that_was_stopped_for_longer_than_its_lease_finishes_nothing_twice(tmp_path: Path) -> None:
    with served() as server, Study(server, tmp_path, 2, "--trainer.max_epochs", "40", "--model.pause", "0.1") as study:
        asleep = study.join()
        lost = until(study.running)[0]
        os.kill(lost.owner["pid"], signal.SIGSTOP)
        awake = study.join()
        until(lambda: study.now().trials[lost.number].state == "FAIL")
        os.kill(lost.owner["pid"], signal.SIGCONT)
        for process in (asleep, awake):
            process.join(200)
            assert process.exitcode == 0, study.said()
        study.check(2)
        runs = runs_table(study.store, kinds=("trial",))
        assert list(runs[runs["tags.taolu.trial"] == str(lost.number)]["status"]) == ["KILLED"]


class Wire:
    """Passes bytes on between a port of its own and another one, unless it is cut."""

    def __init__(self, target: int) -> None:
        self.port, self._target = free_port(), target
        self._over, self._cut_until = threading.Event(), 0.0
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, seconds: float) -> None:
        """Nothing passes, and nobody is told."""
        self._cut_until = time.monotonic() + seconds

    def close(self) -> None:
        self._over.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                near, _ = self._listener.accept()
                threading.Thread(target=self._pass, args=(near,), daemon=True).start()
            except OSError:
                return

    def _pass(self, near: socket.socket) -> None:
        self._wait()
        try:
            with near, socket.create_connection(("127.0.0.1", self._target)) as far:
                other = {near: far, far: near}
                while not self._over.is_set():
                    for end in select.select([near, far], [], [], 0.2)[0]:
                        data = end.recv(65536)
                        if not data:
                            return
                        self._wait()
                        other[end].sendall(data)
        except OSError:
            return

    def _wait(self) -> None:
        time.sleep(max(self._cut_until - time.monotonic(), 0.0))


@contextmanager
def wire(target: int) -> Iterator[Wire]:
    found = Wire(target)
    try:
        yield found
    finally:
        found.close()


def test_a_designs_own_files_come_with_it_where_a_machine_has_others(store: Store, tmp_path: Path) -> None:
    net, settings = tmp_path / "net.py", tmp_path / "net.yaml"
    net.write_text("class Net: ...\n")
    settings.write_text(f"model: {{class: {net}:Net}}\n")
    design = {"experiment": str(settings), "settings": {"data": f"{net}:Data"}, "space": {"model.lr": [0.1, 0.2]}}
    files = carried(design)
    assert set(files) == {str(net), str(settings)}
    assert unpacked(design, files, store) == design  # all there
    net.write_text("class Net: older\n")
    settings.unlink()
    moved = unpacked(design, files, store)
    place = Path(moved["settings"]["data"].removesuffix(":Data"))
    assert place.read_text() == "class Net: ...\n"
    assert Path(moved["experiment"]).read_text() == f"model: {{class: {place}:Net}}\n"
    net.write_text("password = 'hunter2x9'\n")
    assert str(net) not in carried({"experiment": f"{net}:Net"})


def test_a_worker_refuses_what_it_cannot_join(store: Store, tmp_path: Path) -> None:
    from experiments.conduct import Conduct, join

    with pytest.raises(ConfigError, match="unknown study 'far'"):
        join("far", Conduct(), store=store, say=print)
    output = tmp_path / "output"
    process = start(["sweep", "worker", "far", "--n_trials", "3", "--store", str(store.folder)], output)
    process.join(60)
    assert process.exitcode == 2
    assert "--n_trials: belongs to the sweep that began the study" in output.read_text()
