"""Encoders and decoders: plain stacks of layers, so that `print(model)` is their whole description.

Shapes: B images of C channels, H x W pixels; P = C H W; D latent dimensions. An encoder maps (B, C, H, W) to (B, 2 D),
the means and log-variances side by side (one product instead of two); a decoder maps (B, D) to (B, C, H, W), the logits
or the means of the pixels. The sizes are those of the programs that accompany kexue.fm/archives/5383.
"""

import math

import torch
from torch import Tensor, nn

CNN_FILTERS = (32, 64)
CNN_DENSE = 16
CNN_SMALLEST = 8  # two halvings leave 2 x 2


def encoder(network: str, shape: tuple[int, int, int], latent_dim: int, hidden_dim: int) -> nn.Sequential:
    """The encoder of that name: mlp, cnn or linear."""
    if network == "mlp":
        return mlp_encoder(shape, latent_dim, hidden_dim)
    return (cnn_encoder if network == "cnn" else linear_encoder)(shape, latent_dim)


def decoder(network: str, shape: tuple[int, int, int], latent_dim: int, hidden_dim: int) -> nn.Sequential:
    """The decoder of that name: mlp, cnn or linear."""
    if network == "mlp":
        return mlp_decoder(shape, latent_dim, hidden_dim)
    return (cnn_decoder if network == "cnn" else linear_decoder)(shape, latent_dim)


def mlp_encoder(shape: tuple[int, int, int], latent_dim: int, hidden_dim: int) -> nn.Sequential:
    """P - hidden_dim (ReLU) - 2 D."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(shape), hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 2 * latent_dim)
    )


def mlp_decoder(shape: tuple[int, int, int], latent_dim: int, hidden_dim: int) -> nn.Sequential:
    """D - hidden_dim (ReLU) - P."""
    return nn.Sequential(
        nn.Linear(latent_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, math.prod(shape)), nn.Unflatten(1, shape)
    )


def cnn_encoder(shape: tuple[int, int, int], latent_dim: int) -> nn.Sequential:
    """Two 3x3 convolutions of stride 2 (32 and 64 filters, ReLU) - 16 (ReLU) - 2 D."""
    first, second = CNN_FILTERS
    _, quarter = halvings(shape)
    return nn.Sequential(
        nn.Conv2d(shape[0], first, 3, stride=2, padding=1),  # (B, 32, ceil(H / 2), ceil(W / 2))
        nn.ReLU(),
        nn.Conv2d(first, second, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * math.prod(quarter), CNN_DENSE),
        nn.ReLU(),
        nn.Linear(CNN_DENSE, 2 * latent_dim),
    )


def cnn_decoder(shape: tuple[int, int, int], latent_dim: int) -> nn.Sequential:
    """The encoder's mirror: D - 64 maps of a quarter of the size - two transposed convolutions - C maps.

    A stride of 2 halves to ceil(H / 2), which two sizes share; `output_padding` remembers which one it was, so every
    size from 8x8 comes back exactly.
    """
    first, second = CNN_FILTERS
    half, quarter = halvings(shape)
    return nn.Sequential(
        nn.Linear(latent_dim, second * math.prod(quarter)),
        nn.ReLU(),
        nn.Unflatten(1, (second, *quarter)),
        nn.ConvTranspose2d(second, second, 3, stride=2, padding=1, output_padding=_is_even(half)),
        nn.ReLU(),
        nn.ConvTranspose2d(second, first, 3, stride=2, padding=1, output_padding=_is_even(shape[1:])),
        nn.ReLU(),
        nn.Conv2d(first, shape[0], 3, padding=1),
    )


class ScaledMeans(nn.Module):
    """The means of a code (B, 2 D) brought to a given spread over the batch, its log-variances as they are.

    Args:
        latent_dim: D.
        scale: Standard deviation of each mean over the batch; where they centre is learnt.

    Source: Zhu et al. 2020 ("BN-VAE").
    """

    def __init__(self, latent_dim: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.norm = nn.BatchNorm1d(latent_dim, affine=False)
        self.shift = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, code: Tensor) -> Tensor:
        """The code with its means normalised, scaled and shifted."""
        mean, log_var = code.chunk(2, 1)
        return torch.cat([self.norm(mean) * self.scale + self.shift, log_var], 1)


class SameVariances(nn.Module):
    """Log-variances beside the means, (B, D) to (B, 2 D): parameters, the same for every image.

    Args:
        latent_dim: D.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.log_var = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, mean: Tensor) -> Tensor:
        """The means, and the log-variances after them."""
        return torch.cat([mean, self.log_var.expand_as(mean)], 1)


def linear_encoder(shape: tuple[int, int, int], latent_dim: int) -> nn.Sequential:
    """P - D means - the same D variances for every image: the exact posterior of a linear decoder has no other form.

    With `linear_decoder` and Gaussian pixels it is probabilistic PCA (Tipping & Bishop 1999): at the optimum the ELBO
    is the likelihood itself (Lucas et al. 2019).
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), latent_dim), SameVariances(latent_dim))


def linear_decoder(shape: tuple[int, int, int], latent_dim: int) -> nn.Sequential:
    """D - P."""
    return nn.Sequential(nn.Linear(latent_dim, math.prod(shape)), nn.Unflatten(1, shape))


def halvings(shape: tuple[int, int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width after one and after two halvings, rounded up.

    >>> halvings((1, 28, 30))
    ((14, 15), (7, 8))
    """
    _, height, width = shape
    half = (height + 1) // 2, (width + 1) // 2
    return half, ((half[0] + 1) // 2, (half[1] + 1) // 2)


def _is_even(size: tuple[int, int]) -> tuple[int, int]:
    return 1 - size[0] % 2, 1 - size[1] % 2
