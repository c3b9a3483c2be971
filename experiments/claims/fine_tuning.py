"""Claims on fine-tuning small models with Adafactor and Adam (G6), and on what pre-training gives a classifier (G7).

Legend: R models of GPT2_ML's order; B windows of T characters; K languages of N letters.
"""

from __future__ import annotations

import functools
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.claims.block_orders import n_models, shallow
from experiments.claims.context import Context
from experiments.claims.registry import Axes, Claim, Evidence
from experiments.claims.repetitions import mean_evidence, mean_points
from experiments.claims.small_transformers import (
    Shape,
    Weights,
    clip,
    corpus,
    first_weights,
    losses,
    pretrained,
    states,
    validation_losses,
    windows,
)
from lightning_modules.data.sampling import draw
from lightning_modules.optimizers import build

BATCH = 8
FACTORED = 16  # shortest axis that Adafactor factors: these matrices are far from its usual 128
ADVISED = 1e-3  # the rate that kexue.fm/archives/7302 names for Adafactor, and Adam's own default
# Tried one after another, the best counts; Adafactor's are relative to the size of what they change.
RATES = {"adafactor": (3e-2, 1e-1), "adam": (5e-3, 1e-2)}
N_LETTERS, N_LANGUAGES = 8, 4
NEXT, OTHER = 0.8, 0.1  # probabilities of a letter's two successors; else any letter follows
SHAPE = Shape()


def tuned_loss(context: Context, name: str, lr: float, *, is_pretrained: bool = True) -> Tensor:
    """Loss (R,) on code held out, of models that an optimizer has fitted to code at a rate that falls to 0."""
    n, steps = n_models(context), context.design("tuning_steps", 60, 300)
    first = first_weights(SHAPE, n, draw(context.seed, "transformers/first", SHAPE.n_layers))
    if is_pretrained:
        first = pretrained(context.seed, n, shallow(context))
    code = corpus("code", context.seed, n)
    # each model's own tensors, as Adafactor looks at a whole tensor's size
    owned = {key: [one.clone().requires_grad_() for one in weight] for key, weight in first.items()}
    settings = {"min_factored_dim": FACTORED} if name == "adafactor" else {}
    optimizer = build(name, [one for each in owned.values() for one in each], lr=lr, **settings)
    generator = context.generator("tuning")
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        rows = windows(code.train, BATCH, SHAPE.length + 1, generator)
        losses(_stacked(owned), rows, SHAPE).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return validation_losses(_stacked(owned), code.validation, SHAPE)


def _stacked(owned: dict[str, list[Tensor]]) -> Weights:
    return {key: torch.stack(each) for key, each in owned.items()}


def best_loss(context: Context, name: str) -> Tensor:
    """Loss (R,) at the rate, of those tried, whose mean over the models is the lowest."""
    tried = [tuned_loss(context, name, lr) for lr in RATES[name]]
    return min(tried, key=lambda found: float(found.mean()))


def advised_difference(context: Context) -> Evidence:
    """Loss after fine-tuning by Adafactor less that by Adam, both at the advised rate."""
    found, against = (tuned_loss(context, name, ADVISED) for name in ("adafactor", "adam"))
    return mean_evidence("loss by Adafactor less by Adam, nats a character", found - against)


def best_difference(context: Context) -> Evidence:
    """The same with each at its best rate."""
    found, against = (best_loss(context, name) for name in ("adafactor", "adam"))
    return mean_evidence("loss by Adafactor less by Adam, nats a character", found - against)


def tuning_gain(context: Context) -> Evidence:
    """Loss of models that begin from new weights less that of those that begin from pre-trained ones."""
    lr = RATES["adam"][0]
    new, tuned = (tuned_loss(context, "adam", lr, is_pretrained=each) for each in (False, True))
    return mean_evidence("loss from new weights less from pre-trained ones, nats a character", new - tuned)


def languages(seed: int, n: int) -> Tensor:
    """The two likeliest successors of each letter, (R, K, 2, N): permutations, so that all letters are as frequent."""
    return torch.rand(n, N_LANGUAGES, 2, N_LETTERS, generator=draw(seed, "languages")).argsort(-1)


def sentences(successors: Tensor, n_rows: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sentences (R, n_rows, length) and the language (R, n_rows) of each."""
    n = len(successors)
    each, shape = torch.arange(n)[:, None], (n, n_rows)
    language = torch.randint(N_LANGUAGES, shape, generator=generator)
    letters = [torch.randint(N_LETTERS, shape, generator=generator)]
    for _ in range(length - 1):
        chance, any_letter = (
            torch.rand(shape, generator=generator),
            torch.randint(N_LETTERS, shape, generator=generator),
        )
        first, second = (successors[each, language, i, letters[-1]] for i in (0, 1))
        letters.append(torch.where(chance < NEXT, first, torch.where(chance < NEXT + OTHER, second, any_letter)))
    return torch.stack(letters, -1), language


@functools.lru_cache(maxsize=4)
def speakers(seed: int, n: int, n_steps: int) -> tuple[Weights, Weights]:
    """New weights, and the same after learning to continue sentences whose language nobody tells."""
    first = first_weights(SHAPE, n, draw(seed, "languages/first"))
    weights = {key: weight.clone().requires_grad_() for key, weight in first.items()}
    successors, generator = languages(seed, n), draw(seed, "languages/sentences")
    optimizer = torch.optim.Adam(weights.values(), lr=4e-3, fused=True)
    for step in range(n_steps):
        optimizer.param_groups[0]["lr"] = 4e-3 * min((step + 1) / 30, 1 - step / n_steps)
        rows, _ = sentences(successors, 2 * BATCH, SHAPE.length + 1, generator)
        losses(weights, rows, SHAPE).sum().backward()  # type: ignore[no-untyped-call]
        clip(list(weights.values()))
        optimizer.step()
        optimizer.zero_grad()
    return first, {key: weight.detach() for key, weight in weights.items()}


def accuracy(context: Context, first: Weights, n_labels: int) -> np.ndarray:
    """Share (R,) of new sentences whose language is told, by models fitted to few that carry its name."""
    n, n_steps = n_models(context), 60
    successors, generator = languages(context.seed, n), context.generator(f"labels/{n_labels}")
    rows, names = sentences(successors, n_labels, SHAPE.length, generator)
    new_rows, new_names = sentences(successors, 300, SHAPE.length, context.generator("languages/test"))
    weights = {key: weight.clone().requires_grad_() for key, weight in first.items()}
    head = torch.zeros(n, SHAPE.width, N_LANGUAGES, requires_grad=True)
    optimizer = torch.optim.Adam([*weights.values(), head], lr=3e-3, fused=True)

    def scores(of: Tensor) -> Tensor:
        return states(weights, of, SHAPE).mean(2) @ head

    for step in range(n_steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / n_steps)
        chosen = torch.randint(n_labels, (n, 2 * BATCH), generator=generator)
        batch, wanted = (each[torch.arange(n)[:, None], chosen] for each in (rows, names))
        loss = F.cross_entropy(scores(batch).flatten(0, 1), wanted.flatten(), reduction="sum") / (2 * BATCH)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        hits = scores(new_rows).argmax(-1) == new_names
    shares: np.ndarray = hits.double().mean(1).numpy()
    return shares


def label_gain(context: Context) -> Evidence:
    """Accuracy with few labels from pre-trained weights less that from new ones, at the most labels."""
    starts = speakers(context.seed, n_models(context), context.design("sentences", 300, 1500))
    counts = context.design("labels", (16, 64), (16, 64, 256))
    shares = [np.stack([accuracy(context, first, count) for count in counts], 1) for first in starts]
    points = [
        point
        for series, each in zip(("new", "pre-trained"), shares, strict=True)
        for point in mean_points(counts, each, series)
    ]
    axes = Axes("labelled sentences", "accuracy", log_x=True)
    return mean_evidence(
        "accuracy from pre-trained weights less new ones", shares[1][:, -1] - shares[0][:, -1], points, axes=axes
    )


claim = partial(Claim, article=7292)
CLAIMS = (
    claim(
        id="7292-G6.1",
        statement="At the advised rate of 0.001 AdaFactor fine-tunes as well as Adam in as many steps.",
        statement_zh="取建议的学习率 0.001，AdaFactor 在相同步数内与 Adam 微调得一样好。",
        formula=r"\ell_{\text{AdaFactor}} - \ell_{\text{Adam}} \le 0.05",
        probe=advised_difference,
        rule="at most",
        expected=0.05,
        tolerance=0,
        reason="A tenth of what fine-tuning lowers the loss by.",
        source="the part on fine-tuning, with kexue.fm/archives/7302",
        question="7292-finetuning",
    ),
    claim(
        id="7292-G6.1c",
        statement="Each at its best rate, AdaFactor fine-tunes as well as Adam; its rate is relative to the weights.",
        statement_zh="各取最佳学习率时，AdaFactor 与 Adam 微调得一样好；其学习率是相对于参数大小的。",
        formula=r"\min_\eta \ell_{\text{AdaFactor}} - \min_\eta \ell_{\text{Adam}} \le 0.05",
        probe=best_difference,
        rule="at most",
        expected=0.05,
        tolerance=0,
        reason="As G6.1.",
        source="the part on fine-tuning, with kexue.fm/archives/7302",
        question="7292-finetuning",
    ),
    claim(
        id="7292-G7.1",
        statement="A model of prose, fine-tuned on code, beats one begun anew in as many steps.",
        statement_zh="用散文预训练的模型在代码上微调，优于相同步数内从零训练的模型。",
        formula=r"\ell_{\text{new}} - \ell_{\text{tuned}} \ge 0.2",
        probe=tuning_gain,
        rule="at least",
        expected=0.2,
        tolerance=0,
        reason="A tenth of a loss of 2 nats.",
        source="the opening, on what pre-trained models are for",
        question="7292-pretraining",
    ),
    claim(
        id="7292-G7.2",
        statement="With 64 labels a classifier that first read unlabelled sentences is right on 10 in 100 more.",
        statement_zh="先读无标注句子，再用 64 个标签训练分类器，准确率提高十个百分点以上。",
        formula=r"a_{\text{pre-trained}} - a_{\text{new}} \ge 0.1",
        probe=label_gain,
        rule="at least",
        expected=0.1,
        tolerance=0,
        reason="Twice the spread of an accuracy between models.",
        source="the opening, on what pre-trained models are for",
        question="7292-pretraining",
    ),
)
