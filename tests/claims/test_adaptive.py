"""The claims of article 6234: statistics against closed forms, and the verdicts at seed 0."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from experiments.claims.adaptive import CLAIMS
from experiments.claims.context import Context
from experiments.claims.first_and_last import adam, first_step
from experiments.claims.registry import Claim
from experiments.claims.repetitions import F64, mean_evidence, mean_points, slopes
from experiments.claims.softmax_regression import (
    ln_excess,
    per_sample_gradients,
    softmax_gradient,
    softmax_loss,
    subsets,
)
from experiments.claims.squared_gradients import averages
from experiments.claims.step_control import Place, border, equal_errors
from experiments.claims.vector_rates import cosine, descend, rotations
from experiments.claims.verdict import decide
from lightning_modules.optimizers.rmsprop import RMSprop

FAILING = {"A1.2", "A1.4", "A4.1", "A4.2", "A5.2", "A6.2", "A6.4"}
COSTLY = {"A2.1", "A4.1", "A4.1c", "A4.2", "A4.3", "A5.3", "A7.1", "A7.2"}  # half a second of CPU and more, each


def label(claim: Claim) -> str:
    return claim.id.removeprefix("6234-")


CHEAP = [claim for claim in CLAIMS if label(claim) not in COSTLY]


def verdicts(claims: list[Claim]) -> dict[str, str]:
    battery = [(claim, claim.probe(Context(seed=0))) for claim in claims]
    return {label(claim): one.verdict for (claim, _), one in zip(battery, decide(battery), strict=True)}


def expected(claims: list[Claim]) -> dict[str, str]:
    return {label(claim): "fails" if label(claim) in FAILING else "holds" for claim in claims}


def test_cheap_claims_have_these_verdicts_at_seed_0() -> None:
    assert verdicts(CHEAP) == expected(CHEAP)


@pytest.mark.slow
def test_all_claims_have_these_verdicts_at_seed_0() -> None:
    assert verdicts(list(CLAIMS)) == expected(list(CLAIMS))


def test_every_corrected_claim_stands_beside_one_that_fails_as_written() -> None:
    corrected = {label(claim).removesuffix("c") for claim in CLAIMS if claim.form == "corrected"}
    assert corrected == FAILING - {"A4.2"}  # A4.1c corrects it too
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS) == 33


def test_a_probe_is_a_function_of_the_seed() -> None:
    probe = partial(cosine, scalar=False)
    assert probe(Context(seed=1)) == probe(Context(seed=1))
    assert probe(Context(seed=1)).estimate != probe(Context(seed=2)).estimate


def test_mean_evidence_is_students_interval() -> None:
    values = np.random.default_rng(0).standard_normal(9)
    found = mean_evidence("mean", values)
    low, high = stats.t.interval(0.95, 8, values.mean(), stats.sem(values))
    np.testing.assert_allclose([found.ci_low, found.ci_high], [low, high], rtol=1e-12)
    assert mean_points([2.0], values[:, None])[0].high == pytest.approx(high)


def test_slopes_are_those_of_least_squares() -> None:
    draws = np.random.default_rng(0)
    x, y = draws.standard_normal(7), draws.standard_normal((3, 7))
    np.testing.assert_allclose(slopes(x, y), np.polyfit(x, y.T, 1)[0], rtol=1e-10)


def test_softmax_gradient_is_that_of_its_loss() -> None:
    x, y = subsets(Context(), 2, 30)
    theta = torch.randn(2, 64, 10, generator=torch.Generator().manual_seed(0), dtype=F64, requires_grad=True)
    softmax_loss(theta, x, y).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(softmax_gradient(theta.detach(), x, y), theta.grad)


def test_per_sample_gradients_average_to_the_whole() -> None:
    x, y = subsets(Context(), 1, 30)
    whole = softmax_gradient(torch.zeros(1, 64, 10, dtype=F64), x, y)
    torch.testing.assert_close(per_sample_gradients(Context(), 30).mean(0), whole.flatten())


def test_no_rate_and_no_optimizer_falls_below_the_lowest_loss() -> None:
    excess = np.stack([ln_excess(Context(), kind, 2, (1, 30)) for kind in ("sgd", "vector", "scalar")])
    assert np.isfinite(excess).all()  # of a negative number the logarithm is not a number
    assert (excess[..., 1] < excess[..., 0]).all()


@pytest.mark.parametrize("scalar", [True, False])
def test_vectorised_descent_takes_the_steps_of_the_optimizer(scalar: bool) -> None:
    draws = torch.Generator().manual_seed(0)
    turn = rotations(2, 5, 1.0, draws)
    hessian = turn @ torch.diag(torch.logspace(-2, 0, 5, dtype=F64)) @ turn.mT
    start, rates = torch.randn(2, 5, generator=draws, dtype=F64), torch.tensor([0.01, 0.1], dtype=F64)
    loss, _ = descend(hessian, start, rates, 10, scalar)
    for r in range(2):
        for k, rate in enumerate(rates.tolist()):
            theta = start[r].clone()
            optimizer = RMSprop([theta], lr=rate, beta=0.99, epsilon=1e-8, scale="scalar" if scalar else "vector")
            for _ in range(9):
                theta.grad = hessian[r] @ theta
                optimizer.step()
            assert float(theta @ hessian[r] @ theta) / 2 == pytest.approx(float(loss[r, k]), rel=1e-10)


def test_a_scalar_rate_does_not_see_a_rotation() -> None:
    draws = torch.Generator().manual_seed(0)
    turn, h = rotations(1, 5, 1.0, draws), torch.diag(torch.logspace(-2, 0, 5, dtype=F64))[None]
    start, rates = torch.randn(1, 5, generator=draws, dtype=F64), torch.tensor([0.03], dtype=F64)
    plain = descend(h, start, rates, 200, scalar=True)[0]
    turned = descend(turn @ h @ turn.mT, (turn @ start[..., None])[..., 0], rates, 200, scalar=True)[0]
    torch.testing.assert_close(turned, plain, rtol=1e-8, atol=0)


def test_rotations_are_orthogonal_and_start_at_the_identity() -> None:
    turn = rotations(3, 6, 1.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(turn @ turn.mT, torch.eye(6, dtype=F64).expand(3, 6, 6))
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(3, dtype=F64))
    torch.testing.assert_close(rotations(1, 6, 0.0, torch.Generator())[0], torch.eye(6, dtype=F64))


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_ends_beyond_the_border_are_the_cycle_of_period_2(place: Place) -> None:
    found = border(Context(custom={"steps": "2500"}), place)
    for measured, law in zip(found.points, found.theory, strict=True):
        assert abs(measured.x / 2 - 1) < 0.05 or measured.y == pytest.approx(law.y, abs=1e-3)


def test_errors_of_equal_steps_are_the_leading_term_of_the_series() -> None:
    found = equal_errors(Context())
    np.testing.assert_allclose([p.y for p in found.points], [c.y for c in found.theory], rtol=0.004)


def test_squares_of_minibatches_exceed_that_of_the_whole_by_the_exact_bias() -> None:
    _, squares, exact, bias = averages(Context(), 1, (0.9,))
    excess = squares.mean(0) - exact  # (chains,)
    error = float(excess.std()) / math.sqrt(len(excess))
    assert abs(float(excess.mean()) - bias) < 4 * error
    assert error < 0.02 * bias


def test_first_steps_of_rmsprop_and_adam_are_the_closed_forms() -> None:
    for found in (first_step(Context()), adam(Context(custom={"steps": "200"}), late=False)):
        np.testing.assert_allclose([p.y for p in found.points], [c.y for c in found.theory], rtol=1e-5)
