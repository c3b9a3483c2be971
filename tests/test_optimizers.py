"""Optimizers and schedules by name."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.optimizers import OPTIMIZERS, SCHEDULES, build, configure
from lightning_modules.optimizers.schedules import Constant, Cosine, Step
from lightning_modules.parts import load_class


def weights() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_named_optimizer_steps_as_torchs_own(name: str) -> None:
    ours, theirs = weights(), weights()
    pair = build(name, [ours], lr=0.1), load_class(name, OPTIMIZERS)([theirs], lr=0.1)
    for _ in range(3):
        for parameter, optimizer in zip((ours, theirs), pair, strict=True):
            optimizer.zero_grad()
            parameter.square().sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)  # the fused step sums in another order


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("torch.Adam", {"lr": 0}, "optimizer.lr = 0: must be greater than 0 and finite; 1e-3 is a good start"),
        ("torch.SGD", {"lr": -1.0}, "optimizer.lr = -1.0: must be greater than 0"),
        ("torch.Adam", {"lr": math.nan}, "optimizer.lr = nan: must be greater than 0"),
        ("torch.Adam", {"lr": math.inf}, "optimizer.lr = inf: must be greater than 0 and finite"),
        ("torch.Adam", {"betas": [0.9, 1.5]}, r"optimizer.betas = \[0.9, 1.5\]: each must lie in \[0, 1\)"),
        ("torch.Adam", {"betas": [-0.1, 0.9]}, r"each must lie in \[0, 1\)"),
        ("torch.Adam", {"weight_decay": -1}, "optimizer.class = torch.Adam: Invalid weight_decay value: -1"),
        ("torch.SGD", {"momentom": 0.9}, "optimizer.class = torch.SGD: .*momentom"),
        ("adam", {}, r"unknown name 'adam' \(did you mean 'torch.Adam'\?\); allowed: torch.Adam, torch.AdamW"),
        ("torch.nn:Linear", {}, "optimizer.class = torch.nn:Linear: must be a torch.optim.Optimizer"),
    ],
)
def test_settings_no_run_can_use_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, [weights()], **settings)


def test_betas_may_be_a_list_of_whole_numbers() -> None:
    assert build("torch.Adam", [weights()], betas=[0, 0.9]).defaults["betas"] == (0.0, 0.9)


def test_the_fused_step_is_taken_unless_the_settings_choose() -> None:
    assert build("torch.Adam", [weights()]).defaults["fused"] is True
    assert build("torch.Adam", [weights()], foreach=True).defaults["fused"] is None
    assert build("torch.Adam", [weights()], fused=False).defaults["fused"] is False


def test_without_settings_the_optimizer_is_adam_and_the_rate_stays() -> None:
    optimizer = configure([weights()], None, None)
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["lr"] == 1e-3


def test_a_schedule_multiplies_the_rate_every_step() -> None:
    chosen = {"class": "step", "every": 2, "gamma": 0.5}
    both = configure([weights()], {"class": "torch.SGD", "lr": 0.4}, chosen)
    rates = []
    for _ in range(5):
        rates.append(both["optimizer"].param_groups[0]["lr"])
        both["optimizer"].step()
        both["lr_scheduler"]["scheduler"].step()
    assert rates == [0.4, 0.4, 0.2, 0.2, 0.1]
    assert both["lr_scheduler"]["interval"] == "step"


@given(warmup=st.integers(0, 20), length=st.integers(1, 50), final=st.floats(0, 1), step=st.integers(0, 200))
def test_cosine_lies_between_zero_and_one_and_ends_at_its_share(
    warmup: int, length: int, final: float, step: int
) -> None:
    factor = Cosine(warmup, final, warmup + length)
    assert -1e-12 <= factor(step) <= 1 + 1e-12
    assert factor(warmup) == pytest.approx(1)
    assert factor(warmup + length + step) == pytest.approx(final)


def test_a_cosine_without_length_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match=r"schedule\.steps is not set"):
        Cosine()(0)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Cosine, {"warmup_steps": -1}, "schedule.warmup_steps = -1: must be at least 0"),
        (Cosine, {"final_fraction": 2.0}, r"schedule.final_fraction = 2.0: must lie in \[0, 1\]"),
        (Cosine, {"warmup_steps": 5, "steps": 5}, "schedule.steps = 5: must exceed schedule.warmup_steps = 5"),
        (Step, {"every": 0}, "schedule.every = 0: must be at least 1"),
        (Step, {"gamma": 0.0}, r"schedule.gamma = 0.0: must lie in \(0, 1\]"),
    ],
)
def test_schedules_refuse_what_they_cannot_draw(kind: type[Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**settings)


def test_every_named_schedule_can_be_loaded() -> None:
    assert {load_class(name, SCHEDULES) for name in SCHEDULES} == {Constant, Cosine, Step}
