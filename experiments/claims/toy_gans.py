"""WGANs on Gaussians in the plane, trained side by side: one network for each seed.

Legend: R GANs; B samples of a batch; N samples measured; K modes. All distances are in units of the plane, in which the
modes lie within [-0.7, 0.7].
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from experiments.claims.stacked_networks import Held, Layers, Name, first_layers, forward, gradient_norms, parameters
from lightning_modules.data.gaussians import Layout, centres
from lightning_modules.data.sampling import draw
from lightning_modules.gan.losses import critic_loss, generator_loss

BATCH, WIDTH, Z, LR = 128, 64, 4, 1e-3
SPREAD = 0.05  # standard deviation of a mode
N_CRITIC = 2  # critic steps a generator step
N_MEASURED, N_DIRECTIONS = 512, 32
EVERY = 10  # steps between measures


@dataclass(frozen=True)
class Recipe:
    """How GANs are trained.

    Args:
        name: Of the critic's constraint; gp is two-sided, between real and generated samples.
        n_steps: Of the generator.
        weight: lambda of the gradient penalty.
        layout: Of the modes.
        n_modes: K.
    """

    name: Name
    n_steps: int
    weight: float = 10.0
    layout: Layout = "ring"
    n_modes: int = 8


@dataclass(frozen=True)
class GANs:
    """R trained GANs and their way.

    Args:
        marks: Generator steps at which they were measured (M,).
        distance: Sliced Wasserstein distance of generated to real samples then (M, R).
        critic: As used, with its constraint.
        generator: Of samples.
    """

    marks: np.ndarray
    distance: np.ndarray
    critic: Layers
    generator: Layers


def sliced_distance(x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
    """Sliced Wasserstein-1 distance (R,) of equally many samples (R, N, 2), over unit directions (2, S)."""
    gaps = (x @ directions).sort(1).values - (y @ directions).sort(1).values
    return gaps.abs().mean((1, 2))


def real(modes: Tensor, n: int, n_samples: int, generator: torch.Generator) -> Tensor:
    """Samples (n, n_samples, 2) of the mixture with modes (K, 2)."""
    labels = torch.randint(len(modes), (n, n_samples), generator=generator)
    return modes[labels] + SPREAD * torch.randn(n, n_samples, 2, generator=generator)


def critic_terms(held: Held, layers: Layers, x: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
    """The critics' losses, summed over R, with their penalties.

    Args:
        held: The constraint.
        layers: Of the critics.
        x: Real samples (R, B, 2).
        fake: Generated ones.
        epsilon: (R, B, 1), uniform.
    """
    scores = forward(held.applied(layers), torch.cat([x, fake], 1))
    loss = len(x) * critic_loss("wasserstein", *scores.chunk(2, 1))
    if held.name == "gp":
        norms = gradient_norms(lambda at: forward(layers, at), epsilon * x + (1 - epsilon) * fake)
        loss = loss + held.weight * (norms - 1).square().mean(1).sum()
    return loss


@functools.lru_cache(maxsize=32)
def trained(seed: int, n: int, recipe: Recipe) -> GANs:
    """GANs; kept, because several claims measure the same ones."""
    modes = centres(recipe.layout, recipe.n_modes)
    first = draw(seed, "gans/first")
    makers, critics = first_layers((Z, WIDTH, WIDTH, 2), n, first), first_layers((2, WIDTH, WIDTH, 1), n, first)
    held = Held(recipe.name, recipe.weight)
    made, judged = (
        torch.optim.Adam(parameters(layers), lr=LR, betas=(0.0, 0.9), fused=True) for layers in (makers, critics)
    )
    steps, tests = draw(seed, "gans/steps"), draw(seed, "gans/tests")
    directions = torch.nn.functional.normalize(torch.randn(2, N_DIRECTIONS, generator=tests), dim=0)
    marks, found = [], []
    for step in range(1, recipe.n_steps + 1):
        for _ in range(N_CRITIC):
            with torch.no_grad():
                fake = forward(makers, torch.randn(n, BATCH, Z, generator=steps))
            epsilon = torch.rand(n, BATCH, 1, generator=steps)
            critic_terms(held, critics, real(modes, n, BATCH, steps), fake, epsilon).backward()  # type: ignore[no-untyped-call]
            judged.step()
            judged.zero_grad()
            held.after_step(critics)
        with torch.no_grad():
            used = held.applied(critics)
        fake = forward(makers, torch.randn(n, BATCH, Z, generator=steps))
        (n * generator_loss("wasserstein", forward(used, fake))).backward()  # type: ignore[no-untyped-call]
        judged.zero_grad()
        made.step()
        made.zero_grad()
        if step % EVERY == 0:
            with torch.no_grad():
                fake = forward(makers, torch.randn(n, N_MEASURED, Z, generator=tests))
                found.append(sliced_distance(fake, real(modes, n, N_MEASURED, tests), directions))
            marks.append(step)
    with torch.no_grad():
        final = [(W.detach(), b.detach()) for W, b in held.applied(critics)]
    generator = [(W.detach(), b.detach()) for W, b in makers]
    return GANs(np.array(marks), torch.stack(found).double().numpy(), final, generator)
