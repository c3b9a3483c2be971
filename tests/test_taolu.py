"""The Python door: what the verbs do, for anybody's module."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from filelock import FileLock
from torch.utils.data import DataLoader, TensorDataset

import taolu
from experiments.listing import shown, shown_lines
from experiments.run import Result
from experiments.store.location import Store
from lightning_modules.data.digits import Digits
from lightning_modules.gan import GAN
from lightning_modules.parts import load_class

# Twenty lines of somebody else's, who knows nothing of this repository.
SOURCE = """
import pytorch_lightning as pl, torch
from torch import nn


class Net(pl.LightningModule):
    def __init__(self, width: int = 8, lr: float = 0.05):
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 10))

    def training_step(self, batch, i):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("my/loss", loss)
        return loss

    def validation_step(self, batch, i):
        self.log("val/loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr, momentum=0.9)
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "mynet.py").write_text(SOURCE, encoding="utf-8")
    return f"{tmp_path / 'mynet.py'}:Net"


def start(store: Store, experiment: str, **options: Any) -> Result:
    """A run that says nothing."""
    return taolu.run(experiment, store=store.url, say=quietly, **options)


def quietly(line: str) -> None:
    """Says nothing."""


def module(spec: str, **settings: Any) -> pl.LightningModule:
    """A fresh module, always with the same weights."""
    torch.manual_seed(11)
    made: pl.LightningModule = load_class(spec, {})(**settings)
    return made


def loader(*, shuffle: bool = True) -> DataLoader[Any]:
    """A plain loader: five batches."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(100, 64, generator=generator), torch.randint(0, 10, (100,), generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=20, shuffle=shuffle)


def fit(store: Store, built: pl.LightningModule, steps: int, **options: Any) -> Result:
    trainer = {"max_epochs": 3, "max_steps": steps}
    return taolu.fit(
        built, (loader(), loader(shuffle=False)), name="mine", trainer=trainer, store=store.url, say=quietly, **options
    )


def assert_same_weights(left: pl.LightningModule, right: pl.LightningModule) -> None:
    torch.testing.assert_close(left.state_dict(), right.state_dict(), rtol=0, atol=0)


def test_a_users_module_runs_is_listed_shown_and_resumed(store: Store, net: str) -> None:
    more: dict[str, Any] = {"trainer.max_steps": 5}
    result = start(store, net, name="first", **{"trainer.max_steps": 3})
    assert result.status == "FINISHED"
    assert {"my/loss", "val/loss"} <= {*result.metrics}
    assert list(taolu.runs(store=store.url)["name"]) == ["first"]
    assert taolu.files("first", store=store.url)["code/mynet.py"].read_text(encoding="utf-8") == SOURCE
    assert "width 8" in "\n".join(shown_lines(shown(store, "first")))
    resumed = taolu.resume("first", store=store.url, say=quietly, **more)
    assert resumed.run_id == result.run_id
    curve = taolu.history("last", ["my/loss"], store=store.url)
    assert list(curve["step"]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("stop", [3, 5, 7])
def test_a_fit_that_was_stopped_goes_on_exactly(store: Store, net: str, stop: int) -> None:
    whole, second = module(net), module(net)
    fit(store, whole, 12, threads=1, seed=5)
    stopped = fit(store, module(net), stop, threads=1, seed=5)
    resumed = fit(store, second, 12, resume=stopped.run_id)
    assert (resumed.run_id, resumed.experiment) == (stopped.run_id, "mine")
    assert_same_weights(whole, second)


def test_a_resumed_fit_keeps_what_is_not_given(store: Store, net: str) -> None:
    settings = {"max_steps": 2, "accumulate_grad_batches": 2}
    given: dict[str, Any] = {"store": store.url, "say": quietly}
    first = taolu.fit(module(net), loader(), trainer=settings, seed=3, threads=1, **given)
    again = taolu.fit(module(net), loader(), trainer={"max_steps": 3}, resume=first.run_id, **given)
    record = taolu.runs(store=store.url).iloc[0]
    assert again.status == "FINISHED"
    assert (record["params.seed"], record["params.threads"]) == ("3", "1")
    assert record["params.trainer.accumulate_grad_batches"] == "2"


def test_a_resumed_fit_is_compared_with_its_last_session(store: Store, net: str) -> None:
    first = fit(store, module(net), 2, threads=1)
    fit(store, module(net), 4, resume=first.run_id)
    with pytest.raises(ValueError, match=r"trainer\.max_steps: 4 in the run, now 3; a limit of a resumed run may only"):
        fit(store, module(net), 3, resume=first.run_id)
    with pytest.raises(ValueError, match=r"is finished; to extend it give it more, as in --trainer\.max_steps 8"):
        fit(store, module(net), 4, resume=first.run_id)


def test_a_fit_that_is_being_resumed_is_left_alone(store: Store, net: str) -> None:
    first = fit(store, module(net), 1)
    with FileLock(first.folder.parent / ".resume.lock"), pytest.raises(ValueError, match="by another process"):
        fit(store, module(net), 3, resume=first.run_id)


def test_only_a_run_of_fit_is_resumed_by_fit(store: Store, net: str) -> None:
    result = start(store, net, **{"trainer.max_steps": 1})
    with pytest.raises(ValueError, match="go on with taolu"):
        fit(store, module(net), 3, resume=result.run_id)


def test_a_run_of_fit_is_resumed_by_fit_only(store: Store, net: str) -> None:
    result = fit(store, module(net), 1)
    with pytest.raises(ValueError, match="was started from Python by"):
        taolu.resume(result.run_id, store=store.url, say=quietly)


class Stop(pl.Callback):
    """Sends this process SIGTERM at its third batch."""

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        if index == 2:
            signal.raise_signal(signal.SIGTERM)


def test_a_fit_that_was_killed_is_told_how_it_goes_on(store: Store, net: str) -> None:
    lines: list[str] = []
    given: dict[str, Any] = {"trainer": {"max_steps": 9}, "store": store.url, "say": lines.append}
    killed = taolu.fit(module(net), loader(), callbacks=[Stop()], **given)
    assert killed.status == "KILLED"
    assert lines[-1].endswith(f"go on: taolu.fit(module, data, resume='{killed.run_id[:8]}')")
    (killed.folder / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(ValueError, match=r"no checkpoint .*; start again with: taolu\.fit\(module, data\)"):
        taolu.fit(module(net), loader(), resume=killed.run_id, **given)


def test_the_weights_of_a_run_are_loaded(store: Store, net: str) -> None:
    built = module(net)
    result = fit(store, built, 3)
    loaded = taolu.load(result.run_id, store=store.url)
    assert_same_weights(loaded, built)
    assert not loaded.training


def test_weights_are_loaded_with_settings_of_the_config(store: Store, net: str) -> None:
    options = {"model.width": 3, "trainer.max_steps": 1}
    result = start(store, net, **options)
    loaded = taolu.load(result.run_id, checkpoint="last", store=store.url)
    assert loaded.state_dict()["net.1.weight"].shape == (3, 64)


def test_weights_are_loaded_with_saved_hyperparameters(store: Store, net: str, tmp_path: Path) -> None:
    (tmp_path / "saving.py").write_text(
        SOURCE.replace("self.lr = lr", "self.lr = lr\n        self.save_hyperparameters()"), encoding="utf-8"
    )
    built = module(f"{tmp_path / 'saving.py'}:Net", width=5)
    result = fit(store, built, 2)
    assert_same_weights(taolu.load(result.run_id, store=store.url), built)


def test_weights_are_loaded_where_only_some_hyperparameters_were_saved(store: Store, net: str, tmp_path: Path) -> None:
    saving = SOURCE.replace("self.lr = lr", "self.lr = lr\n        self.save_hyperparameters({'lr': lr, 'note': 1})")
    (tmp_path / "partly.py").write_text(saving, encoding="utf-8")
    options = {"model.width": 3, "trainer.max_steps": 1}
    result = start(store, f"{tmp_path / 'partly.py'}:Net", **options)
    assert taolu.load(result.run_id, store=store.url).state_dict()["net.1.weight"].shape == (3, 64)


def test_the_best_weights_of_the_vae_are_loaded(store: Store) -> None:
    options: dict[str, Any] = {"trainer.max_steps": 2, "trainer.quality.metrics": []}
    result = start(store, "vae", **options)
    assert type(taolu.load(result.run_id, store=store.url)).__name__ == "VAE"


def test_a_module_that_cannot_be_built_again_says_what_to_do(store: Store, net: str) -> None:
    result = fit(store, module(net, width=9), 1)
    with pytest.raises(ValueError, match=r"size mismatch.*call self\.save_hyperparameters\(\)"):
        taolu.load(result.run_id, store=store.url)
    with pytest.raises(ValueError, match="checkpoint 'worst': must be best or last"):
        taolu.load(result.run_id, checkpoint="worst", store=store.url)


def test_a_rerun_from_python_says_that_it_is_identical(store: Store, net: str) -> None:
    result = start(store, net, **{"trainer.max_steps": 2})
    lines: list[str] = []
    taolu.rerun(result.run_id, store=store.url, say=lines.append)
    assert lines[-1].startswith("identical: all ")


def test_a_run_in_another_thread_ends_as_in_the_main_one(store: Store, net: str) -> None:
    results: list[Result] = []

    def work() -> None:
        results.append(start(store, net, **{"trainer.max_steps": 2}))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [result.status for result in results] == ["FINISHED"]


def test_tags_and_notes_are_kept_as_text(store: Store, net: str) -> None:
    tags: dict[str, Any] = {"n": 3, "目的": "论文"}
    start(store, net, name="名字", tags=tags, note="α", **{"trainer.max_steps": 1})
    record = shown(store, "名字")
    assert (record["tags"]["n"], record["tags"]["目的"], record["note"]) == ("3", "论文", "α")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainer": {"max_epoch": 3}}, r"unknown key 'trainer.max_epoch' \(did you mean 'trainer.max_epochs'\?\)"),
        ({"trainer": {"max_epochs": "x"}}, "trainer.max_epochs = x: must be a whole number or null"),
        ({"trainer": {"early_stopping.patience": 0}}, "trainer.early_stopping.patience = 0: must be at least 1"),
        ({"seed": -1}, "seed = -1: must lie in 0 to"),
        ({"threads": 0}, "threads = 0: must be at least 1"),
        ({"data": 3}, "data: must be a LightningDataModule, a training loader, or a pair"),
        ({"data": None}, "data: must be a LightningDataModule"),
        ({"module": torch.nn.Linear(1, 1)}, "module: must be a LightningModule, is a Linear"),
        ({"resume": "nosuch"}, "holds no run yet"),
        ({"module": GAN(shape=(1, 8, 8)), "data": Digits()}, "data.pixels: values in"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    store: Store, net: str, options: dict[str, Any], message: str
) -> None:
    given = {"module": module(net), "data": loader(), **options}
    with pytest.raises(ValueError, match=message):
        taolu.fit(**given, store=store.url, say=quietly)
    assert len(taolu.runs(store=store.url)) == 0


def test_the_doors_names_are_there_when_asked_for() -> None:
    assert {taolu.Logger.__name__, taolu.Recorder.__name__, taolu.ConfigError.__name__} == {
        "Logger",
        "Recorder",
        "ConfigError",
    }
    assert isinstance(taolu, ModuleType)
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        taolu.nosuch  # noqa: B018
