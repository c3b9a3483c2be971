"""The Lightning module: what is minimised, recorded, frozen and kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from safetensors import safe_open
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

from lightning_modules.data.text_tokenizers import Bytes, Characters
from lightning_modules.dynamics import hessian_vector_product, per_sample_gradients
from lightning_modules.dynamics.probe import _RowLosses
from lightning_modules.gpt2 import GPT2
from lightning_modules.gpt2.adapters import merged
from lightning_modules.gpt2.sources import save_network
from tests.gpt2.small import D, V, batch, ids, module

FAMILIES = ["gpt2", "gpt2_ml"]
RAGGED = [batch([9, 3]), batch([2], [12]), batch([5, 5]), batch([12], [4, 3])]
CPU: dict[str, Any] = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "max_epochs": 1,
}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on loaders and hooks


class Data:
    """What the module asks of a data part."""

    def __init__(self, tokenizer: Any = None, **facts: Any) -> None:
        self.tokenizer = tokenizer
        self.vocabulary_size, self.block_size = V, 12
        vars(self).update(facts)


def loader(rows: list[dict[str, Tensor]]) -> DataLoader[Any]:
    return DataLoader(rows, batch_size=None)  # type: ignore[arg-type]


class Kept(GPT2):
    """Keeps its gradients before each step."""

    stepped_with: list[Tensor]

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.stepped_with.append(gradient(self))


def gradient(model: GPT2) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def one_batch_gradient(model: GPT2, rows: list[dict[str, Tensor]]) -> Tensor:
    """Of the mean over all tokens, by one backward pass through one batch."""
    model.zero_grad()
    whole = {key: torch.cat([row[key] for row in rows]) for key in rows[0]}
    labels = whole["labels"][:, 1:]
    logits = model._read(whole)[:, :-1]
    F.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()  # type: ignore[no-untyped-call]
    return gradient(model)


@pytest.mark.parametrize(("precision", "tolerance"), [("64-true", 1e-12), ("32-true", 1e-6)])
def test_ragged_micro_batches_step_with_the_gradient_of_one_batch(precision: Any, tolerance: float) -> None:
    model = Kept(
        n_layers=1, width=D, n_heads=4, vocabulary_size=V, block_size=12, optimizer={"class": "sgd", "lr": 1e-18}
    )
    model.stepped_with = []
    trainer = pl.Trainer(**CPU, accumulate_grad_batches=2, precision=precision)
    trainer.fit(model, loader(RAGGED))
    for found, rows in zip(model.stepped_with, (RAGGED[:2], RAGGED[2:]), strict=True):
        wanted = one_batch_gradient(model, rows)
        assert (found - wanted).norm() < tolerance * wanted.norm()


def test_the_recorded_loss_is_the_mean_over_the_tokens_of_the_batch() -> None:
    model, rows = module(), batch([9, 3], [2, 5])
    terms = model.training_step(rows, 0)
    logits, labels = model._read(rows)[:, :-1], rows["labels"][:, 1:]
    torch.testing.assert_close(terms["loss"], F.cross_entropy(logits.flatten(0, 1), labels.flatten()))
    assert terms["tokens"] == 8 + 2 + 1 + 4


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_documents_get_the_logits_they_get_alone(family: str) -> None:
    model, rows = module(architecture=family), batch([5, 7], [3, 2, 4])
    packed = model._read(rows)
    for row, first, length in ((0, 0, 5), (0, 5, 7), (1, 0, 3), (1, 3, 2), (1, 5, 4)):
        here = slice(first, first + length)
        alone = model(rows["input_ids"][row : row + 1, here])
        torch.testing.assert_close(packed[row : row + 1, here], alone, atol=1e-5, rtol=1e-5)


def test_prompts_are_read_and_not_learnt() -> None:
    model, rows = module(), batch([12], [8], prompt=4)
    assert model.training_step(rows, 0)["tokens"] == 8 + 4
    other = {**rows, "input_ids": rows["input_ids"].clone()}
    other["input_ids"][:, 1] = (rows["input_ids"][:, 1] + 1) % V
    losses, is_target = model._token_losses(rows)
    assert not is_target[:, :3].any()
    assert (losses[:, :3] == 0).all()
    assert (model._token_losses(other)[0] != losses)[is_target].all()


def test_only_rows_of_several_documents_need_a_mask() -> None:
    model = module()
    assert "document_ids" not in model.on_before_batch_transfer(batch([9], [12]), 0)
    assert "document_ids" in model.on_before_batch_transfer(batch([9], [6, 6]), 0)
    assert model.on_before_batch_transfer([1], 0) == [1]


@pytest.mark.parametrize("task", ["generate", "classify"])
def test_rows_have_losses_gradients_and_curvature_of_their_own(task: Any) -> None:
    model = module(task=task, n_classes=3, n_layers=1).train(False)
    rows = {**batch([12], [7], [3]), "label": torch.tensor([2, 0, 1])}
    rows = model.on_before_batch_transfer(rows, 0)
    alone = [model.per_sample_loss({key: value[row : row + 1] for key, value in rows.items()}) for row in range(3)]
    torch.testing.assert_close(model.per_sample_loss(rows), torch.cat(alone))
    if task == "generate":
        losses, is_target = model._token_losses(rows)
        torch.testing.assert_close(alone[1][0], losses[1][is_target[1]].mean())
    weights = {name: p.detach() for name, p in model.named_parameters()}
    whole = _RowLosses(model)

    def losses_at(weights: Any, rows: Any) -> Tensor:
        found: Tensor = functional_call(whole, ({f"module.{name}": p for name, p in weights.items()},), (rows,))
        return found

    model.per_sample_loss(rows).mean().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(per_sample_gradients(losses_at, weights, rows).mean(0), gradient(model))
    product = hessian_vector_product(losses_at, weights, rows)
    u, v = torch.randn(2, sum(p.numel() for p in weights.values()), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(u @ product(v), v @ product(u), rtol=1e-3, atol=1e-3)


def test_validation_weighs_every_token_and_byte_alike() -> None:
    model, rows = module(), [batch([9, 3]), batch([2], [12]), batch([4, 4])]
    found = pl.Trainer(**CPU).validate(model, loader(rows), verbose=False)[0]
    nats = clean_nats = n_tokens = n_bytes = clean_bytes = 0.0
    for part in rows:
        losses, is_target = (each[:, :-1] for each in model._token_losses(part))
        sizes, clean = part["bytes"][:, 1:], part["clean"][:, 1:] & is_target
        nats, n_tokens = nats + float(losses.sum()), n_tokens + int(is_target.sum())
        n_bytes, clean_bytes = n_bytes + int(sizes[is_target].sum()), clean_bytes + int(sizes[clean].sum())
        clean_nats += float(losses[clean].sum())
    assert found["val/loss"] == pytest.approx(nats / n_tokens, rel=1e-6)
    assert found["val/perplexity"] == pytest.approx(math.exp(nats / n_tokens), rel=1e-5)
    assert found["val/bits_per_byte"] == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-6)
    assert found["val/bits_per_byte_clean"] == pytest.approx(clean_nats / math.log(2) / clean_bytes, rel=1e-6)


def test_biases_and_norms_do_not_decay() -> None:
    optimizer = module(optimizer={"class": "torch.AdamW", "lr": 1e-3, "weight_decay": 0.1}).configure_optimizers()
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0)
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in spared["params"]} == {1}


@pytest.mark.parametrize("name", ["sgd", "adafactor", "lion", "tiger"])
def test_any_optimizer_trains_it(name: str) -> None:
    model = module(optimizer={"class": name, "lr": 1e-2})
    before = model.model.lm_head.weight.detach().clone()
    pl.Trainer(**CPU, gradient_clip_val=1.0).fit(model, loader(RAGGED[:1]))
    assert (model.model.lm_head.weight != before).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_gives_the_same_gradient(family: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = module(architecture=family, checkpointing=checkpointing)
        model.training_step(RAGGED[0], 0)["loss"].backward()  # type: ignore[no-untyped-call]
        gradients.append(gradient(model))
    torch.testing.assert_close(*gradients)


# ---- parts that are trained -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lora_leaves_the_base_as_it_is_and_merges_into_it(family: Any, dtype: Any) -> None:
    adam = {"class": "torch.Adam", "lr": 1e-2}
    model = GPT2(family, 2, D, 4, lora_rank=3, frozen_dtype=dtype, vocabulary_size=V, block_size=12, optimizer=adam)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    precision: Any = "32-true" if dtype == "float32" else "bf16-mixed"
    pl.Trainer(**CPU, precision=precision).fit(model, loader(RAGGED))
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {key for key in before if ".lora_" in key}
    assert all(value.dtype == getattr(torch, dtype) for key, value in before.items() if ".lora_" not in key)
    if dtype == "float32":
        whole: Any = merged(model.model)
        tokens = ids(2, 12)
        torch.testing.assert_close(whole(tokens).logits, model(tokens), atol=1e-5, rtol=1e-5)
        assert whole.lm_head.weight is whole.transformer.wte.weight


def test_lora_begins_as_the_model_it_is_added_to() -> None:
    plain, added = (GPT2(n_layers=1, width=D, vocabulary_size=V, block_size=12, lora_rank=rank) for rank in (None, 4))
    torch.testing.assert_close(plain(ids(1, 9)), added(ids(1, 9)), atol=0, rtol=0)


def test_frozen_blocks_take_the_embeddings_with_them() -> None:
    model = module(n_frozen=1)
    frozen = {name for name, p in model.model.named_parameters() if not p.requires_grad}
    assert {name.removeprefix("transformer.").split(".")[0] for name in frozen} == {"wte", "wpe", "h"}
    assert {name.split(".")[2] for name in frozen if ".h." in name} == {"0"}


def test_a_classifier_judges_by_the_last_token_whatever_pads_it() -> None:
    model = module(task="classify", n_classes=3)
    rows = {**batch([12], [7]), "label": torch.tensor([2, 0])}
    other = {**rows, "input_ids": rows["input_ids"].clone()}
    other["input_ids"][1, 7:] = 1
    torch.testing.assert_close(model._class_scores(rows), model._class_scores(other), atol=0, rtol=0)
    alone = model._class_scores({key: value[1:, :7] if value.ndim > 1 else value[1:] for key, value in rows.items()})
    torch.testing.assert_close(model._class_scores(rows)[1:], alone, atol=1e-5, rtol=1e-5)


def test_a_classifier_learns() -> None:
    model = module(task="classify", n_classes=2, optimizer={"class": "torch.Adam", "lr": 1e-2})
    rows = {**batch(*([12] for _ in range(32))), "label": torch.zeros(32, dtype=torch.int64)}
    rows["label"] = (rows["input_ids"][:, 11] < V // 2).long()
    trainer = pl.Trainer(**{**CPU, "max_epochs": 12})
    trainer.fit(model, loader([rows]), loader([rows]))
    assert trainer.callback_metrics["val/accuracy"] > 0.9


# ---- what it keeps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"architecture": "gpt2_ml"}, {"lora_rank": 2}])
def test_an_export_is_read_by_transformers_and_begun_from(settings: dict[str, Any], tmp_path: Path) -> None:
    model = module(**settings)
    tokenizer = Characters("abcdefghij")
    model.check_data(Data(tokenizer))
    save_network(model.model, tokenizer, tmp_path / "out")
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    begun = GPT2(init_from=str(tmp_path / "out"))
    for found in (reloaded(ids(2, 9)).logits, begun(ids(2, 9))):
        torch.testing.assert_close(found, model(ids(2, 9)), atol=2e-5, rtol=1e-5)
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 not a mapping
    begun.check_data(Data(tokenizer))
    with pytest.raises(ValueError, match=r"data.tokenizer: its tokens are not those the model was trained on"):
        begun.check_data(Data(Characters("klmno")))


def test_a_checkpoint_is_whole_without_what_its_run_began_from(tmp_path: Path) -> None:
    save_network(module().model, None, tmp_path / "base")
    first = GPT2(init_from=str(tmp_path / "base"), lora_rank=2, optimizer={"class": "sgd", "lr": 0.1})
    first.check_data(Data(Characters("abc")))
    trainer = pl.Trainer(**CPU)
    trainer.fit(first, loader(RAGGED[:1]))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    (tmp_path / "base" / "model.safetensors").unlink()
    again = GPT2.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    torch.testing.assert_close(again.train(False)(ids(1, 9)), first.train(False)(ids(1, 9)), atol=0, rtol=0)
    assert again.tokenizer is not None
    assert again.tokenizer.encode("cab") == [4, 2, 3]
    begun = GPT2(init_from=str(tmp_path / "run.ckpt"))
    torch.testing.assert_close(begun.train(False)(ids(1, 9)), first(ids(1, 9)), atol=1e-5, rtol=1e-5)


def test_the_same_prompts_are_continued_alike_after_each_validation() -> None:
    model = module(vocabulary_size=257, prompts=("ab", "c"), seed=5)
    model.check_data(Data(Bytes()))
    pl.Trainer(**CPU).validate(model, loader(RAGGED[:1]), verbose=False)
    texts = model.texts()["samples"]
    assert [row["prompt"] for row in texts] == ["ab", "c"]
    assert texts == model.texts()["samples"]
    model.prompts = ()
    assert [row["prompt"] for row in model.texts()["samples"]] == [Bytes().decode(RAGGED[0]["input_ids"][0, :6])]


def test_dropout_is_set_in_a_model_to_begin_from(tmp_path: Path) -> None:
    save_network(module(dropout=0.3).model, None, tmp_path / "base")
    begun = GPT2(init_from=str(tmp_path / "base"), dropout=0.1, config={"layer_norm_epsilon": 1e-3}).model.config
    assert (begun.resid_pdrop, begun.embd_pdrop, begun.attn_pdrop, begun.layer_norm_epsilon) == (0.1, 0.1, 0.1, 1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 30}, r"model.width = 30: must be a multiple of model.n_heads = 4"),
        ({"n_layers": 0}, r"model.n_layers = 0: must be at least 1"),
        ({"dropout": 1.0}, r"model.dropout = 1.0: must lie in \[0, 1\)"),
        ({"config": {"n_hed": 3}}, r"model.config: gpt2 has no setting 'n_hed' \(did you mean 'n_head'\?\)"),
        ({"task": "classify"}, r"model.task = classify: the data has no labels"),
        ({"lora_rank": 0}, r"model.lora_rank = 0: must be at least 1"),
        ({"frozen_dtype": "bfloat16"}, r"model.frozen_dtype = bfloat16: only with model.lora_rank"),
        ({"n_frozen": 3}, r"model.n_frozen = 3: must lie in \[0, 2\]"),
        ({"init_from": "nowhere"}, r"model.init_from = nowhere: no such folder; give a folder in transformers' format"),
        ({"init_from": "nowhere.ckpt"}, r"model.init_from = nowhere.ckpt: no such file"),
        ({"init_from": "run:last"}, r"model.init_from = run:last: no such folder"),
        ({"init_from": str(Path(__file__).parent)}, r"tests/gpt2: cannot be loaded \("),
    ],
)
def test_settings_that_no_model_has_are_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        module(**settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"vocabulary_size": V + 1}, rf"data.tokenizer: {V + 1} tokens, the model has {V}"),
        ({"block_size": 13}, r"data.block_size = 13: the model has 12 positions"),
        ({"tokenizer": Bytes()}, r"the prompt has 14 tokens, the model 12 positions"),
    ],
)
def test_data_that_do_not_fit_are_refused(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(prompts=("fourteen bytes",)).check_data(Data(**facts))
