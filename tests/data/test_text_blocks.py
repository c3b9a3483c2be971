from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.data.text_blocks import IGNORED, PADDING, BestFit, Blocks, OneDocument, Sequential, batch_of
from lightning_modules.data.text_corpus import Part

SIZES = st.lists(st.integers(1, 20), min_size=1, max_size=12)
BLOCK_SIZES = st.integers(2, 9)


def part(sizes: list[int], prompts: list[int] | None = None, labels: list[int] | None = None) -> Part:
    """Documents whose tokens are the numbers from 1 on."""
    n = sum(sizes)
    return Part(
        np.arange(1, n + 1, dtype=np.uint16),
        np.concatenate([[0], np.cumsum(sizes)]),
        np.array(prompts or [0] * len(sizes)),
        None if labels is None else np.array(labels),
        np.arange(n, dtype=np.uint32) % 4,
        np.arange(n) % 2 == 0,
    )


def predicted(documents: Part, blocks: Blocks, block_size: int, epoch: int = 0) -> Counter[int]:
    """How often each token is a label."""
    batch = batch_of(documents, [blocks(block, epoch) for block in range(blocks.n)], block_size)
    return Counter(batch["labels"][batch["labels"] != IGNORED].tolist())


@given(SIZES, BLOCK_SIZES, st.booleans())
def test_every_token_but_a_documents_first_is_predicted_once(sizes: list[int], size: int, is_packed: bool) -> None:
    documents = part(sizes)
    blocks = BestFit(documents.starts, size) if is_packed else Sequential(documents.starts, size)
    firsts = {int(start) + 1 for start in documents.starts[:-1]}
    assert predicted(documents, blocks, size) == Counter(set(range(1, sum(sizes) + 1)) - firsts)


@given(SIZES, BLOCK_SIZES, st.integers(0, 3))
def test_a_training_epoch_predicts_each_token_at_most_once_and_leaves_out_less_than_two_blocks(
    sizes: list[int], size: int, epoch: int
) -> None:
    documents = part([*sizes, 20])
    blocks = Sequential(documents.starts, size, seed=1)
    found = predicted(documents, blocks, size, epoch)
    assert max(found.values()) == 1
    assert len(found) >= sum(sizes) + 20 - len(documents.prompts) - 2 * (size - 1)
    lengths = [sum(segment.last - segment.first for segment in blocks(block, epoch)) for block in range(blocks.n)]
    assert lengths == [size] * blocks.n


def test_each_epoch_is_cut_at_a_place_of_its_own() -> None:
    blocks = Sequential(np.array([0, 1000]), 50, seed=1)
    firsts = [blocks(0, epoch)[0].first for epoch in range(20)]
    assert len(set(firsts)) > 10
    assert firsts == [Sequential(np.array([0, 1000]), 50, seed=1)(0, epoch)[0].first for epoch in range(20)]


@given(SIZES, BLOCK_SIZES)
def test_packed_documents_that_fit_a_block_are_whole_and_blocks_are_no_fuller_than_full(
    sizes: list[int], size: int
) -> None:
    blocks = BestFit(part(sizes).starts, size)
    segments = [blocks(block, 0) for block in range(blocks.n)]
    assert all(sum(last - first for first, last, _ in each) <= size for each in segments)
    pieces = Counter(document for each in segments for _, _, document in each)
    assert all(pieces[document] == 1 for document, length in enumerate(sizes) if length <= size)


def test_packing_fills_blocks_where_a_perfect_fit_exists() -> None:
    blocks = BestFit(part([5, 3, 6, 2, 7, 1]).starts, 8)
    assert blocks.n == 3


def test_a_batch_holds_ids_positions_documents_and_labels_of_its_segments() -> None:
    documents = part([3, 4], prompts=[0, 2])
    batch = batch_of(documents, [Sequential(documents.starts, 8)(0, 0)], 8)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6, 7, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 2, 3, IGNORED, IGNORED, 6, 7, IGNORED]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3, 0]]
    assert batch["document_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 1, PADDING]]
    assert batch["bytes"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 0]]
    assert batch["clean"].tolist() == [[True, False, True, False, True, False, True, False]]
    assert "label" not in batch


def test_a_prompt_is_not_predicted_in_later_blocks_either() -> None:
    documents = part([9], prompts=[6])
    assert predicted(documents, BestFit(documents.starts, 8), 8) == Counter([7, 8, 9])


def test_labelled_documents_stand_alone_in_their_blocks_and_are_cut_to_them() -> None:
    documents = part([3, 9], labels=[1, 0])
    blocks = OneDocument(documents.starts, 4)
    batch = batch_of(documents, [blocks(block, 0) for block in range(blocks.n)], 4)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 0], [4, 5, 6, 7]]
    assert batch["label"].tolist() == [1, 0]


@pytest.mark.parametrize("size", [2, 5])
def test_a_text_of_exactly_one_block_is_one_block(size: int) -> None:
    assert Sequential(np.array([0, size]), size, seed=0).n == Sequential(np.array([0, size]), size).n == 1
