"""The schema of a config: jsonargparse's options from the signatures and docstrings of the chosen classes."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Container, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from experiments.errors import ConfigError, unknown
from experiments.store.configs import flatten
from experiments.trainer import TrainerOptions

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

# Parameters filled when a part is built, never options.
FILLED = frozenset({"seed", "shape", "n_classes", "optimizer", "critic_optimizer", "schedule"})
FACTS = ("shape", "n_classes", "vocabulary_size", "block_size")  # of the data part; filled in a model's signature
INTERNAL = frozenset({"capturable", "differentiable"})  # of torch's optimizers: for graph capture, not for users
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}

Settings = dict[str, Any]


def signature_of(kind: type[Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a class's `__init__`, without self."""
    return inspect.signature(kind).parameters


def filled_of(part: str) -> frozenset[str]:
    """The parameters of a part that are never options: a text's own `block_size` is one, a model's is told it."""
    return FILLED | frozenset(FACTS) if part == "model" else FILLED


def build_parser(classes: Mapping[str, tuple[str, type[Any]]]) -> ArgumentParser:
    """The parser over the signatures and docstrings of the chosen classes and the trainer."""
    import jsonargparse

    class Parser(jsonargparse.ArgumentParser):
        """A parser whose errors are ConfigErrors."""

        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            """Raises ConfigError with jsonargparse's message in one line."""
            raise ConfigError(_one_line(message, options_of(self))) from ex

    parser = Parser(prog="taolu run", add_help=False, allow_abbrev=False, default_env=False)
    parser.add_argument("--seed", type=int, default=0, help="of initial weights, batch order and noise")
    parser.add_argument(
        "--threads",
        type=int | None,
        default=None,
        help="processor threads; null = all cores; part of what makes a run repeatable to the bit",
    )
    for part, (_, kind) in classes.items():
        if "optimizer" in part:
            _add_optimizer(parser, part, kind)
            continue
        parser.add_class_arguments(kind, part, skip=filled_of(part) & set(signature_of(kind)), fail_untyped=False)
    parser.add_class_arguments(TrainerOptions, "trainer")
    return parser


def _add_optimizer(parser: ArgumentParser, part: str, kind: type[Any]) -> None:
    """Options of an optimizer, its parameters to train left out and torch's `float | Tensor` read as float."""
    from docstring_parser import parse

    title = next((line.strip() for line in (kind.__doc__ or "").splitlines() if line.strip()), kind.__name__)
    helps = {entry.arg_name: entry.description or "" for entry in parse(kind.__doc__ or "").params}
    hints = typing.get_type_hints(kind.__init__)
    group = parser.add_argument_group(title)
    for name, parameter in list(signature_of(kind).items())[1:]:
        if name in INTERNAL or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        text = " ".join(helps.get(name, "").split("(default")[0].split()).partition(". ")[0]
        hint = _plain(hints.get(name, type(parameter.default)))
        if parameter.default is inspect.Parameter.empty:
            group.add_argument(f"--{part}.{name}", type=hint, help=text, required=True)
        else:
            default = float(parameter.default) if hint is float else parameter.default  # torch writes momentum = 0
            group.add_argument(f"--{part}.{name}", type=hint, help=text, default=default)


def _plain(hint: Any) -> Any:
    """A type without tensors: what YAML can hold."""
    import torch

    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        kept = tuple(_plain(item) for item in arguments if item is not torch.Tensor)
        return typing.Union[kept] if len(kept) > 1 else kept[0]  # noqa: UP007 - built at run time
    if origin is tuple:
        return tuple[tuple(_plain(item) for item in arguments)]  # type: ignore[misc]
    return hint


def options_of(parser: ArgumentParser) -> dict[str, Any]:
    """Every option's dotted key and its type."""
    return {action.dest: action._typehint for action in parser._actions if hasattr(action, "_typehint")}


def parse_settings(parser: ArgumentParser, settings: Settings, words: Sequence[str], parts: Container[str]) -> Settings:
    """Every option's value: its default, the settings' over it, the option words' over both; plain YAML values.

    Args:
        parser: of the chosen classes.
        settings: nested, from files; the key `class` of a part is passed over.
        words: `--key value` or `--key=value`.
        parts: names of the parts that have a class.

    Raises ConfigError in one line for an unknown key or a value of another type.
    """
    hints = options_of(parser)
    nested = {
        key: {name: item for name, item in value.items() if name != "class"} if key in parts else value
        for key, value in settings.items()
    }
    nested = _checked(nested, hints)
    typed = _option_words(words, hints, parts)
    parser.add_argument("--config", action="config")
    try:
        parsed = parser.parse_args([f"--config={yaml.safe_dump(nested, allow_unicode=True)}", *typed]).as_dict()
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(_one_line(str(error), hints)) from error
    parsed.pop("config", None)
    for key, value in flatten(parsed).items():
        if value is None and key in hints and not _allows_none(hints[key]):
            raise ConfigError(f"{key} = null: must be {type_name(hints[key])}")
    plain: Settings = as_plain(parsed)
    return plain


def _checked(settings: Mapping[str, Any], hints: Mapping[str, Any], prefix: str = "") -> Settings:
    """The settings, every key known; a number where text is wanted, as in `max_time: 90`, is its text."""
    checked: Settings = {}
    for key, value in settings.items():
        full = f"{prefix}{key}"
        inside = [name for name in hints if name.startswith(f"{full}.")]
        if full in hints:
            checked[key] = str(value) if type(value) in (int, float) and _wants_text(hints[full]) else value
        elif isinstance(value, Mapping) and (inside or not value):
            checked[key] = _checked(value, hints, f"{full}.")
        elif inside:
            names = ", ".join(name.removeprefix(f"{full}.") for name in inside)
            raise ConfigError(f"{full} = {word(value)}: must map keys to values; its keys: {names}")
        else:
            raise unknown("key", full, _family(full, hints), hints)
    return checked


def _wants_text(hint: Any) -> bool:
    allowed = typing.get_args(hint) or (hint,)
    return str in allowed and not {int, float} & {*allowed}


def _family(key: str, hints: Iterable[str]) -> list[str]:
    """The keys a mistyped one is shown: those beside it, or every part's name."""
    names = list(hints)
    while "." in key:
        key = key.rpartition(".")[0]
        own = [name for name in names if name.startswith(f"{key}.")]
        if own:
            return [name for name in own if "." not in name.removeprefix(f"{key}.")] or own
    return [name.partition(".")[0] for name in names]


def _option_words(rest: Sequence[str], hints: Mapping[str, Any], parts: Container[str]) -> list[str]:
    """`--key=value` words for jsonargparse, names checked, a bare boolean read as true."""
    words: list[str] = []
    queue = list(rest)
    while queue:
        word = queue.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"unexpected word '{word}'; options are written --key value, as in --model.latent_dim 16")
        key, equals, value = word.removeprefix("--").partition("=")
        if key not in hints:
            raise _unknown_option(key, hints, parts)
        if not equals:
            if bool in (hints[key], *typing.get_args(hints[key])) and (not queue or queue[0].startswith("--")):
                value = "true"
            elif not queue or queue[0].startswith("--"):
                raise ConfigError(f"--{key}: needs a value: {type_name(hints[key])}")
            else:
                value = queue.pop(0)
        words.append(f"--{key}={value}")
    return words


def _unknown_option(key: str, hints: Mapping[str, Any], parts: Container[str]) -> ConfigError:
    inside = [f"--{each}" for each in hints if each.startswith(f"{key}.")]
    if inside:
        return ConfigError(f"--{key}: takes no value itself; give one of {', '.join(inside)}")
    part, _, name = key.partition(".")
    if part in parts and name and not any(each.startswith(f"{part}.") for each in hints):
        return ConfigError(f"unknown option '--{key}': the chosen {part} has no settings; leave it out")
    return unknown("option", f"--{key}", [f"--{each}" for each in _family(key, hints)], [f"--{each}" for each in hints])


def _allows_none(hint: Any) -> bool:
    return hint in (None, NoneType, Any) or NoneType in typing.get_args(hint)


def type_name(hint: Any) -> str:
    """The type as a person writes it.

    >>> type_name(int | None), type_name(typing.Literal["mlp", "cnn"]), type_name(tuple[float, float])
    ('a whole number or null', 'one of mlp, cnn', '[a number, a number]')
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (typing.Union, UnionType):
        return " or ".join(type_name(item) for item in arguments)
    if origin in (tuple, list):
        return f"[{', '.join('...' if item is Ellipsis else type_name(item) for item in arguments)}]"
    return WORDS.get(hint) or str(getattr(hint, "__name__", hint))


def _one_line(message: str, hints: Mapping[str, Any]) -> str:
    """Jsonargparse's message in our form: `key = value: must be ...`."""
    message = message.removeprefix('Parser key "config": ')
    key = re.match(r'Parser key "([^"]+)"', message)
    value = re.search(r"(?:Got value|Given value): (.*)$", message, flags=re.DOTALL)
    if key and value and key[1] in hints:
        return f"{key[1]} = {word(value[1])}: must be {type_name(hints[key[1]])}"
    missing = re.match(r"the following arguments are required: (.*)", message)
    if missing:
        first = missing[1].partition(",")[0]
        return f"{missing[1]}: required and not given; add --{first} {first.rpartition('.')[2].upper()}"
    return " ".join(message.split())


def word(value: Any) -> str:
    """A value as a person would type it.

    >>> word(None), word(True), word(""), word("two")
    ('null', 'true', "''", 'two')
    """
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(word, value))}]"
    text = " ".join(str(value).split()) or "''"
    return {"None": "null", "True": "true", "False": "false"}.get(text, text)


def as_plain(value: Any) -> Any:
    """Only what YAML and weights_only checkpoints hold: dicts, lists, text, numbers, booleans, None."""
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [as_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if getattr(value, "ndim", None) == 0:  # a number of NumPy or torch
        return value.item()
    return str(value)
