"""Claims on the edge of stability, where full-batch descent of a real network ends (S3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch

from experiments.claims.context import Context
from experiments.claims.intervals import jackknife
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from lightning_modules.dynamics.curvature import top_eigenvalues
from lightning_modules.optimizers.momentum import Momentum


def edge_of_stability(context: Context, beta: float) -> Evidence:
    """Sharpness times learning rate late in full-batch descent; mean of networks with weights and data of their own.

    A tanh network with 16 hidden units, half the squared distance to one-hot labels of 100 digits, lr 0.8.
    """
    n_networks, n_steps = context.design("n_networks", 8, 16), context.design("n_steps", 800, 6000)
    lr, every = 0.8, 100
    inputs, targets = _digit_sets(context.generator("edge/data"), n_networks, n_rows=100)
    weights = _initial_weights(context.generator("edge/weights"), n_networks, n_units=16)
    optimizer = Momentum(list(weights.values()), lr=lr, beta=beta)
    sharpness: list[list[float]] = []
    for step in range(n_steps + 1):
        if step % every == 0:
            own = [{name: weight[k].detach() for name, weight in weights.items()} for k in range(n_networks)]
            rows = zip(inputs, targets, strict=True)
            sharpness.append([float(top_eigenvalues(_losses, w, r).values[0]) for w, r in zip(own, rows, strict=True)])
        optimizer.zero_grad()
        _losses(weights, (inputs, targets)).mean(1).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    products = lr * np.array(sharpness)
    late = jackknife(products[len(products) // 2 :].mean(0), float)
    means = [jackknife(row, float) for row in products]
    return Evidence(
        "mean of lr lambda_max over the second half of training",
        late.estimate,
        late.low,
        late.high,
        late.n,
        tuple(Point(every * k, one.estimate, one.low, one.high, "networks' mean") for k, one in enumerate(means)),
        tuple(Curve(x, 2 * (1 + beta), "2 (1 + beta)") for x in (0, n_steps)),
        Axes("step", "lr times largest Hessian eigenvalue"),
    )


def _digit_sets(generator: torch.Generator, n_networks: int, n_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Centred pixels (networks, rows, 64) and one-hot labels (networks, rows, 10) of random digits."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    inputs = torch.from_numpy(digits.data / 16 - digits.data.mean(0) / 16).float()
    targets = torch.nn.functional.one_hot(torch.from_numpy(digits.target)).float()
    chosen = torch.stack([torch.randperm(len(inputs), generator=generator)[:n_rows] for _ in range(n_networks)])
    return inputs[chosen], targets[chosen]


def _initial_weights(generator: torch.Generator, n_networks: int, n_units: int) -> dict[str, torch.nn.Parameter]:
    """Weights of independent networks 64 - units - 10, of variance 1 / inputs; biases 0."""
    shapes = {"A": (64, n_units), "b": (1, n_units), "C": (n_units, 10), "c": (1, 10)}
    return {
        name: torch.nn.Parameter(
            torch.randn(n_networks, *shape, generator=generator) / math.sqrt(shape[0]) * (shape[0] > 1)
        )
        for name, shape in shapes.items()
    }


def _losses(weights: Mapping[str, torch.Tensor], rows: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Half the squared distance of each row's output from its target."""
    inputs, targets = rows
    outputs = torch.tanh(inputs @ weights["A"] + weights["b"]) @ weights["C"] + weights["c"]
    return (outputs - targets).square().sum(-1) / 2


claim = partial(Claim, article=5655)
CLAIMS = (
    *(
        claim(
            id=f"5655-S3.{k}c",
            statement=f"Full-batch {name} ends at the edge of stability, sharpness {2 * (1 + beta):g} / lr.",
            statement_zh=f"全批量{name_zh}训练网络，最终处于稳定边缘：lr·λ_max = {2 * (1 + beta):g}。",
            formula=rf"\mathit{{lr}}\,\lambda_{{\max}} \to {formula}",
            probe=partial(edge_of_stability, beta=beta),
            rule="equals",
            expected=2 * (1 + beta),
            tolerance=0.2 * (1 + beta),
            reason="Sharpness hovers a few per cent above the edge (Cohen et al. 2021); a tenth of the limit.",
            source="the width of the pit, after equation (9); Cohen et al. 2021",
            question="5655-rate",
        )
        for k, beta, name, name_zh, formula in (
            (11, 0.0, "gradient descent", "梯度下降", "2"),
            (12, 0.5, "momentum, beta = 0.5,", "动量（β = 0.5）", r"2 (1 + \beta)"),
        )
    ),
)
