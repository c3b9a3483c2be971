"""Verbs that compare what is kept, and throw away: diff, report, delete, restore, gc."""

from __future__ import annotations

from pathlib import Path

from experiments.cli.options import STORE, Options, Verb
from experiments.cli.output import lang_of, print_json, tell
from experiments.cli.values import none, store_of
from experiments.errors import ConfigError


def _diff(words: list[str], options: Options) -> int:
    if len(words) != 2:
        found = "'" + " ".join(words) + "'" if words else "nothing"
        raise ConfigError(f"give two: a RUN, and a RUN or FILE.yaml; found {found}")
    from experiments.diff import diff, diff_lines

    difference = diff(store_of(options), *words)
    return tell(options, difference.plain(), diff_lines(difference, lang_of(options)))


def _report(words: list[str], options: Options) -> int:
    if not words:
        raise ConfigError("name the runs, or a sweep, as in: taolu report last")
    from experiments.report import check_form, check_place, form_of, report, write_report

    form = check_form(options.get("format") or form_of(options.get("out")))
    out = options.get("out") or ("report.html" if form == "html" else None)
    path = check_place(Path(out).expanduser()) if out else None
    found = report(store_of(options), words)
    lang = lang_of(options)
    text = found.text(form, lang)
    if path is not None:
        write_report(text, path)
    if options.get("json"):
        print_json({**found.plain(), "file": str(path) if path else None})
    elif path is not None:
        print(lang("written", path=path))
    else:
        print(text, end="")
    return 0


def _mark(words: list[str], options: Options, *, deleted: bool) -> int:
    """Deletes live runs or restores deleted ones, after every handle was found."""
    if not words:
        raise ConfigError(f"give at least one RUN, as in: taolu {'restore' if deleted else 'delete'} 3fa2")
    from experiments.store.heartbeat import refuse_live
    from experiments.store.read import find_run, read_run
    from experiments.store.write import delete_run, restore_run

    store = store_of(options)
    ids = dict.fromkeys(find_run(store, handle, deleted=deleted) for handle in words)
    records = [read_run(store, run_id) for run_id in ids]
    for record in records:
        if not deleted:
            refuse_live(record)
    for record in records:
        (restore_run if deleted else delete_run)(store, record.run_id)
        print(
            f"{'restored' if deleted else 'deleted'} {record.run_id[:8]} {record.name}"
            + ("" if deleted else f"; undo: taolu restore {record.run_id[:8]}")
        )
    return 0


def _delete(words: list[str], options: Options) -> int:
    return _mark(words, options, deleted=False)


def _restore(words: list[str], options: Options) -> int:
    return _mark(words, options, deleted=True)


def _gc(words: list[str], options: Options) -> int:
    none(words)
    from experiments.collect import collect, seconds_of

    age = seconds_of(options["older_than"]) if "older_than" in options else 0.0
    found = collect(store_of(options), older_than=age, dry_run=bool(options.get("dry_run")))
    tell(options, found.plain(), found.lines())
    return 1 if found.failures else 0


VERBS: dict[str, Verb] = {
    "diff": Verb(
        "diff RUN RUN|FILE.yaml",
        "what differs: config, code, packages, machine, data, metrics beside their noise",
        _diff,
        (*STORE, "lang", "json"),
        example="diff last best:vae:val/elbo",
    ),
    "report": Verb(
        "report RUN|SWEEP ...",
        "runs or sweeps as a page without network: means over seeds, tests, curves, pictures; or its table",
        _report,
        (*STORE, "out", "format", "lang", "json"),
        example="report sgd_batch_lr --out report.html",
    ),
    "delete": Verb("delete RUN ...", "mark runs deleted", _delete, STORE, example="delete 3fa2b1c0"),
    "restore": Verb("restore RUN ...", "undo delete", _restore, STORE, example="restore 3fa2b1c0"),
    "gc": Verb(
        "gc [--older_than AGE] [--dry_run]",
        "remove for good: deleted runs, and files no run needs; nothing that runs or is used",
        _gc,
        (*STORE, "older_than", "dry_run", "json"),
        example="gc --older_than 30d --dry_run",
    ),
}
