"""Importance sampling against integrals done on a grid, for every kind of VAE."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Normal

from lightning_modules.vae import VAE, likelihood
from lightning_modules.vae.likelihood import from_log_weights, importance_sampling

SHAPE = (1, 3, 3)
BINARY = torch.randint(2, (6, *SHAPE), generator=torch.Generator().manual_seed(1)).float()
LABELS = torch.arange(6) % 3
VARIANTS: dict[str, dict[str, Any]] = {
    "bernoulli": {},
    "fixed sigma": {"decoder": "gaussian", "sigma": 0.4},
    "learnt sigma": {"decoder": "gaussian"},
    "optimal sigma": {"decoder": "gaussian", "sigma": "optimal"},
    "linear": {"decoder": "gaussian", "network": "linear"},
    "iwae": {"loss": "iwae", "n_samples": 5},
    "prior": {"loss": "prior", "n_samples": 5},
    "BN-VAE": {"mean_scale": 0.6},
    "conditional": {"conditional": True, "n_classes": 3},
}


def vae(**options: Any) -> VAE:
    """A VAE of one latent dimension whose weights are a little larger than at first, so that z matters."""
    torch.manual_seed(0)
    model = VAE(**{"latent_dim": 1, "hidden_dim": 8, "shape": SHAPE, **options})
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3)
    return model


def integrated(model: VAE, x: Tensor, y: Tensor | None) -> Tensor:
    """-ln of the integral of p(x|z) p(z) over z, by the trapezoidal rule."""
    z = torch.linspace(-8, 8, 4001)[:, None]
    found = []
    for i in range(len(x)):
        means = model.decode(z, None if y is None else y[i].expand(len(z)))
        pixels = Bernoulli(means) if model.decoder_name == "bernoulli" else Normal(means, model.log_sigma.exp())
        log_p = pixels.log_prob(x[i]).flatten(1).sum(1) + Normal(0.0, 1.0).log_prob(z[:, 0])  # type: ignore[no-untyped-call]
        found.append(-log_p.double().logsumexp(0) - math.log(16 / 4000))
    return torch.stack(found)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@torch.no_grad()
def test_every_variant_has_the_likelihood_of_its_integral(options: dict[str, Any]) -> None:
    model = vae(**options)
    y = LABELS if model.n_classes else None
    found = model.nll([BINARY, LABELS], n_samples=4000)
    exact = integrated(model.eval(), BINARY, y)
    # Five standard errors; The estimate's bias, half their square, is far below.
    assert ((found.nll - exact).abs() < 5 * found.standard_error + 1e-5).all()
    assert (found.standard_error < 0.1).all()
    assert ((found.ess_fraction > 0) & (found.ess_fraction <= 1)).all()
    assert found.is_normalised


def test_draws_from_the_exact_posterior_leave_no_error() -> None:
    # x = z + noise of sigma 1: the posterior is N(x / 2, 1/2), and x ~ N(0, 2).
    x, half = torch.tensor([[1.0], [-0.3]]), torch.full((2, 1), 0.5).log()
    found = importance_sampling(
        lambda rows, z: Normal(x[rows, None], 1.0).log_prob(z).sum(2),  # type: ignore[no-untyped-call]
        x / 2,
        half,
        50,
        n_pixels=1,
    )
    theirs = -Normal(0.0, math.sqrt(2)).log_prob(x[:, 0].double())  # type: ignore[no-untyped-call]
    torch.testing.assert_close(found.nll, theirs, rtol=0, atol=1e-6)
    assert found.standard_error.max() < 1e-3
    torch.testing.assert_close(found.ess_fraction, torch.ones(2).double())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=30))
def test_weights_give_the_error_and_sample_size_of_the_textbook(log_weights: list[float]) -> None:
    weights = torch.tensor([log_weights], dtype=torch.float64)
    found = from_log_weights(weights)
    scaled = (weights - weights.max()).exp()
    error = scaled.std() / scaled.mean() / math.sqrt(len(log_weights))
    ess = scaled.sum().square() / scaled.square().sum() / len(log_weights)
    torch.testing.assert_close(found.nll[0], -(scaled.mean().log() + weights.max()), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.standard_error[0], error, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.ess_fraction[0], ess, rtol=1e-9, atol=1e-9)


def test_the_standard_error_is_the_spread_over_seeds() -> None:
    model = vae()
    repeated = [model.nll(BINARY, n_samples=200, seed=seed) for seed in range(200)]
    spread = torch.stack([each.nll for each in repeated]).std(0)
    said = torch.stack([each.standard_error for each in repeated]).square().mean(0).sqrt()
    assert ((spread / said - 1).abs() < 0.25).all()  # a spread of 200 is known to 5 %: five of its errors


def test_one_draw_has_no_error_to_tell() -> None:
    assert vae().nll(BINARY, n_samples=1).standard_error.isnan().all()


def test_an_image_has_the_same_value_alone_in_parts_and_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    model = vae()
    whole = model.nll(BINARY, n_samples=40)
    monkeypatch.setattr(likelihood, "MOST_PIXELS", 9 * 7)  # seven draws at once
    parts = [model.nll(BINARY[:2], 40), model.nll(BINARY[2:], 40, first_row=2)]
    torch.testing.assert_close(torch.cat([part.nll for part in parts]), whole.nll, rtol=1e-6, atol=0)


def test_measuring_leaves_the_mode_the_gradients_and_the_generators_alone() -> None:
    model = vae(mean_scale=0.6).train()
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    model.nll(BINARY, n_samples=3)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_grey_pixels_under_a_bernoulli_decoder_are_said_to_have_no_likelihood() -> None:
    assert not vae().nll(BINARY / 2, n_samples=2).is_normalised
    assert vae(decoder="gaussian").nll(BINARY / 2, n_samples=2).is_normalised


def test_the_summary_has_the_errors_of_images_and_of_draws() -> None:
    found = vae().nll(BINARY, n_samples=100)
    summary = found.summary()
    assert summary.nll == pytest.approx(found.nll.mean().item())
    assert summary.standard_error == pytest.approx(found.nll.std().item() / math.sqrt(6))
    assert summary.monte_carlo_error == pytest.approx(found.standard_error.square().sum().sqrt().item() / 6)
    assert math.isnan(vae().nll(BINARY[:1], n_samples=2).summary().standard_error)


def test_what_has_no_likelihood_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^nll: n_samples = 0: must be at least 1"):
        vae().nll(BINARY, n_samples=0)
    with pytest.raises(ValueError, match=r"^model.loss = autoencoder: has no likelihood"):
        vae(loss="autoencoder").nll(BINARY)
    assert not vae(loss="autoencoder").has_likelihood
