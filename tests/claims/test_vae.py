"""The claims of article 5383: closed forms behind the probes, and the verdicts at seed 0."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments.claims.bounds import IWAE, ONE_SAMPLE, VAE, identity
from experiments.claims.context import Context
from experiments.claims.decoder_variance import D, covariance, fit_linear, linear_loss
from experiments.claims.posterior_draws import code_gradients, variances
from experiments.claims.prior_draws import draws_slope
from experiments.claims.repetitions import F64
from experiments.claims.small_vaes import Recipe, epsilon_shape, losses, model, splits, trained
from experiments.claims.vae import CLAIMS
from experiments.claims.verdict import decide

FAILING = {"V1.2", "V2.1", "V4", "V4.1"}
SHORT = {"steps": "20", "models": "2"}


def test_every_label_from_v1_to_v8_has_a_claim() -> None:
    labels = [claim.id.removeprefix("5383-") for claim in CLAIMS]
    assert len(set(labels)) == len(labels)
    assert {name[:2] for name in labels} == {f"V{k}" for k in range(1, 9)}


@pytest.mark.slow
def test_verdicts_at_seed_0() -> None:
    battery = [(claim, claim.probe(Context(0))) for claim in CLAIMS]
    found = {claim.id: one.verdict for (claim, _), one in zip(battery, decide(battery), strict=True)}
    assert found == {c.id: "fails" if c.id.removeprefix("5383-") in FAILING else "holds" for c in CLAIMS}


def test_models_side_by_side_have_their_own_splits_and_weights() -> None:
    found = trained(0, 2, Recipe(n_steps=1))
    assert all((weight[0] != weight[1]).any() for weight in found.encoder.values())
    order = splits(0, 2)
    assert (order.sort(1).values == torch.arange(1797)).all()
    assert (order[0] != order[1]).any()


@pytest.mark.parametrize("loss", ["closed_form", "one_sample", "iwae", "prior", "autoencoder"])
def test_training_lowers_every_loss_for_both_kinds_of_pixels(loss: str) -> None:
    for sigma in (None, 0.3):
        recipe = Recipe(loss, k=2, sigma=sigma, n_steps=40)  # type: ignore[arg-type]
        epsilon = torch.randn(epsilon_shape(recipe), generator=torch.Generator().manual_seed(0))
        before, after = (trained(0, 2, replace(recipe, n_steps=n)) for n in (0, 40))
        first, last = (
            losses(recipe, *model(found, 0), found.test[0, :100], epsilon).mean() for found in (before, after)
        )
        assert last < first


def test_iwae_of_one_draw_is_the_one_sample_loss_and_more_draws_lie_below_on_average() -> None:
    assert identity(Context(custom=SHORT)).estimate < 1e-4
    found, epsilon = trained(0, 2, replace(VAE, n_steps=20)), torch.randn(100, 5, 8)
    tight, loose = (losses(one, *model(found, 0), found.test[0, :100], epsilon) for one in (IWAE, ONE_SAMPLE))
    assert (tight <= loose + 1e-4).all()  # Jensen's inequality, draw by draw


def test_variance_within_and_whole_are_unbiased() -> None:
    generator = torch.Generator().manual_seed(0)
    centre = 2 * torch.randn(4000, 3, generator=generator)
    pair = (centre + torch.randn(4000, 3, generator=generator), centre + torch.randn(4000, 3, generator=generator))
    np.testing.assert_allclose(variances(pair), (3, 15), rtol=0.05)


def test_both_gradients_in_the_code_have_the_same_mean() -> None:
    found, generator = trained(0, 2, Recipe(latent_dim=2, n_steps=200)), torch.Generator().manual_seed(0)
    score, path = (code_gradients(found, 0, 3, 20_000, generator, is_score) for is_score in (True, False))
    error = (score.var(1) / 20_000 + path.var(1) / 20_000).sqrt()
    assert ((score.mean(1) - path.mean(1)).abs() < 4.5 * error).all()


def test_closed_form_loss_of_the_linear_vae_is_the_mean_over_draws() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 5, generator=generator, dtype=F64)
    x = x - x.mean(0)
    W, V = torch.randn(5, 2, generator=generator, dtype=F64), torch.randn(2, 5, generator=generator, dtype=F64)
    log_s = torch.tensor([-1.0, 0.5], dtype=F64)
    z = x @ V.T + torch.randn(20_000, 50, 2, generator=generator, dtype=F64) * (log_s / 2).exp()
    error = (x - z @ W.T).square().sum(-1).mean() / 2 / 0.3
    kl = ((x @ V.T).square() + log_s.exp() - log_s - 1).sum(1).mean() / 2
    C = torch.cov(x.T, correction=0)
    assert float(linear_loss(C, W, V, log_s, 0.3)) == pytest.approx(float(error + kl), rel=0.01)


def test_a_linear_vae_at_its_optimum_has_the_likelihood_of_probabilistic_pca() -> None:
    C, variance = covariance(), 0.1
    W, V, s = fit_linear(variance, 0)
    values = torch.linalg.eigvalsh(C)
    torch.testing.assert_close(s.sort().values, variance / values[-D:].flip(0), rtol=1e-3, atol=0)
    model_covariance = W @ W.T + variance * torch.eye(64, dtype=F64)
    exact = (torch.logdet(model_covariance) + torch.trace(torch.linalg.solve(model_covariance, C))) / 2
    bound = float(linear_loss(C, W, V, s.log(), variance))
    assert bound + 32 * math.log(variance) == pytest.approx(float(exact), abs=1e-3)


def test_probes_are_functions_of_the_seed() -> None:
    assert draws_slope(Context(1, custom=SHORT)) == draws_slope(Context(1, custom=SHORT))
    assert draws_slope(Context(1, custom=SHORT)) != draws_slope(Context(2, custom=SHORT))
