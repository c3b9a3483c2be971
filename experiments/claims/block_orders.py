"""Claims on the three orders in which blocks place their norms (G1): GPT-2's, BERT's and GPT2_ML's.

Legend: R models of each order, which begin from the same weights and read the same windows. Losses are of text held
out, in nats a character.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from experiments.claims.context import Context
from experiments.claims.registry import Axes, Claim, Evidence
from experiments.claims.repetitions import mean_evidence, mean_points
from experiments.claims.small_transformers import (
    Order,
    Shape,
    Training,
    corpus,
    first_weights,
    losses,
    pretrained,
    validation_losses,
    windows,
)

DEEP = 12  # blocks
LR = 4e-3


def n_models(context: Context) -> int:
    """R."""
    return context.design("models", 6, 16)


def shallow(context: Context, order: Order = "gpt2_ml") -> Training:
    """Two blocks, after a warm-up."""
    return Training(Shape(order), context.design("steps", 200, 2000), LR, warmup=30)


def deep(context: Context, *, warms_up: bool) -> Training:
    """Twelve blocks of GPT2_ML whose first step has the full rate, or after a warm-up over half of the steps."""
    n_steps = context.design("deep_steps", 120, 400)
    return Training(Shape("gpt2_ml", n_layers=DEEP, length=24), n_steps, LR, n_steps // 2 if warms_up else 1)


def validation(context: Context, training: Training) -> Tensor:
    """Losses (R,) after a training on the documentation."""
    n = n_models(context)
    held_out = corpus("documentation", context.seed, n).validation
    return validation_losses(pretrained(context.seed, n, training), held_out, training.shape)


def shallow_difference(context: Context, order: Order, other: Order) -> Evidence:
    """Loss of two blocks in an order less that in another."""
    found, against = (validation(context, shallow(context, each)) for each in (order, other))
    return mean_evidence(f"loss of {order} less {other}, nats a character", found - against)


def warmup_gain(context: Context) -> Evidence:
    """Loss of GPT2_ML's twelve blocks without warm-up less that with."""
    without, after = (validation(context, deep(context, warms_up=each)) for each in (False, True))
    return mean_evidence("loss without warm-up less with, nats a character", without - after)


def gradient_ratio(context: Context, order: Order) -> Evidence:
    """Norm of the first gradient in the first of twelve blocks over that in the last."""
    shape, n = Shape(order, n_layers=DEEP), context.design("gradients", 12, 48)
    weights = first_weights(shape, n, context.generator("gradient/weights"))
    for weight in weights.values():
        weight.requires_grad_()
    rows = windows(corpus("documentation", context.seed, n).train, 16, shape.length + 1, context.generator("gradient"))
    losses(weights, rows, shape).sum().backward()  # type: ignore[no-untyped-call]
    norms = np.stack([_norm(weights, layer) for layer in range(DEEP)], 1)  # (R, DEEP)
    points = mean_points(np.arange(1, DEEP + 1), norms / norms[:, -1:])
    axes = Axes("block", "norm of the gradient / that of the last block", log_y=True)
    return mean_evidence("norm in the first block / in the last", norms[:, 0] / norms[:, -1], points, axes=axes)


def _norm(weights: dict[str, Tensor], layer: int) -> np.ndarray:
    """Of the gradient (R,) of a block's matrices."""
    gradients = [weights[f"{layer}.{name}"].grad for name in ("qkv", "mix", "widen", "narrow")]
    flat = torch.cat([gradient.flatten(1) for gradient in gradients if gradient is not None], 1)
    norms: np.ndarray = flat.norm(dim=1).double().numpy()
    return norms


claim = partial(Claim, article=7292, question="7292-blocks")
CLAIMS = (
    claim(
        id="7292-G1.1",
        statement="With two blocks of equal size, after as many tokens, GPT2_ML's order has the loss of GPT-2's.",
        statement_zh="两层、同等规模、同样多的词时，GPT2_ML 的结构与 GPT-2 的损失相同。",
        formula=r"\ell_{\text{GPT2\_ML}} - \ell_{\text{GPT-2}} = 0",
        probe=partial(shallow_difference, order="gpt2_ml", other="gpt2"),
        rule="equals",
        expected=0,
        tolerance=0.05,
        reason="2 % of a loss of 2.7 nats.",
        source="the figures of the three blocks",
    ),
    claim(
        id="7292-G1.2",
        statement="With two blocks of equal size, after as many tokens, GPT2_ML's order has the loss of BERT's.",
        statement_zh="两层、同等规模、同样多的词时，GPT2_ML 的结构与 BERT 的损失相同。",
        formula=r"\ell_{\text{GPT2\_ML}} - \ell_{\text{BERT}} = 0",
        probe=partial(shallow_difference, order="gpt2_ml", other="bert"),
        rule="equals",
        expected=0,
        tolerance=0.05,
        reason="As G1.1.",
        source="the figures of the three blocks",
    ),
    claim(
        id="7292-G1.3",
        statement="With twelve blocks GPT2_ML's order needs a warm-up: without one it is 0.05 nats behind.",
        statement_zh="十二层时 GPT2_ML 的结构需要学习率预热：不预热则每字符损失高出 0.05 奈特以上。",
        formula=r"\ell_{\text{cold}} - \ell_{\text{warm}} \ge 0.05",
        probe=warmup_gain,
        rule="at least",
        expected=0.05,
        tolerance=0,
        reason="2 % of the loss, the tolerance of G1.1.",
        source="the figures of the three blocks, at depth",
    ),
    claim(
        id="7292-G1.4",
        statement="The first gradient of twelve blocks is as large in GPT2_ML's first block as in its last.",
        statement_zh="十二层 GPT2_ML 的首次梯度在第一层与最后一层大小相当。",
        formula=r"\lVert g_1\rVert / \lVert g_{12}\rVert = 1",
        probe=partial(gradient_ratio, order="gpt2_ml"),
        rule="equals",
        expected=1,
        tolerance=0.5,
        reason="A factor of 2 over twelve blocks is 6 % a block.",
        source="the figures of the three blocks, at depth",
    ),
    claim(
        id="7292-G1.5",
        statement="In GPT-2's order the first block's first gradient is twice the last one's.",
        statement_zh="在 GPT-2 的结构中，第一层的首次梯度是最后一层的两倍以上。",
        formula=r"\lVert g_1\rVert / \lVert g_{12}\rVert \ge 2",
        probe=partial(gradient_ratio, order="gpt2"),
        rule="at least",
        expected=2,
        tolerance=0,
        reason="The state grows as the root of the number of blocks, by which each gradient is divided.",
        source="the figures of the three blocks, at depth",
    ),
)
