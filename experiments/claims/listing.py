"""Claims, questions and verdicts as they stand in a store: records for --json, lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.claims.record import Settings, command, where
from experiments.claims.registry import PLANTED, Claim
from experiments.claims.runner import catalogue
from experiments.claims.words import JUDGED, NOT_RUN, band_in, counted, figure, form_in, rule_in, verdict_in
from experiments.errors import ConfigError, did_you_mean
from experiments.store.location import Store
from experiments.store.questions import QUESTIONS, answer
from experiments.store.verdicts import Judged, current, read_evidence
from experiments.store.words import phrase_in, why_in
from experiments.words import ENGLISH, Words, padded, wrapped


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


def overview(now: Standing, words: Words = ENGLISH) -> Iterator[str]:
    """Questions with their answers, then the table of verdicts."""
    for row in now.questions():
        yield f"{row['article']}  {words.of(row, 'question')}"
        yield from (f"{'':6}{line}" for line in wrapped(words.of(row, "answer"), 112))
    yield ""
    for claim in now.claims:
        row = now.row(claim)
        cells = [(verdict_in(words, row["verdict"]), 13), (claim.id, 12), (figure(row, words), 34)]
        cells += [(band_in(words, claim.rule, claim.band), 24)]
        yield " ".join([*(padded(text, width) for text, width in cells), words.of(row, "statement")])
    counts = counted(words, [now.verdict(claim) or NOT_RUN for claim in now.claims], (*JUDGED, NOT_RUN))
    yield ""
    yield words("claims_total", n=len(now.claims), counts=counts)


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


def shown_lines(record: Mapping[str, Any], words: Words = ENGLISH) -> Iterator[str]:
    """The same for people."""
    yield f"{record['id']}  {form_in(words, record['form'])}  {verdict_in(words, record['verdict'])}"
    yield from (f"  {line}" for line in wrapped(words.of(record, "statement"), 112))
    source, reason = (phrase_in(words.language, record[key]) for key in ("source", "reason"))
    lines = {
        "formula": record["formula"],
        "source": f"{source}, {record['link']}",
        "claimed": f"{band_in(words, record['rule'], record['claimed'])}  ({reason})",
        "rule": rule_in(words, record["rule"], record["expected"], record["tolerance"]),
        "probe": record["probe"],
    }
    evidence = record["evidence"]
    if evidence:
        verdict, why = verdict_in(words, evidence["verdict"]), why_in(words.language, evidence["why"])
        settings = {"seed": evidence["seed"], "effort": words(f"effort_{evidence['effort']}")}
        statistic = phrase_in(words.language, evidence["statistic"])
        lines["measured"] = f"{statistic} = {figure(record, words)}, n {evidence['n']}"
        lines["judged"] = words("judged_because", verdict=verdict, why=why) if why else verdict
        lines["run"] = f"{record['run_id']}  {words('claim_settings', **settings)}"
        lines["cost"] = words("claim_cost", seconds=evidence["seconds"], points=len(evidence["points"]))
    elif record["run_id"]:
        lines["run"] = f"{record['run_id']}  {words('claim_raised', run=record['run_id'][:8])}"
    lines["again"] = record["again"]
    for key, text in lines.items():
        first, *more = wrapped(text, 100) if key == "rule" else [text]
        yield f"  {padded(words(f'field_{key}'), 10)} {first}"
        yield from (f"{'':13}{line}" for line in more)
