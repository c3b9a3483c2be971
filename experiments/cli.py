"""The command `taolu`: dispatch without heavy imports, then the verb's own."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from experiments.errors import ConfigError, did_you_mean, unknown

if TYPE_CHECKING:
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
    "reap": ("", "mark RUNNING runs FAILED whose process on this host is gone; tell those stale elsewhere"),
    "full": ("", "the longer form, up to 5 minutes"),
    "create": ("", "create the store's database now"),
    "host": ("ADDRESS", "address to serve on; default 127.0.0.1, this machine only"),
    "port": ("PORT", "port to serve on"),
    "help": ("", "this text"),
}


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
        name = "help" if word == "-h" else name
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


def _run(words: list[str], options: Options) -> int:
    target, rest = _target(words)
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
    from experiments.run import Label, run

    label = Label(options.get("name"), tags, options.get("note"), notify=_urls(options))
    return _ended(run(config, store=_store(options), label=label, say=_say(options)), options)


def _target(words: list[str]) -> tuple[str, list[str]]:
    if not words or words[0].startswith("-"):
        from experiments.config import experiment_names

        raise ConfigError(
            f"name the experiment first: taolu run {'|'.join(experiment_names())}|FILE.yaml|FILE.py:Class"
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


def _ended(result: Result, options: Options, **more: Any) -> int:
    if options.get("json"):
        keys = ("run_id", "name", "experiment", "kind", "status", "seconds", "metrics", "artifacts")
        print_json(
            {**{key: getattr(result, key) for key in keys}, **more, **({"error": result.error} if result.error else {})}
        )
    return result.exit_status


def print_json(value: Any) -> None:
    """One line of JSON; numbers JSON has no word for are text: "NaN", "Infinity"."""
    print(json.dumps(_finite(value), ensure_ascii=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


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
    rows = listed(store, _count(options.get("limit", "20")), deleted=bool(options.get("deleted")))
    if options.get("json"):
        print_json(rows)
        return 0
    for line in table_lines(rows, store):
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
VERBS: dict[str, Verb] = {
    "demo": Verb("demo [--full]", "one short run of every family, a line each", _demo, (*STORE, "full", "json")),
    "list": Verb("list", "the experiments there are", _list, ("json", "schema")),
    "run": Verb(
        "run NAME|FILE.yaml|FILE.py:Class [--KEY VALUE ...]",
        "train; NAME --help shows its options",
        _run,
        (*STORE, *LABEL, "notify", "print_config", "json"),
        passes=True,
        example="run vae --model.latent_dim 16 --trainer.max_epochs 20 --seed 1",
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
    "runs": Verb(
        "runs",
        "the runs in the store",
        _runs,
        (*STORE, "limit", "deleted", "reap", "notify", "json"),
        example="runs --limit 50",
    ),
    "show": Verb(
        "show RUN", "one run: config, values, files", _show, (*STORE, "json"), example="show best:vae:val/elbo"
    ),
    "delete": Verb("delete RUN ...", "mark runs deleted", _delete, STORE, example="delete 3fa2b1c0"),
    "restore": Verb("restore RUN ...", "undo delete", _restore, STORE, example="restore 3fa2b1c0"),
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
