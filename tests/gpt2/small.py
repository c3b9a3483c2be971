"""Networks small enough to compute everything twice, with weights large enough that every one of them matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lightning_modules.data.wordpiece import WordPiece
from lightning_modules.gpt2 import GPT2
from lightning_modules.gpt2.network import from_config, new_config

V, P, D = 40, 48, 32


@torch.no_grad()
def enlarge(network: nn.Module) -> None:
    draws = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.add_(0.15 * torch.randn(parameter.shape, generator=draws).to(parameter.dtype))


def network(family: str = "gpt2", **settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"n_layers": 2, "width": D, "n_heads": 4, "vocab_size": V, "n_positions": P, **settings}
    found = from_config(new_config(family, **sizes))
    enlarge(found)
    found.train(False)
    return found


def module(**settings: Any) -> GPT2:
    found = GPT2(
        **{"n_layers": 2, "width": D, "n_heads": 4, "vocabulary_size": V, "block_size": 12, "seed": 0, **settings}
    )
    enlarge(found.model)
    return found


def ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(seed))


def batch(*lengths: list[int], size: int = 12, prompt: int = 0) -> dict[str, Tensor]:
    """Rows of documents of these lengths, the rest padding; the first tokens of a document are its prompt."""
    shape = (len(lengths), size)
    found = {
        "input_ids": ids(*shape, seed=sum(map(sum, lengths))),
        "labels": torch.full(shape, -100),
        "position_ids": torch.zeros(shape, dtype=torch.int64),
        "document_ids": torch.full(shape, -1),
        "bytes": ids(*shape, seed=7) % 4 + 1,
        "clean": ids(*shape, seed=8) % 2 == 0,
    }
    for row, documents in enumerate(lengths):
        first = 0
        for number, length in enumerate(documents):
            here = slice(first, first + length)
            found["position_ids"][row, here] = torch.arange(length)
            found["document_ids"][row, here] = number
            trained = slice(first + max(1, prompt), first + length)
            found["labels"][row, trained] = found["input_ids"][row, trained]
            first += length
    return found


def inputs(name: str, folder: Path) -> dict[str, Any]:
    """What a shipped experiment of a language model is run with: files of its user's, and a network of seconds."""
    if not name.startswith("gpt2"):
        return {}
    own: dict[str, Any] = {"model.n_layers": 1, "model.width": D, "data.cache_dir": str(folder / "tokens")}
    if name == "gpt2_pydoc":
        return {**own, "model.baselines": False, "trainer.limit_val_batches": 1}
    text = folder / "text.txt"
    text.write_text("今天天气不错，双十一。" * 300, encoding="utf-8")
    if name == "gpt2_zh":
        return {**own, "data.path": str(text)}
    pieces = WordPiece(["[PAD]", "[UNK]", *"今天气不错，双十一。"])
    family = "gpt2_ml" if name == "gpt2_ml_finetune" else "gpt2"
    network(family, vocab_size=20, n_positions=512).save_pretrained(folder / "model")
    pieces.save(folder / "model")
    given = {"data.path": str(text), "model.init_from": str(folder / "model"), "data.tokenizer": str(folder / "model")}
    return {**given, "data.cache_dir": str(folder / "tokens"), "data.batch_size": 1, "trainer.val_check_interval": 1.0}
