"""Verbs that begin from an experiment: demo, list, run, check, find."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.options import LABEL, STORE, Options, Verb
from experiments.cli.output import ended, lang_of, plain, print_json, say_of, tell
from experiments.cli.values import label_of, none, store_of, tags_of, target_of
from experiments.errors import ConfigError

if TYPE_CHECKING:
    from experiments.config import Config


def _demo(words: list[str], options: Options) -> int:
    none(words)
    from rich.cells import cell_len

    from experiments.demo import demo
    from experiments.words import ENGLISH, padded

    store = store_of(options)
    say, as_json = say_of(options), bool(options.get("json"))
    lang = ENGLISH if as_json else lang_of(options)
    say(lang("demo_begins", store=store.label))
    lines = demo(store, say, full=bool(options.get("full")), colours=sys.stdout.isatty() and not as_json, words=lang)
    say(lang("demo_browser"))
    first = lang("demo_next")
    for begin, command in ((first, "run vae --model.latent_dim 16"), ("", "runs"), ("", "show last")):
        say(f"{padded(begin, cell_len(first))} taolu {command}")
    if as_json:
        print_json([{key: getattr(line, key) for key in ("what", "number", "verdict", "seconds")} for line in lines])
    return 0


def _list(words: list[str], options: Options) -> int:
    none(words)
    from experiments.config import describe, experiment_names

    if options.get("schema"):
        from experiments.completion import cached_schema
        from experiments.manual import schema

        print_json(cached_schema() or schema())
        return 0
    if options.get("json"):
        print_json({name: describe(name) for name in experiment_names()})
        return 0
    from experiments.design import SWEEPS, sweep_names

    lang = lang_of(options)
    wide = max(map(len, (*experiment_names(), *sweep_names())))
    for name in experiment_names():
        head = describe(name)
        print(f"{name:{wide}} {lang.why(name, head.get('why', ''))}")
        print(f"{'':{wide}} {' '.join(head.get('run', '').split(chr(10))[0].split())}")
    print(f"\n{lang('list_sweeps')}")
    for name in sweep_names():
        print(f"{name:{wide}} {lang.why(name, describe(name, SWEEPS).get('why', ''))}")
    print(f"\n{lang('list_hint')}")
    return 0


def train(words: list[str], options: Options, started: Callable[[str], None] | None = None) -> int:
    """The verb run.

    Args:
        words: the experiment and its options.
        options: the verb's own.
        started: told the run's id as soon as it has one.
    """
    target, rest = target_of(words)
    if options.get("background") and not {"help", "print_config", "needed", "dry_run"} & {*options}:
        return _launched(words, options)
    if options.get("help"):
        from experiments.manual import help_text

        print(help_text(target, rest))
        return 0
    from experiments.config import resolve

    if "id" in options and options.get("needed"):
        raise ConfigError("--id and --needed: give one; --id KEY knows its run by the key, --needed by config and data")
    tags_of(options)  # a mistake in them is told before the seconds that resolving takes
    config = resolve(target, rest)
    if options.get("print_config"):
        return _printed(config, options)
    store = store_of(options)
    from experiments.init_from import with_weights

    config, used = with_weights(config, store)
    if options.get("dry_run"):
        from experiments.forecast import forecast

        told = forecast(config, target, rest, store)
        return tell(options, told.plain(), told.lines())
    if options.pop("needed", False):
        from experiments.needed import finished_before

        if (before := finished_before(config, store, say_of(options))) is not None:
            short = before.run_id[:8]
            say_of(options)(f"not needed: run {short} {before.name} is finished; look: taolu show {short}")
            return ended(before, options)
        if options.get("background"):
            return _launched(words, options)
    label = label_of(options)
    label.tags |= used
    if key := options.get("id"):
        from experiments.idempotent import run_once

        return ended(run_once(config, key, store=store, label=label, say=say_of(options), started=started), options)
    from experiments.run import run

    return ended(run(config, store=store, label=label, say=say_of(options), started=started), options)


def _printed(config: Config, options: Options) -> int:
    for note in config.notes:
        print(note, file=sys.stderr)
    if options.get("json"):
        print_json({"name": config.name, **config.values})
    else:
        print(config.to_yaml(), end="")
    return 0


def _launched(words: list[str], options: Options) -> int:
    """Starts the run in the background; its id as soon as it has one, or why it has none."""
    from experiments.background import launch

    found = launch(words, {key: value for key, value in options.items() if key not in ("background", "json")})
    print(found.said, end="", file=sys.stderr)
    if not found.run_id:
        return found.exit_status
    if options.get("json"):
        from experiments.store.read import read_run

        print_json(plain(read_run(store_of(options), found.run_id), []))
    else:
        print(found.run_id)
        short = found.run_id[:8]
        print(f"taolu: watch it: taolu logs {short} -f   end it: taolu stop {short}", file=sys.stderr)
    return 0


def _check(words: list[str], options: Options) -> int:
    target, rest = target_of(words, "check")
    from experiments.config import resolve

    config = resolve(target, rest)
    from experiments.check import check
    from experiments.init_from import with_weights

    store = store_of(options)
    report = check(with_weights(config, store)[0], store)
    tell(options, report.plain(), report.lines())
    return report.exit_status


def _find(words: list[str], options: Options) -> int:
    target, rest = target_of(words, "find")
    from experiments.config import resolve

    config = resolve(target, rest)
    from experiments.find import check_out, find, write_space
    from experiments.init_from import with_weights

    out = Path(options["out"]).expanduser() if "out" in options else None
    if out:
        check_out(out)
    finding = find(with_weights(config, store_of(options))[0])
    tell(options, finding.plain(), finding.lines())
    if out:
        write_space(finding, config, target, out)
        print(f"written: {out}; search it: taolu sweep {out}", file=sys.stderr)
    return 0


VERBS: dict[str, Verb] = {
    "demo": Verb(
        "demo [--full]", "one short run of every family, a line each", _demo, (*STORE, "full", "lang", "json")
    ),
    "list": Verb("list", "the experiments there are", _list, ("lang", "json", "schema")),
    "run": Verb(
        "run NAME|FILE.yaml|FILE.py:Class [--KEY VALUE ...]",
        "train; NAME --help shows its options",
        train,
        (*STORE, *LABEL, "notify", "print_config", "dry_run", "id", "background", "needed", "json"),
        passes=True,
        example="run vae --model.latent_dim 16 --trainer.max_epochs 20 --seed 1",
    ),
    "check": Verb(
        "check NAME|FILE.yaml|FILE.py:Class [--KEY VALUE ...]",
        "a few steps, a checkpoint, its reload, and what lambda_max and gradient noise say of lr and batch",
        _check,
        (*STORE, "json"),
        passes=True,
        example="check classifier --optimizer.lr 5",
    ),
    "find": Verb(
        "find NAME|FILE.yaml|FILE.py:Class [--KEY VALUE ...]",
        "a learning rate and a batch size by measurement, and a space to search around them",
        _find,
        ("out", "json"),
        passes=True,
        example="find classifier --optimizer momentum --out around.yaml",
    ),
}
