"""Figures of quality against closed forms, brute force and torchmetrics given the same features."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from lightning_modules import metrics
from lightning_modules.metrics import fid, inception_score, kid, prdc, sliced_wasserstein


class AsTheyAre(nn.Module):
    """An extractor for torchmetrics whose images are features already."""

    num_features = 6

    def forward(self, x: Tensor) -> Tensor:
        return x


def normal(n: int, d: int = 6, seed: int = 0, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    return shift + scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


REAL, FAKE = normal(400), normal(300, seed=1, shift=0.3, scale=1.2)


def test_fid_is_torchmetrics_given_the_same_features() -> None:
    theirs = FrechetInceptionDistance(feature=AsTheyAre(), normalize=True).set_dtype(torch.float64)
    theirs.update(REAL, real=True)
    theirs.update(FAKE, real=False)
    assert fid(REAL, FAKE) == pytest.approx(float(theirs.compute()), rel=1e-3)


@pytest.mark.filterwarnings("ignore:Metric")  # that it keeps all features
def test_kid_is_torchmetrics_on_one_subset_of_all_samples() -> None:
    theirs = KernelInceptionDistance(feature=AsTheyAre(), normalize=True, subsets=1, subset_size=300)
    theirs.update(REAL[:300], real=True)
    theirs.update(FAKE, real=False)
    assert kid(REAL[:300], FAKE).value == pytest.approx(float(theirs.compute()[0]), rel=1e-4)


@pytest.mark.filterwarnings("ignore:Metric", "ignore:std")
def test_inception_score_is_torchmetrics_with_one_split() -> None:
    logits = normal(200, 10, scale=2.0)
    theirs = InceptionScore(feature=AsTheyAre(), splits=1)
    theirs.update(logits)
    assert inception_score(logits.softmax(1)) == pytest.approx(float(theirs.compute()[0]), rel=1e-4)


def test_fid_of_scaled_samples_has_a_closed_form() -> None:
    covariance = torch.cov(REAL.T)
    expected = (3 * REAL.mean(0) - REAL.mean(0)).square().sum() + (3 - 1) ** 2 * covariance.trace()
    assert fid(REAL, 3 * REAL) == pytest.approx(float(expected), rel=1e-9)
    assert fid(REAL, REAL) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_kids_standard_error_is_the_spread_over_repetitions(shift: float) -> None:
    found = [kid(normal(60, 3, seed=i), normal(90, 3, seed=1000 + i, shift=shift)) for i in range(300)]
    values, errors = (torch.tensor(column) for column in zip(*found, strict=True))
    # 300 repetitions give the spread to 4 %; where the distributions are one, a variance cut off at 0 adds up to 20 %
    assert float(errors.square().mean().sqrt() / values.std()) == pytest.approx(1.1, abs=0.2)
    assert shift or abs(float(values.mean())) < 3 * float(values.std()) / math.sqrt(300)


def test_kid_over_disjoint_subsets_estimates_the_same_number() -> None:
    whole, parts = kid(REAL, FAKE), kid(REAL, FAKE, subset_size=50)
    assert abs(whole.value - parts.value) < 3 * parts.standard_error
    assert kid(REAL, FAKE, subset_size=50, seed=1) != parts
    assert kid(REAL, FAKE, subset_size=300).standard_error > 0  # one subset: no spread to take it from


def brute_force(real: np.ndarray, fake: np.ndarray, k: int, k_density: int) -> list[float]:
    """Precision, recall, density and coverage as the papers write them."""

    def radius(points: np.ndarray, i: int, k: int) -> float:
        return float(np.sort(np.linalg.norm(np.delete(points, i, 0) - points[i], axis=1))[k - 1])

    apart = np.array([[np.linalg.norm(x - y) for y in fake] for x in real])
    of_real = np.array([radius(real, i, k) for i in range(len(real))])[:, None]
    wide = np.array([radius(real, i, k_density) for i in range(len(real))])[:, None]
    of_fake = np.array([radius(fake, j, k) for j in range(len(fake))])[None]
    return [
        (apart <= of_real).any(0).mean(),
        (apart <= of_fake).any(1).mean(),
        (apart <= wide).sum() / (k_density * len(fake)),
        (apart <= wide).any(1).mean(),
    ]


@settings(max_examples=15, deadline=None)
@given(st.integers(7, 25), st.integers(7, 25), st.integers(0, 10**6), st.integers(1, 6), st.booleans())
def test_precision_recall_density_coverage_are_those_counted_by_hand(
    n: int, m: int, seed: int, k: int, repeats: bool
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 3, (n + m, 2)).astype(float) if repeats else rng.normal(size=(n + m, 2))
    real, fake = points[:n], points[n:]
    found = prdc(torch.from_numpy(real), torch.from_numpy(fake), k, 5)
    assert list(found) == pytest.approx(brute_force(real, fake, k, 5))


def test_copies_of_a_few_samples_are_exposed() -> None:
    found = prdc(normal(3000), normal(30, seed=2).repeat(100, 1))
    assert (found.recall, found.coverage < 0.1, found.precision > 0.8) == (0.0, True, True)


def test_blocks_do_not_change_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kid(REAL, FAKE), prdc(REAL, FAKE)
    monkeypatch.setattr(metrics, "BLOCK", 7 * 400)
    assert prdc(REAL, FAKE) == whole[1]
    assert kid(REAL, FAKE) == pytest.approx(whole[0], rel=1e-9)


def test_sliced_wasserstein_in_one_dimension_is_the_distance_of_sorted_samples() -> None:
    x, y = REAL[:, :1], FAKE[:, :1]
    expected = (x[:300].sort(0).values - y.sort(0).values).square().mean().sqrt()
    assert sliced_wasserstein(x[:300], y) == pytest.approx(float(expected), rel=1e-9)
    assert sliced_wasserstein(x, torch.cat([x, x])) == pytest.approx(0, abs=1e-12)


def test_sliced_wasserstein_of_a_shift_is_its_length_over_the_root_of_the_dimension() -> None:
    found = sliced_wasserstein(REAL, REAL + 2.0, n_projections=4000)
    assert found == pytest.approx(2.0, rel=0.06)  # 4,000 directions: 2 %


def test_fid_and_sliced_wasserstein_grow_with_noise() -> None:
    noise = normal(400, seed=3)
    for figure in (fid, sliced_wasserstein):
        found = [figure(REAL, REAL.flip(0) + level * noise) for level in (0.0, 0.5, 1.0, 2.0)]
        assert found == sorted(found)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fid(REAL[:6], FAKE), "FID: 6 real samples of 6 features: the covariance is singular; give at least 7"),
        (lambda: fid(REAL, FAKE[:1]), "1 fake samples: at least 2 are needed"),
        (lambda: kid(REAL, FAKE, subset_size=301), "subset_size = 301: must lie in 2 to 300"),
        (lambda: kid(REAL, FAKE[:, :5]), "real samples have 6 features, fake ones 5: must be as many"),
        (lambda: prdc(REAL, FAKE[:3]), "k_precision = 3 with 3 samples: must lie in 1 to 2"),
        (lambda: prdc(REAL[:5], FAKE), "k_density = 5 with 5 samples: must lie in 1 to 4"),
        (lambda: prdc(REAL * math.nan, FAKE), "400 of 400 real samples have NaN or infinite features"),
        (lambda: sliced_wasserstein(REAL[0], FAKE), r"real features of shape \(6,\): must be \(samples, features\)"),
        (lambda: inception_score(REAL), "IS: the rows are no probabilities"),
        (lambda: inception_score(torch.tensor([[math.nan, 1.0]])), "IS: the rows are no probabilities"),
        (lambda: inception_score(torch.ones(3)), r"IS: probabilities of shape \(3,\): must be \(samples, classes\)"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(call: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()  # type: ignore[operator]
