"""Verbs that begin from a run there is: resume, rerun, fork, evaluate."""

from __future__ import annotations

from experiments.cli.options import LABEL, STORE, Options, Verb
from experiments.cli.output import ended, lang_of, say_of, tell
from experiments.cli.values import first, label_of, listed, one, store_of, urls_of, whole
from experiments.errors import ConfigError


def _resume(words: list[str], options: Options) -> int:
    handle, rest = first(words, "run", "resume last --trainer.max_epochs 60")
    from experiments.resume import resume

    result = resume(handle, rest, store=store_of(options), notify=urls_of(options), say=say_of(options))
    return ended(result, options)


def _rerun(words: list[str], options: Options) -> int:
    handle = one(words[:1], "RUN")
    from experiments.rerun import rerun

    place, label, say = store_of(options), label_of(options), say_of(options)
    result, comparison = rerun(handle, words[1:], store=place, label=label, say=say)
    return ended(result, options, rerun=comparison.sentence)


def _fork(words: list[str], options: Options) -> int:
    handle, rest = first(words, "run", "fork last --optimizer.lr 1e-4")
    start, reset = options.get("from", "last"), listed(options, "reset")
    if options.get("against"):
        return _fork_against(handle, rest, options, start=start, reset=reset)
    if "seeds" in options:
        raise ConfigError("--seeds: belongs to --against parent; the fork's own seed is --seed")
    from experiments.fork import fork

    label, place, say = label_of(options), store_of(options), say_of(options)
    return ended(fork(handle, rest, start=start, reset=reset, store=place, label=label, say=say), options)


def _fork_against(handle: str, rest: list[str], options: Options, *, start: str, reset: list[str]) -> int:
    if options["against"] != "parent":
        raise ConfigError(f"--against {options['against']}: must be parent")
    seeds = whole(options, "seeds", 8, 2)
    from experiments.pairs import against_parent

    label, place, say = label_of(options), store_of(options), say_of(options)
    effect = against_parent(handle, rest, seeds=seeds, start=start, reset=reset, store=place, label=label, say=say)
    tell(options, effect.plain(), effect.lines(lang_of(options)))
    return effect.exit_status


def _evaluate(words: list[str], options: Options) -> int:
    handle, rest = first(words, "run", "evaluate last --data mnist")
    from experiments.evaluate import evaluate

    result = evaluate(
        handle,
        rest,
        checkpoint=options.get("checkpoint", "best"),
        metrics=listed(options, "metrics"),
        store=store_of(options),
        label=label_of(options),
        say=say_of(options),
    )
    return ended(result, options)


VERBS: dict[str, Verb] = {
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
        (*STORE, *LABEL, "from", "reset", "against", "seeds", "notify", "lang", "json"),
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
}
