"""Optimizers and schedules by name."""

from __future__ import annotations

import inspect
import math
import re
from typing import Any

import pytest
import torch

from lightning_modules.optimizers import OPTIMIZERS, build, configure
from lightning_modules.parts import load_class


def weights() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))


TORCHS = [name for name in OPTIMIZERS if name.startswith("torch.")]
OURS = [name for name in OPTIMIZERS if not name.startswith("torch.")]


@pytest.mark.parametrize("name", TORCHS)
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
        ("torch.adam", {}, r"unknown name 'torch.adam' \(did you mean 'torch.Adam'\?\); allowed: sgd, momentum,"),
        ("torch.Adam", {"betas": 0.9}, r"optimizer.betas = 0.9: each must lie in \[0, 1\)"),
        ("torch.Adam", {"betas": [0.9, "x"]}, r"each must lie in \[0, 1\)"),
        ("sgd", {"lr": "fast"}, "optimizer.lr = fast: must be greater than 0 and finite"),
        ("rmsprop", {"beta": 1}, r"^optimizer.beta = 1: must lie in \[0, 1\)$"),
        ("momentum", {"friction": 1.0}, "^optimizer.time_step is missing: friction and time_step go together$"),
        ("momentum", {"momentum": 0.9}, "optimizer.class = momentum: .*momentum"),
        ("torch.nn:Linear", {}, "optimizer.class = torch.nn:Linear: must be a torch.optim.Optimizer"),
    ],
)
def test_settings_no_run_can_use_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, [weights()], **settings)


@pytest.mark.parametrize("name", OURS)
def test_every_optimizer_of_ours_goes_downhill_from_its_own_defaults(name: str) -> None:
    theta = weights()
    optimizer = build(name, [theta])
    before = theta.square().sum().item()
    for _ in range(3):
        optimizer.zero_grad()
        theta.square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert theta.square().sum().item() < before


@pytest.mark.parametrize("name", OURS)
def test_every_setting_of_ours_is_named_and_explained(name: str) -> None:
    kind = load_class(name, OPTIMIZERS)
    names = [key for key in inspect.signature(kind).parameters if key != "params"]
    assert {"lr", "weight_decay", "maximize", "skip_nonfinite"} <= set(names)
    assert all(re.search(rf"^    +{key}: ", inspect.getdoc(kind) or "", re.MULTILINE) for key in names)
    assert "Source: " in (kind.__doc__ or "")


def test_betas_may_be_a_list_of_whole_numbers() -> None:
    for name in ("torch.Adam", "adam"):
        assert build(name, [weights()], betas=[0, 0.9]).defaults["betas"] == (0.0, 0.9)


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
