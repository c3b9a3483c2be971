"""The command `taolu`: dispatch and help without heavy imports; each verb imports what it needs when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from experiments.cli import (
    claims,
    continuations,
    convert,
    generate,
    launch,
    lexicon,
    mining,
    move,
    queue,
    runs,
    services,
    sweeps,
    upkeep,
)
from experiments.cli.options import OPTIONS, Verb, take
from experiments.cli.output import lang_of
from experiments.errors import ConfigError, did_you_mean

TOPICS = (
    launch,
    sweeps,
    continuations,
    runs,
    queue,
    upkeep,
    move,
    claims,
    mining,
    lexicon,
    convert,
    generate,
    services,
)
VERBS: dict[str, Verb] = {name: verb for topic in TOPICS for name, verb in topic.VERBS.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of one command: 0 finished, 1 failed, 2 refused input, 75 pre-empted, 130 and 143 killed."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except ConfigError as error:
        rank = os.environ.get("RANK", "0")
        which = "" if rank == "0" else f"rank {rank}: "
        print(f"taolu: {which}{' '.join(str(error).split())}", file=sys.stderr)
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
        return launch.train(own.words, own.options, own.started)
    if name not in VERBS:
        hint = did_you_mean(name, [*VERBS, "--help", "--version"])
        raise ConfigError(f"unknown verb '{name}'{hint}; allowed: {', '.join(VERBS)}")
    verb = VERBS[name]
    found, rest = take(words[1:], verb)
    if found.get("help") and not (name == "run" and rest):
        print(_verb_help(name, verb))
        return 0
    if "lang" in found:  # a mistake in it is told before any work
        lang_of(found)
    return verb.run(rest, found)


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
