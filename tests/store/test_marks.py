"""Notes, tags and archive marks, and the extremes of a metric."""

from __future__ import annotations

import math

import pytest

from experiments.errors import ConfigError
from experiments.store.extremes import extremes
from experiments.store.location import Store
from experiments.store.marks import ARCHIVED, LONGEST_NOTE, set_archived, set_note, set_tags
from experiments.store.names import encode
from experiments.store.read import read_run, runs_table
from tests.conftest import Writer


def test_notes_tags_and_archive_marks_are_written_and_removed(writer: Writer) -> None:
    ids = [writer.run("a"), writer.run("b", tags={"purpose": "old"})]
    store = writer.store
    set_note(store, ids, "名 *note*")
    set_tags(store, ids, {"purpose": "paper"})
    set_archived(store, ids, archived=True)
    for run_id in ids:
        run = read_run(store, run_id)
        assert (run.note, run.tags["purpose"], run.tags[ARCHIVED]) == ("名 *note*", "paper", "true")
    set_note(store, ids, "")
    set_tags(store, ids, {"purpose": "", "never": ""})
    set_archived(store, ids, archived=False)
    assert not {ARCHIVED, "purpose", "mlflow.note.content"} & {*read_run(store, ids[0]).tags}
    assert runs_table(store)["note"].tolist() == ["", ""]


def test_secrets_are_not_written(writer: Writer) -> None:
    run_id = writer.run("a")
    set_tags(writer.store, [run_id], {"api_key": "hunter2x9"})
    set_note(writer.store, [run_id], "see postgresql://ann:hunter2@db/x")
    run = read_run(writer.store, run_id)
    assert (run.tags["api_key"], run.note) == ("***", "see postgresql://ann:***@db/x")


@pytest.mark.parametrize("key", ["", "taolu.kind", "mlflow.user"])
def test_tags_of_the_tracker_are_not_a_visitors_to_set(writer: Writer, key: str) -> None:
    run_id = writer.run("a")
    with pytest.raises(ConfigError, match=f"tag '{key}': names that begin with taolu. or mlflow. are kept"):
        set_tags(writer.store, [run_id], {key: "x"})


def test_what_is_too_long_or_of_no_run_is_refused_in_one_line(writer: Writer) -> None:
    run_id = writer.run("a")
    with pytest.raises(ConfigError, match=f"note of {LONGEST_NOTE + 1} characters"):
        set_note(writer.store, [run_id], "x" * (LONGEST_NOTE + 1))
    with pytest.raises(ConfigError, match="at most 500 characters"):
        set_tags(writer.store, [run_id], {"a": "x" * 501})
    with pytest.raises(ConfigError, match="run ffffffff: cannot be marked") as error:
        set_archived(writer.store, ["f" * 32], archived=True)
    assert "\n" not in str(error.value)


def test_extremes_are_over_the_finite_values_of_every_step(writer: Writer) -> None:
    a = writer.run("a", metrics={"val/x": [3.0, -1.0, math.inf, math.nan, 2.0], encode("验证/y@1%"): [7.0]})
    writer.run("b", metrics={"val/x": [math.nan, -math.inf]})
    c = writer.run("c", metrics={"val/x": [0.5]})
    found = extremes(writer.store, "val/x")
    assert found.T.to_dict("list") == {a: [-1.0, 3.0], c: [0.5, 0.5]}
    assert extremes(writer.store, "验证/y@1%").T.to_dict("list") == {a: [7.0, 7.0]}
    assert extremes(writer.store, "nosuch").empty


def test_an_empty_store_has_no_extremes(store: Store) -> None:
    assert extremes(store, "val/x").empty
