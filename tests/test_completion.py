"""Shell completion, in the shell."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import VERBS
from experiments.completion import SCRIPTS, cached_schema, code_digest, complete, script
from experiments.manual import schema
from experiments.store.location import Store

pytestmark = pytest.mark.xdist_group("completion")  # one schema for all


@pytest.fixture(scope="module")
def made() -> str:
    """The schema of this code, as text."""
    return json.dumps(schema(), default=str)


@pytest.fixture(autouse=True)
def cache(made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The schema where completion looks for it, as the first TAB leaves it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "taolu" / f"schema-{code_digest()}.json"
    path.parent.mkdir()
    path.write_text(made, encoding="utf-8")
    return path


def test_verbs_experiments_and_shells_are_completed() -> None:
    assert complete([""]) == list(VERBS)
    assert complete(["r"]) == ["run", "resume", "rerun", "runs", "report", "restore", "rules"]
    assert complete(["run", "v"]) == ["vae"]
    assert complete(["completion", ""]) == list(SCRIPTS)
    assert complete(["mine", "a"]) == ["apriori"]


def test_options_are_those_of_the_verb_and_of_the_experiment() -> None:
    assert complete(["runs", "--li"]) == ["--limit"]
    assert complete(["runs", "--lang", ""]) == ["en", "zh"]
    assert complete(["run", "vae", "--trainer.max_"]) == [
        "--trainer.max_epochs",
        "--trainer.max_steps",
        "--trainer.max_time",
    ]
    assert complete(["run", "vae", "--sto"]) == ["--store", "--store_dir"]


def test_values_are_completed_where_there_are_few() -> None:
    assert complete(["run", "vae", "--data", "c"]) == ["cifar10"]
    assert complete(["run", "vae", "--optimizer", "torch.S"]) == ["torch.SGD"]
    assert complete(["run", "vae", "--model.network", ""]) == ["mlp", "cnn", "linear"]
    assert complete(["run", "vae", "--trainer.compile", "t"]) == ["true"]
    assert complete(["run", "vae", "--trainer.early_stopping.mode", ""]) == ["min", "max"]


def test_tasks_articles_and_claims_are_completed() -> None:
    assert complete(["claims", ""]) == ["show", "run", "report", "check"]
    assert complete(["claims", "run", "56"])[:2] == ["5655", "5655-S1"]
    assert complete(["claims", "show", "6234-A3."]) == [f"6234-A3.{row}" for row in (1, 2, 3, 4)]
    assert complete(["claims", "run", "--effort", "f"]) == ["full"]


def test_runs_are_completed_by_name(filled_store: Store) -> None:
    where = ["--store", str(filled_store.folder)]
    assert complete(["show", *where, ""]) == ["last", "going", "broken", "steady"]
    assert complete(["diff", "last", *where, "st"]) == ["steady"]
    assert complete(["restore", *where, ""]) == complete(["show", "--store", "/nowhere", ""]) == []


def test_the_queue_takes_what_run_takes() -> None:
    assert complete(["queue", ""]) == ["add", "ls", "rm"]
    assert complete(["queue", "add", "v"]) == ["vae"]
    assert complete(["queue", "add", "vae", "--data", "c"]) == ["cifar10"]
    assert complete(["queue", "add", "vae", "--model.network", ""]) == ["mlp", "cnn", "linear"]


def test_where_a_file_or_number_is_wanted_nothing_is_offered() -> None:
    assert complete(["run", "vae", "--store", ""]) == []
    assert complete(["run", "vae", "--model.latent_dim", ""]) == []
    assert complete(["run", "vae", ""]) == []
    assert complete(["nosuch", ""]) == []


def test_a_cached_schema_is_read_and_not_made_again(cache: Path) -> None:
    cache.write_text('{"vae": {"options": {"model.mark": {"type": "text"}}}}', encoding="utf-8")
    assert "model.mark" in cached_schema()["vae"]["options"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ru"], ["run", "runs", "rules"]),
        (["run", "v"], ["vae"]),
        (["run", "vae", "--model.lat"], ["--model.latent_dim"]),
        (["run", "vae", "--data", "i"], ["images"]),
    ],
)
def test_bash_completes_the_word_under_the_cursor(words: list[str], expected: list[str], tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    quoted = " ".join(f"'{word}'" for word in ["taolu", *words])
    program = f"""{script("bash")}
COMP_WORDS=({quoted}); COMP_CWORD={len(words)}
_taolu 2>/dev/null; printf '%s\\n' "${{COMPREPLY[@]}}"; complete -p taolu"""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": path, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([bash, "-c", program], capture_output=True, text=True, check=True, env=environment)
    *found, registered = done.stdout.splitlines()
    assert found == expected
    assert registered == "complete -o default -F _taolu taolu"
