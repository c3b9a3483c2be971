"""The dashboard beside MLflow's own pages and Streamlit's emptiest one, over 10,000 runs; processor seconds.

Run: python benchmarks/dashboard_pages.py [FOLDER [data] [mined] [pages]]; its two stores are
made in FOLDER once (1 GB, 1 min).
A page costs what browser and server take from the address to the first content, with a server that served one before.

Not called dashboard.py: a script's folder comes first where Python looks for modules, and so hid the package.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from measure import machine, median, versions

from experiments.store.cache import CurvesCache, RunsCache
from experiments.store.columns import Choice
from experiments.store.curves import minmax
from experiments.store.location import Store, locate
from experiments.store.read import runs_table
from experiments.store.write import open_store

RESULTS = Path(__file__).parent / "results" / "dashboard.json"
RUNS, METRICS, STEPS = 10_000, 20, 10
CURVES, POINTS, SPIKE = 100, 10_000, 50.0
RULES, ITEMS, WORDS, CHARACTERS = 500_000, 2_000, 50_000, 10_000
REPEATS, PAGES = 5, 3
START = 1_790_000_000_000
TARGETS = {
    "table_over_search_runs_at_least": 40,
    "filter_ms_at_most": 25,
    "sort_ms_at_most": 25,
    "rerun_ms_at_most": 80,
    "curves_cold_seconds_at_most": 1.1,
    "curves_cached_ms_at_most": 30,
    "rules_filtered_ms_at_most": 200,
    "words_filtered_ms_at_most": 100,
    "text_cut_ms_at_most": 300,
    "page_over_hello_at_most": 1.5,
    "page_over_mlflow_at_most": 0.4,
}
CHROMIUM = os.environ.get("PLAYWRIGHT_CHROMIUM") or shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


def fill(folder: Path, n_runs: int, keys: list[str], n_steps: int) -> Store:
    """A store of runs with 12 parameters and 6 tags each, written as MLflow's tables hold them."""
    store = locate(str(folder))
    if folder.exists():
        return store
    client = open_store(store)
    experiment = int(client.create_experiment("vae", artifact_location=str(store.artifacts)))
    rng = np.random.default_rng(0)
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        for i in range(n_runs):
            _write_run(connection, rng, i, experiment, keys, n_steps)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return store


def _write_run(
    connection: sqlite3.Connection, rng: np.random.Generator, i: int, experiment: int, keys: list[str], n_steps: int
) -> None:
    run_id, start = uuid.UUID(bytes=rng.bytes(16)).hex, START + i * 1000
    status = "FAILED" if i % 50 == 7 else "FINISHED"
    connection.execute(
        "INSERT INTO runs (run_uuid, name, source_type, user_id, status, start_time, end_time, lifecycle_stage,"
        " artifact_uri, experiment_id) VALUES (?, ?, 'UNKNOWN', 'u', ?, ?, ?, 'active', '', ?)",
        (run_id, f"vae-{i:05d}", status, start, start + 60_000, experiment),
    )
    drawn = {"optimizer.lr": rng.random(), "data.batch_size": rng.integers(8, 512), "seed": i % 7}
    params = {**drawn, **{f"model.p{k}": k for k in range(9)}}
    tags = {"taolu.kind": "run", "taolu.seed": i % 7, "taolu.threads": 1, "taolu.config": "vae"}
    tags |= {"taolu.objective": f"{keys[0]} max", "mlflow.runName": f"vae-{i:05d}"}
    for table, pairs in (("params", params), ("tags", tags)):
        rows = [(key, str(value), run_id) for key, value in pairs.items()]
        connection.executemany(f"INSERT INTO {table} (key, value, run_uuid) VALUES (?, ?, ?)", rows)
    values = 0.05 * rng.standard_normal((n_steps, len(keys))) + np.exp(-3 * np.arange(n_steps) / n_steps)[:, None]
    if n_steps == POINTS:
        values[rng.integers(1, n_steps - 1)] = SPIKE
    points = [
        (key, float(values[step, k]), start + step, run_id, step)
        for step in range(n_steps)
        for k, key in enumerate(keys)
    ]
    connection.executemany(
        "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)", points
    )
    connection.executemany(
        "INSERT INTO latest_metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)",
        points[-len(keys) :],
    )


def seconds(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """The median processor seconds of the call."""
    found = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        found.append(time.process_time() - begin)
    return median(found)


def data_layer(runs: Store, curves: Store) -> dict[str, Any]:
    """Reading, filtering, sorting; MLflow's own reading of the same."""
    import mlflow

    mlflow.set_tracking_uri(runs.url)
    cache = RunsCache(runs)
    table = cache.table()
    expression = "val/m00 > 0.05 and optimizer.lr < 0.5 and status == 'FINISHED'"
    ids = tuple(RunsCache(curves).table()["run_id"])
    kept = CurvesCache(curves)

    def draw(found: CurvesCache) -> int:
        drawn = [minmax(curve.step, curve.value) for curve in found.curves(ids, ("train/loss",)).values()]
        return sum(float(values.max()) == SPIKE for _, values in drawn)

    def refresh() -> None:
        cache._stamp = None  # as if the file had changed
        cache.table()

    rows = {
        "table_seconds": seconds(lambda: runs_table(runs)),
        "search_runs_seconds": seconds(lambda: mlflow.search_runs(search_all_experiments=True, max_results=50_000), 3),
        "refresh_ms": 1000 * seconds(refresh),
        "filter_ms": 1000 * seconds(lambda: Choice(filter=expression).rows(table)),
        "sort_ms": 1000 * seconds(lambda: Choice(sort="-val/m01").rows(table)),
        "curves_cold_seconds": seconds(lambda: draw(CurvesCache(curves)), 3),
        "spikes": draw(kept),
        "curves_cached_ms": 1000 * seconds(lambda: draw(kept)),
        "rerun_ms": 1000 * rerun(runs),
    }
    return {**rows, "table_over_search_runs": round(rows["search_runs_seconds"] / rows["table_seconds"], 1)}


def mined() -> dict[str, float]:
    """What the pages Rules and Lexicon do at each move of a slider, and to a pasted text."""
    import pyarrow as pa

    from dashboard import lexicon
    from experiments.store.rules import SIDES, Wanted, chosen
    from mining.lexicon import mine_lexicon
    from mining.segment import Segmenter
    from mining.sources import open_texts

    rng = np.random.default_rng(0)
    names = np.array([f"item {at}" for at in range(ITEMS)])
    offsets = pa.array(np.arange(0, 2 * RULES + 1, 2), pa.int32())
    sides = {side: pa.ListArray.from_arrays(offsets, pa.array(rng.choice(names, 2 * RULES))) for side in SIDES}
    measures = {name: rng.random(RULES) for name in ("support", "confidence", "lift", "holm")}
    rules = pa.table({**sides, **measures})
    items = tuple(names[:2].tolist())
    sought = Wanted(least={"confidence": 0.01, "lift": 0.01}, most={"holm": 0.99}, sort="-lift")  # nearly all stay
    ones = {name: rng.random(WORDS) * 10 for name in lexicon.NUMBERS} | {"is_known": rng.random(WORDS) < 0.5}
    words = pa.table({"word": [f"word{at}" for at in range(WORDS)], **ones})
    wanted = lexicon.Wanted(count=2, pmi=1.0, entropy=1.0, score=1.0, known="new", text="7", sort="count")
    text = "".join(open_texts(["pydoc"]))
    segmenter = Segmenter(mine_lexicon([text]).scores)
    pasted = text[:CHARACTERS]
    return {
        "rules_filtered_ms": 1000 * seconds(lambda: chosen(rules, sought)),
        "rules_by_item_ms": 1000 * seconds(lambda: chosen(rules, Wanted(items[:1], sort="-lift"))),
        "words_filtered_ms": 1000 * seconds(lambda: lexicon.select(words, wanted)),
        "text_cut_ms": 1000 * seconds(lambda: (segmenter.cut(pasted), segmenter.gaps(pasted[:3_000]))),
    }


def rerun(store: Store) -> float:
    """The page Runs run again after its filter changed, without a browser."""
    from streamlit.testing.v1 import AppTest

    def script(url: str, folder: str) -> None:
        from pathlib import Path

        from dashboard.views import runs
        from dashboard.words import speaker
        from experiments.store.location import Store

        runs.page(Store(url, Path(folder)), speaker("en"), {})

    app = AppTest.from_function(script, default_timeout=120, args=(store.url, str(store.folder))).run()
    found = []
    for i in range(REPEATS + 1):
        app.query_params["filter"] = f"val/m00 > 0.0{i}"
        begin = time.process_time()
        app.run()
        found.append(time.process_time() - begin)
    assert not app.exception
    return median(found[1:])


@contextmanager
def server(command: list[str], health: str, port: int) -> Iterator[psutil.Process]:
    """A server, once it answers."""
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{health}", timeout=2).close()
                break
            except OSError:
                time.sleep(0.1)
        yield psutil.Process(started.pid)
    finally:
        for child in psutil.Process(started.pid).children(recursive=True):
            child.terminate()
        started.terminate()
        started.wait(timeout=30)


def spent(process: psutil.Process) -> float:
    """Processor seconds of a process and all below it."""
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        try:
            times = each.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def page(url: str, ready: str, of: psutil.Process) -> dict[str, float]:
    """Processor seconds of browser and server until `ready` is on the page; medians, each with a new browser."""
    from playwright.sync_api import sync_playwright

    rows = []
    for _ in range(PAGES + 1):
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            own = next(each for each in psutil.Process().children(recursive=True) if "chrom" in each.name())
            begin = spent(own), spent(of)
            opened = browser.new_page(viewport={"width": 1440, "height": 900})
            opened.goto(url)
            opened.wait_for_selector(ready, state="attached", timeout=120_000)
            rows.append((spent(own) - begin[0], spent(of) - begin[1]))
            browser.close()
    browsers, servers = zip(*rows[1:], strict=True)  # the first warms the server
    return {"browser": median(browsers), "server": median(servers)}


def pages(runs: Store) -> dict[str, dict[str, float]]:
    """What the first content costs: of our Runs, of Streamlit's hello, of MLflow's runs."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    ours = [sys.executable, "-m", "dashboard", "--store", str(runs.folder), "--port", str(port)]
    hello = [sys.executable, "-m", "streamlit", "hello", "--server.headless=true", "--browser.gatherUsageStats=false"]
    hello += ["--server.address=127.0.0.1", f"--server.port={port}"]
    mlflow = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", runs.url, "--port", str(port)]
    home = f"http://127.0.0.1:{port}"
    found = {}
    with server(ours, "/_stcore/health", port) as process:
        found["taolu"] = page(f"{home}/runs", 'canvas td:has-text("vae-09999")', process)
    with server(hello, "/_stcore/health", port) as process:
        found["hello"] = page(home, 'h1:has-text("Welcome to Streamlit")', process)
    with server(mlflow, "/health", port) as process:
        found["mlflow"] = page(f"{home}/#/experiments/1/runs", 'text="vae-09999"', process)
    return found


def cost(runs: Store) -> dict[str, Any]:
    """The pages' costs and their ratios."""
    found = pages(runs)
    total = {name: row["browser"] + row["server"] for name, row in found.items()}
    ratios = {f"page_over_{name}": round(total["taolu"] / total[name], 3) for name in ("hello", "mlflow")}
    return {"page_seconds": found, **ratios}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    parts = sys.argv[2:] or ["data", "mined", "pages"]
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    found |= {
        "machine": machine(),
        "versions": versions("streamlit", "mlflow", "pandas", "sqlalchemy"),
        "setting": {
            **{"runs": RUNS, "metrics": METRICS, "steps": STEPS, "curves": CURVES, "points": POINTS},
            **{"rules": RULES, "words": WORDS, "characters": CHARACTERS},
        },
        "targets": TARGETS,
    }
    if "mined" in parts:
        found |= mined()
    if {"data", "pages"} & {*parts}:
        runs = fill(folder / "runs", RUNS, [f"val/m{k:02d}" for k in range(METRICS)], STEPS)
    if "data" in parts:
        found |= data_layer(runs, fill(folder / "curves", CURVES, ["train/loss"], POINTS))
    if "pages" in parts and CHROMIUM:
        found |= cost(runs)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
