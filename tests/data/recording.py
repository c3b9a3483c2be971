"""A Lightning run that records what it trained on, to compare a resumed run with an uninterrupted one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

Seen = list[tuple[int, int, list[float]]]


@contextmanager
def one_of(n_processes: int, rank: int) -> Iterator[None]:
    """torch.distributed as process `rank` sees it, without the others."""
    torch.distributed.init_process_group("fake", rank=rank, world_size=n_processes, store=FakeStore())
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


class Recording(pl.LightningModule):
    """Keeps (epoch, batch index, values) of every training batch; saves a checkpoint whenever `hook` is called."""

    def __init__(self, folder: Path | None, hook: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: Seen = []
        self.n_validated = 0
        self.saved: list[tuple[Path, int]] = []  # checkpoint, training batches seen before it
        self.folder = folder
        self.hook = hook

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        values: Tensor = batch[0] if isinstance(batch, tuple | list) else batch
        self.seen.append((self.current_epoch, batch_idx, values.flatten().tolist()))
        torch.rand(3)  # as dropout would, so that a loader leaning on the global generators is found out
        loss: Tensor = (self.weight * values).mean()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        torch.rand(2)
        self.n_validated += 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Saving(pl.Callback):
    """Saves a checkpoint at each call of the module's hook."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        _save(trainer, pl_module, "on_train_batch_end")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _save(trainer, pl_module, "on_validation_end")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _save(trainer, pl_module, "on_train_epoch_end")


def _save(trainer: pl.Trainer, module: pl.LightningModule, hook: str) -> None:
    assert isinstance(module, Recording)
    if module.folder is not None and module.hook == hook:
        path = module.folder / f"{len(module.saved)}.ckpt"
        trainer.save_checkpoint(path)
        module.saved.append((path, len(module.seen)))


def train(
    loader: Any,
    validation: Any,
    *,
    folder: Path | None = None,
    hook: str = "on_train_batch_end",
    checkpoint: Path | None = None,
    max_epochs: int = 3,
    **settings: Any,
) -> Recording:
    """The module after training from scratch or from the checkpoint."""
    module = Recording(folder, hook)
    trainer = pl.Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Saving()],
        **settings,
    )
    trainer.fit(module, loader, validation, ckpt_path=checkpoint, weights_only=True)
    return module


def resumed_sequences(
    make_loader: Callable[[], Any], validation: Any, folder: Path, **settings: Any
) -> list[tuple[Seen, Seen]]:
    """For each checkpoint: the batches an uninterrupted run still sees after it, and those that a resumed run sees."""
    whole = train(make_loader(), validation, folder=folder, **settings)
    settings.pop("hook", None)
    return [
        (whole.seen[n_seen:], train(make_loader(), validation, checkpoint=path, **settings).seen)
        for path, n_seen in whole.saved
    ]
