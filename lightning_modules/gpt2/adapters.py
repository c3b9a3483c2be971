"""Fine-tuning of a part: LoRA's additions, frozen blocks, and the sums as plain weights again."""

from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import PreTrainedModel

from lightning_modules.gpt2.network import from_config

ADAPTED = {  # the layers that LoRA adds to: every matrix of a block
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "gpt2_ml": ["query", "key", "value", "projection", "intermediate", "output"],
}
ADAPTER = "default"  # peft's name of the one there is


def add_lora(network: PreTrainedModel, rank: int, alpha: float | None, dropout: float) -> None:
    """Puts low-rank additions B A alpha / rank beside every matrix of a block; all else is frozen.

    Args:
        network: Changed in place; B is 0, so it computes what it did.
        rank: Of B A.
        alpha: None = twice the rank.
        dropout: Of what enters A.

    Source: Hu et al. 2021.
    """
    family = network.config.model_type
    settings = LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,  # type: ignore[arg-type]
        lora_dropout=dropout,
        target_modules=ADAPTED[family],
        fan_in_fan_out=family == "gpt2",  # its matrices are [in, out]
    )
    inject_adapter_in_model(settings, network)


def merged(network: PreTrainedModel) -> PreTrainedModel:
    """The network without LoRA: itself where it has none, else another one with the sums as its weights."""
    layers = {name: module for name, module in network.named_modules() if isinstance(module, LoraLayer)}
    if not layers:
        return network
    with torch.device("meta"):
        whole = from_config(network.config)
    weights = {}
    for key, value in network.state_dict().items():
        if ".lora_" in key:
            continue
        layer = layers.get(key.removesuffix(".base_layer.weight"))
        weights[key.replace(".base_layer.", ".")] = value if layer is None else _sum(value, layer)
    whole.load_state_dict(weights, assign=True)
    whole.tie_weights()
    whole.generation_config = network.generation_config
    whole.train(False)
    return whole


def freeze(network: PreTrainedModel, n_blocks: int) -> None:
    """Keeps the weights of the first blocks, and of the embeddings with the head that shares them.

    Raises ValueError where there are not as many blocks.
    """
    inner: Any = network.transformer
    parts: dict[str, Any] = dict(inner.named_children())
    blocks = parts.pop("h")
    parts.pop("ln_f", None)  # after the blocks
    if not 0 <= n_blocks <= len(blocks):
        raise ValueError(f"model.n_frozen = {n_blocks}: must lie in [0, {len(blocks)}], the number of blocks")
    if n_blocks:
        for part in (*parts.values(), *blocks[:n_blocks]):
            part.requires_grad_(False)


def _sum(weight: Tensor, layer: Any) -> Tensor:
    """Added in float32: a small addition to a bfloat16 weight is rounded once."""
    delta: Tensor = layer.get_delta_weight(ADAPTER)
    return (weight.float() + delta.float()).to(weight.dtype)
