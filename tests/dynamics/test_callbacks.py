"""The callbacks in a training: what they record, under which sampler, and that they leave no trace."""

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, TensorDataset

from experiments.config import resolve
from experiments.errors import ConfigError
from experiments.run import run
from experiments.store.location import Store
from experiments.store.read import history
from lightning_modules.data.digits import Digits
from lightning_modules.dynamics import (
    NoiseScale,
    Sharpness,
    UpdateRatio,
    finite_population,
    noise_scale,
    per_sample_gradients,
    temperature,
    top_eigenvalues,
)
from tests.dropout_net import DropoutNet
from tests.dynamics.measured import as_function, classifier, digits, gradient

SGD = {"class": "sgd", "lr": 0.1}


class Kept(Logger):
    """Keeps (step, name) -> value."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[tuple[int, str], float] = {}

    name = version = property(lambda self: "kept")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.values |= {(step or 0, key): float(value) for key, value in metrics.items()}

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def steps(self, name: str) -> list[int]:
        return [step for step, key in self.values if key == f"dynamics/{name}"]


class Careless(pl.LightningModule):
    """BatchNorm, dropout, and a loss of rows that draws and overwrites a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(16, 10)
        self.head.bias.requires_grad_(False)
        self.register_buffer("count", torch.zeros(()))

    def per_sample_loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        self.count.add_(1)  # type: ignore[operator]
        random.random()
        np.random.rand()
        return F.cross_entropy(self.head(self.net(batch[0])), batch[1], reduction="none")

    def with_noise(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return batch[0] + 0.1 * torch.randn(batch[0].shape), batch[1]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self.head(self.net(batch[0] + 0.1 * torch.randn(batch[0].shape))), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-2)


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Rows one after another, that cannot be read by number."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.pairs = [*zip(x, y, strict=True)]

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.pairs)


def fit(model: pl.LightningModule, data: Any, *callbacks: pl.Callback, **settings: Any) -> Kept:
    """What the callbacks recorded; one epoch unless the settings say otherwise."""
    kept = Kept()
    off = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings = {"max_epochs": 1, "limit_val_batches": 0, "log_every_n_steps": 7, **off, **settings}
    pl.Trainer(accelerator="cpu", logger=kept, callbacks=[*callbacks], **settings).fit(model, data)
    return kept


def test_a_training_that_is_measured_is_the_same_to_the_bit() -> None:
    def trained(*callbacks: pl.Callback) -> tuple[Careless, Tensor, tuple[float, float]]:
        pl.seed_everything(3, verbose=False)
        model = Careless()
        model.net[1].eval()  # a mode of its own, to be kept
        data = DataLoader(TensorDataset(*digits(320)), batch_size=32, shuffle=True)
        fit(model, data, *callbacks)
        return model, torch.get_rng_state(), (float(np.random.rand()), random.random())

    plain, generator, draws = trained()
    measured, generator_after, draws_after = trained(
        NoiseScale(3, n_rows=20), Sharpness(3, k=2, n_rows=40), UpdateRatio(3)
    )
    after = measured.state_dict()
    assert [name for name, value in plain.state_dict().items() if not torch.equal(value, after[name])] == []
    assert plain.state_dict()["net.2.num_batches_tracked"] == 10
    assert torch.equal(generator, generator_after)
    assert draws == draws_after
    assert [m.training for m in measured.modules()] == [m.training for m in plain.modules()]


def test_gradients_are_as_they_were_when_a_batch_starts() -> None:
    model = classifier(optimizer=SGD)
    seen: list[bool] = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
            seen.append(all(p.grad is None for p in pl_module.parameters()))

    fit(model, Digits(batch_size=700), NoiseScale(1, n_rows=20), Sharpness(1, n_rows=20), Watch())
    assert seen[0]


def test_noise_of_the_whole_set_is_recorded_exactly_at_the_weights_a_step_starts_from() -> None:
    model = classifier(optimizer=SGD, seed=4)
    gradients = per_sample_gradients(*as_function(model), digits(1437))
    expected = noise_scale(gradients.double(), 1437)
    assert expected.scale is not None
    kept = fit(model, Digits(batch_size=64), NoiseScale(every=10, n_rows=2000))
    assert kept.steps("noise_trace") == [0, 10, 20]  # whatever log_every_n_steps
    assert kept.values[0, "dynamics/noise_trace"] == pytest.approx(expected.trace.estimate, rel=1e-4)
    assert kept.values[0, "dynamics/noise_scale"] == pytest.approx(expected.scale.estimate, rel=1e-4)
    assert kept.values[0, "dynamics/gradient_norm_squared_low"] == pytest.approx(
        kept.values[0, "dynamics/gradient_norm_squared_high"]
    )


@pytest.mark.parametrize("pairs", [0, 30])
def test_noise_of_some_rows_agrees_with_that_of_all(pairs: int) -> None:
    model = classifier(optimizer=SGD, seed=4)
    expected = noise_scale(per_sample_gradients(*as_function(model), digits(1437)).double(), 1437)
    kept = fit(model, Digits(batch_size=1437), NoiseScale(1, n_rows=200, pairs=pairs))
    low, high = (kept.values[0, f"dynamics/gradient_norm_squared_{end}"] for end in ("low", "high"))
    assert low < expected.norm_squared.estimate < high
    assert kept.values[0, "dynamics/noise_trace"] == pytest.approx(expected.trace.estimate, rel=0.2)


@pytest.mark.parametrize(
    ("sampling", "factor", "name"),
    [
        ("with_replacement", 1.0, "temperature"),
        ("without_replacement", finite_population(320, 1437), "temperature"),
        ("shuffled", finite_population(640, 1437), "temperature_bound"),
    ],
)
def test_noise_of_a_step_is_right_under_every_sampler(sampling: Any, factor: float, name: str) -> None:
    model = classifier(optimizer={"class": "momentum", "lr": 0.1, "beta": 0.75})
    data = Digits(batch_size=320, sampling=sampling)
    kept = fit(model, data, NoiseScale(1, n_rows=50), accumulate_grad_batches=2)
    trace = kept.values[0, "dynamics/noise_trace"]
    assert kept.steps("noise_trace") == [0, 1]  # once a window of two batches
    assert kept.values[0, "dynamics/batch_noise"] == pytest.approx(trace * factor / 640)
    assert kept.values[0, f"dynamics/{name}"] == pytest.approx(temperature(0.4, trace, 1210, factor / 640))
    assert len([key for step, key in kept.values if step == 0 and "temperature" in key]) == 1


def test_loaders_of_torch_are_read_by_row_and_streams_by_batch() -> None:
    x, y = digits(60)
    whole = noise_scale(per_sample_gradients(*as_function(classifier()), (x, y)).double(), 60)
    sampler = RandomSampler(TensorDataset(x, y), replacement=True)
    loader = DataLoader(TensorDataset(x, y), batch_size=20, sampler=sampler)
    kept = fit(classifier(optimizer=SGD), loader, NoiseScale(10))
    assert kept.values[0, "dynamics/noise_trace"] == pytest.approx(whole.trace.estimate, rel=1e-4)
    assert kept.steps("temperature") == [0]
    one = noise_scale(per_sample_gradients(*as_function(classifier()), (x[:20], y[:20])).double())
    kept = fit(classifier(optimizer=SGD), DataLoader(Stream(x, y), batch_size=20), NoiseScale(10))
    assert kept.values[0, "dynamics/noise_trace"] == pytest.approx(one.trace.estimate, rel=1e-4)


def test_sharpness_is_recorded_with_what_the_optimizer_can_take_of_it() -> None:
    model = classifier(optimizer={"class": "momentum", "lr": 0.1, "beta": 0.5})
    expected = top_eigenvalues(*as_function(model), digits(1437), k=2).values.tolist()
    kept = fit(model, Digits(batch_size=1437), Sharpness(1, k=2))
    found = [kept.values[0, f"dynamics/{name}"] for name in ("sharpness", "eigenvalue_2", "lr_sharpness", "stability")]
    assert found == pytest.approx([*expected, 0.1 * expected[0], 0.1 * expected[0] / 3], rel=1e-4)
    kept = fit(classifier(optimizer={"class": "torch.Adam", "lr": 0.1}), Digits(batch_size=1437), Sharpness(1))
    assert [key for _, key in kept.values if key.startswith("dynamics/")] == ["dynamics/sharpness"]


def test_nothing_is_recorded_of_what_is_not_finite() -> None:
    model = classifier(optimizer=SGD)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    kept = fit(model, Digits(batch_size=1437), Sharpness(1), NoiseScale(1), UpdateRatio(1))
    assert [key for _, key in kept.values if key.startswith("dynamics/")] == []


def test_the_update_ratio_of_gradient_descent_is_lr_times_the_gradient_over_the_weights() -> None:
    model = classifier(optimizer=SGD)
    size = torch.cat([p.detach().flatten() for p in model.parameters()]).norm()
    expected = 0.1 * gradient(model, digits(1437)).norm() / size
    model.zero_grad()
    kept = fit(model, Digits(batch_size=1437), UpdateRatio(1))
    assert kept.values[0, "dynamics/update_ratio"] == pytest.approx(float(expected), rel=1e-4)


def test_values_are_there_for_other_callbacks() -> None:
    model = classifier(optimizer=SGD)
    fit(model, Digits(batch_size=1437), UpdateRatio(1))
    assert "dynamics/update_ratio" in model.trainer.callback_metrics


def test_a_module_without_losses_of_rows_has_its_updates_measured_only() -> None:
    assert fit(DropoutNet(), Digits(batch_size=700), UpdateRatio(1)).steps("update_ratio") == [0, 1]
    for callback in (NoiseScale(1), Sharpness(1)):
        with pytest.raises(ValueError) as refusal:
            fit(DropoutNet(), Digits(batch_size=700), callback)
        assert str(refusal.value).startswith("DropoutNet has no per_sample_loss(batch)")
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (NoiseScale, {"every": 0}, "every = 0: must be at least 1 step"),
        (NoiseScale, {"n_rows": 2}, "n_rows = 2: must be at least 3"),
        (NoiseScale, {"pairs": 1}, "pairs = 1: must be 0, or at least 2"),
        (Sharpness, {"k": 0}, "k = 0: must be at least 1"),
        (Sharpness, {"n_rows": 0}, "n_rows = 0: must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(kind: Any, settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        kind(**settings)
    assert str(refusal.value).startswith(message)


def test_more_eigenvalues_than_parameters_and_pairs_of_a_stream_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^k = 9999: must be at most the number of parameters, 1210$"):
        fit(classifier(), Digits(batch_size=700), Sharpness(1, k=9999))
    with pytest.raises(ValueError, match=r"^pairs = 5: the training data cannot be read by row; use pairs=0$"):
        fit(classifier(optimizer=SGD), DataLoader(Stream(*digits(20))), NoiseScale(1, pairs=5))


def test_a_run_of_the_launcher_records_them(store: Store) -> None:
    options = {"trainer.max_epochs": 2, "data.batch_size": 480, "threads": 1, "trainer.dynamics_every": 2}
    names = "[noise,sharpness,updates]"
    found = run(resolve("classifier", ["--trainer.dynamics", names], overrides=options), store=store)
    curves = history(store, found.run_id)
    for name in ("noise_trace", "gradient_norm_squared", "sharpness", "stability", "temperature_bound", "update_ratio"):
        assert curves[curves["key"] == f"dynamics/{name}"]["step"].tolist() == [0, 2]
    assert curves[curves["key"] == "train/loss"]["step"].tolist() == [0, 1, 2, 3]


def test_a_run_that_cannot_be_measured_is_refused_before_it_exists(store: Store, tmp_path: Path) -> None:
    net = f"{Path(__file__).parents[1] / 'dropout_net.py'}:DropoutNet"
    with pytest.raises(ConfigError) as refusal:
        run(resolve(net, overrides={"trainer.dynamics": ["noise"]}), store=store)
    assert str(refusal.value).startswith("trainer.dynamics: DropoutNet has no per_sample_loss(batch)")
    with pytest.raises(ConfigError, match=r"trainer.dynamics = nois: must be "):
        resolve("classifier", ["--trainer.dynamics", "[nois]"])
    with pytest.raises(ConfigError, match=r"trainer.dynamics_every = 0: must be at least 1"):
        resolve("classifier", ["--trainer.dynamics_every", "0"])
