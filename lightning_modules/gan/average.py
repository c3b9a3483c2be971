"""The generator's weights averaged over the steps: what samples are drawn from when it is on."""

import copy

import torch
from torch import Tensor, nn


class Average(nn.Module):
    """A copy of a module whose parameters follow exponentially: average <- average + (1 - d_t) (weights - average).

    d_t = min(decay, (1 + t) / (10 + t)) at update t = 0, 1, ...: a fixed decay would keep the initial weights for
    1 / (1 - decay) steps. Buffers, as BatchNorm's running statistics, are copied.

    Args:
        module: To follow.
        decay: Greatest d_t, in (0, 1).

    Source: Yazici et al. 2019; the ramp is that of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.decay = decay
        self.t = 0

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the averaged module gives."""
        output: Tensor = self.module(*inputs)
        return output

    def train(self, mode: bool = True) -> "Average":
        """Nothing changes: an average is never trained, and its BatchNorm keeps its statistics."""
        return self

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """One step after the module's."""
        mine: list[Tensor] = list(self.module.parameters())
        theirs: list[Tensor] = list(module.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - self.decay_at(self.t))
        for own, other in zip(self.module.buffers(), module.buffers(), strict=True):
            own.copy_(other)
        self.t += 1

    def decay_at(self, t: int) -> float:
        """d_t.

        >>> [round(Average(nn.Identity(), 0.999).decay_at(t), 3) for t in (0, 10, 10_000)]
        [0.1, 0.55, 0.999]
        """
        return min(self.decay, (1 + t) / (10 + t))

    def get_extra_state(self) -> Tensor:
        """t, which belongs to the weights."""
        return torch.tensor(self.t)

    def set_extra_state(self, state: Tensor) -> None:
        """Goes on from there."""
        self.t = int(state)
