"""What a user may write: the options of an experiment as a page of help and as data."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.config import PARTS, chosen_parts, describe, experiment_names, resolve
from experiments.parser import Settings, build_parser, type_name, word
from experiments.store.configs import flatten
from experiments.trainer import TrainerOptions

INDENT = 34


@dataclass(frozen=True)
class Option:
    """One option of an experiment.

    Args:
        key: dotted, as data.batch_size.
        type: of its values, in words.
        default: the value without the option.
        required: whether there is none.
        help: one sentence or two.
    """

    key: str
    type: str
    default: Any
    required: bool
    help: str


def help_text(target: str, options: Sequence[str]) -> str:
    """The options of one experiment with the chosen classes, from their docstrings."""
    settings, classes = chosen_parts(target, [name for name in options if name not in ("-h", "--help")])
    known = experiment_names()
    head = [describe(target).get("why", ""), ""] if target in known else []
    lines = [*head, f"usage: taolu run {target} [--KEY VALUE ...]"]
    found = options_of(settings, classes)
    for part, (spec, kind) in classes.items():
        names = [*PARTS[part], "FILE.py:Class"]
        lines += ["", *_wrapped(f"{part} {spec}", _first_line(kind)), *_wrapped(f"  --{part}", " | ".join(names))]
        lines += [line for option in found if option.key.startswith(f"{part}.") for line in _option_lines(option)]
    lines += ["", *_wrapped("trainer", _first_line(TrainerOptions))]
    lines += [line for option in found if option.key.startswith("trainer.") for line in _option_lines(option)]
    lines += ["", "run"]
    lines += [line for option in found if "." not in option.key for line in _option_lines(option)]
    lines += _wrapped("  --config FILE", "YAML laid over the experiment's own; may be repeated")
    return "\n".join([*lines, "", "name, tags, store and output: taolu run --help"])


def options_of(settings: Settings, classes: Any) -> list[Option]:
    """Every option of the chosen classes, its default that of the settings, else of the signature."""
    given = flatten(settings)
    return [
        Option(
            key=action.dest,
            type=type_name(action._typehint),
            default=given.get(action.dest, action.default),
            required=action.required and action.dest not in given,
            help=" ".join((action.help or "").split()),
        )
        for action in build_parser(classes)._actions
        if hasattr(action, "_typehint")
    ]


def schema() -> dict[str, Any]:
    """Every shipped experiment's options: type, default and help by key. What completion and the launch form read."""
    found: dict[str, Any] = {}
    for name in experiment_names():
        _, classes = chosen_parts(name, ())
        options = options_of(resolve(name).values, classes)
        found[name] = {
            **describe(name),
            "parts": {part: list(PARTS[part]) for part in classes},
            "classes": {part: spec for part, (spec, _) in classes.items()},
            "options": {each.key: {"type": each.type, "default": each.default, "help": each.help} for each in options},
        }
    return found


def _first_line(kind: type[Any]) -> str:
    """What a class says of itself; nothing where it only repeats what it inherits."""
    lines = (vars(kind).get("__doc__") or "").strip().splitlines()
    return str(lines[0]) if lines else ""


def _option_lines(option: Option) -> Iterator[str]:
    default = "(required)" if option.required else word(option.default)
    text = option.help.rstrip(".") or option.key.rpartition(".")[2].replace("_", " ")
    return _wrapped(f"  --{option.key} {default}", f"{text} ({option.type})")


def _wrapped(head: str, text: str) -> Iterator[str]:
    """The head, and the text beside it from a column on."""
    width = min(shutil.get_terminal_size((120, 24)).columns, 120)
    if len(head) >= INDENT - 1 and text:
        yield head
        head = ""
    pad = " " * INDENT
    yield from textwrap.wrap(text, width, initial_indent=f"{head:{INDENT}}", subsequent_indent=pad) or [head]
