"""Classifiers of scikit-learn's digits under Lipschitz constraints, trained side by side, and what breaks them.

Legend: R networks 64-64-64-10, each with its own split of the 1,797 digits; B images of a batch; N of the test.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from experiments.claims.context import Context
from experiments.claims.stacked_networks import (
    Held,
    Layers,
    Name,
    first_layers,
    forward,
    gradient_norms,
    parameters,
    true_norms,
)
from lightning_modules.data.sampling import draw
from lightning_modules.lipschitz.attacks import few_pixels, fgsm
from lightning_modules.lipschitz.perturbation import gaussian, worst_case

N_TRAIN, N_TEST, BATCH = 300, 360, 100
SPAN = (0.0, 1.0)
RADIUS = 0.1  # of FGSM, a share of the range


@dataclass(frozen=True)
class Recipe:
    """How a constraint is set.

    Args:
        name: Of the constraint; gp is lambda |gradient of the loss in x|^2.
        weight: lambda.
        target: Bound of the network's norm, with sn and sn_cold.
    """

    name: Name = "none"
    weight: float = 0.0
    target: float = 5.0


@dataclass(frozen=True)
class Classifiers:
    """R trained networks with the constraint applied, and their test images.

    Args:
        layers: As used.
        x: (R, N, 64), pixels in [0, 1].
        y: (R, N).
    """

    layers: Layers
    x: Tensor
    y: Tensor

    def accuracy(self, x: Tensor) -> np.ndarray:
        """Share (R,) of images x (R, N, 64) that get their class."""
        with torch.no_grad():
            hits = forward(self.layers, x).argmax(-1) == self.y
        shares: np.ndarray = hits.double().mean(1).numpy()
        return shares

    def fgsm_accuracy(self) -> np.ndarray:
        """The same after FGSM (R,)."""
        return self.accuracy(fgsm(lambda x, y: losses(self.layers, x, y), self.x, self.y, RADIUS, SPAN))

    def nll(self) -> np.ndarray:
        """Mean test loss (R,) in nats."""
        with torch.no_grad():
            return losses(self.layers, self.x, self.y).mean(1).double().numpy()

    def bound(self) -> np.ndarray:
        """Product of the layers' spectral norms (R,)."""
        products: np.ndarray = true_norms(self.layers).double().prod(1).numpy()
        return products

    def sensitivity(self) -> np.ndarray:
        """Mean over test images of |f(x + dx) - f(x)| / |dx| (R,), dx normal of deviation 0.1."""
        dx = 0.1 * torch.randn(self.x.shape, generator=draw(0, "digits/noise"))
        with torch.no_grad():
            moved = forward(self.layers, self.x + dx) - forward(self.layers, self.x)
        ratios: np.ndarray = (moved.norm(dim=-1) / dx.norm(dim=-1)).mean(1).double().numpy()
        return ratios

    def steepest(self) -> np.ndarray:
        """Largest norm of a Jacobian at a test image (R,): a lower bound of the Lipschitz constant."""
        x = self.x.clone().requires_grad_()
        scores = forward(self.layers, x)
        rows = [torch.autograd.grad(each.sum(), x, retain_graph=True)[0] for each in scores.unbind(-1)]
        jacobian = torch.stack(rows, 2)  # (R, N, 10, 64)
        largest: np.ndarray = torch.linalg.matrix_norm(jacobian, 2).amax(1).double().numpy()
        return largest

    def one_pixel_accuracy(self, n_images: int) -> np.ndarray:
        """Share (R,) of the first images that keep their class whatever value one pixel takes."""
        kept = []
        for r in range(len(self.x)):
            own, x, y = self._one(r), self.x[r, :n_images].view(-1, 1, 8, 8), self.y[r, :n_images]

            def of(images: Tensor, labels: Tensor, own: Layers = own) -> Tensor:
                return losses(own, images.view(1, -1, 64), labels[None])[0]

            attacked = few_pixels(of, x, y, 1, SPAN)[0].view(1, -1, 64)
            with torch.no_grad():
                kept.append(float((forward(own, attacked)[0].argmax(-1) == y).float().mean()))
        return np.array(kept)

    def moved_accuracy(self, fraction: float, *, is_worst: bool) -> np.ndarray:
        """Accuracy (R,) with every weight tensor moved by that share of its norm, at random or against the loss."""
        return np.array([self._moved(r, fraction, is_worst) for r in range(len(self.x))])

    def _moved(self, r: int, fraction: float, is_worst: bool) -> float:
        x, y = self.x[r : r + 1], self.y[r : r + 1]
        named = {str(i): tensor for i, tensor in enumerate(parameters(self._one(r)))}

        def layers_of(tensors: dict[str, Tensor]) -> Layers:
            values = list(tensors.values())
            return list(zip(values[::2], values[1::2], strict=True))

        if is_worst:
            moved = [worst_case(lambda tensors: losses(layers_of(tensors), x, y).mean(), named, fraction)]
        else:
            generator = draw(r, "digits/weights")
            moved = [gaussian(named, fraction, generator) for _ in range(5)]
        with torch.no_grad():
            hits = [(forward(layers_of(tensors), x).argmax(-1) == y).float().mean() for tensors in moved]
        return float(torch.stack(hits).mean())

    def _one(self, r: int) -> Layers:
        return [(W[r : r + 1], b[r : r + 1]) for W, b in self.layers]


def losses(layers: Layers, x: Tensor, y: Tensor) -> Tensor:
    """Cross entropy (R, B) in nats of images x (R, B, 64) with labels y (R, B)."""
    scores = forward(layers, x)
    return scores.logsumexp(-1) - scores.gather(-1, y[..., None])[..., 0]


def trained(context: Context, recipe: Recipe) -> Classifiers:
    """Networks trained under a constraint, on 300 digits each so that they can overfit."""
    return _trained(context.seed, context.design("networks", 10, 40), context.design("steps", 300, 2000), recipe)


@functools.lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor]:
    """Pixels in [0, 1], float32 (1797, 64), and labels (1797,)."""
    from sklearn.datasets import load_digits  # slow to import

    found = load_digits()
    return torch.from_numpy(found.data).float() / 16, torch.from_numpy(found.target)


@functools.lru_cache(maxsize=64)
def _trained(seed: int, n: int, n_steps: int, recipe: Recipe) -> Classifiers:
    """Kept, because several claims measure the same ones."""
    images, labels = _digits()
    rows = torch.rand((n, len(labels)), generator=draw(seed, "digits/split")).argsort(1)
    x, y = images[rows], labels[rows]
    layers = first_layers((64, 64, 64, 10), n, draw(seed, "digits/first"))
    held = Held(recipe.name, recipe.weight, recipe.target)
    optimizer = torch.optim.Adam(parameters(layers), lr=3e-3, fused=True)
    generator, each = draw(seed, "digits/batches"), torch.arange(n)[:, None]
    for step in range(n_steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / n_steps)
        chosen = torch.randint(N_TRAIN, (n, BATCH), generator=generator)
        batch_x, batch_y = x[each, chosen], y[each, chosen]
        used = held.applied(layers)
        loss = losses(used, batch_x, batch_y).mean(1).sum() + held.penalty(layers)
        if recipe.name == "gp":
            norms = gradient_norms(partial(losses, layers, y=batch_y), batch_x)
            loss = loss + recipe.weight * norms.square().mean(1).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        final = [(W.detach(), b.detach()) for W, b in held.applied(layers)]
    return Classifiers(final, x[:, -N_TEST:], y[:, -N_TEST:])
