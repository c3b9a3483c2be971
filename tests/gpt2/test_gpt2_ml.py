"""The architecture of GPT2_ML; its logits are compared with the written-out specification in tests/checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForCausalLM

from lightning_modules.gpt2 import GPT2MLConfig, GPT2MLForCausalLM, GPT2MLModel

SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 40,
}


def model_of(**changes: Any) -> Any:
    torch.manual_seed(0)
    settings = {**SIZES, "max_position_embeddings": 20, "initializer_range": 0.5, "pad_token_id": None, **changes}
    model: Any = GPT2MLForCausalLM(GPT2MLConfig(**settings))
    model.eval()
    for name, parameter in model.named_parameters():
        if "norm" in name or "bias" in name:  # else every one is 0 or 1 and could be left out
            torch.nn.init.normal_(parameter, mean=1.0)
    return model


MODEL = model_of()
IDS = torch.randint(1, 50, (2, 12), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(ids: Tensor, model: Any = MODEL, **inputs: Any) -> Any:
    return model(ids, **inputs).logits


def test_a_token_sees_none_behind_it() -> None:
    changed = IDS.clone()
    changed[:, 7:] = 3
    torch.testing.assert_close(logits(changed)[:, :7], logits(IDS)[:, :7])
    assert (logits(changed)[:, 7:] != logits(IDS)[:, 7:]).any()


def test_steps_with_the_cache_give_the_logits_of_the_whole_text() -> None:
    past, found = None, []
    for t in range(12):
        with torch.no_grad():
            step = MODEL(IDS[:, t : t + 1], past_key_values=past, use_cache=True)
        past = step.past_key_values
        found.append(step.logits)
    torch.testing.assert_close(torch.cat(found, 1), logits(IDS), atol=1e-5, rtol=1e-5)


def test_greedy_tokens_are_the_same_with_and_without_cache() -> None:
    cached, bare = (
        MODEL.generate(IDS[:1, :4], max_new_tokens=16, do_sample=False, use_cache=it) for it in (True, False)
    )
    assert cached.tolist() == bare.tolist()
    assert cached.shape == (1, 20)


def test_a_text_padded_at_its_left_goes_on_as_alone() -> None:
    padded = torch.cat([torch.zeros(1, 5, dtype=torch.long), IDS[:1, :7]], 1)
    ids, mask = torch.cat([padded, IDS[1:]]), torch.ones(2, 12, dtype=torch.long)
    mask[0, :5] = 0
    model = model_of(pad_token_id=0)
    together = model.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=False)
    alone = model.generate(IDS[:1, :7], attention_mask=mask[1:, :7], max_new_tokens=8, do_sample=False)
    assert together[0, 12:].tolist() == alone[0, 7:].tolist()


def test_texts_packed_behind_a_mask_have_the_logits_they_have_alone() -> None:
    documents = torch.tensor([[0] * 5 + [1] * 7])
    sees = (documents[:, :, None] == documents[:, None, :]) & torch.ones(12, 12, dtype=torch.bool).tril()
    positions = torch.tensor([[*range(5), *range(7)]])
    packed = logits(IDS[:1], attention_mask=sees[:, None], position_ids=positions)
    alone = torch.cat([logits(IDS[:1, :5]), logits(IDS[:1, 5:])], 1)
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits(IDS[:1], position_ids=positions, use_cache=False), alone, atol=1e-5, rtol=1e-5)


def test_positions_beyond_the_table_are_refused() -> None:
    assert logits(torch.ones(1, 20, dtype=torch.long)).shape == (1, 20, 50)
    with pytest.raises(ValueError, match="position 20: this model has 20, 0 to 19; use a shorter text"):
        logits(torch.ones(1, 21, dtype=torch.long))
    with pytest.raises(ValueError, match="position 20"):
        MODEL.generate(IDS[:1], max_new_tokens=10, min_new_tokens=10)
    with pytest.raises(ValueError, match="position 33"):
        logits(IDS[:1, :1], position_ids=torch.tensor([[33]]))


def test_eager_attention_agrees_with_the_fused_one() -> None:
    eager = model_of()
    eager.set_attn_implementation("eager")
    found = eager(IDS, output_attentions=True, output_hidden_states=True)
    torch.testing.assert_close(found.logits, logits(IDS), atol=1e-5, rtol=1e-5)
    assert [len(found.attentions), len(found.hidden_states)] == [3, 4]
    torch.testing.assert_close(found.attentions[0].sum(-1), torch.ones(2, 3, 12))


def test_the_loss_is_the_mean_over_next_tokens_that_are_labelled() -> None:
    labels = IDS.clone()
    labels[0, :6] = -100
    expected = F.cross_entropy(logits(IDS)[:, :-1].reshape(-1, 50), labels[:, 1:].reshape(-1))
    torch.testing.assert_close(MODEL(IDS, labels=labels).loss, expected)
    torch.testing.assert_close(MODEL(IDS, labels=labels, num_items_in_batch=34).loss, expected * 17 / 34)


def test_recomputing_activations_leaves_gradients_as_they_are() -> None:
    plain, thrifty = model_of(hidden_dropout_prob=0.0).train(), model_of(hidden_dropout_prob=0.0).train()
    thrifty.activation_checkpointing_enable()
    for model in (plain, thrifty):
        model(IDS, labels=IDS).loss.backward()
    for ours, theirs in zip(thrifty.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_saved_folder_loads_equal_and_holds_the_tied_head_once(tmp_path: Path) -> None:
    MODEL.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert {*file.keys()} == {*MODEL.state_dict()} - {"lm_head.weight"}
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(loaded, GPT2MLForCausalLM)
    assert loaded.lm_head.weight is loaded.transformer.wte.weight
    assert torch.equal(logits(IDS, loaded), logits(IDS))
    bare = AutoModel.from_pretrained(tmp_path)
    assert isinstance(bare, GPT2MLModel)
    assert torch.equal(F.linear(bare(IDS).last_hidden_state, bare.wte.weight), logits(IDS))


def test_new_weights_lie_within_two_standard_deviations() -> None:
    model: Any = GPT2MLForCausalLM(GPT2MLConfig(**{**SIZES, "hidden_size": 96, "initializer_range": 0.1}))
    kernel = model.transformer.h[1].intermediate.weight
    assert 0.19 < kernel.abs().max() <= 0.2
    assert abs(kernel.std() - 0.088) < 0.004  # of a normal cut off at two: 0.88
    assert (model.transformer.h[1].intermediate.bias == 0).all()


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden_size = 24 must be a multiple of num_attention_heads = 5"):
        model_of(num_attention_heads=5)


def test_ids_and_embeddings_together_are_refused() -> None:
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        MODEL()
    embedded = MODEL.transformer.wte(IDS)
    torch.testing.assert_close(MODEL(inputs_embeds=embedded).logits, logits(IDS))
