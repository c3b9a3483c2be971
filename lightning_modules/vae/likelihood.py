"""-ln p(x) by importance sampling from the posterior, with its error and how far the draws can be trusted.

Shapes: B images of P pixels in all; D latent dimensions; S draws of z for an image. Everything is in nats.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.data.sampling import draw

MOST_PIXELS = 2**19  # decoded at once: 2 MB of float32; four times as many took 1.1 times as long on one core


class Summary(NamedTuple):
    """A likelihood over a set of images."""

    nll: float  # mean over the images, in nats
    standard_error: float  # of that mean as one of all such images, the draws' part included; nan for one image
    monte_carlo_error: float  # the draws' part alone: what the same images would differ by with other draws
    ess_fraction: float  # mean over the images


class Likelihood(NamedTuple):
    """-ln p(x) of each image, estimated from S weighted draws. The estimate is above the truth on average.

    How far above: about half the square of its standard error where that is small, any amount where few draws carry all
    weight (`ess_fraction` near 1/S).
    """

    nll: Tensor  # (B,), in nats; a density of continuous pixels, which may be negative
    standard_error: Tensor  # (B,), of the draws, by the delta method; nan for one draw
    ess_fraction: Tensor  # (B,), effective sample size / S, in (0, 1]
    is_normalised: bool = True  # False: grey pixels under a Bernoulli decoder, a cross-entropy and no likelihood

    def summary(self) -> Summary:
        """Mean over the images, with its errors.

        >>> Likelihood(torch.tensor([1.0, 3.0]), torch.tensor([0.3, 0.4]), torch.tensor([0.5, 1.0])).summary()
        Summary(nll=2.0, standard_error=1.0, monte_carlo_error=0.25, ess_fraction=0.75)
        """
        n = len(self.nll)
        spread = (self.nll - self.nll.mean()).square().sum() / (n - 1) / n  # nan for one image
        error = self.standard_error.square().sum().sqrt() / n
        return Summary(
            float(self.nll.mean()), float(spread.sqrt()), round(float(error), 12), float(self.ess_fraction.mean())
        )


def from_log_weights(log_weights: Tensor) -> Likelihood:
    """The likelihood that S weights p(x|z) p(z) / q(z|x) of each image give: their mean estimates p(x).

    Args:
        log_weights: (B, S), natural logs.

    >>> found = from_log_weights(torch.tensor([[1.0, 3.0]]).log())
    >>> [round(float(value), 4) for value in found[:3]]
    [-0.6931, 0.5, 0.8]
    """
    n_samples = log_weights.shape[1]
    log_weights = log_weights.double()
    log_mean = torch.logsumexp(log_weights, 1) - math.log(n_samples)
    mean_square = (2 * (log_weights - log_mean.unsqueeze(1))).exp().mean(1)  # of weights scaled to a mean of 1
    error = ((mean_square - 1).clamp(min=0) / (n_samples - 1)).sqrt()
    return Likelihood(-log_mean, error, 1 / mean_square)


def importance_sampling(
    log_likelihood: Callable[[slice, Tensor], Tensor],
    mean: Tensor,
    log_var: Tensor,
    n_samples: int,
    *,
    n_pixels: int,
    seed: int = 0,
    first_row: int = 0,
) -> Likelihood:
    """-ln p(x) of B images from S draws each of N(mean, diag exp(log_var)), in memory for a few images at a time.

    Args:
        log_likelihood: From the rows of n images and z (n, s, D) to ln p(x|z), (n, s).
        mean: (B, D), of the posterior, or of any other distribution that covers it.
        log_var: (B, D), natural log of the variance.
        n_samples: S.
        n_pixels: P.
        seed: Of the draws; image `first_row` + r gets the same ones whatever other images there are.
        first_row: Number of the first image in a larger set.

    Raises:
        ValueError: Fewer than one sample.

    Source: Burda, Grosse & Salakhutdinov 2016, section 5 (k = 5,000 there).
    """
    if n_samples < 1:
        raise ValueError(f"nll: n_samples = {n_samples}: must be at least 1; 1000 leaves an error of about .1 nats")
    n_images = max(1, MOST_PIXELS // (n_samples * n_pixels))
    n_at_once = max(1, MOST_PIXELS // n_pixels)
    parts = []
    for start in range(0, len(mean), n_images):
        rows = slice(start, min(start + n_images, len(mean)))
        m, v = mean[rows].unsqueeze(1), log_var[rows].unsqueeze(1)  # (n, 1, D)
        epsilon = _epsilon(seed, range(first_row + rows.start, first_row + rows.stop), n_samples, mean)
        z = m + epsilon * (0.5 * v).exp()
        log_ratio = 0.5 * (epsilon.square() + v - z.square()).sum(2)  # ln p(z) - ln q(z|x), (n, S)
        log_p = torch.cat([log_likelihood(rows, some) for some in torch.split(z, n_at_once, 1)], 1)
        parts.append(from_log_weights(log_p + log_ratio))
    nll, error, ess = (torch.cat(columns) for columns in zip(*(part[:3] for part in parts), strict=True))
    return Likelihood(nll, error, ess)


def _epsilon(seed: int, rows: range, n_samples: int, like: Tensor) -> Tensor:
    """Standard normal (n, S, D), each image's its own."""
    draws = [torch.randn(n_samples, like.shape[1], generator=draw(seed, "nll", row)) for row in rows]
    return torch.stack(draws).to(like)
