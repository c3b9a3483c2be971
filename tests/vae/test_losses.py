"""The loss terms against torch.distributions and against what theory says of them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from lightning_modules.vae.losses import (
    active_units,
    bernoulli_nll,
    bernoulli_nlls,
    gaussian_kl,
    gaussian_log_density,
    gaussian_nll,
    gaussian_nlls,
    latent_moments,
    log_mean_exp,
    one_sample_kl,
    optimal_log_sigma,
    score_function,
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


@settings(max_examples=40, deadline=None)
@given(tensors(3, 2), tensors(3, 2), tensors(3, 2))
def test_gaussian_log_density_matches_torch_distributions(z: Tensor, mean: Tensor, log_var: Tensor) -> None:
    theirs = Normal(mean, (0.5 * log_var).exp()).log_prob(z).sum(1)  # type: ignore[no-untyped-call]
    assert_same(gaussian_log_density(z, mean, log_var), theirs)


@settings(max_examples=40, deadline=None)
@given(tensors(2, 3, 1, 2, 2), tensors(2, 1, 2, 2, low=0, high=1), tensors(low=-2, high=2))
def test_draws_are_compared_as_one_image_after_another(pixels: Tensor, x: Tensor, log_sigma: Tensor) -> None:
    assert_same(bernoulli_nlls(pixels, x), torch.stack([bernoulli_nll(pixels[:, i], x) for i in range(3)], 1))
    one_by_one = torch.stack([gaussian_nll(pixels[:, i], x, log_sigma) for i in range(3)], 1)
    assert_same(gaussian_nlls(pixels, x, log_sigma), one_by_one)


@settings(max_examples=40, deadline=None)
@given(tensors(1, 3, 1, 2, 2), tensors(2, 1, 2, 2, low=0, high=1), tensors(low=-2, high=2))
def test_draws_all_images_share_are_compared_with_each(pixels: Tensor, x: Tensor, log_sigma: Tensor) -> None:
    own = pixels.expand(2, -1, -1, -1, -1)
    assert_same(bernoulli_nlls(pixels, x), bernoulli_nlls(own, x))
    assert_same(gaussian_nlls(pixels, x, log_sigma), gaussian_nlls(own, x, log_sigma))


def test_products_over_pixels_stay_in_float32_under_bfloat16() -> None:
    logits, x = torch.randn(2, 3, 1, 28, 28), torch.rand(2, 1, 28, 28)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = bernoulli_nlls(logits, x)
    assert torch.equal(mixed, bernoulli_nlls(logits, x))


@settings(max_examples=40, deadline=None)
@given(tensors(3, 4, low=-300, high=300))
def test_the_bound_of_many_draws_is_no_smaller_than_the_mean_of_single_ones(log_weights: Tensor) -> None:
    bound = log_mean_exp(log_weights)
    assert (bound >= log_weights.mean(1) - 1e-9).all()  # Jensen
    assert (bound <= log_weights.amax(1) + 1e-9).all()


def test_the_optimal_sigma_has_the_gradient_of_the_log_of_the_mean_squared_error() -> None:
    generator = torch.Generator().manual_seed(0)
    x, x_mean = (torch.randn(5, 1, 4, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    x_mean.requires_grad_()
    loss = gaussian_nll(x_mean, x, optimal_log_sigma(x_mean, x)).mean()
    profiled = 8 * (x - x_mean).square().mean().log()  # P/2 ln MSE, P = 16
    (ours,), (theirs,) = torch.autograd.grad(loss, x_mean), torch.autograd.grad(profiled, x_mean)
    assert_same(ours, theirs)


def test_the_score_function_gradient_is_the_reparameterised_one_on_average() -> None:
    n = 200_000
    mean, log_var = torch.tensor([[0.5]], requires_grad=True), torch.tensor([[-1.0]], requires_grad=True)
    epsilon = torch.randn(n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = mean + epsilon * (0.5 * log_var).exp()
    exact = torch.autograd.grad(mean.square() + log_var.exp(), (mean, log_var))  # of E[z^2]
    still = z.detach()
    score = score_function(still.square().squeeze(1), gaussian_log_density(still, mean.expand(n, 1), log_var))
    found = torch.autograd.grad(score.mean(), (mean, log_var))
    assert [g.item() for g in found] == pytest.approx([g.item() for g in exact], abs=0.02)  # 5 standard errors


@given(tensors(6, 3), st.integers(1, 5))
def test_latent_moments_of_parts_add_up(mean: Tensor, cut: int) -> None:
    parts = latent_moments(mean[:cut]) + latent_moments(mean[cut:])
    assert_same(parts, latent_moments(mean))


def test_a_unit_is_active_where_its_mean_varies_by_more_than_the_threshold() -> None:
    mean = 7 + torch.randn(50_000, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.0, 0.09, 0.11, 1.0])
    assert active_units(latent_moments(mean)).item() == 2
