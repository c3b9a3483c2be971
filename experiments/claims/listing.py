"""Claims, questions and verdicts as they stand in a store: records for --json, lines for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.claims.record import Settings, command, where
from experiments.claims.registry import PLANTED, Claim
from experiments.claims.runner import catalogue
from experiments.errors import ConfigError, did_you_mean
from experiments.store.location import Store
from experiments.store.questions import QUESTIONS, answer
from experiments.store.verdicts import Judged, current, read_evidence

NOT_RUN = "not run"


@dataclass(frozen=True)
class Standing:
    """The claims and what the store says of each.

    Args:
        claims: all but the planted, in order.
        planted: laws known to be false.
        runs: claim -> its newest run.
    """

    claims: tuple[Claim, ...]
    planted: tuple[Claim, ...]
    runs: Mapping[str, Judged]

    def verdict(self, claim: Claim) -> str:
        """The claim's newest verdict, "" where it has none."""
        run = self.runs.get(claim.id)
        return run.verdict if run else ""

    def find(self, claim_id: str) -> Claim:
        """The claim of this id, planted ones included.

        Raises ConfigError with the closest id where there is none.
        """
        known = {claim.id: claim for claim in (*self.claims, *self.planted)}
        if claim_id not in known:
            hint = did_you_mean(claim_id, [claim.id for claim in self.claims])
            raise ConfigError(f"unknown claim '{claim_id}'{hint}; taolu claims lists them")
        return known[claim_id]

    def questions(self) -> list[dict[str, Any]]:
        """Every question with its claims and its answer in both languages."""
        rows = []
        for key, question in QUESTIONS.items():
            verdicts = {claim.id: self.verdict(claim) for claim in self.claims if claim.question == key}
            rows.append(
                {
                    "id": key,
                    "article": question.article,
                    "question": question.text,
                    "question_zh": question.text_zh,
                    "answer": answer(question, verdicts, "en"),
                    "answer_zh": answer(question, verdicts, "zh"),
                    "claims": list(verdicts),
                }
            )
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """Every claim with its newest figures; None where it has not been run."""
        return [self.row(claim) for claim in self.claims]

    def row(self, claim: Claim) -> dict[str, Any]:
        """One claim with its newest figures."""
        run = self.runs.get(claim.id)
        figures = run.metrics if run else {}
        return {
            "id": claim.id,
            "article": claim.article,
            "form": claim.form,
            "statement": claim.statement,
            "statement_zh": claim.statement_zh,
            "question": claim.question,
            "claimed": claim.band,
            **{key: figures.get(key) for key in ("estimate", "ci_low", "ci_high")},
            "verdict": run.verdict if run else NOT_RUN,
            "run_id": run.run_id if run else "",
        }


def standing(store: Store, files: Sequence[str] = ()) -> Standing:
    """What stands in the store, of the articles' claims and those of the user's files."""
    listing = catalogue(files)
    claims = tuple(claim for place, group in listing.items() if place != PLANTED for claim in group)
    return Standing(claims, listing[PLANTED], current(store))


def overview(now: Standing) -> Iterator[str]:
    """Questions with their answers, then the table of verdicts."""
    for row in now.questions():
        yield f"{row['article']}  {row['question']}  {row['question_zh']}"
        for text in (row["answer"], row["answer_zh"]):
            yield from textwrap.wrap(text, 112, initial_indent=" " * 6, subsequent_indent=" " * 6)
    yield ""
    for claim in now.claims:
        row = now.row(claim)
        yield f"{row['verdict']:13} {claim.id:12} {figure(row):34} {claim.band:24} {claim.statement}"
    counts = [f"{sum(now.verdict(claim) == word for claim in now.claims)} {word}" for word in ("holds", "fails")]
    counts.append(f"{sum(now.verdict(claim) == 'undetermined' for claim in now.claims)} undetermined")
    counts.append(f"{sum(not now.verdict(claim) for claim in now.claims)} not run")
    yield f"\n{len(now.claims)} claims: {', '.join(counts)}; taolu claims show ID says more, taolu claims run runs them"


def figure(row: Mapping[str, Any]) -> str:
    """Estimate and interval, as "-0.998 [-1.01, -0.99]"; "" where there is none."""
    if row["estimate"] is None:
        return ""
    exact = row["ci_low"] == row["ci_high"]
    return f"{row['estimate']:.5g}" + (" exact" if exact else f" [{row['ci_low']:.4g}, {row['ci_high']:.4g}]")


def shown(now: Standing, store: Store, claim_id: str) -> dict[str, Any]:
    """Everything about one claim, its last evidence included."""
    claim = now.find(claim_id)
    run = now.runs.get(claim.id)
    settings = Settings(int(run.seed), "full" if run.effort == "full" else "quick") if run else Settings()
    return {
        **now.row(claim),
        "formula": claim.formula,
        "source": claim.source,
        "link": claim.link,
        "rule": claim.rule,
        "expected": claim.expected,
        "tolerance": claim.tolerance,
        "reason": claim.reason,
        "probe": where(claim),
        "evidence": read_evidence(store, run.run_id) if run else None,
        "again": command(claim, settings),
    }


def shown_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """The same for people."""
    yield f"{record['id']}  {record['form']}  {record['verdict']}"
    yield f"  {record['statement']}"
    yield f"  {record['statement_zh']}"
    lines = {
        "formula": record["formula"],
        "source": f"{record['source']}, {record['link']}",
        "claimed": f"{record['claimed']}  ({record['reason']})",
        "probe": record["probe"],
    }
    evidence = record["evidence"]
    if evidence:
        lines["measured"] = f"{evidence['statistic']} = {figure(record)}, n {evidence['n']}"
        lines["judged"] = evidence["verdict"] + (f": {evidence['why']}" if evidence["why"] else "")
        lines["run"] = f"{record['run_id']}  seed {evidence['seed']}, effort {evidence['effort']}"
        lines["cost"] = f"{evidence['seconds']:.2f} CPU-s, {len(evidence['points'])} points, see plot.png"
    elif record["run_id"]:
        lines["run"] = f"{record['run_id']}  the probe raised: taolu show {record['run_id'][:8]}"
    lines["again"] = record["again"]
    for key, text in lines.items():
        yield f"  {key:10} {text}"
