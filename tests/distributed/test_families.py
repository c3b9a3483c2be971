"""One and two processes of the same global batch: the same weights, the same values, one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.config import resolve
from experiments.run import run
from experiments.store.location import Store, locate
from tests.distributed.pair import pair

KEPT = "tests/distributed/kept.py"
STEPS = 20
SHARED: dict[str, Any] = {
    "trainer.max_epochs": None, "trainer.max_steps": STEPS, "trainer.accelerator": "cpu", "threads": 1,
    "trainer.precision": "64-true", "trainer.limit_train_batches": 7,
}  # fmt: skip
GAN = {
    "model": f"{KEPT}:ToldGAN", "model.network": "mlp", "model.latent_dim": 8, "model.width": 32,
    "model.ema_decay": 0.9, "data.pixels": "symmetric", "trainer.quality.metrics": [],
}  # fmt: skip
TEXT = {
    "model": f"{KEPT}:ToldGPT2", "model.n_layers": 1, "model.width": 32, "model.n_heads": 4, "data.block_size": 32,
    "data.packing": "best_fit", "trainer.accumulate_grad_batches": 2, "trainer.limit_train_batches": 14,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, int, dict[str, Any]]] = {  # config, rows of a global batch, options
    "vae": ("vae", 64, {"model": f"{KEPT}:ToldVAE", "trainer.quality.metrics": ["sliced_wasserstein", "nll"]}),
    "classifier": (
        "lipschitz_classifier",
        50,
        {
            "model": f"{KEPT}:ToldClassifier", "model.constraint": "sn", "model.robustness": True,
            "data": "gaussians", "data.n_points": 1004,
        },
    ),  # fmt: skip
    "sngan": ("sngan", 32, {**GAN, "model.loss": "hinge", "model.constraint": "sn"}),
    "wgan_gp": ("wgan_gp", 32, {**GAN, "model.loss": "wasserstein", "model.constraint": "gp", "model.n_critic": 2}),
    "gpt2": ("gpt2_zh", 4, TEXT),
}


def options(name: str, folder: Path, processes: int) -> tuple[str, dict[str, Any]]:
    """Experiment and options of a family on so many processes, the global batch being the same."""
    config, rows, own = FAMILIES[name]
    found = {**SHARED, **own, "data.batch_size": rows // processes, "trainer.devices": processes}
    if name == "gpt2":
        found |= {"data.path": str(ragged_text(folder)), "data.cache_dir": str(folder / "tokens")}
    return config, found


def ragged_text(folder: Path) -> Path:
    """Prompts with completions of very different lengths, so that batches have as different numbers of targets."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pairs.jsonl"
    rows = [{"prompt": "今天天气"[: 1 + i % 4], "completion": "不错双十一节。" * (1 + i * i % 5)} for i in range(150)]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def train(place: str, folder: Path, processes: int) -> None:
    """All families one after another; the id of each run goes to a file."""
    for name in FAMILIES:
        config, found = options(name, folder, processes)
        result = run(resolve(config, overrides=found), store=locate(place), say=print)
        assert (result.status, result.error) == ("FINISHED", ""), (name, result.error)
        (folder / f"{name}.{processes}").write_text(result.run_id)


def test_two_processes_train_as_one(store: Store, tmp_path: Path) -> None:
    place = str(store.folder)
    ragged_text(tmp_path)
    train(place, tmp_path, 1)
    pair(train, tmp_path / "ranks", place, tmp_path, 2)


def train_named(place, folder, processes, names):
    global FAMILIES
    FAMILIES = {n: FAMILIES[n] for n in names}
    train(place, folder, processes)
