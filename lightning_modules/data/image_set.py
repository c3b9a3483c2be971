"""The data part that all image sets share: arrays in, two loaders out."""

from collections.abc import Callable

import pytorch_lightning as pl
import torch

from lightning_modules.data.image_arrays import RANGES, ImagePart, ImageSource, View, digest, shuffled, split
from lightning_modules.data.loader import TensorLoader, check_batch_size
from lightning_modules.data.sampling import Sampling, checked_sampling


class ImageSet(pl.LightningDataModule):
    """Images in memory as batches (x float32 (B, C, H, W), y int64 (B,)); subclasses say where to read them.

    Attributes: `name`, `source`, `shape` (C, H, W), `n_classes`, `n_train`, `n_val`, `value_range`, and `digest`, which
    changes with whatever a model sees.

    Args:
        read: Reads the images; called once the settings are checked.
        name: What to call the set in messages and records.
        view: How a model sees the images.
        batch_size: Images a process and step.
        sampling: Order of the training images.
        seed: Of that order.
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
        validation_fraction: float = 0.1,
        split_seed: int = 0,
    ) -> None:
        super().__init__()
        self.name = name
        self.batch_size = batch_size
        self.sampling: Sampling = checked_sampling(sampling)
        self.seed = seed
        check_batch_size(batch_size, None, "")
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
        """Batches of the training images in the order that `sampling` names."""
        limit = self.trainer.limit_train_batches if self.trainer is not None else 1.0
        return TensorLoader(self._train, self.batch_size, sampling=self.sampling, seed=self.seed, limit=limit)

    def val_dataloader(self) -> TensorLoader:
        """Batches of every validation image once, in the order of their rows."""
        return TensorLoader(self._validation, self.batch_size, sampling=None)

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
