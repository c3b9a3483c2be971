"""What is known of an optimizer's motion, against the optimizer itself."""

from typing import Any

import pytest
import torch

from lightning_modules.dynamics import motion
from lightning_modules.optimizers import build

LINEAR = [
    ("sgd", {}, 2.0),
    ("momentum", {"beta": 0.9}, 3.8),
    ("momentum", {"beta": 0.5, "form": "torch"}, 3.0),
    ("nesterov", {"beta": 0.9}, 3.8 / 2.8),
    ("nesterov", {"beta": 0.9, "form": "half"}, 2.0),
    ("torch.SGD", {"momentum": 0.9}, 3.8),
    ("torch.SGD", {"momentum": 0.9, "nesterov": True}, 3.8 / 2.8),
    ("torch.SGD", {"momentum": 0.5, "dampening": 0.5}, 6.0),
]


def end(name: str, settings: dict[str, Any], lr: float, curvature: float, n_steps: int) -> float:
    """Where the optimizer is after so many steps from 1 on curvature theta^2 / 2; on a slope of 1 where that is 0."""
    theta = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = build(name, [theta], lr=lr, **settings)
    for _ in range(n_steps):
        theta.grad = curvature * theta.detach() if curvature else torch.ones(1, dtype=torch.float64)
        optimizer.step()
    return theta.item()


@pytest.mark.parametrize(("name", "settings", "limit"), LINEAR)
def test_the_limit_is_where_steps_on_a_quadratic_begin_to_diverge(
    name: str, settings: dict[str, Any], limit: float
) -> None:
    known = motion(build(name, [torch.zeros(1)], lr=0.1, **settings))
    assert known is not None
    assert known.limit == pytest.approx(limit)
    assert abs(end(name, settings, 0.999 * limit, 1.0, 6000)) < 1
    assert abs(end(name, settings, 1.001 * limit, 1.0, 6000)) > 1


@pytest.mark.parametrize(("name", "settings", "limit"), LINEAR)
def test_the_effective_lr_is_the_distance_a_step_on_a_slope(name: str, settings: dict[str, Any], limit: float) -> None:
    known = motion(build(name, [torch.zeros(1)], lr=0.1, **settings))
    assert known is not None
    assert known.lr == 0.1
    assert end(name, settings, 0.1, 0.0, 300) - end(name, settings, 0.1, 0.0, 301) == pytest.approx(known.lr_effective)


def test_an_implicit_step_has_no_limit_and_others_no_known_motion() -> None:
    implicit = motion(build("nesterov", [torch.zeros(1)], lr=0.1, form="implicit"))
    assert implicit is not None
    assert implicit.limit is None
    assert motion(build("torch.Adam", [torch.zeros(1)], lr=0.1)) is None
    assert motion(torch.optim.SGD([torch.zeros(1)], lr=0.1, maximize=True)) is None
    two = [{"params": [torch.zeros(1)], "lr": lr} for lr in (0.1, 0.2)]
    assert motion(torch.optim.SGD(two)) is None
