"""scikit-learn's handwritten digits: a real data set that needs no download."""

from lightning_modules.data.growth import Growth
from lightning_modules.data.image_arrays import ImageSource, Pixels, View, checked_part
from lightning_modules.data.image_set import ImageSet
from lightning_modules.data.sampling import Sampling


class Digits(ImageSet):
    """1,797 handwritten digits of 8 x 8 grey pixels, bundled with scikit-learn; 1,437 train and 360 validate.

    Args:
        batch_size: Images a process and step; with batch_growth in the first epoch.
        sampling: Order of the training images: shuffled each epoch, or drawn each step with or without replacement.
        pixels: Range of the values: unit is [0, 1], symmetric is [-1, 1].
        split_seed: Which images validate; not the run's seed, so that runs compare.
        batch_growth: Whole factor by which the training batch grows between epochs; 1 keeps it as it is.
        growth_every: Epochs between two growths.
        max_batch_size: Largest batch it grows to; by default the largest that the training set can fill.
        seed: Of the order of the training images.
    """

    def __init__(
        self,
        batch_size: int = 64,
        sampling: Sampling = "shuffled",
        pixels: Pixels = "unit",
        split_seed: int = 0,
        batch_growth: int = 1,
        growth_every: int = 1,
        max_batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            _read,
            name="digits",
            view=View(pixels),
            batch_size=batch_size,
            sampling=sampling,
            seed=seed,
            growth=Growth(batch_growth, growth_every, max_batch_size),
            validation_fraction=0.2,
            split_seed=split_seed,
        )


def _read() -> ImageSource:
    from sklearn.datasets import load_digits  # slow to import

    digits = load_digits()
    images = (digits.images / 16).astype("float32")  # (1797, 8, 8), whole numbers from 0 to 16
    return ImageSource(checked_part(images[:, None], digits.target, "digits"), None, "scikit-learn's load_digits")
