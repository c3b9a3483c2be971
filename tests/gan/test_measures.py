"""What is said of samples: their variety, the modes they reach, and the critic's bounds."""

import math

import pytest
import torch

from lightning_modules.data.gaussians import centres
from lightning_modules.gan.measures import diversity, lipschitz_bounds, mode_coverage
from lightning_modules.gan.networks import Critic


def test_normal_points_reach_every_mode_and_are_near_as_often_as_theory_says() -> None:
    modes = centres("grid", 25)
    generator = torch.Generator().manual_seed(0)
    points = modes.repeat(400, 1) + 0.02 * torch.randn(10_000, 2, generator=generator)
    found = mode_coverage(points, modes, 0.02)
    assert found.covered == 25
    assert found.high_quality_fraction == pytest.approx(1 - math.exp(-4.5), abs=0.004)  # 3.8 standard errors


def test_points_on_one_mode_cover_one() -> None:
    modes = centres("ring", 8)
    assert mode_coverage(modes[3].repeat(50, 1), modes, 0.02) == (1, 1.0)


def test_diversity_is_the_ratio_of_mean_squared_distances() -> None:
    real, fake = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0))
    fake = 0.2 * fake
    ratio = torch.pdist(fake).square().mean() / torch.pdist(real).square().mean()
    assert diversity(real, fake) == pytest.approx(float(ratio), rel=1e-5)


def test_the_bounds_of_a_conditional_critic_are_the_greatest_of_its_classes() -> None:
    torch.manual_seed(0)
    critic = Critic("mlp", (1, 4, 4), 8, n_classes=3).eval()
    assert critic.classes is not None
    with torch.no_grad():
        critic.classes.weight[2] *= 50
    x, labels = torch.randn(12, 1, 4, 4), torch.arange(12) % 3
    upper, lower = lipschitz_bounds(critic, x, x.flip(0), labels)
    without = lipschitz_bounds(critic, x[labels < 2], x[labels < 2].flip(0), labels[labels < 2])
    assert lower <= upper
    assert upper > 10 * without[0]
