"""The command `taolu`: dispatch without heavy imports, then the verb's own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from experiments.errors import ConfigError, did_you_mean, unknown

if TYPE_CHECKING:
    from experiments.check import Report
    from experiments.claims.record import Settings as ClaimSettings
    from experiments.columns import Choice
    from experiments.design import Design
    from experiments.find import Finding
    from experiments.forecast import Forecast
    from experiments.run import Result
    from experiments.store.location import Store

Options = dict[str, Any]

# Options of the verbs themselves: placeholder ("" for a flag, * when it may be repeated) and help.
OPTIONS: dict[str, tuple[str, str]] = {
    "store": ("DIR|URL", "where runs are kept; default MLFLOW_TRACKING_URI, else the nearest mlruns/, else ./mlruns"),
    "store_dir": ("DIR", "where files lie when --store is a database server; default mlruns/"),
    "name": ("NAME", "name of the run"),
    "tags": ("KEY=VALUE *", "a tag of the run"),
    "note": ("TEXT", "Markdown shown beside the run"),
    "notify": ("URL *", "tell this apprise URL how runs end, die or turn non-finite; not kept: resume needs it again"),
    "json": ("", "one JSON object on the last line of standard output, all else on standard error"),
    "print_config": ("", "print the resolved config, which can be saved and run, and stop"),
    "schema": ("", "every option of every experiment, as JSON"),
    "limit": ("N", "rows shown; default 20"),
    "deleted": ("", "runs marked deleted"),
    "filter": (
        "EXPRESSION",
        'only runs it is true of, as "val/elbo > -30 and optimizer.lr < .01"; other names in `...`',
    ),
    "sort": ("COLUMN", "by this column; with - in front the largest first"),
    "columns": ("NAME,NAME", "what is shown of each run, as name,val/elbo,optimizer.lr"),
    "csv": ("", "as CSV, every run and column unless --limit and --columns say otherwise"),
    "older_than": ("AGE", "only what was deleted, or left behind, so long ago: 12h, 30d, 2w"),
    "format": ("html|markdown|latex|csv", "of the report; only html has curves and pictures; default html"),
    "reap": ("", "mark RUNNING runs FAILED whose process on this host is gone; tell those stale elsewhere"),
    "full": ("", "the longer form, up to 5 minutes"),
    "create": ("", "create the store's database now"),
    "grid": ("KEY=V,V *", "an axis of the space, and every point of it tried, as optimizer.lr=.1,.3"),
    "seeds": ("N", "seeds of every point, default the file's repeats, else 1; pairs of fork --against, default 8"),
    "sampler": ("NAME", "grid, random, tpe or another of Optuna's"),
    "pruner": ("NAME", "none, median, hyperband or another of Optuna's"),
    "n_trials": ("N", "trials in all, over every session"),
    "timeout": ("SECONDS", "after which no further trial starts"),
    "trial_timeout": ("SECONDS", "after which a trial ends with what it has"),
    "resume": ("", "go on with a study that exists; more trials, more seeds and a wider space are allowed"),
    "show": ("", "the cells of a study that exists, the best first, and stop"),
    "dry_run": ("", "check everything, show what would be run or removed, and stop; no run is made or removed"),
    "effort": ("quick|full", "seconds or minutes a claim; default quick"),
    "seed": ("N", "of every random draw; default 0"),
    "workers": ("N", "processes, one thread each"),
    "set": ("KEY=VALUE *", "another value of a claim's design; its evidence is then marked custom"),
    "import": ("FILE.py *", "claims of your own: the file's tuple CLAIMS"),
    "output": ("DIR|FILE", "where the report goes: a folder or FILE.html; default here"),
    "out": ("FILE", "the file that is written, in a folder that is there"),
    "update": ("", "write the verdicts as they are now into claims.lock"),
    "background": (
        "",
        "start it in a process of its own, print its id and stop; taolu logs RUN -f shows what it prints",
    ),
    "needed": ("", "run only if no finished run has the same config, data and code; else show that one"),
    "once": ("", "end when nothing waits"),
    "devices": ("N,N", "GPUs, a run at a time on each"),
    "follow": ("", "go on with what is printed until the run ends; short: -f"),
    "host": ("ADDRESS", "address to serve on; default 127.0.0.1, this machine only"),
    "port": ("PORT", "port to serve on"),
    "from": ("last|best|STEP", "the checkpoint it begins from: last, best, or the steps after which one was saved"),
    "reset": ("optimizer|schedule|data *", "a part of the state that begins anew"),
    "against": ("parent", "the effect of the change: pairs of runs over the same batches, with and without it"),
    "checkpoint": ("best|last", "the weights that are evaluated; default best"),
    "metrics": ("NAME,NAME *", "the metrics that are kept; default all"),
    "help": ("", "this text"),
}


SHORT = {"-h": "help", "-f": "follow"}


@dataclass(frozen=True)
class Verb:
    """A verb of the command.

    Args:
        usage: what follows `taolu`.
        help: one line.
        run: takes the words that are no option and the options; returns the exit status.
        options: names from OPTIONS.
        passes: whether further options, such as --model.latent_dim 16, belong to the experiment.
    """

    usage: str
    help: str
    run: Callable[[list[str], Options], int]
    options: tuple[str, ...] = ()
    passes: bool = False
    example: str = field(default="", kw_only=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of one command: 0 finished, 1 failed, 2 refused input, 130 and 143 ended by a signal."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except ConfigError as error:
        print(f"taolu: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `taolu runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        if type(error).__name__ == "Interrupted":  # compared by name: its module imports nothing this one has loaded
            return int(getattr(error, "exit_status", 130))
        raise


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        named = words[1] if len(words) > 1 else ""
        print(_verb_help(named, VERBS[named]) if named in VERBS else _overview())
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(version("taolu"))
        return 0
    name = words[0]
    if name == "_complete":
        from experiments.completion import complete

        print("\n".join(complete(words[1:])))
        return 0
    if name == "_background":  # what `run --background` starts
        from experiments.background import job

        own = job()
        return _run(own.words, own.options, own.started)
    if name not in VERBS:
        hint = did_you_mean(name, [*VERBS, "--help", "--version"])
        raise ConfigError(f"unknown verb '{name}'{hint}; allowed: {', '.join(VERBS)}")
    verb = VERBS[name]
    found, rest = _take(words[1:], verb)
    if found.get("help") and not (name == "run" and rest):
        print(_verb_help(name, verb))
        return 0
    return verb.run(rest, found)


def _take(words: list[str], verb: Verb) -> tuple[Options, list[str]]:
    """The verb's own options, and the other words in order."""
    allowed = (*verb.options, "help")
    found: Options = {}
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        name = SHORT.get(word, name)
        if not word.startswith("-") or name not in allowed:
            if word.startswith("-"):
                _check_passed(name, word, verb)
            rest.append(word)
            if word.startswith("-") and not equals and queue and not queue[0].startswith("--"):
                rest.append(queue.pop(0))  # its value
            continue
        placeholder = OPTIONS[name][0]
        if not placeholder:
            if equals:
                raise ConfigError(f"--{name}: takes no value")
            found[name] = True
            continue
        if not equals and queue and not queue[0].startswith("--"):
            value = queue.pop(0)
        if not value:
            raise ConfigError(f"--{name}: needs a value: --{name} {placeholder.removesuffix(' *')}")
        if placeholder.endswith("*"):
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    return found, rest


def _check_passed(name: str, word: str, verb: Verb) -> None:
    """Refuses an option that the verb has not, and that is not the experiment's either by its look."""
    own = [f"--{option}" for option in (*verb.options, "help")]
    if verb.passes:
        from experiments.config import PARTS

        own += [f"--{each}" for each in (*PARTS, "seed", "threads", "config")]
        is_typo = name in OPTIONS or did_you_mean(name, own)
        if word.startswith("--") and ("." in name or f"--{name}" in own or not is_typo):
            return
    raise unknown("option", word.partition("=")[0], own)


def _overview() -> str:
    width = max(len(verb.usage) for verb in VERBS.values())
    lines = ["taolu: launch, sweep, browse and believe experiments", "", "usage: taolu VERB [...]", ""]
    lines += [f"  {verb.usage:{width}}  {verb.help}" for verb in VERBS.values()]
    lines += ["", "taolu VERB --help says more; RUN is an id prefix, a name, last, last:vae or best:vae:val/elbo"]
    return "\n".join(lines)


def _verb_help(name: str, verb: Verb) -> str:
    lines = [f"usage: taolu {verb.usage}", "", verb.help, ""]
    for option in (*verb.options, "help"):
        placeholder, text = OPTIONS[option]
        more = "; may be repeated" if placeholder.endswith("*") else ""
        lines.append(f"  --{option + ' ' + placeholder.removesuffix(' *'):22}  {text}{more}")
    if verb.passes:
        lines.append(f"  --{'PART.KEY VALUE':22}  an option of the experiment; taolu run NAME --help shows them all")
    return "\n".join([*lines, "", f"example: taolu {verb.example or name}"])


def _store(options: Options) -> Store:
    """The store the options name, what dead processes left for it delivered."""
    from experiments.store.location import locate
    from experiments.store.replay import replay

    store = locate(options.get("store"), options.get("store_dir"))
    if delivered := replay(store):
        print(f"taolu: {delivered} values of a killed process delivered", file=sys.stderr)
    return store


def _one(words: list[str], what: str) -> str:
    if len(words) != 1:
        found = "nothing" if not words else "'" + " ".join(words) + "'"
        raise ConfigError(f"give one {what}; found {found}")
    return words[0]


def _say(options: Options) -> Callable[[str], None]:
    stream = sys.stderr if options.get("json") else sys.stdout
    return lambda line: print(line, file=stream, flush=True)


def _tags(options: Options) -> dict[str, str]:
    tags = {}
    for item in options.get("tags", []):
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise ConfigError(f"--tags '{item}': write KEY=VALUE, as in --tags purpose=paper")
        tags[key] = value
    return tags


def _urls(options: Options) -> tuple[str, ...]:
    return tuple(options.get("notify", ()))


# ---- verbs that make a run ------------------------------------------------------------------------------------------


def _run(words: list[str], options: Options, started: Callable[[str], None] | None = None) -> int:
    target, rest = _target(words)
    if options.get("background") and not {"help", "print_config", "needed", "dry_run"} & {*options}:
        return _launched(words, options)
    if options.get("help"):
        from experiments.manual import help_text

        print(help_text(target, rest))
        return 0
    from experiments.config import resolve

    tags = _tags(options)
    config = resolve(target, rest)
    if options.get("print_config"):
        for note in config.notes:
            print(note, file=sys.stderr)
        if options.get("json"):
            print_json({"name": config.name, **config.values})
        else:
            print(config.to_yaml(), end="")
        return 0
    store = _store(options)
    if options.get("dry_run"):
        from experiments.forecast import forecast

        return _told(forecast(config, target, rest, store), options)
    if options.pop("needed", False):
        from experiments.needed import finished_before

        if (before := finished_before(config, store, _say(options))) is not None:
            _say(options)(
                f"not needed: run {before.run_id[:8]} {before.name} is finished; look: taolu show {before.run_id[:8]}"
            )
            return _ended(before, options)
        if options.get("background"):
            return _launched(words, options)
    from experiments.run import Label, run

    label = Label(options.get("name"), tags, options.get("note"), notify=_urls(options))
    return _ended(run(config, store=store, label=label, say=_say(options), started=started), options)


def _launched(words: list[str], options: Options) -> int:
    """Starts the run in the background; its id as soon as it has one, or why it has none."""
    from experiments.background import launch

    found = launch(words, {key: value for key, value in options.items() if key not in ("background", "json")})
    print(found.said, end="", file=sys.stderr)
    if not found.run_id:
        return found.exit_status
    if options.get("json"):
        from experiments.store.read import read_run

        record = read_run(_store(options), found.run_id)
        keys = ("run_id", "name", "experiment", "kind", "status", "seconds", "metrics")
        print_json({**{key: getattr(record, key) for key in keys}, "artifacts": []})
    else:
        print(found.run_id)
        short = found.run_id[:8]
        print(f"taolu: watch it: taolu logs {short} -f   end it: taolu stop {short}", file=sys.stderr)
    return 0


def _target(words: list[str], verb: str = "run") -> tuple[str, list[str]]:
    if not words or words[0].startswith("-"):
        from experiments.config import experiment_names

        raise ConfigError(
            f"name the experiment first: taolu {verb} {'|'.join(experiment_names())}|FILE.yaml|FILE.py:Class"
        )
    return words[0], words[1:]


def _resume(words: list[str], options: Options) -> int:
    if not words or words[0].startswith("-"):
        raise ConfigError("name the run first, as in: taolu resume last --trainer.max_epochs 60")
    from experiments.resume import resume

    result = resume(words[0], words[1:], store=_store(options), notify=_urls(options), say=_say(options))
    return _ended(result, options)


def _rerun(words: list[str], options: Options) -> int:
    handle = _one(words[:1], "RUN")
    from experiments.rerun import rerun
    from experiments.run import Label

    label = Label(options.get("name"), _tags(options), options.get("note"), notify=_urls(options))
    result, comparison = rerun(handle, words[1:], store=_store(options), label=label, say=_say(options))
    return _ended(result, options, rerun=comparison.sentence)


def _fork(words: list[str], options: Options) -> int:
    if not words or words[0].startswith("-"):
        raise ConfigError("name the run first, as in: taolu fork last --optimizer.lr 1e-4")
    start, reset = options.get("from", "last"), _listed(options, "reset")
    if options.get("against"):
        return _fork_against(words, options, start, reset)
    if "seeds" in options:
        raise ConfigError("--seeds: belongs to --against parent; the fork's own seed is --seed")
    from experiments.fork import fork
    from experiments.run import Label

    label = Label(options.get("name"), _tags(options), options.get("note"), notify=_urls(options))
    place, say = _store(options), _say(options)
    return _ended(fork(words[0], words[1:], start=start, reset=reset, store=place, label=label, say=say), options)


def _fork_against(words: list[str], options: Options, start: str, reset: list[str]) -> int:
    if options["against"] != "parent":
        raise ConfigError(f"--against {options['against']}: must be parent")
    seeds = _whole(options, "seeds", 8, 2)
    from experiments.pairs import against_parent
    from experiments.run import Label

    label = Label(options.get("name"), _tags(options), options.get("note"), notify=_urls(options))
    place, say = _store(options), _say(options)
    effect = against_parent(
        words[0], words[1:], seeds=seeds, start=start, reset=reset, store=place, label=label, say=say
    )
    if options.get("json"):
        print_json(effect.plain())
    else:
        for line in effect.lines():
            print(line)
    return effect.exit_status


def _listed(options: Options, name: str) -> list[str]:
    """The words of an option that may be repeated, or hold several with commas."""
    return [word.strip() for item in options.get(name, []) for word in item.split(",") if word.strip()]


def _evaluate(words: list[str], options: Options) -> int:
    if not words or words[0].startswith("-"):
        raise ConfigError("name the run first, as in: taolu evaluate last --data mnist")
    from experiments.evaluate import evaluate
    from experiments.run import Label

    label = Label(options.get("name"), _tags(options), options.get("note"), notify=_urls(options))
    result = evaluate(
        words[0],
        words[1:],
        checkpoint=options.get("checkpoint", "best"),
        metrics=_listed(options, "metrics"),
        store=_store(options),
        label=label,
        say=_say(options),
    )
    return _ended(result, options)


def _ended(result: Result, options: Options, **more: Any) -> int:
    if options.get("json"):
        keys = ("run_id", "name", "experiment", "kind", "status", "seconds", "metrics", "artifacts")
        print_json(
            {**{key: getattr(result, key) for key in keys}, **more, **({"error": result.error} if result.error else {})}
        )
    return result.exit_status


def _told(what: Forecast | Report | Finding, options: Options) -> int:
    """Prints what was found out without a run."""
    if options.get("json"):
        print_json(what.plain())
    else:
        for line in what.lines():
            print(line)
    return 0


def _check(words: list[str], options: Options) -> int:
    target, rest = _target(words, "check")
    from experiments.config import resolve

    config = resolve(target, rest)
    from experiments.check import check

    report = check(config, _store(options))
    _told(report, options)
    return report.exit_status


def _find(words: list[str], options: Options) -> int:
    target, rest = _target(words, "find")
    from pathlib import Path

    from experiments.config import resolve

    config = resolve(target, rest)
    from experiments.find import check_out, find, write_space

    out = Path(options["out"]).expanduser() if "out" in options else None
    if out:
        check_out(out)
    finding = find(config)
    _told(finding, options)
    if out:
        write_space(finding, config, target, out)
        print(f"written: {out}; search it: taolu sweep {out}", file=sys.stderr)
    return 0


def _sweep(words: list[str], options: Options) -> int:
    if not words or words[0].startswith("-"):
        from experiments.design import sweep_names

        raise ConfigError(f"name the sweep first: taolu sweep {'|'.join(sweep_names())}|FILE.yaml|EXPERIMENT")
    if options.get("show"):
        return _sweep_shown(words, options)
    from experiments.design import read_design

    given = {key: options.get(key) for key in ("name", "sampler", "pruner", "n_trials")}
    given |= {"grid": options.get("grid", ()), "repeats": options.get("seeds")}
    design = read_design(words[0], words[1:], given)
    if options.get("dry_run"):
        return _sweep_planned(design, options)
    from experiments.conduct import Conduct, sweep
    from experiments.run import Label

    conduct = Conduct(
        workers=_whole(options, "workers", 1, 1),
        timeout=_seconds(options, "timeout"),
        trial_timeout=_seconds(options, "trial_timeout"),
        resume=bool(options.get("resume")),
    )
    label = Label(None, _tags(options), options.get("note"), kind="sweep")
    result = sweep(design, conduct, store=_store(options), label=label, say=_say(options))
    return _ended(result.run, options, **result.summary())


def _sweep_shown(words: list[str], options: Options) -> int:
    from experiments.listing import study_lines, study_shown

    store = _store(options)
    study = study_shown(store, options.get("name") or _one(words, "study"))
    if options.get("json"):
        print_json(study)
        return 0
    for line in study_lines(store, study["study"]):
        print(line)
    return 0


def _sweep_planned(design: Design, options: Options) -> int:
    from experiments.checks import planned

    plan = planned(design, is_timed="timeout" in options)
    if options.get("json"):
        print_json(plan)
        return 0
    for point in plan["points"]:
        print(point)
    print(plan["sentence"])
    return 0


def _seconds(options: Options, name: str) -> float | None:
    text = options.get(name)
    try:
        return None if text is None else float(text)
    except ValueError as error:
        raise ConfigError(f"--{name} {text}: must be a number of seconds") from error


def print_json(value: Any) -> None:
    """One line of JSON; numbers JSON has no word for are text: "NaN", "Infinity"."""
    from experiments.store.files import finite

    print(json.dumps(finite(value), ensure_ascii=False, default=str))


def _demo(words: list[str], options: Options) -> int:
    _none(words)
    from experiments.demo import demo

    store = _store(options)
    say = _say(options)
    say(f"training; runs go to {store.label}")
    lines = demo(store, say, full=bool(options.get("full")), colours=sys.stdout.isatty() and not options.get("json"))
    say("see them in the browser: taolu dashboard   (http://127.0.0.1:8501)")
    say("next: taolu run vae --model.latent_dim 16")
    say("      taolu runs")
    say("      taolu show last")
    if options.get("json"):
        print_json([{key: getattr(line, key) for key in ("what", "number", "verdict", "seconds")} for line in lines])
    return 0


# ---- verbs that read ------------------------------------------------------------------------------------------------


def _none(words: list[str]) -> None:
    if words:
        raise ConfigError(f"unexpected '{' '.join(words)}'")


def _list(words: list[str], options: Options) -> int:
    _none(words)
    from experiments.config import describe, experiment_names

    if options.get("schema"):
        from experiments.manual import schema

        print_json(schema())
        return 0
    if options.get("json"):
        print_json({name: describe(name) for name in experiment_names()})
        return 0
    for name in experiment_names():
        head = describe(name)
        print(f"{name:16} {head.get('why', '')}")
        print(f"{'':16} {' '.join(head.get('run', '').split(chr(10))[0].split())}")
    from experiments.design import SWEEPS, sweep_names

    print("\nsweeps: taolu sweep NAME")
    for name in sweep_names():
        print(f"{name:16} {describe(name, SWEEPS).get('why', '')}")
    print("\ntaolu run NAME --help shows an experiment's options; FILE.yaml and FILE.py:Class run your own")
    return 0


def _runs(words: list[str], options: Options) -> int:
    _none(words)
    from experiments.listing import listed, table_lines

    store = _store(options)
    if options.get("reap"):
        _reap(store, options)
    elif _urls(options):
        raise ConfigError("--notify: tells of what --reap finds; add --reap")
    choice = _choice(options)
    if choice.columns or options.get("csv"):
        return _runs_columns(store, choice, options)
    rows = listed(store, _count(options.get("limit", "20")), deleted=bool(options.get("deleted")), choice=choice)
    if options.get("json"):
        print_json(rows)
        return 0
    for line in table_lines(rows, store) if rows or choice.filter is None else ["no run fits the filter"]:
        print(line)
    return 0


def _choice(options: Options) -> Choice:
    from experiments.columns import Choice

    text = options.get("columns")
    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if not all(names):
        raise ConfigError(f"--columns {text}: write names with commas between them, as in --columns name,val/elbo")
    if options.get("csv") and options.get("json"):
        raise ConfigError("--csv and --json: give one of them")
    return Choice(options.get("filter"), options.get("sort"), names)


def _runs_columns(store: Store, choice: Choice, options: Options) -> int:
    from experiments.listing import column_lines, listed_columns

    limit = options.get("limit", None if options.get("csv") else "20")
    count = None if limit is None else _count(limit)
    table = listed_columns(store, count, deleted=bool(options.get("deleted")), choice=choice)
    if options.get("csv"):
        print(table.to_csv(index=False), end="")
    elif options.get("json"):
        print_json(table.astype(object).where(table.notna(), None).to_dict("records"))
    else:
        for line in column_lines(table):
            print(line)
    return 0


def _reap(store: Store, options: Options) -> None:
    from experiments.notify import reap_and_tell

    for dead in reap_and_tell(store, _urls(options)):
        what = "FAILED: its process is gone" if dead.reaped else "stale: no heartbeat for a minute from another host"
        print(f"taolu: {dead.run_id[:8]} {dead.name} {what}", file=sys.stderr)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--limit {text}: must be a whole number of at least 1")
    return int(text)


def _show(words: list[str], options: Options) -> int:
    from experiments.listing import shown, shown_lines

    store = _store(options)
    run = shown(store, _one(words, "RUN"))
    if options.get("json"):
        print_json(run)
        return 0
    for line in shown_lines(run):
        print(line)
    return 0


def _diff(words: list[str], options: Options) -> int:
    if len(words) != 2:
        found = "'" + " ".join(words) + "'" if words else "nothing"
        raise ConfigError(f"give two: a RUN, and a RUN or FILE.yaml; found {found}")
    from experiments.diff import diff, diff_lines

    difference = diff(_store(options), *words)
    if options.get("json"):
        print_json(difference.plain())
        return 0
    for line in diff_lines(difference):
        print(line)
    return 0


def _report(words: list[str], options: Options) -> int:
    if not words:
        raise ConfigError("name the runs, or a sweep, as in: taolu report last")
    from pathlib import Path

    from experiments.report import check_form, check_place, report, write_report

    form = check_form(options.get("format", "html"))
    out = options.get("out") or ("report.html" if form == "html" else None)
    path = check_place(Path(out).expanduser()) if out else None
    found = report(_store(options), words)
    text = found.text(form)
    if path is not None:
        write_report(text, path)
    if options.get("json"):
        print_json({**found.plain(), "file": str(path) if path else None})
    elif path is not None:
        print(f"written: {path}")
    else:
        print(text, end="")
    return 0


def _gc(words: list[str], options: Options) -> int:
    _none(words)
    from experiments.collect import collect, seconds_of

    age = seconds_of(options["older_than"]) if "older_than" in options else 0.0
    found = collect(_store(options), older_than=age, dry_run=bool(options.get("dry_run")))
    if options.get("json"):
        print_json(found.plain())
    else:
        for line in found.lines():
            print(line)
    return 1 if found.failures else 0


def _delete(words: list[str], options: Options) -> int:
    return _mark(words, options, deleted=False)


def _restore(words: list[str], options: Options) -> int:
    return _mark(words, options, deleted=True)


def _mark(words: list[str], options: Options, *, deleted: bool) -> int:
    """Deletes live runs or restores deleted ones, after every handle was found."""
    if not words:
        raise ConfigError("give at least one RUN, as in: taolu delete 3fa2")
    from experiments.store.heartbeat import refuse_live
    from experiments.store.read import find_run, read_run
    from experiments.store.write import delete_run, restore_run

    store = _store(options)
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


def _logs(words: list[str], options: Options) -> int:
    from experiments.logs import logs

    for text in logs(_store(options), _one(words, "RUN"), follow=bool(options.get("follow"))):
        print(text, end="", flush=True)
    return 0


# ---- the queue ------------------------------------------------------------------------------------------------------


def _queue(words: list[str], options: Options) -> int:
    task, rest = (words[0], words[1:]) if words else ("ls", [])
    if task not in QUEUE_TASKS:
        raise unknown("task", task, QUEUE_TASKS)
    function, allowed = QUEUE_TASKS[task]
    for name in options:
        if name not in (*STORE, "json", *allowed):
            takers = [f"queue {other}" for other, (_, own) in QUEUE_TASKS.items() if name in own]
            raise ConfigError(f"--{name}: belongs to {', '.join(takers)}, not to queue {task}")
    return function(rest, options)


def _queue_add(words: list[str], options: Options) -> int:
    if not words or words[0].startswith("-"):
        raise ConfigError("name the experiment first, as in: taolu queue add vae --model.latent_dim 16")
    from experiments.queue import add
    from experiments.run import Label

    label = Label(options.get("name"), _tags(options), options.get("note"))
    item = add(words[0], words[1:], store=_store(options), label=label)
    _say(options)(f"item {item.number} waits: {item.command}; run what waits: taolu worker --once")
    if options.get("json"):
        print_json({"number": item.number, "command": item.command})
    return 0


def _queue_listed(words: list[str], options: Options) -> int:
    _none(words)
    from experiments.queue import listed, table_lines

    store = _store(options)
    rows = listed(store, _count(options.get("limit", "20")))
    if options.get("json"):
        print_json(rows)
        return 0
    for line in table_lines(rows, store):
        print(line)
    return 0


def _queue_removed(words: list[str], options: Options) -> int:
    if not words:
        raise ConfigError("give at least one item, as in: taolu queue rm 7")
    from experiments.queue import remove

    removed = remove(_store(options), words)
    for item in removed:
        _say(options)(f"removed item {item.number}: {item.command}")
    if options.get("json"):
        print_json([item.number for item in removed])
    return 0


def _worker(words: list[str], options: Options) -> int:
    _none(words)
    workers = _whole(options, "workers", 1, 1) if "workers" in options else None
    store, say = _store(options), _say(options)
    from experiments.queue import is_empty

    if options.get("once") and "devices" not in options and is_empty(store):
        say("the queue is empty; fill it: taolu queue add vae")
        return 0
    from experiments.worker import places, work

    where = places(options.get("devices"), workers)
    say(f"works on the queue of {store.label}, {len(where)} at a time; Ctrl-C ends it, what is at work waits again")
    return work(store, where, once=bool(options.get("once")), notify=_urls(options), say=say)


def _stop(words: list[str], options: Options) -> int:
    from experiments.stop import stop

    record, line = stop(_store(options), _one(words, "RUN"))
    _say(options)(line)
    if options.get("json"):
        print_json({"run_id": record.run_id, "name": record.name, "status": record.status})
    return 0


# ---- claims ---------------------------------------------------------------------------------------------------------


def _claims(words: list[str], options: Options) -> int:
    task, rest = (words[0], words[1:]) if words else ("", [])
    if task not in CLAIM_TASKS:
        raise unknown("task", task, [name for name in CLAIM_TASKS if name], [*CLAIM_TASKS, "claims"])
    function, allowed = CLAIM_TASKS[task]
    for name in options:
        if name not in (*STORE, "json", *allowed):
            takers = [f"claims {other}".strip() for other, (_, own) in CLAIM_TASKS.items() if name in own]
            raise ConfigError(f"--{name}: belongs to {', '.join(takers)}, not to {f'claims {task}'.strip()}")
    return function(rest, options)


def _claims_listed(words: list[str], options: Options) -> int:
    from experiments.claims.listing import overview, standing

    now = standing(_store(options), options.get("import", ()))
    if options.get("json"):
        print_json({"questions": now.questions(), "claims": now.rows()})
        return 0
    for line in overview(now):
        print(line)
    return 0


def _claims_show(words: list[str], options: Options) -> int:
    from experiments.claims.listing import shown, shown_lines, standing

    store = _store(options)
    record = shown(standing(store, options.get("import", ())), store, _one(words, "claim, as in 5655-S1"))
    if options.get("json"):
        print_json(record)
        return 0
    for line in shown_lines(record):
        print(line)
    return 0


def _claims_run(words: list[str], options: Options) -> int:
    from experiments.claims.runner import run

    say = _say(options)

    def progress(done: int, total: int, claim: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{total} measured, {claim:24}", end="\r", file=sys.stderr, flush=True)

    findings = run(words, _claim_settings(options), _store(options), say, progress)
    counts = [f"{sum(each.decision.verdict == word for each in findings)} {word}" for word in ("holds", "fails")]
    counts.append(f"{sum(each.decision.verdict == 'undetermined' for each in findings)} undetermined")
    failed = sum(bool(each.outcome.error) for each in findings)
    seconds = sum(each.outcome.seconds for each in findings)
    say(f"{len(findings)} claims: {', '.join(counts)}; {failed} probes raised; {seconds:.1f} CPU-s")
    if options.get("json"):
        print_json({"claims": [finding.row() for finding in findings]})
    return 1 if failed else 0


def _claim_settings(options: Options) -> ClaimSettings:
    from experiments.claims.record import Settings

    pairs = []
    for item in options.get("set", []):
        key, equals, value = item.partition("=")
        if not (key and equals and value):
            raise ConfigError(f"--set '{item}': write KEY=VALUE, as in --set draws=4000")
        pairs.append((key, value))
    return Settings(
        seed=_whole(options, "seed", 0, 0),
        effort=options.get("effort", "quick"),
        workers=_whole(options, "workers", 1, 1),
        custom=tuple(dict(pairs).items()),
        files=tuple(options.get("import", ())),
    )


def _whole(options: Options, name: str, default: int, least: int) -> int:
    text = str(options.get(name, default))
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(f"--{name} {text}: must be a whole number of at least {least}")
    return int(text)


def _claims_report(words: list[str], options: Options) -> int:
    _none(words)
    from pathlib import Path

    from experiments.claims.listing import standing
    from experiments.claims.report import write_report

    store = _store(options)
    now = standing(store, options.get("import", ()))
    page, text = write_report(now, store, Path(options.get("output", ".")).expanduser())
    if options.get("json"):
        print_json({"html": str(page), "markdown": str(text)})
    else:
        print(f"written: {page} and {text}")
    return 0


def _claims_check(words: list[str], options: Options) -> int:
    from experiments.claims.listing import standing
    from experiments.claims.lock import changes, read_lock, update
    from experiments.claims.registry import chosen

    now = standing(_store(options))
    ids = [claim.id for claim in chosen(words, now.claims)]
    if options.get("update"):
        print(f"{update(ids, now.runs)} verdicts written to claims.lock")
        return 0
    locked = read_lock()
    found = changes([*ids, *(claim for claim in locked if not words and claim not in ids)], locked, now.runs)
    if options.get("json"):
        print_json([vars(change) for change in found])
        return 1 if found else 0
    for change in found:
        print(f"{change.claim:12} {change.locked} -> {change.found}  {change.run_id[:8]}")
    hint = "; taolu claims run measures anew" if found else ""
    print(f"{len(ids) - len(found)} of {len(ids)} claims as in claims.lock{hint}")
    return 1 if found else 0


# ---- servers and the machine ----------------------------------------------------------------------------------------


def _dashboard(words: list[str], options: Options) -> int:
    _none(words)
    store = _store(options)
    _reap(store, options)
    os.environ["MLFLOW_TRACKING_URI"] = store.url  # not an argument: a password would show in the process list
    host, port = _address(options, 8501)
    _become([sys.executable, "-P", "-m", "dashboard", "--store_dir", str(store.folder), "--host", host, "--port", port])
    return 0


def _address(options: Options, port: int) -> tuple[str, str]:
    """Host and port as given, else this machine only and the given port."""
    found = str(options.get("port", port))
    if not found.isdecimal() or not 1 <= int(found) <= 65_535:
        raise ConfigError(f"--port {found}: must be a whole number from 1 to 65535; default {port}")
    return str(options.get("host", "127.0.0.1")), found


def _ui(words: list[str], options: Options) -> int:
    _none(words)
    from experiments.store.write import open_store, rehome

    store = _store(options)
    host, port = _address(options, 5000)
    open_store(store)
    rehome(store)
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.url  # as in _dashboard
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # seven workers for jobs nobody sends
    print(f"MLflow's own pages on http://{host}:{port}", flush=True)
    _become([sys.executable, "-P", "-m", "mlflow", "ui", "--host", host, "--port", port])
    return 0


def _become(command: list[str]) -> None:
    """This process becomes the command; with -P a folder called dashboard where the user stands is not imported."""
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - an argument list, no shell


def _doctor(words: list[str], options: Options) -> int:
    _none(words)
    from experiments.doctor import examine

    findings = examine(_store(options), create=bool(options.get("create")))
    if options.get("json"):
        print_json({finding.what: finding.value for finding in findings})
    else:
        for finding in findings:
            print(f"{'ok ' if finding.good else 'BAD'}  {finding.what:20} {finding.value}")
    return 0 if all(finding.good for finding in findings) else 1


def _completion(words: list[str], options: Options) -> int:
    from experiments.completion import script

    print(script(_one(words, "shell: bash, zsh or fish")))
    return 0


STORE = ("store", "store_dir")
LABEL = ("name", "tags", "note")
# Task of the verb claims -> its function, and the options that only some tasks take.
CLAIM_TASKS: dict[str, tuple[Callable[[list[str], Options], int], tuple[str, ...]]] = {
    "": (_claims_listed, ("import",)),
    "show": (_claims_show, ("import",)),
    "run": (_claims_run, ("effort", "seed", "workers", "set", "import")),
    "report": (_claims_report, ("output", "import")),
    "check": (_claims_check, ("update",)),
}
# Task of the verb queue -> its function, and the options that only some tasks take.
QUEUE_TASKS: dict[str, tuple[Callable[[list[str], Options], int], tuple[str, ...]]] = {
    "add": (_queue_add, LABEL),
    "ls": (_queue_listed, ("limit",)),
    "rm": (_queue_removed, ()),
}
VERBS: dict[str, Verb] = {
    "demo": Verb("demo [--full]", "one short run of every family, a line each", _demo, (*STORE, "full", "json")),
    "list": Verb("list", "the experiments there are", _list, ("json", "schema")),
    "run": Verb(
        "run NAME|FILE.yaml|FILE.py:Class [--KEY VALUE ...]",
        "train; NAME --help shows its options",
        _run,
        (*STORE, *LABEL, "notify", "print_config", "dry_run", "background", "needed", "json"),
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
    "sweep": Verb(
        "sweep NAME|FILE.yaml|EXPERIMENT [--grid KEY=V,V ...] [--KEY VALUE ...]",
        "many runs of one experiment, varied as a sweep file or --grid says",
        _sweep,
        (
            *STORE,
            *LABEL,
            "grid",
            "seeds",
            "sampler",
            "pruner",
            "n_trials",
            "workers",
            "timeout",
            "trial_timeout",
            "resume",
            "show",
            "dry_run",
            "json",
        ),
        passes=True,
        example="sweep vae --grid optimizer.lr=1e-3,3e-3 --seeds 3 --workers 2",
    ),
    "resume": Verb(
        "resume RUN [--trainer.max_epochs N ...]",
        "go on from a run's last checkpoint, exactly",
        _resume,
        (*STORE, "notify", "json"),
        passes=True,
        example="resume last --trainer.max_epochs 60",
    ),
    "rerun": Verb(
        "rerun RUN [--KEY SECRET ...]",
        "run a stored config again and say whether the numbers are the same",
        _rerun,
        (*STORE, *LABEL, "notify", "json"),
        passes=True,
        example="rerun last",
    ),
    "fork": Verb(
        "fork RUN [--from last|best|STEP] [--KEY VALUE ...]",
        "a new run from a run's exact state, with what you change applied from the first step on",
        _fork,
        (*STORE, *LABEL, "from", "reset", "against", "seeds", "notify", "json"),
        passes=True,
        example="fork last --from best --optimizer.lr 1e-4 --reset schedule",
    ),
    "evaluate": Verb(
        "evaluate RUN [--checkpoint best|last] [--data NAME ...] [--metrics NAME,NAME]",
        "validate a run's model again, on its own data or others; a run of kind evaluation",
        _evaluate,
        (*STORE, *LABEL, "checkpoint", "metrics", "notify", "json"),
        passes=True,
        example="evaluate best:vae:val/elbo --data mnist --metrics val/elbo",
    ),
    "runs": Verb(
        "runs",
        "the runs in the store",
        _runs,
        (*STORE, "filter", "sort", "columns", "csv", "limit", "deleted", "reap", "notify", "json"),
        example='runs --filter "val/elbo > -30" --sort -val/elbo --columns name,val/elbo,optimizer.lr',
    ),
    "show": Verb(
        "show RUN", "one run: config, values, files", _show, (*STORE, "json"), example="show best:vae:val/elbo"
    ),
    "logs": Verb("logs RUN [-f]", "what a run printed", _logs, (*STORE, "follow"), example="logs last -f"),
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
        (*STORE, *LABEL, "limit", "json"),
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
    "diff": Verb(
        "diff RUN RUN|FILE.yaml",
        "what differs: config, code, packages, machine, data, metrics beside their noise",
        _diff,
        (*STORE, "json"),
        example="diff last best:vae:val/elbo",
    ),
    "report": Verb(
        "report RUN|SWEEP ...",
        "runs or sweeps as a page without network: means over seeds, tests, curves, pictures; or its table",
        _report,
        (*STORE, "out", "format", "json"),
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
    "claims": Verb(
        "claims [show ID | run|check [ID|ARTICLE ...] | report]",
        "the articles' statements and their verdicts; run measures them, report writes a page, check compares",
        _claims,
        (*STORE, "effort", "seed", "workers", "set", "import", "output", "update", "json"),
        example="claims run 5655 --workers 2",
    ),
    "dashboard": Verb(
        "dashboard",
        "pages over the store, in the browser",
        _dashboard,
        (*STORE, "host", "port", "notify"),
        example="dashboard --port 8600",
    ),
    "ui": Verb("ui", "MLflow's own pages over the store", _ui, (*STORE, "host", "port"), example="ui --port 5001"),
    "doctor": Verb("doctor", "versions, devices, threads, store", _doctor, (*STORE, "create", "json")),
    "completion": Verb(
        "completion bash|zsh|fish",
        "a script for the shell",
        _completion,
        example='completion bash  # eval "$(taolu completion bash)"',
    ),
}

if __name__ == "__main__":
    sys.exit(main())
