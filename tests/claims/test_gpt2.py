"""The claims of article 7292: small models against transformers' own, formulas against counts, verdicts at seed 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from experiments.claims import fine_tuning, generation, optimizer_memory
from experiments.claims.block_orders import gradient_ratio
from experiments.claims.context import Context
from experiments.claims.gpt2 import CLAIMS
from experiments.claims.optimizer_memory import PUBLIC, Sizes, measured_bytes, n_kept, n_weights
from experiments.claims.registry import Claim
from experiments.claims.small_transformers import (
    Order,
    Shape,
    Training,
    V,
    Weights,
    clip,
    corpus,
    first_weights,
    losses,
    states,
    windows,
)
from experiments.claims.verdict import decide
from lightning_modules.gpt2.network import from_config, new_config

FAILING = {"G2.2", "G6.1"}
CHEAP = tuple(claim for claim in (*optimizer_memory.CLAIMS, *generation.CLAIMS) if "G2.3" not in claim.id)
SHAPES = [Shape(order, width=16, length=12) for order in ("gpt2", "gpt2_ml")]


def label(claim: Claim) -> str:
    return claim.id.removeprefix("7292-")


def verdicts(claims: tuple[Claim, ...]) -> dict[str, str]:
    battery = [(claim, claim.probe(Context(seed=0))) for claim in claims]
    return {label(claim): one.verdict for (claim, _), one in zip(battery, decide(battery), strict=True)}


def expected(claims: tuple[Claim, ...]) -> dict[str, str]:
    return {label(claim): "fails" if label(claim) in FAILING else "holds" for claim in claims}


def random_weights(shape: Shape, n: int) -> Weights:
    """Gains and biases too, so that each of them matters."""
    draws = torch.Generator().manual_seed(0)
    first = first_weights(shape, n, draws)
    return {name: weight + 0.1 * torch.randn(weight.shape, generator=draws) for name, weight in first.items()}


def characters(n: int, n_rows: int, length: int) -> torch.Tensor:
    return torch.randint(V, (n, n_rows, length), generator=torch.Generator().manual_seed(1))


def public_network(shape: Shape, weights: Weights, r: int) -> Any:
    """Model r as transformers' GPT2LMHeadModel or our GPT2MLForCausalLM has it."""
    sizes = {"n_layers": shape.n_layers, "width": shape.width, "n_heads": shape.n_heads}
    more: dict[str, Any] = {"vocab_size": V, "n_positions": shape.length}
    if shape.order == "gpt2":
        more["activation_function"] = "gelu"
    network: Any = from_config(new_config(shape.order, **sizes, **more))
    network.train(False)
    own = {
        name: weight[r].squeeze(0) if name.endswith(".b") or "norm" in name else weight[r]
        for name, weight in weights.items()
    }
    inner = network.transformer
    filled = {inner.wte: {"weight": own["words"]}, inner.wpe: {"weight": own["places"]}}
    for i, block in enumerate(inner.h):
        attention, norms = block.attn if shape.order == "gpt2" else block.attention, ("ln_1", "ln_2")
        wide = {name: (own[f"{i}.{name}"], own[f"{i}.{name}.b"]) for name in ("qkv", "mix", "widen", "narrow")}
        if shape.order == "gpt2":  # whose Conv1D has matrices [in, out]
            places = {
                "qkv": attention.c_attn,
                "mix": attention.c_proj,
                "widen": block.mlp.c_fc,
                "narrow": block.mlp.c_proj,
            }
            filled |= {places[name]: {"weight": W, "bias": b} for name, (W, b) in wide.items()}
        else:
            norms = ("norm_0", "norm_1")
            thirds = zip(*(each.chunk(3, -1) for each in wide.pop("qkv")), strict=True)
            linear = dict(zip((attention.query, attention.key, attention.value), thirds, strict=True))
            linear |= {
                attention.projection: wide["mix"],
                block.intermediate: wide["widen"],
                block.output: wide["narrow"],
            }
            filled |= {layer: {"weight": W.T, "bias": b} for layer, (W, b) in linear.items()}
        for place, norm in enumerate(norms):
            name = f"{i}.norm_{place}"
            filled[getattr(block, norm)] = {"weight": own[name], "bias": own[f"{name}.b"]}
    filled[inner.ln_f if shape.order == "gpt2" else inner.norm] = {"weight": own["norm"], "bias": own["norm.b"]}
    for layer, tensors in filled.items():
        layer.load_state_dict(tensors)
    return network


def test_cheap_claims_have_these_verdicts_at_seed_0() -> None:
    assert verdicts(CHEAP) == expected(CHEAP)


@pytest.mark.slow
def test_all_claims_have_these_verdicts_at_seed_0() -> None:
    assert verdicts(CLAIMS) == expected(CLAIMS)


def test_every_claim_that_fails_as_written_stands_beside_its_correction() -> None:
    assert {label(claim).removesuffix("c") for claim in CLAIMS if claim.form == "corrected"} == FAILING
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.order)
def test_stacked_models_are_those_of_transformers_side_by_side(shape: Shape) -> None:
    weights, rows = random_weights(shape, 2), characters(2, 3, shape.length + 1)
    with torch.no_grad():
        found = losses(weights, rows, shape)
        for r in range(2):
            logits = public_network(shape, weights, r)(rows[r, :, :-1]).logits
            wanted = F.cross_entropy(logits.flatten(0, 1), rows[r, :, 1:].flatten())
            torch.testing.assert_close(found[r], wanted)


def test_bert_norms_after_each_sum() -> None:
    shape = Shape("bert", n_layers=1, width=16, length=8)
    weights, rows = random_weights(shape, 1), characters(1, 2, 8)
    for name in ("0.mix", "0.narrow"):  # what is left of a block are its two norms
        weights[name], weights[f"{name}.b"] = torch.zeros_like(weights[name]), torch.zeros_like(weights[f"{name}.b"])
    h = weights["words"][0, rows[0]] + weights["places"][0]
    for name in ("norm", "0.norm_0", "0.norm_1"):
        h = F.layer_norm(h, (16,), weights[name].flatten(), weights[f"{name}.b"].flatten())
    torch.testing.assert_close(states(weights, rows, shape)[0], h)


@pytest.mark.parametrize("order", ["gpt2", "bert", "gpt2_ml"])
def test_a_character_changes_nothing_before_it(order: Order) -> None:
    shape = Shape(order, width=16, length=12)
    weights, rows = random_weights(shape, 1), characters(1, 1, 12)
    other = rows.clone()
    other[..., 7] = (rows[..., 7] + 1) % V
    change = (states(weights, other, shape) - states(weights, rows, shape)).abs().amax(-1).flatten()
    assert (change[:7] == 0).all()
    assert (change[7:] > 0).all()


def test_gradients_are_shortened_model_by_model() -> None:
    first, second = torch.ones(2, 3), torch.ones(2, 2, 2)
    first.grad, second.grad = torch.tensor([[3.0, 0, 0], [0.1, 0, 0]]), torch.zeros(2, 2, 2)
    second.grad[0, 0, 0] = 4
    clip([first, second])
    torch.testing.assert_close(first.grad[:, 0], torch.tensor([0.6, 0.1]))
    assert second.grad[0, 0, 0] == pytest.approx(0.8)


def test_the_rate_grows_to_its_largest_and_falls_to_nothing() -> None:
    rates = [Training(n_steps=10, lr=1.0, warmup=4).rate(step) for step in range(10)]
    np.testing.assert_allclose(rates, [0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_windows_lie_in_the_text_and_its_parts_do_not_overlap() -> None:
    parts = corpus("code", 3, 2)
    whole = torch.cat([parts.train, parts.validation], 1)
    assert len(parts.validation[0]) / len(whole[0]) == pytest.approx(0.1, abs=1e-3)
    assert torch.equal(whole.sort(1).values[0], whole.sort(1).values[1])  # the same text, begun elsewhere
    found = windows(parts.train, 4, 20, torch.Generator().manual_seed(0))
    assert all((parts.train[1].unfold(0, 20, 1) == found[1, i]).all(1).any() for i in range(4))


def test_the_public_model_has_the_weights_of_its_checkpoint() -> None:
    assert n_weights(PUBLIC) == 1_393_944_576
    assert n_weights(PUBLIC._replace(V=8021)) == 1_373_809_152


@pytest.mark.parametrize("name", ["adam", "adafactor", "torch.AdamW", "lion", "sgd"])
def test_bytes_are_counted_to_the_counters_of_steps(name: str) -> None:
    sizes = Sizes(V=150, P=128, L=1, H=128, I=256)
    wanted = 4 * (2 * n_weights(sizes) + n_kept(sizes, name))
    assert 0 <= measured_bytes(sizes, name) - wanted <= 8 * 25


def test_a_wrong_law_is_seen() -> None:
    rng = np.random.default_rng(0)
    law = np.full(50, 0.02)
    other = law + 0.01 * np.sign(np.arange(50) - 24.5)
    fair, unfair = (generation.chi_squared(rng.multinomial(4000, p), 4000 * law) for p in (law, other))
    assert fair[0] / fair[1] < 1.5 < 10 < unfair[0] / unfair[1]


def test_the_truncated_law_is_the_definitions() -> None:
    logits = np.log([0.15, 0.5, 0.05, 0.3])
    np.testing.assert_allclose(generation.truncated(logits, 4, 0.9, 1.0), np.array([0.15, 0.5, 0, 0.3]) / 0.95)
    np.testing.assert_allclose(generation.truncated(logits, 2, 1.0, 1.0), np.array([0, 0.5, 0, 0.3]) / 0.8)
    np.testing.assert_allclose(generation.truncated(logits, 1, 1.0, 0.5), [0, 1, 0, 0])


def test_no_letter_of_a_language_is_more_frequent_than_another() -> None:
    successors = fine_tuning.languages(0, 2)
    rows, names = fine_tuning.sentences(successors, 4000, 16, torch.Generator().manual_seed(0))
    for language in range(fine_tuning.N_LANGUAGES):
        letters = rows[0][names[0] == language]
        shares = torch.bincount(letters.flatten(), minlength=fine_tuning.N_LETTERS) / letters.numel()
        assert (shares - 1 / fine_tuning.N_LETTERS).abs().max() < 0.02
        follows = letters[:, 1:] == successors[0, language, 0, letters[:, :-1]]
        by_chance = (1 - fine_tuning.NEXT - fine_tuning.OTHER) / fine_tuning.N_LETTERS
        twice = (successors[0, language, 0] == successors[0, language, 1]).double().mean()
        wanted = fine_tuning.NEXT + twice * fine_tuning.OTHER + by_chance
        assert follows.double().mean() == pytest.approx(float(wanted), abs=0.015)


def test_the_first_gradient_is_that_of_one_backward_pass() -> None:
    found = gradient_ratio(Context(custom={"gradients": "2"}), "gpt2")
    assert found.points[-1].y == 1
    assert found.points[0].y == pytest.approx(found.estimate)


@pytest.mark.parametrize("name", ["adam", "adafactor"])
def test_fine_tuning_lowers_the_loss(name: str) -> None:
    context = Context(custom={"models": "2", "steps": "40", "tuning_steps": "20"})
    few = Context(custom={"models": "2", "steps": "40", "tuning_steps": "1"})
    rate = fine_tuning.RATES[name][0]
    assert (fine_tuning.tuned_loss(context, name, rate) < fine_tuning.tuned_loss(few, name, rate)).all()
