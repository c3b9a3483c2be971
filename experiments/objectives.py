"""What a trial is judged by: a metric, its direction, and how its values over the steps become one number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from experiments.errors import ConfigError, unknown
from experiments.parser import word

REDUCTIONS = ("last", "best", "mean_last_k")
EXAMPLE = "as in {metric: val/loss, direction: min, reduce: last}"


@dataclass(frozen=True)
class Objective:
    """One number of a run that is to be small or large.

    Args:
        metric: as recorded, val/loss or train/loss.
        direction: min or max; None = as the model states it.
        reduce: the last value, the best finite one, or the mean of the last `k`.
        k: values of that mean.
    """

    metric: str
    direction: Literal["min", "max"] | None = None
    reduce: str = "last"
    k: int = 10

    def value(self, series: Sequence[float]) -> float:
        """The number of a series, which is not empty; not finite where the series ends so, or has nothing finite.

        >>> Objective("loss", "min", "best").value([3.0, 1.0, 2.0]), Objective("loss", "min").value([3.0, 2.0])
        (1.0, 2.0)
        """
        if self.reduce == "last":
            return series[-1]
        if self.reduce == "mean_last_k":
            last = series[-self.k :]
            return sum(last) / len(last)
        finite = [value for value in series if math.isfinite(value)]
        return (max if self.direction == "max" else min)(finite, default=math.nan)

    @property
    def worst(self) -> float:
        """The value of a trial that diverged."""
        return -math.inf if self.direction == "max" else math.inf

    def plain(self) -> dict[str, Any]:
        """As a sweep file writes it."""
        more = {"k": self.k} if self.reduce == "mean_last_k" else {}
        return {"metric": self.metric, "direction": self.direction, "reduce": self.reduce, **more}

    def directed(self, stated: tuple[str, str] | None) -> Objective:
        """The objective with a direction, that of the model where it has none of its own.

        Raises ConfigError when neither says it.
        """
        if self.direction is not None:
            return self
        if stated is None or stated[0] != self.metric:
            raise ConfigError(
                f"objectives: {self.metric} has no direction; write {{metric: {self.metric}, direction: min}}"
            )
        return replace(self, direction="max" if stated[1] == "max" else "min")


def read_objectives(given: Any) -> tuple[Objective, ...]:
    """The objectives of a sweep file: one or a list, each a metric's name or a mapping.

    Raises ConfigError in one line.
    """
    items = [] if given is None else given if isinstance(given, list) else [given]
    found = tuple(_read(item) for item in items)
    if len({objective.metric for objective in found}) < len(found):
        raise ConfigError("objectives: one metric stands twice")
    return found


def _read(given: Any) -> Objective:
    if isinstance(given, str):
        return Objective(given)
    if not isinstance(given, Mapping) or not isinstance(given.get("metric"), str):
        raise ConfigError(f"objectives = {word(given)}: each names a metric, {EXAMPLE}")
    for key in given:
        if key not in ("metric", "direction", "reduce", "k"):
            raise ConfigError(f"objectives: {unknown('key', str(key), ('metric', 'direction', 'reduce', 'k'))}")
    if given.get("direction") not in (None, "min", "max"):
        raise ConfigError(f"objectives.direction = {word(given['direction'])}: must be min or max")
    if given.get("reduce", "last") not in REDUCTIONS:
        raise ConfigError(f"objectives.reduce = {word(given['reduce'])}: must be one of {', '.join(REDUCTIONS)}")
    k = given.get("k", 10)
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise ConfigError(f"objectives.k = {word(k)}: must be a whole number of at least 1")
    return Objective(given["metric"], given.get("direction"), given.get("reduce", "last"), k)
