"""GPT2_ML's public TensorFlow checkpoints turned into a folder that transformers loads; kexue.fm/archives/7292."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_modules.checkpoints.bundle import Bundle, open_bundle
from lightning_modules.checkpoints.folder import new_folder
from lightning_modules.checkpoints.shards import KINDS, Source, write_shards
from lightning_modules.data.wordpiece import WordPiece

SHARD_SIZE = 1_000_000_000
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings")
TUNED = ("hidden_dropout_prob", "initializer_range")  # of training; the model has defaults
PAD = 0  # masked out of the public loss, so never learned as a word
NAMED = 3  # names an error lists

LAYER = {  # the parts of a layer: of the checkpoint, of our model
    "query_layer": "attention.query",
    "key_layer": "attention.key",
    "value_layer": "attention.value",
    "context_projection_layer": "attention.projection",
    "LayerNorm_mlp_ln0": "norm_0",
    "intermediate": "intermediate",
    "output": "output",
    "LayerNorm_mlp_ln1": "norm_1",
}


@dataclass(frozen=True)
class Weight:
    """A variable of the checkpoint and the parameter it becomes.

    Args:
        variable: its name in the checkpoint.
        parameter: its name in the state dict of GPT2MLForCausalLM.
        shape: in the checkpoint; a kernel is [in, out] there and [out, in] in the model.
    """

    variable: str
    parameter: str
    shape: tuple[int, ...]

    @property
    def is_kernel(self) -> bool:
        """Whether the model holds it transposed."""
        return self.variable.endswith("/kernel")

    @property
    def slots(self) -> tuple[str, ...]:
        """What AdaFactor keeps beside it: rows and columns of a matrix, else one vector."""
        suffixes = ("vr", "vc") if len(self.shape) > 1 else ("v",)
        return tuple(f"{self.variable}/adafactor_{suffix}" for suffix in suffixes)


@dataclass(frozen=True)
class Converted:
    """What a conversion wrote.

    Args:
        folder: with config, weights and tokenizer.
        n_parameters: of the model; the tied head counts once.
        n_files: of weights.
        n_rows: of the embedding.
        n_tokens: of the vocabulary; n_rows without one.
        has_tokenizer: whether a vocabulary was given.
    """

    folder: Path
    n_parameters: int
    n_files: int
    n_rows: int
    n_tokens: int
    has_tokenizer: bool


def convert(prefix: Path, config: Path, out: Path, vocabulary: Path | None = None) -> Converted:
    """Writes the folder `out`: config, weights bit for bit, and with a vocabulary the tokenizer.

    Memory holds one tensor at a time. The folder is whole or not there.

    Args:
        prefix: Path of the checkpoint without `.index`.
        config: The public config.json; the number of embedding rows is the checkpoint's, whatever it says.
        out: A folder that is not there yet, or empty.
        vocabulary: The public vocab.txt; it may have fewer tokens than the embedding rows.

    Raises ValueError naming what is missing, unknown, damaged or does not fit.
    """
    settings = read_config(config)
    pieces = None if vocabulary is None else WordPiece.read(vocabulary)
    bundle = open_bundle(prefix)
    n_rows = _rows(bundle)
    wanted = weights(settings, n_rows)
    check_variables(bundle, wanted)
    bundle.check_shards()
    if pieces is not None and pieces.vocabulary_size > n_rows:
        raise ValueError(
            f"{vocabulary}: {pieces.vocabulary_size} tokens, but the embedding of {prefix.name} has {n_rows} rows; "
            "give the vocabulary the model was trained with"
        )
    sources = [_source(bundle, each) for each in wanted]
    with new_folder(out) as folder:
        files = write_shards(folder, sources, SHARD_SIZE)
        n_tokens = n_rows if pieces is None else pieces.vocabulary_size
        _write_settings(folder, settings, n_rows, n_tokens, sources[0].dtype)
        if pieces is not None:
            _write_tokenizer(folder, pieces, settings["max_position_embeddings"])
    n_parameters = sum(math.prod(each.shape) for each in wanted)
    return Converted(out, n_parameters, len(files), n_rows, n_tokens, pieces is not None)


def read_config(path: Path) -> dict[str, Any]:
    """The public config.json.

    Raises ValueError naming a key that is missing or has no value a model can have, and another activation than gelu.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: no config in JSON ({error}); give GPT2_ML's configs/mega.json or its like"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds no object; give GPT2_ML's configs/mega.json or its like")
    missing = [key for key in SIZES if key not in found]
    if missing:
        raise ValueError(f"{path}: missing {', '.join(missing)}; needed: {', '.join(SIZES)}")
    for key in SIZES:
        if type(found[key]) is not int or found[key] < 1:
            raise ValueError(f"{path}: {key} = {found[key]!r}: must be a positive whole number")
    for key in TUNED:
        if key in found and (type(found[key]) not in (int, float) or not 0 <= found[key] < 1):
            raise ValueError(f"{path}: {key} = {found[key]!r}: must be a number of at least 0 and below 1")
    if found["hidden_size"] % found["num_attention_heads"]:
        raise ValueError(
            f"{path}: hidden_size = {found['hidden_size']} must be a multiple of "
            f"num_attention_heads = {found['num_attention_heads']}"
        )
    if found.get("hidden_act", "gelu") != "gelu":
        raise ValueError(f"{path}: hidden_act = {found['hidden_act']!r}: GPT2_ML computes gelu whatever stands there")
    return found


def weights(settings: Mapping[str, Any], n_rows: int) -> list[Weight]:
    """Every variable of GPT2_ML, in the order of its computation: 4 + 16 a layer.

    Args:
        settings: of read_config.
        n_rows: of the embedding.
    """
    H, inner, n_layers = (settings[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    found = [
        Weight("newslm/embeddings/word_embed", "transformer.wte.weight", (n_rows, H)),
        Weight("newslm/embeddings/pos_embed", "transformer.wpe.weight", (settings["max_position_embeddings"], H)),
        *_norm("newslm/embeddings/LayerNorm_embed_norm", "transformer.norm", H),
    ]
    for i in range(n_layers):
        for public, own in LAYER.items():
            variable, parameter = f"newslm/layer{i:02d}/{public}", f"transformer.h.{i}.{own}"
            if public.startswith("LayerNorm"):
                found += _norm(variable, parameter, H)
                continue
            n_in = inner if public == "output" else H
            n_out = inner if public == "intermediate" else H
            found.append(Weight(f"{variable}/kernel", f"{parameter}.weight", (n_in, n_out)))
            found.append(Weight(f"{variable}/bias", f"{parameter}.bias", (n_out,)))
    return found


def _norm(variable: str, parameter: str, size: int) -> list[Weight]:
    """Scale and shift of a layer normalisation."""
    return [
        Weight(f"{variable}/gamma", f"{parameter}.weight", (size,)),
        Weight(f"{variable}/beta", f"{parameter}.bias", (size,)),
    ]


def check_variables(bundle: Bundle, wanted: list[Weight]) -> None:
    """ValueError naming variables that are partitioned, missing, unknown, or of another shape or type than wanted.

    AdaFactor's slots and the step counter of the public training are known, and left out.
    """
    names = {each.variable for each in wanted}
    known = names | {slot for each in wanted for slot in each.slots} | {"global_step"}
    hint = f"; taolu convert inspect {bundle.prefix} lists what is there"
    _refuse([name for name, each in bundle.variables.items() if each.is_partitioned], "partitioned", bundle, hint)
    _refuse([name for name in names if name not in bundle.variables], "missing", bundle, hint)
    _refuse([name for name in bundle.variables if name not in known], "unknown", bundle, hint)
    for each in wanted:
        found = bundle.variables[each.variable]
        if found.shape != each.shape:
            raise ValueError(
                f"{bundle.prefix}: {each.variable} has shape {found.shape}, the config asks for {each.shape}; "
                "give the config.json of this checkpoint"
            )
        if found.dtype not in KINDS:
            raise ValueError(f"{bundle.prefix}: {each.variable} has type {found.dtype}; known: {', '.join(KINDS)}")


def _refuse(names: list[str], what: str, bundle: Bundle, hint: str) -> None:
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        listed = ", ".join(sorted(names)[:NAMED])
        raise ValueError(f"{bundle.prefix}: {what} variables for this config: {listed}{more}{hint}")


def _rows(bundle: Bundle) -> int:
    """The rows of the embedding, which only the checkpoint knows; 0 where it has none, reported later by name."""
    found = bundle.variables.get("newslm/embeddings/word_embed")
    return found.shape[0] if found and found.shape else 0


def _source(bundle: Bundle, weight: Weight) -> Source:
    shape = weight.shape[::-1] if weight.is_kernel else weight.shape
    dtype = bundle.variables[weight.variable].dtype
    return Source(weight.parameter, dtype, shape, partial(_read, bundle, weight))


def _read(bundle: Bundle, weight: Weight) -> NDArray[np.generic]:
    values = bundle.read(weight.variable)
    return values.T if weight.is_kernel else values


def _write_settings(folder: Path, settings: Mapping[str, Any], n_rows: int, n_tokens: int, dtype: str) -> None:
    """The configs of the model and of generation, written without loading torch."""
    config = {
        "architectures": ["GPT2MLForCausalLM"],
        "model_type": "gpt2_ml",
        "vocab_size": n_rows,
        **{key: settings[key] for key in (*SIZES, *TUNED) if key in settings},
        "pad_token_id": PAD,
        "dtype": dtype,
    }
    generation = {"pad_token_id": PAD, "suppress_tokens": [PAD, *range(n_tokens, n_rows)]}
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", generation)


def _write_tokenizer(folder: Path, pieces: WordPiece, n_positions: int) -> None:
    """The tokenizer as our data parts and as transformers open it."""
    pieces.save(folder)
    path = folder / "tokenizer_config.json"
    named = {"pad_token": "[PAD]"} if "[PAD]" in pieces.ids else {}
    more = {
        "unk_token": "[UNK]",
        **named,
        "split_special_tokens": True,  # "[PAD]" in a text is text
        "padding_side": "left",
        "model_max_length": n_positions,
    }
    _write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **more})


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
