"""Small VAEs on scikit-learn's digits, many trained side by side: one for each split of the data.

Legend: R models; B images (1, 8, 8) of a batch; k draws of z for an image; D latent dimensions. All is in nats. Each
model has its own first weights, training and test images, batches and draws, so that R results are independent but for
the one pool of 1,797 images.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from experiments.claims.context import Context
from lightning_modules.data.sampling import draw
from lightning_modules.vae.losses import (
    bernoulli_nlls,
    gaussian_kl,
    gaussian_nlls,
    log_mean_exp,
    one_sample_kl,
)
from lightning_modules.vae.networks import mlp_decoder, mlp_encoder

SHAPE = (1, 8, 8)
N_TEST = 360
Loss = Literal["closed_form", "one_sample", "iwae", "prior", "autoencoder"]
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """How an ensemble is trained.

    Args:
        loss: equation (4), (5), (11) or (7) of kexue.fm/archives/5383, or reconstruction alone.
        k: draws for an image; of the loss prior for a batch.
        sigma: of a Gaussian decoder's pixels; None = Bernoulli pixels, the data rounded to 0 and 1.
        latent_dim: D.
        batch: B, drawn with replacement.
        n_steps: of Adam.
        lr: learning rate at first; it falls linearly to 0.
    """

    loss: Loss = "closed_form"
    k: int = 1
    sigma: float | None = None
    latent_dim: int = 8
    batch: int = 100
    n_steps: int = 800
    lr: float = 5e-3

    @property
    def networks(self) -> tuple[nn.Sequential, nn.Sequential]:
        """A fresh encoder and decoder."""
        return mlp_encoder(SHAPE, self.latent_dim, 100), mlp_decoder(SHAPE, self.latent_dim, 100)


@dataclass(frozen=True)
class Ensemble:
    """R trained models and their data.

    Args:
        recipe: of the training.
        encoder: weights (R, ...) by name.
        decoder: weights (R, ...) by name.
        train: (R, 1437, 1, 8, 8).
        test: (R, 360, 1, 8, 8).
    """

    recipe: Recipe
    encoder: Weights
    decoder: Weights
    train: Tensor
    test: Tensor


class Draws(NamedTuple):
    """Densities at draws of the posterior."""

    log_p: Tensor  # ln p(x|z), (B, k)
    log_weights: Tensor  # ln p(x|z) p(z) / q(z|x), (B, k)


@functools.lru_cache(maxsize=1)
def digits() -> Tensor:
    """Pixels in [0, 1], float32 (1797, 1, 8, 8)."""
    from sklearn.datasets import load_digits  # slow to import

    return torch.from_numpy(load_digits().images).float().unsqueeze(1) / 16


def ensemble(context: Context, recipe: Recipe, share: float = 1.0) -> Ensemble:
    """A trained ensemble, its size by the effort.

    Args:
        context: seed and effort.
        recipe: its `n_steps` are replaced.
        share: of the effort's steps that are taken.
    """
    steps = round(share * context.design("steps", 800, 4000))
    return trained(context.seed, context.design("models", 6, 16), replace(recipe, n_steps=steps))


def splits(seed: int, n: int) -> Tensor:
    """Rows (n, 1797) of the digits in an order for each model: training images first, then 360 of test."""
    return torch.rand((n, len(digits())), generator=draw(seed, "vae/split")).argsort(1)


@functools.lru_cache(maxsize=64)
def trained(seed: int, n: int, recipe: Recipe) -> Ensemble:
    """An ensemble of n models; a function of its arguments, kept because several claims measure the same one."""
    x = digits()
    x = (x if recipe.sigma else (x >= 0.5).float())[splits(seed, n)]
    train, test = x[:, :-N_TEST], x[:, -N_TEST:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw(seed, "vae/weights").initial_seed())
        parts = [recipe.networks for _ in range(n)]
    weights = [stack_module_state(list(models))[0] for models in zip(*parts, strict=True)]
    moved = [weight for part in weights for weight in part.values()]
    optimizer = torch.optim.Adam(moved, lr=recipe.lr, fused=True)
    generator, each = draw(seed, "vae/steps"), torch.arange(n)[:, None]
    _skeleton(recipe)  # made outside of vmap, which forbids the draw of first weights
    step_losses = vmap(functools.partial(losses, recipe))
    for step in range(recipe.n_steps):
        optimizer.param_groups[0]["lr"] = recipe.lr * (1 - step / recipe.n_steps)
        rows = torch.randint(train.shape[1], (n, recipe.batch), generator=generator)
        epsilon = torch.randn((n, *epsilon_shape(recipe)), generator=generator)
        step_losses(*weights, train[each, rows], epsilon).mean(1).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    kept = [{name: weight.detach() for name, weight in part.items()} for part in weights]
    return Ensemble(recipe, kept[0], kept[1], train, test)


def epsilon_shape(recipe: Recipe) -> tuple[int, ...]:
    """Shape of one model's draws: (B, k, D), or (k, D) that the batch shares."""
    own = () if recipe.loss == "prior" else (recipe.batch,)
    return (*own, recipe.k, recipe.latent_dim)


def losses(recipe: Recipe, encoder: Weights, decoder: Weights, x: Tensor, epsilon: Tensor) -> Tensor:
    """The loss (B,) of one model.

    Args:
        recipe: which loss.
        encoder: weights of one model.
        decoder: the same.
        x: (B, 1, 8, 8).
        epsilon: standard normal, of `epsilon_shape`.
    """
    if recipe.loss == "prior":
        return -log_mean_exp(-nlls(recipe, decoder, x, epsilon.unsqueeze(0)))
    mean, log_var = encode(recipe, encoder, x)
    if recipe.loss == "autoencoder":
        return nlls(recipe, decoder, x, mean.unsqueeze(1))[:, 0]
    z = mean.unsqueeze(1) + epsilon * (0.5 * log_var).exp().unsqueeze(1)  # (B, k, D)
    nll = nlls(recipe, decoder, x, z)
    if recipe.loss == "closed_form":
        return nll.mean(1) + gaussian_kl(mean, log_var)
    total = nll + log_ratios(z, mean, log_var)
    return -log_mean_exp(-total) if recipe.loss == "iwae" else total.mean(1)


def log_ratios(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Ln q(z|x) - ln p(z) (B, k) of the draws (B, k, D)."""
    k = z.shape[1]
    each = [part.repeat_interleave(k, 0) for part in (mean, log_var)]
    return one_sample_kl(z.flatten(0, 1), *each).reshape(-1, k)


def encode(recipe: Recipe, encoder: Weights, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance (B, D) of one model's posterior."""
    code = functional_call(_skeleton(recipe)[0], encoder, (x,))
    mean, log_var = code.chunk(2, 1)
    return mean, log_var


def nlls(recipe: Recipe, decoder: Weights, x: Tensor, z: Tensor) -> Tensor:
    """-ln p(x|z) (B, k) of x (B, 1, 8, 8) under one model, z (B, k, D) or (1, k, D)."""
    pixels = functional_call(_skeleton(recipe)[1], decoder, (z.flatten(0, 1),)).unflatten(0, z.shape[:2])
    if recipe.sigma is None:
        return bernoulli_nlls(pixels, x)
    return gaussian_nlls(pixels, x, torch.tensor(recipe.sigma).log())


@functools.lru_cache(maxsize=64)
def _skeleton(recipe: Recipe) -> tuple[nn.Sequential, nn.Sequential]:
    """The networks without weights of their own."""
    with torch.device("meta"):
        return recipe.networks


def model(ensemble: Ensemble, r: int) -> tuple[Weights, Weights]:
    """Weights of the encoder and the decoder of model r."""
    return tuple({name: weight[r] for name, weight in part.items()} for part in (ensemble.encoder, ensemble.decoder))  # type: ignore[return-value]


@torch.no_grad()
def log_weights(ensemble: Ensemble, r: int, n_images: int, n_samples: int, generator: torch.Generator) -> Draws:
    """Densities at draws of the posterior of the first test images of model r."""
    recipe, (encoding, decoding), x = ensemble.recipe, model(ensemble, r), ensemble.test[r, :n_images]
    mean, log_var = encode(recipe, encoding, x)
    z = mean.unsqueeze(1) + torch.randn((len(x), n_samples, recipe.latent_dim), generator=generator) * (
        0.5 * log_var
    ).exp().unsqueeze(1)
    log_p = -nlls(recipe, decoding, x, z)
    return Draws(log_p, log_p - log_ratios(z, mean, log_var))


def test_nll(ensemble: Ensemble, seed: int) -> np.ndarray:
    """-ln p(x) (R,), the mean over the test images, from 300 weighted draws of each image's posterior."""
    generator = draw(seed, "vae/nll")
    drawn = [log_weights(ensemble, r, N_TEST, 300, generator) for r in range(len(ensemble.test))]
    return as_array(-log_mean_exp(one.log_weights).mean() for one in drawn)


@torch.no_grad()
def log_densities(ensemble: Ensemble, r: int, z: Tensor) -> Tensor:
    """Ln p(x|z) (360, k) of the test images of model r under the draws z (k, D), the same for all."""
    return -nlls(ensemble.recipe, model(ensemble, r)[1], ensemble.test[r], z.unsqueeze(0))


def prior_nll(ensemble: Ensemble, seed: int) -> np.ndarray:
    """-ln p(x) (R,), the mean over the test images, from 10,000 draws of the prior: for models without an encoder."""
    z = torch.randn((10_000, ensemble.recipe.latent_dim), generator=draw(seed, "vae/prior"))
    models = range(len(ensemble.test))
    return as_array(-log_mean_exp(log_densities(ensemble, r, z)).mean() for r in models)


@torch.no_grad()
def posterior_variances(ensemble: Ensemble) -> Tensor:
    """Variances (R, 360, D) of the posteriors of the test images."""
    found = [encode(ensemble.recipe, model(ensemble, r)[0], x)[1].exp() for r, x in enumerate(ensemble.test)]
    return torch.stack(found)


def as_array(values: Iterable[Tensor]) -> np.ndarray:
    """0-d tensors as one array of float64."""
    return torch.stack(list(values)).double().numpy()
