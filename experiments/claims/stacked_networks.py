"""Many small multilayer perceptrons side by side, and what holds their Lipschitz constants; the article's forms of it.

Legend: R networks, trained independently of one another; B rows; a layer is W (R, out, in) and b (R, 1, out).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.func import vmap

from lightning_modules.lipschitz.penalties import input_gradient
from lightning_modules.lipschitz.spectral import MatrixMap, power_iteration, warm_sigma

Layers = list[tuple[Tensor, Tensor]]
Name = Literal["none", "frobenius", "snr", "gp", "sn", "sn_cold", "sn_projection"]
MAP = MatrixMap()


@dataclass
class Held:
    """A constraint on stacked networks, by the names of `lipschitz.constraint`, whose penalties here are a sum over R.

    Args:
        name: Of the constraint.
        weight: lambda of a penalty.
        target: Bound for the whole network, of which each layer has its share.
        rounds: Of power iteration from ones, with sn_cold and sn_projection; the article's are 5.
    """

    name: Name = "none"
    weight: float = 0.0
    target: float = 1.0
    rounds: int = 5
    _u: list[Tensor] = field(default_factory=list, init=False)

    def applied(self, layers: Layers) -> Layers:
        """The layers as the network uses them: those of sn and sn_cold divided by their norms."""
        if self.name not in ("sn", "sn_cold"):
            return layers
        norms = self.warm(layers) if self.name == "sn" else [cold_norms(W, self.rounds) for W, _ in layers]
        share = self.target ** (1 / len(layers))
        return [(W * (share / sigma)[:, None, None], b) for (W, b), sigma in zip(layers, norms, strict=True)]

    def penalty(self, layers: Layers) -> Tensor | float:
        """The weighted penalty on the weights, 0-d: lambda |W|_F^2, lambda |W|_2^2, or nothing."""
        if self.name == "frobenius":
            return self.weight * torch.stack([W.square().sum() for W, _ in layers]).sum()
        if self.name == "snr":
            return self.weight * torch.stack(self.warm(layers)).square().sum()
        return 0.0

    @torch.no_grad()
    def after_step(self, layers: Layers) -> None:
        """Divides the stored weights by their norms, with sn_projection."""
        if self.name == "sn_projection":
            share = self.target ** (1 / len(layers))
            for W, _ in layers:
                W.mul_((share / cold_norms(W, self.rounds))[:, None, None])

    def warm(self, layers: Layers) -> list[Tensor]:
        """A spectral norm (R,) of each layer by a round of power iteration from the vectors of the call before."""
        if not self._u:
            self._u = [W.detach().sum(2) for W, _ in layers]  # W times ones
            for _ in range(20):
                self.warm([(W.detach(), b) for W, b in layers])
        found = [vmap(_warm)(W, u) for (W, _), u in zip(layers, self._u, strict=True)]
        self._u = [u for _, u in found]
        return [sigma for sigma, _ in found]


def first_layers(sizes: Sequence[int], n: int, generator: torch.Generator) -> Layers:
    """Weights of n networks as torch's Linear starts them, with gradients."""
    layers: Layers = []
    for n_in, n_out in pairwise(sizes):
        shapes = ((n, n_out, n_in), (n, 1, n_out))
        W, b = (((2 * torch.rand(shape, generator=generator) - 1) / n_in**0.5).requires_grad_() for shape in shapes)
        layers.append((W, b))
    return layers


def forward(layers: Layers, x: Tensor) -> Tensor:
    """Scores (R, B, K) of ReLU networks at x (R, B, D)."""
    for i, (W, b) in enumerate(layers):
        x = torch.baddbmm(b, x.relu() if i else x, W.mT)
    return x


def parameters(layers: Layers) -> list[Tensor]:
    """Every tensor, for an optimizer."""
    return [tensor for layer in layers for tensor in layer]


def gradient_norms(scores: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The norm (R, B) of the gradient of each row's score in x (R, B, D)."""
    norms: Tensor = torch.linalg.vector_norm(input_gradient(scores, x), dim=-1)
    return norms


def cold_norms(W: Tensor, rounds: int) -> Tensor:
    """Spectral norms (R,) of W by power iteration from ones, through which the gradient flows: the article's code."""
    return vmap(lambda w: _cold(w, rounds))(W)


@torch.no_grad()
def true_norms(layers: Layers) -> Tensor:
    """Spectral norms (R, layers) by singular values."""
    return torch.stack([torch.linalg.matrix_norm(W, 2) for W, _ in layers], 1)


def _cold(W: Tensor, rounds: int) -> Tensor:
    matvec, rmatvec = MAP.maps(W)
    return power_iteration(rmatvec, matvec, W.new_ones(W.shape[1]), rounds).sigma


def _warm(W: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    return warm_sigma(*MAP.maps(W), u, 1)
