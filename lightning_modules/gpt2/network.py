"""Networks of GPT-2 and GPT2_ML by their configs."""
# transformers leaves these methods untyped
# mypy: disable-error-code="no-untyped-call"

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as hf_logging

from lightning_modules.parts import did_you_mean

FAMILIES = ("gpt2", "gpt2_ml")
DROPOUTS = {"gpt2": ("embd_pdrop", "resid_pdrop", "attn_pdrop"), "gpt2_ml": ("hidden_dropout_prob",)}
# Marks of transformers' own config that are no ids of another vocabulary.
NO_IDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
PASSING = ("transformers_version", "dtype", "_name_or_path", "architectures")


def new_config(family: str, n_layers: int, width: int, n_heads: int, **more: Any) -> PreTrainedConfig:
    """The config of a network that is to be trained from nothing.

    Args:
        family: gpt2 or gpt2_ml.
        n_layers: Blocks.
        width: Of the state.
        n_heads: A divisor of the width.
        more: Keys of transformers' own config.

    Raises ValueError for sizes no network has, and for a key the config lacks.
    """
    for name, value in (("n_layers", n_layers), ("width", width), ("n_heads", n_heads)):
        if value < 1:
            raise ValueError(f"model.{name} = {value}: must be at least 1")
    if width % n_heads:
        raise ValueError(f"model.width = {width}: must be a multiple of model.n_heads = {n_heads}")
    sizes = {"n_embd": width, "n_layer": n_layers, "n_head": n_heads, "n_inner": 4 * width}
    return changed(AutoConfig.for_model(family), {**sizes, **NO_IDS, **more})


def changed(config: PreTrainedConfig, settings: Mapping[str, Any]) -> PreTrainedConfig:
    """The config with other settings, and `dropout`, which stands for all of them, in place.

    GPT-2's gelu_new becomes gelu_pytorch_tanh: the same function in one operation instead of eight, which takes 16 % of
    a small model's training step on a CPU.

    Raises ValueError for a key the config lacks.
    """
    if getattr(config, "activation_function", None) == "gelu_new":
        config.activation_function = "gelu_pytorch_tanh"
    for key, value in settings.items():
        if key != "dropout" and not hasattr(config, key):
            raise ValueError(
                f"model.config: {config.model_type} has no setting '{key}'{did_you_mean(key, config.to_dict())}; "
                f"allowed are those of transformers' {type(config).__name__}"
            )
        for name in DROPOUTS[config.model_type] if key == "dropout" else (key,):
            setattr(config, name, value)
    return config


def plain(config: PreTrainedConfig) -> dict[str, Any]:
    """All that a network is built from, as JSON holds it; `known_config` reads it."""
    found: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in found.items() if key not in PASSING}


def known_config(settings: Mapping[str, Any]) -> PreTrainedConfig:
    """The config that `plain` wrote."""
    config: PreTrainedConfig = AutoConfig.for_model(**settings)
    return config


def from_config(config: PreTrainedConfig) -> PreTrainedModel:
    """A network with new weights, in float32."""
    network: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    return network


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no advice from transformers, no word of each retry from its Hub, while this lasts."""
    level, had_bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hub = logging.getLogger("huggingface_hub")
    hub_level = hub.level
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        hub.setLevel(hub_level)
        if had_bars:
            hf_logging.enable_progress_bar()
