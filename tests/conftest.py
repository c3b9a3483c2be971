"""Small real stores: MLflow's schema is made once a session (1.6 CPU-s) and its file is copied."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from experiments.store.location import Store, locate

if TYPE_CHECKING:
    from mlflow import MlflowClient

for variable in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ[variable] = "true"
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ["COLUMNS"] = "120"  # what `taolu runs` prints is as wide as the terminal
# Read when torch and NumPy are imported: two workers on two cores whose threads wait for each other take ten times the
# CPU time on networks as small as these.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.pop("LC_ALL", None)
os.environ["LC_MESSAGES"] = "C"  # and English, whatever the machine speaks

START = 1_790_000_000_000  # milliseconds; every run of the tests starts here or a little later


@pytest.fixture(autouse=True)
def same_main() -> Iterator[None]:
    """Streamlit's AppTest leaves its script as `__main__`, which worker processes would then run."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A run with more threads leaves them to this process."""
    yield
    if (torch := sys.modules.get("torch")) is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def template_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with MLflow's schema, in WAL mode, without any run; one for all processes of a session."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # shared by the workers
    path = folder / "template" / "mlflow.db"
    path.parent.mkdir(exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            _create_schema(path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
    return path


@pytest.fixture
def store(template_database: Path, tmp_path: Path) -> Store:
    """A store of its own, without any run."""
    folder = tmp_path / "mlruns"
    folder.mkdir()
    shutil.copy(template_database, folder / "mlflow.db")
    return locate(str(folder))


@dataclass
class Writer:
    """Runs written as MLflow writes them, with times of our choosing."""

    store: Store
    client: MlflowClient

    def run(
        self,
        name: str,
        *,
        experiment: str = "vae",
        status: str = "FINISHED",
        start: int = 0,
        params: dict[str, str] | None = None,
        metrics: dict[str, list[float]] | None = None,
        tags: dict[str, str] | None = None,
    ) -> str:
        """The id of a run that started `start` seconds after START and logged the values at steps 0, 1, 2, ...

        It lasted 90 seconds, one for each step.
        """
        from mlflow.entities import Metric, Param, RunTag

        found = self.client.get_experiment_by_name(experiment)
        uri = str(self.store.artifacts)
        experiment_id = (
            found.experiment_id if found else self.client.create_experiment(experiment, artifact_location=uri)
        )
        begin = START + start * 1000
        run_id: str = self.client.create_run(experiment_id, start_time=begin, run_name=name).info.run_id
        self.client.log_batch(
            run_id,
            [
                Metric(key, value, begin + step * 1000, step)
                for key, values in (metrics or {}).items()
                for step, value in enumerate(values)
            ],
            [Param(key, value) for key, value in (params or {}).items()],
            [RunTag(key, value) for key, value in (tags or {}).items()],
        )
        if status != "RUNNING":
            self.client.set_terminated(run_id, status, end_time=begin + 90_000)
        return run_id

    def file(self, run_id: str, name: str, content: str | bytes) -> Path:
        """The path of a file written into the run's folder."""
        path = self.store.run_folder(run_id) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path


@pytest.fixture
def writer(store: Store) -> Writer:
    """Writes runs into `store`."""
    from mlflow import MlflowClient

    return Writer(store, MlflowClient(store.url))


@pytest.fixture
def filled_store(writer: Writer) -> Store:
    """The store that `fill` fills."""
    return fill(writer)


def fill(writer: Writer) -> Store:
    """Three runs: `steady` with curves, images, config and console, `broken` with a traceback, and `going` on."""
    curve = [4 * math.exp(-step / 15) + 1 for step in range(60)]
    steady = writer.run(
        "steady",
        params={"model.latent_dim": "8", "optimizer.lr": "0.001", "data.class": "digits"},
        metrics={
            "train/loss": [value + 0.1 * math.sin(3 * step) for step, value in enumerate(curve)],
            "val/loss": [value + 0.2 for value in curve],
            "train/kl": [8 * (1 - value / 5) for value in curve],
            "val/kl": [8 * (1 - value / 5) + 0.3 for value in curve],
            "val/elbo": [-value for value in curve],
            "time/samples_per_second": [900.0, 950.0, 940.0],
        },
        tags={"taolu.kind": "run", "taolu.seed": "1", "taolu.objective": "val/elbo max"},
    )
    writer.file(steady, "command.txt", "taolu run vae --model.latent_dim 8\n")
    writer.file(steady, "config.yaml", "experiment: vae\nmodel:\n  latent_dim: 8\n")
    writer.file(steady, "console.log", "epoch 0\repoch 0 done\n\x1b[32mfinished\x1b[0m\n")
    for step in (0, 50):
        writer.file(steady, f"media/samples/{step:08d}.png", png(step))
    broken = writer.run(
        "broken",
        status="FAILED",
        start=100,
        params={"model.latent_dim": "16", "optimizer.lr": "10", "data.class": "digits"},
        metrics={"train/loss": [5.0, 50.0, math.inf, math.nan]},
    )
    writer.file(broken, "traceback.txt", "Traceback (most recent call last):\nRuntimeError: loss is *not* finite\n")
    writer.run(
        "going", status="RUNNING", start=200, params={"model.latent_dim": "32"}, metrics={"train/loss": [5.0, 4.0]}
    )
    return writer.store


def png(seed: int) -> bytes:
    """A 24x24 image of gray noise."""
    import io

    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _create_schema(path: Path) -> None:
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{path}").search_experiments()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")  # as the store's own writer sets it
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
