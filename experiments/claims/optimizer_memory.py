"""Claims on the memory that weights, gradients and an optimizer's state take (G2), against the article's 22 GB card.

Legend: V words, P positions, L blocks of width H with an inner width I; 4 bytes a number, GB = 10^9 bytes. Activations
are not counted.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch

from experiments.claims.context import Context
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from experiments.claims.repetitions import exact_evidence
from lightning_modules.optimizers import build

CARD = 22.0  # GB, as the article has its TITAN RTX
# Numbers kept for each weight; Adafactor keeps one for each row and each column of a matrix.
KEPT = {"sgd": 0, "momentum": 1, "nesterov": 1, "rmsprop": 1, "adagrad": 1, "lion": 1, "tiger": 1, "adam": 2}
TORCHS = {"torch.Adam": 2, "torch.AdamW": 2, "torch.RMSprop": 1}


class Sizes(NamedTuple):
    """What the numbers of a GPT2_ML follow from."""

    V: int
    P: int
    L: int
    H: int
    I: int  # noqa: E741 the legend's letter


PUBLIC = Sizes(V=21_130, P=1024, L=48, H=1536, I=6144)


def n_weights(sizes: Sizes) -> int:
    """Numbers to be trained; the head is the table of words."""
    V, P, L, H, inner = sizes
    block = 4 * (H * H + H) + 2 * H * inner + inner + H + 4 * H  # attention, network, two norms
    return V * H + P * H + 2 * H + L * block


def n_kept(sizes: Sizes, name: str) -> int:
    """Numbers of an optimizer's state."""
    if name != "adafactor":
        return (KEPT | TORCHS)[name] * n_weights(sizes)
    V, P, L, H, inner = sizes
    block = 4 * (2 * H + H) + 2 * (H + inner) + inner + H + 4 * H
    return V + H + P + H + 2 * H + L * block


def kind(name: str) -> str:
    """An optimizer by what it keeps."""
    kept = (KEPT | TORCHS).get(name)
    return "rows and columns" if kept is None else f"{kept} a weight"


def gigabytes(sizes: Sizes, name: str) -> float:
    """Weights, gradients and state."""
    return 4e-9 * (2 * n_weights(sizes) + n_kept(sizes, name))


def measured_bytes(sizes: Sizes, name: str) -> int:
    """Bytes of every weight, gradient and tensor of the state after a step."""
    from lightning_modules.gpt2.gpt2_ml import GPT2MLConfig, GPT2MLForCausalLM  # transformers: 2 CPU-s

    config: Any = GPT2MLConfig(
        vocab_size=sizes.V,
        max_position_embeddings=sizes.P,
        num_hidden_layers=sizes.L,
        hidden_size=sizes.H,
        num_attention_heads=4,
        intermediate_size=sizes.I,
    )
    with torch.random.fork_rng(devices=[]):
        model = GPT2MLForCausalLM(config)
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer = build(name, parameters, lr=1e-3)
    optimizer.step()
    state = [kept for each in optimizer.state.values() for kept in each.values() if torch.is_tensor(kept)]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return sum(tensor.numel() * tensor.element_size() for tensor in (*parameters, *gradients, *state))


def model_error(context: Context) -> Evidence:
    """Largest error of the formula over optimizers and two sizes, relative to what was measured."""
    sizes = [Sizes(V=300, P=128, L=2, H=H, I=3 * H) for H in context.design("widths", (128, 192), (128, 256, 512))]
    names = (*KEPT, *TORCHS, "adafactor")
    points = [
        Point(gigabytes(each, name) * 1e9, measured_bytes(each, name), series=kind(name))
        for each in sizes
        for name in names
    ]
    error = max(abs(point.x / point.y - 1) for point in points)
    axes = Axes("bytes by the formula", "bytes measured", log_x=True, log_y=True)
    return exact_evidence("largest relative error", error, len(points), points, axes=axes)


def adam_gigabytes(context: Context) -> Evidence:
    """What Adam takes for the public model."""
    return exact_evidence("GB of weights, gradients and both moments", gigabytes(PUBLIC, "adam"), 1)


def fitting(context: Context) -> Evidence:
    """How many of the optimizers here leave the public model's training below the card's size."""
    sizes = {name: gigabytes(PUBLIC, name) for name in (*KEPT, "adafactor")}
    points = [Point(i, size, series=kind(name)) for i, (name, size) in enumerate(sizes.items(), 1)]
    card = [Curve(place, CARD, "the card") for place in (1, len(sizes))]
    n_fitting = sum(size < CARD for size in sizes.values())
    axes = Axes("optimizer, by its number", "GB")
    return exact_evidence("optimizers below 22 GB", n_fitting, len(sizes), points, card, axes)


def adafactor_share(context: Context) -> Evidence:
    """Adafactor's state over the weights."""
    return exact_evidence("state / weights", n_kept(PUBLIC, "adafactor") / n_weights(PUBLIC), 1)


claim = partial(Claim, article=7292, question="7292-finetuning")
CLAIMS = (
    claim(
        id="7292-G2.1",
        statement="Adam needs more than 22 GB for GPT2_ML before the first activation, at whatever batch.",
        statement_zh="无论批大小，Adam 训练 GPT2_ML 在任何激活值之前就需要超过 22 GB 显存。",
        formula=r"4\,(w + g + m + v) = 16 \times 1.394 \times 10^9 \ge 22\ \text{GB}",
        probe=adam_gigabytes,
        rule="at least",
        expected=CARD,
        tolerance=0,
        reason="The article's figure; a TITAN RTX has 25.8 GB (24 GiB), which leaves 3.5 to activations.",
        source="the part on fine-tuning",
    ),
    claim(
        id="7292-G2.2",
        statement="AdaFactor is the only optimizer with which GPT2_ML's weights and gradients stay below 22 GB.",
        statement_zh="只有 AdaFactor 能使 GPT2_ML 的参数、梯度与优化器状态低于 22 GB。",
        formula=r"\#\{\text{optimizers}: 4\,(w + g + \text{state}) < 22\ \text{GB}\} = 1",
        probe=fitting,
        rule="equals",
        expected=1,
        tolerance=0,
        reason="A count, among nine optimizers.",
        source="the part on fine-tuning",
    ),
    claim(
        id="7292-G2.2c",
        statement="AdaFactor adapts a rate to every weight and adds less than 1 % to their memory; others add 100 %.",
        statement_zh="AdaFactor 为每个参数自适应学习率，而占用不到参数的 1%；其他自适应优化器至少占 100%。",
        formula=r"\sum (n + m) / \sum n m \le 0.01",
        probe=adafactor_share,
        rule="at most",
        expected=0.01,
        tolerance=0,
        reason="Of a matrix 1536 x 1536 it is 0.13 %.",
        source="the part on fine-tuning, with kexue.fm/archives/7302",
    ),
    claim(
        id="7292-G2.3",
        statement="Counting rows, columns and weights tells what an optimizer takes to 2 %.",
        statement_zh="按行、列与参数个数计算，优化器占用的内存误差不超过 2%。",
        formula=r"\lvert \text{formula} / \text{measured} - 1\rvert \le 0.02",
        probe=model_error,
        rule="at most",
        expected=0.02,
        tolerance=0,
        reason="Counters of steps, which the formula leaves out, are 4 bytes a tensor.",
        source="the part on fine-tuning",
    ),
)
