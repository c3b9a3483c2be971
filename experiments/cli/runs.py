"""Verbs that read runs: runs, show, logs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from experiments.cli.options import STORE, Options, Verb
from experiments.cli.output import lang_of, tell
from experiments.cli.values import none, one, store_of, urls_of, whole
from experiments.errors import ConfigError

if TYPE_CHECKING:
    from experiments.store.columns import Choice
    from experiments.store.location import Store


def _runs(words: list[str], options: Options) -> int:
    none(words)
    from experiments.listing import listed, table_lines

    store = store_of(options)
    if options.get("reap"):
        reap(store, options)
    elif urls_of(options):
        raise ConfigError("--notify: tells of what --reap finds; add --reap")
    choice = _choice(options)
    if choice.columns or options.get("csv"):
        return _runs_columns(store, choice, options)
    rows = listed(store, whole(options, "limit", 20, 1), deleted=bool(options.get("deleted")), choice=choice)
    lang = lang_of(options)
    lines = table_lines(rows, store, lang) if rows or choice.filter is None else [lang("runs_no_match")]
    return tell(options, rows, lines)


def _choice(options: Options) -> Choice:
    from experiments.store.columns import Choice

    text = options.get("columns")
    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if not all(names):
        raise ConfigError(f"--columns {text}: write names with commas between them, as in --columns name,val/elbo")
    if options.get("csv") and options.get("json"):
        raise ConfigError("--csv and --json: give one of them")
    return Choice(options.get("filter"), options.get("sort"), names)


def _runs_columns(store: Store, choice: Choice, options: Options) -> int:
    from experiments.listing import column_lines, listed_columns

    count = None if options.get("csv") and "limit" not in options else whole(options, "limit", 20, 1)
    table = listed_columns(store, count, deleted=bool(options.get("deleted")), choice=choice)
    if options.get("csv"):
        print(table.to_csv(index=False), end="")
        return 0
    plain = table.astype(object).where(table.notna(), None).to_dict("records")
    return tell(options, plain, column_lines(table, lang_of(options)))


def reap(store: Store, options: Options) -> None:
    """Marks runs whose process is gone, says so, and tells those who asked for it."""
    from experiments.notify import reap_and_tell

    for dead in reap_and_tell(store, urls_of(options)):
        what = "FAILED: its process is gone" if dead.reaped else "stale: no heartbeat for a minute from another host"
        print(f"taolu: {dead.run_id[:8]} {dead.name} {what}", file=sys.stderr)


def _show(words: list[str], options: Options) -> int:
    from experiments.listing import shown, shown_lines

    store = store_of(options)
    run = shown(store, one(words, "RUN"))
    return tell(options, run, shown_lines(run, lang_of(options)))


def _logs(words: list[str], options: Options) -> int:
    from experiments.logs import logs

    for text in logs(store_of(options), one(words, "RUN"), follow=bool(options.get("follow"))):
        print(text, end="", flush=True)
    return 0


VERBS: dict[str, Verb] = {
    "runs": Verb(
        "runs",
        "the runs in the store",
        _runs,
        (*STORE, "filter", "sort", "columns", "csv", "limit", "deleted", "reap", "notify", "lang", "json"),
        example='runs --filter "val/elbo > -30" --sort -val/elbo --columns name,val/elbo,optimizer.lr',
    ),
    "show": Verb(
        "show RUN", "one run: config, values, files", _show, (*STORE, "lang", "json"), example="show best:vae:val/elbo"
    ),
    "logs": Verb("logs RUN [-f]", "what a run printed", _logs, (*STORE, "follow"), example="logs last -f"),
}
