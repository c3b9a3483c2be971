"""What recording 8 values a step costs: our Logger and Recorder, Lightning's MLFlowLogger and CSVLogger, nothing.

All variants in one process on one thread, in turn, 5 rounds; medians. Processor time of the training thread from the
51st step to the end of training, and of the whole process from there until everything is in its place. The module
computes the same values in every variant; only what happens to them differs. Writes results/logging_cost.json.

Not called logging.py: a script's folder comes first where Python looks for modules, the standard library's among them.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import tempfile
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from measure import Stopwatch, machine, median, versions
from pytorch_lightning.loggers import CSVLogger, MLFlowLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from experiments.build import quiet
from experiments.logger import Logger, Recorder

ROUNDS, STEPS, SKIPPED, VALUES = 5, 1050, 50, 8
VARIANTS = ("nothing", "taolu", "MLFlowLogger", "CSVLogger")
RESULTS = Path(__file__).parent / "results" / "logging_cost.json"
TARGETS = {"thread_ms_over_nothing": 0.5, "process_ms_over_nothing": 2.0, "values_per_second_at_least": 1000}


class Small(pl.LightningModule):
    """A linear layer and eight quantities a step.

    Args:
        way: what becomes of them: "dropped", "returned" or "logged".
        watch: started at the first step that counts, stopped at the end of training.
    """

    def __init__(self, way: str, watch: Stopwatch) -> None:
        super().__init__()
        self.way, self.watch = way, watch
        self.layer = nn.Linear(8, 8)

    def training_step(self, batch: tuple[Tensor], batch_idx: int) -> Any:
        if batch_idx == SKIPPED:
            self.watch.start()
        loss = self.layer(batch[0]).square().mean()
        terms = {f"term{number}": loss.detach() * number for number in range(1, VALUES)}
        if self.way == "returned":
            return {"loss": loss, **terms}
        if self.way == "logged":
            self.log_dict({f"train/{key}": value for key, value in {"loss": loss.detach(), **terms}.items()})
        return loss

    def on_train_end(self) -> None:
        self.watch.stop_thread()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


def measure(variant: str, steps: int = STEPS) -> dict[str, float]:
    """Milliseconds of processor time a step, and values a second of wall time until everything was in its place."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        logger, way, callbacks = _logger(variant, folder)
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=logger,
            callbacks=callbacks,
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(Small(way, watch), DataLoader(TensorDataset(torch.ones(steps, 4, 8)), batch_size=None))
        if isinstance(logger, Logger):
            logger.close()
        watch.stop()
        _check_all_there(variant, folder, VALUES * steps)
    counted = steps - SKIPPED
    return {
        "thread_ms": 1000 * watch.thread_seconds / counted,
        "process_ms": 1000 * watch.process_seconds / counted,
        "values_per_second": VALUES * counted / watch.wall_seconds,
    }


def _logger(variant: str, folder: Path) -> tuple[Any, str, list[pl.Callback]]:
    if variant == "taolu":
        return Logger("cost", store=str(folder)), "returned", [Recorder()]
    if variant == "MLFlowLogger":
        return MLFlowLogger("cost", tracking_uri=f"sqlite:///{folder}/mlflow.db"), "logged", []
    return (CSVLogger(folder), "logged", []) if variant == "CSVLogger" else (False, "dropped", [])


def _check_all_there(variant: str, folder: Path, expected: int) -> None:
    """Raises RuntimeError when a value is missing: nobody is fast by leaving out."""
    if variant == "nothing":
        return
    if variant == "CSVLogger":
        [table] = folder.rglob("metrics.csv")
        lines = table.read_text().splitlines()
        found = (len(lines) - 1) * sum(column.startswith("train/") for column in lines[0].split(","))
    else:
        with closing(sqlite3.connect(folder / "mlflow.db")) as database:
            [found] = database.execute("SELECT count(*) FROM metrics WHERE key LIKE 'train/%'").fetchone()
    if found != expected:
        raise RuntimeError(f"{variant}: {found} values recorded, {expected} expected")


def main() -> None:
    warnings.simplefilter("ignore")
    quiet()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # MLFlowLogger: experiment not found
    torch.set_num_threads(1)
    for variant in VARIANTS:  # imports and first calls
        measure(variant, SKIPPED + 10)
    rounds: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    for _ in range(ROUNDS):
        for variant in VARIANTS:
            rounds[variant].append(measure(variant))
    rows = {
        variant: {key: median([row[key] for row in found]) for key in found[0]} for variant, found in rounds.items()
    }
    for variant in VARIANTS[1:]:
        for key in ("thread_ms", "process_ms"):  # differences within a round, then their median
            gaps = [row[key] - bare[key] for row, bare in zip(rounds[variant], rounds["nothing"], strict=True)]
            rows[variant][f"{key}_over_nothing"] = median(gaps)
    result = {
        "machine": machine(),
        "versions": versions("torch", "pytorch-lightning", "mlflow"),
        "setting": {"rounds": ROUNDS, "steps": STEPS, "skipped": SKIPPED, "values_a_step": VALUES, "threads": 1},
        "targets": TARGETS,
        "rows": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
