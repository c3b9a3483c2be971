"""What no VAE can be built from, refused by the name of the setting."""

import math
from collections.abc import Mapping
from typing import Any

from lightning_modules.vae.networks import CNN_SMALLEST

CNN_NEEDS = f"needs at least {CNN_SMALLEST}x{CNN_SMALLEST}; use --model.network mlp"
CHOICES = {
    "network": ("mlp", "cnn", "linear"),
    "decoder": ("bernoulli", "gaussian"),
    "loss": ("elbo", "iwae", "prior", "autoencoder"),
    "kl": ("closed_form", "one_sample"),
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuses, in one line that says what to do, what does not go together.

    Args:
        settings: Arguments of `VAE` by name.

    Raises:
        ValueError: Names the setting, what was found and what is allowed.
    """
    for is_wrong, message in (*_shapes(settings), *_numbers(settings), *_combinations(settings)):
        if is_wrong:
            raise ValueError(f"model.{message}")


def _shapes(settings: Mapping[str, Any]) -> list[tuple[bool, str]]:
    shape, network = tuple(settings["shape"]), settings["network"]
    if len(shape) != 3 or min(shape) < 1:
        return [(True, f"shape = {shape}: must be channels, height and width; (1, 28, 28) is MNIST's")]
    return [
        (
            network == "cnn" and min(shape[1:]) < CNN_SMALLEST,
            f"network = cnn: image {shape[1]}x{shape[2]} is too small to halve twice, {CNN_NEEDS}",
        )
    ]


def _numbers(settings: Mapping[str, Any]) -> list[tuple[bool, str]]:
    found = [
        (settings[name] not in allowed, f"{name} = {settings[name]}: must be {_listed(allowed)}")
        for name, allowed in CHOICES.items()
    ]
    latent_dim, hidden_dim, n_samples = settings["latent_dim"], settings["hidden_dim"], settings["n_samples"]
    sigma, beta, mean_scale = settings["sigma"], settings["beta"], settings["mean_scale"]
    return [
        *found,
        (latent_dim < 1, f"latent_dim = {latent_dim}: must be at least 1; 2 can be drawn as a map"),
        (hidden_dim < 1, f"hidden_dim = {hidden_dim}: must be at least 1; 256 suits 28x28"),
        (n_samples < 1, f"n_samples = {n_samples}: must be at least 1; 1 suffices for the ELBO, 5 to 50 for iwae"),
        (
            isinstance(sigma, str) and sigma != "optimal",
            f"sigma = {sigma}: must be a number, optimal, or null, which learns it",
        ),
        (
            isinstance(sigma, int | float) and not 0 < sigma < math.inf,
            f"sigma = {sigma}: must be above 0; 0.1 suits pixels in [0, 1], null learns it",
        ),
        (not 0 <= beta < math.inf, f"beta = {beta}: must be at least 0; 1 is the ELBO"),
        (
            mean_scale is not None and not 0 < mean_scale < math.inf,
            f"mean_scale = {mean_scale}: must be above 0; 0.6 is usual, null leaves the means as they are",
        ),
    ]


def _combinations(settings: Mapping[str, Any]) -> list[tuple[bool, str]]:
    loss, sigma, beta = settings["loss"], settings["sigma"], settings["beta"]
    is_prior = loss == "prior"
    return [
        (
            sigma is not None and settings["decoder"] == "bernoulli",
            f"sigma = {sigma}: a bernoulli decoder has none; leave it out or use --model.decoder gaussian",
        ),
        (
            sigma == "optimal" and loss not in ("elbo", "autoencoder"),
            f"sigma = optimal: is not the optimum of the loss {loss}; use null, which learns it",
        ),
        (
            beta != 1 and loss != "elbo",
            f"beta = {beta}: weighs the KL of the loss elbo; {loss} has none, leave it at 1",
        ),
        (
            settings["n_samples"] > 1 and loss == "autoencoder",
            f"n_samples = {settings['n_samples']}: the loss autoencoder draws nothing; leave it at 1",
        ),
        (
            settings["mean_scale"] is not None and is_prior,
            "mean_scale: the loss prior has no encoder; leave it at null",
        ),
        (
            settings["conditional"] and is_prior,
            "conditional: the loss prior shares its draws among images of all labels; use --model.loss iwae",
        ),
        (
            settings["conditional"] and not settings["n_classes"],
            "conditional: needs the number of classes; give data with labels, or in Python n_classes",
        ),
    ]


def _listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
