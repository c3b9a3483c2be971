"""One and two processes of the same global batch: the same weights, the same values, one run; resumed half-way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import system
from experiments.config import resolve
from experiments.resume import resume
from experiments.run import run
from experiments.store.location import Store, locate
from experiments.store.read import history, read_run, runs_table
from tests.distributed.pair import pair
from tests.gpt2.small import inputs

KEPT = "tests/distributed/kept.py"
pytestmark = pytest.mark.xdist_group("signals")  # the worker whose forkserver has imported everything
STEPS, STOP = 20, 12  # two epochs; the second one is left in its middle
SHARED: dict[str, Any] = {
    "trainer.max_epochs": None, "trainer.max_steps": STEPS, "trainer.limit_train_batches": 10, "threads": 1,
    "trainer.accelerator": "cpu", "trainer.precision": "64-true", "trainer.quality.metrics": [],
}  # fmt: skip
GAN = {
    "model": f"{KEPT}:ToldGAN", "model.network": "mlp", "model.latent_dim": 8, "model.width": 32,
    "model.ema_decay": 0.9, "data.pixels": "symmetric",
}  # fmt: skip
CLASSIFIER = {
    "model": f"{KEPT}:ToldClassifier", "model.constraint": "sn", "model.robustness": True, "data": "gaussians",
    "data.n_points": 1004, "trainer.early_stopping.patience": 9,
}  # fmt: skip
GPT2 = {
    "model": f"{KEPT}:ToldGPT2", "model.n_layers": 1, "model.width": 32, "model.n_heads": 4, "data.block_size": 32,
    "data.packing": "best_fit", "trainer.accumulate_grad_batches": 2, "trainer.limit_train_batches": 20,
    "schedule.steps": STEPS,
}  # fmt: skip
VAE = {"model": f"{KEPT}:ToldVAE", "trainer.quality.metrics": ["sliced_wasserstein", "nll"]}
FAMILIES: dict[str, tuple[str, int, dict[str, Any]]] = {  # config, rows of a global batch, options
    "vae": ("vae", 64, VAE),
    "classifier": ("lipschitz_classifier", 50, CLASSIFIER),  # 201 rows validate: the processes have 100 and 101
    "sngan": ("sngan", 32, {**GAN, "model.loss": "hinge", "model.constraint": "sn"}),
    "wgan_gp": ("wgan_gp", 32, {**GAN, "model.loss": "wasserstein", "model.constraint": "gp", "model.n_critic": 2}),
    "gpt2": ("gpt2_zh", 4, GPT2),
    "foreign": (f"{KEPT}:Foreign", 16, {"data": f"{KEPT}:Rows"}),
}


def options(name: str, folder: Path, processes: int) -> tuple[str, dict[str, Any]]:
    """Experiment and options of a family on so many processes, the global batch being the same."""
    config, rows, own = FAMILIES[name]
    found = {**SHARED, **own, "data.batch_size": rows // processes, "trainer.devices": processes}
    if name == "gpt2":
        found |= {"data.path": str(folder / "pairs.jsonl"), "data.cache_dir": str(folder / "tokens")}
    return config, found


def write_ragged_text(folder: Path) -> None:
    """Prompts with completions of very different lengths, so that batches have as different numbers of targets."""
    rows = [{"prompt": "今天天气"[: 1 + i % 4], "completion": "不错双十一节。" * (1 + i * i % 5)} for i in range(150)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")


def train(place: str, folder: Path, processes: int, stops: tuple[int, ...], names: Iterable[str] = FAMILIES) -> None:
    """The families one after another, each resumed after every stop; the id of each run goes to a file."""
    system.INTERVAL_SECONDS = 0.2
    store = locate(place)
    for name in names:
        config, found = options(name, folder, processes)
        first, *later = (*stops, STEPS)
        result = run(resolve(config, overrides={**found, "trainer.max_steps": first}), store=store)
        for limit in later:
            assert (result.status, result.error) == ("FINISHED", ""), (name, result.error)
            result = resume(result.run_id, overrides={"trainer.max_steps": limit}, store=store)
        assert (result.status, result.error) == ("FINISHED", ""), (name, result.error)
        (folder / f"{name}.{processes}").write_text(result.run_id)


@pytest.fixture(scope="module")
def trained(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    """Every family on one process, and on two that stopped in between."""
    folder = tmp_path_factory.mktemp("families")
    (folder / "mlruns").mkdir()
    (folder / "mlruns" / "mlflow.db").write_bytes(template_database.read_bytes())
    write_ragged_text(folder)
    place = str(folder / "mlruns")
    train(place, folder, 1, ())
    pair(train, folder / "ranks", place, folder, 2, (STOP,))
    return locate(place), folder


def is_clocks(key: str) -> bool:
    return key.startswith(("time/", "system/"))


@pytest.mark.parametrize("name", FAMILIES)
def test_two_processes_come_to_the_weights_of_one_and_resume_to_them(trained: tuple[Store, Path], name: str) -> None:
    store, folder = trained
    alone, together = (read_run(store, (folder / f"{name}.{processes}").read_text()) for processes in (1, 2))
    wanted = torch.load(alone.folder / "state.ranknone.pt")
    for rank in range(2):  # spectral vectors and averaged weights among them
        found = torch.load(together.folder / f"state.rank{rank}.pt")
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-9)  # a resume that rounds would show


@pytest.mark.parametrize("name", FAMILIES)
def test_two_processes_record_the_values_of_one_each_once(trained: tuple[Store, Path], name: str) -> None:
    store, folder = trained
    alone, together = (read_run(store, (folder / f"{name}.{processes}").read_text()) for processes in (1, 2))
    assert {*filter(lambda key: not is_clocks(key), alone.metrics)} == {
        *filter(lambda key: not is_clocks(key), together.metrics)
    }
    assert {"system/rank0/cpu_percent", "system/rank1/cpu_percent"} <= together.metrics.keys()
    for key in filter(lambda key: not is_clocks(key), alone.metrics):
        wanted, found = (history(store, record.run_id, [key]) for record in (alone, together))
        values = dict(zip(found["step"], found["value"], strict=True))
        for step, value in zip(wanted["step"], wanted["value"], strict=True):
            assert values[step] == pytest.approx(value, rel=1e-6, abs=1e-6), (key, step)
        extra = {*values} - {*wanted["step"]}
        assert extra <= {STOP - 1}  # where the first session ended, it validated
        written = Counter(found["step"])
        assert {step for step, times in written.items() if times > 1} <= {STOP - 1}, key


def test_all_processes_together_make_one_run(trained: tuple[Store, Path]) -> None:
    store, _ = trained
    table = runs_table(store)
    assert Counter(table["status"]) == {"FINISHED": 2 * len(FAMILIES)}


def test_a_run_of_two_processes_goes_on_on_one_and_says_so(trained: tuple[Store, Path]) -> None:
    store, folder = trained
    run_id = (folder / "classifier.2").read_text()
    result = resume(run_id, overrides={"trainer.devices": 1, "trainer.max_steps": STEPS + 2}, store=store)
    assert (result.status, result.error) == ("FINISHED", "")
    tags = read_run(store, run_id).tags
    assert json.loads(tags["resume.2"])["changed"]["trainer.devices"] == [2, 1]
    assert tags["taolu.processes"] == "1"
    assert list(history(store, run_id, ["train/loss"])["step"])[-2:] == [STEPS, STEPS + 1]


def train_all(place: str, given: dict[str, dict[str, Any]]) -> None:
    """Three steps and a validation of each experiment."""
    for name, settings in given.items():
        result = run(resolve(name, overrides=settings), store=locate(place))
        assert (result.status, result.error) == ("FINISHED", ""), (name, result.error)


@pytest.mark.slow
def test_every_shipped_experiment_runs_on_two_processes(store: Store, tmp_path: Path) -> None:
    short = {
        "trainer.devices": 2, "trainer.accelerator": "cpu", "trainer.max_epochs": None, "trainer.max_steps": 3,
        "trainer.limit_train_batches": 48, "trainer.val_check_interval": 1.0, "threads": 1,
    }  # fmt: skip
    names = sorted(file.stem for file in Path("experiments/configs").glob("*.yaml"))
    given = {name: {**short, **inputs(name, tmp_path)} for name in names}
    for name in ("gpt2_finetune", "gpt2_ml_finetune"):
        given[name] |= {"data.block_size": 64}  # of the text's end are two blocks to validate on
    given["gpt2_zh"] |= {"data.batch_size": 4}
    given["classifier"] |= {"trainer.dynamics": ["noise", "sharpness", "updates"], "trainer.dynamics_every": 1}
    pair(train_all, tmp_path / "ranks", str(store.folder), given)
    assert Counter(runs_table(store, kinds=("run",))["status"]) == {"FINISHED": len(names)}
