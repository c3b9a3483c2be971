"""The page Claims."""

from __future__ import annotations

import json
import math

import pytest

from dashboard.claims import evidence_figure, partner, safe_formula, statement
from experiments.store.location import Store
from experiments.store.verdicts import read_catalogue, write_catalogue
from tests.conftest import Writer
from tests.dashboard.hostile import IMAGE, MARKS, SCRIPT
from tests.dashboard.test_pages import no_arguments, open_page, texts

__all__ = ["no_arguments"]  # a fixture
WORDS = {"measured": "measured", "law": "law"}


def document(claim: str, **given: object) -> dict[str, object]:
    """What evidence.json says of a claim."""
    return {
        "claim": claim,
        "article": 5655,
        "statement": f"{claim} in English.",
        "statement_zh": f"{claim} 的中文。",
        "formula": r"\operatorname{Var} \propto 1/B",
        "source": "equation (9)",
        "question": "5655-batch",
        "rule": "equals",
        "expected": -1.0,
        "tolerance": 0.03,
        "reason": "as it is",
        "statistic": "slope",
        "axes": {"x": "B", "y": "Var", "log": ["x", "y"]},
        "points": [{"x": 1, "y": 1.0, "low": 0.9, "high": 1.1}, {"x": 2, "y": 0.5, "low": None, "high": None}],
        "theory": [{"x": 1, "y": 1.0, "series": "1/B"}, {"x": 2, "y": 0.5, "series": "1/B"}],
        **given,
    }


def write(writer: Writer, claim: str, verdict: str, *, start: int = 0, content: str | None = None) -> str:
    """The id of a claim's run."""
    tags = {"taolu.kind": "claim", "taolu.claim": claim, "taolu.verdict": verdict, "taolu.seed": "0"}
    metrics = {"estimate": [-0.99], "ci_low": [-1.0], "ci_high": [-0.98], "n": [40.0]}
    run_id = writer.run(claim, experiment="claims", start=start, metrics=metrics, tags=tags)
    writer.file(run_id, "evidence.json", json.dumps(document(claim)) if content is None else content)
    writer.file(run_id, "command.txt", f"taolu claims run {claim} --seed 0 --effort quick\n")
    return run_id


@pytest.fixture
def claims(writer: Writer) -> Store:
    """A claim and its correction, the former run twice, a planted one and one never run."""
    write(writer, "5655-S1", "undetermined")
    write(writer, "5655-S1", "fails", start=100)
    write(writer, "5655-S1c", "holds", start=200)
    listed = [document("5655-S1"), document("5655-S1c"), document("5655-S9"), document("5655-P1", planted=True)]
    write_catalogue(writer.store, listed)
    return writer.store


@pytest.mark.parametrize(("language", "verdict"), [("en", "undetermined"), ("zh", "未定")])
def test_without_a_claim_the_questions_stand_and_the_command_that_answers_them(
    store: Store, language: str, verdict: str
) -> None:
    app = open_page("claims", store, language)
    assert not app.exception
    assert app.code[0].value == "taolu claims run 5655"
    assert "taolu claims run 5655" in texts(app).replace("\\", "")
    assert verdict not in texts(app)


def test_a_question_is_answered_by_verdicts_and_counts_what_was_not_run(claims: Store) -> None:
    app = open_page("claims", claims)
    assert not app.exception
    said = texts(app).replace("\\", "")
    assert "Is a larger batch better?" in said
    assert "1 of 3 statements hold, 1 found false, 1 not run" in said
    rows = app.dataframe[0].value
    assert rows["claim"].tolist() == ["5655-S1", "5655-S1c", "5655-S9"]
    assert rows["verdict"].tolist() == ["■ fails", "● holds", "○ not run"]
    assert rows["measured"].tolist()[0] == "-0.99 [-1, -0.98]"
    assert [block.value for block in app.code] == ["taolu claims run 5655-P1"]


def test_the_table_is_narrowed_by_article_and_verdict(claims: Store) -> None:
    assert open_page("claims", claims, article="6051").dataframe[0].value.empty
    app = open_page("claims", claims, "zh", verdict=["holds"])
    assert app.dataframe[0].value["statement"].tolist() == ["5655-S1c 的中文。"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_claim_has_its_page_with_its_history_and_its_command(claims: Store, language: str) -> None:
    app = open_page("claims", claims, language, claim="5655-S1")
    assert not app.exception
    assert app.title[0].value == "5655-S1"
    assert [block.value for block in app.code] == ["taolu claims run 5655-S1 --seed 0 --effort quick"]
    assert len(app.dataframe[0].value) == 2  # runs of it
    assert app.get("plotly_chart")
    assert "-1.03" in texts(app).replace("\\", "")


def test_a_chart_names_its_series_in_the_pages_language(writer: Writer) -> None:
    points = [{"x": 1, "y": 1.0, "series": "measured"}, {"x": 1, "y": 2.0, "series": "momentum"}, "no point"]
    write(writer, "5655-S1", "holds", content=json.dumps(document("5655-S1", points=points)))
    for language, names in (("en", ["measured", "momentum"]), ("zh", ["测得", "动量"])):
        chart, *_ = open_page("claims", writer.store, language, claim="5655-S1").get("plotly_chart")
        assert [trace["name"] for trace in json.loads(chart.proto.spec)["data"]][1:] == names


def test_a_claim_never_run_says_the_command(claims: Store) -> None:
    app = open_page("claims", claims, claim="5655-S9")
    assert not app.exception
    assert [block.value for block in app.code] == ["taolu claims run 5655-S9"]


def test_a_claim_that_is_not_there_leads_to_those_that_are(claims: Store) -> None:
    app = open_page("claims", claims, claim="5655-S77")
    assert not app.exception
    assert app.warning[0].value.startswith("No claim 5655")
    assert len(app.dataframe) == 1


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        json.dumps({"points": [SCRIPT], "axes": 7, "article": SCRIPT, "rule": IMAGE, "expected": "x"}),
        json.dumps(
            document(IMAGE, statement=MARKS, formula=f"$$ {IMAGE}", points=[{"x": "NaN", "y": 1e308}], why=IMAGE)
        ),
    ],
)
def test_hostile_evidence_is_shown_without_a_traceback(writer: Writer, content: str) -> None:
    write(writer, "5655-S1", "holds", content=content)
    write(writer, SCRIPT, SCRIPT, content=content)
    writer.store.folder.joinpath("claims.json").write_text(content)
    for claim in ("", "5655-S1", SCRIPT):
        app = open_page("claims", writer.store, claim=claim)
        assert not app.exception
        assert "![x](" not in texts(app)


def test_the_list_of_claims_is_kept_in_the_store(store: Store) -> None:
    assert read_catalogue(store) == []
    write_catalogue(store, [document("5655-S1")])
    assert statement(read_catalogue(store)[0]).text["zh"] == "5655-S1 的中文。"


def test_a_formula_cannot_leave_its_mathematics() -> None:
    assert safe_formula("a \n b") == "a b"
    assert safe_formula("x$$ ![x](http://evil.invalid)") == ""


def test_points_stand_over_the_law_with_their_intervals() -> None:
    figure = evidence_figure(document("5655-S1"), WORDS)
    assert figure is not None
    law, points = figure.data
    assert (law.name, list(law.y)) == ("law: 1/B", [1.0, 0.5])
    assert points.error_y.array[0] == pytest.approx(0.1)
    assert math.isnan(points.error_y.array[1])
    assert figure.layout.xaxis.type == "log"
    assert evidence_figure(document("5655-S1", axes=None), WORDS) is None


def test_a_claims_band_follows_its_rule() -> None:
    assert list(statement(document("a", rule="at most")).band) == pytest.approx([-math.inf, -0.97])
    assert list(statement(document("a", rule="at least")).band) == pytest.approx([-1.03, math.inf])
    assert partner("5655-S1", []) is None
