from __future__ import annotations

from pathlib import Path

import pytest

from experiments.errors import ConfigError
from experiments.store.location import Store, locate, redact, redact_value


@pytest.fixture(autouse=True)
def no_tracking_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_option_wins_over_the_environment_over_the_nearest_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    start = tmp_path / "deep" / "er"
    assert locate(start=start).folder == tmp_path / "mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other/mlflow.db")
    assert locate(start=start).folder == tmp_path / "other"
    assert locate("mine", start=start).folder == start / "mine"


def test_without_any_hint_the_store_is_mlruns_here_and_nothing_is_created(tmp_path: Path) -> None:
    assert locate(start=tmp_path) == Store(f"sqlite:///{tmp_path}/mlruns/mlflow.db", tmp_path / "mlruns")
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("text", ["runs here", "./runs here", "file:runs here", "sqlite:///runs here/mlflow.db"])
def test_every_way_to_write_a_folder_names_the_same_store(tmp_path: Path, text: str) -> None:
    assert locate(text, start=tmp_path) == Store(f"sqlite:///{tmp_path}/runs here/mlflow.db", tmp_path / "runs here")


def test_files_of_a_database_server_lie_in_the_given_folder(tmp_path: Path) -> None:
    store = locate("postgresql://ann:secret@db/x", "files", tmp_path)
    assert (store.folder, store.database, store.label) == (tmp_path / "files", None, "postgresql://ann:***@db/x")


def test_a_tracking_server_keeps_its_files_in_mlruns(tmp_path: Path) -> None:
    assert locate("http://127.0.0.1:5000", start=tmp_path).folder == tmp_path / "mlruns"


def test_another_scheme_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigError, match=r"store 'mysql://ann:\*\*\*@db/x': a store is a folder") as caught:
        locate("mysql://ann:hunter2@db/x")
    assert "hunter2" not in str(caught.value)


def test_the_files_of_a_run_are_computed_from_the_folder(tmp_path: Path) -> None:
    assert locate(str(tmp_path)).run_folder("abc") == tmp_path / "artifacts" / "abc" / "artifacts"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann:hunter2@db/x", "postgresql://ann:***@db/x"),
        ("taolu run --token abcdef --lr 1", "taolu run --token *** --lr 1"),
        ('api_key = "a1b2c3d4"', 'api_key = "***"'),
        ("password: hunter2", "password: ***"),
        ("hf_abcdefghijklmnopqrst", "***"),
        ("token=tokenizer", "token=tokenizer"),
        ("taolu run vae --model.latent_dim 8", "taolu run vae --model.latent_dim 8"),
        ("--model.pad_token 50256 --hf_token a1b2c3", "--model.pad_token 50256 --hf_token ***"),
        ("max_token: 1024", "max_token: 1024"),
        ("eos_token: '<|endoftext|>'", "eos_token: '<|endoftext|>'"),
        ("--token 1024", "--token 1024"),
        ("--password 12345678", "--password ***"),
    ],
)
def test_secrets_are_replaced_and_nothing_else(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    ("key", "value", "stored"),
    [
        ("model.api_key", "hunter2x9", "***"),
        ("data.hf-token", "abcdef", "***"),
        ("db_password", "12345", "***"),
        ("api_key", "", ""),
        ("model.pad_token", 50256, 50256),
        ("model.pad_token", "<pad>", "<pad>"),
        ("max_token", "1024", "1024"),
        ("model.token", None, None),
        ("model.secret", True, True),
        ("model.tokenizer", "bpe", "bpe"),
        ("model.keys", "hf_abcdefghijklmnopqrst", "***"),
        ("data.path", "postgresql://ann:hunter2@db/x", "postgresql://ann:***@db/x"),
        ("model", {"secret": ["a", 1], "width": 8}, {"secret": ["***", 1], "width": 8}),
    ],
)
def test_a_value_is_a_secret_by_its_key(key: str, value: object, stored: object) -> None:
    assert redact_value(key, value) == stored
