"""Friction and time step into alpha and beta, and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.optimizers.conversions import alpha_beta, friction_time_step, scaled_beta


@given(st.floats(0, 1e3), st.floats(1e-4, 1e2))
def test_going_and_returning_changes_nothing(friction: float, time_step: float) -> None:
    friction = min(friction, 2 / time_step * 0.999)
    back = friction_time_step(*alpha_beta(friction, time_step))
    assert back == pytest.approx((friction, time_step), rel=1e-9, abs=1e-9 / time_step)


@given(st.floats(1e-8, 1e3), st.floats(0, 1))
def test_returning_and_going_changes_nothing(alpha: float, beta: float) -> None:
    assert alpha_beta(*friction_time_step(alpha, beta)) == pytest.approx((alpha, beta), rel=1e-9, abs=1e-9)


def test_without_friction_the_velocity_is_kept_whole() -> None:
    assert alpha_beta(0, 0.1) == pytest.approx((0.01, 1.0))


@given(st.floats(0.9, 0.999), st.floats(0.01, 4))
def test_the_beta_rule_keeps_the_friction_to_first_order(beta: float, ratio: float) -> None:
    friction, _ = friction_time_step(1e-3, beta)
    scaled, _ = friction_time_step(1e-3 * ratio, scaled_beta(beta, ratio))
    assert scaled == pytest.approx(friction, rel=1.5 * (1 - beta) * max(1, math.sqrt(ratio)))


def test_the_beta_rule_at_a_quarter_of_the_rate_is_near_the_exact_beta() -> None:
    friction, time_step = friction_time_step(0.01, 0.9)
    assert scaled_beta(0.9, 0.25) == pytest.approx(0.95)
    assert alpha_beta(friction, time_step / 2)[1] == pytest.approx(0.9487, abs=1e-4)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (alpha_beta, (1.0, 0.0), r"time_step = 0\.0: must be greater than 0 and finite"),
        (alpha_beta, (30.0, 0.1), r"friction = 30\.0: must lie in \[0, 2 / time_step\] = \[0, 20\]"),
        (alpha_beta, (-1.0, 0.1), r"friction = -1\.0: must lie in \[0, 2 / time_step\]"),
        (friction_time_step, (0.0, 0.5), "alpha = 0.0: must be greater than 0 and finite"),
        (friction_time_step, (0.1, 1.5), r"beta = 1\.5: must lie in \[0, 1\]"),
        (scaled_beta, (0.5, 9.0), r"ratio = 9\.0: must lie in \[0, 1 / \(1 - beta\)\^2\] = \[0, 4\]"),
        (scaled_beta, (0.5, math.nan), "ratio = nan: must lie in"),
        (scaled_beta, (2.0, 1.0), r"beta = 2\.0: must lie in \[0, 1\]"),
    ],
)
def test_numbers_without_meaning_are_refused(function: object, arguments: tuple[float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(*arguments)  # type: ignore[operator]
