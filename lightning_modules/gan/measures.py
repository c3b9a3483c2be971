"""What tells a GAN that works from one that does not: the critic's bounds, the variety of samples, the modes reached.

Shapes: N and M samples of D numbers each.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.gan.networks import Critic
from lightning_modules.lipschitz import audit

N_AUDITED = 32  # samples of each kind that the audit starts from
NEAR = 3.0  # standard deviations about a mode within which a sample is one of it


class Modes(NamedTuple):
    """How well samples fill a mixture of known modes."""

    covered: int  # modes with at least one sample near
    high_quality_fraction: float  # of samples near any mode


def mode_coverage(samples: Tensor, centres: Tensor, spread: float) -> Modes:
    """The modes that samples reach, and the share of samples within three standard deviations of one.

    Of normal points in the plane 98.9 % are that near.

    Args:
        samples: (N, D).
        centres: (K, D).
        spread: Standard deviation of each coordinate.

    Source: Srivastava et al. 2017, section 4.1.

    >>> mode_coverage(torch.tensor([[0.0, 0.1], [5.0, 5.0]]), torch.tensor([[0.0, 0.0], [9.0, 9.0]]), 0.1)
    Modes(covered=1, high_quality_fraction=0.5)
    """
    distance, nearest = torch.cdist(samples, centres).min(1)
    is_near = distance <= NEAR * spread
    return Modes(len(set(nearest[is_near].tolist())), float(is_near.float().mean()))


def diversity(real: Tensor, fake: Tensor) -> float:
    """Mean squared distance of two generated samples over that of two real ones: 0 = all the same, 1 = as varied.

    Equal to the ratio of the traces of the covariances.

    Args:
        real: (N, D).
        fake: (M, D).

    >>> diversity(torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [3.0], [1.0], [3.0]]))
    0.25
    """
    return float(fake.var(0, correction=0).sum() / real.var(0, correction=0).sum())


def lipschitz_bounds(critic: Critic, real: Tensor, fake: Tensor, labels: Tensor | None = None) -> tuple[float, float]:
    """Upper and lower bound of the critic's Lipschitz constant in x: with classes the greatest over those met.

    Args:
        critic: In evaluation mode.
        real: (N, C, H, W).
        fake: As many.
        labels: (N,) of both, where the critic is told them.
    """
    classes = [None] if labels is None else sorted(set(labels.tolist()))
    n = max(1, N_AUDITED // len(classes))
    audits = []
    for label in classes:
        rows = slice(None) if labels is None else labels == label
        audits.append(audit(critic.of_class(label), real[rows][:n], others=fake[rows][:n]))
    return max(each.upper for each in audits), max(each.lower for each in audits)
