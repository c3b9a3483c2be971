"""Points and paths as pictures."""

import torch
from torch.nn import functional as F

from lightning_modules.gan.drawing import AVERAGE, FAKE, ORBIT, REAL, SIDE, draw_orbit, draw_points


def colour_at(picture: torch.Tensor, x: float, y: float) -> torch.Tensor:
    place = (torch.tensor([1 - (y / 2 + 0.5), x / 2 + 0.5]) * (SIDE - 1)).round().long()
    return picture[:, place[0], place[1]]


def test_points_stand_where_they_are_over_a_critic_that_is_brighter_where_it_is_higher() -> None:
    real, fake = torch.tensor([[0.5, 0.5]]), torch.tensor([[-0.5, 0.5], [float("nan"), 0.0]])
    picture = draw_points(lambda x: x[:, 0] + 2 * x[:, 1], real, fake)
    assert picture.shape == (3, SIDE, SIDE)
    torch.testing.assert_close(colour_at(picture, 0.5, 0.5), torch.tensor(REAL))
    torch.testing.assert_close(colour_at(picture, -0.5, 0.5), torch.tensor(FAKE))
    corners = [float(colour_at(picture, x, y).sum()) for x, y in ((-0.99, -0.99), (0.99, -0.99), (-0.99, 0.99))]
    assert corners == sorted(corners)


def test_a_flat_critic_can_be_drawn() -> None:
    assert draw_points(lambda x: torch.zeros(len(x)), torch.zeros(1, 2), torch.zeros(1, 2)).isfinite().all()


def test_an_orbit_ends_in_its_colour_and_its_average_in_another() -> None:
    angle = torch.linspace(0, 3, 50)
    orbit = torch.stack([angle.cos(), angle.sin()], 1)
    picture = draw_orbit(orbit, 0.3 * orbit)
    x, y = (orbit[-1] / 1.1 / orbit.abs().max()).tolist()
    torch.testing.assert_close(colour_at(picture, x, y), torch.tensor(ORBIT))
    torch.testing.assert_close(colour_at(picture, 0.3 * x, 0.3 * y), torch.tensor(AVERAGE))
    assert F.mse_loss(colour_at(picture, 0, 0), torch.tensor(REAL)) < 1e-6
