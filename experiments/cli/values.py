"""What words and options of a verb mean: a store, a label, a number, the one run they name."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from experiments.cli.options import Options
from experiments.errors import ConfigError

if TYPE_CHECKING:
    from experiments.label import Label
    from experiments.store.location import Store


def one(words: list[str], what: str) -> str:
    """The only word; ConfigError where there is none or more."""
    if len(words) != 1:
        found = "nothing" if not words else "'" + " ".join(words) + "'"
        raise ConfigError(f"give one {what}; found {found}")
    return words[0]


def none(words: list[str]) -> None:
    """Refuses any word."""
    if words:
        raise ConfigError(f"unexpected '{' '.join(words)}'")


def first(words: list[str], what: str, example: str) -> tuple[str, list[str]]:
    """The first word, which is what the verb works on, and the rest; ConfigError where an option stands there."""
    if not words or words[0].startswith("-"):
        raise ConfigError(f"name the {what} first, as in: taolu {example}")
    return words[0], words[1:]


def target_of(words: list[str], verb: str = "run") -> tuple[str, list[str]]:
    """The experiment, and the rest; the error lists the experiments there are."""
    if not words or words[0].startswith("-"):
        from experiments.config import experiment_names

        raise ConfigError(
            f"name the experiment first: taolu {verb} {'|'.join(experiment_names())}|FILE.yaml|FILE.py:Class"
        )
    return words[0], words[1:]


def store_of(options: Options) -> Store:
    """The store the options name, what dead processes left for it delivered."""
    from experiments.store.location import locate
    from experiments.store.replay import replay

    store = locate(options.get("store"), options.get("store_dir"))
    if delivered := replay(store):
        print(f"taolu: {delivered} values of a killed process delivered", file=sys.stderr)
    return store


def label_of(options: Options) -> Label:
    """What the options say about the run beside its config."""
    from experiments.label import Label

    return Label(options.get("name"), tags_of(options), options.get("note"), notify=urls_of(options))


def tags_of(options: Options) -> dict[str, str]:
    """The values of --tags by key; ConfigError for one without a key."""
    found = {}
    for item in options.get("tags", []):
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise ConfigError(f"--tags '{item}': write KEY=VALUE, as in --tags purpose=paper")
        found[key] = value
    return found


def urls_of(options: Options) -> tuple[str, ...]:
    """The values of --notify."""
    return tuple(options.get("notify", ()))


def listed(options: Options, name: str) -> list[str]:
    """The words of an option that may be repeated, or hold several with commas."""
    return [word.strip() for item in options.get(name, []) for word in item.split(",") if word.strip()]


def whole(options: Options, name: str, default: int, least: int) -> int:
    """A whole number of at least the least."""
    text = str(options.get(name, default))
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(f"--{name} {text}: must be a whole number of at least {least}")
    return int(text)


def seconds(options: Options, name: str) -> float | None:
    """A number of seconds; None without the option."""
    text = options.get(name)
    try:
        return None if text is None else float(text)
    except ValueError as error:
        raise ConfigError(f"--{name} {text}: must be a number of seconds") from error


def real(options: Options, name: str) -> float:
    """A finite number."""
    try:
        value = float(options[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"--{name} {options[name]}: must be a number")
    return value
