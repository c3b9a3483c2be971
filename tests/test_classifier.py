"""The classifier: its networks, losses and initial weights, what it learns and what it refuses."""

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.classifier import Classifier
from lightning_modules.data.digits import Digits
from lightning_modules.dynamics import NoiseScale, Sharpness

SHAPE = (1, 8, 8)
NETWORKS = [{"network": "softmax"}, {"network": "mlp", "depth": 2}, {"network": "cnn", "depth": 2}]


def classifier(**settings: Any) -> Classifier:
    return Classifier(**{"shape": SHAPE, "hidden_dim": 16, **settings})


def digits(n: int = 40) -> tuple[Tensor, Tensor]:
    x, y = Digits()._train
    return x[:n], y[:n]


def fit(model: Classifier, folder: Path, epochs: int = 1, ckpt: Path | None = None, **settings: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing="callbacks" in settings,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **settings,
    )  # fmt: skip
    trainer.fit(model, datamodule=Digits(batch_size=48), ckpt_path=ckpt, weights_only=True if ckpt else None)
    return trainer


def weights(model: Classifier) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("settings", "n_parameters"),
    [
        ({"network": "softmax"}, 64 * 10 + 10),
        ({"network": "mlp", "activation": "tanh"}, 1210),
        ({"network": "mlp", "depth": 2}, 1210 + 16 * 16 + 16),
        ({"network": "cnn", "depth": 2}, 9 * 16 + 16 + 9 * 16 * 16 + 16 + 2 * 2 * 16 * 10 + 10),
    ],
)
def test_networks_have_the_layers_they_are_said_to_have(settings: dict[str, Any], n_parameters: int) -> None:
    model = classifier(**settings)
    assert len(weights(model)) == n_parameters
    assert model(digits()[0]).shape == (40, 10)


@pytest.mark.parametrize("shape", [(3, 7, 30), (1, 28, 28)])
@pytest.mark.parametrize("settings", NETWORKS[:2])
def test_images_of_any_shape_are_taken(settings: dict[str, Any], shape: tuple[int, int, int]) -> None:
    assert classifier(**settings, shape=shape, n_classes=4)(torch.rand(5, *shape)).shape == (5, 4)


def test_softmax_regression_is_one_dense_layer() -> None:
    model, (x, _) = classifier(network="softmax"), digits()
    weight, bias = model.parameters()
    torch.testing.assert_close(model(x), x.flatten(1) @ weight.T + bias)


def test_the_losses_are_cross_entropy_and_half_the_squared_distance_to_the_label() -> None:
    x, y = digits()
    entropy, square = classifier(), classifier(loss="mse")
    log_p = entropy(x).log_softmax(1)
    torch.testing.assert_close(entropy.per_sample_loss((x, y)), -log_p[torch.arange(40), y])
    torch.testing.assert_close(square.per_sample_loss((x, y)), 0.5 * ((square(x) - F.one_hot(y, 10)) ** 2).sum(1))


def test_a_step_returns_the_mean_loss_and_detached_the_accuracy() -> None:
    model, (x, y) = classifier(), digits()
    terms = model.training_step((x, y), 0)
    assert terms["loss"] == model.per_sample_loss((x, y)).mean()
    assert (
        terms["accuracy"] == sum(int(row.argmax()) == int(label) for row, label in zip(model(x), y, strict=True)) / 40
    )
    assert {name: term.requires_grad for name, term in terms.items()} == {"loss": True, "accuracy": False}


def test_initial_weights_are_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = weights(classifier(seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(weights(classifier(seed=1)), first)
    assert not torch.equal(weights(classifier(seed=2)), first)


@pytest.mark.parametrize("settings", NETWORKS)
def test_digits_are_learnt(settings: dict[str, Any], tmp_path: Path) -> None:
    model = classifier(**settings, optimizer={"class": "torch.Adam", "lr": 1e-2})
    trainer = fit(model, tmp_path, epochs=3)
    assert trainer.callback_metrics["val/accuracy"] > 0.9
    assert trainer.callback_metrics["val/loss"] < 0.6  # guessing has 2.3
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = Classifier.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert torch.equal(again(digits()[0]), model(digits()[0]))


def test_the_first_loss_of_cross_entropy_is_about_that_of_guessing() -> None:
    assert classifier().per_sample_loss(digits()).mean().item() == pytest.approx(math.log(10), rel=0.05)


def test_nothing_is_measured_that_was_not_asked_for(tmp_path: Path) -> None:
    trainer = fit(classifier(), tmp_path)
    assert {name for name in trainer.callback_metrics if "/" in name} == {"val/loss", "val/accuracy"}


@pytest.mark.parametrize(("name", "settings"), [("sn", NETWORKS[1]), ("sn_conv", NETWORKS[2])])
def test_a_constrained_classifier_learns_within_its_bound(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    optimizer = {"class": "torch.Adam", "lr": 3e-3}
    model = classifier(**settings, constraint=name, target=10.0, n_power_iterations=5, optimizer=optimizer)
    metrics = fit(model, tmp_path, epochs=2).callback_metrics
    assert metrics["val/accuracy"] > 0.7
    assert 0 < metrics["lipschitz/lower"] <= metrics["lipschitz/upper"]
    assert float(metrics["lipschitz/upper"]) == pytest.approx(10, rel=0.1)  # u follows the weights, a little late


def test_gradient_penalties_are_of_the_loss_in_the_image() -> None:
    x, y = digits()
    model = classifier(constraint="r1", weight=3.0)
    images = x.clone().requires_grad_()
    plain = model.per_sample_loss((images, y))
    (gradients,) = torch.autograd.grad(plain.sum(), images)
    terms = model.training_step((x, y), 0)
    torch.testing.assert_close(terms["penalty"], 1.5 * gradients.flatten(1).square().sum(1).mean())
    torch.testing.assert_close(terms["loss"].detach(), plain.mean().detach() + terms["penalty"])


def test_robustness_is_measured_when_asked_for(tmp_path: Path) -> None:
    metrics = fit(classifier(robustness=True), tmp_path).callback_metrics
    names = {name.removeprefix("robustness/") for name in metrics if name.startswith("robustness/")}
    changes = ["noise_", "fgsm_", "pgd_", "one_pixel_", "three_pixel_", ""]
    changes += [f"weights_{kind}_{percent}_" for kind in ("gaussian", "worst") for percent in (1, 3, 10)]
    assert names == {f"{change}accuracy" for change in changes} | {"certified_radius"}
    assert metrics["lipschitz/lower"] <= metrics["lipschitz/upper"]


def test_a_checkpoint_holds_the_weights_after_the_constraint(tmp_path: Path) -> None:
    keep = pl.callbacks.ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    fit(classifier(constraint="clip", clip=0.02), tmp_path, limit_train_batches=3, callbacks=[keep])
    files = sorted(tmp_path.glob("step=*.ckpt"))
    assert len(files) == 3
    for file in files:
        state = torch.load(file, weights_only=True)["state_dict"]
        assert max(float(value.abs().max()) for value in state.values()) <= 0.02


@pytest.mark.parametrize("name", ["sn", "sn_conv", "snr", "sn_projection"])
def test_a_constrained_training_is_resumed_to_the_bit(name: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"network": "cnn", "constraint": name, "optimizer": {"class": "torch.Adam", "lr": 1e-2}}
    whole, part = classifier(**settings), classifier(**settings)
    few: dict[str, Any] = {"limit_train_batches": 6, "limit_val_batches": 1}
    fit(whole, tmp_path, epochs=2, **few)
    fit(part, tmp_path, epochs=1, **few).save_checkpoint(tmp_path / "half.ckpt")
    resumed = Classifier.load_from_checkpoint(tmp_path / "half.ckpt", weights_only=True)
    fit(resumed, tmp_path, epochs=2, ckpt=tmp_path / "half.ckpt", **few)
    left, right = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_the_noise_of_a_constrained_classifier_can_be_measured(tmp_path: Path) -> None:
    model = classifier(constraint="sn")
    trainer = fit(
        model, tmp_path, limit_train_batches=2, callbacks=[NoiseScale(every=1, n_rows=32), Sharpness(every=1)]
    )
    assert {"dynamics/noise_trace", "dynamics/sharpness"} <= set(trainer.callback_metrics)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "rnn"}, "model.network = rnn: must be softmax, mlp or cnn"),
        ({"hidden_dim": 0}, "model.hidden_dim = 0: must be at least 1"),
        ({"depth": 0}, "model.depth = 0: must be at least 1; for no hidden layer use --model.network softmax"),
        ({"network": "cnn", "depth": 4}, "model.depth = 4: image 8x8 can be halved 3 times at most"),
        ({"activation": "gelu"}, "model.activation = gelu: must be relu or tanh"),
        ({"loss": "hinge"}, "model.loss = hinge: must be cross_entropy or mse"),
        ({"n_classes": 1}, "model.n_classes = 1: must be at least 2"),
        ({"constraint": "spectral"}, "model.constraint = 'spectral': unknown; allowed: none, clip"),
        ({"constraint": "r2"}, "model.constraint = r2: needs generated images; a classifier takes one of none, clip"),
        ({"constraint": "clip", "clip": 0.0}, "model.clip = 0.0: must be above 0"),
        ({"shape": (1, 0, 8)}, "model.shape = (1, 0, 8): must be channels, height and width"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        classifier(**settings)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)
