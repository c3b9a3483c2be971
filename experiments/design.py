"""A sweep's design: what is varied around which experiment, how points are chosen, and what they are judged by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.config import CONFIGS, Config, experiment_names, load_yaml, parse_yaml, resolve
from experiments.errors import ConfigError, did_you_mean, unknown
from experiments.objectives import Objective, read_objectives
from experiments.parser import word
from experiments.space import CELL, Point, Space, read_space
from experiments.store.configs import flatten

SWEEPS = CONFIGS / "sweeps"
KEYS = (
    "name",
    "experiment",
    "settings",
    "space",
    "cells",
    "sampler",
    "pruner",
    "objectives",
    "n_trials",
    "repeats",
    "keep_best",
    "verdict",
)
DEFAULT_TRIALS = 30  # of a sampler, where neither a number nor a time is given


@dataclass(frozen=True)
class Choice:
    """A sampler or pruner by name, with settings."""

    name: str
    settings: Mapping[str, Any]

    def plain(self) -> Any:
        """As a sweep file writes it."""
        return {"class": self.name, **self.settings} if self.settings else self.name


@dataclass(frozen=True)
class Design:
    """A sweep, checked for its form.

    Args:
        name: of the study, and of the MLflow experiment its runs are in.
        experiment: NAME, FILE.yaml or FILE.py:Class, as for `taolu run`.
        settings: what all trials share, by dotted key.
        space: what differs.
        sampler: grid, random, tpe or another of Optuna's.
        pruner: none, median, hyperband or another of Optuna's.
        objectives: empty = what the model states.
        n_trials: in all, over every session; None = the whole grid, or 30.
        repeats: seeds of every point. Of a grid each is a trial; elsewhere a trial is the mean over them.
        keep_best: trials whose checkpoints stay; None = all.
        verdict: the claim that is judged when the study ends.
    """

    name: str
    experiment: str
    settings: Mapping[str, Any]
    space: Space
    sampler: Choice = Choice("tpe", {})
    pruner: Choice = Choice("none", {})
    objectives: tuple[Objective, ...] = ()
    n_trials: int | None = None
    repeats: int = 1
    keep_best: int | None = 1
    verdict: str | None = None

    @property
    def is_grid(self) -> bool:
        """Whether every point is tried, each once a seed."""
        return self.sampler.name == "grid"

    @property
    def seeds(self) -> list[int]:
        """Of the repeats."""
        first = int(self.settings.get("seed", 0))
        return list(range(first, first + self.repeats))

    def plan(self) -> list[Point]:
        """Every point of a grid, once a seed, all of a seed before the next: a grid cut short has whole seeds."""
        points = self.space.grid()
        if "seed" in self.space.keys:
            return points
        return [{**point, "seed": seed} for seed in self.seeds for point in points]

    def n_planned(self) -> int | None:
        """Trials in all; None where only time ends the study."""
        if not self.is_grid:
            return self.n_trials
        count = (self.space.n_points() or 0) * self.repeats
        return count if self.n_trials is None else min(self.n_trials, count)

    def config(self, point: Mapping[str, Any]) -> Config:
        """The resolved config of a point, on one thread unless the settings say otherwise.

        Raises ConfigError for a key or value that the experiment refuses.
        """
        seed = {"seed": point["seed"]} if "seed" in point and "seed" not in self.space.keys else {}
        overrides = {"threads": 1, **self.settings, **self.space.overrides(point), **seed}
        config = resolve(self.experiment, overrides=overrides)
        trainer = config.values["trainer"]
        if trainer["devices"] not in (1, "1") or trainer["num_nodes"] != 1:
            raise ConfigError(
                f"trainer.devices = {trainer['devices']}: a trial runs in one process; leave it 1, and use --workers"
            )
        return replace(config, name=self.name)

    def plain(self) -> dict[str, Any]:
        """As a sweep file writes it; reading it back gives the same design."""
        optional = {"n_trials": self.n_trials, "verdict": self.verdict}
        return {
            "name": self.name,
            "experiment": self.experiment,
            "settings": dict(self.settings),
            **self.space.plain(),
            "sampler": self.sampler.plain(),
            "pruner": self.pruner.plain(),
            "objectives": [objective.plain() for objective in self.objectives],
            **{key: value for key, value in optional.items() if value is not None},
            "repeats": self.repeats,
            "keep_best": "all" if self.keep_best is None else self.keep_best,
        }

    def departs(self, old: Design) -> list[str]:
        """What keeps this design from going on with the study of `old`; nothing where it holds all of it."""
        found = [] if self.experiment == old.experiment else [f"experiment was {old.experiment}"]
        for key in sorted({*self.settings, *old.settings}):
            before, now = old.settings.get(key), self.settings.get(key)
            if before != now:
                found.append(f"{key} was {word(before)}, is {word(now)}")
        found += self.space.lacks(old.space)
        if self.objectives != old.objectives:
            found.append(f"objectives were {', '.join(each.metric for each in old.objectives)}, or reduced otherwise")
        if self.is_grid != old.is_grid:
            found.append(f"sampler was {old.sampler.name}")
        if self.repeats < old.repeats or (self.repeats != old.repeats and not self.is_grid):
            found.append(f"repeats were {old.repeats}")
        return found


# ---- reading --------------------------------------------------------------------------------------------------------


def sweep_names() -> list[str]:
    """Names of the shipped sweeps."""
    return sorted(path.stem for path in SWEEPS.glob("*.yaml"))


def read_design(target: str, options: Sequence[str] = (), given: Mapping[str, Any] | None = None) -> Design:
    """The design of a sweep, command-line options over its file.

    Args:
        target: a shipped sweep, a sweep file, or an experiment, whose space `grid` then is.
        options: words such as `--model.latent_dim 16`: what all trials share.
        given: name, grid (a list of KEY=V,V), sampler, pruner, n_trials, repeats.

    Raises ConfigError in one line for whatever cannot be used.
    """
    given = {key: value for key, value in (given or {}).items() if value is not None}
    grid = dict(map(_grid_word, given.pop("grid", ())))
    content = _content(target, is_grid=bool(grid))
    for key in content:
        if key not in KEYS:
            raise ConfigError(f"{target}: {unknown('key', str(key), KEYS)}")
    name = given.get("name") or content.get("name") or _stem(target, content)
    if grid:
        content = {"sampler": "grid", **content, "space": {**(content.get("space") or {}), **grid}}
    settings = {**_settings(content.get("settings")), **_option_settings(options)}
    return design_of({**content, **given, "name": name, "settings": settings})


def design_of(content: Mapping[str, Any]) -> Design:
    """The design a sweep file's content stands for; see read_design."""
    space = read_space(content.get("space"), content.get("cells"))
    settings = _settings(content.get("settings"))
    if fixed := sorted(space.keys & {*settings}):
        raise ConfigError(f"{fixed[0]}: is swept, and set for all trials too; leave it out of one of them")
    design = Design(
        name=_name(content["name"]),
        experiment=str(content["experiment"]),
        settings=settings,
        space=space,
        sampler=_choice("sampler", content.get("sampler", "tpe")),
        pruner=_choice("pruner", content.get("pruner") or "none"),
        objectives=read_objectives(content.get("objectives")),
        n_trials=_count("n_trials", content.get("n_trials")),
        repeats=_count("repeats", content.get("repeats")) or 1,
        keep_best=_keep_best(content.get("keep_best", 1)),
        verdict=content.get("verdict"),
    )
    _check(design)
    return design


def _check(design: Design) -> None:
    if design.repeats > 1 and "seed" in design.space.keys:
        raise ConfigError("repeats: seed is in the space already; leave one of them out")
    if CELL in design.space.axes:
        raise ConfigError(f"space.{CELL}: is no key of an experiment; what belongs together stands under cells")
    if design.is_grid:
        design.space.grid()
    if len(design.objectives) > 1 and design.pruner.name != "none":
        raise ConfigError(f"pruner = {design.pruner.name}: needs a single objective; found {len(design.objectives)}")


def _content(target: str, *, is_grid: bool) -> dict[str, Any]:
    if target in sweep_names():
        return load_yaml(SWEEPS / f"{target}.yaml")
    if re.search(r"\.ya?ml$", target):
        content = load_yaml(Path(target))
        if "experiment" in content:
            content["experiment"] = _beside(Path(target), str(content["experiment"]))
            return content
        if not is_grid and ("space" in content or "cells" in content):
            raise ConfigError(f"{target}: names no experiment; add a line such as experiment: vae")
    elif ":" not in target and target not in experiment_names():
        names = [*sweep_names(), *experiment_names()]
        raise ConfigError(
            f"unknown sweep '{target}'{did_you_mean(target, names)}; allowed: {', '.join(names)}, FILE.yaml"
        )
    if not is_grid:
        raise ConfigError(f"{target}: is an experiment, no sweep; say what to vary, as in --grid optimizer.lr=.1,.3")
    return {"experiment": target}


def _beside(file: Path, experiment: str) -> str:
    """An experiment's file, found beside the sweep's."""
    place, colon, name = experiment.rpartition(":") if ".py:" in experiment else (experiment, "", "")
    near = (file.expanduser().parent / place).resolve()
    return f"{near}{colon}{name}" if place.endswith((".py", ".yaml", ".yml")) and near.is_file() else experiment


def _stem(target: str, content: Mapping[str, Any]) -> str:
    stem = Path(target.partition(":")[0]).stem
    return f"{stem}-sweep" if content.get("experiment") == target else stem


def _name(name: Any) -> str:
    if not re.fullmatch(r"[\w.-]+", str(name)):
        raise ConfigError(f"name = {name}: letters, digits, '.', '_' and '-' make the name of a study")
    return str(name)


def _grid_word(text: str) -> tuple[str, list[Any]]:
    key, equals, values = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--grid {text}: write KEY=VALUE,VALUE, as in --grid optimizer.lr=.1,.3")
    return key, list(parse_yaml(f"[{values}]", f"--grid {key}"))


def _settings(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"settings = {word(given)}: must map keys of the experiment to values")
    return flatten(given)


def _option_settings(words: Sequence[str]) -> dict[str, Any]:
    """`--key value`, `--key=value` and bare `--key`, which means true."""
    settings: dict[str, Any] = {}
    queue = list(words)
    while queue:
        option = queue.pop(0)
        if not option.startswith("--"):
            raise ConfigError(f"unexpected '{option}'; options are written --KEY VALUE, as in --optimizer.lr 0.1")
        key, equals, value = option.removeprefix("--").partition("=")
        if key == "config":
            raise ConfigError("--config: a sweep takes its settings from its own file; write them under settings there")
        if not equals:
            value = queue.pop(0) if queue and not queue[0].startswith("--") else "true"
        settings[key.removesuffix(".class")] = parse_yaml(value, f"--{key}")
    return settings


def _choice(what: str, given: Any) -> Choice:
    if isinstance(given, str):
        return Choice(given.lower(), {})
    if isinstance(given, Mapping) and isinstance(given.get("class"), str):
        return Choice(given["class"].lower(), {key: value for key, value in given.items() if key != "class"})
    raise ConfigError(f"{what} = {word(given)}: must be a name, or {{class: NAME, SETTING: VALUE}}")


def _count(what: str, given: Any) -> int | None:
    if given is None:
        return None
    number = int(given) if isinstance(given, str) and given.isdecimal() else given
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ConfigError(f"{what} = {word(given)}: must be a whole number of at least 1")
    return number


def _keep_best(given: Any) -> int | None:
    if given in ("all", None):
        return None
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise ConfigError(f"keep_best = {word(given)}: must be a number of trials from 0, or all")
    return given
