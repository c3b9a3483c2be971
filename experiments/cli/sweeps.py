"""The verb sweep: many runs of one experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.cli.options import LABEL, STORE, Options, Verb
from experiments.cli.output import ended, say_of, tell
from experiments.cli.values import one, seconds, store_of, tags_of, whole
from experiments.errors import ConfigError

if TYPE_CHECKING:
    from experiments.design import Design


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
        workers=whole(options, "workers", 1, 1),
        timeout=seconds(options, "timeout"),
        trial_timeout=seconds(options, "trial_timeout"),
        resume=bool(options.get("resume")),
    )
    label = Label(None, tags_of(options), options.get("note"), kind="sweep")
    result = sweep(design, conduct, store=store_of(options), label=label, say=say_of(options))
    return ended(result.run, options, **result.summary())


def _sweep_shown(words: list[str], options: Options) -> int:
    from experiments.listing import study_lines, study_shown

    store = store_of(options)
    study = study_shown(store, options.get("name") or one(words, "study"))
    return tell(options, study, study_lines(store, study["study"]))


def _sweep_planned(design: Design, options: Options) -> int:
    from experiments.checks import planned

    plan = planned(design, is_timed="timeout" in options)
    return tell(options, plan, [*plan["points"], plan["sentence"]])


VERBS: dict[str, Verb] = {
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
}
