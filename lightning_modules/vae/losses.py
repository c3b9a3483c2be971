"""The terms of a variational auto-encoder's losses, and quantities that tell how much of its latent space it uses.

Shapes: B images of C channels, H x W pixels; P = C H W; D latent dimensions; k draws of z for an image. All is in nats.

kexue.fm/archives/5383 writes p(z|x) for the encoder and q(x|z), q(z) for the decoder and the prior. The names here are
the more usual ones of Kingma & Welling (2014): q(z|x) is the encoder, p(x|z) the decoder, p(z) = N(0, I) the prior.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
SMALLEST_SIGMA = 1e-4


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


def gaussian_log_density(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Log-density ln N(z; mean, diag exp(log_var)) of each row.

    Args:
        z: (B, D).
        mean: (B, D).
        log_var: (B, D), natural log of the variance.

    Returns:
        (B,), of either sign.

    >>> gaussian_log_density(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2))
    tensor([-1.8379])
    """
    return -0.5 * ((z - mean).square() * (-log_var).exp() + log_var).sum(1) - z.shape[1] * HALF_LOG_2PI


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """Log of the mean of exp(log_weights) over the draws: on average a bound on ln p(x) from below, tighter with k.

    Of the weights p(x|z_i) p(z_i) / q(z_i|x), z_i drawn from q(z|x), it is the negative of equation (11) of
    kexue.fm/archives/5383 (IWAE; Burda, Grosse & Salakhutdinov 2016); of the weights p(x|z_i), z_i drawn from the
    prior, the negative of equation (7).

    Args:
        log_weights: (B, k).

    Returns:
        (B,).

    >>> log_mean_exp(torch.tensor([[1.0, 3.0]]).log())
    tensor([0.6931])
    """
    return log_weights.logsumexp(1) - math.log(log_weights.shape[1])


def score_function(losses: Tensor, log_density: Tensor) -> Tensor:
    """The losses themselves, with a gradient that needs no path through z: losses times the gradient of ln q(z|x).

    Added to the direct gradient of the losses, it has the mean of the reparameterised gradient, and more variance.

    Args:
        losses: (B,), at z that carries no gradient.
        log_density: (B,), ln q(z|x) at the same z.

    Source: Williams 1992; kexue.fm/archives/5383 has the other way, z = mean + epsilon sigma.

    >>> mean = torch.tensor([[1.0]], requires_grad=True)
    >>> log_q = gaussian_log_density(torch.tensor([[3.0]]), mean, torch.zeros(1, 1))
    >>> score_function(torch.tensor([5.0]), log_q).sum().backward()
    >>> mean.grad
    tensor([[10.]])
    """
    return losses + losses.detach() * (log_density - log_density.detach())


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


def bernoulli_nlls(logits: Tensor, x: Tensor) -> Tensor:
    """`bernoulli_nll` of every image under each of its k draws, without a copy of the images for each.

    Args:
        logits: (B, k, C, H, W), or (1, k, C, H, W): the same draws for all images.
        x: (B, C, H, W), in [0, 1].

    Returns:
        (B, k), at least 0.

    >>> bernoulli_nlls(torch.zeros(1, 3, 1, 1, 1), torch.ones(2, 1, 1, 1))
    tensor([[0.6931, 0.6931, 0.6931],
            [0.6931, 0.6931, 0.6931]])
    """
    logits, x = logits.flatten(2), x.flatten(1)  # (B or 1, k, P), (B, P)
    return F.softplus(logits).sum(2) - _products(logits, x)


def gaussian_nlls(x_mean: Tensor, x: Tensor, log_sigma: Tensor) -> Tensor:
    """`gaussian_nll` of every image under each of its k draws.

    Draws that all images share are compared through |x|^2 - 2 x x_mean + |x_mean|^2, which in float32 leaves about
    1e-7 |x|^2 / sigma^2 of rounding: .01 nats for 784 pixels and sigma = .1.

    Args:
        x_mean: (B, k, C, H, W), or (1, k, C, H, W): the same draws for all images.
        x: (B, C, H, W).
        log_sigma: 0-d, natural log of the standard deviation.

    Returns:
        (B, k), of either sign.
    """
    x_mean, x = x_mean.flatten(2), x.flatten(1)  # (B or 1, k, P), (B, P)
    if len(x_mean) == len(x):
        squares = (x.unsqueeze(1) - x_mean).square().sum(2)
    else:
        squares = x_mean.square().sum(2) - 2 * _products(x_mean, x) + x.square().sum(1, keepdim=True)
    return squares * (0.5 * (-2 * log_sigma).exp()) + x.shape[1] * (log_sigma + HALF_LOG_2PI)


def optimal_log_sigma(x_mean: Tensor, x: Tensor) -> Tensor:
    """Log of the sigma under which the pixels are likeliest: the root of their mean squared error.

    A constant to the gradient, which is that of P/2 ln MSE all the same: at the optimum it is 0 in sigma.

    Args:
        x_mean: (B, ...), any shape that broadcasts with x.
        x: (B, ...).

    Returns:
        0-d, at least ln 1e-4: images that are reproduced exactly would give -inf.

    Source: Rybkin, Daniilidis & Levine 2021 ("sigma-VAE").

    >>> optimal_log_sigma(torch.zeros(4), torch.full((4,), 0.5)).exp()
    tensor(0.5000)
    """
    return 0.5 * (x - x_mean).detach().square().mean().clamp(min=SMALLEST_SIGMA**2).log()


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


def _products(draws: Tensor, x: Tensor) -> Tensor:
    """Inner products (B, k) of x (B, P) with its draws (B, k, P), or with the draws (1, k, P) that all rows share."""
    with torch.autocast(x.device.type, enabled=False):  # bfloat16 would keep two digits of a sum over pixels
        return x @ draws[0].T if len(draws) == 1 else torch.bmm(draws, x.unsqueeze(2)).squeeze(2)
