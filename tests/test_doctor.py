"""`taolu doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.doctor import Finding, examine
from experiments.store.location import Store, locate


def found(store: Store, *, create: bool = False) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine(store, create=create)}


def test_versions_machine_and_store_are_told(filled_store: Store) -> None:
    findings = found(filled_store)
    assert {"python", "torch", "mlflow", "devices", "threads", "store", "database", "disk"} <= {*findings}
    assert findings["database"].value.startswith("3 runs (1 running), 0 deleted, ")
    assert all(finding.good for finding in findings.values())


def test_a_store_without_a_database_is_told_and_not_made(tmp_path: Path) -> None:
    findings = found(locate(str(tmp_path / "mlruns")))
    assert "taolu doctor --create" in findings["database"].value
    assert findings["database creation"].value.startswith("works")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_told_with_what_installs_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.doctor.PACKAGES", ("nosuchpackage",))
    assert found(store)["nosuchpackage"] == Finding("nosuchpackage", "missing; pip install nosuchpackage", good=False)


def test_json_is_one_object(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--store", str(store.folder)]) == 0
    assert json.loads(capsys.readouterr().out)["store"] == store.label
