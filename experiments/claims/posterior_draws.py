"""Claims on drawing z once from the posterior: how narrow it is, what a draw adds to a gradient (V1, V5, V7).

B images, k or S draws, D latent dimensions, R models; see `small_vaes`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, vmap

from experiments.claims.context import Context
from experiments.claims.registry import Axes, Claim, Curve, Evidence
from experiments.claims.repetitions import mean_evidence, mean_points
from experiments.claims.small_vaes import (
    Ensemble,
    Recipe,
    Weights,
    as_array,
    encode,
    ensemble,
    log_densities,
    log_weights,
    losses,
    model,
    nlls,
    posterior_variances,
    test_nll,
)
from lightning_modules.vae.losses import gaussian_kl, gaussian_log_density, log_mean_exp, score_function

FLAT = Recipe(latent_dim=2)
DEEP = Recipe(latent_dim=8)
N_IMAGES = 200  # measured at for each model


def posterior_variance(context: Context) -> Evidence:
    """The mean variance of a posterior of two dimensions; the prior's is 1."""
    variances = posterior_variances(ensemble(context, FLAT)).double().mean((1, 2)).numpy()
    return mean_evidence("mean posterior variance", variances)


def spread_ratio(context: Context) -> Evidence:
    """How much more ln p(x|z) spreads under the prior than under the posterior."""
    found, generator = ensemble(context, FLAT), context.generator("spread")
    z = torch.randn((1000, 2), generator=generator)
    spreads = []
    for r in range(len(found.test)):
        under_posterior = log_weights(found, r, N_IMAGES, 200, generator).log_p
        spreads.append([float(log_p.std(1).mean()) for log_p in (under_posterior, log_densities(found, r, z))])
    posterior, prior = np.array(spreads).T
    points = [*mean_points([0], posterior[:, None], "posterior"), *mean_points([1], prior[:, None], "prior")]
    axes = Axes("0 = posterior, 1 = prior", "sd of ln p(x|z) in nats", log_y=True)
    return mean_evidence("sd under the prior / sd under the posterior", prior / posterior, points, axes=axes)


def one_against_ten(context: Context) -> Evidence:
    """Mean error of ln p(x) from one draw of the posterior less that from ten of the prior, in nats."""
    found, generator = ensemble(context, FLAT), context.generator("estimate")
    differences = []
    for r in range(len(found.test)):
        weights = log_weights(found, r, N_IMAGES, 1000, generator).log_weights
        truth = log_mean_exp(weights)
        ten = log_mean_exp(log_densities(found, r, torch.randn((10, 2), generator=generator)))[:N_IMAGES]
        differences.append((weights[:, 0] - truth).abs().mean() - (ten - truth).abs().mean())
    return mean_evidence("error of one posterior draw - of ten prior draws, in nats", as_array(differences))


def gradients(found: Ensemble, r: int, recipe: Recipe, epsilon: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of the loss of each of the first images (B, weights) in the encoder's and the decoder's weights.

    Args:
        found: whose model r it is.
        r: number of the model.
        recipe: names the loss.
        epsilon: (B, 1, D), a draw for each training image.
    """

    def loss(weights: tuple[Weights, Weights], x: Tensor, epsilon: Tensor) -> Tensor:
        return losses(recipe, *weights, x.unsqueeze(0), epsilon.unsqueeze(0))[0]

    parts = vmap(grad(loss), (None, 0, 0))(model(found, r), found.train[r, : len(epsilon)], epsilon)
    of_encoder, of_decoder = (torch.cat([weight.flatten(1) for weight in part.values()], 1) for part in parts)
    return of_encoder, of_decoder


def variances(pair: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Trace of the gradient's covariance: that within an image, due to the draw, and the whole one.

    Args:
        pair: gradients (B, weights) of the same images at two independent draws; both parts are unbiased.
    """
    within = (pair[0] - pair[1]).square().sum(1).mean() / 2
    whole = (pair[0].var(0).sum() + pair[1].var(0).sum()) / 2
    return float(within), float(whole)


def batch_share(context: Context, with_encoder: bool) -> Evidence:
    """The share of the gradient's variance that comes from which images are in the batch, not from the draw of z.

    Args:
        context: seed and effort.
        with_encoder: whether the encoder's weights are counted too.
    """
    found, generator = ensemble(context, DEEP), context.generator("share")
    shares = []
    for r in range(len(found.test)):
        draws = torch.randn((2, N_IMAGES, 1, found.recipe.latent_dim), generator=generator)
        both = [gradients(found, r, found.recipe, epsilon) for epsilon in draws]
        parts = [variances((both[0][i], both[1][i])) for i in ((0, 1) if with_encoder else (1,))]
        shares.append(1 - sum(within for within, _ in parts) / sum(whole for _, whole in parts))
    ks = np.array([1, 2, 5, 10, 100])
    left = np.array([[share + (1 - share) / k for k in ks] for share in shares])
    return mean_evidence(
        "share of batch noise in the gradient's variance at k = 1",
        shares,
        mean_points(ks, left, "a fresh batch each time"),
        [Curve(float(k), 1 / k, "if the draw were all of it, 1 / k") for k in ks],
        Axes("draws k for an image", "gradient variance / that of k = 1", log_x=True, log_y=True),
    )


def one_sample_ratio(context: Context) -> Evidence:
    """Variance of the encoder's gradient under equation (5) over that under (4), at the same weights and draws."""
    found, generator = ensemble(context, DEEP), context.generator("one sample")
    ratios = []
    for r in range(len(found.test)):
        draws = torch.randn((2, N_IMAGES, 1, found.recipe.latent_dim), generator=generator)
        whole = []
        for recipe in (found.recipe, replace(found.recipe, loss="one_sample")):
            first, second = (gradients(found, r, recipe, epsilon)[0] for epsilon in draws)
            whole.append(variances((first, second))[1])
        ratios.append(whole[1] / whole[0])
    return mean_evidence("encoder's gradient variance, (5) over (4)", ratios)


def equal_compute(context: Context) -> Evidence:
    """NLL after a quarter of the steps with four draws each, less that of one draw and all the steps."""
    four = test_nll(ensemble(context, replace(DEEP, k=4), share=0.25), context.seed)
    return mean_evidence("NLL of k = 4 - NLL of k = 1, nats", four - test_nll(ensemble(context, DEEP), context.seed))


def score_ratio(context: Context) -> Evidence:
    """Variance over draws of the gradient in means and log-variances: score function over reparameterisation."""
    found, generator = ensemble(context, DEEP), context.generator("score")
    ratios = []
    for r in range(len(found.test)):
        ways = [code_gradients(found, r, 50, 64, generator, is_score) for is_score in (True, False)]
        score, path = (float(way.var(1).sum()) for way in ways)
        ratios.append(score / path)
    return mean_evidence("gradient variance, score function / reparameterised", ratios)


def code_gradients(
    found: Ensemble, r: int, n_images: int, n_samples: int, generator: torch.Generator, is_score: bool
) -> Tensor:
    """Gradients (B, S, 2 D) of the loss of equation (4) in the posterior's means and log-variances, a draw each."""
    (encoding, decoding), x = model(found, r), found.test[r, :n_images]
    with torch.no_grad():
        code = torch.cat(encode(found.recipe, encoding, x), 1).repeat_interleave(n_samples, 0)
    mean, log_var = code.requires_grad_().chunk(2, 1)
    z = mean + torch.randn(mean.shape, generator=generator) * (0.5 * log_var).exp()
    z = z.detach() if is_score else z
    nll = nlls(found.recipe, decoding, x.repeat_interleave(n_samples, 0), z.unsqueeze(1))[:, 0]
    if is_score:
        nll = score_function(nll, gaussian_log_density(z, mean, log_var))
    [gradient] = torch.autograd.grad((nll + gaussian_kl(mean, log_var)).sum(), code)
    return gradient.reshape(n_images, n_samples, -1)


claim = partial(Claim, article=5383, question="5383-why")
CLAIMS = (
    claim(
        id="5383-V1",
        statement="A trained encoder's posterior is narrow: its variance is far below the prior's 1.",
        statement_zh="训练好的编码器给出的后验很窄：方差远小于先验的 1。",
        formula=r"\sigma^2(x) \ll 1",
        probe=posterior_variance,
        rule="at most",
        expected=0.2,
        tolerance=0,
        reason="A fifth of the variance is less than half of the width; two latent dimensions, digits of 64 pixels.",
        source="the check after equation (8)",
    ),
    claim(
        id="5383-V1.1",
        statement="ln q(x|z) varies far less over draws of the posterior than over draws of the prior.",
        statement_zh="在后验的采样上，ln q(x|z) 的波动远小于先验采样上的波动。",
        formula=r"\operatorname{sd}_{q(z)} \ln q(x|z) \gg \operatorname{sd}_{p(z|x)} \ln q(x|z)",
        probe=spread_ratio,
        rule="at least",
        expected=5,
        tolerance=0,
        reason="At five times the sd a mean over the prior needs 25 times the draws; MNIST (784 pixels) gives 176.",
        source="the argument after equation (8)",
    ),
    claim(
        id="5383-V1.2",
        statement="One draw of z suffices, as most of the noise in the gradient of all weights is the batch's.",
        statement_zh="采一个 z 就够了，因为全部参数的梯度噪声大部分来自小批量。",
        formula=r"\operatorname{Var}_x \mathbb{E}_z g \ge \tfrac12 \operatorname{Var} g",
        probe=partial(batch_share, with_encoder=True),
        rule="at least",
        expected=0.5,
        tolerance=0,
        reason="Half: more draws could not even halve the variance.",
        source="the argument after equation (8), for encoder and decoder",
    ),
    claim(
        id="5383-V1.2c",
        statement="One draw of z suffices for the decoder: most of the noise in its gradient is the batch's.",
        statement_zh="对解码器而言采一个 z 就够了：其梯度噪声大部分来自小批量。",
        formula=r"\operatorname{Var}_x \mathbb{E}_z g \ge \tfrac12 \operatorname{Var} g",
        probe=partial(batch_share, with_encoder=False),
        rule="at least",
        expected=0.5,
        tolerance=0,
        reason="As V1.2.",
        source="the argument after equation (8), for the decoder alone",
    ),
    claim(
        id="5383-V1.3",
        statement="One draw of the posterior tells ln q(x) better than ten draws of the prior.",
        statement_zh="后验的一个采样比先验的十个采样更能估准 ln q(x)。",
        formula=r"|\ln w_1 - \ln q(x)| < |\ln \tfrac{1}{10} \textstyle\sum_i q(x|z_i) - \ln q(x)|",
        probe=one_against_ten,
        rule="at most",
        expected=0,
        tolerance=0,
        reason="An inequality, the errors in nats.",
        source="equations (5) and (7)",
    ),
    claim(
        id="5383-V3.1",
        statement="Equation (5) costs noise: the encoder's gradient varies more than under (4).",
        statement_zh="式 (5) 的代价是噪声：编码器梯度的方差大于式 (4)。",
        formula=r"\operatorname{Var} g_{(5)} > \operatorname{Var} g_{(4)}",
        probe=one_sample_ratio,
        rule="at least",
        expected=1,
        tolerance=0,
        reason="An inequality; at the same weights, images and draws.",
        source="equations (4) and (5)",
    ),
    claim(
        id="5383-V5",
        statement="At equal compute four draws for an image are no better than one.",
        statement_zh="计算量相同时，每张图采四个 z 并不比采一个好。",
        formula=r"\mathrm{NLL}_{k=4,\,n/4} \ge \mathrm{NLL}_{k=1,\,n}",
        probe=equal_compute,
        rule="at least",
        expected=0,
        tolerance=0,
        reason="An inequality; what is decoded is counted, n steps of one draw against n / 4 of four.",
        source="the argument after equation (8)",
    ),
    claim(
        id="5383-V7",
        statement="Without reparameterisation the gradient of the encoder's outputs varies over ten times as much.",
        statement_zh="不用重参数化，编码器输出的梯度方差大十倍以上。",
        formula=r"\operatorname{Var}[\ln q \nabla \ln p] \gg \operatorname{Var}[\nabla \ln q(x|\mu + \epsilon \sigma)]",
        probe=score_ratio,
        rule="at least",
        expected=10,
        tolerance=0,
        reason="At ten times the variance a step needs ten times the images; no baseline is subtracted.",
        source="z = mu + epsilon sigma",
    ),
)
