from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.data.text_sources import Piece
from lightning_modules.data.text_split import WINDOW, hold_out, is_clean, without_shared_blocks


def reads(*pieces: Piece) -> Callable[[], Iterator[Piece]]:
    return lambda: iter(pieces)


def parts(pieces: list[Piece], fraction: float = 0.1) -> tuple[list[Piece], list[Piece]]:
    train, validation = hold_out(reads(*pieces), fraction, "corpus")
    return list(train()), list(validation())


def test_the_end_of_few_documents_validates_and_nothing_is_lost() -> None:
    train, validation = parts([Piece("a" * 60), Piece("b" * 20, is_first=False), Piece("c" * 20)], 0.3)
    assert train == [Piece("a" * 60), Piece("b" * 10, is_first=False)]
    assert validation == [Piece("b" * 10), Piece("c" * 20)]


@given(st.lists(st.text("ab", min_size=1, max_size=6), min_size=20, max_size=60, unique=True), st.randoms())
def test_whole_documents_validate_by_their_text_whatever_their_order(texts: list[str], random: object) -> None:
    train, validation = parts([Piece(text) for text in texts])
    again = parts([Piece(text) for text in sorted(texts)])
    assert len(validation) == round(0.1 * len(texts))
    assert sorted(train + validation) == sorted(map(Piece, texts))
    assert sorted(validation) == sorted(again[1])


def test_equal_documents_stand_on_one_side() -> None:
    train, validation = parts([Piece(f"text {number % 25}") for number in range(100)])
    assert not {piece.text for piece in train} & {piece.text for piece in validation}
    assert len(validation) % 4 == 0


def test_a_long_document_stays_whole_among_many() -> None:
    pieces = [Piece(f"{number} and ", is_first=part == 0) for number in range(30) for part in (0, 1)]
    train, validation = parts(pieces)
    assert len(validation) == 6
    assert all(first.text == second.text for first, second in zip(validation[::2], validation[1::2], strict=True))
    assert len(train) == 54


def test_few_documents_with_prompts_or_labels_are_never_cut() -> None:
    train, validation = parts([Piece("4", "2+2="), Piece("6", "3+3="), Piece("8", "4+4=")])
    assert (len(train), len(validation)) == (2, 1)


def test_no_text_and_equal_documents_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^corpus: holds no text; give a file with some$"):
        parts([])
    with pytest.raises(ValueError, match=r"^corpus: its 30 documents are all the same; give others, or a validation"):
        parts([Piece("one")] * 30)


def test_paragraphs_that_validate_are_left_out_of_training() -> None:
    shared, own, short = "shared " * 10, "own " * 20, "short"
    train = [Piece(f"{own}\n\n{shared}\n \n{short}\n\n{own}"), Piece(shared)]
    found = list(without_shared_blocks(train, [Piece(f"{short}\n\n{shared}")]))
    assert found == [Piece(f"{own}\n\n{short}\n\n{own}")]


@given(st.lists(st.sampled_from(["ab" * 13, "今天" * 9, "xyz" * 20, "q", "\n"]), max_size=6), st.data())
def test_a_byte_is_clean_where_no_window_over_it_is_in_training(chunks: list[str], data: st.DataObject) -> None:
    validation = "".join(chunks)
    train = "".join(data.draw(st.permutations([*chunks, "ab" * 13])))
    cut = data.draw(st.integers(0, len(train)))
    found = is_clean([Piece(train[:cut]), Piece(train[cut:], is_first=False)], [Piece(validation)])
    content, seen = validation.encode(), train.encode()
    expected = np.ones(len(content), bool)
    for first in range(len(content) - WINDOW + 1):
        if content[first : first + WINDOW] in seen:
            expected[first : first + WINDOW] = False
    np.testing.assert_array_equal(found, expected)


def test_a_window_across_two_training_documents_is_not_seen() -> None:
    text = "".join(chr(97 + number % 23) for number in range(60))
    assert is_clean([Piece(text[:30]), Piece(text[30:])], [Piece(text)]).all()
    assert not is_clean([Piece(text)], [Piece(text)]).any()
