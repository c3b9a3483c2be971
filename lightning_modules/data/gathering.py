"""What each process has seen of a validation, put together as one process would have seen it."""

from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from lightning_modules.data.sampling import process


def gathered(parts: Sequence[Tensor]) -> list[Tensor]:
    """The batches of all processes together, from this process's part of each; the same on every process.

    The parts of a batch are joined in the order of the ranks, which is that of the rows in validation. All processes
    must call it; one may have a part less than another.

    Args:
        parts: Of one batch after another, equal but for their first axis.
    """
    if process()[1] == 1:
        return list(parts)
    everyone: list[list[Tensor]] = [[] for _ in range(process()[1])]
    torch.distributed.all_gather_object(everyone, [part.detach().cpu() for part in parts])
    device = parts[0].device if parts else torch.device("cpu")
    return [
        torch.cat([part for part in batch if part is not None]).to(device)
        for batch in zip_longest(*everyone, fillvalue=None)
    ]
