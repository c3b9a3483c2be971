"""What a module makes, stored after validations: `pictures()`, `arrays()` and `texts()`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image

from experiments.logger import step_of
from experiments.store.files import atomic_path, write_text


class Pictures(pl.Callback):
    """Stores what a module makes after validations, as PNG, as files of NumPy arrays, and as JSON.

    `pictures()` maps names to tensors, `arrays()` maps file names such as latent.npz to named arrays, `texts()` maps
    names to lists of {prompt, text}.

    Args:
        folder: of the run.
        every: epochs between two drawings; the last epoch is always drawn.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.folder = folder
        self.every = every

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws, on rank zero."""
        last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.should_stop
        if (
            trainer.sanity_checking
            or not trainer.is_global_zero
            or not (last or (trainer.current_epoch + 1) % self.every == 0)
        ):
            return
        with torch.no_grad():
            pictures: dict[str, torch.Tensor] = getattr(pl_module, "pictures", dict)()
            files: dict[str, dict[str, Any]] = getattr(pl_module, "arrays", dict)()
            texts: dict[str, list[dict[str, str]]] = getattr(pl_module, "texts", dict)()
        for name, picture in pictures.items():
            with atomic_path(self.folder / "media" / name / f"{step_of(trainer):08d}.png") as part:
                as_image(picture).save(part, format="PNG", compress_level=1)
        for name, rows in texts.items():
            text = json.dumps(rows, ensure_ascii=False, indent=1)
            write_text(self.folder / "media" / name / f"{step_of(trainer):08d}.json", text)
        for name, arrays in files.items():
            with atomic_path(self.folder / name) as part, part.open("wb") as file:
                np.savez_compressed(file, **arrays)


def as_image(picture: torch.Tensor) -> Image.Image:
    """A picture from a tensor (C, H, W), uint8 or float in [0, 1]."""
    picture = picture.detach().cpu()
    if picture.is_floating_point():
        picture = (picture.float().clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = picture.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
