"""What `taolu gc` removes, what it leaves, and that the bytes it tells are the bytes that are gone."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.collect import Collection, collect, seconds_of
from experiments.config import resolve
from experiments.errors import ConfigError
from experiments.run import run
from experiments.store.heartbeat import TAG, heartbeat
from experiments.store.location import Store, locate
from experiments.store.read import history, read_run, runs_table
from experiments.store.spool import spool_folder
from experiments.store.write import RunWriter, open_store, release_connections
from tests.conftest import Writer

OLD = time.time() - 7200


def size(store: Store) -> int:
    """Bytes of all files below the store's folder, those with several names counted once."""
    found = [path.lstat() for path in store.folder.rglob("*") if path.is_file()]
    return sum({(each.st_dev, each.st_ino): each.st_size for each in found}.values())


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def aged(path: Path, moment: float = OLD) -> Path:
    """The path, changed two hours ago, and everything below it."""
    for each in [*path.rglob("*"), path]:
        os.utime(each, (moment, moment))
    return path


def rows_of(store: Store, run_id: str) -> dict[str, int]:
    """Table -> rows in which the run's id stands, of every table there is."""
    assert store.database is not None
    with closing(sqlite3.connect(store.database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {}
        for table in tables:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            where = " OR ".join(f'"{column}" = :id' for column in columns)
            found[table] = connection.execute(f"SELECT count(*) FROM {table} WHERE {where}", {"id": run_id}).fetchone()[
                0
            ]
    return {table: count for table, count in found.items() if count}


def kinds(found: Collection) -> dict[str, int]:
    return {what: count for what, count in found.counts().items() if count}


def test_a_store_of_fifty_runs_frees_what_it_says_and_loses_nothing_needed(writer: Writer) -> None:
    store = writer.store
    ids = [
        writer.run(f"r{i}", start=i, params={"p": "x" * 200}, metrics={"train/loss": [float(i)] * 40}, tags={"t": "y"})
        for i in range(50)
    ]
    for run_id in ids:
        RunWriter(store, run_id, writer.client).dataset("digits", run_id * 2, "here", "{}")
        last = writer.file(run_id, "checkpoints/last.ckpt", os.urandom(30_000))
        os.link(last, last.with_name("best.ckpt"))
    shared = writer.file(ids[0], "env.json", "{}" * 500)
    os.link(shared, store.run_folder(ids[1]) / "env.json")  # as a trial's: its bytes stay as long as one name does
    for run_id in [ids[0], *ids[10:40]]:
        writer.client.delete_run(run_id)
    left = {run_id: digests(store.run_folder(run_id)) for run_id in [*ids[1:10], *ids[40:]]}
    curves = {run_id: history(store, run_id) for run_id in left}
    release_connections(store)
    planned = collect(store, dry_run=True)
    before = size(store)
    assert runs_table(store, deleted=True).shape[0] == 31  # a dry run removes nothing
    found = collect(store)
    assert found.file_bytes + found.database_bytes == before - size(store)
    assert found.file_bytes == planned.file_bytes == 31 * 30_000
    assert found.database_bytes > 0
    assert kinds(found) == kinds(planned) == {"deleted run": 31}
    assert set(runs_table(store)["run_id"]) == set(left)
    assert {run_id: digests(store.run_folder(run_id)) for run_id in left} == left
    assert all(history(store, run_id).equals(curve) for run_id, curve in curves.items())
    assert rows_of(store, ids[20]) == {}
    assert {"runs", "metrics", "latest_metrics", "params", "tags", "inputs"} <= {*rows_of(store, ids[5])}
    assert not (store.artifacts / ids[20]).exists()
    assert kinds(collect(store)) == {}


def test_a_run_another_one_uses_is_kept_by_name_until_that_one_goes_too(writer: Writer) -> None:
    model = writer.run("model")
    child = writer.run("judged", tags={"taolu.parent": model})
    sweep = writer.run("sweep")
    writer.run("trial", tags={"mlflow.parentRunId": sweep})
    claim = writer.run("claim")
    user = writer.run("user", tags={"taolu.uses": f"{claim}, {model}"})
    for run_id in (model, sweep, claim):
        writer.client.delete_run(run_id)
    found = collect(writer.store)
    assert kinds(found) == {}
    assert len(found.kept) == 3
    first = min((child, "judged"), (user, "user"))
    assert f"run {model[:8]} model: needed by run {first[0][:8]} {first[1]} and 1 more; delete that too, or bring" in (
        "\n".join(found.kept)
    )
    assert any(line.startswith(f"run {sweep[:8]} sweep: needed by run ") and " trial; " in line for line in found.kept)
    writer.client.delete_run(child)
    writer.client.delete_run(user)
    assert {each.name for each in collect(writer.store).waste} == {"model", "judged", "claim", "user"}
    assert len(runs_table(writer.store, deleted=True)) == 1


def test_what_a_kept_run_uses_is_kept_too(writer: Writer) -> None:
    grandparent = writer.run("grandparent")
    parent = writer.run("parent", tags={"taolu.parent": grandparent})
    writer.run("child", tags={"taolu.parent": parent})
    for run_id in (grandparent, parent):
        writer.client.delete_run(run_id)
    assert [line.split(":")[0].split()[-1] for line in collect(writer.store).kept] == ["parent", "grandparent"]


def test_a_deleted_run_that_still_runs_is_kept_by_name(writer: Writer) -> None:
    live = writer.run("live", status="RUNNING", tags={TAG: heartbeat(3, 10)})
    gone = writer.run("gone", status="RUNNING", tags={TAG: heartbeat(3, 10).replace('"pid_start": ', '"pid_start": 1')})
    for run_id in (live, gone):
        writer.client.delete_run(run_id)
    found = collect(writer.store)
    assert [each.run_id for each in found.waste] == [gone]
    assert found.kept == (f"run {live[:8]} is running (process {os.getpid()}); stop it first: taolu stop {live[:8]}",)


def test_only_what_was_deleted_long_enough_ago_goes(writer: Writer) -> None:
    ids = [writer.run(name) for name in ("old", "new")]
    for run_id in ids:
        writer.client.delete_run(run_id)
    assert writer.store.database is not None
    with closing(sqlite3.connect(writer.store.database)) as connection, connection:
        connection.execute("UPDATE runs SET deleted_time = deleted_time - 864000000 WHERE run_uuid = ?", (ids[0],))
    assert [each.name for each in collect(writer.store, older_than=seconds_of("9d")).waste] == ["old"]
    assert [each.name for each in collect(writer.store).waste] == ["new"]


def test_a_run_restored_meanwhile_is_left_alone(writer: Writer) -> None:
    from experiments.store.erase import erase_runs

    run_id = writer.run("back")
    assert erase_runs(writer.store, [run_id]) == []
    assert read_run(writer.store, run_id).name == "back"


def test_what_nobody_needs_goes_and_what_somebody_may_be_writing_stays(writer: Writer) -> None:
    store = writer.store
    run_id = writer.run("steady")
    settled = [
        aged(writer.file(run_id, "checkpoints/.last.ckpt.x7.part", b"half")),
        aged(writer.file("e" * 32, "config.yaml", "seed: 0\n").parents[1]),
        store.folder / ".mlflow.db.part",
        spool_folder(store) / "a.orphan",
    ]
    spool_folder(store).mkdir()
    for path in settled[2:]:
        path.write_bytes(b"left")
        aged(path)
    aged(writer.file(run_id, "mine.part", b"a user's own"))
    fresh = [
        writer.file(run_id, ".best.json.y8.part", b"half"),
        writer.file("f" * 32, "config.yaml", "seed: 0\n"),
        writer.file("models", "weights", b"MLflow's own"),
    ]
    outside = aged(writer.file("d" * 32, "link", b"").parent)
    (outside / "link").unlink()
    (outside / "link").symlink_to(store.run_folder(run_id))  # removed, not followed
    os.utime(outside / "link", (OLD, OLD), follow_symlinks=False)
    aged(outside)
    os.utime(outside.parent, (OLD, OLD))
    before = size(store)
    found = collect(store)
    assert kinds(found) == {"orphan folder": 2, "leftover": 3}
    assert found.file_bytes + found.database_bytes == before - size(store)
    assert not any(path.exists() for path in [*settled, outside])
    assert all(path.exists() for path in fresh)
    assert (store.run_folder(run_id) / "mine.part").exists()


def test_folders_of_another_databases_runs_are_left_alone(writer: Writer) -> None:
    store = writer.store
    folder = aged(writer.file("e" * 32, "config.yaml", "seed: 0\n").parents[1])
    for _ in range(2):
        open_store(Store("http://ann:hunter2@nowhere", store.folder))  # asks the server nothing yet
    [line] = collect(store).kept
    assert line == "1 folders without a run: the folder also serves http://ann:***@nowhere, whose they may be"
    assert (store.folder / ".servers").read_text() == "http://ann:***@nowhere\n"
    assert folder.exists()


def test_checkpoints_the_config_does_not_keep_go_at_the_end_or_with_the_next_collection(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net = f"{Path(__file__).parent / 'sweep_net.py'}:SweepNet"
    options = {"data.batch_size": 512, "trainer.max_epochs": 1, "threads": 1}
    whole = run(resolve(net, overrides=options), store=store)
    lean = run(resolve(net, overrides={**options, "trainer.keep.last": False}), store=store)
    none = run(resolve(net, overrides={**options, "trainer.keep.last": False, "trainer.keep.best": False}), store=store)
    names = [{path.name for path in (each.folder / "checkpoints").glob("*.ckpt")} for each in (whole, lean, none)]
    assert names == [{"last.ckpt", "best.ckpt"}, {"best.ckpt"}, set()]
    assert history(store, lean.run_id, ["val/loss"]).value.equals(history(store, whole.run_id, ["val/loss"]).value)
    for each in (whole, lean):
        (each.folder / "checkpoints" / "last.ckpt").write_bytes(b"left by a kill")
    found = collect(store)
    assert [each.path for each in found.waste] == [lean.folder / "checkpoints" / "last.ckpt"]
    assert (whole.folder / "checkpoints" / "last.ckpt").exists()


def test_an_empty_place_is_left_as_it_is(tmp_path: Path) -> None:
    store = locate(str(tmp_path / "mlruns"))
    assert list(collect(store).lines()) == ["would remove nothing: 0 bytes of files, and what the database shrinks by"]
    assert list(tmp_path.iterdir()) == []


def test_a_server_removes_nothing_for_good() -> None:
    with pytest.raises(
        ConfigError, match="an MLflow server removes nothing for good; run mlflow gc where its database"
    ):
        collect(locate("http://127.0.0.1:1"))


@pytest.mark.parametrize("text", ["30", "d", "-3d", "3 d", "1e3d", "30y"])
def test_an_age_without_a_unit_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"--older_than {text}: must be a number and its unit"):
        seconds_of(text)


def test_the_verb_says_what_it_would_remove_and_then_what_it_has(
    writer: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = writer.run("old")
    writer.file(run_id, "notes", "x" * 1000)
    writer.client.delete_run(run_id)
    store = ["--store", str(writer.store.folder)]
    assert main(["gc", "--older_than", "1d", *store]) == 0
    assert "removed nothing: " in capsys.readouterr().out
    assert main(["gc", "--dry_run", *store]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"deleted run  {run_id[:8]} old",
        "would remove 1 deleted run: 1,000 bytes of files, and what the database shrinks by",
    ]
    assert main(["gc", "--json", *store]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["runs"], found["file_bytes"], found["removed"]) == ([run_id], 1000, True)
    assert found["bytes"] == found["file_bytes"] + found["database_bytes"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["extra"], "unexpected 'extra'"),
        (["--older_than", "30"], "--older_than 30: must be a number and its unit, s, m, h, d or w, as in 30d"),
        (["--older_then", "30d"], "unknown option '--older_then' (did you mean '--older_than'?)"),
        (["--store", "http://127.0.0.1:1"], "an MLflow server removes nothing for good"),
    ],
)
def test_a_mistake_is_one_line_and_removes_nothing(
    writer: Writer, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    writer.client.delete_run(writer.run("old"))
    assert main(["gc", *words, *([] if "--store" in words else ["--store", str(writer.store.folder)])]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert len(runs_table(writer.store, deleted=True)) == 1
