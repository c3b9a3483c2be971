"""What the store knows of the claims: the evidence of each, by SQL, and their list; loads neither MLflow nor torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import ConfigError
from experiments.store.files import inside, write_text
from experiments.store.location import Store
from experiments.store.tables import Selection, read_tables

EXPERIMENT, KIND = "claims", "claim"
CATALOGUE = "claims.json"  # in the store's folder
LARGEST_EVIDENCE_MB = 20


@dataclass(frozen=True)
class Judged:
    """The outcome of one run of a claim.

    Args:
        run_id: of the run of kind claim.
        claim: the claim's id.
        verdict: holds, fails or undetermined.
        metrics: estimate, ci_low, ci_high and n, where the probe gave any.
        seed: of the draws.
        effort: quick or full.
        custom: design values the user replaced, as NAME=VALUE; "" for the claim's own design.
        status: FAILED where the probe raised.
    """

    run_id: str
    claim: str
    verdict: str
    metrics: dict[str, float]
    seed: str
    effort: str
    custom: str
    status: str


def judged(store: Store) -> Iterator[Judged]:
    """Every run of a claim that has ended, newest first."""
    tables = read_tables(store, Selection(experiment=EXPERIMENT, kinds=(KIND,)), ("tags", "metrics"))
    tags: dict[str, dict[str, str]] = {}
    for run_id, key, value in tables.tags:
        tags.setdefault(run_id, {})[key] = value
    metrics: dict[str, dict[str, float]] = {}
    for run_id, key, number in tables.metrics:
        metrics.setdefault(run_id, {})[key] = float("nan") if number is None else number
    for row in tables.runs:
        found = tags.get(row.run_id, {})
        if "taolu.claim" in found and "taolu.verdict" in found:
            yield Judged(
                row.run_id,
                found["taolu.claim"],
                found["taolu.verdict"],
                metrics.get(row.run_id, {}),
                found.get("taolu.seed", ""),
                found.get("taolu.effort", ""),
                found.get("taolu.custom", ""),
                row.status,
            )


def current(store: Store) -> dict[str, Judged]:
    """Claim -> its newest run; runs of a design of the user's own answer another question and are passed over."""
    newest: dict[str, Judged] = {}
    for run in judged(store):
        if not run.custom:
            newest.setdefault(run.claim, run)
    return newest


def read_evidence(store: Store, run_id: str) -> dict[str, Any] | None:
    """The run's evidence.json; None where it has none that can be read."""
    try:
        found = _read(inside(store.run_folder(run_id), "evidence.json"))
    except ConfigError:
        return None
    return found if isinstance(found, dict) else None


def write_catalogue(store: Store, claims: Sequence[dict[str, Any]]) -> None:
    """Keeps what every claim says, run or not, for pages that cannot import the claims."""
    write_text(store.folder / CATALOGUE, json.dumps(claims, ensure_ascii=False, indent=1))


def read_catalogue(store: Store) -> list[dict[str, Any]]:
    """What every claim said when claims were last run; empty where none ever was, or nothing can be read."""
    found = _read(store.folder / CATALOGUE)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _read(path: Path) -> Any:
    """The JSON of a file, None where it is missing, too large or broken."""
    try:
        if path.stat().st_size > LARGEST_EVIDENCE_MB * 1_000_000:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
