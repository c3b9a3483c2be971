"""Answers composed from verdicts."""

from __future__ import annotations

import pytest

from experiments.claims.registry import all_claims
from experiments.store.questions import QUESTIONS, Clause, Language, Question, answer

CLAUSE = Clause("1-S1", "noise falls as 1/B", "noise does not fall as 1/B", "噪声按 1/B 下降", "噪声不按 1/B 下降")
QUESTION = Question(1, "Why?", "为什么?", (CLAUSE,))


@pytest.mark.parametrize(
    ("verdicts", "language", "sentence"),
    [
        ({}, "en", "No claim yet."),
        ({}, "zh", "尚无命题。"),
        ({"1-S1": ""}, "en", "Not run yet; taolu claims run 1 answers it."),
        ({"1-S1": "holds"}, "en", "Noise falls as 1/B (1 of 1 statements hold)."),
        (
            {"1-S1": "fails", "1-S2": "holds", "1-S3": "", "1-S4": "undetermined"},
            "en",
            "Noise does not fall as 1/B (1 of 4 statements hold, 1 found false, 1 undetermined, 1 not run).",
        ),
        ({"1-S1": "undetermined"}, "zh", "“噪声按 1/B 下降”尚不能定（1 条命题中 0 条成立，1 条未定）。"),
        ({"1-S2": "holds"}, "zh", "1 条命题中 1 条成立。"),
    ],
)
def test_an_answer_is_one_sentence_that_follows_the_verdicts(
    verdicts: dict[str, str], language: Language, sentence: str
) -> None:
    assert answer(QUESTION, verdicts, language) == sentence


def test_every_article_has_its_questions_and_every_clause_its_claim() -> None:
    known = {claim.id: claim.question for claim in all_claims()}
    clauses = [(key, clause.claim) for key, question in QUESTIONS.items() for clause in question.clauses]
    assert {question.article for question in QUESTIONS.values()} == {5655, 5383, 5448, 5476, 5525, 6051, 6234, 7292}
    assert [(key, name) for key, name in clauses if known.get(name) != key] == []


def test_every_question_with_claims_is_answered_by_some_clause() -> None:
    answered = {claim.question for claim in all_claims()}
    assert {key for key in answered if not QUESTIONS[key].clauses} == set()
