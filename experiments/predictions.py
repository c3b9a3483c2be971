"""What was foretold of a config, kept in the store until a run of it shows whether it was right."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, Literal

from experiments.errors import ConfigError
from experiments.store.files import write_text
from experiments.store.location import Store, redact_value
from experiments.store.read import history

if TYPE_CHECKING:
    from experiments.config import Config
    from experiments.run import Result
    from experiments.store.write import RunWriter

FOLDER = "checks"
TAGS = {"check": "taolu.check", "forecast": "taolu.forecast"}
FEWEST = 10  # losses a run needs for its end to be compared with its beginning


def digest(config: Config) -> str:
    """Equal for configs that differ in nothing but seed and threads."""
    flat = {key: value for key, value in config.flat().items() if key not in ("seed", "threads")}
    return hashlib.sha256(json.dumps([config.name, flat], sort_keys=True, default=str).encode()).hexdigest()[:32]


def keep(store: Store, config: Config, kind: Literal["check", "forecast"], prediction: Mapping[str, Any]) -> bool:
    """Whether the prediction is kept now, in place of an older one of its kind; not in a store that takes no file."""
    file = _file(store, config)
    try:
        write_text(file, json.dumps({**kept(store, config), kind: redact_value("", prediction)}, indent=1))
    except OSError:
        return False
    return True


def kept(store: Store, config: Config) -> dict[str, Any]:
    """What is foretold of a config, by kind; a file nobody can read says nothing."""
    with suppress(OSError, ValueError):
        found = json.loads(_file(store, config).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def has_diverged(losses: Sequence[float], *, may_rise: bool = False) -> bool:
    """Whether a loss is not finite, or rose out of the noise between batches and did not come below where it began.

    A network that a large step has killed ends a little above or below the loss it began with, so the last tenth is
    compared with the first loss less two standard deviations.

    Args:
        losses: of the steps, in order.
        may_rise: a loss that rises says nothing, as in games of two networks.

    >>> has_diverged([2.0, math.nan]), has_diverged([2.0, 9.0] + [2.0, 1.9] * 5), has_diverged([2.0, 9.0] + [1.0] * 10)
    (True, True, False)
    """
    if any(not math.isfinite(loss) for loss in losses):
        return True
    if may_rise or len(losses) < FEWEST:
        return False
    tenth = max(3, len(losses) // 10)
    last = losses[-tenth:]
    noise = min(pstdev(losses[:tenth]), pstdev(last))  # whatever explodes varies much where it does so
    return max(losses) > losses[0] + 4 * noise and fmean(last) > losses[0] - 2 * noise


def settle(writer: RunWriter, config: Config, result: Result, *, may_rise: bool, resumed: bool = False) -> None:
    """Tags of a run that has ended which say whether what was foretold of its config came true.

    taolu.check {warned, diverged, right} and taolu.forecast {seconds, actual}; neither of a run that was killed, and of
    one that went on after it was stopped the check alone, of its whole curve.

    Args:
        writer: of the run.
        config: of the run.
        result: its end.
        may_rise: see has_diverged.
        resumed: the result's time is that of its last session alone.
    """
    found = kept(writer.store, config) if result.status != "KILLED" else {}
    tags: dict[str, str] = {}
    if "check" in found and (losses := _losses(writer)):
        warned, diverged = bool(found["check"].get("warned")), has_diverged(losses, may_rise=may_rise)
        tags[TAGS["check"]] = json.dumps({"warned": warned, "diverged": diverged, "right": warned == diverged})
    timed = result.status == "FINISHED" and not resumed
    if timed and found.get("forecast", {}).get("seconds") is not None:
        scored = {"seconds": found["forecast"]["seconds"], "actual": round(result.seconds, 3)}
        tags[TAGS["forecast"]] = json.dumps(scored)
    if tags:
        _deliver(writer, tags)


def _losses(writer: RunWriter) -> list[float]:
    with suppress(ConfigError):  # a database that is away: the run is over, and well
        return [float(value) for value in history(writer.store, writer.run_id, ["train/loss"])["value"]]
    return []


def _deliver(writer: RunWriter, tags: Mapping[str, str]) -> None:
    """As a run's values go: kept in a file until the database takes them."""
    from experiments.delivery import Delivery
    from experiments.store.spool import Spool, spool_folder

    path = spool_folder(writer.store) / f"{writer.run_id}.scored.{os.getpid()}.jsonl"
    delivery = Delivery(writer, Spool(path, writer.run_id))
    delivery.put("tags", dict(tags))
    delivery.close(timeout=10.0)


def _file(store: Store, config: Config) -> Path:
    return store.folder / FOLDER / f"{digest(config)}.json"
