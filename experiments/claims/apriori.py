"""Claims on Apriori: what the level-wise algorithm finds, what it costs, and what its rules are worth (P1 to P6).

Baskets are drawn: independent items, each with its own probability, unless habits are asked for: then some also hold
all items of a pattern. N is the number of baskets, k that of items.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from experiments.claims.context import Context
from experiments.claims.intervals import jackknife, slope
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from mining.apriori import Itemsets, mine_itemsets
from mining.baskets import Baskets
from mining.rules import rules
from mining.significance import wilson

Rows = list[list[int]]
QUESTION = "5525-efficient"


def draw(rng: np.random.Generator, n_baskets: int, n_items: int, share: float, habits: int = 0) -> Rows:
    """Baskets of items with probabilities around `share`; each of `habits` patterns of three is in a tenth of them."""
    has = rng.random((n_baskets, n_items)) < share * rng.uniform(0.5, 1.5, n_items)
    for _ in range(habits):
        pattern = rng.choice(n_items, 3, replace=False)
        has[np.ix_(rng.random(n_baskets) < 0.1, pattern)] = True
    return [np.flatnonzero(row).tolist() for row in has]


def counted(rows: Rows, n_items: int) -> np.ndarray:
    """(2 ** n_items,) baskets that hold each subset of the items, the empty one included, by adding alone."""
    counts = np.bincount([sum(1 << item for item in row) for row in rows], minlength=1 << n_items)
    for item in range(n_items):
        halves = counts.reshape(-1, 2, 1 << item)
        halves[:, 0] += halves[:, 1]
    return counts


def masks(found: Itemsets) -> dict[int, int]:
    """Count of each set, the set as a number whose bits are its items."""
    return {sum(1 << int(str(item)) for item in items): count for items, count in found}


def per_data_set(context: Context, figure: Callable[[Rows, int], int], statistic: str) -> Evidence:
    """The sum of a count of errors over drawn sets of 8 to 12 items; exact."""
    rng, errors = context.rng("baskets"), []
    n_sets = context.design("data_sets", 40, 400)
    for at in range(n_sets):
        n_items = 8 + at % 5
        errors.append(figure(draw(rng, int(rng.integers(20, 200)), n_items, 0.35, habits=2), n_items))
    points = tuple(Point(at, error, series="found") for at, error in enumerate(errors))
    theory = (Curve(0, 0, "none"), Curve(n_sets - 1, 0, "none"))
    total = float(sum(errors))
    return Evidence(statistic, total, total, total, n_sets, points, theory, Axes("data set", "errors"))


def wrong_sets(rows: Rows, n_items: int) -> int:
    """Sets the article's algorithm misses, adds or miscounts."""
    counts = counted(rows, n_items)
    minimum = max(len(rows) // 10, 1)
    expected = {mask: int(counts[mask]) for mask in range(1, 1 << n_items) if counts[mask] >= minimum}
    wrong = len(masks(mine_itemsets(rows, minimum, method="article")).items() ^ expected.items())
    return wrong + len(masks(mine_itemsets(rows, minimum)).items() ^ expected.items())


def larger_above(rows: Rows, n_items: int) -> int:
    """Sets in more baskets than the same set less one item."""
    counts = counted(rows, n_items)
    every = np.arange(1 << n_items)
    return sum(int((counts[every | 1 << item] > counts[every & ~(1 << item)]).sum()) for item in range(n_items))


def unjoined(rows: Rows, n_items: int) -> int:
    """Frequent sets that are not the join of two frequent sets which agree in all but their last items."""
    counts = counted(rows, n_items)
    frequent = counts >= max(len(rows) // 10, 1)
    missed = 0
    for mask in np.flatnonzero(frequent).tolist():
        last = [item for item in range(n_items) if mask >> item & 1][-2:]
        missed += len(last) == 2 and not all(frequent[mask & ~(1 << item)] for item in last)
    return missed


def seconds(rows: Rows, share: float, method: str) -> float:
    """CPU time of mining baskets that are read already, the shortest of five: others on the machine only add to it."""
    baskets, times = Baskets.of(rows), []
    for _ in range(5):
        start = time.process_time()
        mine_itemsets(baskets, share, method="article" if method == "article" else "fast")
        times.append(time.process_time() - start)
    return min(times)


def exponent(context: Context, in_items: bool) -> Evidence:
    """Slope of ln CPU time in ln N, or in ln k, of the article's algorithm."""
    sizes = (50, 100, 200) if in_items else (30_000, 90_000, 270_000)
    repeats = context.design("repeats", 6, 12)
    rng, logs = context.rng("baskets"), []
    for _ in range(repeats):
        # k: every item is frequent and hardly a pair, else k would mean another number in each draw
        drawn = [draw(rng, 2000, size, 0.15) if in_items else draw(rng, size, 8, 0.25) for size in sizes]
        logs.append([np.log(seconds(rows, 0.0625 if in_items else 0.03, "article")) for rows in drawn])
    interval = jackknife(np.array(logs), lambda means: slope(np.log(sizes), means))
    mean = np.exp(np.mean(logs, axis=0))
    law = 2 if in_items else 1
    return Evidence(
        f"slope of ln CPU seconds in ln {'k' if in_items else 'N'}",
        interval.estimate,
        interval.low,
        interval.high,
        interval.n,
        tuple(Point(size, float(one), series="measured") for size, one in zip(sizes, mean, strict=True)),
        tuple(Curve(size, float(mean[0]) * (size / sizes[0]) ** law, f"exponent {law}") for size in sizes),
        Axes("items k" if in_items else "baskets N", "CPU seconds", log_x=True, log_y=True),
    )


def slowness(context: Context) -> Evidence:
    """CPU time of the article's algorithm over that of tidlists and bitmaps, same baskets, geometric mean."""
    repeats = context.design("repeats", 4, 12)
    rng, logs = context.rng("baskets"), []
    for _ in range(repeats):
        rows = draw(rng, 3000, 40, 0.1, habits=4)
        logs.append([np.log(seconds(rows, 0.02, "article")), np.log(seconds(rows, 0.02, "fast"))])
    interval = jackknife(np.array(logs), lambda means: float(np.exp(means[0] - means[1])))
    points = tuple(
        Point(at, float(np.exp(one)), series=name)
        for name, column in zip(("article", "today"), np.array(logs).T, strict=True)
        for at, one in enumerate(column)
    )
    return Evidence(
        "CPU seconds, article's over today's NumPy",
        interval.estimate,
        interval.low,
        interval.high,
        interval.n,
        points,
        axes=Axes("data set", "CPU seconds", log_y=True),
    )


def false_rules(context: Context, corrected: bool) -> Evidence:
    """Rules found, on average, where every item is independent of every other: habits, each column shuffled."""
    repeats = context.design("shuffles", 20, 200)
    rng, numbers = context.rng("shuffle"), []
    for _ in range(repeats):
        has = np.zeros((930, 24), bool)
        for row, items in enumerate(draw(rng, 930, 24, 0.35, habits=6)):
            has[row, items] = True
        has[:, 0] |= rng.random(930) < 0.7  # an item most baskets hold, as data have it
        shuffled = rng.permuted(has, axis=0)
        found = rules(
            mine_itemsets([np.flatnonzero(row).tolist() for row in shuffled], 0.06, strict=True), 0.75, strict=True
        )
        numbers.append(float((found.measure("holm") <= 0.05).sum()) if corrected else float(len(found)))
    interval = jackknife(np.array(numbers), float)
    return Evidence(
        "rules found in shuffled data" + (" at Holm 5 %" if corrected else ""),
        interval.estimate,
        interval.low,
        interval.high,
        interval.n,
        tuple(Point(at, number, series="found") for at, number in enumerate(numbers)),
        (Curve(0, 0, "true rules"), Curve(repeats - 1, 0, "true rules")),
        Axes("shuffle", "rules"),
    )


def coverage(context: Context) -> Evidence:
    """How often Wilson's interval of a measured support holds the support of the source of the baskets."""
    rng = context.rng("baskets")
    repeats, sizes = context.design("samples", 4000, 40_000), (100, 300, 1000, 3000)
    support = 0.06
    shares = []
    for size in sizes:
        low, high = wilson(rng.binomial(size, support, repeats), size)
        shares.append((low <= support) & (support <= high))
    interval = jackknife(np.mean(shares, axis=0).reshape(20, -1).mean(axis=1), float)
    return Evidence(
        "share of intervals that hold the true support",
        interval.estimate,
        interval.low,
        interval.high,
        interval.n,
        tuple(Point(size, float(np.mean(one)), series="Wilson") for size, one in zip(sizes, shares, strict=True)),
        tuple(itertools.starmap(partial(Curve, series="95 %"), ((size, 0.95) for size in sizes))),
        Axes("baskets N", "share of intervals", log_x=True),
    )


def exactness(context: Context) -> Evidence:
    """Errors of both miners against adding up all subsets."""
    return per_data_set(context, wrong_sets, "sets missed, added or miscounted")


def closure(context: Context) -> Evidence:
    """Violations of support never growing with the set."""
    return per_data_set(context, larger_above, "sets more frequent than a part of theirs")


def completeness(context: Context) -> Evidence:
    """Frequent sets out of the join's reach."""
    return per_data_set(context, unjoined, "frequent sets the join cannot reach")


CLAIMS = (
    Claim(
        "5525-P1", 5525,
        "The level-wise algorithm finds the frequent itemsets and their supports, all and no others.",
        "逐层算法恰好找出全部频繁项集及其支持度。",
        r"\{X : \mathrm{supp}(X) \ge s\}", exactness, "equals", 0, 0, "a count of errors is exact",
        "the code of find_rules", QUESTION,
    ),
    Claim(
        "5525-P2.1", 5525,
        "Its time is linear in the number of baskets.",
        "运行时间与购物篮数成线性关系。",
        r"t \propto N", partial(exponent, in_items=False), "equals", 1, 0.15, "the fixed cost of a call bends the line",
        "3380: the complexity of the algorithm", QUESTION,
    ),
    Claim(
        "5525-P2.2", 5525,
        "Its time grows as the square of the number of items, or faster.",
        "运行时间随项数的平方或更快增长。",
        r"t \propto k^2", partial(exponent, in_items=True), "at least", 2, 0.2, "small k still pays fixed costs",
        "3380: the complexity of the algorithm", QUESTION,
    ),
    Claim(
        "5525-P2.3", 5525,
        "NumPy does not do it quicker: the algorithm is efficient.",
        "该算法是高效的：NumPy 没有更快的做法。",
        r"t / t_{\mathrm{today}} \le 1", slowness, "at most", 1, 0, "a ratio", "the title", QUESTION,
    ),
    Claim(
        "5525-P2.3c", 5525,
        "Bitmaps over the baskets of the rarest item find the same in less than a tenth of its time.",
        "在最稀有项的购物篮上用位图，不到十分之一的时间就能得到同样的结果。",
        r"t / t_{\mathrm{today}} \ge 10", slowness, "at least", 10, 0, "a ratio", "the title", QUESTION,
    ),
    Claim(
        "5525-P3", 5525,
        "No set is in more baskets than any part of it.",
        "任何项集的支持度都不超过其子集。",
        r"X \subset Y \Rightarrow \mathrm{supp}(Y) \le \mathrm{supp}(X)", closure, "equals", 0, 0,
        "a count of errors is exact", "the principle of Apriori", QUESTION,
    ),
    Claim(
        "5525-P4", 5525,
        "Joining sets that agree in all but the last item misses no frequent set, though no candidate is pruned.",
        "只连接前 l-1 项相同的项集、不剪枝，也不会漏掉任何频繁项集。",
        r"X = A \cup B,\ |A \cap B| = |X| - 2", completeness, "equals", 0, 0, "a count of errors is exact",
        "the join of find_rules", QUESTION,
    ),
    Claim(
        "5525-P5", 5525,
        "Rules above the thresholds are there for a reason: data without dependence give none.",
        "超过阈值的规则确有关联：没有相关性的数据不产生规则。",
        r"E[\#\{\text{rules}\}] = 0", partial(false_rules, corrected=False), "at most", 0, 0.5, "half a rule",
        "the thresholds 0.06 and 0.75", QUESTION,
    ),
    Claim(
        "5525-P5c", 5525,
        "Rules that also pass Fisher's test with Holm's correction are: data without dependence give almost none.",
        "再通过 Fisher 检验与 Holm 校正的规则才可信：没有相关性的数据几乎不产生规则。",
        r"P(\#\{\text{rules}\} > 0) \le 0.05", partial(false_rules, corrected=True), "at most", 0, 0.5, "half a rule",
        "the thresholds 0.06 and 0.75", QUESTION,
    ),
    Claim(
        "5525-P6", 5525,
        "A support is known to Wilson's interval: 95 % of them hold the truth.",
        "支持度的精度由 Wilson 区间给出：95 % 的区间包含真值。",
        r"P(p \in [p_-, p_+]) = 0.95", coverage, "equals", 0.95, 0.01, "counts are whole numbers",
        "the supports of the example", QUESTION,
    ),
)  # fmt: skip
