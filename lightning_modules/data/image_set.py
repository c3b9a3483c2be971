"""The data part that all image sets share: arrays in, two loaders out."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytorch_lightning as pl
import torch

from lightning_modules.data.growth import Growth
from lightning_modules.data.image_arrays import RANGES, ImagePart, ImageSource, View, digest, shuffled, split
from lightning_modules.data.loader import TensorLoader, check_batch_size, whole_batches
from lightning_modules.data.sampling import Sampling, checked_sampling, process


class ImageSet(pl.LightningDataModule):
    """Images in memory as batches (x float32 (B, C, H, W), y int64 (B,)); subclasses say where to read them.

    Attributes: `name`, `source`, `shape` (C, H, W), `n_classes`, `n_train`, `n_val`, `value_range`, and `digest`, which
    changes with whatever a model sees. A batch that grows needs a Trainer that asks for its loaders every epoch; a run
    of taolu's has one. `batches_per_step` batches of `batch_size` rows come as one where a training step takes several.

    Args:
        read: Reads the images; called once the settings are checked.
        name: What to call the set in messages and records.
        view: How a model sees the images.
        batch_size: Images a process and step, in the first epoch.
        sampling: Order of the training images.
        seed: Of that order.
        growth: Of the training batch.
        validation_fraction: Share that validates where the source has no test part.
        split_seed: Of that split, and of the order of the validation images.
    """

    name: str

    def __init__(
        self,
        read: Callable[[], ImageSource],
        *,
        name: str,
        view: View,
        batch_size: int,
        sampling: Sampling,
        seed: int,
        growth: Growth | None = None,
        validation_fraction: float = 0.1,
        split_seed: int = 0,
    ) -> None:
        super().__init__()
        self.name = name
        self.batch_size = batch_size
        self.sampling: Sampling = checked_sampling(sampling)
        self.seed = seed
        self.growth = growth or Growth()
        self.batches_per_step = 1
        check_batch_size(batch_size, None, "")
        self.growth.check(batch_size)
        view.check()
        if not 0 < validation_fraction < 1:
            raise ValueError(
                f"data.validation_fraction = {validation_fraction}: must lie in (0, 1); 0.1 keeps 10 % to validate on"
            )
        source = read()
        if source.test is None:
            train, validation = split(source.train, validation_fraction, split_seed)
        else:
            train, validation = source.train, shuffled(source.test, split_seed)
        self._hold(train, validation, view)
        self.source = source.where
        check_batch_size(batch_size, self.n_train, f"training images of {name}")

    def train_dataloader(self) -> TensorLoader:
        """Batches of the training images in the order that `sampling` names, as large as this epoch's are."""
        epoch, limit = 0, 1.0
        if self.trainer is not None:
            epoch, limit = self.trainer.current_epoch, self.trainer.limit_train_batches
            if self.growth.is_on and getattr(self.trainer, "reload_dataloaders_every_n_epochs", 0) != 1:
                raise ValueError(
                    f"data.batch_growth = {self.growth.factor}: needs a Trainer that asks for its loaders every epoch;"
                    " give it reload_dataloaders_every_n_epochs=1"
                )
            module = self.trainer.lightning_module
            self.batches_per_step = batches_per_step(type(module), getattr(module, "hparams", {}))
        size = self.batch_size_at(epoch) * self.batches_per_step
        return TensorLoader(self._train, size, sampling=self.sampling, seed=self.seed, limit=limit)

    def val_dataloader(self) -> TensorLoader:
        """Batches of every validation image once, in the order of their rows."""
        return TensorLoader(self._validation, self.batch_size, sampling=None)

    def rows(self, part: Literal["train", "validation"]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (N, C, H, W) and labels (N,) of a part, in the order of their rows; not to be written into."""
        return self._train if part == "train" else self._validation

    def batch_size_at(self, epoch: int, n_processes: int | None = None) -> int:
        """Training images a process and step in that epoch, from 0: a function of the settings alone.

        Args:
            epoch: From 0.
            n_processes: That share the images; None = as many as there are now.
        """
        n_rows = self.n_train // self.batches_per_step
        return self.growth.batch_size(self.batch_size, epoch, n_rows, n_processes or process()[1])

    def batches_in_epoch(self, epoch: int, n_processes: int | None = None) -> int:
        """Training batches of that epoch on each process; ValueError where there is none. Arguments as above."""
        n_processes = n_processes or process()[1]
        size = self.batch_size_at(epoch, n_processes)
        if self.batches_per_step > 1 and size * self.batches_per_step * n_processes > self.n_train:
            raise ValueError(
                f"data.batch_size = {size}: a step takes {self.batches_per_step} such batches on each of {n_processes}"
                f" processes, more than the {self.n_train} training rows; use at most"
                f" {self.n_train // (self.batches_per_step * n_processes)}"
            )
        return whole_batches(self.n_train, size * self.batches_per_step, n_processes)

    def _hold(self, train: ImagePart, validation: ImagePart, view: View) -> None:
        if train.pixels != validation.pixels:
            raise ValueError(
                f"{self.name}: training pixels lie in {RANGES[train.pixels]}, test pixels in"
                f" {RANGES[validation.pixels]}; both must lie in the same range: scale them alike"
            )
        x_train, x_val = view.tensor(train), view.tensor(validation)
        if x_train.shape[1:] != x_val.shape[1:]:
            raise ValueError(
                f"{self.name}: training images are {tuple(x_train.shape[1:])}, test images {tuple(x_val.shape[1:])}"
                " (channels, height, width); set data.image_size and data.channels to make them equal"
            )
        self._train = (x_train, torch.from_numpy(train.labels))
        self._validation = (x_val, torch.from_numpy(validation.labels))
        self.n_train, self.n_val = len(x_train), len(x_val)
        channels, height, width = x_train.shape[1:]
        self.shape: tuple[int, int, int] = (channels, height, width)
        self.n_classes = int(max(train.labels.max(), validation.labels.max())) + 1
        self.value_range = RANGES[view.pixels]
        self.digest = digest(train, validation, view)


def batches_per_step(kind: type[Any], settings: Mapping[str, Any]) -> int:
    """How many of the data's batches a training step of a module takes at once.

    Args:
        kind: The module's class. Its attribute `batches_per_step`, if any, names the setting that says how many.
        settings: The module's.
    """
    name = getattr(kind, "batches_per_step", None)
    return max(1, int(settings[name])) if name else 1
