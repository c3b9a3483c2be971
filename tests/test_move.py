"""`taolu export` and `import`: stores that are equal in every field, and nothing half of what was interrupted."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import resource
import shutil
import sqlite3
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType

from experiments.arrival import import_package
from experiments.cli import main
from experiments.errors import ConfigError
from experiments.move import export
from experiments.store.heartbeat import TAG, heartbeat
from experiments.store.location import Store, locate
from experiments.store.read import find_run, read_run, runs_table
from experiments.store.run_documents import difference
from experiments.store.spool import spool_folder
from experiments.store.studies import study_url
from experiments.store.write import RunWriter, _experiment_id, open_store, release_connections
from mining.segment import Segmenter
from tests.conftest import START, Writer
from tests.postgres import served
from tests.processes import fork

pytestmark = pytest.mark.xdist_group("signals")  # one worker: each that starts processes imports everything once
HERE = Path(__file__).parent
SMALL = ["--data.batch_size", "512", "--trainer.max_epochs", "1", "--threads", "1"]
CLAIM = '''
from experiments.claims.registry import Claim, Evidence

def trained(context):
    """The loss of a run."""
    result = context.train("net.py:SweepNet", **{"data.batch_size": 512, "trainer.max_epochs": 1})
    return Evidence("loss", 2.0, 2.0, 2.0, 1)

CLAIMS = (Claim(id="9999-M1", article=9999, statement="It trains.", statement_zh="可以训练。", formula="x",
                probe=trained, rule="equals", expected=2.0, tolerance=0.1, reason="none", source="none"),)
'''


def seen(store: Store) -> dict[str, Any]:
    """All that MLflow's own client and the disk say of every run, without what is the database's own."""
    client = MlflowClient(store.url)
    experiments = {each.experiment_id: each.name for each in client.search_experiments(ViewType.ALL)}
    found = {}
    for run in client.search_runs(list(experiments), run_view_type=ViewType.ALL, max_results=1000):
        info, run_id = dict(run.info), run.info.run_id
        info["experiment_id"] = experiments[info["experiment_id"]]
        assert Path(info.pop("artifact_uri")) == store.run_folder(run_id)
        values = [each for key in run.data.metrics for each in client.get_metric_history(run_id, key)]
        found[run_id] = {
            "info": info,
            "data": (run.data.params, run.data.tags, repr(sorted(run.data.metrics.items()))),
            "values": sorted(repr((each.key, each.step, each.value, each.timestamp)) for each in values),
            "inputs": [each.to_dictionary() for each in run.inputs.dataset_inputs] if run.inputs else [],
            "models": [each.to_dictionary() for each in run.outputs.model_outputs] if run.outputs else [],
            "files": files(store.run_folder(run_id)),
        }
    return found


def files(folder: Path) -> dict[str, str]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def seen_studies(store: Store) -> dict[str, Any]:
    """All that Optuna says of every study, without the ids of its database."""
    storage = optuna.storages.RDBStorage(study_url(store))
    found = {}
    for name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        trials = [{key: value for key, value in vars(each).items() if key != "_trial_id"} for each in study.trials]
        attributes = (study.user_attrs, storage.get_study_system_attrs(study._study_id))
        found[study.study_name] = (study.directions, *attributes, repr(trials))
    storage.engine.dispose()
    return found


def made(template_database: Path, folder: Path) -> Store:
    folder.mkdir(parents=True)
    shutil.copy(template_database, folder / "mlflow.db")
    return locate(str(folder))


@pytest.fixture(scope="module")
def full(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a run of every kind, made by the commands that make them."""
    place = tmp_path_factory.mktemp("full")
    store = made(template_database, place / "mlruns")
    shutil.copy(HERE / "sweep_net.py", place / "net.py")
    (place / "claim.py").write_text(CLAIM)
    (place / "text.txt").write_text("\n".join("喜欢北京天气" if i % 3 else "北京朋友喜欢" for i in range(300)))
    (place / "baskets.csv").write_text("\n".join(["a,b,c", "a,b", "b,c", "a,b,d"] * 10))
    with contextlib.chdir(place):
        for words in (
            ["run", "net.py:SweepNet", *SMALL, "--name", "steady"],
            ["sweep", "net.py:SweepNet", *SMALL, "--grid", "model.lr=.1,.3", "--name", "mine"],
            ["fork", "steady", "--model.lr", ".2", "--trainer.max_epochs", "2", "--name", "forked"],
            ["evaluate", "steady"],
            ["claims", "run", "9999-M1", "--import", "claim.py"],
            ["mine", "lexicon", "text.txt", "--name", "words"],
            ["mine", "apriori", "baskets.csv", "--min_support", ".1", "--name", "rules"],
        ):  # fmt: skip
            assert main([*words, "--store", str(store.folder)]) == 0, words
        assert main(["run", "net.py:SweepNet", "--model.what", "raise", *SMALL, "--store", str(store.folder)]) == 1
    _by_hand(Writer(store, MlflowClient(store.url)))
    release_connections(store)
    return store


@pytest.fixture
def new(template_database: Path, tmp_path: Path) -> Store:
    """Another store, without any run."""
    return made(template_database, tmp_path / "new")


def _by_hand(writer: Writer) -> None:
    """What would take minutes, or a person, to come about."""
    extractor = writer.run("extractor", experiment="_features", tags={"taolu.kind": "features"})
    writer.file(extractor, "extractor.safetensors", os.urandom(3000))
    writer.run("judged", tags={"taolu.uses": extractor}, metrics={"val/fid": [3.0]})
    gone = [writer.run(name, params={"p": "x"}) for name in ("needed", "deleted")]
    writer.run("child", tags={"taolu.parent": gone[0], "taolu.archived": "true"})
    killed = writer.run("killed", status="KILLED", metrics={"train/loss": [math.nan, math.inf, -math.inf, 1e308, -0.0]})
    dead = heartbeat(3, 10).replace('"pid_start": ', '"pid_start": 1')
    writer.run("lost", status="RUNNING", tags={TAG: dead})
    for name, content in {"media/图 1%.png": b"\x89PNG", "checkpoints/last.ckpt": b"w" * 9000, "empty": b""}.items():
        writer.file(killed, name, content)
    last = writer.store.run_folder(killed) / "checkpoints" / "last.ckpt"
    os.link(last, last.with_name("best.ckpt"))
    RunWriter(writer.store, killed, writer.client).dataset("digits", "d" * 64, "here", "{}")
    experiment = writer.client.get_run(killed).info.experiment_id
    model = writer.client.create_logged_model(experiment, "net", killed, {"tag": "t"}, {"lr": "1"}, "torch")
    writer.client.log_outputs(killed, [_output(model.model_id)])
    metric = [Metric("accuracy", 0.5, START, 3, model_id=model.model_id, run_id=killed)]
    writer.client.log_batch(killed, metric)
    place = writer.store.artifacts / "models" / model.model_id / "artifacts" / "MLmodel"
    place.parent.mkdir(parents=True)
    place.write_text("flavors: {}\n")
    for run_id in gone:
        writer.client.delete_run(run_id)


def _output(model_id: str) -> Any:
    from mlflow.entities import LoggedModelOutput

    return LoggedModelOutput(model_id, 3)


@pytest.fixture(scope="module")
def package(full: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole store in a file."""
    path = tmp_path_factory.mktemp("package") / "all.zip"
    export(full, [], path, everything=True)
    return path


@pytest.fixture(scope="module")
def moved(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that did not exist before the file was imported."""
    store = locate(str(tmp_path_factory.mktemp("moved") / "mlruns"))
    import_package(package, store)
    return store


def test_a_store_with_every_kind_of_run_is_equal_field_by_field_in_another_place(full: Store, moved: Store) -> None:
    before, after = seen(full), seen(moved)
    [deleted] = before.keys() - after.keys()
    assert before.pop(deleted)["info"]["run_name"] == "deleted"
    assert after == before
    kinds = {each["data"][1].get("taolu.kind", "run") for each in after.values()}
    assert kinds == {"run", "sweep", "trial", "evaluation", "claim", "lexicon", "rules", "features"}
    statuses = {each["info"]["status"] for each in after.values()}
    assert statuses == {"FINISHED", "FAILED", "KILLED", "RUNNING"}
    assert seen_studies(moved) == seen_studies(full) != {}
    assert (moved.folder / "claims.json").read_bytes() == (full.folder / "claims.json").read_bytes()
    models = [files(each.artifacts / "models") for each in (full, moved)]
    assert models[0] == models[1] != {}


def test_the_columns_no_client_shows_are_equal_too(full: Store, moved: Store) -> None:
    own = {"runs": ("artifact_uri",), "logged_models": ("artifact_location",)}
    for table in ("runs", "logged_models", "logged_model_metrics", "logged_model_params", "logged_model_tags"):
        rows = []
        for store in (full, moved):
            with sqlite3.connect(store.folder / "mlflow.db") as connection:
                connection.row_factory = sqlite3.Row
                where = " WHERE name != 'deleted'" if table == "runs" else ""
                found = [dict(row) for row in connection.execute(f"SELECT * FROM {table}{where}")]
            left_out = (*own.get(table, ()), "experiment_id")
            rows.append(sorted(repr({k: v for k, v in row.items() if k not in left_out}) for row in found))
        assert rows[0] == rows[1] != [], table


def test_twice_imported_is_once_and_exported_again_the_same_bytes(moved: Store, package: Path, tmp_path: Path) -> None:
    before = seen(moved)
    again = import_package(package, moved)
    assert (again.runs, again.studies) == ((), ())
    assert again.present == len(before) + 1
    assert seen(moved) == before
    export(moved, [], tmp_path / "again.zip", everything=True)
    assert (tmp_path / "again.zip").read_bytes() == package.read_bytes()


def test_a_content_with_two_names_is_kept_once(moved: Store, package: Path) -> None:
    folder = read_run(moved, find_run(moved, "killed")).folder / "checkpoints"
    assert (folder / "last.ckpt").samefile(folder / "best.ckpt")
    names = [name for name in zipfile.ZipFile(package).namelist() if name.endswith(".ckpt") and "/checkpoints/" in name]
    assert len([name for name in names if folder.parents[1].name in name]) == 1


def test_in_the_new_store_runs_are_shown_resumed_repeated_and_used(
    full: Store,
    package: Path,
    new: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(full.folder.parent)  # where the user's module lies
    where = ["--store", str(new.folder)]
    assert main(["import", str(package), *where]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"imported into {new.folder}: ")
    for words in (
        ["runs"],
        ["show", "last:mine"],
        ["resume", "steady", "--trainer.max_epochs", "2"],
        ["rerun", "steady"],
        ["segment", "text.txt", "--lexicon", "words"],
        ["sweep", "net.py:SweepNet", *SMALL, "--grid", "model.lr=.1,.3,.5", "--name", "mine", "--resume"],
    ):
        assert main([*words, *where]) == 0, words
    cutters = [Segmenter.load(read_run(each, find_run(each, "words")).folder) for each in (full, new)]
    assert cutters[0].cut("我喜欢北京朋友") == cutters[1].cut("我喜欢北京朋友")
    assert "resume.1" in read_run(new, find_run(new, "steady")).tags
    trials = runs_table(new, kinds=("trial",))
    assert sorted(trials[trials["tags.taolu.study"] == "mine"]["tags.taolu.trial"]) == ["0", "1", "2"]


def test_a_run_brings_what_it_needs_a_sweep_its_trials_and_study_a_claim_its_runs(full: Store, tmp_path: Path) -> None:
    def names(*handles: str) -> list[str]:
        found = export(full, handles, tmp_path / "some.zip")
        return sorted([*(read_run(full, run_id).name for run_id in found.runs), *found.studies])

    assert names("steady") == ["steady"]
    assert names("forked") == ["forked", "steady"]
    assert names("judged", "extractor") == ["extractor", "judged"]
    assert names("child") == ["child", "needed"]  # a parent that is marked deleted
    assert names("mine") == ["mine", "mine", "mine-0", "mine-1"]
    assert names("mine-0") == ["mine", "mine-0"]  # of the sweep its run alone
    claim, child = names("9999-M1")
    assert (claim, child.split("-")[0]) == ("9999-M1", "net")


def test_runs_that_come_one_after_another_find_together(full: Store, new: Store, tmp_path: Path) -> None:
    counts = []
    for handle in ("mine-0", "mine", "forked", "steady"):
        export(full, [handle], tmp_path / "some.zip")
        found = import_package(tmp_path / "some.zip", new)
        counts.append((len(found.runs), len(found.studies), found.present))
    assert counts == [(2, 0, 0), (1, 1, 2), (2, 0, 0), (0, 0, 1)]
    before = seen(full)
    assert all(each == before[run_id] for run_id, each in seen(new).items())
    assert seen_studies(new) == seen_studies(full)


def test_sqlite_to_postgresql_and_back_is_equal_studies_included(full: Store, package: Path, tmp_path: Path) -> None:
    with served() as server:
        database = locate(server.url, str(tmp_path / "files"))
        found = import_package(package, database)
        assert import_package(package, database).present == len(found.runs) + 1
        assert {key: value for key, value in seen(full).items() if key in found.runs} == seen(database)
        assert seen_studies(database) == seen_studies(full)
        export(database, [], tmp_path / "back.zip", everything=True)
        release_connections(database)
    assert (tmp_path / "back.zip").read_bytes() == package.read_bytes()


def test_files_that_lie_where_they_belong_already_are_taken_as_they_are(
    full: Store, package: Path, new: Store, tmp_path: Path
) -> None:
    shutil.copytree(full.artifacts, new.artifacts)  # as with --store_dir of the store that moves
    kept = read_run(full, find_run(full, "killed")).run_id
    before = (new.run_folder(kept) / "empty").stat().st_ino
    import_package(package, new)
    assert (new.run_folder(kept) / "empty").stat().st_ino == before
    assert seen(new).keys() < seen(full).keys()
    other = locate(str(tmp_path / "other"))
    (other.run_folder(kept)).mkdir(parents=True)
    (other.run_folder(kept) / "mine.txt").write_text("a person's")
    with pytest.raises(
        ConfigError, match=r"the file '.*' is only in the (file|store), and no run of the store; move it"
    ):
        import_package(package, other)
    assert not (other.folder / "mlflow.db").exists()


# ---- any value ------------------------------------------------------------------------------------------------------

VALUES = st.one_of(
    st.floats(), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1e308, 5e-324, 1.7976931348623157e308, 0.1])
)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40),
    st.sampled_from(["长" * 6000, "a\nb\r\n\tc", "'; DROP TABLE runs; --", "\u202e\u200b🥋", ":hex: %s {} ?"]),
)


@pytest.fixture(scope="module")
def two_stores(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store]:
    """Two empty stores."""
    place = tmp_path_factory.mktemp("two")
    return made(template_database, place / "a"), made(template_database, place / "b")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(VALUES, max_size=8), st.lists(TEXTS, max_size=4), TEXTS)
def test_any_number_and_any_text_arrives_as_it_was(
    two_stores: tuple[Store, Store], values: list[float], texts: list[str], note: str
) -> None:
    source, target = two_stores
    client = MlflowClient(source.url)
    run_id = client.create_run(_experiment_id(client, source, "any"), run_name=note[:200]).info.run_id
    metrics = [Metric("m", value, START + i // 2, -i) for i, value in enumerate(values)]
    params = [Param(f"p{i}", text) for i, text in enumerate(texts)]
    client.log_batch(run_id, metrics, params, [RunTag("mlflow.note.content", note)])
    client.set_terminated(run_id)
    path = source.folder / "one.zip"
    export(source, [run_id], path)
    assert import_package(path, target).runs == (run_id,)
    assert import_package(path, target).present == 1
    assert seen(target)[run_id] == seen(source)[run_id]


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.fixture
def one(store: Store, writer: Writer, tmp_path: Path) -> tuple[Path, str]:
    """A file with one run, and its id."""
    run_id = writer.run("one", params={"lr": "1"}, metrics={"train/loss": [2.0, 1.0]}, tags={"t": "y"})
    writer.file(run_id, "checkpoints/last.ckpt", bytes(range(256)) * 200)
    writer.file(run_id, "notes.txt", "some text")
    export(store, ["one"], tmp_path / "one.zip")
    return tmp_path / "one.zip", run_id


def nothing_in(store: Store) -> bool:
    """Neither a run nor a file of one."""
    left = [path for path in store.folder.rglob("*") if path.is_file() and path.name not in (".collect.lock",)]
    return len(runs_table(store)) == 0 and not [path for path in left if "artifacts" in path.parts]


@pytest.mark.parametrize("place", ["checkpoints/last.ckpt", "notes.txt", "run.json", "metrics.jsonl", "manifest.json"])
def test_a_byte_that_changed_is_refused_with_the_files_name(one: tuple[Path, str], tmp_path: Path, place: str) -> None:
    path, _ = one
    content = bytearray(path.read_bytes())
    [info] = [each for each in zipfile.ZipFile(path).infolist() if each.filename.endswith(place)]
    content[info.header_offset + len(info.FileHeader(zip64=True)) + info.compress_size // 2] ^= 1
    path.write_bytes(content)
    store = locate(str(tmp_path / "new"))
    with pytest.raises(ConfigError, match=f"{place}' is damaged"):
        import_package(path, store)
    assert not store.folder.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-500]), "no zip, or a part of one"),
        (lambda path: path.write_bytes(b"no zip at all"), "no zip, or a part of one"),
        (lambda path: path.unlink(), "no such file; write one: taolu export --all --out one.zip"),
        (lambda path: (path.unlink(), path.mkdir()), "a folder; give the FILE.zip that taolu export wrote"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "not one that taolu export writes: it has no manifest.json"),
        (lambda path: rewritten(path, {"manifest.json": b'{"format": 1, "taolu": "9.9"}'}), "is damaged"),
        (
            lambda path: rewritten(path, {"manifest.json": b'{"format": 2, "taolu": "9.9", "entries": {}}'}),
            "of form 2, written by taolu 9.9; this taolu reads form 1",
        ),
        (lambda path: rewritten(path, {"../../evil": b"x"}), "'../../evil' leads out of the folder"),
        (lambda path: rewritten(path, {"/etc/evil": b"x"}), "'/etc/evil' leads out of the folder"),
        (lambda path: rewritten(path, {"run.json": lambda text: text.replace("notes.txt", "../../x", 1)}), "leads out"),
        (lambda path: rewritten(path, {"run.json": lambda text: text.replace('"files"', '"other"')}), "KeyError"),
        (lambda path: rewritten(path, {"run.json": lambda text: text.replace('"user_id"', '"x) --"')}), "no column"),
    ],
    ids=["torn", "no zip", "absent", "folder", "empty", "no entries", "newer", "up", "root", "name", "field", "column"],
)  # fmt: skip
def test_a_file_that_export_did_not_write_is_refused_and_nothing_is_written(
    one: tuple[Path, str], new: Store, tmp_path: Path, change: Callable[[Path], Any], message: str
) -> None:
    path, _ = one
    change(path)
    with pytest.raises(ConfigError) as raised:
        import_package(path, new)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert nothing_in(new)
    assert not (tmp_path.parent / "evil").exists()


def rewritten(path: Path, changes: dict[str, Any]) -> None:
    """The zip with entries added or changed, its manifest in accord with them."""
    with zipfile.ZipFile(path) as old:
        contents = {name: old.read(name) for name in old.namelist()}
    manifest = json.loads(contents["manifest.json"])
    for end, change in changes.items():
        name = next((name for name in contents if name.endswith(end)), end)
        contents[name] = change(contents[name].decode()).encode() if callable(change) else change
        if name in manifest["entries"]:
            manifest["entries"][name] = [hashlib.sha256(contents[name]).hexdigest(), len(contents[name])]
    if "manifest.json" not in changes:
        contents["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as target:
        for name, content in contents.items():
            target.writestr(name, content)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda client, run_id: client.set_tag(run_id, "t", "z"), "tags.t is 'y' in the file and 'z' in the store"),
        (lambda client, run_id: client.log_param(run_id, "new", "1"), "params.new is nothing in the file and '1' in"),
        (lambda client, run_id: client.set_terminated(run_id, "FAILED"), "run.end_time is"),
        (lambda client, run_id: client.delete_run(run_id), "run.deleted_time is nothing in the file"),
        (lambda client, run_id: client.log_metric(run_id, "train/loss", 3.0, START, 0), "the values of train/loss"),
        (lambda client, run_id: client.log_metric(run_id, "train/loss", 3.0, START, 9), "last.train/loss is 1 in the"),
    ],
    ids=["tag", "param", "status", "deleted", "earlier value", "last value"],
)  # fmt: skip
def test_a_run_that_is_there_otherwise_is_refused_by_the_field(
    one: tuple[Path, str], store: Store, writer: Writer, change: Callable[[MlflowClient, str], None], field: str
) -> None:
    path, run_id = one
    assert import_package(path, store).present == 1
    change(writer.client, run_id)
    with pytest.raises(ConfigError) as raised:
        import_package(path, store)
    assert f"run {run_id[:8]}: the store has it otherwise: {field}" in str(raised.value)


def test_files_that_are_there_otherwise_are_refused_by_name(one: tuple[Path, str], store: Store) -> None:
    path, run_id = one
    (store.run_folder(run_id) / "notes.txt").write_text("Some text")
    with pytest.raises(ConfigError, match=r"the file 'notes\.txt' has another content in the store"):
        import_package(path, store)
    (store.run_folder(run_id) / "notes.txt").unlink()
    with pytest.raises(ConfigError, match=r"the file 'notes\.txt' is only in the file"):
        import_package(path, store)


def test_a_study_that_is_there_otherwise_is_refused_by_the_field(full: Store, new: Store, tmp_path: Path) -> None:
    export(full, ["mine"], tmp_path / "sweep.zip")
    import_package(tmp_path / "sweep.zip", new)
    study = optuna.load_study(study_name="mine", storage=study_url(new))
    study.enqueue_trial({"model.lr": 0.5})
    with pytest.raises(ConfigError, match=r"study 'mine': the store has another: trials is \[.* in the file and \["):
        import_package(tmp_path / "sweep.zip", new)


def test_a_live_run_and_values_on_their_way_are_refused(writer: Writer, tmp_path: Path) -> None:
    live = writer.run("live", status="RUNNING", tags={TAG: heartbeat(3, 10)})
    writer.run("child", tags={"taolu.parent": live})
    for handles in (["live"], ["child"]):
        with pytest.raises(ConfigError, match=f"run {live[:8]} is running"):
            export(writer.store, handles, tmp_path / "x.zip")
    with pytest.raises(ConfigError, match=f"run {live[:8]} is running"):
        export(writer.store, [], tmp_path / "x.zip", everything=True)
    late = writer.run("late")
    spool_folder(writer.store).mkdir()
    header = json.dumps(["owner", {"host": "elsewhere", "run_id": late}])
    (spool_folder(writer.store) / f"{late}.jsonl").write_text(header + "\n")
    with pytest.raises(ConfigError, match=r"not in the database yet; deliver them first: taolu runs, on elsewhere"):
        export(writer.store, ["late"], tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(
    one: tuple[Path, str], new: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = one
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))  # as a disk that fills up in the middle
    try:
        with pytest.raises(ConfigError, match=r"cannot be written \(File too large: .*\); nothing was imported"):
            import_package(path, new)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert nothing_in(new)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 100))
        with pytest.raises(
            ConfigError, match=r"the files need 51,209 bytes, its disk has 100 free; nothing was import"
        ):
            import_package(path, new)
    assert len(import_package(path, new).runs) == 1


# ---- interrupted ----------------------------------------------------------------------------------------------------


def test_an_import_killed_at_any_moment_leaves_no_run_and_the_next_one_is_whole(
    writer: Writer, new: Store, tmp_path: Path
) -> None:
    runs = [writer.run(f"r{i}", metrics={"m": [0.1 * step for step in range(10_000)]}) for i in range(2)]
    for run_id in runs:
        for i in range(20):
            writer.file(run_id, f"checkpoints/{i}.ckpt", os.urandom(400_000))
    path = tmp_path / "two.zip"
    export(writer.store, [], path, everything=True)
    for moment in (
        lambda: any(new.artifacts.glob("*/.artifacts.part/*")),
        lambda: all((new.run_folder(run_id)).exists() for run_id in runs),
    ):
        process = fork(import_silently, path, new)
        wait_until(moment)
        process.kill()
        process.join(60)
        assert process.exitcode == -9
        assert len(runs_table(new)) == 0
        assert main(["gc", "--store", str(new.folder)]) == 0  # too young: left alone
    assert len(import_package(path, new).runs) == 2
    assert seen(new) == seen(writer.store)
    assert not list(new.artifacts.glob("*/.*"))


def import_silently(path: Path, store: Store) -> None:
    import_package(path, store)


def wait_until(moment: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not moment():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_study_that_was_half_imported_is_not_there_and_made_whole_by_the_next(
    full: Store, new: Store, tmp_path: Path
) -> None:
    export(full, ["mine"], tmp_path / "sweep.zip")
    left = optuna.create_study(study_name="mine (being imported)", storage=study_url(new))  # as a kill leaves it
    left.enqueue_trial({"x": 1})
    assert import_package(tmp_path / "sweep.zip", new).studies == ("mine",)
    assert seen_studies(new) == seen_studies(full)


def test_parents_that_a_genetic_sampler_bred_from_are_the_same_trials(
    full: Store, template_database: Path, tmp_path: Path
) -> None:
    source, target = (made(template_database, tmp_path / name) for name in "ab")
    export(full, ["mine"], tmp_path / "sweep.zip")
    import_package(tmp_path / "sweep.zip", target)  # so that the trials have other numbers in its database
    sampler = optuna.samplers.NSGAIISampler(population_size=4, seed=0)
    study = optuna.create_study(study_name="bred", storage=study_url(source), sampler=sampler)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) ** 2, n_trials=10)
    Writer(source, open_store(source)).run("any")
    export(source, [], tmp_path / "all.zip", everything=True)
    import_package(tmp_path / "all.zip", target)
    found = optuna.load_study(study_name="bred", storage=study_url(target))
    parents = []
    for each in (study, found):
        numbers = {trial._trial_id: trial.number for trial in each.trials}
        ids = next(value for key, value in each._storage.get_study_system_attrs(each._study_id).items() if ":1" in key)
        parents.append([numbers[trial_id] for trial_id in ids])
    assert parents[0] == parents[1] != []
    assert [trial._trial_id for trial in found.trials] != [trial._trial_id for trial in study.trials]


# ---- the verbs ------------------------------------------------------------------------------------------------------


def test_the_verbs_say_what_they_did(
    one: tuple[Path, str], store: Store, new: Store, tmp_path: Path, capsys: Any
) -> None:
    where, out = ["--store", str(store.folder)], str(tmp_path / "all.zip")
    assert main(["export", "--all", "--out", out, *where]) == 0
    assert capsys.readouterr().out.startswith(f"written: {out} (1 run, 0 studies, 2 files; ")
    assert main(["export", "one", "--out", out, "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == [one[1]]
    assert main(["import", out, "--store", str(new.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == [one[1]]
    assert main(["import", out, *where]) == 0
    assert capsys.readouterr().out == f"imported into {store.folder}: 0 runs, 0 studies; 1 were there already, equal\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "--out", "x.zip"], "name the runs or sweeps, or take --all, as in: taolu export"),
        (["export", "--all"], "name the file, as in: taolu export --all --out store.zip"),
        (["export", "one", "--all", "--out", "x.zip"], "unexpected 'one'"),
        (["export", "nosuch", "--out", "x.zip"], "no run 'nosuch'"),
        (["export", "one", "--out", "no/folder/x.zip"], "there is no folder no/folder"),
        (["import"], "give one FILE.zip; found nothing"),
        (["import", "x.zip"], "x.zip: no such file"),
        (["import", "x.zip", "--store", "http://127.0.0.1:1"], "an MLflow server gives every run a new id"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(
    one: tuple[Path, str], store: Store, words: list[str], message: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.folder.parent / "mlruns")
    capsys.readouterr()
    assert main([*words, *([] if "--store" in words else ["--store", str(store.folder)])]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_the_first_difference_is_named_and_nan_is_equal_to_itself() -> None:
    assert difference({"a": [1.0, math.nan]}, {"a": [1.0, math.nan]}) == ""
    assert difference({"a": {"b": 1}}, {"a": {"b": 2, "c": 3}}) == "a.b is 1 in the file and 2 in the store"
