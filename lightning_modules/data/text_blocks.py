"""Blocks of T tokens cut or packed from documents: nothing attends to, or is predicted across, another document.

Shapes: B blocks a batch, T tokens a block.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_modules.data.sampling import draw
from lightning_modules.data.text_corpus import Part

IGNORED = -100  # the label of what is not predicted, as torch's cross_entropy and Hugging Face's models have it
PADDING = -1  # the document of what pads a block


class Segment(NamedTuple):
    """Tokens first to last - 1 of a part, all of one document; what they are predicted from begins at `first`."""

    first: int
    last: int
    document: int


class Blocks(Protocol):
    """Which segments make a block."""

    n: int

    def __call__(self, block: int, epoch: int) -> list[Segment]:
        """The segments of block 0..n - 1 in that epoch."""
        ...


class Sequential:
    """The documents as one stream cut every T - 1 tokens: a block's last token is the next one's first.

    So every token but a document's first is predicted once an epoch.

    Args:
        starts: (n + 1,), of each document, and the number of tokens.
        block_size: T.
        seed: With one, each epoch is cut at another place, drawn from (seed, epoch), and up to T - 2 tokens are left
            out at either end. None = from the first token to the last.
    """

    def __init__(self, starts: npt.NDArray[np.int64], block_size: int, seed: int | None = None) -> None:
        self.starts, self.block_size, self.seed = starts, block_size, seed
        self.stride = block_size - 1
        n_predicted = int(starts[-1]) - 1
        if seed is None:
            self.n = max(1, -(-n_predicted // self.stride))
            self._n_shifts = 1
        else:
            self.n = max(1, (n_predicted - self.stride + 1) // self.stride)
            self._n_shifts = max(1, min(self.stride, n_predicted - self.n * self.stride + 1))
        self._shifts: dict[int, int] = {}  # of the last epoch asked for

    def __call__(self, block: int, epoch: int) -> list[Segment]:
        """The segments of block 0..n - 1 in that epoch."""
        first = self._shift(epoch) + block * self.stride
        last = min(first + self.block_size, int(self.starts[-1]))
        document = int(np.searchsorted(self.starts, first, "right")) - 1
        found = []
        while first < last:
            end = min(last, int(self.starts[document + 1]))
            found.append(Segment(first, end, document))
            first, document = end, document + 1
        return found

    def _shift(self, epoch: int) -> int:
        if self.seed is None:
            return 0
        if epoch not in self._shifts:
            drawn = torch.randint(self._n_shifts, (), generator=draw(self.seed, "text/shift", epoch))
            self._shifts = {epoch: int(drawn)}
        return self._shifts[epoch]


class BestFit:
    """Whole documents packed into blocks, the longest first, each into the fullest block that still takes it.

    A document longer than a block is cut as `Sequential` cuts; the rest of a block is padding.

    Args:
        starts: (n + 1,), of each document, and the number of tokens.
        block_size: T.

    Source: Ding et al. 2024, section 3.

    >>> blocks = BestFit(np.array([0, 3, 5, 9]), 6)
    >>> [[tuple(segment) for segment in blocks(block, 0)] for block in range(blocks.n)]
    [[(5, 9, 2), (3, 5, 1)], [(0, 3, 0)]]
    """

    def __init__(self, starts: npt.NDArray[np.int64], block_size: int) -> None:
        segments = [
            Segment(first, min(first + block_size, end), document)
            for document, (begin, end) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))
            for first in range(begin, max(begin + 1, end - 1), block_size - 1)
        ]
        segments.sort(key=lambda segment: segment.first - segment.last)
        self._blocks: list[list[Segment]] = []
        with_room: list[list[int]] = [[] for _ in range(block_size + 1)]  # blocks by the tokens they still take
        rooms = 0  # bit r is set where with_room[r] is not empty
        for segment in segments:
            size = segment.last - segment.first
            fitting = rooms >> size
            if fitting:
                room = size + (fitting & -fitting).bit_length() - 1
                block = with_room[room].pop()
                if not with_room[room]:
                    rooms ^= 1 << room
            else:
                room, block = block_size, len(self._blocks)
                self._blocks.append([])
            self._blocks[block].append(segment)
            with_room[room - size].append(block)
            rooms |= 1 << (room - size)
        self.n = len(self._blocks)

    def __call__(self, block: int, epoch: int) -> list[Segment]:
        """The segments of block 0..n - 1, the same in every epoch."""
        return self._blocks[block]


class OneDocument:
    """One document a block, cut to T tokens: for models that judge a document as a whole.

    Args:
        starts: (n + 1,), of each document, and the number of tokens.
        block_size: T.
    """

    def __init__(self, starts: npt.NDArray[np.int64], block_size: int) -> None:
        self.starts, self.block_size, self.n = starts, block_size, len(starts) - 1

    def __call__(self, block: int, epoch: int) -> list[Segment]:
        """The segment of block 0..n - 1, the same in every epoch."""
        first = int(self.starts[block])
        return [Segment(first, min(first + self.block_size, int(self.starts[block + 1])), block)]


def batch_of(part: Part, rows: Sequence[Sequence[Segment]], block_size: int) -> dict[str, Tensor]:
    """The tensors of a batch.

    Args:
        part: Where the tokens lie.
        rows: B lists of segments, of T tokens at most.
        block_size: T.

    Returns:
        int64 (B, T) each: `input_ids`, 0 in padding; `labels`, each token's own id (not shifted), `IGNORED` for what
        is not predicted: padding, prompts, the first token of a segment; `position_ids`, from 0 in every segment;
        `document_ids`, numbered in the block, `PADDING` in padding. Where the part has them: `bytes` int64 (B, T),
        UTF-8 bytes of each token, `clean` bool (B, T), whether its text is not in the training part, and, for labelled
        documents alone in their blocks, `label` int64 (B,).
    """
    shape = (len(rows), block_size)
    found = {
        "input_ids": np.zeros(shape, np.int64),
        "labels": np.full(shape, IGNORED, np.int64),
        "position_ids": np.zeros(shape, np.int64),
        "document_ids": np.full(shape, PADDING, np.int64),
    }
    further: dict[str, npt.NDArray[np.generic]] = {}
    if part.n_bytes is not None:
        found["bytes"], further["bytes"] = np.zeros(shape, np.int64), part.n_bytes
    if part.clean is not None:
        found["clean"], further["clean"] = np.zeros(shape, bool), part.clean
    for row, segments in enumerate(rows):
        place = 0
        for number, (first, last, document) in enumerate(segments):
            here = (row, slice(place, place + last - first))
            ids = part.tokens[first:last]
            found["input_ids"][here] = ids
            found["position_ids"][here] = np.arange(last - first)
            found["document_ids"][here] = number
            for key, values in further.items():
                found[key][here] = values[first:last]
            untrained = max(1, int(part.starts[document] + part.prompts[document]) - first)
            found["labels"][row, place + untrained : place + last - first] = ids[untrained:]
            place += last - first
    if part.labels is not None:
        found["label"] = part.labels[[segments[0].document for segments in rows]]
    return {key: torch.from_numpy(values) for key, values in found.items()}
