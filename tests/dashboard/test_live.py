from __future__ import annotations

import json
import time

import pandas as pd

from dashboard.live import going
from experiments.store.heartbeat import heartbeat, owner


def test_a_run_goes_on_while_its_process_may_live() -> None:
    elsewhere = {**owner(), "host": "elsewhere", "time": time.time()}
    beats = {
        "here": heartbeat(1, None),
        "gone": json.dumps({**owner(), "pid": 2**22 + 1, "pid_start": 0.0}),
        "elsewhere": json.dumps(elsewhere),
        "silent": json.dumps({**elsewhere, "time": time.time() - 3_600}),
        "torn": "{",
        "foreign": None,
        "ended": heartbeat(1, None),
    }
    runs = pd.DataFrame({"status": ["RUNNING"] * 6 + ["FINISHED"], "tags.taolu.heartbeat": list(beats.values())})
    assert [name for name, is_going in zip(beats, going(runs), strict=True) if is_going] == [
        *("here", "elsewhere", "torn", "foreign"),
    ]
    assert going(runs[["status"]]).tolist() == [True] * 6 + [False]
    assert going(runs.iloc[:0]).empty
