"""A claim's figure, verdict, rule and form in words of a language."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from experiments.claims.verdict import Verdict
from experiments.words import Words

NOT_RUN = "not run"
JUDGED: tuple[Verdict, ...] = get_args(Verdict)


def figure(row: Mapping[str, Any], words: Words) -> str:
    """Estimate and interval, as "-0.998 [-1.01, -0.99]"; "" where there is none.

    Args:
        row: estimate, ci_low and ci_high.
        words: of the language.
    """
    if row["estimate"] is None:
        return ""
    estimate = f"{row['estimate']:.5g}"
    if row["ci_low"] == row["ci_high"]:
        return words("exact", value=estimate)
    return f"{estimate} [{row['ci_low']:.4g}, {row['ci_high']:.4g}]"


def band_in(words: Words, rule: str, claimed: str) -> str:
    """What the estimate must be.

    >>> from experiments.words import CHINESE
    >>> band_in(CHINESE, "at most", "at most 1 + 0.1")
    '至多 1 + 0.1'

    Args:
        words: of the language.
        rule: of the claim.
        claimed: its band, in English.
    """
    return words(f"band_{_key(rule)}", value=claimed.removeprefix(rule).strip())


def verdict_in(words: Words, verdict: str) -> str:
    """The verdict, or that there is none; whatever else a store holds in its place, as it is."""
    return words.known(_key(verdict), verdict)


def form_in(words: Words, form: str) -> str:
    """Whether the statement is the article's own or a correction of it."""
    return words(_key(form))


def rule_in(words: Words, rule: str, expected: float, tolerance: float) -> str:
    """How the verdict is drawn, in a sentence or two."""
    low = -math.inf if rule == "at most" else expected - tolerance
    high = math.inf if rule == "at least" else expected + tolerance
    return words(f"rule_{_key(rule)}_text", low=f"{low:.5g}", high=f"{high:.5g}")


def counted(words: Words, verdicts: Sequence[str], kinds: Sequence[str] = JUDGED) -> str:
    """How many verdicts there are of each kind."""
    counts = [words("count_of_verdict", n=verdicts.count(kind), verdict=verdict_in(words, kind)) for kind in kinds]
    return words("between_counts").join(counts)


def _key(name: str) -> str:
    return name.replace(" ", "_")
