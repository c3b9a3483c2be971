"""The claims of kexue.fm/archives/5448 on the information of letters, words and languages (E1 to E5).

Legend: p_c the share of a unit c; H = -sum p_c log2 p_c bits a unit; L bits a character. The text is Python's own
documentation: English, its spaces removed; Chinese where it has been fetched.
"""

from __future__ import annotations

import lzma
import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from experiments.claims.context import Context
from experiments.claims.intervals import jackknife
from experiments.claims.python_docs import (
    FETCH,
    LETTERS,
    Segment,
    boundary_counts,
    english,
    f_score,
    letters,
    merged_starts,
    parallel,
    parts,
    starts,
    word_counts,
)
from experiments.claims.registry import Axes, Claim, Evidence
from experiments.claims.repetitions import mean_evidence, mean_points
from lightning_modules.data.baselines import witten_bell_bits_per_byte
from mining.entropy import BIT, bits_per_character, entropy, held_out_bits

HAN = ("一", "鿿")
ORDERS = (0, 1, 2, 3, 4)
QUESTION = "5448-cost"


def missing(statistic: str) -> Evidence:
    """No figure: the Chinese text is not on this machine."""
    return Evidence(f"{statistic}; {FETCH}", math.nan, math.nan, math.nan, 0)


def block_evidence(
    statistic: str, blocks: NDArray[np.float64], figure: Callable[[NDArray[np.float64]], float]
) -> Evidence:
    """A figure of summed counts, with its interval from leaving out each of the (R, ...) blocks in turn."""
    found = jackknife(blocks, lambda mean: figure(mean * len(blocks)))
    return Evidence(statistic, found.estimate, found.low, found.high, found.n)


def tally(texts: Iterable[str], low: str, high: str) -> Counter[str]:
    """How often each character from `low` to `high` occurs, in lower case."""
    return Counter(each for text in texts for each in text.lower() if low <= each <= high)


def bits(counts: NDArray[np.float64]) -> float:
    """H by Miller and Madow, in bits."""
    return entropy(counts, miller_madow=True) / BIT


def table(counts: list[Counter[str]]) -> NDArray[np.float64]:
    """(R, V) counts over the characters that occur in any."""
    known = sorted(set().union(*counts))
    return np.array([[each[character] for character in known] for each in counts], float)


def letter_bits(context: Context) -> Evidence:
    """H of an English letter."""
    blocks = parts(context, context.design("parts", 12, 40))
    counts = np.array([np.bincount(letters(part).codes - ord("a"), minlength=LETTERS) for part in blocks], float)
    return block_evidence("bits of an English letter", counts, bits)


def character_bits(context: Context) -> Evidence:
    """H of a Chinese character."""
    texts = [chinese for _, chinese in parallel()]
    if not texts:
        return missing("bits of a Chinese character")
    blocks = np.array_split(np.array(texts, object), context.design("parts", 12, 40))
    return block_evidence("bits of a Chinese character", table([tally(block, *HAN) for block in blocks]), bits)


def information_ratio(context: Context, *, is_compressed: bool = False) -> Evidence:
    """Bits of the English text over those of its translation; Latin letters that both contain count on both sides."""
    statistic = "bits of the English text / of the Chinese"
    pairs = parallel()
    if not pairs:
        return missing(statistic)
    blocks = np.array_split(np.array(pairs, object), context.design("parts", 12, 40))
    if is_compressed:
        sizes = [[compressed(block[:, side]) for side in (0, 1)] for block in blocks]
        return block_evidence(statistic, np.array(sizes, float), lambda total: float(total[0] / total[1]))
    kept = [[tally(block[:, 0], "a", "z"), tally(block[:, 1], *HAN), tally(block[:, 1], "a", "z")] for block in blocks]
    tables = [table([row[at] for row in kept]) for at in range(3)]
    edges = np.cumsum([each.shape[1] for each in tables])[:-1]

    def ratio(counts: NDArray[np.float64]) -> float:
        latin, han, latin_in_chinese = np.split(counts, edges)
        letter = bits(latin)
        return float(latin.sum() * letter / (han.sum() * bits(han) + latin_in_chinese.sum() * letter))

    return block_evidence(statistic, np.concatenate(tables, 1), ratio)


def compressed(texts: Iterable[str]) -> int:
    """Bits by xz."""
    return 8 * len(lzma.compress("\n".join(texts).encode(), preset=9 | lzma.PRESET_EXTREME))


def letters_a_word(context: Context) -> Evidence:
    """Mean length of an English word."""
    counts = [word_counts(part) for part in parts(context, context.design("parts", 12, 40))]
    sums = [[sum(count.values()), sum(len(word) * n for word, n in count.items())] for count in counts]
    return block_evidence("letters a word", np.array(sums, float), lambda total: float(total[1] / total[0]))


def words_save(context: Context, *, is_held_out: bool) -> Evidence:
    """Bits a letter by letters less bits a letter by words; of a text's other half where held out."""
    saved = []
    for part in parts(context, context.design("parts", 12, 40)):
        half = len(part) // 2
        costs = []
        for spell in (True, False):
            seen, other = (word_counts(tokens(segments, spell)) for segments in (part[:half], part[half:]))
            costs.append(held_out(seen, other) if is_held_out else own(seen + other))
        saved.append(costs[0] - costs[1])
    return mean_evidence("bits a letter, by letters less by words", saved)


def tokens(segments: Iterable[Segment], spell: bool) -> Iterable[Segment]:
    """The segments as words, or as letters."""
    return (tuple("".join(segment)) if spell else segment for segment in segments)


def own(counts: Counter[str]) -> float:
    """L of a text in bits, by its own frequencies."""
    return bits_per_character(list(counts.values()), [len(word) for word in counts], miller_madow=True)


def held_out(seen: Counter[str], other: Counter[str]) -> float:
    """Bits a letter of another text, by the frequencies seen."""
    words = sorted(seen | other)
    before, after = ([count[word] for word in words] for count in (seen, other))
    return held_out_bits(before, after, [len(word) for word in words], LETTERS)


def unit_ratio(context: Context) -> Evidence:
    """Bits of a word over bits of a letter."""
    ratios = []
    for part in parts(context, context.design("parts", 12, 40)):
        word, letter = (word_counts(tokens(part, spell)) for spell in (False, True))
        ratios.append(bits(np.array([*word.values()], float)) / bits(np.array([*letter.values()], float)))
    return mean_evidence("bits of a word / bits of a letter", ratios)


def ladder(context: Context) -> Evidence:
    """What each further letter of context saves on a held-out text, the least of them."""
    rows = []
    for part in parts(context, context.design("parts", 8, 20)):
        text = "\n".join(map("".join, part)).encode()
        cut = len(text) * 4 // 5
        rows.append([witten_bell_bits_per_byte(text[:cut], text[cut:], order) for order in ORDERS])
    saved = -np.diff(np.array(rows), axis=1)
    axes = Axes("letters of context", "bits a letter, held out")
    return mean_evidence("least saving of a further letter, bits", saved.min(1), mean_points(ORDERS, rows), axes=axes)


def boundaries(context: Context) -> Evidence:
    """F of the words' borders that merging by minimum entropy finds in the English text without spaces."""
    segments = english()
    blocks = context.design("parts", 12, 40)
    counts = boundary_counts(letters(segments), merged_starts(), starts(segments), blocks)
    return block_evidence("F of the borders of words", counts.astype(float), f_score)


claim = partial(Claim, article=5448, question=QUESTION)

CLAIMS = (
    claim(
        id="5448-E1",
        statement="An English letter carries 4.03 bits.",
        statement_zh="每个英文字母平均含 4.03 比特信息。",
        formula=r"-\sum_c p_c \log_2 p_c = 4.03",
        probe=letter_bits,
        rule="equals",
        expected=4.03,
        tolerance=0.15,
        reason="Texts of different kinds differ by about 0.1.",
        source="equation (1.2)",
    ),
    claim(
        id="5448-E1.1",
        statement="A Chinese character carries 9.65 bits, whatever the text.",
        statement_zh="无论何种语料，每个汉字平均含 9.65 比特信息。",
        formula=r"-\sum_c p_c \log_2 p_c = 9.65",
        probe=character_bits,
        rule="equals",
        expected=9.65,
        tolerance=0.3,
        reason="Twice what English texts differ by: there are more characters.",
        source="equation (1.2)",
    ),
    claim(
        id="5448-E2",
        statement="A text and its translation carry equal information, counted letter by letter.",
        statement_zh="原文与译文按单字统计的信息总量相等。",
        formula=r"\frac{n_{en} H_{en}}{n_{zh} H_{zh}} = 1",
        probe=information_ratio,
        rule="equals",
        expected=1.0,
        tolerance=0.15,
        reason="The article's own figures give 1.04, or 1.23 with the true length of words.",
        source="the comparison of 800 characters with 500 words",
    ),
    claim(
        id="5448-E2c",
        statement="Once what repeats is taken out (xz), a text and its translation carry about equal information.",
        statement_zh="用 xz 去掉重复之后，原文与译文的信息总量大致相等。",
        formula=r"\frac{|\mathrm{xz}(en)|}{|\mathrm{xz}(zh)|} = 1",
        probe=partial(information_ratio, is_compressed=True),
        rule="equals",
        expected=1.0,
        tolerance=0.15,
        reason="As E2.",
        source="the comparison of 800 characters with 500 words",
    ),
    claim(
        id="5448-E2.1",
        statement="An English word has 4 letters on average.",
        statement_zh="英文单词平均 4 个字母。",
        formula=r"\bar l = 4",
        probe=letters_a_word,
        rule="equals",
        expected=4.0,
        tolerance=0.25,
        reason="Beyond it the article's comparison with Chinese changes by 6 %.",
        source="the comparison of 800 characters with 500 words",
    ),
    claim(
        id="5448-E3",
        statement="Who knows the words pays fewer bits a letter: units of more letters lower the entropy.",
        statement_zh="以词为单位，平摊到每个字母的信息熵更低。",
        formula=r"H_{letters} - H_{words} / l \ge 0.5",
        probe=partial(words_save, is_held_out=False),
        rule="at least",
        expected=0.5,
        tolerance=0,
        reason="An eighth of a letter's bits.",
        source="section on lower entropy by larger units",
    ),
    claim(
        id="5448-E3.1",
        statement="The same holds of a text that the frequencies were not counted in.",
        statement_zh="在未参与统计的文本上同样成立。",
        formula=r"H_{letters} - H_{words} / l \ge 0.5",
        probe=partial(words_save, is_held_out=True),
        rule="at least",
        expected=0.5,
        tolerance=0,
        reason="As E3; an unknown word costs an escape and its letters.",
        source="section on lower entropy by larger units",
    ),
    claim(
        id="5448-E3.2",
        statement="A word carries more bits than a letter: units of different length are compared by totals alone.",
        statement_zh="每个词的信息量大于每个字母：不同单位之间只能比较总信息量。",
        formula=r"H_{words} / H_{letters} \ge 1",
        probe=unit_ratio,
        rule="at least",
        expected=1.0,
        tolerance=0,
        reason="A ratio; no slack.",
        source="the comparison of Chinese with English",
    ),
    claim(
        id="5448-E4",
        statement="An estimated entropy is an upper bound: each further letter of context lowers it on unseen text.",
        statement_zh="估计出的熵是上界：每多看一个上文字母，在未见过的文本上仍继续下降。",
        formula=r"H_{n-1} - H_n \ge 0,\quad n = 1, \dots, 4",
        probe=ladder,
        rule="at least",
        expected=0.0,
        tolerance=0,
        reason="A sign; no slack.",
        source="the two readings of minimum entropy",
    ),
    claim(
        id="5448-E5",
        statement="Minimum entropy finds the words of English without spaces (the experiment of 1993).",
        statement_zh="最小熵能从去掉空格的英文中找回单词（1993 年的实验）。",
        formula=r"F_{borders} \ge 0.7",
        probe=boundaries,
        rule="at least",
        expected=0.7,
        tolerance=0,
        reason="Letters alone give 0.33, of which a border stands at every fifth.",
        source="Redundancy Reduction as a Strategy for Unsupervised Learning, cited there",
    ),
)
