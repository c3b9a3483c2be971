from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from lightning_modules.data.images import Images
from tests.data.written_images import (
    RNG,
    X_TEST,
    Y_TEST,
    Array,
    X,
    Y,
    class_folders,
    encoded,
    idx_folder,
    load,
    npz,
    parquet,
    with_test,
)


def validation(images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(images.val_dataloader())
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def training(images: Images) -> torch.Tensor:
    return torch.cat([x for x, _ in images.train_dataloader()])


def test_an_archive_gives_its_test_part_for_validation(tmp_path: Path) -> None:
    images = load(with_test(tmp_path))
    assert (images.name, images.shape, images.n_classes) == ("set", (1, 6, 6), 4)
    assert (images.n_train, images.n_val, images.value_range) == (20, 8, (0.0, 1.0))
    assert images.source == f"{tmp_path}/set.npz (npz)"
    assert training(images).dtype == torch.float32


def test_images_and_labels_stay_together(tmp_path: Path) -> None:
    x = np.repeat(Y[:, None, None], 6, 1).repeat(6, 2)  # every image shows its own label
    for xs, ys in load(npz(tmp_path, x_train=x, y_train=Y)).train_dataloader():
        assert torch.equal((xs * 255).round()[:, 0, 0, 0].long(), ys)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_parquet_and_archive_of_the_same_images_have_one_digest(ending: str, tmp_path: Path) -> None:
    parquet(tmp_path / "hub/data/train-0.parquet", X[:10], Y[:10])
    parquet(tmp_path / "hub/data/train-1.parquet", X[10:], Y[10:])
    parquet(tmp_path / "hub/data/test-0.parquet", X_TEST, Y_TEST)
    paths = with_test(tmp_path), idx_folder(tmp_path, ending), tmp_path / "hub"
    assert len({load(path).digest for path in paths}) == 1


def test_class_folders_number_the_classes_by_name(tmp_path: Path) -> None:
    images = load(class_folders(tmp_path / "set"), validation_fraction=0.25)
    assert (images.n_classes, images.n_train, images.n_val) == (4, 15, 5)


def test_class_folders_under_train_and_test_are_training_and_validation(tmp_path: Path) -> None:
    class_folders(tmp_path / "set/train")
    class_folders(tmp_path / "set/test", X_TEST[3:4], Y_TEST[3:4])
    images = load(tmp_path / "set")
    assert (images.n_train, images.n_val) == (20, 1)
    assert validation(images)[1].tolist() == [3]


@pytest.mark.parametrize("names", [{"image": "img", "label": "fine_label"}, {"label": "labels", "bare": True}])
def test_a_parquet_file_may_name_its_columns_as_the_hub_does(names: dict[str, Any], tmp_path: Path) -> None:
    images = load(parquet(tmp_path / "set.parquet", X, Y, **names))
    assert (images.n_train, images.n_val, images.n_classes) == (18, 2, 4)


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2)])
def test_channels_may_come_last_or_first(axes: tuple[int, ...], tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
    images = load(npz(tmp_path, x_train=x.transpose(axes), y_train=Y), batch_size=18)
    assert images.shape == (3, 6, 5)
    shown = torch.cat([training(images), validation(images)[0]])
    assert torch.allclose(shown.mean((0, 2, 3)) * 255, torch.tensor(x.mean((0, 1, 2))).float())


@pytest.mark.parametrize(
    "x",
    [X / 255, (X / 255).astype(np.float32), X / 127.5 - 1, X.astype(np.int64)],
    ids=["float64", "float32", "symmetric", "int64"],
)
def test_every_allowed_number_type_gives_the_same_pixels(x: Array, tmp_path: Path) -> None:
    images = load(npz(tmp_path, x_train=x, y_train=Y, x_test=x, y_test=Y))
    rows = validation(images)[0].flatten(1)
    expected = torch.from_numpy(X / 255).float().flatten(1)
    assert torch.allclose(rows.sum(1).sort().values, expected.sum(1).sort().values, atol=1e-5)
    assert torch.allclose(rows.sort().values.sum(0), expected.sort().values.sum(0), atol=1e-5)


def test_the_width_of_a_number_type_leaves_the_digest_as_it_is(tmp_path: Path) -> None:
    wide, swapped = X.astype(np.int64), X.astype(">u2")
    assert len({load(npz(tmp_path, x_train=x, y_train=Y)).digest for x in (X, wide, swapped)}) == 1


def test_symmetric_pixels_are_unit_pixels_times_two_minus_one(tmp_path: Path) -> None:
    path = with_test(tmp_path)
    unit, symmetric = load(path), load(path, pixels="symmetric")
    assert torch.allclose(validation(symmetric)[0], validation(unit)[0] * 2 - 1)
    assert symmetric.value_range == (-1.0, 1.0)


def test_images_are_cut_to_the_middle_square_and_resized(tmp_path: Path) -> None:
    x = np.zeros((20, 6, 10), np.uint8)
    x[:10, :, 2:8], x[10:, :, 2:8] = 255, 51  # the middle square
    paths = npz(tmp_path, x_train=x, y_train=Y), class_folders(tmp_path / "set", x)
    for shown in (training(load(path, image_size=3)) for path in paths):
        assert shown.shape[1:] == (1, 3, 3)
        assert {round(value, 5) for value in shown.flatten().tolist()} == {0.2, 1.0}


def test_grey_and_colour_are_turned_into_each_other(tmp_path: Path) -> None:
    x = np.zeros((20, 6, 6, 3), np.uint8)
    x[..., 1] = 255  # green
    path = npz(tmp_path, x_train=x, y_train=Y)
    assert training(load(path, channels=1)).allclose(torch.tensor(0.587))  # ITU-R BT.601
    path = with_test(tmp_path)
    assert torch.equal(training(load(path, channels=3)), training(load(path)).expand(-1, 3, -1, -1))


def test_grey_images_among_coloured_ones_get_three_channels(tmp_path: Path) -> None:
    class_folders(tmp_path / "set")
    (tmp_path / "set/class0/colour.jpg").write_bytes(encoded(np.full((6, 6, 3), 9, np.uint8), "jpeg"))
    assert load(tmp_path / "set").shape == (3, 6, 6)


def test_opaque_transparency_is_dropped(tmp_path: Path) -> None:
    rgba = np.dstack([X[0], X[1], X[2], np.full((6, 6), 255, np.uint8)])
    (class_folders(tmp_path / "set") / "class0/opaque.png").write_bytes(encoded(rgba))
    assert load(tmp_path / "set").shape == (3, 6, 6)


def test_a_class_sorted_source_is_split_at_random_by_split_seed_alone(tmp_path: Path) -> None:
    y = np.repeat([0, 1], 100)
    path = npz(tmp_path, x_train=RNG.integers(0, 256, (200, 6, 6), dtype=np.uint8), y_train=y)
    share = validation(load(path, validation_fraction=0.5))[1].float().mean()
    assert abs(share - 0.5) < 5 * (0.25 / 200) ** 0.5  # five standard errors
    assert load(path, seed=1).digest == load(path, seed=2).digest
    assert load(path, split_seed=1).digest != load(path).digest


def test_a_class_sorted_test_part_is_shown_in_a_drawn_order(tmp_path: Path) -> None:
    labels = validation(load(npz(tmp_path, x_train=X, y_train=Y, x_test=X, y_test=Y)))[1]
    assert labels.tolist() != Y.tolist()
    assert sorted(labels.tolist()) == Y.tolist()


def test_the_digest_changes_with_whatever_a_model_sees(tmp_path: Path) -> None:
    path = with_test(tmp_path)
    digests = {load(path, **setting).digest for setting in ({}, {"pixels": "symmetric"}, {"image_size": 5})}
    x = X.copy()
    x[3, 2, 1] ^= 1
    digests.add(load(npz(tmp_path, x_train=x, y_train=Y, x_test=X_TEST, y_test=Y_TEST)).digest)
    assert len(digests) == 4


def test_a_trainers_limit_reaches_the_training_loader(tmp_path: Path) -> None:
    images = load(with_test(tmp_path))
    images.trainer = pl.Trainer(limit_train_batches=2, accelerator="cpu", logger=False, enable_checkpointing=False)
    assert images.train_dataloader().limit == 2
