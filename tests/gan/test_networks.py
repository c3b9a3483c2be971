"""Generators and critics: shapes, ranges, classes, and what they refuse."""

from typing import get_args

import pytest
import torch
from torch import nn

from lightning_modules.gan.average import Average
from lightning_modules.gan.networks import Critic, Generator, NetworkName, doublings

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 24, 32)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("network", get_args(NetworkName))
def test_generators_make_samples_that_critics_score(network: NetworkName, shape: tuple[int, int, int]) -> None:
    samples = Generator(network, shape, 5, 4)(torch.randn(3, 5))
    assert samples.shape == (3, *shape)
    assert samples.abs().max() <= 1
    assert Critic(network, shape, 4)(samples).shape == (3,)


def test_a_dcgan_of_32_pixels_has_the_usual_sizes() -> None:
    convolutions = [layer for layer in Generator("dcgan", (3, 32, 32), 128, 32).layers if "Conv" in str(type(layer))]
    assert [layer.out_channels for layer in convolutions] == [64, 32, 3]
    assert Critic("dcgan", (3, 32, 32), 32).head.in_features == 128 * 4 * 4


@pytest.mark.parametrize(("height", "width"), [(7, 7), (9, 12), (1, 1), (36, 36), (8, 32)])
def test_sizes_that_no_doubling_reaches_are_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"image {height}x{width} is not 4 to 8 pixels.*--model.network mlp"):
        doublings((1, height, width))


def test_a_projection_critic_of_one_class_is_that_critic() -> None:
    torch.manual_seed(0)
    critic, x = Critic("resnet", (1, 8, 8), 4, n_classes=3).eval(), torch.randn(5, 1, 8, 8)
    for label in range(3):
        alone = critic.of_class(label)(x).squeeze(1)
        torch.testing.assert_close(alone, critic(x, torch.full((5,), label)))


def test_classes_change_samples_and_scores() -> None:
    torch.manual_seed(0)
    z, first, second = torch.randn(2, 4), torch.tensor([0, 0]), torch.tensor([1, 2])
    generator, critic = Generator("mlp", (1, 4, 4), 4, 8, n_classes=3), Critic("mlp", (1, 4, 4), 8, n_classes=3)
    assert not torch.equal(generator(z, first), generator(z, second))
    x = generator(z, first)
    assert not torch.equal(critic(x, first), critic(x, second))


def test_the_average_follows_the_weights_with_a_ramped_decay() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    average = Average(layer, 0.99)
    nn.init.ones_(layer.weight)
    kept = 1.0
    for t in range(5):
        average.update(layer)
        kept *= min(0.99, (1 + t) / (10 + t))
        torch.testing.assert_close(average(torch.ones(1, 1)).item(), 1 - kept)


def test_the_average_of_a_constant_is_the_constant_and_buffers_are_copied() -> None:
    norm = nn.BatchNorm1d(3)
    average = Average(norm, 0.9)
    norm(torch.randn(8, 3))
    average.update(norm)
    assert torch.equal(average.module.get_buffer("running_mean"), norm.running_mean)  # type: ignore[arg-type]
    assert not average.train().module.training


def test_an_average_goes_on_at_the_update_it_was_saved_at() -> None:
    layer = nn.Linear(2, 2)
    average, other = Average(layer, 0.99), Average(nn.Linear(2, 2), 0.99)
    for _ in range(3):
        average.update(layer)
    other.load_state_dict(average.state_dict())
    assert other.t == 3
