"""Random draws and the order of batches as pure functions of a seed, a stream's name and a step.

Nothing here reads or moves a global generator, so a run is resumed without saving any random state. Draws are made on
the CPU: the same numbers whatever device they move to.
"""

import difflib
import functools
import hashlib
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

Sampling = Literal["shuffled", "with_replacement", "without_replacement"]
BLOCK_ROWS = 256  # of `row_noise`: one generator serves many rows, and few rows are drawn in vain


def draw(seed: int, stream: str, step: int | tuple[int, ...] = 0) -> torch.Generator:
    """A generator on the CPU that depends on the arguments alone; a step `3` and a step `(3,)` are the same.

    torch's generator keeps the lower 32 of the 63 bits: among 100,000 draws about one pair is expected to coincide.

    >>> torch.equal(torch.rand(2, generator=draw(0, "z", (1, 23))), torch.rand(2, generator=draw(0, "z", (12, 3))))
    False
    """
    generator = torch.Generator()
    generator.manual_seed(_key(seed, stream, step))
    return generator


def noise(seed: int, stream: str, step: int | tuple[int, ...], *shape: int) -> Tensor:
    """Standard normal float32 of the given shape: this process's rows of the noise of the global batch.

    With k processes rows r * shape[0] to (r + 1) * shape[0] of one draw of k * shape[0] rows are process r's, so k
    processes of B / k rows see what one process of B rows sees.
    """
    rank, n_processes = process()
    generator = draw(seed, stream, step)
    if n_processes == 1:
        return torch.randn(shape, generator=generator)
    n_rows = shape[0]
    everyone = torch.randn((n_rows * n_processes, *shape[1:]), generator=generator)
    return everyone[rank * n_rows : (rank + 1) * n_rows]


def row_noise(seed: int, stream: str, first_row: int, n_rows: int, *shape: int) -> Tensor:
    """Standard normal float32 (n_rows, *shape) that belongs to the rows of a whole set, from row `first_row` on.

    Row r gets the same numbers whatever the batch size and the number of processes.

    >>> torch.equal(row_noise(0, "z", 0, 600, 2)[255:300], row_noise(0, "z", 255, 45, 2))
    True
    """
    first_block, last_block = first_row // BLOCK_ROWS, (first_row + n_rows - 1) // BLOCK_ROWS
    blocks = [
        torch.randn((BLOCK_ROWS, *shape), generator=draw(seed, f"{stream}/rows", block))
        for block in range(first_block, last_block + 1)
    ]
    start = first_row - first_block * BLOCK_ROWS
    return torch.cat(blocks)[start : start + n_rows] if blocks else torch.empty((0, *shape))


def batch_rows(sampling: Sampling, seed: int, step: tuple[int, int], n_rows: int, global_batch_size: int) -> Tensor:
    """Row numbers (global_batch_size,) of the global batch of step = (epoch, batch index).

    Args:
        sampling: "shuffled" cuts one permutation an epoch into batches and drops the ragged last one;
            "with_replacement" draws every row anew; "without_replacement" draws distinct rows, each step anew.
        seed: The run's.
        step: Epoch and batch index in the epoch, both from 0.
        n_rows: In the whole set.
        global_batch_size: Rows of all processes together, at most `n_rows` unless drawn with replacement.
    """
    epoch, batch = step
    if sampling == "shuffled":
        return epoch_order(seed, epoch, n_rows)[batch * global_batch_size : (batch + 1) * global_batch_size]
    if sampling == "with_replacement":
        return torch.randint(n_rows, (global_batch_size,), generator=draw(seed, "order/with", step))
    # Floyd's algorithm in C: 30 us for 100 of 60,000 rows, where torch.randperm takes 290.
    rows = np.random.default_rng(_key(seed, "order/without", step)).choice(n_rows, global_batch_size, replace=False)
    return torch.from_numpy(rows)


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, n_rows: int) -> Tensor:
    """The permutation (n_rows,) of an epoch of "shuffled" batches; remembered, so do not write into it."""
    return torch.randperm(n_rows, generator=draw(seed, "order/shuffled", epoch))


def checked_sampling(sampling: str) -> Sampling:
    """`sampling` itself; ValueError where it is none of the three orders."""
    for known in get_args(Sampling):
        if sampling == known:
            return known  # type: ignore[no-any-return]
    close = difflib.get_close_matches(sampling, get_args(Sampling), n=1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    raise ValueError(f"data.sampling = '{sampling}': unknown order{hint}; allowed: {', '.join(get_args(Sampling))}")


def process() -> tuple[int, int]:
    """Rank of this process and the number of processes; (0, 1) where torch.distributed is not initialised."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _key(seed: int, stream: str, step: int | tuple[int, ...]) -> int:
    steps = step if isinstance(step, tuple) else (step,)
    # int() makes a NumPy integer read like Python's; repr() quotes the name, so no name can imitate another's step.
    text = f"{int(seed)}|{stream!r}|{','.join([str(int(number)) for number in steps])}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
