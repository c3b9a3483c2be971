"""Verbs of runs in other processes: stop, queue, worker."""

from __future__ import annotations

from experiments.cli.options import LABEL, STORE, Options, Tasks, Verb, run_task
from experiments.cli.output import lang_of, print_json, say_of, tell
from experiments.cli.values import first, label_of, none, one, store_of, urls_of, whole
from experiments.errors import ConfigError


def _stop(words: list[str], options: Options) -> int:
    from experiments.stop import stop

    record, line = stop(store_of(options), one(words, "RUN"))
    say_of(options)(line)
    if options.get("json"):
        print_json({"run_id": record.run_id, "name": record.name, "status": record.status})
    return 0


def _queue(words: list[str], options: Options) -> int:
    return run_task("queue", TASKS, words, options, default="ls")


def _queue_add(words: list[str], options: Options) -> int:
    target, rest = first(words, "experiment", "queue add vae --model.latent_dim 16")
    from experiments.queue import add

    item = add(target, rest, store=store_of(options), label=label_of(options))
    say_of(options)(f"item {item.number} waits: {item.command}; run what waits: taolu worker --once")
    if options.get("json"):
        print_json({"number": item.number, "command": item.command})
    return 0


def _queue_listed(words: list[str], options: Options) -> int:
    none(words)
    from experiments.queue import listed, table_lines

    store = store_of(options)
    rows = listed(store, whole(options, "limit", 20, 1))
    return tell(options, rows, table_lines(rows, store, lang_of(options)))


def _queue_removed(words: list[str], options: Options) -> int:
    if not words:
        raise ConfigError("give at least one item, as in: taolu queue rm 7")
    from experiments.queue import remove

    removed = remove(store_of(options), words)
    for item in removed:
        say_of(options)(f"removed item {item.number}: {item.command}")
    if options.get("json"):
        print_json([item.number for item in removed])
    return 0


def _worker(words: list[str], options: Options) -> int:
    none(words)
    workers = whole(options, "workers", 1, 1) if "workers" in options else None
    store, say = store_of(options), say_of(options)
    from experiments.queue import is_empty

    if options.get("once") and "devices" not in options and is_empty(store):
        say("the queue is empty; fill it: taolu queue add vae")
        return 0
    from experiments.worker import places, work

    where = places(options.get("devices"), workers)
    say(f"works on the queue of {store.label}, {len(where)} at a time; Ctrl-C ends it, what is at work waits again")
    return work(store, where, once=bool(options.get("once")), notify=urls_of(options), say=say)


TASKS: Tasks = {
    "add": (_queue_add, LABEL),
    "ls": (_queue_listed, ("limit",)),
    "rm": (_queue_removed, ()),
}
VERBS: dict[str, Verb] = {
    "stop": Verb(
        "stop RUN",
        "end a run of this host, everything kept; returns when it has",
        _stop,
        (*STORE, "json"),
        example="stop last",
    ),
    "queue": Verb(
        "queue [ls | add NAME|FILE [--KEY VALUE ...] | rm ITEM ...]",
        "runs that wait for a worker: ls shows them, add takes what taolu run takes, rm takes waiting ones out",
        _queue,
        (*STORE, *LABEL, "limit", "lang", "json"),
        passes=True,
        example="queue add vae --model.latent_dim 16 --seed 1",
    ),
    "worker": Verb(
        "worker [--once] [--devices 0,1 | --workers N]",
        "run what waits in the queue, one after the other at each place; any number of workers share it",
        _worker,
        (*STORE, "once", "devices", "workers", "notify"),
        example="worker --once --workers 2",
    ),
}
