"""Arrays of images and labels as read from anywhere, checked, and turned into what a model sees.

Shapes: N images of C channels (1 or 3), H x W pixels.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_modules.data.sampling import draw

Pixels = Literal["unit", "symmetric"]
RANGES: dict[Pixels, tuple[float, float]] = {"unit": (0.0, 1.0), "symmetric": (-1.0, 1.0)}
ROUNDING = 1e-6  # by which a float pixel may leave its range; it is then clipped
MOST_CLASSES = 100_000  # ImageNet has 21,841; more are row numbers taken for labels
LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601, as Pillow's mode "L"


@dataclass(frozen=True)
class ImagePart:
    """Checked images with their labels.

    Args:
        images: (N, C, H, W) bool, uint8, or float32 in [0, 1] or [-1, 1].
        labels: (N,) int64, from 0.
        pixels: The range that the images come in.
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    pixels: Pixels

    def rows(self, rows: Tensor) -> "ImagePart":
        """The images and labels of the given row numbers, in that order."""
        chosen = rows.numpy()
        return ImagePart(self.images[chosen], self.labels[chosen], self.pixels)


@dataclass(frozen=True)
class ImageSource:
    """What was read: the training part, the held-out part if there is one, and where from."""

    train: ImagePart
    test: ImagePart | None
    where: str


@dataclass(frozen=True)
class View:
    """How a model sees the images.

    Args:
        pixels: Range of the values.
        image_size: Side in pixels: the middle square, resized. None leaves the images as they are.
        channels: 1 or 3. None leaves them as they are.
    """

    pixels: Pixels = "unit"
    image_size: int | None = None
    channels: int | None = None

    def check(self) -> None:
        """ValueError where a setting is out of its range."""
        if self.pixels not in RANGES:
            raise ValueError(f"data.pixels = '{self.pixels}': unknown range; allowed: {', '.join(RANGES)}")
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"data.image_size = {self.image_size}: must be at least 1, or null to keep the size")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"data.channels = {self.channels}: allowed: 1 (grey), 3 (colour), null (as in the source)")

    def tensor(self, part: ImagePart) -> Tensor:
        """(N, C, H, W) float32 in this view's range."""
        images = torch.from_numpy(part.images).float()
        if part.images.dtype == np.uint8:
            images = images.div_(255)
        elif part.images.dtype == np.float32:
            images = images.clone()  # what was read stays as it was
        images.clamp_(*RANGES[part.pixels])
        if self.channels == 1 and images.shape[1] == 3:
            images = torch.einsum("nchw,c->nhw", images, images.new_tensor(LUMA)).unsqueeze(1)
        if self.channels == 3:
            images = images.expand(-1, 3, -1, -1)
        if self.image_size is not None:
            images = _square(images, self.image_size)
        if (part.pixels, self.pixels) == ("unit", "symmetric"):
            images = images * 2 - 1
        if (part.pixels, self.pixels) == ("symmetric", "unit"):
            images = (images + 1) / 2
        return images.contiguous()


def channels_first(images: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
    """(N, C, H, W) of images in any usual layout; ValueError where it is none or could be two.

    Args:
        images: (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels.
        where: What to call them in a message.
    """
    allowed = "allowed: (N, H, W), (N, H, W, C) and (N, C, H, W) with C = 1 or 3"
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise ValueError(f"{where}: shape {images.shape}; {allowed}; reshape flat rows to images")
    first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
    if first and last:
        raise ValueError(
            f"{where}: shape {images.shape}: the channels could be axis 1 or 3; save grey images as (N, H, W)"
        )
    if not first and not last:
        n_channels = images.shape[3] if images.shape[3] <= images.shape[1] else images.shape[1]
        raise ValueError(f"{where}: shape {images.shape}: {n_channels} channels; {allowed}; drop transparency first")
    return images if first else images.transpose(0, 3, 1, 2)


def checked_part(images: npt.NDArray[Any], labels: npt.NDArray[Any], where: str) -> ImagePart:
    """The images and labels with what is known about them.

    Args:
        images: (N, C, H, W).
        labels: (N,) or (N, 1), integers from 0.
        where: What to call them in a message.

    Raises ValueError, one line, for whatever a model could not be trained on or would be trained on by mistake.
    """
    if len(images) == 0:
        raise ValueError(f"{where}: no images; at least one is needed")
    if len(images) != len(labels):
        raise ValueError(f"{where}: {len(images)} images but {len(labels)} labels; each image needs one label")
    classes, pixels = _checked_labels(labels, where), _pixels(images, where)
    # one number type each for whole numbers and floats, so that the digest sees values and not how they were saved
    number = {"b": np.bool_, "f": np.float32}.get(images.dtype.kind, np.uint8)
    return ImagePart(np.ascontiguousarray(images, number), classes, pixels)


def split(part: ImagePart, validation_fraction: float, split_seed: int) -> tuple[ImagePart, ImagePart]:
    """Training and validation rows of a part that has no test part of its own, drawn whatever the order of the rows.

    Args:
        part: At least two images.
        validation_fraction: Share of the rows that validate, rounded up.
        split_seed: Of the draw.
    """
    n_rows = len(part.labels)
    n_val = math.ceil(n_rows * validation_fraction - 1e-9)  # 0.1 * 30 is 3.0000000000000004
    if n_val >= n_rows:
        raise ValueError(
            f"data.validation_fraction = {validation_fraction}: leaves none of {n_rows} images to train on; use less"
        )
    order = torch.randperm(n_rows, generator=draw(split_seed, "split"))
    return part.rows(order[n_val:]), part.rows(order[:n_val])


def shuffled(part: ImagePart, split_seed: int) -> ImagePart:
    """The part in a drawn order: a file sorted by class would show a limited validation one class only."""
    return part.rows(torch.randperm(len(part.labels), generator=draw(split_seed, "test order")))


def digest(train: ImagePart, validation: ImagePart, view: View) -> str:
    """SHA-256, in hex, of everything that changes what a model sees: arrays, split, order and view.

    Taken before pixels become floats, so that it is the same on every machine.
    """
    sha = hashlib.sha256(repr(view).encode())
    for part in (train, validation):
        for array in (part.images, part.labels):
            sha.update(f"{array.dtype.str} {array.shape}".encode())
            sha.update(np.ascontiguousarray(array).data)
        sha.update(part.pixels.encode())
    return sha.hexdigest()


def _checked_labels(labels: npt.NDArray[Any], where: str) -> npt.NDArray[np.int64]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "biu":
        raise ValueError(
            f"{where}: labels of type {labels.dtype} and shape {labels.shape}; allowed: integers of shape"
            f" ({len(labels)},), numbered from 0"
        )
    if labels.min() < 0 or labels.max() >= MOST_CLASSES:
        raise ValueError(
            f"{where}: labels from {labels.min()} to {labels.max()}; classes are numbered from 0 to {MOST_CLASSES - 1}"
            " at most: renumber them"
        )
    return labels.astype(np.int64)


def _pixels(images: npt.NDArray[Any], where: str) -> Pixels:
    """The range that the images come in: whole numbers are 0..255, floats either of `RANGES`."""
    allowed = "allowed: integers 0..255, bool, floats in [0, 1] or in [-1, 1]"
    kind = images.dtype.kind
    if kind not in "biuf":
        raise ValueError(f"{where}: pixels of type {images.dtype}; {allowed}")
    if kind == "f" and not np.isfinite(images).all():
        bad = np.argwhere(~np.isfinite(images))
        raise ValueError(
            f"{where}: {len(bad)} NaN or infinite pixels, first in image {bad[0][0]} (channel, row, column"
            f" {tuple(bad[0][1:].tolist())}); {allowed}: replace them or drop the images"
        )
    low, high = images.min(), images.max()
    if low == high:
        raise ValueError(f"{where}: every pixel is {low}; there is nothing to learn from: check how it was saved")
    if kind in "iu" and high == 1 and low == 0:
        raise ValueError(f"{where}: {images.dtype} pixels are all 0 or 1, of 255; save two-valued images as bool")
    if (kind in "iu" and (low < 0 or high > 255)) or (kind == "f" and (low < -1 - ROUNDING or high > 1 + ROUNDING)):
        advice = "; divide by 255 or save as uint8" if kind == "f" else ""
        raise ValueError(f"{where}: {images.dtype} pixels from {low:g} to {high:g}; {allowed}{advice}")
    return "symmetric" if low < -ROUNDING else "unit"


def _square(images: Tensor, side: int) -> Tensor:
    """The middle square, resized to side x side (bilinear, antialiased)."""
    height, width = images.shape[2:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    images = images[:, :, top : top + short, left : left + short]
    if short == side:
        return images
    return torch.nn.functional.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
