"""The terms of a variational auto-encoder's loss, and the quantities that tell how much of its latent space it uses.

Shapes: B images of C channels, H x W pixels; P = C H W; D latent dimensions. Everything is in nats.

kexue.fm/archives/5383 writes p(z|x) for the encoder and q(x|z), q(z) for the decoder and the prior. The names here are
the more usual ones of Kingma & Welling (2014): q(z|x) is the encoder, p(x|z) the decoder, p(z) = N(0, I) the prior.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, diag exp(log_var)) || N(0, I)) of each row, the closed form.

    Args:
        mean: (B, D).
        log_var: (B, D), natural log of the variance.

    Returns:
        (B,), at least 0.

    Source: Kingma & Welling 2014, appendix B; the second term of equation (4) of kexue.fm/archives/5383.

    >>> gaussian_kl(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.zeros(2, 2))
    tensor([ 0.0000, 12.5000])
    """
    return 0.5 * (mean.square() + (log_var.expm1() - log_var)).sum(1)  # expm1: exact where the variance is close to 1


def one_sample_kl(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Difference ln q(z|x) - ln p(z) of each row: on average `gaussian_kl` when z is drawn from q(z|x).

    Args:
        z: (B, D), one draw of the posterior for each image.
        mean: (B, D).
        log_var: (B, D), natural log of the variance.

    Returns:
        (B,), of either sign.

    Source: equation (5) of kexue.fm/archives/5383.

    >>> one_sample_kl(torch.tensor([[2.0]]), torch.tensor([[2.0]]), torch.tensor([[0.0]]))
    tensor([2.])
    """
    epsilon = (z - mean) * (-0.5 * log_var).exp()  # (B, D); ln 2 pi stands in both densities and cancels
    return 0.5 * (z.square() - epsilon.square() - log_var).sum(1)


def bernoulli_nll(logits: Tensor, x: Tensor) -> Tensor:
    """-ln p(x|z) of each image for independent Bernoulli pixels, summed over the pixels.

    For grey pixels, strictly between 0 and 1, this is a cross-entropy and no likelihood: the density lacks its
    normalising constant, so compare it with other runs on the same data only.

    Args:
        logits: (B, C, H, W), ln of p / (1 - p).
        x: (B, C, H, W), in [0, 1].

    Returns:
        (B,), at least 0.

    >>> bernoulli_nll(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)) / 4
    tensor([0.6931])
    """
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)


def gaussian_nll(x_mean: Tensor, x: Tensor, log_sigma: Tensor) -> Tensor:
    """-ln p(x|z) of each image for pixels N(x_mean, sigma^2) with one sigma for all, summed over the pixels.

    Args:
        x_mean: (B, C, H, W).
        x: (B, C, H, W).
        log_sigma: 0-d, natural log of the standard deviation.

    Returns:
        (B,), of either sign: a density may exceed 1.

    Source: equation (8) of kexue.fm/archives/5383, with the constant P/2 ln 2 pi kept.

    >>> gaussian_nll(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2), torch.tensor(0.0))
    tensor([1.8379])
    """
    squares = (x - x_mean).square().flatten(1)  # (B, P)
    return squares.sum(1) * (0.5 * (-2 * log_sigma).exp()) + squares.shape[1] * (log_sigma + HALF_LOG_2PI)


def latent_moments(mean: Tensor) -> Tensor:
    """Sums from which `active_units` is computed; the moments of two sets of rows add up to those of their union.

    Args:
        mean: (B, D), posterior means.

    Returns:
        (3, D): sum, sum of squares, number of rows. The prior keeps the means within a few units, so float32 leaves
        the variance exact to about 1e-4.
    """
    return torch.stack([mean.sum(0), mean.square().sum(0), torch.full_like(mean[0], len(mean))])


def active_units(moments: Tensor, threshold: float = 0.01) -> Tensor:
    """Number of latent dimensions whose posterior mean varies over the data: Var_x(E[z|x]) > threshold.

    Args:
        moments: (3, D), from `latent_moments`.
        threshold: The variance above which a dimension counts as used.

    Returns:
        0-d float, between 0 and D.

    Source: Burda, Grosse & Salakhutdinov 2016, section 5.1.

    >>> active_units(latent_moments(torch.tensor([[0.0, 1.0], [0.0, -1.0]])))
    tensor(1.)
    """
    mean, mean_square = moments[:2] / moments[2]
    return torch.sum(mean_square - mean.square() > threshold).float()
