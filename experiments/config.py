"""A run's config: from a name or file, keyword overrides and command-line options to one resolved, checked dictionary.

Order of precedence: signature < YAML < `--config` files < command line. The signatures of the chosen classes are the
schema: a default is written once, in `__init__`.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from experiments.errors import ConfigError, did_you_mean, unknown
from experiments.parser import (
    INTERNAL,
    Settings,
    as_plain,
    build_parser,
    filled_of,
    parse_settings,
    signature_of,
)
from experiments.store.configs import flatten
from experiments.store.location import redact_value
from experiments.trainer import TrainerOptions
from lightning_modules import MODULES, parts
from lightning_modules.data import DATA
from lightning_modules.optimizers import DEFAULT_OPTIMIZER, OPTIMIZERS, SCHEDULES

CONFIGS = Path(__file__).parent / "configs"
# The dictionary each part's `class` is looked up in. `trainer` has no class.
PARTS: dict[str, dict[str, str]] = {
    "model": MODULES,
    "data": DATA,
    "optimizer": OPTIMIZERS,
    "critic_optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
DEFAULT_CLASS = {
    "data": "digits",
    "optimizer": DEFAULT_OPTIMIZER,
    "critic_optimizer": DEFAULT_OPTIMIZER,
    "schedule": "constant",
}
TOP = ("name", "seed", "threads")


@dataclass(frozen=True)
class Config:
    """A resolved config.

    Args:
        name: of the experiment; runs are grouped by it.
        values: part to settings, with its `class`, then `trainer`, `seed`, `threads`: plain YAML values.
        notes: sentences for the user about what the resolution decided.
    """

    name: str
    values: Settings
    notes: tuple[str, ...] = ()

    def with_threads(self, threads: int) -> Config:
        """The same config with the number of threads in force written down."""
        return replace(self, values={**self.values, "threads": threads})

    def redacted(self) -> Config:
        """The same config as it may be stored: see redact_value."""
        return replace(self, values=redact_value("", self.values))

    def to_yaml(self) -> str:
        """The file that reproduces the run."""
        return yaml.safe_dump({"name": self.name, **self.values}, sort_keys=False, allow_unicode=True, width=100)

    def flat(self) -> Settings:
        """Dotted keys to values, as logged: `model.latent_dim: 2`; the class of a part stands under the part's name."""
        return flatten({key: value for key, value in self.values.items() if value is not None})


# ---- where a config comes from ------------------------------------------------------------------------------------


def experiment_names() -> list[str]:
    """Names of the shipped experiments."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def describe(name: str, folder: Path = CONFIGS) -> dict[str, str]:
    """The head of a shipped config, or of a sweep: its Why, Run and See."""
    text = (folder / f"{name}.yaml").read_text(encoding="utf-8")
    found = re.findall(r"^# (Why|Run|See):\s*(.+(?:\n#  .*)*)", text, flags=re.MULTILINE)
    return {key.lower(): re.sub(r"\n#\s*", "\n", value).strip() for key, value in found}


def read_target(target: str) -> tuple[str, Settings]:
    """The experiment's name and settings that `NAME`, `FILE.yaml` or `FILE.py:Class` stands for."""
    if re.search(r"\.ya?ml$", target):
        return _named(read_yaml(Path(target)), Path(target).stem)
    if ":" in target:
        place, _, name = target.rpartition(":")
        spec = f"{Path(place).expanduser().resolve()}:{name}" if place.endswith(".py") else target
        return (Path(place).stem if place.endswith(".py") else place.rpartition(".")[2]), {"model": {"class": spec}}
    if target.endswith(".py"):
        raise ConfigError(f"'{target}': say which class of it, as in {target}:MyModule")
    if target not in experiment_names():
        raise ConfigError(
            f"unknown experiment '{target}'{did_you_mean(target, experiment_names())}; "
            f"allowed: {', '.join(experiment_names())}, FILE.yaml, FILE.py:Class"
        )
    return _named(read_yaml(CONFIGS / f"{target}.yaml"), target)


def _named(settings: Settings, fallback: str) -> tuple[str, Settings]:
    return str(settings.pop("name", None) or fallback), settings


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key given twice, which PyYAML silently resolves to the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node.

        Raises ConstructorError when a key repeats or is no text.
        """
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-3 as text; people, and every other tool of theirs, read a number.
_UniqueKeys.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def load_yaml(path: Path) -> Settings:
    """The mapping in a YAML file, its keys not checked; errors name file and line."""
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except OSError as error:
        beside = [file.name for file in path.expanduser().parent.glob("*.y*ml")]
        hint = did_you_mean(path.name, beside) if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"{path}: cannot be read ({error.strerror}){hint}; give the path of a YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no text in UTF-8; give the path of a YAML file") from error
    loaded = parse_yaml(text, str(path))
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(
            f"{path}: a config maps keys to values, found a {type(loaded).__name__}; start with 'model: {{class: vae}}'"
        )
    return loaded


def parse_yaml(text: str, where: str) -> Any:
    """The value a YAML text stands for, `1e-3` a number and a key given twice refused; errors begin with `where`."""
    try:
        return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise ConfigError(f"{place}: {error.problem}; fix the YAML there") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not YAML ({' '.join(str(error).split())})") from error


def read_yaml(path: Path) -> Settings:
    """The settings in a YAML file; errors name file and line."""
    loaded = load_yaml(path)
    settings = _shaped(loaded, str(path))
    for part in settings.values():
        place, _, name = str(part.get("class", "")).rpartition(":") if isinstance(part, dict) else ("", "", "")
        file = (path.expanduser().parent / place).resolve()
        if place.endswith(".py") and file.is_file():  # a config and its module travel together
            part["class"] = f"{file}:{name}"
    return settings


def _shaped(settings: Mapping[Any, Any], where: str) -> Settings:
    """The settings with `data: images` written out as `data: {class: images}`; unknown top-level keys are refused."""
    shaped: Settings = {}
    for key, value in settings.items():
        if key not in (*PARTS, "trainer", *TOP):
            raise ConfigError(f"{where}: {unknown('key', str(key), (*PARTS, 'trainer', *TOP))}")
        if key in PARTS and isinstance(value, str):
            value = {"class": value}
        if (key in PARTS or key == "trainer") and not isinstance(value, Mapping):
            if value is None and key in ("critic_optimizer", "schedule"):
                continue
            example = f"{{class: {DEFAULT_CLASS.get(key, 'vae')}}}" if key in PARTS else "{max_epochs: 10}"
            found = "null" if value is None else value
            raise ConfigError(f"{where}: {key} = {found}: must map keys to values, as in {key}: {example}")
        if key == "name" and not isinstance(value, str | int):
            raise ConfigError(f"{where}: name = {value}: must be text; runs are grouped by it")
        shaped[key] = dict(value) if isinstance(value, Mapping) else value
    return shaped


def overlay(base: Settings, layer: Settings, notes: list[str]) -> Settings:
    """`base` with `layer` over it. Choosing another class drops the base's settings of that part; a note says so.

    So does choosing a model that builds its own optimizer: the base's optimizer and schedule then have no place.
    """
    merged = deepcopy(base)
    for key, value in layer.items():
        if not isinstance(value, Mapping):
            merged[key] = value
            continue
        below = merged.get(key, {})
        chosen, old = value.get("class"), below.get("class", DEFAULT_CLASS.get(key))
        if chosen is not None and chosen != old:
            dropped = [name for name in below if name != "class"]
            if dropped:
                notes.append(f"{key} is now {chosen}: the settings of {old} are dropped ({', '.join(dropped)})")
            below = {}
            if key == "model":
                _drop_parts(merged, layer, chosen, notes)
        merged[key] = _deep(below, value)
    return merged


def _drop_parts(settings: Settings, layer: Settings, model: Any, notes: list[str]) -> None:
    accepted = signature_of(_load("model", model)[1])
    for part in ("optimizer", "critic_optimizer", "schedule"):
        if part in settings and part not in layer and part not in accepted:
            del settings[part]
            notes.append(f"model is now {model}, which builds its own {part}: the {part}'s settings are dropped")


def _deep(below: Mapping[str, Any], above: Mapping[str, Any]) -> Settings:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _deep(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else deepcopy(value)
    return merged


def nest(flat: Mapping[str, Any]) -> Settings:
    """Dotted keys as nested mappings; a part's bare name stands for its class.

    >>> nest({"data": "images", "data.path": "x.npz", "trainer.max_epochs": 3})
    {'data': {'class': 'images', 'path': 'x.npz'}, 'trainer': {'max_epochs': 3}}
    """
    nested: Settings = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        if not path and last in PARTS and not isinstance(value, Mapping):
            path, last = [last], "class"
        level = nested
        for name in path:
            level = level.setdefault(name, {})
        level[last] = _deep(level.get(last, {}), value) if isinstance(value, Mapping) else value
    return nested


# ---- resolution ---------------------------------------------------------------------------------------------------


def resolve(target: str, options: Sequence[str] = (), overrides: Mapping[str, Any] | None = None) -> Config:
    """The checked config of `target` with overrides and command-line options over it. Nothing is written.

    Args:
        target: `NAME`, `FILE.yaml`, `FILE.py:Class` or `package.module:Class`.
        options: command-line words such as `--data images --model.latent_dim 16`; `--config FILE` included.
        overrides: dotted keys to values, from Python.

    Raises ConfigError in one line for whatever cannot be used.
    """
    notes: list[str] = []
    name, settings, words = _layered(target, options, overrides, notes)
    classes = _classes(settings)
    _check_other_classes(words, classes)
    values = parse_settings(build_parser(classes), settings, words, classes)
    _check_values(values)
    resolved: Settings = {part: {"class": spec, **values.get(part, {})} for part, (spec, _) in classes.items()}
    _inherit_optimizer(resolved, settings, words)
    resolved |= {key: values[key] for key in ("trainer", "seed", "threads")}
    return Config(name, resolved, tuple(notes))


def resolve_trainer(name: str, overrides: Mapping[str, Any]) -> Config:
    """A config for a module that exists already: only its trainer, seed and threads are options.

    Raises ConfigError in one line for whatever cannot be used.
    """
    settings = _shaped(nest(as_plain(overrides)), "options")
    for key in settings:
        if key not in ("trainer", "seed", "threads"):
            raise unknown("option", key, ("trainer", "seed", "threads"))
    values = parse_settings(build_parser({}), settings, (), {})
    _check_values(values)
    return Config(name, {key: values[key] for key in ("trainer", "seed", "threads")})


def resolve_data(
    name: str, settings: Settings, options: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> Config:
    """A config for a module that has its weights: its data, trainer, seed and threads with options over them.

    Args:
        name: of the experiment.
        settings: of these parts, as stored with a run.
        options: command-line words.
        overrides: dotted keys to values, from Python.

    Raises ConfigError in one line for whatever cannot be used.
    """
    notes: list[str] = []
    chosen, words = _split(options)
    given = _shaped(nest(as_plain(overrides or {})), "overrides")
    for key in (*chosen, *given):
        if key not in ("data", "trainer", "threads"):
            raise unknown("option", f"--{key}", ("--data", "--data.KEY", "--trainer.KEY", "--threads"))
    layered = overlay(settings, given, notes)
    layered = overlay(layered, {part: {"class": value} for part, value in chosen.items()}, notes)
    classes = {"data": _load("data", layered.get("data", {}).get("class") or DEFAULT_CLASS["data"])}
    _check_data(*classes["data"])
    _check_other_classes(words, classes)
    values = parse_settings(build_parser(classes), layered, words, classes)
    _check_values(values)
    data = {"class": classes["data"][0], **values.get("data", {})}
    return Config(name, {"data": data, **{key: values[key] for key in ("trainer", "seed", "threads")}}, tuple(notes))


def chosen_parts(target: str, options: Sequence[str]) -> tuple[Settings, dict[str, tuple[str, type[Any]]]]:
    """The settings of all files, and name and class of every part, before any option's value is read."""
    _, settings, _ = _layered(target, options, None, [])
    return settings, _classes(settings)


def _layered(
    target: str, options: Sequence[str], overrides: Mapping[str, Any] | None, notes: list[str]
) -> tuple[str, Settings, list[str]]:
    """Name, settings of all files and overrides with the chosen classes, and the option words that are left."""
    name, settings = read_target(target)
    chosen, words = _split(options)
    for file in chosen.pop("config", []):
        settings = overlay(settings, read_yaml(Path(file)), notes)
        settings.pop("name", None)
    if overrides:
        settings = overlay(settings, _shaped(nest(as_plain(overrides)), "overrides"), notes)
    return name, overlay(settings, {part: {"class": value} for part, value in chosen.items()}, notes), words


def _split(options: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Class choices (`--data images`) and `--config FILE` apart from the rest, which jsonargparse reads."""
    chosen: dict[str, Any] = {}
    rest: list[str] = []
    words = list(options)
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.removesuffix(".class")
        if not word.startswith("--") or name not in (*PARTS, "config"):
            rest.append(word)
            continue
        if not equals:
            if not words or words[0].startswith("--"):
                example = "FILE.yaml" if name == "config" else next(iter(PARTS[name]))
                raise ConfigError(f"--{name}: needs a value, as in --{name} {example}")
            value = words.pop(0)
        if name == "config":
            chosen.setdefault("config", []).append(value)
        else:
            chosen[name] = value
    return chosen, rest


def _classes(settings: Settings) -> dict[str, tuple[str, type[Any]]]:
    """Name and class of every part the chosen model has, imported."""
    if not settings.get("model", {}).get("class"):
        raise ConfigError("no model chosen; add model: {class: vae} to the file, or --model vae")
    classes = {"model": _load("model", settings["model"]["class"])}
    model = classes["model"][1]
    _check_model(*classes["model"])
    for part in ("data", "optimizer", "critic_optimizer", "schedule"):
        if part == "data" or part in signature_of(model):
            inherited = settings.get("optimizer", {}).get("class") if part == "critic_optimizer" else None
            chosen = settings.get(part, {}).get("class") or inherited or DEFAULT_CLASS[part]
            classes[part] = _load(part, chosen)
            if part == "data":
                _check_data(*classes[part])
        elif part in settings:
            raise ConfigError(
                f"{part}: {model.__name__} has no parameter '{part}' and builds its own; "
                f"remove it, or give {model.__name__}.__init__ a parameter '{part}: dict | None = None'"
            )
    return classes


def _check_other_classes(words: Sequence[str], classes: Mapping[str, tuple[str, type[Any]]]) -> None:
    """Refuses an option that the chosen class of its part lacks and another class of that part has."""
    for word in words:
        part, dot, name = word.removeprefix("--").partition("=")[0].partition(".")
        if not (word.startswith("--") and dot and part in classes) or name in signature_of(classes[part][1]):
            continue
        if name in filled_of(part) or name in INTERNAL:
            continue
        having = [other for other, spec in PARTS[part].items() if _has_setting(spec, name)]
        if having:
            raise ConfigError(
                f"unknown option '--{part}.{name}': {part} {classes[part][0]} has no such setting; "
                f"choose a class that has it: {', '.join(f'--{part} {other}' for other in having[:3])}"
            )


def _has_setting(spec: str, name: str) -> bool:
    try:
        return name in signature_of(parts.load_class(spec, {}))
    except (ImportError, ValueError):  # of a library that is not installed
        return False


def _load(part: str, spec: Any) -> tuple[str, type[Any]]:
    """The class and its name as the stored config has it: files by absolute path, to be found from anywhere."""
    if not isinstance(spec, str):
        raise ConfigError(f"{part}.class = {spec!r}: must be a name; allowed: {', '.join(PARTS[part])}, FILE.py:Class")
    place, _, name = spec.rpartition(":")
    if place.endswith(".py"):
        spec = f"{Path(place).expanduser().resolve()}:{name}"
    try:
        return spec, parts.load_class(spec, PARTS[part])
    except (Exception, SystemExit) as error:
        file, line, text = _place(error)
        if file == parts.__file__:
            raise ConfigError(f"{part}: {error}") from error
        raise ConfigError(
            f"{part}: {spec} cannot be imported: {file}:{line}: {type(error).__name__}: {text}; fix it there"
        ) from error


def _place(error: BaseException) -> tuple[str, int | None, str]:
    """File, line and message of what an import raised."""
    if isinstance(error, SyntaxError):
        return str(error.filename), error.lineno, error.msg
    frames = traceback.extract_tb(error.__traceback__)
    frame = [frame for frame in frames if not frame.filename.startswith("<")][-1]
    return frame.filename, frame.lineno, str(error)


def _check_model(spec: str, kind: type[Any]) -> None:
    import pytorch_lightning as pl

    if not issubclass(kind, pl.LightningModule):
        raise ConfigError(
            f"model.class = {spec}: must be a LightningModule; "
            f"write class {kind.__name__}(pytorch_lightning.LightningModule)"
        )


def _inherit_optimizer(resolved: Settings, settings: Settings, words: Sequence[str]) -> None:
    """A critic_optimizer without a class of its own is the optimizer, with its own keys laid over."""
    if "critic_optimizer" not in resolved or settings.get("critic_optimizer", {}).get("class"):
        return
    typed = {word.removeprefix("--critic_optimizer.").partition("=")[0] for word in words}
    own = typed | set(settings.get("critic_optimizer", {}))
    critic = {key: value for key, value in resolved["critic_optimizer"].items() if key in own}
    resolved["critic_optimizer"] = {**resolved["optimizer"], **critic}


def _check_data(spec: str, kind: type[Any]) -> None:
    if not (hasattr(kind, "train_dataloader") or hasattr(kind, "__iter__")):
        raise ConfigError(
            f"data.class = {spec}: must have train_dataloader, as a LightningDataModule has, or be iterable"
        )


def _check_values(values: Settings) -> None:
    """Refuses a trainer, seed or number of threads no run can use."""
    try:
        TrainerOptions.from_config(values["trainer"])
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not 0 <= values["seed"] < 2**32:
        raise ConfigError(f"seed = {values['seed']}: must lie in 0 to {2**32 - 1}, as NumPy's must")
    if values["threads"] is not None and values["threads"] < 1:
        raise ConfigError(f"threads = {values['threads']}: must be at least 1, or null for all cores")
