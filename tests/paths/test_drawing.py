"""Pictures, looked at pixel by pixel."""

import torch

from lightning_modules.paths.drawing import BASINS, CELL, GREY, HEIGHT, ODE, PATH, WIDTH, draw_basins, draw_path
from lightning_modules.paths.landscapes import landscape


def pixel(picture: torch.Tensor, x: float, y: float) -> list[float]:
    """Colour at a point of the double well's box, [-2, 2] x [-1.5, 1.5]."""
    column, row = (x + 2) / 4 * (WIDTH - 1), (1.5 - y) / 3 * (HEIGHT - 1)
    return [float(value) for value in picture[:, round(row), round(column)]]


def line(*points: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """A straight path at whole times."""
    return torch.arange(float(len(points))), torch.tensor(points, dtype=torch.float64)


def near(colour: list[float], wanted: tuple[float, ...]) -> bool:
    return all(abs(a - b) < 1e-4 for a, b in zip(colour, wanted, strict=True))


def test_path_and_solution_are_lines_where_they_go() -> None:
    picture = draw_path(landscape("double_well"), line((-1.5, -1.2), (1.5, -1.2)), line((-1.5, 1.0), (1.5, 1.0)))
    assert picture.shape == (3, HEIGHT, WIDTH)
    assert 0 <= picture.min() <= picture.max() <= 1
    assert near(pixel(picture, 0.3, -1.2), PATH)
    assert near(pixel(picture, 0.3, 1.0), ODE)
    assert pixel(picture, 1.9, 1.4) > pixel(picture, -0.9, 0.3)  # bright where the loss is high


def test_one_coordinate_is_drawn_over_time() -> None:
    times = torch.tensor([0.0, 10.0])
    path, ode = (times, torch.tensor([[4.0], [4.0]])), (times, torch.tensor([[1.0], [1.0]]))
    picture = draw_path(landscape("article"), path, ode)
    row = round((4.2 - 4.0) / 4.8 * (HEIGHT - 1))
    assert near([float(value) for value in picture[:, row, WIDTH // 2]], PATH)


def test_a_path_that_leaves_the_picture_or_is_nowhere_is_drawn_as_far_as_it_goes() -> None:
    path = line((0.5, 0.5), (1.5, 0.5), (1e30, 0.5), (float("nan"), 0.0))
    picture = draw_path(landscape("double_well"), path, line((0.0, 0.0)))
    assert near(pixel(picture, 1.0, 0.5), PATH)
    assert picture.isfinite().all()


def test_cells_show_basin_and_depth_with_lr_to_the_right_and_beta_upwards() -> None:
    basin = torch.tensor([[0, 1], [0, -1]])  # (lr, beta)
    picture = draw_basins(basin, torch.tensor([[1e-12, 1e-12], [10.0, torch.nan]]), (0, 0))
    assert picture.shape == (3, 2 * CELL + 3, 2 * CELL + 3)
    middle, step = CELL // 2 + 1, CELL + 1
    top_left, top_right, low_left, low_right = (
        picture[:, middle + row * step, middle + column * step] for row in (0, 1) for column in (0, 1)
    )
    torch.testing.assert_close(top_left, BASINS[1])
    torch.testing.assert_close(top_right, GREY)
    torch.testing.assert_close(low_left, BASINS[0])
    torch.testing.assert_close(low_right, 0.4 * BASINS[0])
    assert (picture[:, step + 2, 2] == 1).all()  # the chosen cell's frame
    assert not (picture[:, step + 2, step + 2] == 1).all()
