"""Four GANs on Fashion-MNIST at equal processor time: no constraint, clipping, gradient penalty, spectral norm.

    .venv/bin/python benchmarks/gan_quality.py --data fashion_mnist_20k.npz     (an hour on one core)

Each run is `taolu run NAME` as shipped, on one thread, with its number of steps set so that training takes SECONDS of
processor time: CALIBRATION further steps tell what one costs. The methods take turns, a seed after the other. FID, KID,
recall and coverage are of 5,000 samples against 5,000 held-out images, in the features of the classifier that the store
trains once on the same data; intervals are Student's at 95 % over the seeds, wide where seeds are few. It goes on where
it was stopped. Writes results/gan_quality.json.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import machine, versions
from scipy import stats

import taolu

METHODS = ("gan_plain", "wgan", "wgan_gp", "sngan")
METRICS = ["fid", "kid", "recall", "coverage"]
SECONDS, CALIBRATION, N_SAMPLES = 300.0, 40, 5000
RESULTS = Path(__file__).parent / "results" / "gan_quality.json"


def train(method: str, data: Path, seed: int, steps: int, store: Path, metrics: list[str]) -> tuple[Any, float]:
    """A run of so many generator steps, and the processor seconds it took, quality and pictures included."""
    settings: dict[str, Any] = {"data": "images", "data.path": str(data), "data.pixels": "symmetric", "seed": seed}
    settings |= {"threads": 1, "trainer.accelerator": "cpu", "trainer.max_epochs": None, "trainer.max_steps": steps}
    settings |= {"trainer.quality.metrics": metrics, "trainer.quality.n_samples": N_SAMPLES}
    started = time.process_time()
    run = taolu.run(method, store=str(store), say=lambda line: None, **settings)
    return run, time.process_time() - started


def seconds_a_step(method: str, data: Path, store: Path) -> float:
    """Processor seconds of a generator step: what CALIBRATION further ones cost a run."""
    train(method, data, 0, 5, store, [])  # imports and caches
    short, long = (train(method, data, 0, n, store, [])[1] for n in (CALIBRATION, 2 * CALIBRATION))
    return max(long - short, 1e-3) / CALIBRATION


def interval(values: list[float]) -> dict[str, float]:
    """Mean and 95 % interval over the seeds."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return {"mean": mean}
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def main() -> None:
    """Calibrates, trains what is not there yet, and writes the file after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="x_train, y_train, x_test, y_test")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="processor time of a run's training")
    parser.add_argument("--store", type=Path, default=Path(tempfile.gettempdir()) / "taolu-gan-quality")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(options.results.read_text()) if options.results.exists() else {}
    if found.get("seconds") != options.seconds:
        found = {"seconds": options.seconds, "machine": machine(), "runs": []}
    found["command"] = f"python benchmarks/gan_quality.py --data {options.data.name} --seeds {options.seeds}"
    found["versions"] = versions("torch", "pytorch-lightning", "numpy")
    steps = found.setdefault("steps", {})
    for method in METHODS:
        if method not in steps:
            steps[method] = round(options.seconds / seconds_a_step(method, options.data, options.store))
    for seed in range(options.seeds):
        for method in METHODS:
            if any((row["method"], row["seed"]) == (method, seed) for row in found["runs"]):
                continue
            run, seconds = train(method, options.data, seed, steps[method], options.store, METRICS)
            row = {"method": method, "seed": seed, "status": run.status, "cpu_seconds": round(seconds, 1)}
            found["runs"].append(row | {name: run.metrics.get(f"val/{name}") for name in METRICS})
            found["summary"] = {
                each: {name: interval([row[name] for row in rows]) for name in METRICS}
                for each in METHODS
                if (rows := [row for row in found["runs"] if row["method"] == each])
            }
            options.results.write_text(json.dumps(found, indent=1) + "\n")
            print(found["runs"][-1], flush=True)


if __name__ == "__main__":
    main()
