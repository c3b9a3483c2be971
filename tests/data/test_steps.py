"""The data part of models that need no data."""

import pytest

from lightning_modules.data.steps import Steps


def test_an_epoch_is_so_many_batches_of_nothing_and_one_validates() -> None:
    data = Steps(7)
    assert [tuple(batch.shape) for batch in data.train_dataloader()] == [(1, 0)] * 7
    assert len(data.train_dataloader()) == 7
    assert len(list(data.val_dataloader())) == 1


def test_an_epoch_goes_on_where_it_was_left() -> None:
    loader = Steps(7).train_dataloader()
    loader.load_state_dict({"batch": 5})
    assert len(list(loader)) == 2


def test_an_epoch_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data.steps = 0: must be at least 1"):
        Steps(0)
