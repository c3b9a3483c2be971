"""A module in training seen as a function of its parameters, without leaving a trace in it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, IterableDataset, RandomSampler

from lightning_modules.data.sampling import draw
from lightning_modules.dynamics.noise import Parameters, RowLosses, Rows


class Probe(NamedTuple):
    """What is measured: the losses of rows as a function of the parameters, at their present values."""

    losses: RowLosses
    parameters: dict[str, Tensor]
    population: int | None  # rows in the training set; None = it cannot be read by row
    rows: Callable[..., Rows]
    """From n and the numbers of a draw: n distinct rows of the set, all if it has fewer; of None, this step's batch."""

    @property
    def n_parameters(self) -> int:
        """P."""
        return sum(parameter.numel() for parameter in self.parameters.values())


class _RowLosses(nn.Module):
    """A module whose forward is another's `per_sample_loss`, as functional_call wants it."""

    def __init__(self, module: pl.LightningModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, rows: Rows) -> Tensor:
        losses: Tensor = self.module.per_sample_loss(rows)  # type: ignore[operator]
        return losses


def check_module(module: pl.LightningModule) -> None:
    """Raises ValueError for a module whose loss cannot be taken apart into rows."""
    if not callable(getattr(module, "per_sample_loss", None)):
        raise ValueError(
            f"{type(module).__name__} has no per_sample_loss(batch), which noise and sharpness are measured by; "
            "give it one that returns the loss of each row, (B,)"
        )


@contextmanager
def probing(trainer: pl.Trainer, module: pl.LightningModule, batch: Any) -> Iterator[Probe]:
    """The module's losses on rows of its training set, in evaluation mode; afterwards all is as it was, to the bit.

    No gradient, buffer, generator or mode changes: buffers are copies, and what is drawn is put back. In evaluation
    mode dropout is off and BatchNorm uses its running statistics, so that a row's loss is its own.

    Args:
        trainer: In its fit.
        module: With `per_sample_loss(batch) -> (B,)`. One whose loss has noise in it also has `with_noise(batch)`,
            which returns the batch with that noise drawn, each row's its own, as `per_sample_loss` takes it.
        batch: Of this step; its rows are taken where the training set cannot be read by row.
    """
    whole = _RowLosses(module)
    modes = {each: each.training for each in module.modules()}
    read, population = _reader(trainer)
    with_noise: Callable[[Any], Rows] = getattr(module, "with_noise", lambda rows: rows)
    parameters = {name: p.detach() for name, p in whole.named_parameters() if p.requires_grad}
    frozen = {name: p.detach() for name, p in whole.named_parameters() if not p.requires_grad}
    buffers = dict(whole.named_buffers())

    def losses(parameters: Parameters, rows: Rows) -> Tensor:
        copies = {name: buffer.clone() for name, buffer in buffers.items()}  # here: torch.func lets these be written to
        found: Tensor = functional_call(whole, ({**frozen, **copies, **parameters},), (rows,))
        return found

    def rows(n: int, *numbers: int) -> Rows:
        return with_noise(batch if read is None or population is None else read(_choice(population, n, numbers)))

    with isolate_rng(include_cuda=module.device.type == "cuda"):
        try:
            module.eval()
            yield Probe(losses, parameters, population, rows)
        finally:
            for each, mode in modes.items():
                each.training = mode


def n_rows_of(batch: Any) -> int:
    """Rows of a batch: entries of its first tensor; 0 where there is none."""
    return next((len(leaf) for leaf in tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim), 0)


def draws_anew(trainer: pl.Trainer) -> str | None:
    """with_replacement or without_replacement where each step's rows are drawn anew; None in shuffled epochs."""
    loader = trainer.train_dataloader
    sampling = getattr(loader, "sampling", None)
    if sampling in ("with_replacement", "without_replacement"):
        return str(sampling)
    sampler = getattr(loader, "sampler", None)
    return "with_replacement" if isinstance(sampler, RandomSampler) and sampler.replacement else None


def _reader(trainer: pl.Trainer) -> tuple[Callable[[Tensor], Rows] | None, int | None]:
    """From row numbers to these rows of the training set on the module's device, and N; None where there is no way."""
    loader = trainer.train_dataloader
    tensors: Any = getattr(loader, "tensors", None)
    dataset: Any = getattr(loader, "dataset", None)
    read: Callable[[Tensor], Rows]
    if tensors is not None:
        n_rows = len(tensors[0])

        def read(chosen: Tensor) -> Rows:
            return tuple(tensor.index_select(0, chosen) for tensor in tensors)

    elif isinstance(loader, DataLoader) and hasattr(dataset, "__len__") and not isinstance(dataset, IterableDataset):
        n_rows, collate = len(dataset), loader.collate_fn

        def read(chosen: Tensor) -> Rows:
            return collate([dataset[row] for row in chosen.tolist()])

    else:
        return None, None
    convert = trainer.precision_plugin.convert_input
    return lambda chosen: trainer.strategy.batch_to_device(convert(read(chosen))), n_rows


def _choice(n: int, size: int, numbers: tuple[int, ...]) -> Tensor:
    """Numbers of `size` distinct rows of n, or of all in order."""
    if size >= n:
        return torch.arange(n)
    return torch.randperm(n, generator=draw(0, "dynamics/rows", numbers))[:size]
