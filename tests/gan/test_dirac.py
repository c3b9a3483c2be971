"""The GAN of two points: its equations against autograd, and how each regime ends."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.data.steps import Steps
from lightning_modules.gan.dirac import REGIMES, DiracGAN, Regime, velocities

SGD = {"class": "sgd", "lr": 0.05}


def trained(epochs: int = 1, steps: int = 1500, **settings: Any) -> tuple[DiracGAN, pl.Trainer]:
    module = DiracGAN(**{"optimizer": SGD, **settings})
    off: dict[str, Any] = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=epochs, num_sanity_val_steps=0, logger=False, **off)
    trainer.fit(module, datamodule=Steps(steps))
    return module, trainer


@pytest.fixture(scope="module")
def ways() -> dict[str, np.ndarray]:
    found = trained()[0].arrays()["dirac.npz"]
    assert found["regime"].tolist() == list(REGIMES)
    return {name: found["theta"][:, i] for i, name in enumerate(REGIMES)} | {"average": found["average"]}


def losses(regime: Regime, theta: Tensor, w: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Of the generator and of the critic, as they are written; the real point is 0, where D is 0."""
    score = (w * theta).sum() / (w.norm() if regime == "sn" else 1)
    if regime == "gan":
        return F.softplus(-score), F.softplus(score)
    penalty = {"gp": (w.norm() - 1) ** 2, "gp_zero": w.square().sum()}.get(regime, torch.zeros(()))
    return -score, score + weight * penalty


@pytest.mark.parametrize("regime", REGIMES)
def test_velocities_are_minus_the_gradients_of_the_losses(regime: Regime) -> None:
    theta, w = (torch.randn(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    of_generator, of_critic = losses(regime, theta, w, 0.3)
    expected = (-torch.autograd.grad(of_generator, theta, retain_graph=True)[0], -torch.autograd.grad(of_critic, w)[0])
    torch.testing.assert_close(velocities(regime, theta.detach(), w.detach(), 0.3), expected)


def test_a_zero_centred_penalty_comes_to_rest_and_no_other_regime_does(ways: dict[str, np.ndarray]) -> None:
    ends = {name: np.linalg.norm(ways[name][-130:], axis=1).max() for name in REGIMES}  # a turn takes 126 steps
    assert ends["gp_zero"] < 2e-3  # exp(-0.1 * 75) = 6e-4
    assert min(ends[name] for name in REGIMES if name != "gp_zero") > 0.7


def test_wgan_keeps_the_amplitude_it_starts_with(ways: dict[str, np.ndarray]) -> None:
    assert np.abs(ways["wgan"][-130:, 0]).max() == pytest.approx(1, abs=0.03)  # alternating steps neither gain nor lose
    assert np.abs(ways["wgan"][-130:, 1]).max() == pytest.approx(0.8, abs=0.03)


def test_a_penalty_towards_one_ends_on_the_unit_circle(ways: dict[str, np.ndarray]) -> None:
    radii = np.linalg.norm(ways["gp"][-130:], axis=1)
    assert np.abs(radii - 1).max() < 0.04


def test_averages_lie_closer_to_the_centre_than_the_ways_they_average(ways: dict[str, np.ndarray]) -> None:
    for i, name in enumerate(REGIMES):
        average = np.linalg.norm(ways["average"][-130:, i], axis=1)
        assert average.max() < 0.5 * np.linalg.norm(ways[name][-130:], axis=1).max()


def test_the_velocity_of_spectral_normalisation_keeps_the_length_of_w() -> None:
    theta, w = torch.randn(2, 7, 2)
    change = velocities("sn", theta, w)[1]
    torch.testing.assert_close((change * w).sum(1), torch.zeros(7), atol=1e-6, rtol=0)
    assert math.isclose(float(velocities("sn", theta, w)[0].norm(dim=1).max()), 1, rel_tol=1e-6)


def test_a_stopped_run_goes_on_along_the_same_way(tmp_path: Path) -> None:
    whole = trained(epochs=2, steps=20)[0]
    half, trainer = trained(epochs=1, steps=20)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    rest = DiracGAN(optimizer=SGD)
    off: dict[str, Any] = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    pl.Trainer(accelerator="cpu", max_epochs=2, logger=False, num_sanity_val_steps=0, **off).fit(
        rest, datamodule=Steps(20), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    assert not torch.equal(half.trace.points[-1], whole.trace.points[-1])
    assert torch.equal(rest.trace.points, whole.trace.points)


@pytest.mark.parametrize(
    ("settings", "message"), [({"weight": -1.0}, "weight = -1"), ({"ema_decay": 1.0}, "ema_decay")]
)
def test_settings_out_of_range_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"model\.{message}"):
        DiracGAN(**settings)
