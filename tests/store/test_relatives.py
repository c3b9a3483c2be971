"""Which runs began from which."""

from __future__ import annotations

import json

import pytest

from experiments.store.read import read_run
from experiments.store.relatives import Relative, Relatives, read_relatives
from experiments.store.tables import Selection, client_tables, read_tables
from tests.conftest import Writer


def family(writer: Writer) -> dict[str, str]:
    """Ids by name: `model`, its forks `early` and `late`, and `judged`, an evaluation of `late`."""
    ids = {"model": writer.run("model")}
    for start, (name, step) in enumerate({"early": 10, "late": 20}.items(), start=1):
        tags = {"taolu.parent": ids["model"], "taolu.fork": json.dumps({"from": "last", "from_step": step})}
        ids[name] = writer.run(name, start=start, tags=tags)
    judged = {"taolu.parent": ids["late"], "taolu.kind": "evaluation"}
    ids["judged"] = writer.run("judged", start=3, tags={**judged, "taolu.evaluation": '{"step": 60}'})
    return ids


def relatives(writer: Writer, run_id: str) -> Relatives:
    return read_relatives(writer.store, read_run(writer.store, run_id))


def test_a_run_knows_what_it_began_from_and_what_began_from_it(writer: Writer) -> None:
    ids = family(writer)
    early, late = Relative(ids["early"], "early", "fork", 10), Relative(ids["late"], "late", "fork", 20)
    judged = Relative(ids["judged"], "judged", "evaluation", 60)
    assert relatives(writer, ids["model"]) == Relatives(None, (late, early))
    assert relatives(writer, ids["late"]) == Relatives(Relative(ids["model"], "model", "fork", 20), (judged,))
    assert relatives(writer, ids["judged"]) == Relatives(Relative(ids["late"], "late", "evaluation", 60), ())
    assert relatives(writer, ids["late"]).of("fork") == ()


def test_a_deleted_child_is_left_out_and_a_deleted_parent_named(writer: Writer) -> None:
    ids = family(writer)
    for name in ("model", "early"):
        writer.client.delete_run(ids[name])
    assert [child.name for child in relatives(writer, ids["model"]).children] == ["late"]
    assert relatives(writer, ids["early"]).parent == Relative(ids["model"], "model", "fork", 10)


@pytest.mark.parametrize("entry", ["", "{", "[]", "7", "{}", '{"from_step": "x"}'])
def test_a_tag_changed_by_hand_leaves_the_step_unknown(writer: Writer, entry: str) -> None:
    run_id = writer.run("child", tags={"taolu.parent": "f" * 32, "taolu.fork": entry})
    assert relatives(writer, run_id) == Relatives(Relative("f" * 32, "", "fork", None), ())


def test_children_read_through_the_client_are_those_of_the_database(writer: Writer) -> None:
    wanted = Selection(parent=family(writer)["model"])
    assert client_tables(writer.store, wanted).runs == read_tables(writer.store, wanted).runs
    assert [row.name for row in read_tables(writer.store, wanted).runs] == ["late", "early"]
