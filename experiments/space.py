"""A search space: ranges and choices by dotted key, and cells of values that belong together."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from experiments.errors import ConfigError, unknown
from experiments.parser import word

CELL = "cell"  # the parameter that says which of the cells a point takes
MOST_CHECKED = 64  # points of a grid that are all tried before the first trial; of a larger one every value is
EXAMPLE = "as in {optimizer.lr: [0.1, 0.3], data.batch_size: {low: 16, high: 256, log: true}}"

Point = dict[str, Any]  # parameter to value: a dotted key, or CELL


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones when both are.

    Args:
        log: whether ratios count rather than differences.
        step: distance of neighbours; None = any number between.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return all(isinstance(bound, int) for bound in (self.low, self.high, self.step or 1))

    def values(self) -> tuple[Any, ...] | None:
        """Every number in it; None where there is no end of them."""
        step = self.step or (1 if self.is_whole and not self.log else None)
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        return tuple(self.low + i * step if self.is_whole else round(self.low + i * step, 12) for i in range(count))

    def ends(self) -> tuple[Any, ...]:
        """What is checked before the first trial."""
        return (self.low, self.high)

    def plain(self) -> Any:
        """As a sweep file writes it."""
        more = {"log": True} if self.log else {}
        return {"low": self.low, "high": self.high, **more, **({"step": self.step} if self.step else {})}

    def lacks(self, other: Axis) -> str:
        """What of `other` is not in here, in a few words; nothing when all is."""
        if not isinstance(other, Range) or (other.log, other.step) != (self.log, self.step):
            return f"was {word_of(other)}"
        return f"was {word_of(other)}" if other.low < self.low or other.high > self.high else ""


@dataclass(frozen=True)
class Choices:
    """Values to choose from, in order."""

    options: tuple[Any, ...]

    def values(self) -> tuple[Any, ...]:
        """Every one of them."""
        return self.options

    ends = values

    def plain(self) -> Any:
        """As a sweep file writes it."""
        return list(self.options)

    def lacks(self, other: Axis) -> str:
        """What of `other` is not in here, in a few words; nothing when all is."""
        if not isinstance(other, Choices):
            return f"was {word_of(other)}"
        gone = [value for value in other.options if value not in self.options]
        return f"{word(gone)} no longer in it" if gone else ""


Axis = Range | Choices


def word_of(axis: Axis) -> str:
    """An axis as a person would write it.

    >>> word_of(Range(0.1, 1.0, log=True)), word_of(Choices((16, 64)))
    ('low 0.1, high 1.0, log true', '[16, 64]')
    """
    plain = axis.plain()
    return ", ".join(f"{key} {word(item)}" for key, item in plain.items()) if isinstance(plain, dict) else word(plain)


@dataclass(frozen=True)
class Space:
    """Axes crossed with each other and with the cells.

    Args:
        axes: by dotted key of a config.
        cells: settings that belong together, by name: `{"slow": {"optimizer.lr": 0.01, "optimizer.beta": 0.9}}`.
    """

    axes: Mapping[str, Axis]
    cells: Mapping[str, Mapping[str, Any]]

    @property
    def parameters(self) -> dict[str, Axis]:
        """The axes, and the choice of a cell where there are cells."""
        return {**self.axes, **({CELL: Choices(tuple(self.cells))} if self.cells else {})}

    @property
    def keys(self) -> set[str]:
        """Every key of a config that a point sets."""
        return {*self.axes, *(key for cell in self.cells.values() for key in cell)}

    def overrides(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """A point as dotted keys of a config."""
        found = {key: value for key, value in point.items() if key in self.axes}
        return {**found, **(self.cells[point[CELL]] if self.cells else {})}

    def grid(self) -> list[Point]:
        """Every point, the last axis turning fastest.

        Raises ConfigError for a range without an end of numbers.
        """
        for key, axis in self.axes.items():
            if axis.values() is None:
                raise ConfigError(
                    f"space.{key}: a grid needs a step or a list of values; give one, or choose a sampler such as tpe"
                )
        return list(_crossed({key: axis.values() or () for key, axis in self.parameters.items()}))

    def n_points(self) -> int | None:
        """How many points there are; None where there is no end of them."""
        counts = [axis.values() for axis in self.parameters.values()]
        return None if None in counts else math.prod(len(values or ()) for values in counts)

    def samples(self) -> list[Point]:
        """Points to check before the first trial: all of a small space.

        Of a larger one enough that each value, and each end of a range, stands in one of them, beside each choice of
        classes and each cell: what is allowed for a key depends on the classes chosen.
        """
        count = self.n_points()
        if count is not None and count <= MOST_CHECKED:
            return self.grid()
        parameters = self.parameters.items()
        classes = {key: axis.ends() for key, axis in parameters if "." not in key or key.endswith(".class")}
        others = {key: axis.ends() for key, axis in parameters if key not in classes}
        length = max((len(values) for values in others.values()), default=1)
        rows = [{key: values[i % len(values)] for key, values in others.items()} for i in range(length)]
        return [{**chosen, **row} for chosen in _crossed(classes) for row in rows]

    def plain(self) -> dict[str, Any]:
        """As a sweep file writes it."""
        cells = {"cells": {name: dict(cell) for name, cell in self.cells.items()}} if self.cells else {}
        return {"space": {key: axis.plain() for key, axis in self.axes.items()}, **cells}

    def lacks(self, old: Space) -> list[str]:
        """What of `old` is not in here; nothing where this space holds all of it over the same keys."""
        found = [f"{key} is no longer swept" for key in old.axes if key not in self.axes]
        found += [f"{key} was not swept" for key in self.axes if key not in old.axes]
        for key, axis in old.axes.items():
            if key in self.axes and (gone := self.axes[key].lacks(axis)):
                found.append(f"{key}: {gone}")
        for name, cell in old.cells.items():
            if self.cells.get(name) != cell:
                found.append(f"cell {name} {'has other settings' if name in self.cells else 'is gone'}")
        if self.cells and not old.cells:
            found.append("there were no cells")
        return found


def _crossed(values: Mapping[str, Sequence[Any]]) -> Iterator[Point]:
    for chosen in product(*values.values()):
        yield dict(zip(values, chosen, strict=True))


def identity(point: Mapping[str, Any]) -> str:
    """The point as text, equal for equal points."""
    return json.dumps(point, sort_keys=True, default=str)


# ---- reading --------------------------------------------------------------------------------------------------------


def read_space(axes: Any, cells: Any) -> Space:
    """The space of a sweep file's `space` and `cells`.

    Raises ConfigError in one line for what is empty, mixed, upside down or stands twice.
    """
    axes = {} if axes is None else axes
    if not isinstance(axes, Mapping):
        raise ConfigError(f"space = {word(axes)}: must map keys of the experiment to values, {EXAMPLE}")
    read = {str(key): read_axis(str(key), value) for key, value in axes.items()}
    named = _read_cells(cells)
    if not read and not named:
        raise ConfigError(f"space: is empty; say what to vary, {EXAMPLE}, or --grid optimizer.lr=.1,.3")
    for name, cell in named.items():
        if twice := [key for key in cell if key in read]:
            raise ConfigError(f"cells.{name}.{twice[0]}: stands in space too; leave it out of one of them")
    return Space(read, named)


def read_axis(key: str, given: Any) -> Axis:
    """One axis: a list, `{choices: [...]}` or `{low, high, log, step}`."""
    if isinstance(given, list | tuple):
        return _choices(key, given)
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"space.{key} = {word(given)}: must be a list of values or {{low, high}}; "
            "a value that does not vary stands under settings"
        )
    allowed = ("low", "high", "log", "step", "choices")
    for name in given:
        if name not in allowed:
            raise ConfigError(f"space.{key}: {unknown('key', str(name), allowed)}")
    if "choices" in given:
        if len(given) > 1 or not isinstance(given["choices"], list | tuple):
            raise ConfigError(f"space.{key}: choices is a list, and stands alone, as in {{choices: [16, 64]}}")
        return _choices(key, given["choices"])
    return _range(key, given)


def _range(key: str, given: Mapping[str, Any]) -> Range:
    for name in ("low", "high", "step"):
        value = given.get(name)
        if (value is None and name != "step") or (value is not None and not _is_number(value)):
            raise ConfigError(f"space.{key}.{name} = {word(value)}: must be a number, as in {{low: 0.01, high: 1}}")
    axis = Range(given["low"], given["high"], bool(given.get("log", False)), given.get("step"))
    if not isinstance(given.get("log", False), bool):
        raise ConfigError(f"space.{key}.log = {word(given['log'])}: must be true or false")
    if axis.low > axis.high:
        raise ConfigError(f"space.{key}: low = {axis.low} exceeds high = {axis.high}; exchange them")
    if axis.log and (axis.low <= 0 or axis.step is not None):
        raise ConfigError(f"space.{key}: log needs low above 0 and no step; found low {axis.low}, step {axis.step}")
    if axis.step is not None and not axis.step > 0:
        raise ConfigError(f"space.{key}.step = {axis.step}: must be greater than 0")
    return axis


def _choices(key: str, given: Sequence[Any]) -> Choices:
    if not given:
        raise ConfigError(f"space.{key} = []: has no values; give at least one")
    kinds = sorted({_kind(value) for value in given} - {"null"})
    if len(kinds) > 1:
        raise ConfigError(f"space.{key} = {word(given)}: mixes {' and '.join(kinds)}; one kind, and null, go together")
    for i, value in enumerate(given):
        if value in given[:i]:
            raise ConfigError(f"space.{key} = {word(given)}: {word(value)} stands twice")
    return Choices(tuple(given))


def _read_cells(given: Any) -> dict[str, dict[str, Any]]:
    if given is None:
        return {}
    if isinstance(given, list | tuple) and all(isinstance(cell, Mapping) for cell in given):
        named = {" ".join(f"{key}={word(value)}" for key, value in cell.items()): dict(cell) for cell in given}
        if len(named) < len(given):
            raise ConfigError("cells: one of them stands twice")
    elif isinstance(given, Mapping):
        named = {str(name): cell for name, cell in given.items()}
    else:
        raise ConfigError(
            "cells: must be a list, or names, of settings, as in [{optimizer.lr: 0.1, data.batch_size: 16}]"
        )
    for name, cell in named.items():
        if not isinstance(cell, Mapping) or not cell:
            raise ConfigError(f"cells.{name} = {word(cell)}: must map keys of the experiment to values")
    return {name: dict(cell) for name, cell in named.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true/false"
    kinds: tuple[tuple[Any, str], ...] = ((int | float, "numbers"), (str, "text"), (list | tuple, "lists"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "mappings")
