"""Bits per byte of counting and of compression: what a language model has to beat."""

import lzma
import math
from collections import defaultdict


def witten_bell_bits_per_byte(train: bytes, validation: bytes, order: int = 4) -> float:
    """Bits per byte of the validation text under the byte n-grams of the training text.

    p(b|h) = (c(h b) + t(h) p(b|h')) / (c(h) + t(h)): t(h) counts the different bytes seen behind h, h' is h without its
    first byte, and below the empty context all bytes are equally likely.

    Args:
        train: What is counted.
        validation: What is coded, as the continuation of `train`; not empty.
        order: Longest context, in bytes.

    Source: Witten & Bell 1991, method C, interpolated as in Chen & Goodman 1999, equation (17).

    >>> round(2 ** -witten_bell_bits_per_byte(b"aab", b"a", order=0), 7)  # (2 + 2 / 256) / (3 + 2)
    0.4015625
    """
    counts: list[dict[bytes, dict[int, int]]] = [defaultdict(dict) for _ in range(order + 1)]
    for length, table in enumerate(counts):
        for place in range(length, len(train)):
            behind = table[train[place - length : place]]
            behind[train[place]] = behind.get(train[place], 0) + 1
    totals = [{context: sum(behind.values()) for context, behind in table.items()} for table in counts]
    history = train[len(train) - min(order, len(train)) :]
    text, bits = history + validation, 0.0
    for place in range(len(history), len(text)):
        probability = 1 / 256
        for length in range(min(order, place) + 1):
            context = text[place - length : place]
            total = totals[length].get(context)
            if total is None:
                break  # nor has any longer context been seen
            behind = counts[length][context]
            probability = (behind.get(text[place], 0) + len(behind) * probability) / (total + len(behind))
        bits -= math.log2(probability)
    return bits / len(validation)


def xz_bits_per_byte(train: bytes, validation: bytes) -> float:
    """Bits by which the validation text lengthens the compressed training text, for each of its bytes.

    Args:
        train: Compressed with and without what follows.
        validation: Not empty.
    """
    longer, shorter = (len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) for text in (train + validation, train))
    return 8 * (longer - shorter) / len(validation)
