"""A judged claim in the store: a run of kind claim with its evidence, its plot and the command that repeats it."""

from __future__ import annotations

import inspect
import json
import shlex
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.claims.plot import image, shapes, svg
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from experiments.claims.verdict import Decision
from experiments.store.files import atomic_path, finite, write_text
from experiments.store.verdicts import EXPERIMENT, KIND
from experiments.store.write import RunWriter, create_run, open_store

if TYPE_CHECKING:
    from experiments.claims.registry import Effort
    from experiments.store.location import Store


@dataclass(frozen=True)
class Settings:
    """How claims are run.

    Args:
        seed: of every draw.
        effort: "quick" or "full".
        workers: processes, one thread each; 1 = this one.
        custom: design values to replace, as text by name.
        files: Python files with a tuple CLAIMS of the user's own.
    """

    seed: int = 0
    effort: Effort = "quick"
    workers: int = 1
    custom: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a probe gave.

    Args:
        evidence: None where it raised.
        error: the traceback, "" where it did not raise.
        children: ids of the runs it trained.
        custom: names of the design that were replaced.
        seconds: CPU time.
    """

    evidence: Evidence | None
    error: str = ""
    children: tuple[str, ...] = ()
    custom: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Finding:
    """A claim that has been run and judged.

    Args:
        claim: what was asked.
        outcome: what the probe gave.
        decision: the verdict, its p and why.
        run_id: where it is kept.
    """

    claim: Claim
    outcome: Outcome
    decision: Decision
    run_id: str

    def row(self) -> dict[str, Any]:
        """The finding in one line of a table."""
        claim, evidence = self.claim, self.outcome.evidence
        return {
            "id": claim.id,
            "article": claim.article,
            "form": claim.form,
            "statement": claim.statement,
            "statistic": evidence.statistic if evidence else "",
            "expected": claim.expected,
            "estimate": evidence.estimate if evidence else None,
            "ci_low": evidence.ci_low if evidence else None,
            "ci_high": evidence.ci_high if evidence else None,
            "n": evidence.n if evidence else 0,
            "verdict": self.decision.verdict,
            "seconds": round(self.outcome.seconds, 3),
            "run_id": self.run_id,
        }


class Ledger:
    """Writes findings into one store: one connection, and what all runs share made once.

    Args:
        store: where.
        settings: as the claims were run.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.client = open_store(store)

    def write(self, claim: Claim, outcome: Outcome, decision: Decision) -> Finding:
        """The finding, recorded: FINISHED, or FAILED with its traceback where the probe raised."""
        custom = {key: value for key, value in self.settings.custom if key in outcome.custom}
        tags = self._tags(claim, decision, custom)
        writer = create_run(self.store, EXPERIMENT, claim.id, tags, client=self.client)
        status = "FAILED"  # also of a disk that is full
        try:
            if outcome.evidence is None:
                writer.text("traceback.txt", outcome.error)
            else:
                self._values(writer, claim, outcome.evidence, decision)
                self._files(writer, claim, outcome.evidence, decision, custom)
            self._origin(writer, claim, custom)
            for child in outcome.children:
                self.client.set_tag(child, "mlflow.parentRunId", writer.run_id)
            status = "FAILED" if outcome.error else "FINISHED"
        finally:
            writer.finish(status)
        return Finding(claim, outcome, decision, writer.run_id)

    def _tags(self, claim: Claim, decision: Decision, custom: dict[str, str]) -> dict[str, str]:
        tags = {
            "taolu.kind": KIND,
            "taolu.claim": claim.id,
            "taolu.article": str(claim.article),
            "taolu.verdict": decision.verdict,
            "taolu.seed": str(self.settings.seed),
            "taolu.effort": self.settings.effort,
            "taolu.threads": "1",
            "taolu.custom": " ".join(f"{key}={value}" for key, value in custom.items()),
            "taolu.git_commit": self._git["commit"],
            "mlflow.note.content": claim.statement,
        }
        return {key: value for key, value in tags.items() if value}

    def _values(self, writer: RunWriter, claim: Claim, evidence: Evidence, decision: Decision) -> None:
        now = int(time.time() * 1000)
        named = {
            "estimate": evidence.estimate,
            "ci_low": evidence.ci_low,
            "ci_high": evidence.ci_high,
            "n": evidence.n,
            "p": decision.p,
            "time/cpu_seconds": evidence.seconds,
        }
        writer.metrics((key, float(value), now, 0) for key, value in named.items())
        writer.params({"claim": claim.id, "rule": claim.rule, "expected": claim.expected, "tolerance": claim.tolerance})

    def _files(
        self, writer: RunWriter, claim: Claim, evidence: Evidence, decision: Decision, custom: dict[str, str]
    ) -> None:
        run = {"seed": self.settings.seed, "effort": self.settings.effort, "custom": custom, "probe": where(claim)}
        document = finite(evidence_document(claim, evidence, decision) | run)
        write_text(writer.folder / "evidence.json", json.dumps(document, ensure_ascii=False, indent=1))
        drawn = shapes(claim, evidence, decision.verdict + (" (custom design)" if custom else ""))
        write_text(writer.folder / "plot.svg", svg(drawn))
        with atomic_path(writer.folder / "plot.png") as part:
            image(drawn).save(part, format="PNG", compress_level=1)

    def _origin(self, writer: RunWriter, claim: Claim, custom: dict[str, str]) -> None:
        """The command that repeats it, and the code and machine it ran on."""
        own = replace(self.settings, custom=tuple(custom.items()))  # the others are of other claims
        writer.text("command.txt", command(claim, own) + "\n")
        write_text(writer.folder / "env.json", self._environment)
        if self._git["patch"]:
            write_text(writer.folder / "git.patch", self._git["patch"])
        for file in self.settings.files:
            writer.text(f"code/{Path(file).name}", Path(file).read_text(encoding="utf-8", errors="replace"))

    @cached_property
    def _git(self) -> dict[str, str]:
        from experiments.provenance import code_files, repositories
        from experiments.store.location import redact

        states = repositories([Path.cwd(), Path(__file__).parent], self.store.folder)
        patches = [text for name, text in code_files(states).items() if name.endswith(".patch")]
        return {"commit": states[0].commit if states else "", "patch": redact("".join(patches))}

    @cached_property
    def _environment(self) -> str:
        from experiments.provenance import environment
        from experiments.store.location import redact

        return redact(json.dumps({**environment(1), "git_commit": self._git["commit"]}, indent=1))


def command(claim: Claim, settings: Settings) -> str:
    """The one command that runs the claim again, by itself."""
    words = ["taolu", "claims", "run", claim.id, "--seed", str(settings.seed), "--effort", settings.effort]
    words += [word for key, value in settings.custom for word in ("--set", f"{key}={value}")]
    words += [word for file in settings.files for word in ("--import", file)]
    return shlex.join(words)


def where(claim: Claim) -> str:
    """File and line of the probe, the file relative to the project where it lies there."""
    from experiments.claims.context import unwrapped

    code = unwrapped(claim.probe).__code__
    path, root = Path(inspect.getfile(code)), Path(__file__).parents[2]
    return f"{path.relative_to(root) if path.is_relative_to(root) else path}:{code.co_firstlineno}"


def claim_document(claim: Claim) -> dict[str, Any]:
    """The claim as evidence.json and the store's list of claims hold it."""
    return {
        "claim": claim.id,
        "article": claim.article,
        "form": claim.form,
        "statement": claim.statement,
        "statement_zh": claim.statement_zh,
        "formula": claim.formula,
        "source": claim.source,
        "question": claim.question,
        "rule": claim.rule,
        "expected": claim.expected,
        "tolerance": claim.tolerance,
        "reason": claim.reason,
    }


def evidence_document(claim: Claim, evidence: Evidence, decision: Decision) -> dict[str, Any]:
    """Evidence and claim as evidence.json holds them, so that a page needs no other file."""
    axes = evidence.axes
    logs = [name for name, log in (("x", axes.log_x), ("y", axes.log_y)) if log] if axes else []
    return claim_document(claim) | {
        "statistic": evidence.statistic,
        "estimate": evidence.estimate,
        "ci_low": evidence.ci_low,
        "ci_high": evidence.ci_high,
        "n": evidence.n,
        "verdict": decision.verdict,
        "p": decision.p,
        "why": decision.reason,
        "seconds": evidence.seconds,
        "axes": {"x": axes.x, "y": axes.y, "log": logs} if axes else None,
        "points": [asdict(point) for point in evidence.points],
        "theory": [asdict(point) for point in evidence.theory],
    }


def evidence_from(document: dict[str, Any]) -> Evidence:
    """The evidence in such a document."""
    axes = document["axes"]
    logs = axes["log"] if axes else []
    return Evidence(
        document["statistic"],
        estimate=float(document["estimate"]),
        ci_low=float(document["ci_low"]),
        ci_high=float(document["ci_high"]),
        n=int(document["n"]),
        points=tuple(Point(**_numbers(item)) for item in document["points"]),
        theory=tuple(Curve(**_numbers(item)) for item in document["theory"]),
        axes=Axes(axes["x"], axes["y"], "x" in logs, "y" in logs) if axes else None,
        seconds=float(document["seconds"]),
    )


def _numbers(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value if value is None or key == "series" else float(value) for key, value in item.items()}
