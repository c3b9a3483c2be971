"""The command: every verb, every mistake in one line, JSON for machines."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from experiments.cli import VERBS, main
from experiments.cli.options import OPTIONS
from experiments.config import resolve
from experiments.store.heartbeat import TAG, heartbeat
from experiments.store.location import Store
from tests.conftest import Writer

NET = f"{Path(__file__).parent / 'dropout_net.py'}:DropoutNet"


class Said(NamedTuple):
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of standard output."""
        return json.loads(self.out.splitlines()[-1])


Taolu = Callable[..., Said]


@pytest.fixture
def taolu(capsys: pytest.CaptureFixture[str], store: Store, monkeypatch: pytest.MonkeyPatch) -> Taolu:
    """The command in this process, on a store of its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.url)

    def command(*words: str) -> Said:
        capsys.readouterr()
        status = main(words)
        return Said(status, *capsys.readouterr())

    return command


def refused(said: Said) -> str:
    assert said.status == 2
    assert said.out == ""
    assert said.err.startswith("taolu: ")
    assert said.err.count("\n") == 1
    return said.err


# ---- help -----------------------------------------------------------------------------------------------------------


def test_help_names_every_verb(taolu: Taolu) -> None:
    assert all(f"  {verb.usage}" in taolu("--help").out for verb in VERBS.values())
    assert taolu() == taolu("help") == taolu("-h")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_names_its_options(taolu: Taolu, verb: str) -> None:
    said = taolu(verb, "--help")
    assert said.status == 0
    assert all(f"  --{name}" in said.out for name in VERBS[verb].options)
    assert said.out == taolu("help", verb).out
    assert "example: taolu" in said.out


def test_help_of_resume_resumes_nothing(taolu: Taolu) -> None:
    assert taolu("resume", "last", "--help").out.startswith("usage: taolu resume RUN")


def test_every_option_belongs_to_a_verb() -> None:
    assert {*OPTIONS} == {name for verb in VERBS.values() for name in verb.options} | {"help"}


def test_help_of_an_experiment_has_every_option_with_its_default_and_docstring(taolu: Taolu) -> None:
    said = taolu("run", "vae", "--help")
    config = resolve("vae")
    assert said.status == 0
    assert all(f"  --{key} " in said.out for key in config.flat() if key not in ("name", "threads"))
    assert "--data.batch_size 128" in said.out
    assert "Numbers that describe an image" in said.out
    assert "--config FILE" in said.out


@pytest.mark.parametrize("noise", ["CONFIG", "subclass", "Optional[", "Literal[", "<class", "default:"])
def test_help_of_an_experiment_has_no_noise(taolu: Taolu, noise: str) -> None:
    assert noise not in taolu("run", "vae", "--help").out


def test_help_shows_the_options_of_the_chosen_parts(taolu: Taolu) -> None:
    said = taolu("run", "vae", "--data", "images", "--optimizer", "torch.SGD", "--help").out
    assert "--data.path (required)" in said
    assert "--optimizer.momentum 0" in said
    assert "--optimizer.betas" not in said


def test_help_of_a_users_module_has_its_docstring_and_no_optimizer(taolu: Taolu) -> None:
    said = taolu("run", NET, "--help").out
    assert "A classifier with dropout." in said
    assert "--model.width 16" in said
    assert "optimizer" not in said


# ---- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rnu vae", "unknown verb 'rnu' (did you mean 'run'?); allowed: demo, list, run"),
        ("--hlep", "unknown verb '--hlep' (did you mean '--help'?)"),
        ("run", "name the experiment first: taolu run "),
        ("run --seed 3", "name the experiment first"),
        ("run vea", "unknown experiment 'vea' (did you mean 'vae'?); allowed: "),
        ("run vae extra", "unexpected word 'extra'; options are written --key value"),
        ("run vae -x", "unknown option '-x'; allowed: --background"),
        ("run vae --sotre x", "unknown option '--sotre' (did you mean '--store'?)"),
        ("run vae --optimzer torch.SGD", "unknown option '--optimzer' (did you mean '--optimizer'?)"),
        ("run vae --lr 1", "unknown option '--lr' (did you mean '--optimizer.lr'?)"),
        ("run vae --max_epochs 1", "unknown option '--max_epochs' (did you mean '--trainer.max_epochs'?)"),
        ("run vae --trainer.max_epoch 2", "(did you mean '--trainer.max_epochs'?)"),
        ("run vae --modle.latent_dim 2", "(did you mean '--model.latent_dim'?)"),
        ("run vae --trainer.max_epochs", "--trainer.max_epochs: needs a value: a whole number or null"),
        ("run vae --trainer.max_epochs 0", "trainer.max_epochs = 0: must be at least 1"),
        ("run vae --model.latent_dim 0", "model.latent_dim = 0: must be at least 1"),
        ("run vae --optimizer.lr 0", "optimizer.lr = 0.0: must be greater than 0"),
        ("run vae --optimizer.lr -1e-3", "optimizer.lr = -0.001: must be greater than 0"),
        ("run vae --optimizer.lr nan", "optimizer.lr = nan: must be a number"),
        ("run vae --optimizer.lr .nan", "optimizer.lr = nan: must be greater than 0 and finite"),
        ("run vae --optimizer.lr abc", "optimizer.lr = abc: must be a number"),
        ("run vae --optimizer.betas [0.9,1.5]", "optimizer.betas = [0.9, 1.5]: each must lie in [0, 1)"),
        ("run vae --optimizer adan", "unknown name 'adan' (did you mean 'torch.Adam'?)"),
        ("run vae --schedule cosin", "(did you mean 'cosine'?)"),
        (
            "run vae --schedule.steps 3",
            "schedule constant has no such setting; choose a class that has it: --schedule warmup, --schedule cosine",
        ),
        ("run vae --data image", "(did you mean 'images'?)"),
        ("run vae --data.path x", "data digits has no such setting; choose a class that has it: --data images"),
        ("run vae --data images", "data.path: required and not given; add --data.path PATH"),
        ("run vae --data my.py:MyData", "no file"),
        ("run vae --data", "--data: needs a value, as in --data digits"),
        ("run vae --model --seed 3", "--model: needs a value, as in --model "),
        ("run vae --config", "--config: needs a value, as in --config FILE.yaml"),
        ("run vae --config nosuch.yaml", "nosuch.yaml: cannot be read (No such file or directory)"),
        ("run vae --data.batch_size 100000", "larger than the 1437 training images"),
        ("run vae --threads 0", "threads = 0: must be at least 1"),
        ("run vae --seed abc", "seed = abc: must be a whole number"),
        ("run vae --seed -1", "seed = -1: must lie in 0 to 4294967295"),
        ("run vae --tags", "--tags: needs a value: --tags KEY=VALUE"),
        ("run vae --tags foo", "--tags 'foo': write KEY=VALUE"),
        ("run vae --tags =x", "--tags '=x': write KEY=VALUE"),
        ("run vae --tags taolu.kind=x", "are the platform's"),
        ("run vae --name --json", "--name: needs a value: --name NAME"),
        ("run vae --name=", "--name: needs a value: --name NAME"),
        ("run vae --json=1", "--json: takes no value"),
        ("resume", "name the run first, as in: taolu resume last"),
        ("resume nosuch", "holds no run yet; start one: taolu run vae"),
        ("resume last --tags a=b", "unknown option '--tags'"),
        ("rerun", "give one RUN; found nothing"),
        ("rerun last", "holds no run yet"),
        ("rerun last --name", "--name: needs a value"),
        ("show", "give one RUN; found nothing"),
        ("show a b", "give one RUN; found 'a b'"),
        ("show last", "holds no run yet"),
        ("runs --limit 0", "--limit 0: must be a whole number of at least 1"),
        ("runs --limit ²", "--limit ²: must be a whole number"),
        ("runs --limt 3", "unknown option '--limt' (did you mean '--limit'?); allowed: --columns"),
        ("runs -x", "unknown option '-x'"),
        ("runs extra", "unexpected 'extra'"),
        ("runs --store ftp://x", "store 'ftp://x': a store is a folder"),
        ("delete", "give at least one RUN"),
        ("delete last", "holds no run yet"),
        ("restore last", "holds no deleted run"),
        ("list extra", "unexpected 'extra'"),
        ("demo extra", "unexpected 'extra'"),
        ("doctor extra", "unexpected 'extra'"),
        ("dashboard --port abc", "--port abc: must be a whole number from 1 to 65535"),
        ("ui --port 99999", "--port 99999: must be a whole number from 1 to 65535"),
        ("completion", "give one shell: bash, zsh or fish"),
        ("completion bsh", "unknown shell 'bsh' (did you mean 'bash'?)"),
    ],
)
def test_a_mistake_is_one_line_with_status_2_and_writes_nothing(
    taolu: Taolu, store: Store, line: str, message: str
) -> None:
    assert message in refused(taolu(*line.split()))
    assert [path.name for path in store.folder.rglob("*") if path.name == "artifacts"] == []


def test_the_line_is_one_even_where_the_value_has_several(taolu: Taolu) -> None:
    assert "latent_dim = a b: must be" in refused(taolu("run", "vae", "--model.latent_dim", "a\nb"))


# ---- stores that cannot be used -------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["run vae --trainer.max_steps 1", "demo"])
def test_a_store_below_a_file_is_refused(taolu: Taolu, tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_text("x")
    said = taolu(*verb.split(), "--store", str(tmp_path / "file" / "mlruns"))
    assert (said.status, "cannot be written (Not a directory)" in said.err) == (2, True)


@pytest.mark.parametrize("verb", ["run vae --trainer.max_steps 1", "runs", "show last", "resume last", "delete last"])
def test_a_store_that_is_no_database_is_refused(taolu: Taolu, tmp_path: Path, verb: str) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "mlflow.db").write_text("no database, " * 100)
    assert "file is not a database" in refused(taolu(*verb.split(), "--store", str(tmp_path / "bad")))


@pytest.mark.parametrize("verb", ["run vae --trainer.max_steps 1", "runs", "show last", "resume last", "delete last"])
def test_a_store_of_a_newer_schema_is_refused(taolu: Taolu, store: Store, verb: str) -> None:
    assert store.database is not None
    with closing(sqlite3.connect(store.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
    assert "newer than the installed MLflow" in refused(taolu(*verb.split()))


def test_doctor_tells_a_bad_store_with_status_1(taolu: Taolu, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "mlflow.db").write_text("no database, " * 100)
    said = taolu("doctor", "--store", str(tmp_path / "bad"))
    assert said.status == 1
    assert "BAD  database" in said.out


# ---- a run and what can be done with it -----------------------------------------------------------------------------


def test_a_run_from_its_start_to_its_restoring(taolu: Taolu) -> None:
    label = ("--name", "名字", "--tags", "目的=论文", "--tags", "a=b=c", "--note", "α β")
    done = taolu("run", NET, "--trainer.max_steps", "2", "--threads", "1", *label, "--json")
    assert done.status == 0
    assert done.out.count("\n") == 1
    assert {"run_id", "name", "kind", "status", "seconds", "metrics", "artifacts"} <= {*done.json}
    assert (done.json["name"], done.json["status"]) == ("名字", "FINISHED")

    more = taolu("resume", "名字", "--trainer.max_steps", "3", "--json")
    assert (more.status, more.json["run_id"]) == (0, done.json["run_id"])

    again = taolu("rerun", "last", "--json")
    assert again.json["rerun"].startswith("identical: all ")

    listed = taolu("runs", "--json").json
    assert [row["run_id"] for row in listed] == [again.json["run_id"], done.json["run_id"]]
    assert {"run_id", "name", "kind", "status", "seconds", "metrics", "artifacts"} <= {*listed[0]}

    shown = taolu("show", "名字", "--json").json
    assert (shown["note"], shown["tags"]["目的"], shown["tags"]["a"]) == ("α β", "论文", "b=c")
    assert "目的  论文" in taolu("show", "名字").out

    assert taolu("delete", "名字", done.json["run_id"][:8]).out.count("deleted") == 1
    assert "run '名字'" in refused(taolu("show", "名字"))
    assert "名字" in taolu("runs", "--deleted").out
    assert taolu("restore", "名字").status == 0
    assert taolu("show", "名字").status == 0


def test_a_run_may_not_be_resumed_by_changing_it(taolu: Taolu) -> None:
    taolu("run", NET, "--trainer.max_steps", "1")
    assert "model.lr: 0.01 in the run, now 0.5" in refused(taolu("resume", "last", "--model.lr", "0.5"))
    assert "may only grow" in refused(taolu("resume", "last", "--trainer.max_epochs", "1"))


def test_a_failed_run_ends_with_status_1(taolu: Taolu, tmp_path: Path) -> None:
    source = Path(__file__).with_name("dropout_net.py").read_text(encoding="utf-8")
    broken = source.replace(
        "x, y = batch\n        return", "x, y = batch\n        raise KeyError('mine')\n        return"
    )
    (tmp_path / "broken.py").write_text(broken, encoding="utf-8")
    said = taolu("run", f"{tmp_path / 'broken.py'}:DropoutNet", "--json")
    assert (said.status, said.json["status"], said.json["error"]) == (1, "FAILED", "KeyError: 'mine'")


def test_numbers_json_has_no_word_for_are_text(taolu: Taolu, tmp_path: Path) -> None:
    source = Path(__file__).with_name("dropout_net.py").read_text(encoding="utf-8")
    (tmp_path / "nan.py").write_text(source.replace("return nn.functional", "return torch.inf * nn.functional"))
    said = taolu("run", f"{tmp_path / 'nan.py'}:DropoutNet", "--trainer.max_steps", "1", "--json")
    assert said.json["metrics"]["train/loss"] == "Infinity"
    assert "Infinity," not in said.out.replace('"Infinity"', "")


def test_a_live_run_is_not_deleted(taolu: Taolu, writer: Writer) -> None:
    live = writer.run("live", status="RUNNING", tags={TAG: heartbeat(3, 10)})
    assert f"is running (process {os.getpid()}); stop it first" in refused(taolu("delete", live))


def test_a_run_whose_process_is_gone_is_told_and_reaped(taolu: Taolu, writer: Writer) -> None:
    beat = {**json.loads(heartbeat(3, 10)), "pid_start": 0.0}
    writer.run("gone", status="RUNNING", tags={TAG: json.dumps(beat)})
    writer.run("live", status="RUNNING", tags={TAG: heartbeat(3, 10)})
    listed = taolu("runs").out
    assert listed.count("RUNNING (dead)") == 1
    assert "mark such runs FAILED with: taolu runs --reap" in listed
    assert "FAILED: its process is gone" in taolu("runs", "--reap").err
    assert "dead" not in taolu("runs").out


def test_a_name_two_runs_share_is_refused_with_both_ids(taolu: Taolu, writer: Writer) -> None:
    ids = [writer.run("twin"), writer.run("twin", start=9)]
    message = refused(taolu("show", "twin"))
    assert all(run_id[:12] in message for run_id in ids)


def test_a_mistyped_run_is_refused_with_the_closest(taolu: Taolu, writer: Writer) -> None:
    writer.run("steady")
    assert "no run 'staedy' (did you mean 'steady'?)" in refused(taolu("show", "staedy"))


def test_nothing_is_deleted_when_one_of_the_runs_is_unknown(taolu: Taolu, writer: Writer) -> None:
    writer.run("steady")
    refused(taolu("delete", "steady", "nosuch"))
    assert taolu("show", "steady").status == 0


# ---- configs --------------------------------------------------------------------------------------------------------


def test_the_printed_config_is_a_file_that_gives_the_same_config(taolu: Taolu, tmp_path: Path) -> None:
    words = ("--model.latent_dim", "5", "--optimizer", "torch.SGD", "--schedule", "cosine", "--seed", "3")
    first = taolu("run", "vae", *words, "--print_config")
    (tmp_path / "saved.yaml").write_text(first.out, encoding="utf-8")
    assert taolu("run", str(tmp_path / "saved.yaml"), "--print_config").out == first.out
    assert taolu("run", "vae", *words, "--print_config", "--json").json == yaml.safe_load(first.out)


def test_what_a_choice_drops_is_said(taolu: Taolu) -> None:
    said = taolu("run", "vae", "--optimizer", "torch.SGD", "--print_config")
    assert "optimizer is now torch.SGD: the settings of torch.Adam are dropped (lr)" in said.err


def test_what_a_choice_drops_is_said_once_by_a_run(taolu: Taolu) -> None:
    short = ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "0", "--trainer.quality.metrics", "[]"]
    said = taolu("run", "vae", "--optimizer", "torch.SGD", *short)
    assert (said.out + said.err).count("the settings of torch.Adam are dropped") == 1


def test_the_list_has_every_experiment(taolu: Taolu) -> None:
    assert taolu("list", "--json").json["vae"]["why"] in taolu("list").out


def test_the_schema_has_types_defaults_and_help(taolu: Taolu) -> None:
    schema = taolu("list", "--schema").json["vae"]
    assert schema["options"]["data.batch_size"]["type"] == "a whole number"
    assert schema["options"]["data.batch_size"]["default"] == 128
    assert "images" in schema["parts"]["data"]


# ---- processes ------------------------------------------------------------------------------------------------------


def test_help_and_mistyped_names_load_no_torch_and_cost_little(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = [
        subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "experiments", *words], capture_output=True, text=True
        )
        for words in (["--help"], ["run", "vea"])
    ]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert [each.returncode for each in done] == [0, 2]
    assert not any(name in each.stderr for each in done for name in ("torch", "mlflow", "pandas", "jsonargparse"))
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2 * 0.3


def test_the_installed_command_is_this_one() -> None:
    command = shutil.which("taolu", path=str(Path(sys.executable).parent))
    assert command is not None
    done = subprocess.run([command, "frobnicate"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("taolu: unknown verb 'frobnicate'")


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m experiments --help | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable=shutil.which("bash"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0", "")
