"""Rings and grids of Gaussians: where the points lie, and what is refused."""

from typing import Any

import pytest
import torch

from lightning_modules.data.gaussians import Gaussians, centres


def test_points_scatter_about_the_modes_of_their_labels() -> None:
    data = Gaussians("ring", n_modes=8, spread=0.03, n_points=8000)
    x, y = data.rows("train")
    deviations = x.flatten(1) - data.centres[y]
    assert (data.shape, data.n_classes, data.value_range) == ((2, 1, 1), 8, (-1.0, 1.0))
    assert float(deviations.std()) == pytest.approx(0.03, rel=0.03)  # 3 standard errors of 12,800 numbers
    assert len(data.rows("validation")[0]) == 1600


def test_a_ring_has_one_radius_and_a_grid_equal_gaps() -> None:
    torch.testing.assert_close(centres("ring", 5).norm(dim=1), torch.full((5,), 0.7))
    gaps = torch.cdist(centres("grid", 9), centres("grid", 9))
    torch.testing.assert_close(gaps[~torch.eye(9, dtype=torch.bool)].min(), torch.tensor(0.7))


def test_the_same_settings_give_the_same_points_whatever_the_seed_of_the_order() -> None:
    digests = [
        Gaussians(n_points=100, batch_size=8, seed=seed, points_seed=points_seed).digest
        for seed, points_seed in ((0, 0), (1, 0), (0, 1))
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layout": "star"}, "layout = star: must be ring or grid"),
        ({"layout": "grid", "n_modes": 8}, "n_modes = 8: a grid has a square number"),
        ({"n_modes": 1}, "n_modes = 1: must be at least 2"),
        ({"spread": 0.2}, r"spread = 0.2: must lie in \(0, 0.05\]"),
        ({"n_points": 20}, "n_points = 20: must be at least 10 a mode, 80"),
        ({"batch_size": 0}, "batch_size = 0"),
    ],
)
def test_settings_no_points_can_be_drawn_from_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"data\.{message}"):
        Gaussians(**settings)
