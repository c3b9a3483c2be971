"""GPT2_ML, the Chinese GPT of kexue.fm/archives/7292, as classes of transformers: imcaspar/gpt2-ml's architecture.

Importing this registers them with transformers' Auto classes. B batch, T tokens, P positions, H hidden, V vocabulary.
"""
# transformers leaves its decorators and these methods untyped
# mypy: disable-error-code="no-untyped-call, untyped-decorator"

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation.utils import GenerationMixin
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, slice_logits_to_keep
from transformers.models.gpt2.modeling_gpt2 import eager_attention_forward
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs


class GPT2MLConfig(PreTrainedConfig):
    """The sizes of a GPT2_ML; by default those of the public "base" model. GPT-2's names (n_embd, ...) read the same.

    Args:
        vocab_size: V, rows of the embedding; the vocabulary may have fewer tokens.
        hidden_size: H.
        num_hidden_layers: Blocks.
        num_attention_heads: A divisor of H.
        intermediate_size: Width of the hidden layer of a block's network.
        max_position_embeddings: P; texts are no longer.
        hidden_dropout_prob: After attention and after the network. The public training has none inside attention.
        initializer_range: Standard deviation of new weights, cut off at two of them.
        layer_norm_epsilon: Of every normalisation.
    """

    model_type = "gpt2_ml"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012 a class attribute by transformers' design
    attribute_map = {  # noqa: RUF012
        "n_embd": "hidden_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "n_positions": "max_position_embeddings",
    }

    vocab_size: int = 50270
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 1024
    hidden_dropout_prob: float = 0.1
    initializer_range: float = 0.014142135623731
    layer_norm_epsilon: float = 1e-5
    use_cache: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None


class GPT2MLAttention(nn.Module):
    """Causal attention with three separate projections.

    Args:
        config: of the model.
        layer: its number, by which the cache knows it.
    """

    def __init__(self, config: GPT2MLConfig, layer: int) -> None:
        super().__init__()
        H = config.hidden_size
        self.config = config
        self.layer_idx = layer  # transformers' name
        self.head_size = H // config.num_attention_heads
        self.is_causal = True
        self.query, self.key, self.value = (nn.Linear(H, H) for _ in range(3))
        self.projection = nn.Linear(H, H)

    def forward(
        self, h: Tensor, past: Cache | None, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """The projected mixture of values, (B, T, H), and the attention's weights where the implementation has them."""
        heads = (*h.shape[:-1], -1, self.head_size)
        q, k, v = (each(h).view(heads).transpose(1, 2) for each in (self.query, self.key, self.value))
        if past is not None:
            k, v = past.update(k, v, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        mixed, shares = attend(self, q, k, v, mask, dropout=0.0, scaling=self.head_size**-0.5, **options)
        return self.projection(mixed.reshape(h.shape)), shares


class GPT2MLBlock(GradientCheckpointingLayer):
    """One layer: attention reads the bare state, and the network's residual is the state before its normalisation.

    u = h + attention(h); h' = norm_1(u + network(norm_0(u))).

    Args:
        config: of the model.
        layer: its number.
    """

    def __init__(self, config: GPT2MLConfig, layer: int) -> None:
        super().__init__()
        H, inner, epsilon = config.hidden_size, config.intermediate_size, config.layer_norm_epsilon
        self.attention = GPT2MLAttention(config, layer)
        self.norm_0 = nn.LayerNorm(H, eps=epsilon)
        self.intermediate = nn.Linear(H, inner)
        self.output = nn.Linear(inner, H)
        self.norm_1 = nn.LayerNorm(H, eps=epsilon)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: Tensor,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """The next state, (B, T, H)."""
        attended, _ = self.attention(hidden_states, past_key_values, attention_mask, **options)
        u = hidden_states + self.dropout(attended)
        network = self.output(F.gelu(self.intermediate(self.norm_0(u))))  # the exact gelu, by erf
        following: Tensor = self.norm_1(u + self.dropout(network))
        return following


class GPT2MLPreTrainedModel(PreTrainedModel):
    """What transformers needs to know of both classes below."""

    config: GPT2MLConfig
    base_model_prefix = "transformer"
    _input_embed_layer = "wte"
    supports_gradient_checkpointing = True
    _no_split_modules = ["GPT2MLBlock"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": GPT2MLBlock, "attentions": GPT2MLAttention}  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, (nn.Linear, nn.Embedding)):
            std = self.config.initializer_range
            init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)


class GPT2MLModel(GPT2MLPreTrainedModel):
    """The layers without the head: normalised embeddings, blocks, no final normalisation.

    Args:
        config: its sizes.

    Raises ValueError where the heads do not divide the hidden size.
    """

    def __init__(self, config: GPT2MLConfig) -> None:
        super().__init__(config)
        if config.hidden_size % config.num_attention_heads:
            raise ValueError(
                f"hidden_size = {config.hidden_size} must be a multiple of "
                f"num_attention_heads = {config.num_attention_heads}"
            )
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.wpe = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.h = nn.ModuleList(GPT2MLBlock(config, i) for i in range(config.num_hidden_layers))
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **options: Any,
    ) -> BaseModelOutputWithPast:
        """The last layer's state, (B, T, H), and the cache.

        Args:
            input_ids: (B, T); or inputs_embeds, (B, T, H), before position and normalisation.
            past_key_values: The cache of the tokens before.
            attention_mask: (B, past + T), 0 at padding; or (B, 1, T, past + T), True where a query sees a key.
            position_ids: (B, T); by default they count on from the cache. Without mask and cache (use_cache=False)
                another text, which sees none before it, begins wherever they begin anew.
            inputs_embeds: Instead of input_ids.
            use_cache: Whether a cache is returned.
            options: Of transformers' attention functions.

        Raises ValueError for positions of P and above. In training on an accelerator, where looking would wait for the
        device, the embedding's own check raises instead.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        embedded = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=embedded,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,  # only what was given: looking for packed texts costs a mask when compiled
        )
        if position_ids is None:
            seen = 0 if past_key_values is None else past_key_values.get_seq_length()
            position_ids = torch.arange(embedded.shape[1], device=embedded.device)[None] + seen
        self._check_positions(position_ids)
        h = self.norm(embedded + self.wpe(position_ids))
        cache = None if self.gradient_checkpointing and self.training else past_key_values
        for block in self.h:
            h = block(h, cache, mask, position_ids=position_ids, **options)
        return BaseModelOutputWithPast(last_hidden_state=h, past_key_values=past_key_values if use_cache else None)

    def _check_positions(self, positions: Tensor) -> None:
        if torch.compiler.is_compiling() or (self.training and positions.device.type != "cpu"):
            return
        last, n_positions = int(positions.max()), self.config.max_position_embeddings
        if last >= n_positions:
            raise ValueError(
                f"position {last}: this model has {n_positions}, 0 to {n_positions - 1}; use a shorter text"
            )


class GPT2MLForCausalLM(GPT2MLPreTrainedModel, GenerationMixin):
    """GPT2_ML with its head, which is the table of words.

    Args:
        config: its sizes.
    """

    _tied_weights_keys = {"lm_head.weight": "transformer.wte.weight"}  # noqa: RUF012

    def __init__(self, config: GPT2MLConfig) -> None:
        super().__init__(config)
        self.transformer = GPT2MLModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **options: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (B, T, V), the cache, and with labels the mean loss of the next tokens in nats.

        Args:
            input_ids: As those below, those of GPT2MLModel.
            past_key_values: See there.
            attention_mask: See there.
            position_ids: See there.
            inputs_embeds: See there.
            labels: (B, T), not shifted; -100 where nothing is predicted.
            use_cache: See there.
            logits_to_keep: The last so many positions have logits, or those of the indices; 0 for all.
            options: num_items_in_batch divides the loss instead of the number of targets; others see there.
        """
        found = self.transformer(
            input_ids=input_ids,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **options,
        )
        logits = self.lm_head(slice_logits_to_keep(found.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **options)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=found.past_key_values,
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )


AutoConfig.register("gpt2_ml", GPT2MLConfig)
AutoModel.register(GPT2MLConfig, GPT2MLModel)
AutoModelForCausalLM.register(GPT2MLConfig, GPT2MLForCausalLM)
