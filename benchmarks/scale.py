"""What a second process and a server bring and cost: sweeps on PostgreSQL, counting of n-grams, training by DDP.

Run: python benchmarks/scale.py [sweep] [mining] [training]; sweep needs PostgreSQL (apt-get install postgresql), and
speed-ups an idle machine: they are left out otherwise. What is measured replaces its part of results/scale.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from measure import machine, median, versions

sys.path.append(str(Path(__file__).parents[1]))

from experiments.carried import carried
from experiments.design import Design, design_of
from experiments.store.location import Store, locate
from experiments.store.studies import find_study
from experiments.sweep import Queue
from experiments.tally import Tally
from experiments.trial import COMPLETE, Outcome
from mining.ngrams import count
from tests.postgres import Server, served

LOAD = os.getloadavg()[0]  # before what is measured adds to it; the imports add 0.05
RESULTS = Path(__file__).parent / "results" / "scale.json"
PACKAGES = ("optuna", "mlflow", "sqlalchemy", "torch", "pytorch-lightning", "numpy", "distributed")
IDLE = 0.3  # load average below which two processes can be compared with one
TRIALS, LARGE = 60, 1000
TARGETS = {"coordination_ms_at_most": 50.0, "sweep_speed_up_at_least": 1.7}
TARGETS |= {"counting_speed_up_at_least": 1.6, "vae_speed_up_at_least": 1.5}
ROUNDS, MEGABYTES, BLOCK_MB = 3, 24.0, 50.0


def sweep() -> dict[str, Any]:
    """Processor time that a sweep on a server adds to a trial; trials a second of two workers over those of one."""
    with served() as server, tempfile.TemporaryDirectory() as folder:
        store = locate(server.url, folder)
        rows = {
            "grid": coordination(store, server, "grid", TRIALS),
            "tpe": coordination(store, server, "tpe", TRIALS),
            "random_of_1000": coordination(store, server, "random", TRIALS, before=LARGE),
        }
        return {"coordination": rows, "throughput": _if_idle(lambda: throughput(store))}


def coordination(store: Store, server: Server, sampler: str, n_trials: int, before: int = 0) -> dict[str, float]:
    """Milliseconds of processor time of a trial that does nothing, of its report, and of a look at the study.

    The server's share holds that of the reports.

    Args:
        store: on the server.
        server: whose own time is told apart.
        sampler: of the sweep.
        n_trials: that are measured.
        before: trials that the study holds already.
    """
    design = _design(f"{sampler}-{before}", sampler, before + n_trials)
    queue = Queue(store, design)
    queue.describe("0" * 32, {"files": carried(design.plain())})
    _work(queue, before)
    with _server_seconds(server) as spent:
        client, report = _work(queue, n_trials)
    started = time.process_time()
    for _ in range(10):
        Tally.of(design, queue.trials).counts()
    look = (time.process_time() - started) / 10
    assert sum(trial.is_result for trial in find_study(store, design.name).trials) == before + n_trials
    queue.release()
    return {
        "client_ms": round(1000 * client / n_trials, 2),
        "server_ms": round(1000 * spent[0] / n_trials, 2),
        "a_report_ms": round(1000 * report / n_trials, 2),
        "look_ms": round(1000 * look, 2),
    }


def _design(name: str, sampler: str, n_trials: int) -> Design:
    rates = {"low": 1e-4, "high": 1.0, "log": True}
    grid = {"optimizer.lr": [i / 1000 for i in range(1, n_trials + 1)]}
    space = grid if sampler == "grid" else {"optimizer.lr": rates, "model.latent_dim": {"low": 2, "high": 64}}
    objectives = {"metric": "val/elbo", "direction": "max"}
    content = {"name": name, "experiment": "vae", "space": space, "sampler": sampler, "objectives": objectives}
    return design_of({**content, "n_trials": n_trials, "pruner": "none" if sampler == "grid" else "median"})


def _work(queue: Queue, n_trials: int) -> tuple[float, float]:
    """Processor seconds of this process, for the trials and for a report to the pruner of each."""
    started, reports = time.process_time(), 0.0
    for i in range(n_trials):
        taken = queue.take(None)
        assert taken is not None
        with queue.lease(taken):
            if queue.design.pruner.name != "none":
                before = time.process_time()
                taken.report(float(i % 7), 0)
                reports += time.process_time() - before
        queue.conclude(taken, Outcome(COMPLETE, (float(i % 7),), ("0" * 32,)))
    return time.process_time() - started - reports, reports


@contextmanager
def _server_seconds(server: Server) -> Iterator[list[float]]:
    """One number, there when this ends: processor seconds of the server and of all it started."""
    process, found = psutil.Process(server.process.pid), [0.0]
    before = _seconds(process)
    yield found
    time.sleep(1.0)
    found[0] = _seconds(process) - before


def _seconds(process: psutil.Process) -> float:
    own = process.cpu_times()
    living = [child.cpu_times() for child in process.children()]
    ended = own.children_user + own.children_system
    return float(own.user + own.system + ended + sum(each.user + each.system for each in living))


def throughput(store: Store) -> dict[str, float]:
    """Trials a second of one worker and of two, one thread each, from the first trial's start to the last one's end."""
    from experiments.conduct import Conduct
    from experiments.conduct import sweep as conduct

    seconds = {}
    for workers in (1, 2):
        grid = {"optimizer.lr": [i / 10_000 for i in range(1, 13)]}
        settings = {"trainer.max_epochs": 30, "trainer.quality.metrics": [], "threads": 1}
        content = {"name": f"speed-{workers}", "experiment": "vae", "space": grid, "sampler": "grid"}
        design = design_of({**content, "settings": settings})
        trials = conduct(design, Conduct(workers=workers), store=store, say=lambda line: None).study.trials
        ends = [trial.ended.timestamp() for trial in trials if trial.ended]
        seconds[workers] = max(ends) - min(trial.started.timestamp() for trial in trials if trial.started)
    return {
        "trials_a_second_1": round(12 / seconds[1], 3),
        "trials_a_second_2": round(12 / seconds[2], 3),
        "speed_up": round(seconds[1] / seconds[2], 2),
    }


# ---- mining ---------------------------------------------------------------------------------------------------------


def mining() -> dict[str, Any]:
    """Megabytes of text a second whose n-grams are counted, by one process, by two, and by two workers of Dask."""
    return {"counting": _if_idle(counting)}


def counting() -> dict[str, float]:
    """Medians of wall time over rounds of one, two, two of Dask; the processes are there before the watch starts."""
    from distributed import LocalCluster

    from experiments.cluster import cluster, processes

    text = _text(MEGABYTES)
    found: dict[str, list[float]] = {"1": [], "2": [], "2_of_dask": []}
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    local = LocalCluster(**settings)  # type: ignore[no-untyped-call]
    with local, processes(2) as two, cluster(local.scheduler_address) as dask:
        for _ in range(ROUNDS):
            for name, spread in (("1", map), ("2", two), ("2_of_dask", dask)):
                list(spread(abs, range(8)))
                started = time.perf_counter()
                count(text, 4, min_count=2, memory=BLOCK_MB, map=spread)
                found[name].append(time.perf_counter() - started)
    seconds = {name: median(values) for name, values in found.items()}
    return {
        **{f"megabytes_a_second_{name}": round(MEGABYTES / each, 2) for name, each in seconds.items()},
        "speed_up": round(seconds["1"] / seconds["2"], 2),
        "speed_up_of_dask": round(seconds["1"] / seconds["2_of_dask"], 2),
    }


def _text(megabytes: float) -> str:
    """Lines of 20 words, of which the k-th is drawn by 1 / k; of 30,000 words of one to four Han characters."""
    rng = np.random.default_rng(0)
    lengths = rng.choice(np.arange(1, 5), 30_000, p=(0.1, 0.6, 0.2, 0.1))
    letters = rng.choice(np.arange(0x4E00, 0x4E00 + 3000), (30_000, 4), p=_zipf(3000))
    words = ["".join(map(chr, row[:n])) for row, n in zip(letters.tolist(), lengths.tolist(), strict=True)]
    drawn = rng.choice(30_000, int(megabytes * 1e6 / 6.9), p=_zipf(30_000)).tolist()
    return "\n".join("".join(words[at] for at in drawn[i : i + 20]) for i in range(0, len(drawn), 20))


def _zipf(n: int) -> Any:
    chances = 1 / np.arange(1, n + 1)
    return chances / chances.sum()


# ---- training -------------------------------------------------------------------------------------------------------


def training() -> dict[str, Any]:
    """Images a second of a convolutional VAE at a global batch of 256, by one process of one thread and by two."""
    return {"vae": _if_idle(vae)}


def vae() -> dict[str, float]:
    """Medians over rounds of the run's own measure in its last epoch; 28 x 28 pixels, which computing bounds."""
    found: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        images = np.random.default_rng(0).integers(0, 256, (4096, 28, 28), np.uint8)
        labels = np.arange(4096) % 10
        np.savez(Path(folder) / "images.npz", x_train=images, y_train=labels, x_test=images[:256], y_test=labels[:256])
        for _ in range(ROUNDS):
            for processes in found:
                found[processes].append(_images_a_second(Path(folder), processes))
    one, two = (median(values) for values in found.values())
    return {"images_a_second_1": one, "images_a_second_2": two, "speed_up": round(two / one, 2)}


def _images_a_second(folder: Path, processes: int) -> float:
    options = ["--model.network", "cnn", "--data", "images", "--data.path", str(folder / "images.npz")]
    options += ["--data.batch_size", str(256 // processes), "--trainer.devices", str(processes), "--threads", "1"]
    options += ["--trainer.max_epochs", "2", "--trainer.quality.metrics", "[]", "--store", str(folder / "mlruns")]
    words = [sys.executable, "-m", "experiments", "run", "vae", *options, "--json"]
    ended = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    return float(json.loads(ended.stdout.splitlines()[-1])["metrics"]["time/samples_per_second"])


def _if_idle(measure: Callable[[], dict[str, float]]) -> dict[str, float] | str:
    return measure() if LOAD < IDLE else f"not measured: load average {LOAD:.2f}, at least {IDLE}"


PARTS: dict[str, Callable[[], dict[str, Any]]] = {"sweep": sweep, "mining": mining, "training": training}


def main() -> None:
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in sys.argv[1:] or PARTS:
        kept[name] = {"machine": machine(), "versions": versions(*PACKAGES), **PARTS[name]()}
        print(json.dumps({name: kept[name]}, indent=1))
    RESULTS.write_text(json.dumps({**kept, "targets": TARGETS}, indent=1) + "\n")


if __name__ == "__main__":
    main()
