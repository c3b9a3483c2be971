"""GPT2_ML's checkpoints become folders that transformers loads."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import lightning_modules.gpt2
from lightning_modules.checkpoints import gpt2_ml
from lightning_modules.checkpoints.gpt2_ml import convert, weights
from lightning_modules.data.text_tokenizers import load_tokenizer
from tests.checkpoints.bundle_writer import gpt2_ml_arrays, gpt2_ml_shapes, write_bundle

CONFIG: dict[str, Any] = {
    "vocab_size": 8021,  # as in the public mega.json beside a table of another size
    "hidden_size": 24,
    "attention_probs_dropout_prob": 0.1,
    "hidden_dropout_prob": 0.2,
    "hidden_act": "gelu",
    "initializer_range": 0.014142135623731,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "num_attention_heads": 3,
    "num_hidden_layers": 12,
}
N_ROWS = 27  # two more than tokens, as in the published 21,130 of 21,128
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天气不错双十一科学空间。abs[]", "sep", "##b"]
ARRAYS = gpt2_ml_arrays(CONFIG, N_ROWS)


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """The checkpoint with its config and vocabulary, as they are published."""
    write_bundle(tmp_path / "model.ckpt-220000", ARRAYS)
    (tmp_path / "mega.json").write_text(json.dumps(CONFIG))
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
    return tmp_path


def converted(public: Path, **changes: Any) -> Path:
    out = public / "out"
    given = {"prefix": public / "model.ckpt-220000", "config": public / "mega.json", "out": out}
    convert(**{**given, "vocabulary": public / "vocab.txt", **changes})
    return out


def loaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder)


def refusal(public: Path, **changes: Any) -> str:
    """What the conversion says; it leaves nothing behind."""
    before = sorted(public.iterdir())
    with pytest.raises(ValueError) as caught:
        converted(public, **changes)
    assert sorted(public.iterdir()) == before
    return str(caught.value)


def norm(x: Any, gamma: Any, beta: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return gamma * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) + beta


def public_logits(ids: list[int]) -> Any:
    """The public model's logits in float64, written out: one text, one head and one position after another."""
    w = {name.removeprefix("newslm/"): array.astype("float64") for name, array in ARRAYS.items()}

    def dense(x: Any, name: str) -> Any:
        return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]

    def normed(x: Any, name: str) -> Any:
        return norm(x, w[f"{name}/gamma"], w[f"{name}/beta"])

    H, n_heads = CONFIG["hidden_size"], CONFIG["num_attention_heads"]
    size = H // n_heads
    table = w["embeddings/word_embed"]
    h = normed(table[ids] + w["embeddings/pos_embed"][: len(ids)], "embeddings/LayerNorm_embed_norm")
    for i in range(12):
        layer = f"layer{i:02d}"
        q, k, v = (dense(h, f"{layer}/{name}_layer") for name in ("query", "key", "value"))
        mixed = np.zeros_like(h)
        for head in range(n_heads):
            own = slice(head * size, (head + 1) * size)
            for t in range(len(ids)):
                scores = np.exp(q[t, own] @ k[: t + 1, own].T / math.sqrt(size))
                mixed[t, own] = scores / scores.sum() @ v[: t + 1, own]
        u = h + dense(mixed, f"{layer}/context_projection_layer")
        x = dense(normed(u, f"{layer}/LayerNorm_mlp_ln0"), f"{layer}/intermediate")
        gelu = 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
        h = normed(u + dense(gelu, f"{layer}/output"), f"{layer}/LayerNorm_mlp_ln1")
    return h @ table.T


def test_weights_come_over_bit_for_bit_into_shards_that_hold_one_tensor(
    public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpt2_ml, "SHARD_SIZE", 20_000)
    out = converted(public)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    state = loaded(out).state_dict()
    assert len({*index["weight_map"].values()}) > 5
    assert index["metadata"]["total_size"] == sum(4 * math.prod(w.shape) for w in weights(CONFIG, N_ROWS))
    for weight in weights(CONFIG, N_ROWS):
        theirs = ARRAYS[weight.variable]
        ours = state.pop(weight.parameter).numpy()
        assert (ours.T if weight.variable.endswith("kernel") else ours).tobytes() == theirs.tobytes()
    assert [*state] == ["lm_head.weight"]


def test_the_names_are_the_public_ones() -> None:
    assert {each.variable: each.shape for each in weights(CONFIG, N_ROWS)} == gpt2_ml_shapes(CONFIG, N_ROWS)
    mega = {**CONFIG, "hidden_size": 1536, "intermediate_size": 6144, "num_hidden_layers": 48}
    mega["max_position_embeddings"] = 1024
    found = weights(mega, 21130)
    assert len(found) == 772  # and so many parameters, slots and counter, the published index has
    assert sum(math.prod(each.shape) for each in found) == 1_393_944_576
    assert sum(len(each.slots) for each in found) == 1062


def test_logits_are_those_of_the_public_model(public: Path) -> None:
    model = loaded(converted(public))
    ids = np.random.default_rng(1).integers(0, N_ROWS, 32).tolist()
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(logits, public_logits(ids), atol=1e-4)


def test_a_folder_is_complete_for_transformers(public: Path) -> None:
    out = converted(public)
    config = AutoConfig.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert isinstance(config, lightning_modules.gpt2.GPT2MLConfig)
    assert (config.vocab_size, config.hidden_dropout_prob, config.n_inner) == (N_ROWS, 0.2, 40)
    assert tokenizer.tokenize("今天[SEP]ab") == ["今", "天", "[", "sep", "]", "a", "##b"]
    assert tokenizer("今天")["input_ids"] == load_tokenizer(out).encode("今天") == [5, 6]
    assert tokenizer(["今天", "气"], padding=True)["input_ids"] == [[5, 6], [0, 7]]
    assert tokenizer.model_max_length == 32
    with safe_open(out / "model.safetensors", "np") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 no dictionary


def test_rows_beyond_the_vocabulary_are_never_sampled(public: Path) -> None:
    table = ARRAYS["newslm/embeddings/word_embed"].copy()
    table[-2:] = 200 * table[-2], -200 * table[-2]  # one of the two wins nearly every draw
    write_bundle(public / "model.ckpt-220000", {**ARRAYS, "newslm/embeddings/word_embed": table})
    model = loaded(converted(public))
    settings = {"max_new_tokens": 20, "do_sample": True, "num_return_sequences": 8}
    kept = model.generate(torch.tensor([[5, 6]]), **settings)
    model.generation_config.suppress_tokens = None
    free = model.generate(torch.tensor([[5, 6]]), **settings)
    assert (free[:, 2:] >= len(VOCABULARY)).float().mean() > 0.5
    assert kept[:, 2:].min() > 0
    assert kept.max() < len(VOCABULARY)


def test_half_precision_and_many_shards_are_kept(public: Path) -> None:
    halves = {name: array.astype("float16") if array.ndim else array for name, array in ARRAYS.items()}
    write_bundle(public / "half", halves, n_shards=3)
    state = loaded(converted(public, prefix=public / "half")).state_dict()
    assert state["transformer.wte.weight"].numpy().tobytes() == halves["newslm/embeddings/word_embed"].tobytes()


def test_a_checkpoint_without_slots_and_a_run_without_vocabulary_serve(public: Path) -> None:
    bare = {name: array for name, array in ARRAYS.items() if "adafactor" not in name}
    write_bundle(public / "bare", bare, compress=False)
    out = converted(public, prefix=public / "bare", vocabulary=None)
    assert {path.name for path in out.iterdir()} == {"config.json", "generation_config.json", "model.safetensors"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"newslm/layer03/output/bias": None}, "missing variables for this config: newslm/layer03/output/bias; taolu"),
        ({"newslm/layer12/output/bias": np.zeros(2)}, "unknown variables for this config: newslm/layer12/output/bias;"),
        (
            {"newslm/layer03/output/bias/adafactor_vr": np.zeros(2)},
            "unknown variables for this config: newslm/layer03/",
        ),
        ({"newslm/layer00/output/kernel": np.zeros((24, 40))}, "shape (24, 40), the config asks for (40, 24)"),
        ({"newslm/layer00/output/bias": np.zeros(24, "int64")}, "newslm/layer00/output/bias has type int64; known: fl"),
        ({"newslm/embeddings/word_embed": None}, "missing variables for this config: newslm/embeddings/word_embed;"),
    ],
)
def test_variables_that_do_not_fit_are_named(public: Path, change: dict[str, Any], message: str) -> None:
    arrays = {**ARRAYS, **change}
    write_bundle(public / "other", {name: array for name, array in arrays.items() if array is not None})
    assert message in refusal(public, prefix=public / "other")


def test_a_config_of_fewer_layers_names_what_is_left_over(public: Path) -> None:
    (public / "small.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 11}))
    assert "unknown variables for this config: newslm/layer11/LayerNorm_mlp_ln0/beta, " in refusal(
        public, config=public / "small.json"
    )


def test_partitioned_variables_are_refused_by_name(public: Path) -> None:
    write_bundle(public / "cut", ARRAYS, sliced="newslm/embeddings/word_embed")
    assert "partitioned variables for this config: newslm/embeddings/word_embed; taolu convert inspect" in refusal(
        public, prefix=public / "cut"
    )


def test_a_flipped_bit_in_the_data_leaves_nothing_behind(public: Path) -> None:
    path = public / "model.ckpt-220000.data-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[data.rindex(ARRAYS["newslm/layer11/value_layer/bias"].tobytes())] ^= 1
    path.write_bytes(data)
    assert "newslm/layer11/value_layer/bias differs from its checksum" in refusal(public)


def test_a_truncated_shard_is_refused(public: Path) -> None:
    path = public / "model.ckpt-220000.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-1])
    assert "download it again" in refusal(public)


def test_a_vocabulary_larger_than_the_table_is_refused(public: Path) -> None:
    (public / "vocab.txt").write_text("\n".join([*VOCABULARY, *"uvwxyz"]), encoding="utf-8")
    assert "31 tokens, but the embedding of model.ckpt-220000 has 27 rows" in refusal(public)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None, "num_attention_heads": None}, "missing hidden_size, num_attention_heads; needed: hid"),
        ({"num_attention_heads": 5}, "hidden_size = 24 must be a multiple of num_attention_heads = 5"),
        ({"num_hidden_layers": "12"}, "num_hidden_layers = '12': must be a positive whole number"),
        ({"intermediate_size": 0}, "intermediate_size = 0: must be a positive whole number"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob = 1.0: must be a number of at least 0 and below 1"),
        ({"initializer_range": "0.02"}, "initializer_range = '0.02': must be a number"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu'"),
    ],
)
def test_a_config_that_does_not_serve_is_refused(public: Path, change: dict[str, Any], message: str) -> None:
    config = {key: value for key, value in {**CONFIG, **change}.items() if value is not None}
    (public / "mega.json").write_text(json.dumps(config))
    assert message in refusal(public)


@pytest.mark.parametrize(("text", "message"), [("{", "no config in JSON"), ("[1]", "holds no object")])
def test_a_config_that_is_none_is_refused(public: Path, text: str, message: str) -> None:
    (public / "mega.json").write_text(text)
    assert message in refusal(public)


def test_a_place_that_is_taken_or_absent_is_refused(public: Path) -> None:
    (public / "taken").mkdir()
    (public / "taken" / "notes.txt").touch()
    assert "taken: exists already" in refusal(public, out=public / "taken")
    assert "there is no folder" in refusal(public, out=public / "a" / "b")
