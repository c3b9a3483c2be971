"""Weights changed by a given share of their size, w + dw: at random, and so that the loss rises most.

A share f means |dw| <= f |w| in the Euclidean norm of each tensor by itself, so layers of any scale are moved alike;
a tensor of zeros stays.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.linalg import vector_norm

Parameters = dict[str, Tensor]

ASCENT_STEPS = 5


def gaussian(parameters: Parameters, fraction: float, generator: torch.Generator) -> Parameters:
    """Every tensor moved in a random direction by exactly `fraction` of its norm.

    >>> moved = gaussian({"w": torch.tensor([3.0, 4.0])}, 0.1, torch.Generator().manual_seed(0))
    >>> round(float((moved["w"] - torch.tensor([3.0, 4.0])).norm()), 4)
    0.5
    """
    noise = {name: torch.randn(w.shape, generator=generator).to(w) for name, w in parameters.items()}
    return {name: w + _of_length(noise[name], fraction * vector_norm(w)) for name, w in parameters.items()}


def worst_case(
    mean_loss: Callable[[Parameters], Tensor], parameters: Parameters, fraction: float, steps: int = ASCENT_STEPS
) -> Parameters:
    """The weights of largest loss that gradient ascent meets within `fraction` of each tensor's norm.

    The first step goes to the border, as in sharpness-aware minimisation; the next are half as long and pulled back
    to it. Never below the loss of the given weights.

    Args:
        mean_loss: Of the parameters, 0-d.
        parameters: By name.
        fraction: At least 0.
        steps: Gradients taken.

    Source: Foret et al. 2021, equation 2, for the step; Wu et al. 2020 for a radius relative to each layer.
    """
    radius = {name: fraction * vector_norm(w) for name, w in parameters.items()}
    best, most = parameters, _value(mean_loss, parameters)
    change = {name: torch.zeros_like(w) for name, w in parameters.items()}
    length = 1.0
    for _ in range(steps):
        gradients = _gradients(mean_loss, _moved(parameters, change))
        for name, gradient in gradients.items():
            stepped = change[name] + _of_length(gradient, length * radius[name])
            change[name] = stepped * (radius[name] / vector_norm(stepped).clamp_min(1e-30)).clamp_max(1.0)
        length = 0.5
        reached = _moved(parameters, change)
        found = _value(mean_loss, reached)
        if found > most:
            best, most = reached, found
    return best


def _moved(parameters: Parameters, change: Parameters) -> Parameters:
    return {name: w + change[name] for name, w in parameters.items()}


@torch.no_grad()
def _value(mean_loss: Callable[[Parameters], Tensor], parameters: Parameters) -> float:
    return float(mean_loss(parameters))


def _gradients(mean_loss: Callable[[Parameters], Tensor], parameters: Parameters) -> Parameters:
    with torch.enable_grad():
        leaves = {name: w.detach().requires_grad_() for name, w in parameters.items()}
        gradients = torch.autograd.grad(mean_loss(leaves), list(leaves.values()))
    return dict(zip(leaves, gradients, strict=True))


def _of_length(direction: Tensor, length: Tensor) -> Tensor:
    step: Tensor = direction * (length / vector_norm(direction).clamp_min(1e-30))
    return step
