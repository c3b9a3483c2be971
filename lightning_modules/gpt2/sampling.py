"""Which token comes next: temperature, top-k and top-p, and a draw from what they leave.

B rows, V vocabulary, k tokens that are left.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Truncation:
    """What is left of a distribution before a token is drawn, in this order.

    Args:
        temperature: Logits are divided by it; 0 takes the likeliest token.
        top_k: The k likeliest tokens stay; None = all.
        top_p: Of those, sorted by probability, the first whose sum reaches top_p stay, in (0, 1].
        edge: keep = the token at which the sum crosses top_p stays, as in transformers; drop = it goes, as in the
            public code of GPT2_ML. The likeliest token stays in any case.

    Raises ValueError for values that leave nothing to draw from.

    Source: Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p).
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    edge: Literal["keep", "drop"] = "keep"

    def __post_init__(self) -> None:
        """Refuses what leaves nothing to draw from."""
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature = {self.temperature}: must be at least 0 and finite; 0 takes the likeliest")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k = {self.top_k}: must be at least 1")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p = {self.top_p}: must lie in (0, 1]; 0.95 leaves out the unlikeliest 5 %")
        if self.edge not in ("keep", "drop"):
            raise ValueError(f"edge = '{self.edge}': must be keep or drop")

    def law(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Probabilities (B, k) and the tokens (B, k) they belong to, likeliest first; None = all, in their order.

        Args:
            logits: (B, V).

        >>> truncation = Truncation(top_p=0.9)
        >>> truncation.law(torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log())
        (tensor([[0.5263, 0.3158, 0.1579, 0.0000]]), tensor([[1, 3, 0, 2]]))
        """
        if self.temperature == 0:
            best = logits.argmax(-1, keepdim=True)
            return torch.ones_like(best, dtype=logits.dtype), best
        if self.temperature != 1:
            logits = logits / self.temperature
        tokens = None
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            logits, tokens = logits.topk(self.top_k)
        elif self.top_p < 1:
            logits, tokens = logits.sort(descending=True)
        shares = logits.softmax(-1)
        if self.top_p < 1:
            before = shares.cumsum(-1)
            if self.edge == "keep":
                before = before - shares
            leaves = before >= self.top_p
            leaves[..., 0] = False
            shares = shares.masked_fill(leaves, 0)
            shares = shares / shares.sum(-1, keepdim=True)
        return shares, tokens

    def draw(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """A token for each row, (B,), by inversion of the law's distribution function.

        Args:
            logits: (B, V).
            uniform: (B,), in [0, 1).
        """
        if self.temperature == 0:
            return logits.argmax(-1)
        shares, tokens = self.law(logits)
        sums = shares.double().cumsum(-1)
        # right: a number that is a sum belongs to the token after it, so one of no share is never drawn
        places = torch.searchsorted(sums, uniform[:, None] * sums[:, -1:], right=True)
        # u times the sum may be rounded up to it: the last token of any share is meant
        places = places.minimum((sums < sums[:, -1:]).sum(-1, keepdim=True))
        return (places if tokens is None else tokens.gather(-1, places))[:, 0]
