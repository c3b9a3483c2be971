"""An image classifier small enough to measure everything about: softmax regression, an MLP or a small CNN.

Shapes: B images of C channels, H x W pixels; K classes.
"""

import itertools
import math
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.data.sampling import draw
from lightning_modules.optimizers import configure

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
        seed: int = 0,
        optimizer: dict[str, Any] | None = None,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        _check_settings(network, hidden_dim, depth, activation, loss, shape, n_classes)
        self.save_hyperparameters()
        self.loss_name, self.n_classes = loss, n_classes
        shape = (shape[0], shape[1], shape[2])  # a list, when it comes from YAML
        with torch.random.fork_rng(devices=[]):  # torch's layers draw from the global generator alone
            torch.default_generator.set_state(draw(seed, "classifier/weights").get_state())
            if network == "cnn":
                self.network = cnn(shape, n_classes, hidden_dim, depth, activation)
            else:
                n_hidden = depth if network == "mlp" else 0
                self.network = mlp(math.prod(shape), n_classes, hidden_dim, n_hidden, activation)

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
        return {"loss": self._losses(scores, y).mean(), "accuracy": _accuracy(scores, y)}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the same of the validation set."""
        x, y = batch
        scores = self(x)
        quantities = {"val/loss": self._losses(scores, y).mean(), "val/accuracy": _accuracy(scores, y)}
        self.log_dict(quantities, on_step=False, on_epoch=True, batch_size=len(x), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The optimizer and schedule named in the settings."""
        return configure(self.parameters(), self.hparams["optimizer"], self.hparams["schedule"])

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
