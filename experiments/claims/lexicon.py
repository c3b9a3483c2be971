"""The claims of kexue.fm/archives/5476 on words by minimum entropy (M1 to M8).

Legend: N tokens of a text in all, p_a = N_a / N; L = H / l bits a character; F_ab (2.11) what merging a and b saves, F*
(2.15) its bound; n characters a word may have. The text is Python's English documentation without its spaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from experiments.claims.context import Context
from experiments.claims.entropy import held_out
from experiments.claims.intervals import jackknife
from experiments.claims.python_docs import (
    LETTERS,
    Segment,
    boundary_counts,
    english,
    f_score,
    letters,
    merged_starts,
    parts,
    starts,
    word_counts,
)
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from experiments.claims.repetitions import exact_evidence, mean_evidence, mean_points
from mining.article import cut_at_once, remove_redundant
from mining.corpus import Policy, Units
from mining.entropy import BIT, bits_per_character, entropy, fstar, held_out_bits, merge_gain, pmi, solidity
from mining.merges import Criterion, Merge, greedy_merges
from mining.ngrams import count

QUESTION = "5476-words"
CRITERIA: tuple[Criterion, ...] = ("fstar", "count", "pmi")
MERGES = 60
MIN_PROB, MIN_PMI = 1e-7, 1.0  # the article's


@cache
def merged(text: tuple[Segment, ...], criterion: Criterion, n: int) -> tuple[Merge, ...]:
    """The first n merges of a text's letters."""
    return tuple(greedy_merges(letters(text), criterion=criterion, n_merges=n))


def merges_of(context: Context, criterion: Criterion) -> list[tuple[Merge, ...]]:
    """Merges of each part of the text."""
    n = context.design("merges", MERGES, 400)
    return [merged(tuple(part), criterion, n) for part in parts(context, context.design("parts", 6, 20))]


def identity(context: Context) -> Evidence:
    """Largest |change of L + F / l| over the merges by three criteria."""
    errors, changes, laws = [], [], []
    for criterion in CRITERIA:
        for merges in merges_of(context, criterion):
            n_letters = merges[0].n_tokens
            for merge in merges:
                law = -merge.gain / BIT * merge.n_tokens / n_letters
                changes.append(merge.bits_after - merge.bits_before)
                laws.append(law)
                errors.append(abs(changes[-1] - law))
    shown = np.argsort(laws)[:: max(len(laws) // 60, 1)]
    points = [Point(laws[at], changes[at], series="merges") for at in shown]
    theory = [Curve(laws[at], laws[at], "-F / l") for at in shown]
    axes = Axes("-F / l, bits a character", "change of L, bits a character")
    return exact_evidence("largest |change of L + F / l|, bits", max(errors), len(errors), points, theory, axes)


Cases = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def cases(context: Context) -> Cases:
    """Random p_ab, p_a, p_b (n,) with p_ab up to all of the rarer, and what the merge does to L times l, by counting.

    The change is that of the entropies of two whole distributions, in nats a token of the text before.
    """
    rng, n = context.rng("pairs"), context.design("pairs", 3000, 100_000)
    p_a, p_b = 10.0 ** -rng.uniform(0.35, 3, (2, n))
    p_ab = np.minimum(p_a, p_b) * rng.uniform(0.001, 0.999, n)
    rest = (1 - p_a - p_b)[:, None] * rng.dirichlet(np.ones(5), n)
    changes = np.empty(n)
    for at in range(n):
        before = np.array([p_a[at], p_b[at], *rest[at]])
        after = np.array([p_ab[at], p_a[at] - p_ab[at], p_b[at] - p_ab[at], *rest[at]])
        changes[at] = entropy(after) * (1 - p_ab[at]) - entropy(before)  # l grows by 1 / (1 - p_ab)
    return p_ab, p_a, p_b, changes


def bound_excess(context: Context) -> Evidence:
    """Largest F* - F over random pairs."""
    p_ab, p_a, p_b, _ = cases(context)
    bound, gain = fstar(p_ab, p_a, p_b), merge_gain(p_ab, p_a, p_b)
    shown = np.argsort(gain)[:: max(len(gain) // 60, 1)]
    points = [Point(gain[at], bound[at], series="F*") for at in shown]
    theory = [Curve(gain[at], gain[at], "F") for at in shown]
    return exact_evidence(
        "largest F* - F, nats", float((bound - gain).max()), len(gain), points, theory, Axes("F, nats", "F*, nats")
    )


def wrong_signs(context: Context, *, rule: str) -> Evidence:
    """Pairs of which a rule foretells the wrong sign of the change of L.

    Rules: "fstar" where F* > 0, L falls; "pmi" where PMI < 1 nat, L rises; "gain" L falls just where F > 0.
    """
    p_ab, p_a, p_b, changes = cases(context)
    wrong = {
        "fstar": (fstar(p_ab, p_a, p_b) > 0) & (changes >= 0),
        "pmi": (pmi(p_ab, p_a, p_b) < 1) & (changes < 0),
        "gain": (merge_gain(p_ab, p_a, p_b) > 0) != (changes < 0),
    }[rule]
    return exact_evidence("pairs with the wrong sign", float(wrong.sum()), len(wrong))


def ahead(context: Context, *, other: Criterion, is_held_out: bool = False) -> Evidence:
    """L after as many merges by another criterion less that by F*; of the next part of the text where held out."""
    texts = parts(context, context.design("parts", 6, 20))
    curves = {}
    for criterion in ("fstar", other):
        chains = merges_of(context, criterion)
        if is_held_out:
            curves[criterion] = [
                [unseen_bits(chain, letters(texts[at]), letters(texts[(at + 1) % len(texts)]))]
                for at, chain in enumerate(chains)
            ]
        else:
            n = min(map(len, chains))
            curves[criterion] = [[merge.bits_after for merge in chain[:n]] for chain in chains]
    ends = {criterion: np.array(curve)[:, -1] for criterion, curve in curves.items()}
    points = []
    if not is_held_out:
        for criterion, curve in curves.items():
            steps = np.arange(1, len(curve[0]) + 1)
            points += mean_points(steps, curve, {"fstar": "by F*", "count": "by frequency", "pmi": "by PMI"}[criterion])
    return mean_evidence(
        "bits a letter, less those by F*", ends[other] - ends["fstar"], points, axes=Axes("merges", "bits a letter")
    )


def unseen_bits(chain: Sequence[Merge], seen: Units, other: Units) -> float:
    """Bits a letter of another text, merged alike, by the frequencies of the text the merges were chosen on."""
    lengths = dict.fromkeys(range(LETTERS), 1)
    for merge in chain:
        lengths[merge.token] = lengths[merge.left] + lengths[merge.right]
    before, after = (np.bincount(replayed(chain, text), minlength=len(lengths)) for text in (seen, other))
    return held_out_bits(before, after, [lengths[token] for token in range(len(lengths))], LETTERS)


def replayed(chain: Sequence[Merge], text: Units) -> NDArray[np.int64]:
    """The tokens of a text of all 26 letters after the merges."""
    tokens = text.codes.astype(np.int64) - ord("a")
    segment = np.repeat(np.arange(len(text.starts) - 1), np.diff(text.starts))
    for merge in chain:
        meet = (tokens[:-1] == merge.left) & (tokens[1:] == merge.right) & (segment[:-1] == segment[1:])
        first = np.flatnonzero(meet)
        tokens[first] = merge.token
        tokens, segment = np.delete(tokens, first + 1), np.delete(segment, first + 1)
    return tokens


def sentences_less_words(context: Context, *, is_held_out: bool) -> Evidence:
    """Bits a letter with whole segments for words, less those with the true words."""
    found = []
    for part in parts(context, context.design("parts", 6, 20)):
        half = len(part) // 2
        costs = []
        for join in (True, False):
            seen, other = (word_counts(phrases(segments, join)) for segments in (part[:half], part[half:]))
            both = seen + other
            own = bits_per_character(list(both.values()), [len(word) for word in both])
            costs.append(held_out(seen, other) if is_held_out else own)
        found.append(costs[0] - costs[1])
    return mean_evidence("bits a letter, by segments less by words", found)


def cut_starts(text: Units, n: int) -> NDArray[np.bool_]:
    """(units,) whether a word begins: wherever no n-gram of 2 to n units with PMI above 1 nat holds the two together.

    The PMI of a longer n-gram is the least over its splits; at n = 2 this is the article's cut.
    """
    ngrams = count(text, n, policy=Policy(latin="each"))
    holds = np.zeros(len(text), bool)
    for k, (rows, values) in enumerate(zip(ngrams.locate(text)[1:], solidity(ngrams)[1:], strict=True), 2):
        solid = (rows >= 0) & np.append(values > MIN_PMI, False)[rows]
        for at in range(1, k):
            holds[at:] |= solid[: len(solid) - at]
    is_start = ~holds
    is_start[text.starts[:-1]] = True
    return is_start


Finder = Callable[[Units], NDArray[np.bool_]]
FINDERS: dict[str, Finder] = {
    "letters": lambda text: np.ones(len(text), bool),
    "pairs": partial(cut_starts, n=2),
    "longer": partial(cut_starts, n=4),
    "merges": lambda _: merged_starts(),
}


def borders_ahead(context: Context, *, first: str, second: str) -> Evidence:
    """F of the borders of words found in one way, less that in another."""
    segments = english()
    text, gold = letters(segments), starts(segments)
    n_blocks = context.design("blocks", 12, 40)
    counts = np.stack([boundary_counts(text, FINDERS[each](text), gold, n_blocks) for each in (first, second)], 1)
    found = jackknife(counts.astype(float), lambda mean: f_score(mean[0]) - f_score(mean[1]))
    return Evidence("F of borders, less the other's", found.estimate, found.low, found.high, found.n)


def removed_share(segments: Sequence[Segment]) -> float:
    """Share of the candidates of several letters that the article's fourth step removes."""
    text, policy = letters(segments), Policy(latin="each")
    found = cut_at_once([text], count(text, 2, policy=policy), MIN_PROB, MIN_PMI)
    _, removed = remove_redundant(found, min_gain=MIN_PMI, policy=policy)
    return len(removed) / sum(len(word) > 1 for word in found)


def removed_in_all(context: Context) -> Evidence:
    """That share of the whole text."""
    return exact_evidence("share of candidates removed", removed_share(english()), 1)


def removed_by_size(context: Context) -> Evidence:
    """That share of a part of the text, less that of an eighth of the part."""
    texts = parts(context, context.design("parts", 6, 20))
    sizes = (0.125, 0.25, 0.5, 1.0)
    shares = [[removed_share(part[: int(len(part) * size)]) for size in sizes] for part in texts]
    letters_in = [float(np.mean([len(letters(part[: int(len(part) * size)])) for part in texts])) for size in sizes]
    points = mean_points(letters_in, shares)
    axes = Axes("letters of the text", "share of candidates removed", log_x=True)
    return mean_evidence("share removed, less that of an eighth", np.array(shares) @ [-1, 0, 0, 1], points, axes=axes)


def phrases(segments: Iterable[Segment], join: bool) -> Iterable[Segment]:
    """The segments as words, or each as one long word."""
    return (("".join(segment),) if join else segment for segment in segments)


claim = partial(Claim, article=5476, question=QUESTION)

CLAIMS = (
    claim(
        id="5476-M1",
        statement="Merging a and b changes the bits a character by exactly -F_ab / l, with l before the merge.",
        statement_zh="合并 a、b 使每字信息熵恰好改变 -F_ab / l（l 取合并前的值）。",
        formula=r"\Delta\mathcal{L} = -F_{ab} / l",
        probe=identity,
        rule="at most",
        expected=0.0,
        tolerance=1e-9,
        reason="Rounding of sums over 50,000 tokens.",
        source="equation (2.13)",
    ),
    claim(
        id="5476-M2",
        statement="F* is a lower bound of F.",
        statement_zh="F* 是 F 的下界。",
        formula=r"F^*_{ab} \le F_{ab}",
        probe=bound_excess,
        rule="at most",
        expected=0.0,
        tolerance=1e-12,
        reason="Rounding.",
        source="equation (2.15)",
    ),
    claim(
        id="5476-M2.1",
        statement="Where F* is positive, merging lowers the bits a character.",
        statement_zh="只要 F* > 0，合并就降低每字信息熵。",
        formula=r"F^*_{ab} > 0 \Rightarrow \Delta\mathcal{L} < 0",
        probe=partial(wrong_signs, rule="fstar"),
        rule="at most",
        expected=0.0,
        tolerance=0,
        reason="A count of exceptions.",
        source="equation (2.15)",
    ),
    claim(
        id="5476-M3",
        statement="As many merges by F* save more than merges of the most frequent pair (byte-pair encoding).",
        statement_zh="合并次数相同时，按 F* 合并比按频率合并（BPE）省得更多。",
        formula=r"\mathcal{L}_{freq} - \mathcal{L}_{F^*} \ge 0",
        probe=partial(ahead, other="count"),
        rule="at least",
        expected=0.0,
        tolerance=0,
        reason="A sign; no slack.",
        source="section on PMI and frequency",
    ),
    claim(
        id="5476-M3.1",
        statement="As many merges by F* save more than merges of the pair with the greatest PMI.",
        statement_zh="合并次数相同时，按 F* 合并比按互信息合并省得更多。",
        formula=r"\mathcal{L}_{PMI} - \mathcal{L}_{F^*} \ge 0",
        probe=partial(ahead, other="pmi"),
        rule="at least",
        expected=0.0,
        tolerance=0,
        reason="A sign; no slack.",
        source="section on PMI and frequency",
    ),
    claim(
        id="5476-M3.2",
        statement="Against frequency this holds of a text that the merges were not chosen on.",
        statement_zh="与按频率合并相比，在未参与选择的文本上同样成立。",
        formula=r"\mathcal{L}_{freq} - \mathcal{L}_{F^*} \ge 0",
        probe=partial(ahead, other="count", is_held_out=True),
        rule="at least",
        expected=0.0,
        tolerance=0,
        reason="A sign; no slack.",
        source="section on PMI and frequency",
    ),
    claim(
        id="5476-M4",
        statement="Merging a pair whose PMI is below 1 nat raises the bits a character.",
        statement_zh="互信息小于 1 的两字合并会使每字信息熵升高。",
        formula=r"\mathrm{PMI} < 1 \Rightarrow \Delta\mathcal{L} > 0",
        probe=partial(wrong_signs, rule="pmi"),
        rule="at most",
        expected=0.0,
        tolerance=0,
        reason="A count of exceptions.",
        source="the threshold min_pmi = 1",
    ),
    claim(
        id="5476-M4c",
        statement="Merging lowers the bits a character where F is positive, and nowhere else.",
        statement_zh="当且仅当 F > 0 时，合并降低每字信息熵。",
        formula=r"\Delta\mathcal{L} < 0 \Leftrightarrow F_{ab} > 0",
        probe=partial(wrong_signs, rule="gain"),
        rule="at most",
        expected=0.0,
        tolerance=0,
        reason="A count of exceptions.",
        source="equation (2.13)",
    ),
    claim(
        id="5476-M5",
        statement="The word list of least bits a character on its own text is the best: words beat whole phrases.",
        statement_zh="使语料自身每字信息熵最小的词表最好：词优于整句。",
        formula=r"\mathcal{L}_{segments} - \mathcal{L}_{words} \ge 0",
        probe=partial(sentences_less_words, is_held_out=False),
        rule="at least",
        expected=0.0,
        tolerance=0,
        reason="A sign; no slack.",
        source="equation (2.6) as the aim",
    ),
    claim(
        id="5476-M5c",
        statement="On a text the list was not made from, words beat whole phrases.",
        statement_zh="在未参与建词的文本上，词优于整句。",
        formula=r"\mathcal{L}_{segments} - \mathcal{L}_{words} \ge 0",
        probe=partial(sentences_less_words, is_held_out=True),
        rule="at least",
        expected=0.0,
        tolerance=0,
        reason="A sign; no slack.",
        source="equation (2.6) as the aim",
    ),
    claim(
        id="5476-M6",
        statement="In English without its spaces a cut by pairs finds borders of words better than a cut everywhere.",
        statement_zh="在去掉空格的英文中，按两字统计切分比处处切开更能找到词的边界。",
        formula=r"F_{pairs} - F_{letters} \ge 0",
        probe=partial(borders_ahead, first="pairs", second="letters"),
        rule="at least",
        expected=0.0,
        tolerance=0,
        reason="A sign; no slack.",
        source="section on the algorithm",
    ),
    claim(
        id="5476-M6.1",
        statement="Merging for as long as F pays for the new word finds them better than cutting at once.",
        statement_zh="只要 F 抵得上新词代价就合并，比“当机立断”更能找到边界。",
        formula=r"F_{merges} - F_{pairs} \ge 0",
        probe=partial(borders_ahead, first="merges", second="pairs"),
        rule="at least",
        expected=0.0,
        tolerance=0,
        reason="A sign; no slack.",
        source="section on the algorithm",
    ),
    claim(
        id="5476-M7",
        statement="Statistics of pairs are enough: with longer n-grams no more borders are found, in English either.",
        statement_zh="两字统计已经足够：更长的 n 元统计找不到更多边界，英文亦然。",
        formula=r"F_{n=4} - F_{n=2} \le 0",
        probe=partial(borders_ahead, first="longer", second="pairs"),
        rule="at most",
        expected=0.0,
        tolerance=0,
        reason="A sign; no slack.",
        source="section on the algorithm; said of Chinese",
    ),
    claim(
        id="5476-M7c",
        statement="In an alphabet n-grams of up to four letters find more borders than pairs do.",
        statement_zh="对字母文字，至多四元的统计比两元统计找到更多边界。",
        formula=r"F_{n=4} - F_{n=2} \ge 0",
        probe=partial(borders_ahead, first="longer", second="pairs"),
        rule="at least",
        expected=0.0,
        tolerance=0,
        reason="A sign; no slack.",
        source="section on the algorithm",
    ),
    claim(
        id="5476-M8",
        statement="The removal of redundant words takes out 30 % to more than half of the candidates.",
        statement_zh="去除冗余词会删掉 30% 到一半以上的候选词。",
        formula=r"share \ge 0.3",
        probe=removed_in_all,
        rule="at least",
        expected=0.3,
        tolerance=0,
        reason="The least of what is said.",
        source="step 4 of the algorithm",
    ),
    claim(
        id="5476-M8.1",
        statement="That share grows with the text: of an eighth of it less is removed.",
        statement_zh="这一比例随语料增大：八分之一的语料删得更少。",
        formula=r"share(n) - share(n / 8) \ge 0",
        probe=removed_by_size,
        rule="at least",
        expected=0.0,
        tolerance=0,
        reason="A sign; no slack.",
        source="step 4 of the algorithm",
    ),
)
