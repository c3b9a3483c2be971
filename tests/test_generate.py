"""`taolu generate`: what it prints, and what it refuses in one line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import taolu
from experiments.cli import main
from experiments.config import resolve
from experiments.generate import PRESETS, Request, Speaker, open_speaker
from experiments.init_from import with_weights
from experiments.run import Result, run
from experiments.store.location import Store
from lightning_modules.data.text_tokenizers import Bytes
from lightning_modules.data.wordpiece import WordPiece
from lightning_modules.gpt2.sampling import Truncation
from tests.conftest import Writer
from tests.gpt2.small import network

SMALL = {"model.n_layers": 1, "model.width": 16, "model.n_heads": 2, "threads": 1, "trainer.accelerator": "cpu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 that reads bytes."""
    place = tmp_path_factory.mktemp("model")
    network(vocab_size=260, n_positions=40).save_pretrained(place)
    Bytes().save(place)
    return place


@pytest.fixture
def trained(store: Store, tmp_path: Path) -> Result:
    """A run of two steps on a text of letters."""
    text = tmp_path / "letters.txt"
    text.write_text("abcdefgh " * 100)
    settings = {
        **SMALL, "data.path": str(text), "data.tokenizer": "characters", "data.block_size": 16, "data.batch_size": 4,
        "data.cache_dir": str(tmp_path), "trainer.max_steps": 2, "trainer.val_check_interval": 2,
    }  # fmt: skip
    return run(resolve("gpt2_zh", overrides=settings), store=store)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    return main(words), *capsys.readouterr()


def test_each_prompt_has_its_continuations_and_their_cost(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--prompt", "ab", "--prompt", "c", "--num", "2", "--max_length", "5", "--top_k", "9")
    status, out, _ = said(capsys, "generate", str(folder), *words, "--json")
    told = json.loads(out)
    assert (status, [row["prompt"] for row in told["rows"]]) == (0, ["ab", "ab", "c", "c"])
    assert 0 < told["tokens"] <= 20
    assert told["tokens_per_second"] == pytest.approx(told["tokens"] / told["seconds"])
    assert told["cache_megabytes"] == pytest.approx(2 * 2 * 32 * 4 * (2 + 5) * 4 / 1e6)
    _, out, err = said(capsys, "generate", str(folder), *words)
    assert out == "".join(f"{row['prompt']}{row['text']}\n\n" for row in told["rows"])
    assert "tokens/s; cache 0.0 MB, peak memory" in err


def test_python_gives_the_texts_that_the_command_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--prompt", "ab", "--prompt", "c", "--num", "2", "--max_length", "5", "--top_k", "9", "--seed", "4")
    _, out, _ = said(capsys, "generate", str(folder), *words, "--json")
    texts = taolu.generate(str(folder), "ab", "c", num=2, max_length=5, top_k=9, seed=4)
    assert texts == [row["text"] for row in json.loads(out)["rows"]]


def test_a_stream_is_the_text_piece_by_piece(folder: Path, store: Store) -> None:
    speaker = open_speaker(str(folder), store)
    request = Request(("ab",), Truncation(top_k=50), max_length=30, seed=3)
    pieces = [*speaker.stream("ab", request)]
    assert len(pieces) > 3
    text = str(speaker.speak(request).rows[0]["text"])
    assert text.startswith("".join(pieces))
    assert set(text.removeprefix("".join(pieces))) <= {"\ufffd"}  # bytes that never made a character


def test_lines_that_are_typed_are_continued(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n" + "x" * 50 + "\nb\n\nc\n"))
    status, out, err = said(capsys, "generate", str(folder), "--interactive", "--temperature", "0", "--max_length", "3")
    assert (status, out.count("\n") >= 3) == (0, True)
    assert "taolu: the prompt has 50 tokens, the model 40 positions; give at most 39" in err


def test_a_run_and_its_export_speak_with_the_tokenizer_of_its_data(
    trained: Result, store: Store, tmp_path: Path
) -> None:
    assert trained.error == ""
    assert {"val/loss", "val/perplexity", "val/bits_per_byte"} <= trained.metrics.keys()
    spoken = open_speaker(trained.run_id[:8], store).speak(Request(("abc",), max_length=4))
    assert set(str(spoken.rows[0]["text"])) <= {*"abcdefgh ", "\ufffd"}
    assert main(["convert", "export", trained.run_id[:8], "--out", str(tmp_path / "out"), "--store", store.url]) == 0
    assert open_speaker(str(tmp_path / "out"), store).speak(Request(("abc",), max_length=4)).rows == spoken.rows
    media = trained.folder / "media" / "samples"
    rows = json.loads(next(media.iterdir()).read_text())
    assert {*rows[0]} == {"prompt", "text"}


def test_a_run_begins_from_another_by_name(writer: Writer) -> None:
    run_id = writer.run("base", tags={"taolu.kind": "run"})
    config = resolve("gpt2_zh", overrides={"model.init_from": "run:base"})
    with pytest.raises(ValueError, match=r"model.init_from = run:base: run \w{8} has no checkpoint; name another"):
        with_weights(config, writer.store)
    file = writer.file(run_id, "checkpoints/best.ckpt", "")
    begun, tags = with_weights(config, writer.store)
    assert (begun.values["model"]["init_from"], tags) == (str(file), {"taolu.uses": run_id})
    other = resolve("gpt2_zh")
    assert with_weights(other, writer.store) == (other, {})


def test_the_preset_is_the_article_s() -> None:
    pieces = WordPiece(["[PAD]", "[UNK]", *"今天气不错双十一科学空间。"])
    model = network("gpt2_ml", vocab_size=20, n_positions=300)
    spoken = Speaker(model, pieces).speak(PRESETS["7292"])
    assert [row["prompt"] for row in spoken.rows] == ["今天天气不错", "双十一", "科学空间"]
    for row in spoken.rows:
        assert 128 <= int(row["tokens"]) <= 256
        assert int(row["tokens"]) == 256 or str(row["text"]).endswith("。")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompt", "a" * 40], "the prompt has 40 tokens, the model 40 positions; give at most 39"),
        (["--prompt", "a", "--max_length", "40"], "max_length = 40: after a prompt of 1 tokens the model has 39 of"),
        (["--prompt", "a", "--top_p", "0"], r"--top_p = 0.0: must lie in (0, 1]"),
        (["--prompt", "a", "--top_p", "many"], "--top_p many: must be a number"),
        (["--prompt", "a", "--top_k", "0"], "--top_k 0: must be a whole number of at least 1"),
        (["--prompt", "a", "--top_p_edge", "x"], "--edge = 'x': must be keep or drop"),
        (["--prompt", "a", "--end_token", "。"], "--end_token '。': 3 tokens, not one"),
        (["--prompt", "a", "--min_length", "9", "--max_length", "8"], "max_length = 8: must be at least 1 and min"),
        (["--prompt", "a", "--preset", "1"], "--preset 1: must be one of 7292"),
        (["--prompt", "a", "--dtype", "int8"], "--dtype int8: must be one of float32, bfloat16, float16"),
        (["--prompt", "a", "--stream", "--num_beams", "2"], "--num_beams 2: beams know no text before the end"),
        ([], "needed: --prompt TEXT, --preset 7292 or --interactive"),
    ],
)
def test_what_cannot_be_continued_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    status, _, err = said(capsys, "generate", str(folder), *words)
    assert (status, err.count("\n")) == (2, 1)
    assert message in err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such", "no/such: no such folder; give one in transformers' format"),
        ("no.ckpt", "no.ckpt: no such file"),
        ("nobody", "holds no run yet"),
    ],
)
def test_a_model_that_is_not_there_is_refused(
    store: Store, capsys: pytest.CaptureFixture[str], source: str, message: str
) -> None:
    words = ("--store", str(store.folder), "--prompt", "a")
    status, _, err = said(capsys, "generate", source, *words)
    assert (status, err.count("\n")) == (2, 1)
    assert message in err


def test_a_checkpoint_of_another_model_is_refused(store: Store, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "hyper_parameters": {"latent_dim": 2}}, tmp_path / "vae.ckpt")
    with pytest.raises(ValueError, match=r"vae.ckpt: a checkpoint, but of no GPT-2"):
        open_speaker(str(tmp_path / "vae.ckpt"), store)


def test_an_end_token_the_vocabulary_lacks_is_refused() -> None:
    speaker: Any = Speaker(network("gpt2_ml", vocab_size=20), WordPiece(["[PAD]", "[UNK]", "天"]))
    with pytest.raises(ValueError, match=r"--end_token '。': not in the vocabulary"):
        speaker.speak(Request(("天",), end_token="。"))
