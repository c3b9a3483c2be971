"""Gradient noise: against loops over rows, all subsets of a small set, and simulated batches."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.data.sampling import Sampling, batch_rows
from lightning_modules.dynamics import (
    finite_population,
    noise_scale,
    noise_scale_of,
    noise_trace,
    per_sample_gradients,
    temperature,
    two_batch_noise,
)
from lightning_modules.dynamics import noise as noise_module
from lightning_modules.vae import VAE
from tests.dynamics.measured import as_function, classifier, digits, gradient

SIX = torch.tensor([[1.0, 0.5], [2.0, -1.0], [-0.5, 3.0], [0.0, 1.0], [4.0, 1.5], [1.5, -2.0]], dtype=torch.float64)


def exact(gradients: Tensor) -> tuple[float, float]:
    """The trace of Sigma and |G|^2 of a whole set."""
    return float(np.trace(np.cov(gradients.T, bias=True))), float(gradients.mean(0).square().sum())


@pytest.fixture(scope="module")
def softmax_gradients() -> Tensor:
    """Of softmax regression on 1,437 digits, (1437, 650), at its initial weights."""
    losses, parameters = as_function(classifier(network="softmax"))
    return per_sample_gradients(losses, parameters, digits(1437)).double()


@pytest.mark.parametrize("settings", [{}, {"loss": "mse", "activation": "tanh"}, {"network": "cnn", "depth": 2}])
def test_per_sample_gradients_equal_those_of_one_row_after_another(settings: dict[str, str]) -> None:
    model, (x, y) = classifier(**settings), digits(7)
    found = per_sample_gradients(*as_function(model), (x, y))
    rows = [gradient(model, (x[i : i + 1], y[i : i + 1])) for i in range(7)]
    torch.testing.assert_close(found, torch.stack(rows), rtol=1e-4, atol=1e-6)


def test_a_vae_has_gradients_of_single_images_at_noise_of_their_own() -> None:
    model = VAE(shape=(1, 8, 8), hidden_dim=8)
    x, epsilon = model.with_noise(digits(5))
    assert len({*epsilon[:, 0].tolist()}) == 5
    whole = model.per_sample_loss((x, epsilon))
    torch.testing.assert_close(whole[2:3], model.per_sample_loss((x[2:3], epsilon[2:3])))


def test_the_whole_set_gives_the_exact_values_and_no_interval(softmax_gradients: Tensor) -> None:
    trace, norm = exact(softmax_gradients)
    found = noise_scale(softmax_gradients, population=1437)
    assert found.trace == pytest.approx((trace,) * 3)
    assert found.norm_squared == pytest.approx((norm,) * 3)
    assert found.scale == pytest.approx((trace / norm,) * 3)
    assert noise_trace(softmax_gradients, population=1437) == pytest.approx(trace)


@pytest.mark.parametrize("population", [6, None])
def test_estimates_from_some_rows_are_exact_on_average(population: int | None) -> None:
    samples = itertools.combinations(range(6), 3) if population else itertools.product(range(6), repeat=3)
    found = [noise_scale(SIX[list(rows)], population) for rows in samples]
    trace, norm = exact(SIX)
    assert np.mean([one.trace.estimate for one in found]) == pytest.approx(trace)
    assert np.mean([one.norm_squared.estimate for one in found]) == pytest.approx(norm)


@pytest.mark.parametrize(("population", "size"), [(None, 40), (200, 40), (200, 150)])
def test_intervals_cover_the_truth_as_often_as_they_say(population: int | None, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    everyone = torch.randn(200, 6, generator=generator, dtype=torch.float64) * torch.arange(1, 7) + 2
    trace, norm = exact(everyone)
    covered = np.zeros(3)
    for _ in range(400):
        draws = (
            torch.randperm(200, generator=generator) if population else torch.randint(200, (size,), generator=generator)
        )
        found = noise_scale(everyone[draws[:size]], population)
        assert found.scale is not None
        for i, (interval, truth) in enumerate(
            [(found.trace, trace), (found.norm_squared, norm), (found.scale, trace / norm)]
        ):
            covered[i] += interval.low <= truth <= interval.high
    assert np.all(np.abs(covered / 400 - 0.95) < 0.04)  # 400 repetitions know it to 0.022 (2 standard errors)


def test_the_noise_scale_is_undetermined_where_the_mean_gradient_may_be_0() -> None:
    generator = torch.Generator().manual_seed(0)
    everyone = torch.randn(200, 20, generator=generator)
    undetermined = [noise_scale(everyone[i : i + 20] - everyone.mean(0)).scale is None for i in range(0, 200, 20)]
    assert sum(undetermined) >= 9  # of 10, at 95 %


def test_gradients_made_in_blocks_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    losses, parameters = as_function(classifier())
    rows = digits(50)
    whole = noise_scale(per_sample_gradients(losses, parameters, rows).double(), 1437)
    monkeypatch.setattr(noise_module, "MOST_NUMBERS", 7 * 1210)
    blocks = noise_scale_of(losses, parameters, rows, 1437)
    assert blocks.trace == pytest.approx(whole.trace, rel=1e-4)
    assert blocks.norm_squared == pytest.approx(whole.norm_squared, rel=1e-4)


def batch_gradients(gradients: Tensor, sampling: Sampling, batch_size: int, n_draws: int) -> Tensor:
    """Of `n_draws` batches, (n_draws, P)."""
    shares = torch.zeros(n_draws, len(gradients), dtype=torch.float64)
    for draw in range(n_draws):
        rows = batch_rows(sampling, batch_size, (0, draw), len(gradients), batch_size)
        shares[draw].scatter_add_(0, rows, torch.full((batch_size,), 1 / batch_size, dtype=torch.float64))
    return shares @ gradients


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_noise_falls_as_one_over_the_batch_size(sampling: Sampling, softmax_gradients: Tensor) -> None:
    gradients, sizes = softmax_gradients[:500], [1, 4, 16, 64, 256]
    errors = [batch_gradients(gradients, sampling, size, 800) - gradients.mean(0) for size in sizes]
    noises = [float(error.square().sum(1).mean()) for error in errors]
    if sampling == "without_replacement":
        noises = [noise / finite_population(size, 500) for noise, size in zip(noises, sizes, strict=True)]
    slope, intercept = np.polyfit(np.log(sizes), np.log(noises), 1)
    assert slope == pytest.approx(-1, abs=0.03)
    assert math.exp(intercept) == pytest.approx(exact(gradients)[0], rel=0.05)


@pytest.mark.parametrize("population", [None, 500])
def test_the_two_batch_estimator_has_the_exact_scale_in_its_interval(
    population: int | None, softmax_gradients: Tensor
) -> None:
    gradients = softmax_gradients[:500]
    sampling: Sampling = "without_replacement" if population else "with_replacement"
    small, large = (batch_gradients(gradients, sampling, size, 500).square().sum(1) for size in (8, 128))
    found = two_batch_noise(small, large, (8, 128), population)
    trace, norm = exact(gradients)
    assert found.scale is not None
    assert found.scale.low < trace / norm < found.scale.high
    assert found.scale.high / found.scale.low < 1.3
    assert found.trace.low < trace < found.trace.high
    assert found.norm_squared.low < norm < found.norm_squared.high


def test_the_temperature_is_that_of_the_exact_stationary_variance_at_small_steps() -> None:
    lr, s2, h, batch_size = 1e-3, 3.0, 2.0, 16
    variance = lr * s2 / (batch_size * h * (2 - lr * h))  # of theta <- theta - lr (h theta + noise)
    found = temperature(lr, trace=4 * s2, n_parameters=4, batch_noise=1 / batch_size)
    assert found / h == pytest.approx(variance, rel=lr * h)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise_trace(SIX[:1]), "gradients of 1 rows: must be at least 2"),
        (lambda: noise_scale(SIX[:2]), "gradients of 2 rows: must be at least 3"),
        (lambda: noise_scale(SIX, 5), "gradients of 6 rows: must be at least 3, at most the population's 5"),
        (lambda: two_batch_noise(SIX[:, 0], SIX[:, 1], (8, 8)), "sizes = (8, 8) with 6 and 6 squared norms"),
        (lambda: two_batch_noise(SIX[:, 0], SIX[:2, 1], (8, 16)), "sizes = (8, 16) with 6 and 2 squared norms"),
    ],
)
def test_too_few_rows_are_refused_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        call()
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)
