"""How several processes train together: which flags a module gets, and what is refused before there is a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.build import build_parts, check_session, n_batches, planned_steps
from experiments.cli import main
from experiments.config import resolve
from experiments.errors import ConfigError
from experiments.strategies import ExactDDP, strategy_for
from experiments.trainer import TrainerOptions
from tests.gpt2.small import inputs

TWO = {"trainer.devices": 2, "trainer.accelerator": "cpu"}


def options_of(name: str, more: dict[str, Any]) -> tuple[Any, Any, TrainerOptions]:
    config = resolve(name, overrides=more)
    return *build_parts(config), TrainerOptions.from_config(config.values["trainer"])


@pytest.mark.parametrize(("name", "unused"), [("vae", False), ("wgan_gp", True), ("dirac_gan", True), ("paths", True)])
def test_a_module_optimised_by_hand_may_leave_parameters_without_gradient(name: str, unused: bool) -> None:
    module, _, options = options_of(name, TWO)
    strategy = strategy_for(module, options, 2)
    assert isinstance(strategy, ExactDDP)
    assert strategy._ddp_kwargs == {"find_unused_parameters": unused}
    assert strategy_for(module, options, 1) == "auto"


FSDP = {**TWO, "trainer.strategy": "fsdp"}
REFUSED = [
    ("vae", {"trainer.strategy": "ddp_spawn"}, "trainer.strategy = ddp_spawn: its processes give nothing back"),
    (
        "vae",
        {"trainer.strategy": "dpp"},
        "trainer.strategy = dpp: unknown (did you mean 'ddp'?); allowed: auto, ddp, fsdp",
    ),
    ("vae", FSDP, "trainer.strategy = fsdp: a VAE is needed whole; use ddp"),
    ("wgan", FSDP, "trainer.strategy = fsdp: a GAN is needed whole; use ddp"),
    ("gpt2_pydoc", FSDP, "trainer.strategy = fsdp: needs GPUs; use ddp, which processors have too"),
    ("gpt2_finetune", TWO, "data: 1 row to validate on for 2 processes, each needs one; use fewer processes"),
    ("vae", {**TWO, "data.batch_size": 1000}, "data.batch_size = 1000 on each of 2 processes: larger than the 1437"),
]


@pytest.mark.parametrize(("name", "more", "message"), REFUSED)
def test_what_processes_cannot_do_together_is_refused_in_one_line(
    name: str, more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_session(*options_of(name, {**inputs(name, tmp_path), **more}))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


SHARDED = [
    ({"optimizer": "adafactor"}, "optimizer.class = adafactor needs whole tensors"),
    ({"optimizer": "rmsprop", "optimizer.scale": "scalar"}, "optimizer.scale = scalar needs whole tensors"),
    ({"optimizer": "tiger", "optimizer.scale_parameter": True}, "optimizer.scale_parameter = True needs whole"),
    ({"trainer.gradient_clip_val": 1.0}, "no process has the whole gradient to clip"),
    ({"trainer.dynamics": ["updates"]}, "trainer.dynamics measures whole weights"),
]


@pytest.mark.parametrize(("more", "message"), SHARDED)
def test_what_needs_whole_weights_is_refused_by_name_under_fsdp(
    more: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)  # the refusals behind the one of a machine without GPU
    settings = {**inputs("gpt2_zh", tmp_path), "trainer.gradient_clip_val": None, **more}
    module, data, _ = options_of("gpt2_zh", settings)
    options = TrainerOptions.from_config(
        {**resolve("gpt2_zh", overrides=settings).values["trainer"], "strategy": "fsdp"}
    )
    with pytest.raises(ConfigError, match=f"^trainer.strategy = fsdp: {message}"):
        check_session(module, data, options)


def test_the_steps_of_a_text_are_shared_by_its_processes(tmp_path: Path) -> None:
    _, alone, options = options_of("gpt2_zh", {**inputs("gpt2_zh", tmp_path), "data.batch_size": 4})
    _, halves, two = options_of("gpt2_zh", {**inputs("gpt2_zh", tmp_path), **TWO, "data.batch_size": 2})
    assert planned_steps(options, alone) == planned_steps(two, halves)
    assert n_batches(halves, 2) == n_batches(alone) == (n_batches(halves) or 0) // 2


def test_a_check_and_a_dry_run_speak_of_all_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "classifier",
        "--trainer.devices",
        "2",
        "--trainer.accelerator",
        "cpu",
        "--store",
        str(tmp_path / "mlruns"),
    ]
    assert main(["run", *words, "--dry_run"]) == 0
    assert "processes 2  batches an epoch 22  steps 440" in capsys.readouterr().out
    assert main(["check", *words]) == 0
    assert "batch 64, noise scale" in capsys.readouterr().out
