"""Small things to measure: digits, classifiers on them, and a module as a function of its parameters."""

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from lightning_modules.classifier import Classifier
from lightning_modules.data.digits import Digits
from lightning_modules.dynamics.noise import Parameters, RowLosses


def digits(n: int) -> tuple[Tensor, Tensor]:
    """The first n training images and their labels."""
    x, y = Digits()._train
    return x[:n], y[:n]


def classifier(**settings: Any) -> Classifier:
    """For digits; 16 hidden units."""
    return Classifier(**{"shape": (1, 8, 8), "hidden_dim": 16, **settings})


def as_function(model: Classifier) -> tuple[RowLosses, dict[str, Tensor]]:
    """The losses of rows as a function of the parameters, and the parameters."""

    def losses(parameters: Parameters, rows: tuple[Tensor, Tensor]) -> Tensor:
        scores: Tensor = functional_call(model, dict(parameters), (rows[0],))
        return model._losses(scores, rows[1])

    return losses, {name: p.detach() for name, p in model.named_parameters()}


def gradient(model: Classifier, rows: tuple[Tensor, Tensor]) -> Tensor:
    """Of the mean loss, (P,), by plain autograd."""
    model.zero_grad()
    torch.autograd.backward(model.per_sample_loss(rows).mean())
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
