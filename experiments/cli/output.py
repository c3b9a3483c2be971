"""What a verb prints: lines for a person, or one object of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from experiments.cli.options import Options

if TYPE_CHECKING:
    from experiments.run import Result
    from experiments.store.read import RunRecord
    from experiments.words import Words


def say_of(options: Options) -> Callable[[str], None]:
    """Prints a line at once; on standard error where standard output is JSON's."""
    stream = sys.stderr if options.get("json") else sys.stdout
    return lambda line: print(line, file=stream, flush=True)


def lang_of(options: Options) -> Words:
    """The words of --lang, else of the locale."""
    from experiments.words import words_in

    return words_in(options.get("lang"))


def print_json(value: Any) -> None:
    """One line of JSON; numbers JSON has no word for are text: "NaN", "Infinity"."""
    from experiments.store.files import finite

    print(json.dumps(finite(value), ensure_ascii=False, default=str))


def tell(options: Options, value: Any, lines: Iterable[str]) -> int:
    """Prints the value with --json, else the lines; the exit status 0."""
    if options.get("json"):
        print_json(value)
    else:
        for line in lines:
            print(line)
    return 0


def ended(result: Result, options: Options, **more: Any) -> int:
    """Prints the run and more about it with --json, on rank zero alone; the run's exit status."""
    from experiments.store.heartbeat import rank

    if options.get("json") and rank() == 0:
        error = {"error": result.error} if result.error else {}
        print_json({**plain(result, result.artifacts), **more, **error})
    return result.exit_status


def plain(run: Result | RunRecord, artifacts: Sequence[str]) -> dict[str, Any]:
    """What every verb that makes a run prints of it as JSON."""
    keys = ("run_id", "name", "experiment", "kind", "status", "seconds", "metrics")
    return {**{key: getattr(run, key) for key in keys}, "artifacts": artifacts}
