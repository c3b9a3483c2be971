"""Small language models in three orders of their blocks, many side by side; the text and the windows they read.

Legend: R models, trained independently of one another; B windows of T characters; L blocks of width D with A heads;
V characters; a layer is W (R, in, out) and b (R, 1, out). Losses are in nats a character.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.data.sampling import draw

Order = Literal["gpt2", "bert", "gpt2_ml"]
Weights = dict[str, Tensor]
V = 96  # the line break, and what of ASCII prints
EPSILON = 1e-5  # of every norm
HELD_OUT = 0.1  # share of a text that validates


@dataclass(frozen=True)
class Shape:
    """What a model computes.

    Args:
        order: of the norms: gpt2 = before attention and network, and a last one; bert = after each sum; gpt2_ml =
            before the network, beside its residual, and after it. The last two norm the embeddings.
        n_layers: L.
        width: D.
        n_heads: A.
        length: T.
    """

    order: Order = "gpt2_ml"
    n_layers: int = 2
    width: int = 32
    n_heads: int = 4
    length: int = 32


def first_weights(shape: Shape, n: int, generator: torch.Generator) -> Weights:
    """Weights of n models, normal of deviation 0.55 / sqrt(D): GPT-2's 0.02 at its width of 768; the same in any order.

    Returns:
        words (R, V, D), places (R, T, D) and, by block, those of attention and network; gains and biases of norms.
    """
    D = shape.width
    sizes = {"words": (V, D), "places": (shape.length, D)}
    for layer in range(shape.n_layers):
        for name, (n_in, n_out) in {
            "qkv": (D, 3 * D),
            "mix": (D, D),
            "widen": (D, 4 * D),
            "narrow": (4 * D, D),
        }.items():
            sizes[f"{layer}.{name}"] = (n_in, n_out)
    found = {name: 0.55 * D**-0.5 * torch.randn((n, *size), generator=generator) for name, size in sizes.items()}
    zeros = {f"{name}.b": W.new_zeros(n, 1, W.shape[-1]) for name, W in found.items() if "." in name}
    norms = ["norm", *(f"{layer}.norm_{i}" for layer in range(shape.n_layers) for i in (0, 1))]
    gains = {name: torch.ones(n, 1, D) for name in norms}
    return {**found, **zeros, **gains, **{f"{name}.b": torch.zeros(n, 1, D) for name in norms}}


def states(weights: Weights, ids: Tensor, shape: Shape) -> Tensor:
    """What the head reads, (R, B, T, D), of characters (R, B, T)."""
    n, n_rows, length = ids.shape
    table = ids + V * torch.arange(n)[:, None, None]  # one table of all models: a gather with a fast gradient
    h = F.embedding(table, weights["words"].flatten(0, 1)) + weights["places"][:, None, :length]
    h = h.flatten(1, 2)  # (R, B T, D)

    def layer(name: str, x: Tensor) -> Tensor:
        return torch.baddbmm(weights[f"{name}.b"], x, weights[name])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=EPSILON) * weights[name] + weights[f"{name}.b"]

    def attention(i: int, x: Tensor) -> Tensor:
        heads = layer(f"{i}.qkv", x).view(n * n_rows, length, 3, shape.n_heads, -1)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # (R B, A, T, D / A) each
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return layer(f"{i}.mix", mixed.transpose(1, 2).reshape(x.shape))

    def network(i: int, x: Tensor) -> Tensor:
        return layer(f"{i}.narrow", F.gelu(layer(f"{i}.widen", x)))

    if shape.order != "gpt2":
        h = norm("norm", h)
    for i in range(shape.n_layers):
        first, second = f"{i}.norm_0", f"{i}.norm_1"
        if shape.order == "gpt2":
            u = h + attention(i, norm(first, h))
            h = u + network(i, norm(second, u))
        elif shape.order == "bert":
            u = norm(first, h + attention(i, h))
            h = norm(second, u + network(i, u))
        else:
            u = h + attention(i, h)
            h = norm(second, u + network(i, norm(first, u)))
    if shape.order == "gpt2":
        h = norm("norm", h)
    return h.view(n, n_rows, length, -1)


def losses(weights: Weights, windows: Tensor, shape: Shape) -> Tensor:
    """Mean loss (R,) of the characters 1 to T of windows (R, B, T + 1); the head is the table of words."""
    h = states(weights, windows[..., :-1], shape).flatten(1, 2)
    logits = h @ weights["words"].mT
    nats = F.cross_entropy(logits.flatten(0, 1), windows[..., 1:].flatten(), reduction="none")
    return nats.view(len(windows), -1).mean(1)


@functools.lru_cache(maxsize=2)
def text(name: Literal["documentation", "code"]) -> Tensor:
    """Characters of Python's own help on its topics, or of the code of its argparse, as numbers below V."""
    if name == "documentation":
        from pydoc_data.topics import topics  # 0.7 MB, of no use to other claims

        found = "\n\n".join(topics[key] for key in sorted(topics))
    else:
        import argparse

        found = inspect.getsource(argparse)
    return as_numbers(found)


def as_numbers(content: str) -> Tensor:
    r"""0 for a line break, 1 to 95 for printing ASCII, a question mark's number for anything else.

    >>> as_numbers("a\n~").tolist()
    [66, 0, 95]
    """
    codes = torch.tensor(list(content.encode("ascii", "replace")))
    return torch.where(codes == ord("\n"), 0, torch.where((codes >= 32) & (codes < 127), codes - 31, ord("?") - 31))


@dataclass(frozen=True)
class Corpus:
    """A text, begun elsewhere for each model; its end validates.

    Args:
        train: (R, characters).
        validation: (R, characters).
    """

    train: Tensor
    validation: Tensor


def corpus(name: Literal["documentation", "code"], seed: int, n: int) -> Corpus:
    """The text for n models."""
    content = text(name)
    starts = torch.randint(len(content), (n,), generator=draw(seed, "transformers/split"))
    turned = torch.stack([content.roll(-int(start)) for start in starts])
    cut = round((1 - HELD_OUT) * len(content))
    return Corpus(turned[:, :cut], turned[:, cut:])


def windows(content: Tensor, n_rows: int, length: int, generator: torch.Generator) -> Tensor:
    """Random windows (R, n_rows, length) of each model's text (R, characters)."""
    first = torch.randint(content.shape[1] - length + 1, (len(content), n_rows, 1), generator=generator)
    return content[torch.arange(len(content))[:, None, None], first + torch.arange(length)]


@dataclass(frozen=True)
class Training:
    """How language models are trained, by Adam with clipped gradients; lr falls linearly to 0 after its warm-up.

    Args:
        shape: of the models.
        n_steps: of batches of `batch` windows.
        lr: the largest.
        warmup: steps in which lr grows from 0.
        batch: B.
    """

    shape: Shape = Shape()
    n_steps: int = 200
    lr: float = 4e-3
    warmup: int = 30
    batch: int = 8

    def rate(self, step: int) -> float:
        """The learning rate of a 0-based step."""
        return self.lr * min(
            (step + 1) / max(1, self.warmup), 1.0, (self.n_steps - step) / (self.n_steps - self.warmup)
        )


@functools.lru_cache(maxsize=32)
def pretrained(seed: int, n: int, training: Training) -> Weights:
    """Weights of n models trained on the documentation; kept, because several claims measure the same ones."""
    shape = training.shape
    weights = first_weights(shape, n, draw(seed, "transformers/first", shape.n_layers))
    content, batches = corpus("documentation", seed, n).train, draw(seed, "transformers/batches")
    for weight in weights.values():
        weight.requires_grad_()
    optimizer = torch.optim.Adam(weights.values(), lr=training.lr, betas=(0.9, 0.98), fused=True)
    for step in range(training.n_steps):
        optimizer.param_groups[0]["lr"] = training.rate(step)
        rows = windows(content, training.batch, shape.length + 1, batches)
        losses(weights, rows, shape).sum().backward()  # type: ignore[no-untyped-call]
        clip(list(weights.values()))
        optimizer.step()
        optimizer.zero_grad()
    return {name: weight.detach() for name, weight in weights.items()}


def clip(weights: list[Tensor]) -> None:
    """Shortens each model's gradient to a norm of 1 at most."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0)
    factor = squares.sqrt().clamp(min=1).reciprocal()  # (R,)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))


@torch.no_grad()
def validation_losses(weights: Weights, content: Tensor, shape: Shape, n_rows: int = 128) -> Tensor:
    """Mean loss (R,) over the same random windows whatever the weights."""
    return losses(weights, windows(content, n_rows, shape.length + 1, draw(0, "transformers/validation")), shape)
