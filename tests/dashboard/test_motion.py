from __future__ import annotations

import numpy as np
import pytest

from dashboard import motion
from tests.dashboard.test_charts import WORDS, paths

FILM = {**WORDS, "motion_title": "film", "play": "play"}


def walk(dim: int = 1, steps: int = 100, lr: float = 0.1, *, is_first_order: bool = True) -> dict[str, np.ndarray]:
    """Steps to the right at speed 1, the equation's solution beside it, and a map of 2 x 3 cells."""
    duration = lr if is_first_order else lr**0.5
    times = duration * np.arange(steps + 1)
    line = np.repeat(np.linspace(0, 1, steps + 1)[:, None], dim, 1)
    cells = np.broadcast_to(line[::10], (2, 3, steps // 10 + 1, dim))
    return {
        **{name: array.astype("float32") if name in "xyL" else array for name, array in paths(dim).items()},
        **{"t": times, "theta": line, "ode_t": times, "ode_theta": line},
        **{"cell_step": np.arange(0, steps + 1, 10), "cell_theta": cells, "lr": np.array([lr / 2, lr])},
    }


@pytest.mark.parametrize("dim", [1, 2])
def test_what_a_run_stores_is_a_path_with_a_map(dim: int) -> None:
    arrays = walk(dim)
    assert motion.is_path(arrays)
    assert motion.is_map(arrays)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("t", np.zeros(3)),
        ("t", np.arange(101)[::-1]),
        ("theta", np.zeros(101)),
        ("theta", np.zeros((101, 3))),
        ("theta", np.full((101, 2), "<b>")),
        ("ode_theta", np.zeros((0, 2))),
        ("minima", np.zeros(2)),
        ("x", np.array([0.0, np.nan, 1, 2])),
        ("y", np.zeros((2, 3))),
        ("L", np.zeros((4, 6))),
        ("L", np.full((6, 4), np.inf)),
    ],
)
def test_arrays_that_do_not_fit_one_another_are_no_path(name: str, value: np.ndarray) -> None:
    assert not motion.is_path({**walk(2), name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("lr", np.zeros((2, 1))), ("beta", np.zeros(2)), ("basin", np.zeros(6)), ("cell_theta", np.zeros((2, 3, 11, 1)))],
)
def test_arrays_of_another_shape_are_no_map(name: str, value: np.ndarray) -> None:
    assert not motion.is_map({**walk(2), name: value})


def test_without_friction_a_cell_has_the_runs_equation_on_its_own_time() -> None:
    slower = motion.of_cell(walk(lr=0.1), 0, 2, 0.1)
    assert slower["t"][-1] == pytest.approx(5)
    assert slower["ode_t"][-1] == pytest.approx(5)


@pytest.mark.parametrize("lr", [0.01, None])
def test_with_friction_or_an_unknown_lr_a_cell_has_no_equation_and_counts_steps(lr: float | None) -> None:
    cell = motion.of_cell(walk(lr=0.01, is_first_order=False), 1, 0, lr)
    assert cell["ode_theta"].shape == (0, 1)
    assert cell["t"].tolist() == list(range(0, 101, 10))


@pytest.mark.parametrize(("dim", "n_still"), [(1, 2), (2, 2)])
def test_the_film_moves_both_balls_from_the_start_to_the_end_which_is_shown_first(dim: int, n_still: int) -> None:
    figure = motion.motion_chart(walk(dim), FILM)
    assert len(figure.frames) == motion.FRAMES
    assert [trace.name for trace in figure.data[n_still:]] == ["equation", "optimizer"]
    places = [frame.data[1].x[-1] for frame in figure.frames]
    assert places[0] == 0
    assert places[-1] == figure.data[-1].x[-1] == pytest.approx(1, abs=0.02)
    assert np.all(np.diff(places) >= 0)
    assert figure.frames[0].traces == (n_still, n_still + 1)


def test_on_one_coordinate_the_ball_lies_on_the_curve_of_the_loss() -> None:
    arrays = {**walk(), "x": np.linspace(-1, 2, 31), "L": np.linspace(-1, 2, 31) ** 2}
    for frame in motion.motion_chart(arrays, FILM).frames:
        ball = frame.data[1]
        assert ball.y[0] == pytest.approx(ball.x[0] ** 2, abs=0.01)


def test_the_film_ends_when_both_have_come_to_rest() -> None:
    arrays = walk(2)
    still = np.concatenate([arrays["theta"], np.ones((900, 2))])
    long = {**arrays, "t": 0.1 * np.arange(1001), "theta": still, "ode_t": 0.1 * np.arange(1001), "ode_theta": still}
    assert float(motion.motion_chart(long, FILM).frames[-1].name) == pytest.approx(12, abs=0.5)


def test_a_path_that_is_lost_is_drawn_as_far_as_it_is_known() -> None:
    arrays = walk(2)
    arrays["theta"] = np.where(np.arange(101)[:, None] > 50, np.inf, arrays["theta"])
    figure = motion.motion_chart(arrays, FILM)
    assert float(figure.frames[-1].name) == pytest.approx(10)
    assert np.isnan(figure.frames[-1].data[1].x[-1])
    assert np.isfinite(figure.frames[20].data[1].x).all()
    arrays["theta"] = np.where(np.arange(101)[:, None] > 50, 1e200, walk(2)["theta"])
    assert np.isfinite(motion.motion_chart(arrays, FILM).frames[-1].data[1].x).all()
