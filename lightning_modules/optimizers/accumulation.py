r"""Exact gradient accumulation for losses that are means over tokens, whatever the lengths of the micro-batches.

Micro-batch i of rank r has the summed token loss S_ri over N_ri tokens. One batch of all of them has the gradient

    g = (sum_ri grad S_ri) / (sum_ri N_ri).

The usual mean of micro-batch means, sum_ri grad(S_ri / N_ri) / (k W) for k micro-batches on W ranks, weighs a token
of a short micro-batch more and equals g only when all N_ri do. So here losses are back-propagated as sums, and the
gradient is scaled once, at the window's end and before it is clipped. Source: kexue.fm/archives/6794, which
accumulates means over rows, carried over to tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch import distributed as dist


def token_mean_factor(n_tokens: int, *, divided_by: float = 1.0, world_size: int = 1) -> float:
    """What turns the accumulated gradient of summed losses into the gradient of the mean over all tokens.

    Args:
        n_tokens: of the whole window, on all ranks; 0 (nothing to learn from) counts as 1, the gradient being 0.
        divided_by: what every summed loss was divided by before it was back-propagated.
        world_size: ranks over which gradients were averaged.

    >>> token_mean_factor(1000, divided_by=4, world_size=2)
    0.008
    """
    if n_tokens < 0:
        raise ValueError(f"n_tokens = {n_tokens}: must be at least 0; count the targets that enter the loss")
    if not 0 < divided_by < float("inf"):
        raise ValueError(f"divided_by = {divided_by}: must be positive and finite; 1 where losses were left as sums")
    return divided_by * world_size / max(n_tokens, 1)


class TokenWindow:
    """The tokens of one accumulation window, and the gradient of their mean loss at its end.

    In a loop of one's own: back-propagate every micro-batch's summed loss, `add` its tokens, and `scale` before
    clipping and `step`. In a LightningModule under `accumulate_grad_batches` = k: return the summed loss, `add` in
    `training_step`, and in `on_before_optimizer_step`, which Lightning calls before it clips,
    `self.window.scale(self.parameters(), divided_by=self.trainer.accumulate_grad_batches)`: Lightning divides every
    loss by k, in a shorter last window too. (A step pre-hook of the optimizer would come too early: under Lightning
    the gradient is made inside the closure.) Ranks are seen to: `scale` adds up the tokens of all of them, and undoes
    the average that DistributedDataParallel takes.

    >>> w = torch.ones(1, requires_grad=True)
    >>> window = TokenWindow()
    >>> for row in (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([6.0])):
    ...     (w * row).sum().backward()
    ...     window.add(len(row))
    >>> window.scale([w]), w.grad  # 12 / 4; the mean of means would be (2 + 6) / 2 = 4
    (4, tensor([3.]))
    """

    def __init__(self) -> None:
        self._n_tokens: int | Tensor = 0

    def add(self, n_tokens: int | Tensor) -> None:
        """Count a micro-batch's tokens: those that enter its summed loss, not the padding.

        Args:
            n_tokens: a number, or a 0-d tensor of whole numbers on any device, which is not waited for.
        """
        self._n_tokens = self._n_tokens + n_tokens

    def scale(self, parameters: Iterable[Tensor], *, divided_by: float = 1.0) -> int:
        """Turn the window's gradients, in place, into those of the mean over its tokens; the next window begins.

        With several processes every rank must call it, once a window.

        Args:
            parameters: whose `.grad` is scaled; None is left alone.
            divided_by: what every summed loss was divided by: the loop's number of micro-batches if it divides by it,
                times a constant of one's own, as large sums may need in float16.

        Returns:
            The number of tokens of the window, on all ranks.
        """
        parameters = list(parameters)
        n_tokens, self._n_tokens, world_size = self._n_tokens, 0, 1
        if dist.is_available() and dist.is_initialized():
            world_size = dist.get_world_size()
            device = parameters[0].device if parameters else None  # NCCL adds up what lies on its GPU only
            n_tokens = torch.as_tensor(n_tokens, dtype=torch.int64, device=device).clone()
            dist.all_reduce(n_tokens)
        n_tokens = int(n_tokens)
        factor = token_mean_factor(n_tokens, divided_by=divided_by, world_size=world_size)
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients:
            with torch.no_grad():
                torch._foreach_mul_(gradients, factor)
        return n_tokens
