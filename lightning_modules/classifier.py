"""An image classifier small enough to measure everything about: softmax regression, an MLP or a small CNN.

Shapes: B images of C channels, H x W pixels; K classes.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.data.gathering import gathered
from lightning_modules.data.sampling import draw
from lightning_modules.lipschitz import CONSTRAINTS, Constraint, ConstraintName, audit
from lightning_modules.lipschitz import constraint as make_constraint
from lightning_modules.lipschitz.constraint import PAIRED
from lightning_modules.lipschitz.robustness import robustness as measure_robustness
from lightning_modules.optimizers import configure

N_KEPT = 256  # first images of the validation set, on which robustness is measured
N_AUDITED = 64  # of them, points of the Lipschitz audit

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}

Batch = tuple[Tensor, Tensor] | list[Tensor]


class Classifier(pl.LightningModule):
    """Tells which of K classes an image belongs to. Batches are images (B, C, H, W) with their labels int64 (B,).

    Args:
        network: softmax = one dense layer, a convex problem; mlp = hidden dense layers; cnn = 3x3 convolutions of
            stride 2, then a dense layer.
        hidden_dim: Units of a hidden layer of the mlp, filters of a convolution of the cnn; softmax has none.
        depth: Hidden layers of the mlp, convolutions of the cnn.
        activation: Of the hidden layers.
        loss: cross_entropy in nats an image; mse = half the squared distance of the outputs from the label's one-hot
            vector, summed over classes (as Cohen et al. 2021 have it).
        shape: Channels, height and width of an image.
        n_classes: K.
        constraint: How the network is kept Lipschitz, or none. Gradient penalties (gp, gp_one_sided, r1) take the
            gradient of each image's loss in the image; r1 is double backpropagation (Drucker & LeCun 1992). The next
            four settings are read where a constraint has them. With one, each validation logs lipschitz/upper and
            lipschitz/lower (0.03 CPU-s for the mlp on digits, 0.4 for the cnn on 28x28).
        weight: lambda of a constraint that is a penalty; null = the usual one.
        clip: Largest absolute weight of the constraint clip; null = 0.01.
        n_power_iterations: Of a spectral constraint; null = the usual ones.
        target: Norm that a gradient penalty or spectral constraint aims at, for the whole network; null = 1.
        robustness: Measure at each validation the accuracy under attacks on the images and under moved weights, and
            the certified radius, on 256 images: 0.1 CPU-s for the mlp on digits, 0.8 for the cnn, 7 for it on 28x28.
        seed: Number from which the initial weights follow.
        optimizer: Name and settings of the optimizer; None = the default one.
        schedule: Name and settings of the learning-rate schedule; None = constant.
    """

    objective = ("val/loss", "min")

    def __init__(
        self,
        network: Literal["softmax", "mlp", "cnn"] = "mlp",
        hidden_dim: int = 32,
        depth: int = 1,
        activation: Literal["relu", "tanh"] = "relu",
        loss: Literal["cross_entropy", "mse"] = "cross_entropy",
        shape: tuple[int, int, int] = (1, 28, 28),
        n_classes: int = 10,
        constraint: ConstraintName = "none",
        weight: float | None = None,
        clip: float | None = None,
        n_power_iterations: int | None = None,
        target: float | None = None,
        robustness: bool = False,
        seed: int = 0,
        optimizer: dict[str, Any] | None = None,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        _check_settings(network, hidden_dim, depth, activation, loss, shape, n_classes)
        self.save_hyperparameters()
        self.loss_name, self.n_classes, self.seed = loss, n_classes, seed
        self.constraint = _constraint(constraint, weight, clip, n_power_iterations, target)
        self.is_audited, self.is_attacked = robustness or constraint != "none", robustness
        self.full_weights = self.is_audited  # a penalty or a bound of bfloat16 weights is percents off
        shape = (shape[0], shape[1], shape[2])  # a list, when it comes from YAML
        with torch.random.fork_rng(devices=[]):  # torch's layers draw from the global generator alone
            torch.default_generator.set_state(draw(seed, "classifier/weights").get_state())
            if network == "cnn":
                self.network = cnn(shape, n_classes, hidden_dim, depth, activation)
            else:
                n_hidden = depth if network == "mlp" else 0
                self.network = mlp(math.prod(shape), n_classes, hidden_dim, n_hidden, activation)
        self.constraint.apply_to(self.network, torch.zeros(1, *shape))
        self._kept: list[tuple[Tensor, Tensor]] = []  # first images of the validation set, with their labels

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes, (B, C, H, W) to (B, K), in float32 at least; logits for the loss cross_entropy."""
        scores: Tensor = self.network(x)
        return scores.to(torch.promote_types(scores.dtype, torch.float32))

    def per_sample_loss(self, batch: Batch) -> Tensor:
        """The loss of each image, (B,): what `lightning_modules.dynamics` measures."""
        x, y = batch
        return self._losses(self(x), y)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The loss to minimise, mean over the batch, and the share of images classified correctly."""
        x, y = batch
        scores = self(x)
        terms = {"loss": self._losses(scores, y).mean(), "accuracy": _accuracy(scores, y)}
        penalty = self._penalty(x, y)
        if penalty is not None:
            terms |= {"loss": terms["loss"] + penalty, "penalty": penalty.detach()}
        return terms

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the same of the validation set."""
        x, y = batch
        scores = self(x)
        quantities = {"val/loss": self._losses(scores, y).mean(), "val/accuracy": _accuracy(scores, y)}
        self.log_dict(quantities, on_step=False, on_epoch=True, batch_size=len(x), sync_dist=True)
        if self.is_audited:
            self._keep(x, y, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Logs both bounds of the Lipschitz constant of the scores, and what `robustness` asks for."""
        if not self.is_audited:
            return
        x, y = (torch.cat(gathered(part))[:N_KEPT] for part in zip(*self._kept, strict=True))
        bounds = audit(self.network, x[:N_AUDITED], seed=self.seed)
        self.log_dict({"lipschitz/upper": bounds.upper, "lipschitz/lower": bounds.lower}, sync_dist=True)
        if self.is_attacked:
            found = measure_robustness(self.network, x, y, losses=self._losses, lipschitz=bounds.upper, seed=self.seed)
            self.log_dict({f"robustness/{name}": value for name, value in found.items()}, sync_dist=True)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """The optimizer's step, then what the constraint does to the weights: before any checkpoint is written."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.constraint.after_step(self.network)

    def configure_optimizers(self) -> Any:
        """The optimizer and schedule named in the settings."""
        return configure(self.parameters(), self.hparams["optimizer"], self.hparams["schedule"])

    def _penalty(self, x: Tensor, y: Tensor) -> Tensor | None:
        """The constraint's term, if it has one; with nothing to interpolate, gradients are taken at the images."""
        ones = torch.ones(len(x), device=x.device)
        return self.constraint.penalty(self.network, x, x, ones, critic=lambda images: self._losses(self(images), y))

    def _keep(self, x: Tensor, y: Tensor, batch_idx: int) -> None:
        """Keeps the first N_KEPT images of this validation."""
        if batch_idx == 0:
            self._kept = []
        n_kept = sum(len(labels) for _, labels in self._kept)
        if n_kept < N_KEPT:
            self._kept.append((x[: N_KEPT - n_kept].clone(), y[: N_KEPT - n_kept].clone()))

    def _losses(self, scores: Tensor, y: Tensor) -> Tensor:
        if self.loss_name == "cross_entropy":
            return F.cross_entropy(scores, y, reduction="none")
        one_hot = y.unsqueeze(1) == torch.arange(self.n_classes, device=y.device)  # F.one_hot does not work under vmap
        return 0.5 * (scores - one_hot.to(scores.dtype)).square().sum(1)


def mlp(n_in: int, n_out: int, hidden_dim: int, depth: int, activation: str) -> nn.Sequential:
    """n_in - hidden_dim, `depth` times - n_out; (B, ...) to (B, n_out). Depth 0 is a linear map.

    >>> [tuple(p.shape) for p in mlp(64, 10, hidden_dim=16, depth=1, activation="tanh").parameters()]
    [(16, 64), (16,), (10, 16), (10,)]
    """
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = [n_in, *[hidden_dim] * depth, n_out]
    for n_from, n_to in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(n_from, n_to), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], n_out))


def cnn(shape: tuple[int, int, int], n_out: int, filters: int, depth: int, activation: str) -> nn.Sequential:
    """`depth` 3x3 convolutions that halve the image, rounded up - n_out; (B, C, H, W) to (B, n_out)."""
    channels, height, width = shape
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(channels, filters, 3, stride=2, padding=1), ACTIVATIONS[activation]()]
        channels, height, width = filters, (height + 1) // 2, (width + 1) // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, n_out))


def _constraint(
    name: str, weight: float | None, clip: float | None, n_power_iterations: int | None, target: float | None
) -> Constraint:
    """The constraint of that name, if a classifier can have it."""
    if name in PAIRED:
        allowed = ", ".join(known for known in CONSTRAINTS if known not in PAIRED)
        raise ValueError(f"model.constraint = {name}: needs generated images; a classifier takes one of {allowed}")
    try:
        return make_constraint(name, weight=weight, clip=clip, n_power_iterations=n_power_iterations, target=target)
    except ValueError as error:
        raise ValueError(f"model.{error}") from error


def _accuracy(scores: Tensor, y: Tensor) -> Tensor:
    return (scores.argmax(1) == y).float().mean()


def _check_settings(
    network: str,
    hidden_dim: int,
    depth: int,
    activation: str,
    loss: str,
    shape: tuple[int, int, int],
    n_classes: int,
) -> None:
    """Refuses, by name, settings no classifier can be built from."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"model.shape = {tuple(shape)}: must be channels, height and width; (1, 28, 28) is MNIST's")
    side = min(shape[1:])
    for is_wrong, message in (
        (network not in ("softmax", "mlp", "cnn"), f"network = {network}: must be softmax, mlp or cnn"),
        (hidden_dim < 1, f"hidden_dim = {hidden_dim}: must be at least 1; 32 suits 8x8 images"),
        (depth < 1, f"depth = {depth}: must be at least 1; for no hidden layer use --model.network softmax"),
        (
            network == "cnn" and 2**depth > side,
            f"depth = {depth}: image {shape[1]}x{shape[2]} can be halved {side.bit_length() - 1} times at most",
        ),
        (activation not in ACTIVATIONS, f"activation = {activation}: must be relu or tanh"),
        (loss not in ("cross_entropy", "mse"), f"loss = {loss}: must be cross_entropy or mse"),
        (n_classes < 2, f"n_classes = {n_classes}: must be at least 2; give data with more than one class"),
    ):
        if is_wrong:
            raise ValueError(f"model.{message}")
