"""What a config is built into: the length of a run, and what is refused before there is one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.build import build_parts, check_session, planned_steps, set_threads
from experiments.config import resolve
from experiments.errors import ConfigError
from experiments.resume import load_checkpoint
from experiments.run import run
from experiments.store.location import Store
from experiments.store.read import history, read_run
from experiments.trainer import TrainerOptions
from lightning_modules.data.digits import Digits

GROWING = {"data.batch_size": 256, "data.batch_growth": 2, "trainer.max_epochs": 4}  # 5, 2, 1 and 1 batches an epoch
UNJUDGED: dict[str, Any] = {"trainer.quality.metrics": []}


@pytest.mark.parametrize(
    ("more", "steps"),
    [
        ({}, 5 + 2 + 1 + 1),
        ({"trainer.limit_train_batches": 3}, 3 + 2 + 1 + 1),
        ({"trainer.accumulate_grad_batches": 2}, 3 + 1 + 1 + 1),
        ({"data.growth_every": 3}, 5 + 5 + 5 + 2),
        ({"data.max_batch_size": 300}, 5 + 4 + 4 + 4),
        ({"trainer.max_steps": 7}, 7),
    ],
)
def test_the_planned_steps_of_a_growing_batch_are_the_sum_over_its_epochs(more: dict[str, Any], steps: int) -> None:
    config = resolve("vae", overrides={**GROWING, **more})
    data = build_parts(config)[1]
    assert planned_steps(TrainerOptions.from_config(config.values["trainer"]), data) == steps


def test_a_run_takes_the_planned_steps_and_says_so(store: Store) -> None:
    settings = {
        "schedule": "cosine",
        "trainer.accumulate_grad_batches": 2,
        "optimizer": "torch.SGD",
        "threads": 1,
        **UNJUDGED,
    }
    lines: list[str] = []
    config = resolve("vae", overrides={**GROWING, **settings, "optimizer.lr": 1e-3})
    result = run(config, store=store, say=lines.append)
    assert result.status == "FINISHED"
    (schedule,) = load_checkpoint(result.folder / "checkpoints" / "last.ckpt")["lr_schedulers"]
    assert (schedule["lr_lambdas"][0]["steps"], schedule["last_epoch"], schedule["_last_lr"]) == (6, 6, [0.0])
    assert any(line.startswith("epoch 4  step 6/6 ") for line in lines)
    sizes = history(store, result.run_id, ["train/batch_size"])
    assert list(zip(sizes["step"], sizes["value"], strict=True)) == [(0, 512.0), (3, 1024.0), (4, 2048.0)]


def test_a_constant_batch_is_recorded_as_a_setting_alone(store: Store) -> None:
    overrides = {"data.batch_size": 1000, "trainer.max_epochs": 1, **UNJUDGED}
    result = run(resolve("vae", overrides=overrides), store=store)
    assert len(history(store, result.run_id, ["train/batch_size"])) == 0
    assert read_run(store, result.run_id).params["data.batch_size"] == "1000"


def test_processes_share_the_steps_of_an_epoch() -> None:
    options = TrainerOptions(max_epochs=4, accelerator="cpu", devices=2, strategy="ddp")
    assert planned_steps(options, Digits(128, batch_growth=2)) == 5 + 2 + 1 + 1
    assert planned_steps(options, Digits(128)) == 4 * 5


def check(options: dict[str, Any]) -> None:
    config = resolve("vae", overrides=options)
    check_session(*build_parts(config), TrainerOptions.from_config(config.values["trainer"]))


MOMENTUM = {"optimizer": "torch.SGD", "optimizer.momentum": 0.9}
BAD = [
    (
        {**GROWING, "trainer.val_check_interval": 2},
        "trainer.val_check_interval = 2: the last epoch, of batches grown to 1024, has 1 batches; use at most 1",
    ),
    (
        {**GROWING, "trainer.limit_train_batches": 0.6},
        "trainer.limit_train_batches = 0.6: no batch of 1 is left; at least 1",
    ),
    (
        {"data.batch_size": 1000, "trainer.devices": 2, "trainer.strategy": "ddp", "trainer.accelerator": "cpu"},
        "data.batch_size = 1000 on each of 2 processes: larger than the 1437 training rows; use at most 718",
    ),
    ({"data.batch_growth": 0}, "data.batch_growth = 0: must be a whole number of at least 1"),
    ({"data.batch_growth": 1.5}, "data.batch_growth = 1.5: must be a whole number"),
    ({"data.growth_every": 0}, "data.growth_every = 0: must be a whole number of epochs, at least 1"),
    ({"data.max_batch_size": 16}, "data.max_batch_size = 16: must be at least data.batch_size = 128, or null"),
    ({"schedule": "warmup", "schedule.steps": 0}, "schedule.steps = 0: must be at least 1"),
    ({"schedule": "warmup", "schedule.steps": None}, "schedule.steps = null: must be a whole number"),
    ({"schedule": "recipe", "schedule.final_fraction": 0}, "schedule.final_fraction = 0.0: must lie in (0, 1]"),
    (
        {"schedule": "recipe", "schedule.scale_momentum": True, "optimizer": "torch.SGD", "optimizer.lr": 0.1},
        "schedule.scale_momentum = true: torch.SGD has no momentum to scale",
    ),
    (
        {"schedule": "cosine", "schedule.scale_momentum": True, **MOMENTUM},
        "schedule.final_fraction = 0: must be greater than 0 with schedule.scale_momentum",
    ),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_growth_and_schedules_no_run_can_use_are_refused_before_it(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_users_own_schedule_takes_the_runs_length_and_scales_momentum(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "class Mine:\n"
        "    scale_momentum = True\n\n"
        "    def __init__(self, steps: int | None = None) -> None:\n"
        "        self.steps = steps\n\n"
        "    def __call__(self, step: int) -> float:\n"
        "        return 1 - step / (2 * self.steps)\n"
    )
    module, _ = build_parts(resolve("vae", overrides={**GROWING, **MOMENTUM, "schedule": f"{tmp_path}/mine.py:Mine"}))
    both: Any = module.configure_optimizers()
    for _ in range(9):
        both["optimizer"].step()
        both["lr_scheduler"]["scheduler"].step()
    group = both["optimizer"].param_groups[0]
    assert (group["lr"], group["momentum"]) == pytest.approx((0.5e-3, 1 - 0.1 * math.sqrt(0.5)))


def test_threads_are_those_asked_for_else_those_the_environment_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        assert set_threads(None) == torch.get_num_threads() == 1
        assert set_threads(2) == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
