"""The VAE on a GPU against the same run on the processor: the same losses within rounding, and steps a second.

Imports only `lightning_modules`, so that it runs where the rest is not installed. Writes results/vae_device.json.
"""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_modules.data.digits import Digits
from lightning_modules.data.loader import TensorLoader
from lightning_modules.data.sampling import draw
from lightning_modules.vae import VAE

STEPS = 200
RESULTS = Path(__file__).parent / "results" / "vae_device.json"


class Losses(pl.Callback):
    """The loss of every step, kept on the device until the end, and the seconds between the 20th step and the last."""

    def __init__(self) -> None:
        self.values: list[torch.Tensor] = []
        self.started = 0.0
        self.seconds = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        self.values.append(outputs["loss"])
        if len(self.values) == 20:
            _synchronize()
            self.started = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _synchronize()
        self.seconds = time.perf_counter() - self.started


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def losses(accelerator: str, precision: Any, network: Any) -> dict[str, Any]:
    """Losses of 200 steps on digits and the rate, from the same seed."""
    pl.seed_everything(0, verbose=False)
    data = Digits(batch_size=128)
    module = VAE(latent_dim=2, network=network, shape=data.shape, optimizer={"class": "torch.Adam", "lr": 1e-3})
    callback = Losses()
    trainer = _trainer(accelerator, precision, callback, max_steps=STEPS)
    trainer.fit(module, datamodule=data)
    validation = trainer.validate(module, datamodule=data, verbose=False)[0]["val/elbo"]
    return {
        "loss": torch.stack(callback.values).float().tolist(),
        "val_elbo": validation,
        "steps_per_second": (STEPS - 20) / callback.seconds,
    }


def rate(accelerator: str, precision: Any) -> float:
    """Steps a second of a 784-256-16 VAE at batch 100 on drawn images."""
    x = torch.rand(10_000, 1, 28, 28, generator=draw(0, "benchmark"))
    loader = TensorLoader((x, torch.zeros(len(x), dtype=torch.int64)), 100)
    callback = Losses()
    module = VAE(latent_dim=16, shape=(1, 28, 28))
    _trainer(accelerator, precision, callback, max_steps=1000).fit(module, loader)
    return 980 / callback.seconds


def _trainer(accelerator: str, precision: Any, callback: pl.Callback, max_steps: int) -> pl.Trainer:
    return pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,
        max_steps=max_steps,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def main() -> None:
    gpu = torch.cuda.is_available()
    rows: dict[str, Any] = {}
    for network in ("mlp", "cnn"):
        reference = losses("cpu", "32-true", network)
        rows[f"{network} cpu 32-true"] = _row(reference, reference)
        for precision in ("32-true", "bf16-mixed") if gpu else ("bf16-mixed",):
            device = "gpu" if gpu else "cpu"
            rows[f"{network} {device} {precision}"] = _row(losses(device, precision, network), reference)
    rates = {"cpu 32-true": rate("cpu", "32-true")}
    if gpu:
        rates |= {f"gpu {precision}": rate("gpu", precision) for precision in ("32-true", "bf16-mixed")}
    result = {
        "machine": torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": version("pytorch-lightning"),
        },
        "digits_200_steps": rows,
        "steps_per_second_784_256_16_batch_100": rates,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _row(found: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    gaps = [abs(a - b) / abs(b) for a, b in zip(found["loss"], reference["loss"], strict=True)]
    return {
        "largest_relative_gap": max(gaps),
        "last_loss": found["loss"][-1],
        "val_elbo": found["val_elbo"],
        "steps_per_second": found["steps_per_second"],
    }


if __name__ == "__main__":
    main()
