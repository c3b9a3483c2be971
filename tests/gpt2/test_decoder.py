"""Raw weights with a cache laid out beforehand, against transformers' forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.gpt2.adapters import add_lora
from lightning_modules.gpt2.decoder import Decoder
from tests.gpt2.small import P, enlarge, ids, network

FAMILIES = ["gpt2", "gpt2_ml"]


@torch.no_grad()
def last_logits(model: Any, tokens: Tensor) -> Any:
    return model(tokens, use_cache=False).logits[:, -1]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pieces", [[9], [1] * 9, [4, 3, 1, 1]])
def test_what_follows_is_what_transformers_says_however_the_tokens_come(family: str, pieces: list[int]) -> None:
    model, tokens = network(family), ids(2, 9)
    decoder = Decoder(model, torch.zeros(2, dtype=torch.int64), 9)
    found = [decoder.read(part) for part in torch.split(tokens, pieces, 1)]
    torch.testing.assert_close(found[-1], last_logits(model, tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_padded_on_the_left_are_read_as_alone(family: str) -> None:
    model, tokens, pads = network(family), ids(3, 9), [0, 4, 7]
    decoder = Decoder(model, torch.tensor(pads), 9)
    decoder.read(tokens[:, :-1])
    found = decoder.read(tokens[:, -1:])
    for row, pad in enumerate(pads):
        torch.testing.assert_close(found[row], last_logits(model, tokens[row : row + 1, pad:])[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"scale_attn_by_inverse_layer_idx": True}, {"activation_function": "relu"}, {"n_inner": 50}]
)
def test_the_variants_of_gpt2_are_known(settings: dict[str, Any]) -> None:
    model, tokens = network("gpt2", **settings), ids(1, 7)
    found = Decoder(model, torch.zeros(1, dtype=torch.int64), 7).read(tokens)
    torch.testing.assert_close(found, last_logits(model, tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_is_read_with_its_additions_and_without_dropout(family: str) -> None:
    model, tokens = network(family), ids(1, 7)
    add_lora(model, 2, None, 0.5)
    enlarge(model)
    model.train(False)
    wanted = last_logits(model, tokens)
    model.train()
    found = Decoder(model, torch.zeros(1, dtype=torch.int64), 7).read(tokens)
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-5)


def test_a_row_may_go_on_from_another() -> None:
    model, tokens = network(), ids(2, 6)
    decoder = Decoder(model, torch.zeros(2, dtype=torch.int64), 6)
    decoder.read(tokens[:, :5])
    decoder.reorder(torch.tensor([1, 1]))
    wanted = last_logits(model, torch.cat([tokens[1:, :5].expand(2, 5), tokens[:, 5:]], 1))
    torch.testing.assert_close(decoder.read(tokens[:, 5:]), wanted, atol=1e-5, rtol=1e-5)


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(ValueError, match=f"{P + 1} tokens: the model has {P} positions; shorten"):
        Decoder(network(), torch.tensor([0, 3]), P + 1)
