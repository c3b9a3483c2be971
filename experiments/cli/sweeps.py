"""The verb sweep: many runs of one experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.cli.options import LABEL, STORE, Options, Verb
from experiments.cli.output import ended, lang_of, say_of, tell
from experiments.cli.values import one, seconds, store_of, tags_of, whole
from experiments.errors import ConfigError

if TYPE_CHECKING:
    from experiments.design import Design


def _sweep(words: list[str], options: Options) -> int:
    if not words or words[0].startswith("-"):
        from experiments.design import sweep_names

        raise ConfigError(f"name the sweep first: taolu sweep {'|'.join(sweep_names())}|FILE.yaml|EXPERIMENT")
    if words[0] == "worker":
        return _sweep_joined(words[1:], options)
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
        **_hands(options, least=0),
        timeout=seconds(options, "timeout"),
        trial_timeout=seconds(options, "trial_timeout"),
        resume=bool(options.get("resume")),
        words=lang_of(options),
    )
    label = Label(None, tags_of(options), options.get("note"), kind="sweep")
    result = sweep(design, conduct, store=store_of(options), label=label, say=say_of(options))
    return ended(result.run, options, **result.summary())


def _sweep_joined(words: list[str], options: Options) -> int:
    for name in options:
        if name not in JOINED:
            raise ConfigError(
                f"--{name}: belongs to the sweep that began the study; a worker takes {', '.join(JOINED)}"
            )
    study = one(words, "study")
    from experiments.conduct import Conduct, join

    conduct = Conduct(
        **_hands(options, least=1),
        timeout=seconds(options, "timeout"),
        trial_timeout=seconds(options, "trial_timeout"),
        words=lang_of(options),
    )
    result = join(study, conduct, store=store_of(options), say=say_of(options))
    return ended(result.run, options, **result.summary())


def _hands(options: Options, least: int) -> dict[str, Any]:
    """Workers and their GPUs: one each of --devices, else --workers."""
    if "devices" not in options:
        return {"workers": whole(options, "workers", 1, least)}
    from experiments.worker import places

    where = places(options["devices"], whole(options, "workers", 1, 1) if "workers" in options else None)
    return {"workers": len(where), "devices": tuple(place.device or "" for place in where)}


def _sweep_shown(words: list[str], options: Options) -> int:
    from experiments.listing import study_lines, study_shown

    store = store_of(options)
    study = study_shown(store, options.get("name") or one(words, "study"))
    return tell(options, study, study_lines(store, study["study"], lang_of(options)))


def _sweep_planned(design: Design, options: Options) -> int:
    from experiments.checks import planned

    plan = planned(design, is_timed="timeout" in options)
    return tell(options, plan.plain(), [*plan.points, plan.sentence(lang_of(options))])


JOINED = (*STORE, "workers", "devices", "timeout", "trial_timeout", "lang", "json")  # options of a worker
VERBS: dict[str, Verb] = {
    "sweep": Verb(
        "sweep NAME|FILE.yaml|EXPERIMENT [--grid KEY=V,V ...] [--KEY VALUE ...] | sweep worker STUDY",
        "many runs of one experiment, varied as a sweep file or --grid says; worker joins a study, from any machine",
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
            "devices",
            "timeout",
            "trial_timeout",
            "resume",
            "show",
            "dry_run",
            "lang",
            "json",
        ),
        passes=True,
        example="sweep vae --grid optimizer.lr=1e-3,3e-3 --seeds 3 --workers 2",
    ),
}
