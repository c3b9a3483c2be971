"""What a claim and its evidence must be, and what the registry holds."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.claims.lock import read_lock
from experiments.claims.record import Settings
from experiments.claims.registry import ARTICLES, PLANTED, Claim, Evidence, all_claims, chosen, imported
from experiments.claims.report import mathml
from experiments.claims.runner import run
from experiments.errors import ConfigError
from experiments.store.location import Store
from experiments.store.questions import QUESTIONS

CLAIMS = all_claims()
[PLANTED_CLAIM, *_] = imported(PLANTED)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_every_claim_is_said_in_two_languages_with_formula_source_and_reason(claim: Claim) -> None:
    assert claim.article in ARTICLES
    assert claim.question in QUESTIONS
    assert QUESTIONS[claim.question].article == claim.article
    assert re.search(r"[\u4e00-\u9fff]", claim.statement_zh)
    assert all((claim.statement, claim.formula, claim.source, claim.reason))
    assert mathml(claim.formula).startswith("<math")


def test_ids_are_unique_and_every_corrected_form_stands_beside_its_label() -> None:
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    labels = {re.match(r"\d+-[A-Z]+\d*", name)[0] for name in ids if not name.endswith("c")}  # type: ignore[index]
    assert {re.match(r"\d+-[A-Z]+\d*", name)[0] for name in ids} <= labels  # type: ignore[index]


def test_a_corrected_form_exists_only_where_its_label_has_one_that_fails() -> None:
    locked = read_lock()
    failing = {re.match(r"\d+-[A-Z]+\d*", name)[0] for name, word in locked.items() if word == "fails"}  # type: ignore[index]
    corrected = {re.match(r"\d+-[A-Z]+\d*", name)[0] for name in locked if name.endswith("c")}  # type: ignore[index]
    assert corrected <= failing


def test_the_form_is_read_from_the_id() -> None:
    assert PLANTED_CLAIM.form == "as written"
    assert replace(PLANTED_CLAIM, id="5655-P1c").form == "corrected"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "5655S1"}, "write 5655-S1"),
        ({"id": "6234-S1"}, "write 5655-S1"),
        ({"rule": "below"}, "allowed: equals, at most, at least"),
        ({"tolerance": -1.0}, "the tolerance at least 0"),
        ({"expected": float("nan")}, "must be finite"),
        ({"question": "5655-wy"}, "did you mean '5655-why'"),
    ],
)
def test_a_claim_no_verdict_could_be_drawn_from_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(PLANTED_CLAIM, **change)  # type: ignore[arg-type]


def test_an_interval_must_hold_its_estimate_and_rest_on_two_repetitions() -> None:
    with pytest.raises(ValueError, match="outside its interval"):
        Evidence("s", 1.0, 2.0, 3.0, 9)
    with pytest.raises(ValueError, match="at least 2 independent"):
        Evidence("s", 1.0, 0.0, 3.0, 1)


def test_claims_are_chosen_by_id_and_article_in_their_own_order() -> None:
    first, second, *_ = CLAIMS
    assert chosen([second.id, first.id, first.id], CLAIMS) == [first, second]
    assert {claim.article for claim in chosen(["5655"], CLAIMS)} == {5655}
    assert chosen([], CLAIMS) == CLAIMS


@pytest.mark.parametrize(("name", "hint"), [("6235", "'6234'"), (f"{CLAIMS[0].id}x", f"'{CLAIMS[0].id}'")])
def test_an_unknown_name_is_refused_with_the_closest(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean {hint}"):
        chosen([name], CLAIMS)


def test_importing_the_registry_loads_no_torch() -> None:
    program = (
        "import experiments.claims.registry, experiments.claims.lock, experiments.store.verdicts, sys\n"
        "print([name for name in ('torch', 'mlflow', 'optuna', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_claim_in_contributing_runs_and_takes_thirty_lines(store: Store, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n(# die\.py\n.*?)^```$", text, flags=re.M | re.S)
    (tmp_path / "die.py").write_text(code, encoding="utf-8")
    [finding] = run(["9999-D1"], Settings(files=(str(tmp_path / "die.py"),)), store, lambda line: None)
    assert finding.decision.verdict == "holds"
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
