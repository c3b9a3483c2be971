"""The module: a step against the algorithm written out, one count of steps, exact resume, verdicts, what is refused."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from experiments.build import build_parts, check_session, planned_steps
from experiments.config import resolve
from experiments.errors import ConfigError
from experiments.logger import step_of
from experiments.resume import load_checkpoint, resume
from experiments.run import Result, run
from experiments.store.location import Store
from experiments.store.read import history, read_run
from experiments.trainer import TrainerOptions
from lightning_modules.data.digits import Digits
from lightning_modules.data.gaussians import Gaussians
from lightning_modules.data.sampling import noise
from lightning_modules.gan import GAN
from lightning_modules.gan.losses import critic_loss, generator_loss
from lightning_modules.lipschitz import CONSTRAINTS

SHAPE = (1, 8, 8)
SGD = {"class": "torch.SGD", "lr": 0.1}


def gan(**settings: Any) -> GAN:
    """A GAN of 8x8 images small enough to test."""
    return GAN(**{"network": "dcgan", "latent_dim": 4, "width": 4, "shape": SHAPE, **settings})


def images(n: int = 24, seed: int = 0) -> Tensor:
    """Images (n, 1, 8, 8) in [-1, 1]."""
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def loader(n: int, batch_size: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(images(n), torch.arange(n) % 3), batch_size=batch_size)


def quiet_trainer(**settings: Any) -> pl.Trainer:
    """A Trainer that writes and prints nothing."""
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", **{"max_epochs": 1, "num_sanity_val_steps": 0, **off, **settings})


def trained(module: GAN, n_rows: int = 24, batch_size: int = 24) -> GAN:
    quiet_trainer().fit(module, loader(n_rows, batch_size))
    return module


def descend(module: nn.Module, loss: Tensor, lr: float) -> None:
    """A step of gradient descent."""
    parameters = list(module.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.data -= lr * gradient


# ---- the algorithm --------------------------------------------------------------------------------------------------


def test_a_step_is_that_of_the_source_written_out() -> None:
    module = gan(n_critic=2, loss="hinge", seed=5, optimizer=SGD, critic_optimizer={"class": "torch.SGD", "lr": 0.2})
    generator, critic, x = copy.deepcopy(module.generator), copy.deepcopy(module.critic), images()
    trained(module)
    z = noise(5, "gan/critic", (0, 0), 24, 4)
    for i in range(2):
        loss = critic_loss("hinge", critic(x[i::2]), critic(generator(z[i::2]).detach()))
        descend(critic, loss, 0.2)
    loss = generator_loss("hinge", critic(generator(noise(5, "gan/generator", (0, 0), 12, 4))))
    descend(generator, loss, 0.1)
    for ours, expected in ((module.generator, generator), (module.critic, critic)):
        for name, value in expected.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, atol=1e-6, rtol=1e-4)


def test_an_epoch_has_one_step_for_every_n_critic_batches_of_the_data() -> None:
    data, module = Digits(batch_size=100, pixels="symmetric"), gan(n_critic=3)
    trainer = quiet_trainer(limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    assert step_of(trainer) == 1437 // 300 == len(data.train_dataloader())
    assert trainer.global_step == 4 * (3 + 1)  # Lightning counts every optimizer's


def test_every_term_is_a_detached_number_and_the_critic_is_trained_again_after_each_step() -> None:
    found: dict[str, Any] = {}

    class Keep(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
            found.update(outputs)

    module = gan(constraint="gp")
    quiet_trainer(callbacks=[Keep()]).fit(module, loader(8, 8))
    assert set(found) == {"loss", "critic_gap", "penalty", "generator_loss"}
    assert all(term.ndim == 0 and not term.requires_grad for term in found.values())
    torch.testing.assert_close(found["loss"], found["penalty"] - found["critic_gap"])
    assert all(parameter.requires_grad for parameter in module.critic.parameters())


@pytest.mark.parametrize("network", ["mlp", "resnet"])
@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_every_constraint_trains_and_the_bounds_are_in_order(constraint: str, network: str) -> None:
    module = gan(
        network=network, constraint=constraint, conditional=constraint in ("gp", "wgan_div", "sn"), n_classes=3
    )
    trainer = quiet_trainer()
    trainer.fit(module, loader(16, 8), loader(12, 6))
    upper, lower = (float(trainer.callback_metrics[f"lipschitz/{name}"]) for name in ("upper", "lower"))
    assert 0 < lower <= upper < float("inf")
    assert trainer.callback_metrics["val/swd"].isfinite()


def test_clipped_weights_are_within_the_clip_and_normalised_ones_have_norm_one() -> None:
    clipped = trained(gan(constraint="clip", clip=0.02, optimizer=SGD))
    assert max(float(weight.detach().abs().max()) for weight in clipped.critic.parameters()) <= 0.02
    normed = trained(gan(network="mlp", constraint="sn", optimizer=SGD), 240, 24).eval()
    assert normed.critic.head.weight.norm().item() == pytest.approx(1, abs=0.01)


# ---- samples and verdicts -------------------------------------------------------------------------------------------


def test_samples_are_a_function_of_the_seed_and_come_from_the_average() -> None:
    module = trained(gan(ema_decay=0.9, optimizer=SGD), 72)
    assert module.average is not None
    first, again, other = module.sample(600, 1), module.sample(600, 1), module.sample(600, 2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert module.generator.training
    with torch.no_grad():
        for parameter in module.generator.parameters():
            parameter.zero_()
    assert torch.equal(module.sample(600, 1), first)


def test_a_conditional_gan_samples_classes_in_turn() -> None:
    module = gan(network="mlp", conditional=True, n_classes=3).eval()
    with torch.no_grad():
        module.generator.layers[0].weight[:, :4] = 0  # type: ignore[operator]  # only the class is left
    samples = module.sample(6)
    torch.testing.assert_close(samples[:3], samples[3:])
    assert not torch.equal(samples[0], samples[1])


def test_pictures_show_samples_and_ways_between_them_or_points_over_the_critic() -> None:
    assert {name: picture.ndim for name, picture in gan().pictures().items()} == {"samples": 3, "interpolations": 3}
    points = GAN(network="mlp", width=8, shape=(2, 1, 1), n_classes=8)
    data = Gaussians(n_points=400, batch_size=64)
    trainer = quiet_trainer()
    trainer.fit(points, datamodule=data)
    assert points.pictures()["samples"].shape == (3, 400, 400)
    assert {"val/modes", "val/high_quality_fraction"} <= set(trainer.callback_metrics)


def test_a_critic_without_bound_that_explodes_ends_the_run_and_says_why(store: Store) -> None:
    unbounded = {"model.constraint": "none", "optimizer": {"class": "torch.SGD", "lr": 1e4}, "trainer.max_epochs": 9}
    result = short(store, unbounded)
    assert result.status == "FINISHED"
    assert read_run(store, result.run_id).tags["taolu.trouble"].startswith("diverged: ")
    steps = history(store, result.run_id, ["train/loss"])["step"]
    assert len(steps) < 9 * 5


def test_a_generator_whose_samples_become_one_is_said_to_have_collapsed() -> None:
    module = gan(network="mlp")
    module.most_varied.fill_(0.9)
    with torch.no_grad():
        module.generator.layers[0].weight.zero_()  # type: ignore[operator]
    quiet_trainer().validate(module, loader(12, 6), verbose=False)
    assert module.trouble is not None
    assert module.trouble.startswith("mode collapse: diversity 0 after 0.9")


def test_a_generator_that_has_never_been_varied_has_not_collapsed() -> None:
    module = gan(network="mlp")
    quiet_trainer().validate(module, loader(12, 6), verbose=False)
    assert module.trouble is None


# ---- the launcher ---------------------------------------------------------------------------------------------------


def short(store: Store, options: dict[str, Any]) -> Result:
    settings = {
        "model": {"width": 4, "latent_dim": 4, "n_critic": 2},
        "data.batch_size": 128,
        "trainer.max_epochs": 2,
        "trainer.quality.metrics": [],
        "threads": 1,
        **options,
    }
    return run(resolve("sngan", overrides=settings), store=store)


@pytest.mark.parametrize("stop", [3, pytest.param(5, marks=pytest.mark.slow)])  # within an epoch, and at its end
def test_a_resumed_run_equals_one_that_never_stopped(store: Store, stop: int) -> None:
    options = {"model.constraint": "sn_conv", "schedule": "cosine", "schedule.steps": 10}
    whole, stopped = short(store, options), short(store, {**options, "trainer.max_steps": stop})
    rest = resume(stopped.run_id, overrides={"trainer.max_steps": 10}, store=store)
    states = [load_checkpoint(each.folder / "checkpoints" / "last.ckpt") for each in (whole, rest)]
    flat = [dict(tensors(state["state_dict"]) | tensors(state["optimizer_states"])) for state in states]
    assert flat[0].keys() == flat[1].keys()
    assert [name for name, value in flat[0].items() if not torch.equal(value, flat[1][name])] == []
    assert any("spectral" in name or ".u" in name for name in flat[0])
    assert any("running_mean" in name for name in flat[0])
    assert any("average" in name for name in flat[0])


def tensors(state: Any, name: str = "") -> dict[str, Tensor]:
    """Every tensor of a nested state by its path."""
    if isinstance(state, Tensor):
        return {name: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else ()
    return {key: value for part, inner in items for key, value in tensors(inner, f"{name}.{part}").items()}


def test_the_critic_inherits_the_optimizer_with_its_own_keys_laid_over() -> None:
    config = resolve("sngan", overrides={"critic_optimizer.lr": 4e-4})
    module: Any = build_parts(config)[0]
    optimizers = [each["optimizer"] for each in module.configure_optimizers()]
    assert [type(each).__name__ for each in optimizers] == ["Adam", "Adam"]
    assert [each.param_groups[0]["lr"] for each in optimizers] == [1e-3, 4e-4]
    assert [each.param_groups[0]["betas"] for each in optimizers] == [(0.0, 0.9)] * 2
    assert len(optimizers[1].param_groups[0]["params"]) == len([*module.critic.parameters()])


def test_the_planned_length_counts_generator_steps() -> None:
    config = resolve("wgan", overrides={"data.batch_size": 64, "schedule": "cosine", "trainer.max_epochs": 3})
    module, data = build_parts(config)
    assert planned_steps(TrainerOptions.from_config(config.values["trainer"]), data) == 3 * (1437 // 320)
    assert module.hparams["schedule"]["steps"] == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainer.accumulate_grad_batches": 2}, "trainer.accumulate_grad_batches = 2: GAN optimises by hand"),
        ({"trainer.gradient_clip_val": 1.0}, "trainer.gradient_clip_val = 1: GAN optimises by hand.*use null"),
        ({"trainer.precision": "bf16-true"}, "trainer.precision = bf16-true: GAN needs .*use bf16-mixed"),
        ({"data.pixels": "unit"}, r"data.pixels: values in \[0, 1\].*--data.pixels symmetric"),
        ({"data.batch_size": 500, "model.n_critic": 5}, "data.batch_size = 500: a step takes 5.*use at most 287"),
        ({"model.n_critic": 0}, "model.n_critic = 0: must be at least 1"),
        ({"model.latent_dim": 0}, "model.latent_dim = 0"),
        ({"model.width": 0}, "model.width = 0"),
        ({"model.ema_decay": 1.0}, "model.ema_decay = 1.0"),
        ({"model.constraint": "clip", "model.clip": 0.0}, "model.clip = 0"),
        ({"model.constraint": "gp", "model.weight": -1.0}, "model.weight = -1"),
        ({"model.n_power_iterations": 0}, "model.n_power_iterations = 0"),
        ({"model.constraint": "gan_qp_l2"}, "model.loss = hinge: constraint gan_qp_l2 adds its term"),
        ({"optimizer.betas": [0, 1]}, r"optimizer.betas = \[0.0, 1.0\]"),
        ({"critic_optimizer.lr": 0}, "critic_optimizer: optimizer.lr = 0"),
    ],
)
def test_what_no_gan_can_be_trained_with_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(options)


def checked(options: dict[str, Any]) -> None:
    """Everything that is looked at before there is a run."""
    config = resolve("sngan", overrides=options)
    check_session(*build_parts(config), TrainerOptions.from_config(config.values["trainer"]))


@pytest.mark.parametrize(
    ("module", "batch", "message"),
    [
        (gan(n_critic=5), images(24), "a batch of 24 rows: model.n_critic = 5 parts must be equal"),
        (gan(shape=(3, 8, 8)), images(24), r"samples of shape \(1, 8, 8\): model.shape is \(3, 8, 8\)"),
        (gan(conditional=True), images(24), "a batch without labels: model.conditional"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(module: GAN, batch: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quiet_trainer().fit(module, DataLoader(batch, batch_size=24))  # type: ignore[arg-type]


def test_a_checkpoint_gives_the_same_samples(tmp_path: Path) -> None:
    module = gan(constraint="sn", ema_decay=0.9, optimizer={"class": "torch.Adam", "lr": 1e-3, "betas": [0, 0.9]})
    trainer = quiet_trainer()
    trainer.fit(module, loader(24, 8))
    trainer.save_checkpoint(tmp_path / "gan.ckpt")
    loaded = GAN.load_from_checkpoint(tmp_path / "gan.ckpt", weights_only=True)
    assert torch.equal(loaded.eval().sample(5), module.eval().sample(5))
    x = images(4)
    assert torch.equal(loaded.critic(x), module.critic(x))


def test_the_head_of_every_shipped_config_names_constraints_there_are() -> None:
    folder = Path(__file__).parents[2] / "experiments" / "configs"
    texts = [(folder / f"{name}.yaml").read_text() for name in ("wgan", "wgan_gp", "sngan", "gan_plain")]
    named = re.findall(r"(?:--model.constraint |constraint: )(\w+)", " ".join(texts))
    assert {"clip", "gp", "sn"} <= set(named) <= set(CONSTRAINTS)
