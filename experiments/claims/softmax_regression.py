"""A convex loss on real data: softmax regression on scikit-learn's digits.

Legend: N rows of data, R sets of them; theta (64, 10) has a row for each pixel.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from experiments.claims.context import Context
from experiments.claims.repetitions import F64, take_step
from lightning_modules.optimizers.rmsprop import RMSprop
from lightning_modules.optimizers.sgd import SGD

L2 = 1e-2  # half of it times |theta|^2 is added to the loss, which then has one minimum


@functools.lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor]:
    """Pixels in [0, 1] (1797, 64) and one-hot labels (1797, 10)."""
    from sklearn.datasets import load_digits  # slow to import

    digits = load_digits()
    labels = torch.nn.functional.one_hot(torch.from_numpy(digits.target), 10)
    return torch.from_numpy(digits.data).to(F64) / 16, labels.to(F64)


def subsets(context: Context, n: int, n_rows: int) -> tuple[Tensor, Tensor]:
    """Random sets of digits, drawn without replacement each: x (n, N, 64), y (n, N, 10)."""
    x, y = _digits()
    rows = torch.rand((n, len(x)), generator=context.generator("rows")).topk(n_rows, dim=1).indices
    return x[rows], y[rows]


def softmax_loss(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Mean cross entropy in nats plus L2 / 2 |theta|^2 of theta (..., 64, 10) on x (..., N, 64), y (..., N, 10)."""
    scores = x @ theta
    fit = (scores.logsumexp(-1) - (scores * y).sum(-1)).mean(-1)
    return fit + L2 / 2 * theta.square().sum((-2, -1))


def softmax_gradient(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Gradient (..., 64, 10) of `softmax_loss`."""
    return x.mT @ (torch.softmax(x @ theta, -1) - y) / x.shape[-2] + L2 * theta


def per_sample_gradients(context: Context, n_rows: int) -> Tensor:
    """Gradient of each of n_rows digits at theta = 0 (N, 640)."""
    x, y = (part[0] for part in subsets(context, 1, n_rows))
    return ((0.1 - y)[:, None, :] * x[:, :, None]).flatten(1)


def ln_excess(context: Context, kind: Literal["sgd", "vector", "scalar"], n: int, marks: Sequence[int]) -> np.ndarray:
    """The ln of loss - lowest loss (n, marks) on digits with minibatches of 32, each mark at its own best rate.

    Args:
        context: draws sets of digits and batches, the same for every kind.
        kind: SGD, or RMSprop with a rate for each number or one for all.
        n: sets of 256 digits.
        marks: numbers of steps.
    """
    x, y = subsets(context, n, 256)
    lowest = softmax_loss(_minimum(x, y), x, y)
    top = {"sgd": 3.2, "vector": 0.08, "scalar": 2.0}[kind]  # down to a 64th: past the best at marks from 1 to 500
    rates = [top / 2**k for k in range(7)]
    thetas = torch.zeros(len(rates), n, 64, 10, dtype=F64)
    # the scalar variant has one G a group: a group for each repetition
    moved = list(thetas.flatten(0, 1).unbind() if kind == "scalar" else thetas.unbind())
    groups = [{"params": [theta], "lr": rates[k * len(rates) // len(moved)]} for k, theta in enumerate(moved)]
    scale: Literal["vector", "scalar"] = "scalar" if kind == "scalar" else "vector"
    optimizer = SGD(groups) if kind == "sgd" else RMSprop(groups, beta=0.99, epsilon=1e-8, scale=scale)
    generator, each, found = context.generator("batches"), torch.arange(n)[:, None], []
    for step in range(1, marks[-1] + 1):
        rows = torch.randint(x.shape[1], (n, 32), generator=generator)
        g = softmax_gradient(thetas, x[each, rows], y[each, rows])
        take_step(optimizer, moved, (g.flatten(0, 1) if kind == "scalar" else g).unbind())
        if step in marks:
            found.append((softmax_loss(thetas, x, y) - lowest).min(0).values.log())
    return torch.stack(found, 1).numpy()


def _minimum(x: Tensor, y: Tensor) -> Tensor:
    """The minimum (R, 64, 10) of the softmax losses, by torch's L-BFGS."""
    theta = torch.zeros(len(x), 64, 10, dtype=F64, requires_grad=True)
    optimizer = torch.optim.LBFGS([theta], max_iter=200, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        theta.grad = softmax_gradient(theta.detach(), x, y)
        return softmax_loss(theta.detach(), x, y).sum()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return theta.detach()
