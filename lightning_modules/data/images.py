"""Anybody's images: an archive, MNIST's own form, class folders or parquet."""

from pathlib import Path

from lightning_modules.data.growth import Growth
from lightning_modules.data.image_arrays import Pixels, View
from lightning_modules.data.image_files import read_images
from lightning_modules.data.image_set import ImageSet
from lightning_modules.data.sampling import Sampling


class Images(ImageSet):
    """Your own labelled images, read whole into memory.

    The path is one of: an .npz archive with x_train, y_train and perhaps x_test, y_test; a folder in MNIST's form
    (train-images-idx3-ubyte.gz and its fellows); a folder with one sub-folder of PNG or JPEG images a class, perhaps
    under train/ and test/; a parquet file, or a folder of train*.parquet and test*.parquet, as on the Hugging Face Hub.
    Whole-number pixels are 0..255; float pixels lie in [0, 1] or in [-1, 1].

    Args:
        path: The file or folder.
        batch_size: Images a process and step; with batch_growth in the first epoch.
        sampling: Order of the training images: shuffled each epoch, or drawn each step with or without replacement.
        image_size: Side in pixels: the middle square is cut out and resized. By default images stay as they are.
        channels: 1 makes all images grey, 3 gives grey ones three equal channels. By default as they are.
        pixels: Range of the values: unit is [0, 1], symmetric is [-1, 1].
        validation_fraction: Share of the images that validates where there is no test part.
        split_seed: Which images validate then; not the run's seed, so that runs compare.
        batch_growth: Whole factor by which the training batch grows between epochs; 1 keeps it as it is.
        growth_every: Epochs between two growths.
        max_batch_size: Largest batch it grows to; by default the largest that the training set can fill.
        seed: Of the order of the training images.
    """

    def __init__(
        self,
        path: str,
        batch_size: int = 64,
        sampling: Sampling = "shuffled",
        image_size: int | None = None,
        channels: int | None = None,
        pixels: Pixels = "unit",
        validation_fraction: float = 0.1,
        split_seed: int = 0,
        batch_growth: int = 1,
        growth_every: int = 1,
        max_batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            lambda: read_images(Path(path).expanduser(), image_size),
            name=Path(path).expanduser().resolve().stem,
            view=View(pixels, image_size, channels),
            batch_size=batch_size,
            sampling=sampling,
            seed=seed,
            growth=Growth(batch_growth, growth_every, max_batch_size),
            validation_fraction=validation_fraction,
            split_seed=split_seed,
        )
