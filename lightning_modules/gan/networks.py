"""Generators and critics of three families, as stacks of plain layers: `print(model)` is their whole description.

Shapes: B samples of C channels, H x W pixels; P = C H W; Z latent dimensions; K classes; F features. A generator maps
(B, Z) to (B, C, H, W) in [-1, 1], a critic (B, C, H, W) to (B,). Critics have no BatchNorm: it would tie the samples
of a batch together, and a gradient penalty is defined for each sample by itself (Gulrajani et al. 2017, section 4).
"""

import itertools
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.lipschitz.audit import Residual

NetworkName = Literal["mlp", "dcgan", "resnet"]
Shape = tuple[int, int, int]
MLP_DEPTH = 3  # hidden layers
SLOPE = 0.2  # of the critics' leaky ReLU, as in Radford et al. 2016
SMALLEST, LARGEST_START = 4, 8  # pixels a side where the convolutions of a generator may start


class Generator(nn.Module):
    """Samples from noise, and from a class where there are several to choose from.

    Args:
        network: The family.
        shape: (C, H, W).
        latent_dim: Z.
        width: Units of a hidden layer of the mlp; channels of the largest maps of the dcgan, of all of the resnet.
        n_classes: K of a conditional generator, whose input is the noise beside the class's one-hot vector; 0 = none.
    """

    def __init__(self, network: NetworkName, shape: Shape, latent_dim: int, width: int, n_classes: int = 0) -> None:
        super().__init__()
        self.n_classes = n_classes
        make = {"mlp": mlp_generator, "dcgan": dcgan_generator, "resnet": resnet_generator}[network]
        self.layers = make(shape, latent_dim + n_classes, width)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, Z), and labels int64 (B,) of a conditional generator, to (B, C, H, W)."""
        if labels is not None:
            z = torch.cat([z, F.one_hot(labels, self.n_classes).to(z)], 1)
        samples: Tensor = self.layers(z)
        return samples


class Critic(nn.Module):
    """D(x) = w . phi(x) + b; with classes D(x, y) = (w + e_y) . phi(x) + b, the projection critic.

    Args:
        network: The family.
        shape: (C, H, W).
        width: As the generator's.
        n_classes: K of a conditional critic; 0 = none.

    Source: Miyato & Koyama 2018, equation (4) without the softmax's normalisation.
    """

    def __init__(self, network: NetworkName, shape: Shape, width: int, n_classes: int = 0) -> None:
        super().__init__()
        make = {"mlp": mlp_features, "dcgan": dcgan_features, "resnet": resnet_features}[network]
        self.features, n_features = make(shape, width)
        self.head = nn.Linear(n_features, 1)
        self.classes = nn.Embedding(n_classes, n_features) if n_classes else None

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, C, H, W), and labels int64 (B,) of a conditional critic, to (B,)."""
        phi = self.features(x)  # (B, F)
        score: Tensor = self.head(phi).squeeze(1)
        if self.classes is not None:
            score = score + (self.classes(labels) * phi).sum(1)
        return score

    def of_class(self, label: int | None = None) -> nn.Sequential:
        """The same function of x alone, (B, C, H, W) to (B, 1): of one class where there are classes."""
        weight = self.head.weight if self.classes is None else self.head.weight + self.classes.weight[label]
        head = nn.Linear(weight.shape[1], 1, device="meta")  # draws no initial weights
        head.weight, head.bias = nn.Parameter(weight.detach()), nn.Parameter(self.head.bias.detach())
        return nn.Sequential(*self.features, head)


def mlp_generator(shape: Shape, n_in: int, width: int) -> nn.Sequential:
    """n_in - width (ReLU) three times - P (tanh)."""
    return nn.Sequential(
        *_dense(n_in, width, nn.ReLU()), nn.Linear(width, math.prod(shape)), nn.Tanh(), nn.Unflatten(1, shape)
    )


def mlp_features(shape: Shape, width: int) -> tuple[nn.Sequential, int]:
    """P - width (leaky ReLU) three times, and F = width."""
    return nn.Sequential(nn.Flatten(), *_dense(math.prod(shape), width, nn.LeakyReLU(SLOPE))), width


def _dense(n_in: int, width: int, activation: nn.Module) -> list[nn.Module]:
    sizes = [n_in] + [width] * (MLP_DEPTH - 1)
    return [layer for size in sizes for layer in (nn.Linear(size, width), activation)]


def dcgan_generator(shape: Shape, n_in: int, width: int) -> nn.Sequential:
    """n_in - maps of the starting size - transposed 4x4 convolutions of stride 2, each with half the channels - tanh.

    BatchNorm and ReLU follow every layer but the last. Source: Radford et al. 2016, section 3, with kernels of 4.
    """
    n, (height, width_pixels) = doublings(shape)
    channels = [width * 2**i for i in reversed(range(n))]  # 128, 64, 32 for 32x32 and width 32
    layers: list[nn.Module] = [
        nn.Linear(n_in, channels[0] * height * width_pixels, bias=False),
        nn.Unflatten(1, (channels[0], height, width_pixels)),
    ]
    for before, after in zip(channels, [*channels[1:], shape[0]], strict=True):
        layers += [nn.BatchNorm2d(before), nn.ReLU()]
        layers.append(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=after == shape[0]))
    return nn.Sequential(*layers, nn.Tanh())


def dcgan_features(shape: Shape, width: int) -> tuple[nn.Sequential, int]:
    """4x4 convolutions of stride 2 with leaky ReLU, each with twice the channels, and F."""
    n, start = doublings(shape)
    channels = [shape[0], *(width * 2**i for i in range(n))]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.Flatten()), channels[-1] * math.prod(start)


def resnet_generator(shape: Shape, n_in: int, width: int) -> nn.Sequential:
    """n_in - maps of the starting size - residual blocks that double it - C maps (tanh).

    Source: Gulrajani et al. 2017, appendix F (the ResNet of CIFAR-10).
    """
    n, start = doublings(shape)
    blocks = [_up_block(width) for _ in range(n)]
    return nn.Sequential(
        nn.Linear(n_in, width * math.prod(start)),
        nn.Unflatten(1, (width, *start)),
        *blocks,
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, shape[0], 3, padding=1),
        nn.Tanh(),
    )


def resnet_features(shape: Shape, width: int) -> tuple[nn.Sequential, int]:
    """Residual blocks that halve the image, one that keeps it, ReLU, the mean over pixels, and F = width.

    The mean stands where Miyato et al. 2018 have the sum; the head's weights make up for the factor.
    """
    n, start = doublings(shape)
    blocks = [_down_block(shape[0] if i == 0 else width, width, is_first=i == 0) for i in range(n)]
    last = Residual(nn.Sequential(nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width)))
    return nn.Sequential(*blocks, last, nn.ReLU(), nn.AvgPool2d(start), nn.Flatten()), width


def _up_block(width: int) -> Residual:
    branch = nn.Sequential(
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        _conv(width, width),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        _conv(width, width),
    )
    return Residual(branch, nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 1)))


def _down_block(n_in: int, width: int, *, is_first: bool) -> Residual:
    """The first block's input is the image, which no ReLU may cut."""
    before: list[nn.Module] = [] if is_first else [nn.ReLU()]
    branch = nn.Sequential(*before, _conv(n_in, width), nn.ReLU(), _conv(width, width), nn.AvgPool2d(2))
    return Residual(branch, nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(n_in, width, 1)))


def _conv(n_in: int, n_out: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, padding=1)


def doublings(shape: Shape) -> tuple[int, tuple[int, int]]:
    """How often the starting size doubles to the image's, and that size.

    Raises ValueError for an image that is not 4 to 8 pixels a side, doubled at least once.

    >>> doublings((1, 8, 8)), doublings((1, 28, 28)), doublings((3, 32, 32))
    ((1, (4, 4)), (2, (7, 7)), (3, (4, 4)))
    """
    _, height, width = shape
    n = 0
    while height % 2 == width % 2 == 0 and min(height, width) >= 2 * SMALLEST:
        height, width, n = height // 2, width // 2, n + 1
    if n == 0 or max(height, width) > LARGEST_START:
        raise ValueError(
            f"model.network: image {shape[1]}x{shape[2]} is not 4 to 8 pixels a side doubled once or more, as 8, 28 and"
            " 32 are; use --model.network mlp, or another --data.image_size where the data has it"
        )
    return n, (height, width)
