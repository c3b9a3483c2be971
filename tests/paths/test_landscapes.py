"""Landscapes: derivatives, minima and basins against brute force."""

from typing import get_args

import numpy as np
import pytest
import torch

from lightning_modules.paths.landscapes import DIVERGED, Landscape, LandscapeName, landscape

NAMES = get_args(LandscapeName)


def points(land: Landscape, n: int, seed: int = 0) -> torch.Tensor:
    """Uniform in the box, (n, D)."""
    low, high = torch.tensor(land.box, dtype=torch.float64).unbind(-1)
    return low + (high - low) * torch.rand(
        n, land.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_loss(name: str) -> None:
    land = landscape(name, angle=30.0 if name == "ravine" else None)
    theta = points(land, 50).requires_grad_()
    (gradients,) = torch.autograd.grad(land.losses(theta).sum(), theta)
    torch.testing.assert_close(land.gradients(theta.detach()), gradients)


@pytest.mark.parametrize("name", NAMES)
def test_minima_are_stationary_and_the_first_is_the_lowest_of_the_box(name: str) -> None:
    land = landscape(name)
    minima = torch.tensor(land.minima, dtype=torch.float64)
    assert land.gradients(minima).abs().max() < 1e-9
    assert land.losses(minima).argmin() == 0
    assert land.losses(points(land, 10_000)).min() >= land.losses(minima[0])
    assert land.basins(minima).tolist() == list(range(len(minima)))


@pytest.mark.parametrize("name", ["double_well", "article", "ravine"])
def test_basins_are_where_gradient_descent_of_small_steps_ends(name: str) -> None:
    land = landscape(name)
    start = points(land, 300)
    theta = start.clone()
    for _ in range(4000):
        theta -= 4e-3 * land.gradients(theta)
    ends = torch.cdist(theta, torch.tensor(land.minima, dtype=torch.float64))
    assert torch.equal(ends.argmin(1), land.basins(start))
    assert ends.amin(1).max() < 1e-3


def test_a_turned_ravine_has_the_condition_number_asked_for() -> None:
    land = landscape("ravine", kappa=250.0, angle=73.0)
    hessian = land.gradients(torch.eye(2, dtype=torch.float64))
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), [1.0, 250.0])


def test_far_away_and_nowhere_is_diverged() -> None:
    land = landscape("article")  # its box is 4.8 wide, centre 1.8
    theta = torch.tensor([[25.7], [25.9], [-22.3], [float("nan")], [float("inf")]])
    assert land.basins(theta).tolist() == [1, DIVERGED, DIVERGED, DIVERGED, DIVERGED]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("artcle",), "model.landscape = artcle: must be one of double_well, article, ravine, rosenbrock"),
        (("ravine", 0.5), "model.kappa = 0.5: must be at least 1 and finite"),
        (("ravine", None, float("nan")), "model.angle = nan: must be a finite number"),
        (("article", 5.0), "model.kappa = 5: article has none; leave it out or use --model.landscape ravine"),
    ],
)
def test_what_is_no_landscape_is_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        landscape(*arguments)  # type: ignore[arg-type]
    assert str(refusal.value).startswith(message)
