import pytest
import torch

from lightning_modules.data.digits import Digits


def test_digits_are_1437_training_and_360_validation_images_of_ten_classes() -> None:
    digits = Digits()
    assert (digits.name, digits.n_train, digits.n_val) == ("digits", 1437, 360)
    assert (digits.shape, digits.n_classes, digits.value_range) == ((1, 8, 8), 10, (0.0, 1.0))


def test_batches_are_float32_images_in_the_unit_range_and_int64_labels() -> None:
    for x, y in Digits(batch_size=100).train_dataloader():
        assert (x.dtype, x.shape, y.dtype, y.shape) == (torch.float32, (100, 1, 8, 8), torch.int64, (100,))
        assert 0 <= x.min() < x.max() <= 1


def test_validation_has_every_class_and_every_row_once() -> None:
    labels = torch.cat([y for _, y in Digits().val_dataloader()])
    assert len(labels) == 360
    assert len(set(labels.tolist())) == 10


def test_the_split_depends_on_split_seed_and_not_on_the_runs_seed() -> None:
    assert Digits(seed=1).digest == Digits(seed=2).digest
    assert Digits(split_seed=1).digest != Digits().digest


def test_the_run_seed_changes_the_order_of_the_training_batches() -> None:
    first, second = (next(iter(Digits(seed=seed).train_dataloader()))[0] for seed in (1, 2))
    assert not torch.equal(first, second)


def test_symmetric_pixels_lie_in_minus_one_to_one() -> None:
    digits = Digits(pixels="symmetric")
    x = torch.cat([x for x, _ in digits.val_dataloader()])
    assert digits.value_range == (x.min().item(), x.max().item()) == (-1.0, 1.0)


def test_a_batch_larger_than_the_training_set_is_refused() -> None:
    message = r"^data.batch_size = 5000: larger than the 1437 training images of digits; use at most 1437$"
    with pytest.raises(ValueError, match=message):
        Digits(batch_size=5000)


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^data.batch_size = 0: must be at least 1$"):
        Digits(batch_size=0)


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^data.sampling = 'random': unknown order; allowed: shuffled, with"):
        Digits(sampling="random")  # type: ignore[arg-type]
