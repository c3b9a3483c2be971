"""The verb claims, by its tasks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.options import STORE, Options, Tasks, Verb, run_task
from experiments.cli.output import lang_of, print_json, say_of, tell
from experiments.cli.values import none, one, store_of, whole
from experiments.errors import ConfigError

if TYPE_CHECKING:
    from experiments.claims.record import Settings


def _claims(words: list[str], options: Options) -> int:
    if words and words[0][:4].isdecimal():  # an article, or a claim
        raise ConfigError(f"{words[0]}: to do what with? as in: taolu claims run {words[0]}, or: check {words[0]}")
    return run_task("claims", TASKS, words, options, default="")


def _listed(words: list[str], options: Options) -> int:
    from experiments.claims.listing import overview, standing

    now = standing(store_of(options), options.get("import", ()))
    return tell(options, {"questions": now.questions(), "claims": now.rows()}, overview(now, lang_of(options)))


def _show(words: list[str], options: Options) -> int:
    from experiments.claims.listing import shown, shown_lines, standing

    store = store_of(options)
    record = shown(standing(store, options.get("import", ())), store, one(words, "claim, as in 5655-S1"))
    return tell(options, record, shown_lines(record, lang_of(options)))


def _run(words: list[str], options: Options) -> int:
    from experiments.claims.runner import run
    from experiments.claims.words import counted

    say, lang = say_of(options), lang_of(options)

    def progress(done: int, total: int, claim: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{total} measured, {claim:24}", end="\r", file=sys.stderr, flush=True)

    findings = run(words, _settings(options), store_of(options), say, progress, words=lang)
    counts = counted(lang, [each.decision.verdict for each in findings])
    failed = sum(bool(each.outcome.error) for each in findings)
    seconds = sum(each.outcome.seconds for each in findings)
    say(lang("claims_ran", n=len(findings), counts=counts, failed=failed, seconds=seconds))
    if options.get("json"):
        print_json({"claims": [finding.row() for finding in findings]})
    return 1 if failed else 0


def _settings(options: Options) -> Settings:
    from experiments.claims.record import Settings

    pairs = []
    for item in options.get("set", []):
        key, equals, value = item.partition("=")
        if not (key and equals and value):
            raise ConfigError(f"--set '{item}': write KEY=VALUE, as in --set draws=4000")
        pairs.append((key, value))
    return Settings(
        seed=whole(options, "seed", 0, 0),
        effort=options.get("effort", "quick"),
        workers=whole(options, "workers", 1, 1),
        custom=tuple(dict(pairs).items()),
        files=tuple(options.get("import", ())),
    )


def _report(words: list[str], options: Options) -> int:
    none(words)
    from experiments.claims.listing import standing
    from experiments.claims.report import write_report

    store = store_of(options)
    now = standing(store, options.get("import", ()))
    lang = lang_of(options)
    page, text = write_report(now, store, Path(options.get("output", ".")).expanduser(), lang)
    told = lang("report_written", page=page, text=text)
    return tell(options, {"html": str(page), "markdown": str(text)}, [told])


def _check(words: list[str], options: Options) -> int:
    from experiments.claims.listing import standing
    from experiments.claims.lock import changes, read_lock, update
    from experiments.claims.registry import chosen
    from experiments.claims.words import verdict_in

    lang = lang_of(options)
    now = standing(store_of(options))
    ids = [claim.id for claim in chosen(words, now.claims)]
    if options.get("update"):
        print(lang("lock_written", n=update(ids, now.runs)))
        return 0
    locked = read_lock()
    found = changes([*ids, *(claim for claim in locked if not words and claim not in ids)], locked, now.runs)
    lines = [
        f"{change.claim:12} {verdict_in(lang, change.locked)} -> {verdict_in(lang, change.found)}  {change.run_id[:8]}"
        for change in found
    ]
    hint = lang("lock_hint") if found else ""
    lines.append(lang("lock_as", n=len(ids) - len(found), total=len(ids), hint=hint))
    tell(options, [vars(change) for change in found], lines)
    return 1 if found else 0


TASKS: Tasks = {
    "": (_listed, ("import",)),
    "show": (_show, ("import",)),
    "run": (_run, ("effort", "seed", "workers", "set", "import")),
    "report": (_report, ("output", "import")),
    "check": (_check, ("update",)),
}
VERBS: dict[str, Verb] = {
    "claims": Verb(
        "claims [show ID | run|check [ID|ARTICLE ...] | report]",
        "the articles' statements and their verdicts; run measures them, report writes a page, check compares",
        _claims,
        (*STORE, "effort", "seed", "workers", "set", "import", "output", "update", "lang", "json"),
        example="claims run 5655 --workers 2",
    ),
}
