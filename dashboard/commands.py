"""Command lines of taolu: composed from a form, and run as argument lists in processes of their own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.errors import ConfigError
from experiments.store.location import Store, redact
from experiments.store.write import as_text

_COMMAND = [sys.executable, "-P", "-m", "experiments"]  # -P: a folder called experiments where one stands is not meant
_SIMPLE = {"a whole number": int, "a number": float}


@dataclass(frozen=True)
class Field:
    """One option of an experiment as a form shows it.

    Args:
        key: dotted, as data.batch_size.
        type: in words, as the schema has it.
        default: as one would type it; empty where there is none.
        help: a sentence or two.
    """

    key: str
    type: str
    default: str
    help: str = ""

    @property
    def part(self) -> str:
        """model, data, ...; empty for an option of the run itself."""
        return self.key.rpartition(".")[0].partition(".")[0]

    @property
    def choices(self) -> list[str]:
        """Its values where there are few of them, else nothing.

        >>> Field("x", "one of mlp, cnn or null", "mlp").choices
        ['mlp', 'cnn', 'null']
        """
        null = ["null"] if self.type.endswith(" or null") else []
        kind = self.type.removesuffix(" or null")
        if kind == "true or false":
            return ["true", "false", *null]
        return [*kind.removeprefix("one of ").split(", "), *null] if kind.startswith("one of ") else []

    def takes(self, text: str) -> bool:
        """Whether the text can be a value, as far as the type's words say it.

        >>> Field("x", "a number or null", "null").takes("1e-3"), Field("x", "a whole number", "2").takes("two")
        (True, False)
        """
        kinds = self.type.split(" or ")
        if not {*kinds} <= {*_SIMPLE, "null"}:
            return True
        return (text == "null" and "null" in kinds) or any(
            _reads(_SIMPLE[kind], text) for kind in kinds if kind != "null"
        )


def _reads(number: type[int] | type[float], text: str) -> bool:
    try:
        number(text)
    except ValueError:
        return False
    return True


def fields_of(options: Mapping[str, Mapping[str, Any]]) -> list[Field]:
    """The options of a schema's entry."""
    return [Field(key, each["type"], as_text(each["default"]), each["help"]) for key, each in options.items()]


def fields_of_config(config: Mapping[str, Any], part: str) -> list[Field]:
    """The options of one part of a resolved config, whose types are not known."""

    def walk(values: Mapping[str, Any], prefix: str) -> Iterable[Field]:
        for key, value in values.items():
            if isinstance(value, Mapping):
                yield from walk(value, f"{prefix}{key}.")
            elif key != "class":
                yield Field(f"{prefix}{key}", "text", as_text(value))

    return list(walk(config.get(part, {}), f"{part}."))


def compose(experiment: str, options: Mapping[str, str], repeated: Sequence[tuple[str, str]] = ()) -> list[str]:
    """The words after `taolu run` or `taolu queue add`.

    >>> compose("vae", {"model.latent_dim": "16"}, [("tags", "for=me")])
    ['vae', '--model.latent_dim', '16', '--tags', 'for=me']
    """
    words = [experiment]
    for key, value in [*options.items(), *repeated]:
        # a value that begins with - could be taken for an option
        words += [f"--{key}={value}"] if value.startswith("-") or not value else [f"--{key}", value]
    return words


def shown(words: Sequence[str]) -> str:
    """The command as one types it.

    >>> shown(["run", "vae", "--name", "my run"])
    "taolu run vae --name 'my run'"
    """
    return shlex.join(["taolu", *words])


def call(words: Sequence[str], store: Store | None = None, *, seconds: float = 120) -> Any:
    """What `taolu WORDS` answers as JSON on the last line of its standard output; None where it answers nothing.

    Args:
        words: never a shell's text, always an argument list.
        store: which it works on; None for verbs that need none.
        seconds: after which it is ended.

    Raises ConfigError with what it said where it refuses.
    """
    try:
        done = subprocess.run(
            [*_COMMAND, *words, *_place(store)], env=_environment(store), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{shown(words)}: no answer after {seconds:.0f} s; run it in a terminal") from error
    if done.returncode != 0:
        said = [line.removeprefix("taolu: ") for line in done.stderr.splitlines() if line.strip()]
        raise ConfigError(redact(said[-1]) if said else f"{shown(words)}: exit status {done.returncode}")
    lines = done.stdout.splitlines()
    try:
        return json.loads(lines[-1]) if lines else None
    except ValueError:
        return None


def start_worker(store: Store) -> subprocess.Popen[bytes]:
    """A process that runs what waits in the store's queue and ends when nothing does; it outlives these pages."""
    folder = store.folder / "queue"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "worker.log").open("ab") as log:
        return subprocess.Popen(
            [*_COMMAND, "worker", "--once", *_place(store)], env=_environment(store), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def _place(store: Store | None) -> list[str]:
    return [] if store is None else ["--store_dir", str(store.folder)]


def _environment(store: Store | None) -> dict[str, str]:
    """The store's URL travels by the environment: it may hold a password, and others see arguments."""
    return {**os.environ} if store is None else {**os.environ, "MLFLOW_TRACKING_URI": store.url}
