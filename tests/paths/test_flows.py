"""What an optimizer follows: found by asking it, and its solutions against closed forms."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from lightning_modules.paths.flows import SOFT, Flow, Kind, respond
from lightning_modules.paths.landscapes import landscape


@pytest.mark.parametrize(
    ("name", "settings", "kind", "key"),
    [
        ("torch.SGD", {"lr": 0.1}, "gradient", "momentum"),
        ("torch.SGD", {"lr": 0.1, "weight_decay": 0.01}, "gradient", "momentum"),
        ("torch.SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}, "newton", "momentum"),
        ("sgd", {"lr": 0.1}, "gradient", None),
        ("momentum", {"lr": 0.1}, "newton", "beta"),
        ("momentum", {"lr": 0.1, "half_step_start": True}, "newton", "beta"),
        ("nesterov", {"lr": 0.1, "form": "half"}, "newton", "beta"),
        ("nesterov", {"lr": 0.1, "form": "implicit"}, "newton", "beta"),
        ("rmsprop", {"lr": 0.1}, "sign", None),
        ("rmsprop", {"lr": 0.1, "scale": "scalar"}, "unit", None),
        ("torch.RMSprop", {"lr": 0.1}, "sign", "momentum"),
        ("adam", {"lr": 0.1}, "sign", "betas"),
        ("torch.Adam", {"lr": 0.1}, "sign", "betas"),
        ("torch.Adagrad", {"lr": 0.1}, "sign", None),
        ("adafactor", {}, "sign", "beta1"),
        ("lion", {"lr": 0.1}, "sign", "betas"),
        ("tiger", {"lr": 0.1}, "sign", "beta"),
    ],
)
def test_every_kind_of_optimizer_is_told_by_its_steps(
    name: str, settings: dict[str, Any], kind: str, key: str | None
) -> None:
    response = respond(name, settings, 2)
    assert (response.kind, response.key) == (kind, key)
    assert respond(name, settings, 1).kind == ("sign" if kind == "unit" else kind)


def test_friction_and_time_step_are_read_as_lr_and_beta() -> None:
    response = respond("momentum", {"friction": 1.0, "time_step": 0.5}, 1)  # equation (15) of kexue.fm/archives/5655
    assert (response.lr, response.beta) == pytest.approx((0.25 / 1.25, 0.75 / 1.25))


def test_beta_is_the_first_of_a_pair_and_the_others_stay() -> None:
    response = respond("torch.Adam", {"lr": 0.1, "betas": [0.8, 0.99]}, 1)
    assert (response.beta, response.setting(0.5)) == (0.8, {"betas": (0.5, 0.99)})


def solved(kind: Kind, lr: float, beta: float, steps: int) -> tuple[float, np.ndarray]:
    """Time and theta after so many steps on (x^2 + 4 y^2) / 2 from its start."""
    land = landscape("ravine", kappa=4.0)
    flow, time, theta = Flow(land, kind, land.start), 0.0, np.array([land.start])
    for _ in range(steps):
        duration, theta = flow.advance(lr, beta)
        time += duration
    return time, theta[-1]


def test_gradient_flow_decays_exponentially() -> None:
    time, theta = solved("gradient", 0.1, 0.0, 20)
    assert time == pytest.approx(2.0)
    np.testing.assert_allclose(theta, [-1.8 * math.exp(-2), 0.6 * math.exp(-8)], atol=1e-8)


def test_newtons_equation_swings_as_a_damped_oscillator() -> None:
    lr, beta = 0.02, 0.8
    time, theta = solved("newton", lr, beta, 30)
    gamma = math.sqrt(2 * lr / (1 + beta))
    friction = 2 * (1 - beta) / ((1 + beta) * gamma)
    assert time == pytest.approx(30 * gamma)
    for start, h, found in zip((-1.8, 0.6), (1.0, 4.0), theta, strict=True):
        root = np.sqrt(complex(friction**2 / 4 - h))  # complex where it swings
        exact = (
            start
            * math.exp(-friction * time / 2)
            * (np.cosh(root * time) + friction / (2 * root) * np.sinh(root * time))
        )
        assert found == pytest.approx(exact.real, abs=1e-8)


def test_sign_and_unit_flow_move_by_lr_a_step() -> None:
    steep, scale = 0.1 * 5, 1 - SOFT**2  # slower by half the square of SOFT over the gradient
    _, theta = solved("sign", 0.1, 0.0, 5)
    np.testing.assert_allclose(theta, [-1.8 + steep * scale, 0.6 - steep], atol=1e-3)
    _, theta = solved("unit", 0.01, 0.0, 1)
    assert np.hypot(*(theta - [-1.8, 0.6])) == pytest.approx(0.01, rel=1e-4)


def test_a_flow_at_its_minimum_rests() -> None:
    flow = Flow(landscape("ravine"), "sign", (0.0, 0.0))
    assert (flow.advance(0.1, 0.0)[1] == 0).all()


@pytest.mark.parametrize(
    ("name", "settings"), [("torch.SGD", {"momentum": 0.9}), ("sgd", {}), ("torch.SGD", {"momentum": 0.5})]
)
def test_noise_of_a_temperature_gives_that_variance_in_a_quadratic(name: str, settings: dict[str, Any]) -> None:
    lr, temperature, h = 0.01, 0.5, 2.0
    response = respond(name, {"lr": lr, **settings}, 1)
    s = response.noise_scale(temperature, lr, response.beta)
    beta = response.beta
    exact = lr * s**2 * (1 + beta) / ((1 - beta) * h * (2 * (1 + beta) - lr * h))  # of theta' = theta + v in the limit
    assert exact == pytest.approx(temperature / h, rel=0.02)  # exp(-L/T) has T/h; the law is that of small steps


def test_cells_with_momentum_get_its_noise_where_the_path_has_none() -> None:
    plain, heavy = (respond("torch.SGD", {"lr": 0.01, "momentum": beta}, 1) for beta in (0.0, 0.9))
    assert plain.noise_scale(0.5, 0.01, 0.75) == heavy.noise_scale(0.5, 0.01, 0.75) == 5.0


def test_an_optimizer_without_a_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"optimizer\.lr = None: a map over the learning rate needs a number"):
        respond(f"{__file__}:Rateless", {}, 1)


class Rateless(torch.optim.SGD):
    """An optimizer that finds its rate itself."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=1.0)
        for group in self.param_groups:
            group["lr"] = None

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        closure()
