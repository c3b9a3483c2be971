"""Image sets of the Hugging Face Hub, downloaded once and cached by the library `datasets`."""

import logging
from pathlib import Path

from lightning_modules.data.encoded_images import table_part
from lightning_modules.data.growth import Growth
from lightning_modules.data.image_arrays import ImageSource, Pixels, View
from lightning_modules.data.image_set import ImageSet
from lightning_modules.data.sampling import Sampling


class HubImages(ImageSet):
    """A set of labelled images on the Hugging Face Hub with a train and a test part; the test part validates.

    Args:
        batch_size: Images a process and step; with batch_growth in the first epoch.
        sampling: Order of the training images: shuffled each epoch, or drawn each step with or without replacement.
        image_size: Side in pixels to resize to. By default images stay as they are.
        pixels: Range of the values: unit is [0, 1], symmetric is [-1, 1].
        cache_dir: Folder for the download. By default that of the library datasets.
        batch_growth: Whole factor by which the training batch grows between epochs; 1 keeps it as it is.
        growth_every: Epochs between two growths.
        max_batch_size: Largest batch it grows to; by default the largest that the training set can fill.
        seed: Of the order of the training images.
    """

    repo_id: str

    def __init__(
        self,
        batch_size: int = 64,
        sampling: Sampling = "shuffled",
        image_size: int | None = None,
        pixels: Pixels = "unit",
        cache_dir: str | None = None,
        batch_growth: int = 1,
        growth_every: int = 1,
        max_batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            lambda: read_hub(self.repo_id, image_size, cache_dir),
            name=self.name,
            view=View(pixels, image_size),
            batch_size=batch_size,
            sampling=sampling,
            seed=seed,
            growth=Growth(batch_growth, growth_every, max_batch_size),
        )


class MNIST(HubImages):
    """70,000 handwritten digits of 28 x 28 grey pixels (LeCun et al. 1998); 60,000 train and 10,000 validate."""

    name = "mnist"
    repo_id = "ylecun/mnist"


class FashionMNIST(HubImages):
    """70,000 articles of clothing of 28 x 28 grey pixels (Xiao et al. 2017); 60,000 train and 10,000 validate."""

    name = "fashion_mnist"
    repo_id = "zalando-datasets/fashion_mnist"


class CIFAR10(HubImages):
    """60,000 photographs of 32 x 32 pixels in ten classes (Krizhevsky 2009); 50,000 train and 10,000 validate."""

    name = "cifar10"
    repo_id = "uoft-cs/cifar10"


def read_hub(repo_id: str, image_size: int | None = None, cache_dir: str | None = None) -> ImageSource:
    """The train and test part of a set on the Hub; ValueError that says how to do without where it cannot be had.

    Args:
        repo_id: Owner and name on the Hub.
        image_size: Side to cut and resize to; None keeps the size.
        cache_dir: Of the library datasets; None is its own choice.
    """
    import datasets  # slow to import

    # Offline it reports each of its retries; what they come to is said below, once.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        parts = datasets.load_dataset(
            repo_id, cache_dir=None if cache_dir is None else str(Path(cache_dir).expanduser())
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"{repo_id} could not be loaded from the Hugging Face Hub or its cache ({reason}); fetch the train and test"
            f" parquet files of https://huggingface.co/datasets/{repo_id} on another machine, put them into one folder"
            " and give --data images --data.path FOLDER"
        ) from error
    for part in ("train", "test"):
        if part not in parts:
            raise ValueError(f"{repo_id}: no part '{part}'; found: {', '.join(parts)}; use --data images instead")
    # the table underneath holds the encoded bytes, which `datasets` would decode one by one
    train, test = (table_part(parts[part].data.table, f"{part} of {repo_id}", image_size) for part in ("train", "test"))
    return ImageSource(train, test, f"https://huggingface.co/datasets/{repo_id}")
