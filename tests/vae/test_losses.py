"""The loss terms against torch.distributions and against what theory says of them."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from lightning_modules.vae.losses import (
    active_units,
    bernoulli_nll,
    gaussian_kl,
    gaussian_nll,
    latent_moments,
    one_sample_kl,
)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Equality in float64, where sums of tens of terms below 1e4 agree to about 1e-11."""
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@st.composite
def tensors(draw: st.DrawFn, *shape: int, low: float = -4.0, high: float = 4.0) -> Tensor:
    """float64 of the given shape, entries in [low, high]."""
    n = math.prod(shape)
    return torch.tensor(draw(st.lists(st.floats(low, high), min_size=n, max_size=n)), dtype=torch.float64).view(shape)


@given(tensors(3, 2), tensors(3, 2))
def test_kl_matches_torch_distributions(mean: Tensor, log_var: Tensor) -> None:
    theirs = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum(1)
    assert_same(gaussian_kl(mean, log_var), theirs)


@given(tensors(3, 2, low=-30), tensors(3, 2, low=-30))
def test_kl_is_never_negative(mean: Tensor, log_var: Tensor) -> None:
    assert (gaussian_kl(mean, log_var) >= -1e-15).all()


def test_kl_of_a_unit_gaussian_is_zero() -> None:
    assert gaussian_kl(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0


@given(tensors(3, 2), tensors(3, 2), tensors(3, 2))
def test_one_sample_kl_is_the_difference_of_log_densities(z: Tensor, mean: Tensor, log_var: Tensor) -> None:
    difference = Normal(mean, (0.5 * log_var).exp()).log_prob(z) - Normal(0.0, 1.0).log_prob(z)  # type: ignore[no-untyped-call]
    assert_same(one_sample_kl(z, mean, log_var), difference.sum(1))


def test_one_sample_kl_averages_to_the_closed_form() -> None:
    mean, log_var = torch.tensor([[1.0, -0.5]]).expand(100_000, 2), torch.tensor([[-2.0, 0.3]]).expand(100_000, 2)
    epsilon = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0))
    estimates = one_sample_kl(mean + epsilon * (0.5 * log_var).exp(), mean, log_var)
    five_standard_errors = 5 * estimates.std() / math.sqrt(100_000)
    assert abs(estimates.mean() - gaussian_kl(mean, log_var)[0]) < five_standard_errors


@given(tensors(2, 1, 2, 3, low=-30, high=30), st.integers(0, 2**12 - 1))
def test_bernoulli_nll_matches_torch_distributions(logits: Tensor, bits: int) -> None:
    x = torch.tensor([bits >> i & 1 for i in range(12)], dtype=torch.float64).view(2, 1, 2, 3)
    theirs = -Bernoulli(logits=logits).log_prob(x).sum((1, 2, 3))  # type: ignore[no-untyped-call]
    assert_same(bernoulli_nll(logits, x), theirs)


@given(tensors(2, 3, 2, 2), tensors(2, 3, 2, 2, low=0, high=1))
def test_bernoulli_nll_of_grey_pixels_is_the_cross_entropy(logits: Tensor, x: Tensor) -> None:
    p = logits.sigmoid()
    assert_same(bernoulli_nll(logits, x), -(x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3)))


def test_bernoulli_nll_stays_finite_where_a_probability_rounds_to_one() -> None:
    assert bernoulli_nll(torch.full((1, 1, 1, 1), 200.0), torch.zeros(1, 1, 1, 1)).item() == 200


@given(tensors(2, 3, 2, 2), tensors(2, 3, 2, 2), tensors(low=-2, high=2))
def test_gaussian_nll_matches_torch_distributions(x_mean: Tensor, x: Tensor, log_sigma: Tensor) -> None:
    theirs = -Normal(x_mean, log_sigma.exp()).log_prob(x).sum((1, 2, 3))  # type: ignore[no-untyped-call]
    assert_same(gaussian_nll(x_mean, x, log_sigma), theirs)


def test_gaussian_nll_is_least_where_sigma_is_the_root_mean_square_error() -> None:
    x = torch.randn(5, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    log_sigma = x.square().mean().sqrt().log().requires_grad_()
    gaussian_nll(torch.zeros_like(x), x, log_sigma).sum().backward()  # type: ignore[no-untyped-call]
    assert log_sigma.grad is not None
    assert abs(log_sigma.grad.item()) < 1e-12


@given(tensors(6, 3), st.integers(1, 5))
def test_latent_moments_of_parts_add_up(mean: Tensor, cut: int) -> None:
    parts = latent_moments(mean[:cut]) + latent_moments(mean[cut:])
    assert_same(parts, latent_moments(mean))


def test_a_unit_is_active_where_its_mean_varies_by_more_than_the_threshold() -> None:
    mean = 7 + torch.randn(50_000, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.0, 0.09, 0.11, 1.0])
    assert active_units(latent_moments(mean)).item() == 2
