"""The claims of article 6051: stacked networks against torch's own, closed forms, and the verdicts at seed 0."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from experiments.claims import dirac, matrix_norms
from experiments.claims.context import Context
from experiments.claims.digit_classifiers import Recipe, losses, trained
from experiments.claims.lipschitz import CLAIMS
from experiments.claims.registry import Claim
from experiments.claims.repetitions import F64
from experiments.claims.stacked_networks import (
    Held,
    Layers,
    cold_norms,
    first_layers,
    forward,
    gradient_norms,
    true_norms,
)
from experiments.claims.toy_gans import sliced_distance
from experiments.claims.verdict import decide
from lightning_modules.lipschitz.penalties import gradient_norm
from lightning_modules.lipschitz.spectral import ColdSpectralNorm, MatrixMap

FAILING = {"L1.5", "L1.6", "L1.7", "L1.8", "L1.9", "L2.3", "L2.4", "L4.1", "L6", "L9"}
CHEAP = (*matrix_norms.CLAIMS, *dirac.CLAIMS)


@pytest.fixture
def layers() -> Layers:
    return first_layers((5, 7, 6, 1), 3, torch.Generator().manual_seed(0))


def network(layers: Layers, r: int) -> nn.Sequential:
    """The r-th of stacked networks as a module of torch."""
    stages: list[nn.Module] = []
    for W, b in layers:
        linear = nn.Linear(W.shape[2], W.shape[1])
        linear.load_state_dict({"weight": W[r], "bias": b[r, 0]})
        stages += [linear, nn.ReLU()]
    return nn.Sequential(*stages[:-1])


def label(claim: Claim) -> str:
    return claim.id.removeprefix("6051-")


def verdicts(claims: tuple[Claim, ...]) -> dict[str, str]:
    battery = [(claim, claim.probe(Context(seed=0))) for claim in claims]
    return {label(claim): one.verdict for (claim, _), one in zip(battery, decide(battery), strict=True)}


def expected(claims: tuple[Claim, ...]) -> dict[str, str]:
    return {label(claim): "fails" if label(claim) in FAILING else "holds" for claim in claims}


def test_cheap_claims_have_these_verdicts_at_seed_0() -> None:
    assert verdicts(CHEAP) == expected(CHEAP)


@pytest.mark.slow
def test_all_claims_have_these_verdicts_at_seed_0() -> None:
    assert verdicts(CLAIMS) == expected(CLAIMS)


def test_every_claim_that_fails_as_written_stands_beside_its_correction() -> None:
    corrected = {label(claim).removesuffix("c") for claim in CLAIMS if claim.form == "corrected"}
    assert corrected == FAILING
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)


@pytest.mark.parametrize("name", ["none", "frobenius", "snr", "gp", "sn"])
def test_a_constraint_keeps_its_promise_after_training(name: str) -> None:
    context = Context(custom={"networks": "2", "steps": "60"})
    plain = trained(context, Recipe()).bound()
    held = trained(context, Recipe(name, 0.0 if name == "none" else 0.1))  # type: ignore[arg-type]
    assert np.isfinite(held.nll()).all()
    assert (held.steepest() <= held.bound() * (1 + 1e-5)).all()  # of float32
    if name == "sn":
        assert (held.bound() <= 5 * 1.25).all()  # 60 steps are fast ones, and the estimate a step behind
    elif name != "none":
        assert (held.bound() < plain).all()


def test_stacked_networks_are_torchs_own_side_by_side(layers: Layers) -> None:
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    slopes = gradient_norms(lambda at: forward(layers, at), x)
    for r in range(3):
        own = network(layers, r)
        torch.testing.assert_close(forward(layers, x)[r], own(x[r]))
        torch.testing.assert_close(slopes[r], gradient_norm(own, x[r]))


def test_spectral_norms_of_stacked_networks_are_those_of_the_matrices(layers: Layers) -> None:
    held = Held("sn", target=8.0)
    for _ in range(200):  # a round each
        norms = held.warm(layers)
    torch.testing.assert_close(torch.stack(norms, 1), true_norms(layers), rtol=1e-4, atol=0)
    torch.testing.assert_close(true_norms(held.applied(layers)), torch.full((3, 3), 2.0), rtol=1e-4, atol=0)


def test_the_cold_norm_is_that_of_the_parametrization(layers: Layers) -> None:
    W = layers[1][0].detach()
    normalised = torch.stack([ColdSpectralNorm(MatrixMap(), 5)(w) for w in W])
    torch.testing.assert_close(W / cold_norms(W, 5)[:, None, None], normalised)


def test_a_projection_divides_by_the_cold_norm(layers: Layers) -> None:
    norms = torch.stack([cold_norms(W.detach(), 5) for W, _ in layers], 1)
    before = true_norms(layers)
    Held("sn_projection").after_step(layers)
    torch.testing.assert_close(true_norms(layers), before / norms)


def test_losses_are_the_cross_entropy(layers: Layers) -> None:
    ten = first_layers((64, 8, 10), 2, torch.Generator().manual_seed(0))
    x, y = torch.rand(2, 6, 64), torch.randint(10, (2, 6), generator=torch.Generator().manual_seed(1))
    found = nn.functional.cross_entropy(forward(ten, x).flatten(0, 1), y.flatten(), reduction="none")
    torch.testing.assert_close(losses(ten, x, y).flatten(), found)


def test_a_sliced_distance_is_the_mean_of_scipys_distances() -> None:
    draws = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 1, 50, 2, generator=draws)
    directions = nn.functional.normalize(torch.randn(2, 3, generator=draws), dim=0)
    pairs = zip((x[0] @ directions).T, (y[0] @ directions).T, strict=True)
    each = [stats.wasserstein_distance(one.numpy(), other.numpy()) for one, other in pairs]
    assert float(sliced_distance(x, y, directions)) == pytest.approx(np.mean(each), rel=1e-5)


def test_a_runge_kutta_step_turns_a_wgan_by_the_angle_of_its_time() -> None:
    state = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]], dtype=F64)
    c, s = math.cos(dirac.STEP), math.sin(dirac.STEP)
    theta, w = state
    exact = torch.stack([c * theta + s * w, c * w - s * theta])
    torch.testing.assert_close(dirac.runge_kutta("wgan", state), exact, atol=dirac.STEP**5 / 100, rtol=0)


def test_the_average_of_a_circle_is_smaller_by_the_law_of_its_memory() -> None:
    found = dirac.average_distance(Context())
    assert found.estimate == pytest.approx((1 + dirac.MEMORY**2) ** -0.5, rel=0.05)  # what the start left is e^-5
