import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.data.digits import Digits
from lightning_modules.data.growth import Growth
from lightning_modules.data.images import Images
from lightning_modules.data.loader import TensorLoader
from lightning_modules.data.sampling import Sampling
from tests.data.recording import Recording, one_of
from tests.data.written_images import npz

N_DIGITS = 1437


@given(st.integers(1, 64), st.integers(1, 5), st.integers(1, 7), st.integers(0, 40))
def test_the_batch_is_multiplied_at_every_so_many_epochs(first: int, factor: int, every: int, epoch: int) -> None:
    grown = Growth(factor, every).batch_size(first, epoch, n_rows=10**40)
    assert grown == first * factor ** (epoch // every)


@given(st.integers(1, 100), st.integers(1, 5), st.integers(0, 300), st.integers(0, 10**5))
def test_the_batch_never_shrinks_nor_exceeds_its_bounds(first: int, factor: int, room: int, epoch: int) -> None:
    growth, n_rows = Growth(factor, largest=first + room), 3 * first
    sizes = [growth.batch_size(first, each, n_rows) for each in (0, epoch, epoch + 1)]
    assert sizes[0] == first
    assert sizes == sorted(sizes)
    assert sizes[-1] <= min(first + room, n_rows)


def test_the_largest_batch_is_reached_exactly() -> None:
    assert [Growth(2, largest=100).batch_size(30, epoch, 1000) for epoch in range(4)] == [30, 60, 100, 100]


def test_growth_ends_before_a_batch_the_training_set_cannot_fill() -> None:
    assert [Growth(2).batch_size(30, epoch, n_rows=100) for epoch in (0, 1, 2, 10**6)] == [30, 60, 60, 60]
    assert [Growth(2, largest=90).batch_size(30, epoch, 100, n_processes=2) for epoch in (0, 1)] == [30, 30]


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(0, 12), st.integers(0, 500))
def test_processes_together_grow_as_one_of_their_size(
    first: int, factor: int, n_processes: int, epoch: int, room: int
) -> None:
    n_rows = first * n_processes + room
    together = n_processes * Growth(factor).batch_size(first, epoch, n_rows, n_processes)
    assert together == Growth(factor).batch_size(first * n_processes, epoch, n_rows)


def epochs_of(data: Digits, n_epochs: int) -> tuple[Recording, list[int]]:
    """A module trained by plain Lightning, and the number of batches of each epoch."""
    module = Recording(None, "")
    settings: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        max_epochs=n_epochs,
        accelerator="cpu",
        limit_val_batches=0,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=1,
        **settings,
    )
    trainer.fit(module, datamodule=data)
    return module, [sum(seen[0] == epoch for seen in module.seen) for epoch in range(n_epochs)]


@pytest.mark.parametrize("sampling", ["shuffled", "with_replacement", "without_replacement"])
def test_an_epoch_of_a_grown_batch_is_the_epoch_of_a_loader_with_that_batch(sampling: Sampling) -> None:
    data = Digits(300, sampling, batch_growth=2, growth_every=1, seed=3)
    module, lengths = epochs_of(data, 3)
    assert lengths == [4, 2, 1] == [data.batches_in_epoch(epoch) for epoch in range(3)]
    for epoch in range(3):
        loader = TensorLoader(data._train, data.batch_size_at(epoch), sampling=sampling, seed=3)
        loader.sampler.set_epoch(epoch)
        expected = [(epoch, index, batch[0].flatten().tolist()) for index, batch in enumerate(loader)]
        assert [seen for seen in module.seen if seen[0] == epoch] == expected


def test_processes_share_a_grown_batch_in_its_order() -> None:
    whole = Digits(200, batch_growth=2, seed=1)
    assert [whole.batch_size_at(epoch) for epoch in range(4)] == [200, 400, 800, 800]
    parts = []
    for rank in range(2):
        with one_of(2, rank):
            half = Digits(100, batch_growth=2, seed=1)
            assert [half.batch_size_at(epoch) for epoch in range(4)] == [100, 200, 400, 400]
            loader = TensorLoader(half._train, half.batch_size_at(1), seed=1)
            loader.sampler.set_epoch(1)
            parts.append([x for x, _ in loader])
    loader = TensorLoader(whole._train, 400, seed=1)
    loader.sampler.set_epoch(1)
    for (x, _), *both in zip(loader, *parts, strict=True):
        assert torch.equal(x, torch.cat(both))


def test_a_trainer_that_never_asks_for_a_new_loader_is_refused() -> None:
    data = Digits(batch_growth=2)
    data.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match=r"data.batch_growth = 2: .* give it reload_dataloaders_every_n_epochs=1$"):
        data.train_dataloader()


def test_a_batch_grows_in_images_of_ones_own_too(tmp_path: Path) -> None:
    path = npz(tmp_path, x_train=torch.arange(20 * 36).reshape(20, 6, 6).numpy() % 255, y_train=[0, 1] * 10)
    images = Images(str(path), batch_size=4, batch_growth=3, growth_every=2)
    assert [images.batch_size_at(epoch) for epoch in range(5)] == [4, 4, 12, 12, 12]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_growth": 0}, "data.batch_growth = 0: must be a whole number of at least 1; 2 doubles the batch"),
        ({"batch_growth": 1.5}, "data.batch_growth = 1.5: must be a whole number of at least 1"),
        ({"growth_every": 0}, "data.growth_every = 0: must be a whole number of epochs, at least 1"),
        ({"max_batch_size": 32}, "data.max_batch_size = 32: must be at least data.batch_size = 64, or null"),
    ],
)
def test_growth_no_run_can_use_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Digits(**settings)
