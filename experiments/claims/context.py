"""What a probe is given: draws that depend on the seed alone, a design for the effort, sweeps, trained runs."""

from __future__ import annotations

import dis
import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from experiments.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from experiments.claims.registry import Effort
    from experiments.run import Result
    from experiments.store.location import Store

T = TypeVar("T")
CUT_SHORT = ("pruned", "timed out")  # ends of a trial, as `experiments.trial` writes them


@dataclass
class Context:
    """The world of a probe.

    Args:
        seed: of every draw.
        effort: "quick" for seconds, "full" for minutes.
        custom: design values the user replaced, as text by name.
        store: where sweeps are read and runs recorded; None = the default one.

    Attributes: `asked`, names of the design the probe has asked for; `children`, ids of the runs it has trained.
    """

    seed: int = 0
    effort: Effort = "quick"
    custom: Mapping[str, str] = field(default_factory=dict)
    store: Store | None = None
    asked: set[str] = field(default_factory=set, init=False)
    children: list[str] = field(default_factory=list, init=False)

    def generator(self, stream: str) -> torch.Generator:
        """A generator of torch, a function of the seed and the stream's name."""
        from lightning_modules.data.sampling import draw

        return draw(self.seed, stream)

    def rng(self, stream: str) -> np.random.Generator:
        """A generator of NumPy, a function of the seed and the stream's name."""
        import numpy as np

        key = hashlib.blake2b(stream.encode(), digest_size=8).digest()
        return np.random.default_rng([self.seed, int.from_bytes(key, "big")])

    def design(self, name: str, quick: T, full: T) -> T:
        """A figure of the design: the effort's, or the user's own in the type of `quick`.

        `name` must be a literal: `design_names` reads it from the probe's code.
        """
        self.asked.add(name)
        if name in self.custom:
            return _read_as(quick, name, self.custom[name])
        return quick if self.effort == "quick" else full

    def runs(self, study: str) -> list[dict[str, Any]]:
        """The trials of a study that ran to their end, oldest first; none pruned or out of time; empty without study.

        Each has run_id, its parameters as text under their dotted names, and its metrics' last values under theirs.
        """
        from experiments.store.read import runs_table

        table = runs_table(self._place(), kinds=("trial",))
        if "tags.taolu.study" not in table:
            return []
        table = table[(table["tags.taolu.study"] == study) & (table["status"] == "FINISHED")].iloc[::-1]
        if "tags.taolu.trial_end" in table:
            table = table[~table["tags.taolu.trial_end"].isin(CUT_SHORT)]
        named = [str(column) for column in table.columns]
        columns = {key: key.partition(".")[2] for key in named if key.startswith(("params.", "metrics."))}
        rows = table[["run_id", *columns]].rename(columns=columns).to_dict("records")
        return [{str(key): value for key, value in row.items() if value == value and value is not None} for row in rows]

    def train(self, config: str, **overrides: Any) -> Result:
        """A tracked run of an experiment, later a child of this claim's run, on one thread and with this seed.

        Raises RuntimeError when it does not finish.
        """
        from experiments.config import resolve
        from experiments.run import Label, run

        place = self._place()
        settings = {"seed": self.seed, "threads": 1, **overrides}
        result = run(resolve(config, overrides=settings), store=place, label=Label(kind="trial"))
        self.children.append(result.run_id)
        if result.status != "FINISHED":
            raise RuntimeError(f"run {result.run_id[:8]} of {config} ended {result.status}: {result.error}")
        return result

    def _place(self) -> Store:
        from experiments.store.location import locate

        return self.store or locate()


def _read_as(model: T, name: str, text: str) -> T:
    """The text as a value of the model's type; commas part the items of a tuple."""
    kind: Callable[[str], Any] = type(model[0]) if isinstance(model, tuple) and model else type(model)
    try:
        values = [kind(item) for item in (text.split(",") if isinstance(model, tuple) else [text])]
        if not all(0 < value < math.inf for value in values):
            raise ValueError
        return tuple(values) if isinstance(model, tuple) else values[0]  # type: ignore[return-value]
    except ValueError:
        what = "a whole number above 0" if kind is int else "a number above 0"
        what += ", or several parted by commas" if isinstance(model, tuple) else ""
        raise ConfigError(f"--set {name}={text}: must be {what}; this effort's is {model}") from None


def design_names(probe: Callable[..., Any]) -> set[str]:
    """Every name the probe, or a function it calls, asks `design` for.

    Read from the compiled code, so that a mistyped --set is refused before anything has run.
    """
    names: set[str] = set()
    waiting: list[Any] = [probe]
    seen: set[int] = set()
    while waiting:
        function = unwrapped(waiting.pop())
        if not isinstance(function, FunctionType) or id(function) in seen:
            continue
        seen.add(id(function))
        waiting += [cell.cell_contents for cell in function.__closure__ or ()]
        for code in _codes(function.__code__):
            names |= set(_asked(code))
            waiting += [function.__globals__.get(name) for name in code.co_names]
    return names


def unwrapped(thing: Any) -> Any:
    """The function below partials, caches and decorators."""
    while isinstance(thing, functools.partial) or hasattr(thing, "__wrapped__"):
        thing = thing.func if isinstance(thing, functools.partial) else thing.__wrapped__
    return thing


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code and that of the functions defined within."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _asked(code: CodeType) -> Iterator[str]:
    """The first argument of each call of a method named design."""
    instructions = list(dis.get_instructions(code))
    for here, following in pairwise(instructions):
        is_design = here.opname in ("LOAD_ATTR", "LOAD_METHOD") and here.argval == "design"
        if is_design and isinstance(following.argval, str):
            yield following.argval
