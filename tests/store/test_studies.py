"""Studies read back: Optuna's, ours and somebody else's."""

from __future__ import annotations

import json
import math
import os
import socket
import sqlite3
import subprocess
import sys

import optuna
import pytest

from experiments.design import Design, read_design
from experiments.errors import ConfigError
from experiments.store.location import Store
from experiments.store.read import read_run
from experiments.store.replay import reap
from experiments.store.studies import (
    LEASE_SECONDS,
    MOST_DEATHS,
    find_study,
    latest,
    ranked,
    read_study,
    study_names,
    study_url,
    trials_table,
)
from experiments.store.write import create_run
from experiments.sweep import Queue, make_pruner, make_sampler, study_to_go_on
from experiments.tally import Tally
from experiments.trial import COMPLETE, DIVERGED, ERROR, PRUNED, STOPPED, Outcome


def design(**given: object) -> Design:
    found = read_design("vae", [], {"grid": ["optimizer.lr=.1,.2,.3"], "name": "mine", **given})
    return type(found)(**{**found.__dict__, "objectives": tuple(_objective())})


def _objective() -> list[object]:
    from experiments.objectives import Objective

    return [Objective("val/elbo", "max")]


def test_reading_loads_no_optuna_and_makes_no_file(store: Store) -> None:
    assert study_names(store) == []
    assert read_study(store, "mine") is None
    assert not (store.folder / "optuna.db").exists()
    with pytest.raises(ConfigError, match="unknown study 'mine'"):
        find_study(store, "mine")
    program = "import sys, experiments.store.studies; print('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"


def test_studies_lie_beside_the_runs(store: Store) -> None:
    assert study_url(store) == f"sqlite:///{store.folder}/optuna.db"
    there = Store("postgresql+psycopg://ann:secret@db/runs", store.folder)
    assert study_url(there) == "postgresql+psycopg://ann:secret@db/runs_optuna"


def test_a_queue_hands_out_each_cell_once_and_keeps_how_it_ended(store: Store) -> None:
    queue, other = Queue(store, design()), Queue(store, design(), join=True)
    queue.describe("f" * 32)
    ends = [Outcome(COMPLETE, (-20.0,), ("a",)), Outcome(DIVERGED, (-math.inf,)), Outcome(ERROR, error="no luck")]
    for end in ends:
        taken = queue.take(None)
        assert taken is not None
        queue.conclude(taken, end)
    assert other.take(None) is None
    table = trials_table(find_study(store, "mine"))
    assert table["params.optimizer.lr"].tolist() == [0.1, 0.2, 0.3]
    assert table["values.val/elbo"].tolist()[:2] == [-20.0, -math.inf]
    assert table["end"].tolist() == ["complete", "diverged", "error"]
    study = find_study(store, "mine")
    assert [trial.number for trial in ranked(study.trials, "max")] == [0, 1]
    with pytest.raises(ConfigError, match="go on with --resume"):
        study_to_go_on(store, design(), resume=False)


def test_a_wider_space_keeps_the_trials_and_their_numbers(store: Store) -> None:
    queue = Queue(store, design())
    queue.describe("f" * 32)
    for end in (Outcome(COMPLETE, (-20.0,), ("a",)), Outcome(STOPPED)):
        taken = queue.take(None)
        assert taken is not None
        queue.conclude(taken, end)
    wide = design(grid=["optimizer.lr=.05,.1,.2,.3"], repeats="2")
    old = study_to_go_on(store, wide, resume=True)
    queue = Queue(store, wide, old)
    assert study_names(store) == ["mine"]
    queue.describe("f" * 32)
    while (taken := queue.take(None)) is not None:
        queue.conclude(taken, Outcome(PRUNED))
    heads = latest(find_study(store, "mine").trials)
    assert sorted((trial.params["optimizer.lr"], trial.params["seed"]) for trial in heads) == sorted(
        (lr, seed) for lr in (0.05, 0.1, 0.2, 0.3) for seed in (0, 1)
    )
    assert (heads[0].number, heads[0].values, heads[0].run_ids) == (0, (-20.0,), ("a",))


def test_an_extension_that_was_cut_short_is_gone_on_with(store: Store) -> None:
    queue = Queue(store, design())
    queue.describe("f" * 32)
    taken = queue.take(None)
    assert taken is not None
    queue.conclude(taken, Outcome(COMPLETE, (-20.0,), ("a",)))
    queue.release()
    storage = optuna.storages.RDBStorage(study_url(store))
    optuna.copy_study(
        from_study_name="mine", to_study_name="mine (being extended)", from_storage=storage, to_storage=storage
    )
    optuna.delete_study(study_name="mine", storage=storage)
    optuna.create_study(study_name="mine", storage=storage)  # the copy back had just begun
    old = study_to_go_on(store, design(), resume=True)
    assert [trial.values for trial in Queue(store, design(), old).trials] == [(-20.0,)]
    assert study_names(store) == ["mine"]


def test_what_is_drawn_depends_on_seed_and_number_alone(store: Store) -> None:
    given = {"grid": [], "sampler": "random"}
    file = store.folder / "mine.yaml"
    file.write_text("experiment: vae\nspace: {optimizer.lr: {low: 0, high: 1.0}}\nn_trials: 6\n")
    drawn = read_design(str(file), [], given)
    drawn = type(drawn)(**{**drawn.__dict__, "objectives": tuple(_objective())})
    queues = [Queue(store, drawn), Queue(store, drawn, join=True)]
    points = []
    for i in range(6):
        taken = queues[i * i % 3 % 2].take(None)
        assert taken is not None
        points.append(taken.point["optimizer.lr"])
    assert queues[0].take(None) is None
    again = [make_sampler(drawn, i)._rng.rng.uniform() for i in range(6)]  # type: ignore[attr-defined]
    assert points == pytest.approx(again)


def test_a_study_of_somebody_else_is_left_alone(store: Store) -> None:
    optuna.create_study(study_name="mine", storage=study_url(store))
    with pytest.raises(ConfigError, match="was not made by taolu sweep"):
        study_to_go_on(store, design(), resume=True)


@pytest.mark.parametrize("name", ["random", "tpe", "qmc", "nsgaii", "bruteforce", "gp"])
def test_samplers_go_by_short_names(name: str) -> None:
    assert type(make_sampler(design(sampler=name), 0)).__name__.lower() == f"{name}sampler"


@pytest.mark.parametrize("name", ["none", "median", "hyperband", "successivehalving"])
def test_pruners_go_by_short_names(name: str) -> None:
    found = type(make_pruner(design(pruner=name))).__name__.lower()
    assert found == ("noppruner" if name == "none" else f"{name}pruner")


def silence(store: Store, seconds: int) -> None:
    """Every lease was last renewed so long ago."""
    with sqlite3.connect(store.folder / "optuna.db") as connection:
        connection.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', ?)", [f"-{seconds} seconds"])


def test_a_trial_whose_lease_is_over_is_tried_again_and_finished_once(store: Store) -> None:
    asleep, awake = Queue(store, design()), Queue(store, design(), join=True)
    asleep.describe("f" * 32)
    lost = asleep.take(None)
    silence(store, LEASE_SECONDS - 20)
    assert [trial.number for trial in find_study(store, "mine").at_work] == [0]
    silence(store, LEASE_SECONDS + 5)
    assert find_study(store, "mine").at_work == []
    again = awake.take(None)
    assert lost is not None
    assert again is not None
    assert (again.point, awake.trials[1].retry_of, awake.trials[1].deaths) == (lost.point, 0, 1)
    assert not asleep.conclude(lost, Outcome(COMPLETE, (-1.0,), ("a",)))
    assert awake.conclude(again, Outcome(COMPLETE, (-2.0,), ("b",)))
    assert awake.conclude(again, Outcome(COMPLETE, (-2.0,), ("b",)))  # told again, as the answer got lost
    assert [(trial.state, trial.end) for trial in awake.trials] == [("FAIL", "killed"), ("COMPLETE", "complete")]


def test_what_was_stopped_is_tried_at_once_and_what_kills_its_process_three_times_more(store: Store) -> None:
    queue = Queue(store, design(grid=["optimizer.lr=.1"]))
    queue.describe("f" * 32)
    for _ in range(5):
        taken = queue.take(None)
        assert taken is not None
        queue.conclude(taken, Outcome(STOPPED))
    assert Tally.of(queue.design, queue.trials).failed == []
    for _ in range(MOST_DEATHS + 1):
        assert queue.take(None) is not None
        assert queue.take(None) is None
        queue.bury(os.getpid(), -9)
    assert queue.take(None) is None
    assert [trial.error for trial in Tally.of(queue.design, queue.trials).failed] == [
        "its process ended with status -9"
    ]


def test_a_trial_that_was_taken_by_half_never_was(store: Store) -> None:
    queue = Queue(store, design())
    queue.describe("f" * 32)
    assert queue.take(None) is not None
    with sqlite3.connect(store.folder / "optuna.db") as connection:
        connection.execute("DELETE FROM trial_user_attributes WHERE key = 'owner'")
    points = []
    while (taken := queue.take(None)) is not None:
        points.append(taken.point["optimizer.lr"])
    assert points == [0.1, 0.2, 0.3]
    assert [trial.number for trial in latest(queue.trials)] == [1, 2, 3]


def test_a_sweep_is_not_reaped_while_a_worker_holds_a_trial(store: Store) -> None:
    gone = json.dumps({"time": 0.0, "host": socket.gethostname(), "pid": 2**22 + 1, "pid_start": 0.0})
    tags = {"taolu.kind": "sweep", "taolu.study": "mine", "taolu.heartbeat": gone}
    run_id = create_run(store, "mine", "mine", tags).run_id
    queue = Queue(store, design())
    queue.describe(run_id)
    taken = queue.take(None)
    assert taken is not None
    assert reap(store) == []
    queue.conclude(taken, Outcome(STOPPED))
    assert [(dead.run_id, dead.reaped) for dead in reap(store)] == [(run_id, True)]
    assert read_run(store, run_id).status == "FAILED"
