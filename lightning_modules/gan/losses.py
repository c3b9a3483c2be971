"""Losses of critic and generator as functions of the critic's outputs on real and generated samples.

Shapes: B samples of each kind. Outputs are (B,): logits of "real" for standard and non_saturating, scores of no unit
for hinge and wasserstein. Both players minimise.
"""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

LossName = Literal["standard", "non_saturating", "hinge", "wasserstein"]


def critic_loss(name: LossName, real: Tensor, fake: Tensor) -> Tensor:
    """What the critic minimises, 0-d.

    - standard, non_saturating: -E ln sigmoid(D(x)) - E ln(1 - sigmoid(D(G(z)))); Goodfellow et al. 2014, equation (1).
    - hinge: E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))); Miyato et al. 2018, equation (16).
    - wasserstein: E D(G(z)) - E D(x); Arjovsky et al. 2017, equation (3).

    Args:
        name: Of the loss.
        real: (B,), D(x).
        fake: (B,), D(G(z)).

    >>> import torch
    >>> [critic_loss(name, torch.ones(2), torch.zeros(2)).item() for name in ("hinge", "wasserstein")]
    [1.0, -1.0]
    """
    if name == "wasserstein":
        return fake.mean() - real.mean()
    if name == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()  # softplus(-d) = -ln sigmoid(d)


def generator_loss(name: LossName, fake: Tensor) -> Tensor:
    """What the generator minimises, 0-d.

    - standard: E ln(1 - sigmoid(D(G(z)))), flat where the critic is sure; Goodfellow et al. 2014, equation (1).
    - non_saturating: -E ln sigmoid(D(G(z))); there, section 3.
    - hinge, wasserstein: -E D(G(z)); Miyato et al. 2018, equation (17).

    Args:
        name: Of the loss.
        fake: (B,), D(G(z)).

    >>> import torch
    >>> generator_loss("wasserstein", torch.tensor([1.0, 3.0])).item()
    -2.0
    """
    if name == "standard":
        return -F.softplus(fake).mean()
    if name == "non_saturating":
        return F.softplus(-fake).mean()
    return -fake.mean()
