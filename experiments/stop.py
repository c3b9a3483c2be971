"""`taolu stop`: a run of this host told to end at its next batch, everything kept."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from experiments.errors import ConfigError
from experiments.queue import end_item_of
from experiments.store.heartbeat import TAG, is_alive, is_dead, is_stale
from experiments.store.location import Store
from experiments.store.read import RunRecord, find_run, read_run

POLL_SECONDS = 0.1


def stop(store: Store, handle: str) -> tuple[RunRecord, str]:
    """The run as it ended, and that in one line; returns when its process has ended it, and does nothing if it has.

    A run of the queue ends its item, too; its worker goes on with the next.

    Raises ConfigError when there is no such run, or it is not this host's to stop.
    """
    record = read_run(store, find_run(store, handle))
    who = f"run {record.run_id[:8]} {record.name}"
    if record.status != "RUNNING":
        return record, f"{who} has ended already: {record.status}"
    beat = json.loads(record.tags.get(TAG, "{}"))
    if not beat:
        raise ConfigError(f"{who} has no heartbeat: taolu did not start it and cannot stop it")
    if is_dead(beat):
        return record, f"{who} runs no more: its process is gone; taolu runs --reap marks it FAILED"
    if not is_alive(beat):
        silent = f"; silent for {time.time() - beat['time']:.0f} s" if is_stale(beat) else ""
        raise ConfigError(
            f"{who} is running on {beat.get('host')} (process {beat.get('pid')}{silent}); stop it there: "
            f"taolu stop {record.run_id[:8]}"
        )
    end_item_of(store, record.run_id)
    return _ended(store, record, beat, who)


def _ended(store: Store, record: RunRecord, beat: Mapping[str, Any], who: str) -> tuple[RunRecord, str]:
    try:
        os.kill(int(beat["pid"]), signal.SIGTERM)
    except ProcessLookupError:  # it ended just now
        pass
    except PermissionError as error:
        raise ConfigError(f"{who} is another user's (process {beat['pid']}); ask them to stop it") from error
    while is_alive(beat) and record.status == "RUNNING":
        time.sleep(POLL_SECONDS)
        record = read_run(store, record.run_id)
    record = read_run(store, record.run_id)
    last = record.folder / "checkpoints" / "last.ckpt"
    after = f"; go on: taolu resume {record.run_id[:8]}" if record.status == "KILLED" and last.exists() else ""
    return record, f"{who} {record.status}{after}"
