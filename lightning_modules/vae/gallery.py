"""What a VAE keeps of a validation to show, and the pictures and arrays made of it.

Shapes: B images of C channels, H x W pixels; D latent dimensions; (n, m) a grid of images.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lightning_modules.data.gathering import gathered
from lightning_modules.data.sampling import process
from lightning_modules.grids import enlarge, tile
from lightning_modules.vae.drawing import beside_reconstructions, manifold, scatter, ways

if TYPE_CHECKING:
    from lightning_modules.vae.module import VAE, Batch

N_KEPT = 16  # validation images shown beside their reconstructions
N_CODES = 2000  # validation images whose codes are shown
ROWS, COLUMNS = 8, 8
MOST_CLASSES = 16  # that get a column of samples each


class Gallery:
    """First images of the validation set and the codes of this validation."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []  # images, and labels if batches have them
        self.codes: list[tuple[Tensor, Tensor | None]] = []  # posterior means (B, D), labels

    def keep(self, batch: Batch, mean: Tensor | None, is_first: bool) -> None:
        """Takes what is to be shown of a batch.

        Args:
            batch: Images, alone or first in a pair with their labels.
            mean: Their posterior means (B, D), where there is an encoder.
            is_first: Whether it is the first of the validation set.
        """
        parts = [batch] if isinstance(batch, Tensor) else list(batch)
        if is_first:
            self.kept = [part[:N_KEPT].clone() for part in parts[:2]]  # a slice would keep the whole batch
        if mean is not None and sum(len(codes) for codes, _ in self.codes) * process()[1] < N_CODES:
            self.codes.append((mean, parts[1] if len(parts) > 1 and _are_classes(parts[1]) else None))

    def gather(self) -> None:
        """Puts together what the processes took; all of them must call it."""
        if process()[1] == 1:
            return
        self.kept = [torch.cat(gathered([part]))[:N_KEPT] for part in self.kept]
        codes, labels = gathered([codes for codes, _ in self.codes]), [y for _, y in self.codes if y is not None]
        together = gathered(labels) if len(labels) == len(self.codes) else []
        self.codes = list(zip_longest(codes, together))

    def forget_codes(self) -> None:
        """Lets the next validation begin."""
        self.codes = []

    @torch.no_grad()
    def pictures(self, model: VAE) -> dict[str, Tensor]:
        """Images by name, each (C, H, W) in [0, 1].

        `samples`, from the same noise every time, of a conditional VAE a column for each class; `reconstructions`;
        `manifold` of a 2-D latent space with a prior, else `interpolation` between validation images; `latent`, their
        codes coloured by class.
        """
        columns = model.n_classes if model.n_classes and model.n_classes <= MOST_CLASSES else COLUMNS
        grids = {"samples": tile(self._shown(model, model.sample(ROWS * columns, model.seed)), columns)}
        if self.kept and model.has_encoder:
            x, y = self._kept(model)
            grids["reconstructions"] = beside_reconstructions(
                self._shown(model, x), self._shown(model, model(x, y)), COLUMNS
            )
        if (grid := self._grid(model)) is not None:
            images = self._shown(model, grid[1])
            grids["manifold" if _has_manifold(model) else "interpolation"] = tile(images.flatten(0, 1), images.shape[1])
        if self.codes:
            grids["latent"] = scatter(*self._all_codes())
        return {name: enlarge(grid).cpu() for name, grid in grids.items()}

    @torch.no_grad()
    def arrays(self, model: VAE) -> dict[str, dict[str, np.ndarray]]:
        """The file latent.npz.

        `grid` (n, m, D) and `decoded` uint8 (n, m, H, W[, C]): the points of the manifold, or of lines between codes of
        validation images, and the images there; `codes` (B, D) and `labels` (B,) of validation images.
        """
        found: dict[str, Tensor] = {}
        if (grid := self._grid(model)) is not None:
            found["grid"] = grid[0]
            found["decoded"] = (255 * self._shown(model, grid[1])).round().byte().movedim(2, -1).squeeze(-1)
        if self.codes:
            found["codes"], labels = self._all_codes()
            found |= {} if labels is None else {"labels": labels}
        return {"latent.npz": {name: array.cpu().numpy() for name, array in found.items()}} if found else {}

    def _kept(self, model: VAE) -> tuple[Tensor, Tensor | None]:
        return self.kept[0], self.kept[1] if model.n_classes else None

    def _grid(self, model: VAE) -> tuple[Tensor, Tensor] | None:
        """Points (n, m, D) and the images there (n, m, C, H, W); None where there is no way to have them."""
        y = None
        if _has_manifold(model):
            z = manifold().to(model.device)
        elif not model.has_encoder or not self.kept or len(self.kept[0]) < 2:
            return None
        else:
            x, y = self._kept(model)
            z = ways(model.encode(x, y)[0], COLUMNS)
            if y is not None:  # a line keeps the label of the image it starts from
                y = y[: 2 * len(z) : 2].repeat_interleave(COLUMNS)
        return z, torch.unflatten(model.decode(z.flatten(0, 1), y), 0, z.shape[:2])

    def _all_codes(self) -> tuple[Tensor, Tensor | None]:
        """Codes (B, D) and, where all batches had them, labels (B,)."""
        labels = [labels for _, labels in self.codes if labels is not None]
        codes = torch.cat([codes for codes, _ in self.codes])[:N_CODES].float().cpu()
        return codes, torch.cat(labels)[:N_CODES].cpu() if len(labels) == len(self.codes) else None

    def _shown(self, model: VAE, images: Tensor) -> Tensor:
        """Pixels mapped to [0, 1]: from [0, 1], or for a Gaussian decoder from the range of the images kept."""
        low, high = (0.0, 1.0)
        if model.decoder_name == "gaussian" and self.kept:
            low, high = (float(bound) for bound in self.kept[0].aminmax())
        return ((images.float() - low) / (high - low or 1.0)).clamp(0, 1)


def _has_manifold(model: VAE) -> bool:
    """Whether the prior's plane shows all there is."""
    return model.latent_dim == 2 and not model.n_classes and model.has_likelihood


def _are_classes(y: Tensor) -> bool:
    return y.ndim == 1 and y.dtype == torch.int64 and bool((y >= 0).all())
