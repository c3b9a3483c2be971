"""Attacks: how far they go, that stronger ones are stronger, and what brute force says."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.lipschitz.attacks import Losses, few_pixels, fgsm, pgd, with_noise

SPAN = (0.0, 1.0)


def problem(seed: int = 0, channels: int = 1, side: int = 3) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(channels * side**2, 8), nn.Tanh(), nn.Linear(8, 3))
    return network.requires_grad_(False), torch.rand(12, channels, side, side), torch.randint(3, (12,))


def losses_of(network: nn.Module) -> Losses:
    return lambda x, y: F.cross_entropy(network(x), y, reduction="none")


@given(seed=st.integers(0, 99), radius=st.floats(0, 0.5))
@settings(max_examples=15, deadline=None)
def test_stronger_attacks_are_never_weaker_and_stay_within_their_radius(seed: int, radius: float) -> None:
    network, x, y = problem(seed)
    losses = losses_of(network)
    steepest = fgsm(losses, x, y, radius, SPAN)
    worst = pgd(losses, x, y, radius, SPAN)
    assert (losses(worst, y) >= losses(x, y)).all()
    assert (losses(worst, y) >= losses(steepest, y) - 1e-6).all()
    for changed in (steepest, worst):
        assert float((changed - x).abs().max()) <= radius + 1e-6
        assert changed.min() >= 0
        assert changed.max() <= 1


def test_fgsm_is_the_worst_case_of_a_linear_loss() -> None:
    x, w = torch.full((2, 1, 2, 2), 0.5), torch.tensor([[1.0, -2.0], [3.0, 0.5]])

    def losses(x: Tensor, y: Tensor) -> Tensor:
        return (x * w).sum((1, 2, 3))

    raised = losses(fgsm(losses, x, x, 0.25, SPAN), x) - losses(x, x)
    torch.testing.assert_close(raised, torch.full((2,), 0.25 * 6.5))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_pixel_is_the_best_of_all_pixels_at_the_ends(channels: int) -> None:
    network, x, y = problem(channels=channels)
    losses = losses_of(network)
    found = few_pixels(losses, x, y, 1, SPAN)[0]
    best = losses(x, y)
    for pixel, values in itertools.product(range(9), itertools.product(SPAN, repeat=channels)):
        tried = x.clone()
        tried[:, :, pixel // 3, pixel % 3] = torch.tensor(values)
        best = torch.maximum(best, losses(tried, y))
    reached = losses(found, y)
    assert (reached <= best + 1e-6).all()
    assert float((best - reached).max()) < (1e-6 if channels == 1 else 0.1)  # 2 of the 8 corners are tried in colour


def test_at_most_so_many_pixels_change_and_each_round_is_worse() -> None:
    network, x, y = problem(channels=3, side=4)
    losses = losses_of(network)
    rounds = few_pixels(losses, x, y, 3, SPAN, candidates=5)
    for n, (before, after) in enumerate(itertools.pairwise([x, *rounds]), 1):
        assert ((after != x).any(1).flatten(1).sum(1) <= n).all()
        assert (losses(after, y) >= losses(before, y)).all()


def test_noise_has_its_deviation_and_is_cut_off_at_the_ends() -> None:
    x, noise = torch.tensor([[[[0.5, 0.9]]]]), torch.tensor([[[[1.0, 5.0]]]])
    torch.testing.assert_close(with_noise(x, noise, 0.1, SPAN), torch.tensor([[[[0.6, 1.0]]]]))
