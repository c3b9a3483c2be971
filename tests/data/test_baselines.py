import lzma
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.data.baselines import witten_bell_bits_per_byte, xz_bits_per_byte


@given(st.binary(max_size=30), st.binary(min_size=1, max_size=10), st.integers(0, 4))
def test_witten_bell_matches_its_recursion_in_fractions(train: bytes, validation: bytes, order: int) -> None:
    def probability(context: bytes, byte: int) -> Fraction:
        shorter = Fraction(1, 256) if not context else probability(context[1:], byte)
        length = len(context)
        behind = [train[place + length] for place in range(len(train) - length) if train[place:].startswith(context)]
        if not behind:
            return shorter
        return (behind.count(byte) + len(set(behind)) * shorter) / (len(behind) + len(set(behind)))

    text = train + validation
    places = range(len(train), len(text))
    exact = -sum(math.log2(probability(text[max(0, place - order) : place], text[place])) for place in places)
    assert witten_bell_bits_per_byte(train, validation, order) == pytest.approx(exact / len(validation))


def test_witten_bell_probabilities_sum_to_one() -> None:
    train = b"the theory of the thing"
    bits = [witten_bell_bits_per_byte(train, bytes([byte])) for byte in range(256)]
    assert sum(2**-each for each in bits) == pytest.approx(1)


def test_xz_pays_little_for_what_it_has_seen() -> None:
    text = bytes(range(256)) * 4
    assert xz_bits_per_byte(text, text) < 0.5
    assert xz_bits_per_byte(b"", text) == pytest.approx(
        8 * (len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) - len(lzma.compress(b""))) / len(text), abs=0.01
    )
