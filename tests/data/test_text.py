import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.build import build_parts
from experiments.config import resolve
from lightning_modules.data.text import Pydoc, Text, TextLoader, TextSet, pydoc_source
from lightning_modules.data.text_blocks import IGNORED, PADDING
from lightning_modules.data.text_sources import texts
from tests.data.recording import one_of

LINES = "".join(f"line {number} of {number * number}\n" for number in range(2000))


MODULE = """
import pytorch_lightning as pl


class Told(pl.LightningModule):
    def __init__(self, vocabulary_size: int = 0, block_size: int = 0) -> None:
        super().__init__()
        self.told = (vocabulary_size, block_size)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def pydoc(cache: str) -> Pydoc:
    return Pydoc(cache_dir=cache)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    (tmp_path / "lines.txt").write_text(LINES)
    return tmp_path / "lines.txt"


def text(path: Path, **settings: Any) -> Text:
    return Text(str(path), **{"cache_dir": str(path.parent / "tokens"), "tokenizer": "bytes", **settings})


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def batches(loader: TextLoader) -> list[dict[str, Tensor]]:
    return list(loader)


def test_pydoc_is_half_a_megabyte_whose_last_tenth_validates() -> None:
    source = pydoc_source(deduplicate=False)
    assert source.validation is not None
    train, validation = (sum(map(len, texts(part()))) for part in (source.train, source.validation))
    assert 400_000 < train + validation < 800_000
    assert validation == round((train + validation) / 10)


def test_no_paragraph_of_pydoc_stands_in_both_parts() -> None:
    source = pydoc_source()
    assert source.validation is not None
    train, validation = (
        {block for content in texts(part()) for block in content.split("\n\n") if len(block) >= 50}
        for part in (source.train, source.validation)
    )
    assert not train & validation


def test_the_bytes_of_pydocs_validation_targets_are_those_of_the_text(pydoc: Pydoc) -> None:
    found = batches(pydoc.val_dataloader())
    targets = [batch["labels"] != IGNORED for batch in found]
    n_bytes = sum(int(batch["bytes"][mask].sum()) for batch, mask in zip(found, targets, strict=True))
    source = pydoc_source()
    assert source.validation is not None
    documents = list(texts(source.validation()))
    firsts = sum(len(pydoc.tokenizer.decode(pydoc.tokenizer.encode(each)[:1]).encode()) for each in documents)
    assert n_bytes == pydoc.n_val_bytes == sum(len(each.encode()) for each in documents) - firsts
    assert sum(int(mask.sum()) for mask in targets) == pydoc.n_val_tokens - len(documents)


def test_most_of_pydocs_validation_part_is_clean_and_some_is_not(pydoc: Pydoc) -> None:
    clean = torch.cat([batch["clean"][batch["document_ids"] != PADDING] for batch in pydoc.val_dataloader()])
    assert 0.7 < clean.float().mean() < 0.95


def test_counting_and_compression_cost_pydoc_what_they_are_known_to(pydoc: Pydoc) -> None:
    found = pydoc.baselines()
    assert found["baseline/witten_bell_bits_per_byte"] == pytest.approx(1.9, abs=0.15)
    assert found["baseline/xz_bits_per_byte"] == pytest.approx(1.5, abs=0.2)


def test_baselines_are_computed_once_for_all_runs_on_a_text(pydoc: Pydoc, cache: str) -> None:
    found = pydoc.baselines()
    [kept] = [file for file in Path(cache).rglob("baselines.json") if json.loads(file.read_text()) == found]
    written = kept.stat().st_mtime_ns
    assert Pydoc(cache_dir=cache).baselines() == found
    assert kept.stat().st_mtime_ns == written


def test_the_digest_follows_text_tokenizer_and_blocks_and_not_the_seed(cache: str, pydoc: Pydoc) -> None:
    digests = {
        pydoc.digest,
        Pydoc(cache_dir=cache, tokenizer="bytes").digest,
        Pydoc(cache_dir=cache, block_size=64).digest,
        Pydoc(cache_dir=cache, deduplicate=False).digest,
    }
    assert len(digests) == 4
    assert Pydoc(cache_dir=cache, seed=1).digest == pydoc.digest


def test_training_batches_are_whole_blocks_of_the_text(pydoc: Pydoc) -> None:
    found = batches(pydoc.train_dataloader())
    assert len(found) == pydoc.n_train // 16
    assert {key: (value.shape, value.dtype) for key, value in found[0].items()} == dict.fromkeys(
        ("input_ids", "labels", "position_ids", "document_ids"), ((16, 128), torch.int64)
    )
    source = pydoc_source()
    whole = "".join(texts(source.train()))
    assert pydoc.tokenizer.decode(found[0]["input_ids"][0][found[0]["document_ids"][0] == 0].tolist()) in whole


def test_an_epoch_is_entered_at_any_batch_and_follows_from_the_seed(pydoc: Pydoc) -> None:
    loader = pydoc.train_dataloader()
    loader.sampler.set_epoch(3)
    expected = batches(loader)[40:]
    other = pydoc.train_dataloader()
    other.sampler.set_epoch(3)
    other.load_state_dict({"batch": 40})
    for first, second in zip(expected, other, strict=True):
        assert torch.equal(first["input_ids"], second["input_ids"])
    other.sampler.set_epoch(4)
    assert not torch.equal(batches(other)[40]["input_ids"], expected[0]["input_ids"])


def test_two_processes_share_the_batches_of_one(lines: Path) -> None:
    whole = batches(text(lines, batch_size=8, block_size=64).train_dataloader())
    shares = []
    for rank in range(2):
        with one_of(2, rank):
            shares.append(batches(text(lines, batch_size=4, block_size=64).train_dataloader()))
    for batch, first, second in zip(whole, *shares, strict=True):
        assert torch.equal(batch["input_ids"], torch.cat([first["input_ids"], second["input_ids"]]))


def test_tokens_are_encoded_once_and_read_from_the_cache(lines: Path) -> None:
    first = text(lines, tokenizer="bpe", vocabulary_size=300)
    folders = {folder: folder.stat().st_mtime_ns for folder in (lines.parent / "tokens").iterdir() if folder.is_dir()}
    again = text(lines, tokenizer="bpe", vocabulary_size=300)
    assert {folder: folder.stat().st_mtime_ns for folder in folders} == folders
    assert len(folders) == 1
    assert (again.digest, again.tokenizer.digest) == (first.digest, first.tokenizer.digest)
    assert torch.equal(*(next(iter(data.train_dataloader()))["input_ids"] for data in (first, again)))


def test_an_edited_text_is_encoded_anew(lines: Path) -> None:
    before = text(lines)
    lines.write_text(LINES + "more\n" * 100)
    assert text(lines).n_val_tokens > before.n_val_tokens


def test_what_fails_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", *({"text": "x" * 90} for _ in range(3)), {"txt": "y"})
    with pytest.raises(ValueError, match=r"a.jsonl: line 4: no key 'text'"):
        text(path)
    assert [entry for entry in (tmp_path / "tokens").iterdir() if entry.is_dir()] == []


def test_lines_as_documents_are_packed_without_a_target_across_them(lines: Path) -> None:
    data = text(lines, document="line", packing="best_fit", block_size=64)
    batch = next(iter(data.val_dataloader()))
    for row in range(16):
        for document in range(int(batch["document_ids"][row].max()) + 1):
            here = batch["document_ids"][row] == document
            ids = batch["input_ids"][row][here].tolist()
            assert data.tokenizer.decode(ids) + "\n" in LINES
            assert ids[-1] == data.tokenizer.end_id
            assert batch["labels"][row][here].tolist() == [IGNORED, *ids[1:]]
            assert batch["position_ids"][row][here].tolist() == list(range(len(ids)))


def test_a_completion_is_trained_on_and_its_prompt_is_not(tmp_path: Path) -> None:
    rows = ({"prompt": f"{number}+1=", "completion": str(number + 1)} for number in range(200))
    data = text(jsonl(tmp_path / "sums.jsonl", *rows), block_size=32, batch_size=4)
    batch = next(iter(data.val_dataloader()))
    here = batch["document_ids"][0] == 0
    prompt, _, completion = data.tokenizer.decode(batch["input_ids"][0][here].tolist()).partition("=")
    targets = batch["labels"][0][here]
    assert sum(map(int, prompt.split("+"))) == int(completion)
    assert data.tokenizer.decode(targets[targets != IGNORED].tolist()) == completion


def test_labels_make_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    rows = ({"text": f"{word} {number}", "kind": word} for number in range(50) for word in ("good", "bad"))
    data = text(jsonl(tmp_path / "words.jsonl", *rows), label_key="kind", block_size=8, batch_size=4)
    assert (data.n_classes, data.class_names, data.n_val) == (2, ["bad", "good"], 10)
    for batch in data.val_dataloader():
        words = [data.tokenizer.decode(row.tolist()).split()[0] for row in batch["input_ids"]]
        assert [data.class_names[int(label)] for label in batch["label"]] == words


def test_text_without_classes_has_no_number_of_them(pydoc: Pydoc) -> None:
    assert not hasattr(pydoc, "n_classes")
    assert isinstance(pydoc, TextSet)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block_size": 1}, r"^data.block_size = 1: must be at least 2: one token and the one after it$"),
        ({"block_size": 99_999}, r"^training part of lines: \d+ tokens are less than one block of 99999; give more"),
        ({"batch_size": 0}, r"^data.batch_size = 0: must be at least 1$"),
        ({"batch_size": 9999}, r"^data.batch_size = 9999: larger than the \d+ training blocks of lines; use at most"),
        ({"packing": "best"}, r"^data.packing = 'best': unknown packing \(did you mean 'best_fit'\?\); allowed: seq"),
        ({"validation_fraction": 1.0}, r"^data.validation_fraction = 1.0: must lie in \(0, 1\); 0.1 keeps 10 %"),
        ({"tokenizer": "bpe", "vocabulary_size": 9}, r"^data.vocabulary_size = 9: a byte-level BPE has at least 257"),
        ({"tokenizer": "bqe"}, r"^data.tokenizer = 'bqe': unknown tokenizer \(did you mean 'bpe'\?\); allowed: "),
        ({"sampling": "random"}, r"^data.sampling = 'random': unknown order; allowed: "),
    ],
)
def test_unfit_settings_are_refused(lines: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        text(lines, **settings)


def test_an_empty_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match=r"^empty: holds no text; give a file with some$"):
        text(tmp_path / "empty.txt")
    (tmp_path / "vocab.txt").write_text("[UNK]")
    (tmp_path / "blank.txt").write_text(" \n" * 99)
    with pytest.raises(ValueError, match=r"^blank: holds no text in its train part; give a file with some$"):
        text(tmp_path / "blank.txt", tokenizer=f"wordpiece:{tmp_path / 'vocab.txt'}")


def test_a_prompt_that_fills_its_block_is_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "pairs.jsonl", *({"prompt": "x" * 39 + each, "completion": "y"} for each in "ab"))
    with pytest.raises(
        ValueError, match=r"part of pairs: the prompt of document 0 has 40 tokens, and a block 32; raise"
    ):
        text(path, block_size=32)


def test_a_class_that_only_validates_is_refused(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", {"text": "a", "kind": "x"}, {"text": "b", "kind": "y"})
    jsonl(tmp_path / "test.jsonl", {"text": "c", "kind": "z"})
    with pytest.raises(ValueError, match=r": class 'z' validates and is in no training document; give one$"):
        text(tmp_path, label_key="kind", cache_dir=str(tmp_path / "tokens"))


def test_a_model_is_told_vocabulary_and_block_size_which_stay_options_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(MODULE)
    settings = {"data": "pydoc", "data.block_size": 32, "data.vocabulary_size": 300, "data.cache_dir": str(tmp_path)}
    module, data = build_parts(resolve(f"{tmp_path / 'told.py'}:Told", overrides=settings))
    assert module.told == (data.vocabulary_size, data.block_size) == (300, 32)
