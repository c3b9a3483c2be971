"""The forward pass of GPT-2 and GPT2_ML for generation: raw weights and a cache laid out beforehand.

transformers' own modules spend more time between the operations of a small model than in them. B rows, T tokens given
at once, N columns of the cache, A heads of d numbers, H = A d, V vocabulary.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lightning_modules.gpt2.adapters import ADAPTER

Map = Callable[[Tensor], Tensor]


class Decoder:
    """Reads tokens column by column and tells the next one's logits.

    Rows of different lengths end in the same column: padding stands on their left, is seen by no token, and positions
    count without it.

    Args:
        network: A GPT2LMHeadModel or GPT2MLForCausalLM, with LoRA or without. Its weights are used, not copied.
        pads: (B,), tokens of padding on the left of each row.
        n_columns: N, padding, prompt and continuation together.

    Raises ValueError where a row is longer than the table of positions.
    """

    def __init__(self, network: PreTrainedModel, pads: Tensor, n_columns: int) -> None:
        inner: Any = network.transformer
        self.words, self.places = inner.wte.weight, inner.wpe.weight
        n_positions = n_columns - int(pads.min())
        if n_positions > len(self.places):
            raise ValueError(
                f"{n_positions} tokens: the model has {len(self.places)} positions; shorten the prompt or max_length"
            )
        config = network.config
        self.n_seen, self.n_columns = 0, n_columns
        self._mask: Tensor | None = None  # of the tokens being read
        is_ml = config.model_type == "gpt2_ml"
        shape = (config.n_layer, len(pads), config.n_head, n_columns, config.n_embd // config.n_head)
        self.keys, self.values = (torch.empty(shape, dtype=self.words.dtype, device=self.words.device) for _ in "kv")
        block = _ml_block if is_ml else _gpt2_block
        scales = [None if is_ml else each.attn.scaling for each in inner.h]  # None = 1 / sqrt(d)
        self.blocks = [block(each, partial(self._attend, i, scales[i])) for i, each in enumerate(inner.h)]
        self.first = _norm(inner.norm) if is_ml else None
        self.last = None if is_ml else _norm(inner.ln_f)
        self.head = network.lm_head.weight
        self._lay_out(pads.to(self.words.device))

    def _lay_out(self, pads: Tensor) -> None:
        """Position of each column, and which keys a row may see; None where no row has padding."""
        self.positions: Tensor | None = None
        self.is_token: Tensor | None = None
        if pads.any():
            columns = torch.arange(self.n_columns, device=pads.device)
            self.positions = (columns - pads[:, None]).clamp_min(0)  # (B, N)
            self.is_token = columns >= pads[:, None]  # (B, N)

    @torch.no_grad()
    def read(self, ids: Tensor) -> Tensor:
        """Logits of what follows, (B, V) in float32, after T more tokens (B, T)."""
        first, last = self.n_seen, self.n_seen + ids.shape[1]
        self.n_seen, self._mask = last, self._mask_of(first, last)
        places = self.places[first:last] if self.positions is None else self.places[self.positions[:, first:last]]
        h = F.embedding(ids, self.words) + places
        if self.first is not None:
            h = self.first(h)
        for block in self.blocks:
            h = block(h)
        h = h[:, -1]
        if self.last is not None:
            h = self.last(h)
        return F.linear(h, self.head).float()

    def reorder(self, rows: Tensor) -> None:
        """Row b goes on from what row rows[b] has read; (B,)."""
        for cache in (self.keys, self.values):
            cache[:, :, :, : self.n_seen] = cache[:, rows, :, : self.n_seen]

    def _mask_of(self, first: int, last: int) -> Tensor | None:
        """(B or 1, 1, T, last), True where a query sees a key; None where the order of a first reading decides."""
        if self.is_token is None and (first == 0 or last - first == 1):
            return None
        seen = torch.ones(1, 1, 1, last, dtype=torch.bool, device=self.words.device)
        if self.is_token is not None:
            seen = self.is_token[:, None, None, :last]
        if last - first == 1:
            return seen
        queries, keys = torch.arange(first, last, device=seen.device)[:, None], torch.arange(last, device=seen.device)
        # padding sees itself: a softmax over nothing is not a number, and would reach others through the cache
        return (seen & (keys <= queries)) | (keys == queries)

    def _attend(self, layer: int, scale: float | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The mixture of values, (B, T, H), of queries, keys and values (B, T, H) of new tokens and those before."""
        keys, values = self.keys[layer], self.values[layer]
        n_rows, n_heads, _, size = keys.shape
        shape = (n_rows, -1, n_heads, size)
        n_new = q.shape[1]
        first, last = self.n_seen - n_new, self.n_seen
        keys[:, :, first:last] = k.view(shape).transpose(1, 2)
        values[:, :, first:last] = v.view(shape).transpose(1, 2)
        queries = q.view(shape).transpose(1, 2)
        is_causal = n_new > 1 and self._mask is None
        mixed = F.scaled_dot_product_attention(
            queries, keys[:, :, :last], values[:, :, :last], self._mask, is_causal=is_causal, scale=scale
        )
        return mixed.transpose(1, 2).reshape(n_rows, n_new, -1)


def _gpt2_block(block: Any, attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Map:
    """A function of the state: u = h + attention(norm_1(h)), h' = u + network(norm_2(u))."""
    norm_1, norm_2 = _norm(block.ln_1), _norm(block.ln_2)
    enter, leave = _affine(block.attn.c_attn), _affine(block.attn.c_proj)
    widen, narrow = _affine(block.mlp.c_fc), _affine(block.mlp.c_proj)
    bend = _activation(block.mlp.act)

    def run(h: Tensor) -> Tensor:
        q, k, v = enter(norm_1(h)).chunk(3, -1)
        u = h + leave(attend(q, k, v))
        return u + narrow(bend(widen(norm_2(u))))

    return run


def _ml_block(block: Any, attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Map:
    """A function of the state: u = h + attention(h), h' = norm_1(u + network(norm_0(u)))."""
    norm_0, norm_1 = _norm(block.norm_0), _norm(block.norm_1)
    inner = block.attention
    query, key, value, leave = (_affine(each) for each in (inner.query, inner.key, inner.value, inner.projection))
    widen, narrow = _affine(block.intermediate), _affine(block.output)

    def run(h: Tensor) -> Tensor:
        u = h + leave(attend(query(h), key(h), value(h)))
        return norm_1(u + narrow(F.gelu(widen(norm_0(u)))))

    return run


def _norm(layer: nn.LayerNorm) -> Map:
    shape, weight, bias, epsilon = layer.normalized_shape, layer.weight, layer.bias, layer.eps
    return lambda x: F.layer_norm(x, shape, weight, bias, epsilon)


def _affine(layer: Any) -> Map:
    """The layer as a function, without the calls of a module; LoRA's addition without its dropout."""
    if isinstance(layer, LoraLayer):
        inner: Any = layer  # whose parts are not typed
        base = _affine(inner.get_base_layer())
        down, up, scale = inner.lora_A[ADAPTER].weight, inner.lora_B[ADAPTER].weight, inner.scaling[ADAPTER]
        return lambda x: base(x) + (F.linear(F.linear(x.to(down.dtype), down), up) * scale).to(x.dtype)
    weight, bias = layer.weight, layer.bias
    matrix = weight.t() if isinstance(layer, Conv1D) else weight  # Conv1D's is [in, out]
    return lambda x: F.linear(x, matrix, bias)


def _activation(act: Any) -> Map:
    """GPT-2's approximate gelu as one operation of torch; any other as it is."""
    x = torch.linspace(-3, 3, 7)
    if torch.allclose(act(x), F.gelu(x, approximate="tanh"), atol=1e-6):
        return lambda x: F.gelu(x, approximate="tanh")
    chosen: Map = act
    return chosen
