"""Claims run, judged and recorded: in this process, in several, interrupted, failing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from experiments.claims.context import Context
from experiments.claims.record import Settings, evidence_from
from experiments.claims.registry import PLANTED, Claim, imported
from experiments.claims.runner import run
from experiments.claims.verdict import verdict
from experiments.cli import main
from experiments.errors import ConfigError
from experiments.store.location import Store
from experiments.store.read import find_run, read_run, runs_table
from experiments.store.verdicts import current, judged, read_catalogue, read_evidence
from tests.processes import start, wait_for

OWN, SLOW = (str(Path(__file__).parent / f"{name}.py") for name in ("own_claim", "slow_claim"))


def silent(line: str) -> None:
    """Says nothing."""


@pytest.mark.parametrize("claim", imported(PLANTED), ids=lambda claim: claim.id)
def test_a_planted_falsehood_fails_whatever_the_seed(claim: Claim) -> None:
    assert {verdict(claim, claim.probe(Context(seed))) for seed in range(8)} == {"fails"}


@pytest.mark.parametrize(("claim", "truth"), list(zip(imported(PLANTED), (-1.0, 0.9, 1.0), strict=True)))
def test_the_planted_probes_measure_the_true_law(claim: Claim, truth: float) -> None:
    found = claim.probe(Context(0, "full"))
    assert found.ci_low - 0.01 <= truth <= found.ci_high + 0.01


def test_a_claim_leaves_a_run_with_evidence_plot_and_the_command_that_repeats_it(store: Store) -> None:
    [finding] = run(["9999-D1"], Settings(seed=3, files=(OWN,)), store, silent)
    record = read_run(store, find_run(store, "last:claims"))
    evidence = json.loads((record.folder / "evidence.json").read_text())
    assert (record.run_id, record.kind, record.experiment, record.status) == (
        finding.run_id, "claim", "claims", "FINISHED",
    )  # fmt: skip
    tags = {key.removeprefix("taolu."): value for key, value in record.tags.items() if key.startswith("taolu.")}
    assert (tags["claim"], tags["article"], tags["verdict"]) == ("9999-D1", "9999", "holds")
    assert {"estimate", "ci_low", "ci_high"} <= set(record.metrics)
    assert record.metrics["estimate"] == evidence["estimate"] == finding.row()["estimate"]
    assert evidence_from(evidence) == finding.outcome.evidence
    assert evidence["probe"].endswith("own_claim.py:9")
    assert evidence["axes"] == {"x": "face", "y": "share", "log": []}
    assert (record.folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    listed = {each["claim"]: each for each in read_catalogue(store)}
    assert {"5655-S1", "9999-D1"} < set(listed)  # all there are, for pages
    assert [name for name, each in listed.items() if each["planted"]] == ["5655-P1", "5655-P2", "5655-P3"]
    assert evidence.items() >= {key: value for key, value in listed["9999-D1"].items() if key != "planted"}.items()
    command = (record.folder / "command.txt").read_text().split()
    assert command == ["taolu", "claims", "run", "9999-D1", "--seed", "3", "--effort", "quick", "--import", OWN]
    assert main([*command[1:], "--store", str(store.folder)]) == 0
    twice = [each.metrics["estimate"] for each in judged(store)]
    assert twice[0] == twice[1]


def test_a_probe_that_raises_is_undetermined_and_failed_and_the_others_go_on(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--import", OWN, "--store", str(store.folder)]
    assert main(["claims", "run", "9999", *where, "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["claims"]
    assert {row["id"]: row["verdict"] for row in rows} == {
        "9999-D1": "holds", "9999-D2": "undetermined", "9999-D3": "fails", "9999-D4": "undetermined",
    }  # fmt: skip
    assert set(rows[0]) == {
        "id", "article", "form", "statement", "statistic", "expected", "estimate", "ci_low", "ci_high", "n",
        "verdict", "seconds", "run_id",
    }  # fmt: skip
    failed = read_run(store, rows[1]["run_id"])
    assert failed.status == "FAILED"
    assert "ZeroDivisionError: the die is gone" in (failed.folder / "traceback.txt").read_text()
    empty = read_run(store, rows[3]["run_id"])
    assert "TypeError: the probe gave None, not Evidence" in (empty.folder / "traceback.txt").read_text()
    assert read_evidence(store, failed.run_id) is None
    assert main(["claims", "show", "9999-D2", *where]) == 0
    assert "the probe raised: taolu show" in capsys.readouterr().out


def test_a_design_of_ones_own_is_marked_and_answers_no_question(store: Store) -> None:
    run(["9999-D1"], Settings(files=(OWN,)), store, silent)
    settings = Settings(files=(OWN,), custom=(("throws", "50"),))
    [finding] = run(["9999-D1"], settings, store, silent)
    custom, own = judged(store)
    assert (custom.custom, own.custom) == ("throws=50", "")
    assert (custom.verdict, current(store)["9999-D1"].verdict) == ("undetermined", "holds")
    evidence = read_evidence(store, finding.run_id)
    assert evidence is not None
    assert evidence["custom"] == {"throws": "50"}


def test_the_command_of_a_run_names_only_the_design_its_claim_has(store: Store) -> None:
    settings = Settings(files=(OWN,), custom=(("throws", "50"), ("beta", "0.5")))
    for finding in run(["9999-D1", "5655-P2"], settings, store, silent):
        words = (store.run_folder(finding.run_id) / "command.txt").read_text().split()
        assert [word for word in words if "=" in word] == {
            "9999-D1": ["throws=50"], "5655-P2": ["beta=0.5"],
        }[finding.claim.id]  # fmt: skip
        assert main([*words[1:], "--store", str(store.folder)]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["9999-D1", "--set", "trows=9"], "unknown design value 'trows' (did you mean 'throws'?); allowed: throws"),
        (
            ["9999-D1", "--set", "throws=many"],
            "--set throws=many: must be a whole number above 0; this effort's is 20000",
        ),
        (["9999-D1", "--set", "throws"], "--set 'throws': write KEY=VALUE"),
        (["9999-D9"], "unknown claim or article '9999-D9' (did you mean '9999-D"),
        (["9998"], "unknown claim or article '9998' (did you mean '9999'?)"),
        (["9999-D1", "--effort", "ful"], "unknown effort 'ful' (did you mean 'full'?); allowed: full, quick"),
        (["9999-D1", "--workers", "0"], "--workers 0: must be a whole number of at least 1"),
        (["9999-D1", "--import", "nosuch.py"], "--import nosuch.py: no such file"),
        (["9999-D1", "--import", __file__], "has no claims; end the file with CLAIMS = (Claim(...),)"),
        (["9999-D1", "--output", "x"], "--output: belongs to claims report, not to claims run"),
        (["9999-D1", "--sed", "1"], "unknown option '--sed' (did you mean '--seed'?)"),
    ],
)
def test_bad_input_is_one_line_with_status_2_and_writes_nothing(
    store: Store, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["claims", "run", *words, "--import", OWN, "--store", str(store.folder)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert len(runs_table(store)) == 0


def test_a_file_that_raises_or_repeats_an_id_is_refused(store: Store, tmp_path: Path) -> None:
    bad, again = tmp_path / "bad.py", tmp_path / "again.py"
    bad.write_text("import nothing_of_this_name\n")
    again.write_text("from tests.claims.own_claim import CLAIMS\n")
    with pytest.raises(ConfigError, match=r"bad\.py: ModuleNotFoundError"):
        run([], Settings(files=(str(bad),)), store, silent)
    with pytest.raises(ConfigError, match="claim 9999-D1: defined twice"):
        run([], Settings(files=(OWN, str(again))), store, silent)


@pytest.mark.xdist_group("signals")
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_is_measured_and_ends(store: Store, tmp_path: Path, signum: int, status: int) -> None:
    words = ["claims", "run", "9999-W1", "9999-W2", "--import", SLOW, "--store", str(store.folder)]
    process = start(words, tmp_path / "output.txt")
    wait_for(store.folder / "diary.txt", "waiting")
    assert process.pid is not None
    os.kill(process.pid, signum)
    process.join(120)
    assert process.exitcode == status
    assert [(each.claim, each.verdict, each.status) for each in judged(store)] == [("9999-W1", "holds", "FINISHED")]


@pytest.mark.slow
def test_workers_give_the_same_numbers_and_end_with_the_command(store: Store) -> None:
    alone = run(["9999-D1", "9999-D3"], Settings(files=(OWN,)), store, silent)
    together = run(["9999-D1", "9999-D3"], Settings(files=(OWN,), workers=2), store, silent)
    for one, other in zip(alone, together, strict=True):
        assert one.row() | {"seconds": 0, "run_id": ""} == other.row() | {"seconds": 0, "run_id": ""}


@pytest.mark.slow
@pytest.mark.xdist_group("signals")
def test_a_signal_ends_the_workers_too(store: Store, tmp_path: Path) -> None:
    words = ["claims", "run", "9999-W1", "9999-W2", "--import", SLOW, "--store", str(store.folder), "--workers", "2"]
    process = start(words, tmp_path / "output.txt")
    wait_for(store.folder / "diary.txt", "waiting")
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(120)
    assert process.exitcode == 130


@pytest.mark.slow
def test_a_killed_worker_fails_its_claim_and_not_the_command(store: Store) -> None:
    [finding] = run(["9999-W3", "9999-W1"], Settings(files=(SLOW,), workers=2), store, silent)[-1:]
    assert finding.decision.verdict == "undetermined"
    assert "a worker process was killed" in finding.outcome.error
