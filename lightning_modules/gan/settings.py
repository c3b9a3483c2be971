"""What a GAN refuses to be built from, by the name of the setting."""

from typing import get_args

from lightning_modules.gan.losses import LossName
from lightning_modules.gan.networks import NetworkName
from lightning_modules.lipschitz import Constraint, constraint


def check_settings(
    *, network: str, latent_dim: int, width: int, loss: str, constraint: str, n_critic: int, ema_decay: float
) -> None:
    """ValueError where a setting is out of its range, or two do not go together."""
    for is_wrong, message in (
        (network not in get_args(NetworkName), f"network = {network}: must be mlp, dcgan or resnet"),
        (latent_dim < 1, f"latent_dim = {latent_dim}: must be at least 1; 64 is usual"),
        (width < 1, f"width = {width}: must be at least 1; 32 suits 32x32 images"),
        (loss not in get_args(LossName), f"loss = {loss}: must be one of {', '.join(get_args(LossName))}"),
        (
            constraint.startswith("gan_qp") and loss != "wasserstein",
            f"loss = {loss}: constraint {constraint} adds its term to the Wasserstein loss; use wasserstein",
        ),
        (n_critic < 1, f"n_critic = {n_critic}: must be at least 1; 5 is usual for wasserstein, 1 for hinge"),
        (not 0 <= ema_decay < 1, f"ema_decay = {ema_decay}: must lie in [0, 1); 0.999 is usual, 0 = none"),
    ):
        if is_wrong:
            raise ValueError(f"model.{message}")


def check_data(shape: tuple[int, int, int], n_classes: int | None) -> None:
    """ValueError where no samples can be made.

    Args:
        shape: (C, H, W).
        n_classes: Of a conditional GAN; None = it is told none.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"model.shape = {tuple(shape)}: must be channels, height and width; (1, 28, 28) is MNIST's")
    if n_classes is not None and n_classes < 2:
        raise ValueError(f"model.conditional = true: data has {n_classes} class; give data with more, or leave it out")


def chosen_constraint(
    name: str, weight: float | None, clip: float | None, n_power_iterations: int | None, target: float | None
) -> Constraint:
    """The critic's constraint; ValueError names the model's setting."""
    try:
        return constraint(name, weight=weight, clip=clip, n_power_iterations=n_power_iterations, target=target)
    except ValueError as error:
        raise ValueError(f"model.{error}") from error
