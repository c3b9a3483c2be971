"""Constraints put on weights after an optimizer's step: clipping, and division by the spectral norm."""

import torch
from torch import nn

from lightning_modules.lipschitz.spectral import SMALLEST_SIGMA, matrix_map, warm_sigma, weighted_layers

U = "spectral_u"  # buffer in which a layer keeps its top left singular vector between steps


@torch.no_grad()
def clip_weights(module: nn.Module, clip: float) -> None:
    """Moves every parameter into [-clip, clip]. Source: Arjovsky et al. 2017, algorithm 1."""
    for parameter in module.parameters():
        parameter.clamp_(-clip, clip)


@torch.no_grad()
def project_spectral(module: nn.Module, target: float, n_power_iterations: int) -> None:
    """Divides each layer's weights by their spectral norm, so that it is `target`.

    This is what a Keras kernel_constraint does: gradients do not see it, and between steps the norm is off. The source
    starts each estimate from ones; here a layer's buffer `spectral_u` keeps it warm, for 5 cold rounds leave 1.06.

    Source: kexue.fm/archives/6051, on kernel_constraint.
    """
    for layer in weighted_layers(module).values():
        weight, u = layer.get_parameter("weight"), layer.get_buffer(U)
        sigma, new_u = warm_sigma(*matrix_map(layer).maps(weight), u, n_power_iterations)
        u.copy_(new_u)
        weight.mul_(target / sigma.clamp_min(SMALLEST_SIGMA))
