"""`taolu convert`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.cli import main
from tests.checkpoints.bundle_writer import gpt2_ml_arrays, write_bundle

CONFIG = {
    "hidden_size": 4,
    "intermediate_size": 6,
    "max_position_embeddings": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
}


@pytest.fixture
def public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_bundle(tmp_path / "model.ckpt", gpt2_ml_arrays(CONFIG, 7))
    (tmp_path / "mega.json").write_text(json.dumps(CONFIG))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n今\n天\n。", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_checkpoint_becomes_a_folder(public: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convert", "gpt2-ml", "model.ckpt", "--config", "mega.json", "--vocab", "vocab.txt", "--out", "zh"]
    assert main(words) == 0
    assert {path.name for path in (public / "zh").iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    }
    said = capsys.readouterr().out
    assert said.startswith("written: zh, 222 parameters in 1 file of weights\n")
    assert "the vocabulary has 5 tokens for 7 rows" in said
    assert main(words) == 2
    assert capsys.readouterr().err == "taolu: zh: exists already; give a new folder or remove it\n"


def test_without_a_vocabulary_there_is_no_tokenizer_and_that_is_said(
    public: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "gpt2-ml", "model.ckpt", "--config", "mega.json", "--out", "zh", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n_parameters"], found["n_rows"], found["has_tokenizer"]) == (222, 7, False)
    assert main(["convert", "gpt2-ml", "model.ckpt", "--config", "mega.json", "--out", "other"]) == 0
    assert "without a tokenizer: give --vocab vocab.txt" in capsys.readouterr().out


def test_inspect_lists_every_variable(public: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "inspect", "model.ckpt"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["global_step", "int64", "scalar", "0.000", "MB"]
    assert any(line.split() == ["newslm/layer00/output/kernel", "float32", "6x4", "0.000", "MB"] for line in lines)
    assert lines[-1] == "49 variables, 0.0 MB"
    assert main(["convert", "inspect", "model.ckpt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "global_step"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say what: taolu convert gpt2-ml|inspect"),
        (["gpt2ml", "model.ckpt"], "unknown task 'gpt2ml' (did you mean 'gpt2-ml'?); allowed: export, gpt2-ml"),
        (["inspect"], "give one PREFIX, the checkpoint's path without .index; found nothing"),
        (["inspect", "model.ckpt", "--out", "zh"], "convert gpt2-ml, convert export, not to convert inspect"),
        (
            ["gpt2-ml", "model.ckpt", "--out", "zh"],
            "needed: taolu convert gpt2-ml PREFIX --config config.json --out DIR",
        ),
        (["inspect", "mode.ckpt"], "mode.ckpt.index: no such file; found there: model.ckpt"),
        (["gpt2-ml", "model.ckpt", "--config", "none.json", "--out", "zh"], "none.json: no config in JSON"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_one_line(
    public: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["convert", *words]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert not (public / "zh").exists()
