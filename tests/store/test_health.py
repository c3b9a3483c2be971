from __future__ import annotations

import json

from experiments.store.health import Waiting, sizes, waiting
from experiments.store.heartbeat import owner
from experiments.store.location import Store
from tests.conftest import Writer


def test_sizes_are_those_on_the_disk(writer: Writer) -> None:
    run_id, sparse = writer.run("a"), writer.run("b")
    writer.file(run_id, "a.bin", b"x" * 5_000)
    writer.file(run_id, "deep/b.bin", b"x" * 3_000)
    (writer.store.run_folder(run_id) / "etc").symlink_to("/etc")
    with writer.file(sparse, "sparse.bin", b"").open("wb") as file:
        file.truncate(10**9)
    found = sizes(writer.store)
    assert 8_000 <= found.runs[run_id] < 8_100  # and the link
    assert found.runs[sparse] == 0
    assert found.files == sum(found.runs.values())
    assert found.database >= (writer.store.folder / "mlflow.db").stat().st_size
    assert found.free > 0


def test_a_store_that_does_not_exist_takes_nothing(store: Store) -> None:
    none = Store(f"sqlite:///{store.folder}/deep/none/mlflow.db", store.folder / "deep" / "none")
    assert (sizes(none).database, sizes(none).files, waiting(none)) == (0, 0, [])


def test_spools_are_listed_with_whether_their_process_is_gone(store: Store) -> None:
    folder = store.folder / "spool"
    folder.mkdir()
    gone = {**owner(), "pid": 2**22 + 1, "pid_start": 0.0}
    heads = {"live": owner(), "gone": gone, "far": {**owner(), "host": "elsewhere"}}
    for name, head in heads.items():
        (folder / f"{name}.jsonl").write_text(json.dumps(["owner", {**head, "run_id": name}]) + "\n[")
    for name, text in (("torn", '["own'), ("list", "[1]"), ("empty", "")):
        (folder / f"{name}.jsonl").write_text(text)
    found = {each.run_id: each.is_gone for each in waiting(store)}
    assert found == {"live": False, "gone": True, "far": False, "": True}
    assert [each.n_bytes for each in waiting(store) if each == Waiting("", "", True, 5, each.changed)] == [5]
