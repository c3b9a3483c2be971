"""The tag that says which process runs a run and how far it is; MLflow has none, so a killed run stays RUNNING."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

import psutil

from experiments.errors import ConfigError
from experiments.store.read import RunRecord

TAG = "taolu.heartbeat"
STALE_SECONDS = 60.0  # without a beat for so long, a run on another host is taken for dead


def owner() -> dict[str, Any]:
    """This process, told apart from every other one of any host and time."""
    process = psutil.Process()
    return {"host": socket.gethostname(), "pid": process.pid, "pid_start": process.create_time(), "rank": rank()}


def rank() -> int:
    """Of this process among those that train together, as torchrun and Lightning tell it.

    SLURM's number is set as RANK where its tasks are found to train together; those of a sweep do not.
    """
    return next((int(os.environ[name]) for name in ("RANK", "LOCAL_RANK") if name in os.environ), 0)


def heartbeat(step: int, total_steps: int | None) -> str:
    """The tag of this process, as JSON."""
    return json.dumps({"time": time.time(), **owner(), "step": step, "total_steps": total_steps})


def is_alive(beat: Mapping[str, Any]) -> bool:
    """Whether the process of a heartbeat still runs on this host. False for another host: nobody here can know."""
    if beat.get("host") != socket.gethostname():
        return False
    try:  # a process id is used again one day; its start time is not
        process = psutil.Process(int(beat["pid"]))
        is_same = abs(process.create_time() - float(beat["pid_start"])) < 1.0
        return is_same and process.status() != psutil.STATUS_ZOMBIE  # ended; a container's first process may never ask
    except (psutil.Error, KeyError, ValueError):
        return False


def is_dead(beat: Mapping[str, Any]) -> bool:
    """Whether the process of a heartbeat was on this host and is gone."""
    return beat.get("host") == socket.gethostname() and not is_alive(beat)


def is_stale(beat: Mapping[str, Any]) -> bool:
    """Whether a heartbeat of another host is too old for a live run."""
    return beat.get("host") != socket.gethostname() and time.time() - float(beat.get("time", 0.0)) > STALE_SECONDS


def is_lost(tag: str) -> bool:
    """Whether the process of a run's tag is gone, as far as it is known; False for a tag that is none."""
    try:
        beat = json.loads(tag)
        return is_dead(beat) or is_stale(beat)
    except (ValueError, TypeError, AttributeError):
        return False


def refuse_live(record: RunRecord) -> None:
    """Raises ConfigError when the run's own process is still at work, as far as can be known."""
    beat = json.loads(record.tags.get(TAG, "{}"))
    if record.status != "RUNNING" or not beat or is_dead(beat) or is_stale(beat):
        return
    if is_alive(beat):
        short = record.run_id[:8]
        raise ConfigError(f"run {short} is running (process {beat['pid']}); stop it first: taolu stop {short}")
    raise ConfigError(
        f"run {record.run_id[:8]} is running on {beat.get('host')} (process {beat.get('pid')}), which was heard of "
        f"{max(time.time() - beat['time'], 0):.0f} s ago; stop it there, or wait until it was silent for a minute"
    )
