"""Claims on how a language model generates: the law of its draws (G3), its order (G4) and its cache (G5).

Legend: R repetitions; B rows; T tokens; V vocabulary. Networks have two blocks and random weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from experiments.claims.context import Context
from experiments.claims.intervals import slope
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point
from experiments.claims.repetitions import F64, exact_evidence, mean_evidence

if TYPE_CHECKING:
    from transformers import PreTrainedModel

V, T = 100, 128
LEAST = 5.0  # expected draws of a token that is counted by itself in a chi-squared
# top_k, top_p and temperature: the article's, the public code's, and all together
TRUNCATIONS = ((5, 1.0, 1.0), (V, 0.95, 1.0), (50, 0.9, 0.8))


def truncated(logits: np.ndarray, top_k: int, top_p: float, temperature: float) -> np.ndarray:
    """Probabilities (V,) by the definition: the k likeliest, of those the fewest whose sum reaches p, divided by it."""
    shares = np.exp(logits / temperature)
    order = np.argsort(-shares)[:top_k]
    kept = shares[order] / shares[order].sum()
    n_kept = int(np.searchsorted(kept.cumsum(), top_p)) + 1
    law = np.zeros_like(shares)
    law[order[:n_kept]] = kept[:n_kept] / kept[:n_kept].sum()
    return law


def chi_squared_ratio(context: Context) -> Evidence:
    """Chi-squared of draws against the truncated law, over its degrees of freedom, the truncations added up."""
    from lightning_modules.gpt2.sampling import Truncation

    n_draws, generator, found = context.design("draws", 4000, 40_000), context.generator("draws"), []
    for _ in range(context.design("laws", 40, 200)):
        logits = 1.5 * torch.randn(V, generator=generator, dtype=F64)
        total, degrees = 0.0, 0
        for top_k, top_p, temperature in TRUNCATIONS:
            uniform = torch.rand(n_draws, generator=generator, dtype=F64)
            tokens = Truncation(temperature, top_k, top_p).draw(logits.expand(n_draws, V), uniform)
            wanted = n_draws * truncated(logits.numpy(), top_k, top_p, temperature)
            one, freedom = chi_squared(np.bincount(tokens.numpy(), minlength=V), wanted)
            total, degrees = total + one, degrees + freedom
        found.append(total / degrees)
    return mean_evidence("chi-squared / degrees of freedom", found)


def chi_squared(counts: np.ndarray, wanted: np.ndarray) -> tuple[float, int]:
    """The sum and its degrees of freedom; tokens that are seldom expected count as one, infinite where none is.

    >>> chi_squared(np.array([12, 8, 0]), np.array([10.0, 10.0, 0.0]))
    (0.8, 1)
    """
    if counts[wanted == 0].any():
        return float("inf"), 1
    often = wanted >= LEAST
    pooled = [(counts[often], wanted[often])]
    if wanted[~often].sum() > 0:
        pooled.append((counts[~often].sum(keepdims=True), wanted[~often].sum(keepdims=True)))
    seen, expected = (np.concatenate(each) for each in zip(*pooled, strict=True))
    return float(((seen - expected) ** 2 / expected).sum()), len(seen) - 1


def kept_mass(context: Context, *, without_last: bool) -> Evidence:
    """Mass of the tokens that top-p keeps, less p: the least of many; or without the unlikeliest kept, the largest."""
    from lightning_modules.gpt2.sampling import Truncation

    scale = torch.linspace(0.1, 4, context.design("rows", 2000, 20_000), dtype=F64)[:, None]
    logits = scale * torch.randn(len(scale), V, generator=context.generator("mass"), dtype=F64)
    margins = []
    for p in (0.5, 0.9, 0.95):
        shares, tokens = Truncation(top_p=p).law(logits)
        mass = logits.softmax(-1) if tokens is None else logits.softmax(-1).gather(-1, tokens)
        kept = mass * (shares > 0)
        last = torch.where(shares > 0, mass, torch.inf).amin(-1)
        margins.append(kept.sum(-1) - last * without_last - p)
    extreme = torch.stack(margins).amax() if without_last else torch.stack(margins).amin()
    return exact_evidence("mass kept less p", float(extreme), 3 * len(logits))


def network(context: Context, family: Literal["gpt2", "gpt2_ml"]) -> PreTrainedModel:
    """A network whose every weight matters."""
    from lightning_modules.gpt2.network import from_config, new_config  # transformers: 2 CPU-s

    config = new_config(family, 2, 64, 4, vocab_size=V, n_positions=T, initializer_range=0.1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.generator("weights").initial_seed())
        model = from_config(config)
    model.train(False)
    return model


@torch.no_grad()
def leak(context: Context, family: Literal["gpt2", "gpt2_ml"]) -> Evidence:
    """Largest change of logits before a token that is replaced, over the least change of those from it on."""
    model: Any = network(context, family)
    places = range(1, T, context.design("stride", 8, 1))
    ids = torch.randint(V, (1, T), generator=context.generator("ids")).expand(len(places), T)
    other = ids.clone()
    for row, place in enumerate(places):
        other[row, place] = (ids[row, place] + 1) % V
    change = (model(other).logits - model(ids).logits).abs().amax(-1)  # (B, T)
    is_before = torch.arange(T) < torch.tensor(places)[:, None]
    ratio = float(change[is_before].max() / change[~is_before].min())
    middle = len(places) // 2
    points = [Point(i - places[middle], size) for i, size in enumerate(change[middle].tolist())]
    axes = Axes("places after the token that is replaced", "largest change of a logit")
    return exact_evidence("change before / change after", ratio, len(places), points, axes=axes)


@torch.no_grad()
def cache_error(context: Context) -> Evidence:
    """Largest difference of logits read token by token from those of the whole text, over both families."""
    from lightning_modules.gpt2.decoder import Decoder

    ids = torch.randint(V, (4, T), generator=context.generator("ids"))
    errors = []
    for family in ("gpt2", "gpt2_ml"):
        model: Any = network(context, family)
        decoder = Decoder(model, torch.zeros(len(ids), dtype=torch.int64), T)
        steps = torch.stack([decoder.read(ids[:, place : place + 1]) for place in range(T)], 1)
        errors.append(float((steps - model(ids).logits).abs().max()))
    return exact_evidence("largest difference of a logit", max(errors), len(errors) * ids.numel())


@torch.no_grad()
def work_slope(context: Context, *, is_cached: bool) -> Evidence:
    """Slope of ln operations in ln tokens, when tokens are generated one after another."""
    from lightning_modules.gpt2.decoder import Decoder

    model: Any = network(context, "gpt2_ml")
    ids = torch.zeros(1, T, dtype=torch.int64)
    decoder = Decoder(model, torch.zeros(1, dtype=torch.int64), T)
    total, lengths, work = 0, (16, 32, 64, T), []
    for n in range(1, T + 1):
        total += operations(partial(decoder.read, ids[:, n - 1 : n]) if is_cached else partial(model, ids[:, :n]))
        if n in lengths:
            work.append(total)
    points = [Point(n, each) for n, each in zip(lengths, work, strict=True)]
    power = 1 if is_cached else 2
    theory = [Curve(n, work[0] * (n / lengths[0]) ** power, f"slope {power}") for n in lengths]
    axes = Axes("tokens", "operations", log_x=True, log_y=True)
    found = slope(np.log(lengths), np.log(work))
    return exact_evidence("slope of ln operations in ln tokens", found, len(lengths), points, theory, axes)


def operations(run: Callable[[], object]) -> int:
    """Floating-point operations of matrix products, attention's among them."""
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):  # the counter does not know the CPU's fused attention
        run()
    return int(counter.get_total_flops())


claim = partial(Claim, article=7292, question="7292-generating")
CLAIMS = (
    claim(
        id="7292-G3.1",
        statement="Draws under top-k, top-p and temperature follow the truncated law.",
        statement_zh="top-k、top-p 与温度截断下的采样服从截断后的分布。",
        formula=r"\chi^2 / \text{degrees of freedom} = 1",
        probe=chi_squared_ratio,
        rule="equals",
        expected=1,
        tolerance=0.15,
        reason="Draws are tens of thousands: a law wrong by 1 % in a likely token moves it further.",
        source="the random sampling of the decoder, top-k 5",
    ),
    claim(
        id="7292-G3.2",
        statement="The tokens that top-p keeps have a mass of at least p.",
        statement_zh="top-p 保留的词的总概率不小于 p。",
        formula=r"\sum_{i \in K} p_i - p \ge 0",
        probe=partial(kept_mass, without_last=False),
        rule="at least",
        expected=0,
        tolerance=1e-9,
        reason="The rounding of sums of a hundred numbers.",
        source="the random sampling of the decoder, top-p",
    ),
    claim(
        id="7292-G3.3",
        statement="They are no more than needed: without the unlikeliest of them the mass is below p.",
        statement_zh="且不多余：去掉其中概率最小的词，总概率就小于 p。",
        formula=r"\sum_{i \in K} p_i - \min_{i \in K} p_i - p \le 0",
        probe=partial(kept_mass, without_last=True),
        rule="at most",
        expected=0,
        tolerance=1e-9,
        reason="As G3.2.",
        source="the random sampling of the decoder, top-p",
    ),
    claim(
        id="7292-G4.1",
        statement="In GPT2_ML a token changes nothing before it.",
        statement_zh="在 GPT2_ML 中，一个词不影响它之前的任何输出。",
        formula=r"\partial\, \text{logits}_s / \partial\, x_t = 0 \quad (s < t)",
        probe=partial(leak, family="gpt2_ml"),
        rule="at most",
        expected=0,
        tolerance=1e-5,
        reason="Of float32, relative to what the token does change.",
        source="the figures of the three blocks, their attention",
    ),
    claim(
        id="7292-G4.2",
        statement="In GPT-2 a token changes nothing before it.",
        statement_zh="在 GPT-2 中，一个词不影响它之前的任何输出。",
        formula=r"\partial\, \text{logits}_s / \partial\, x_t = 0 \quad (s < t)",
        probe=partial(leak, family="gpt2"),
        rule="at most",
        expected=0,
        tolerance=1e-5,
        reason="As G4.1.",
        source="the figures of the three blocks, their attention",
    ),
    claim(
        id="7292-G5.1",
        statement="Read token by token from a cache, a text has the logits of one pass over all of it.",
        statement_zh="借助缓存逐词读入，与一次读入整段文本的输出一致。",
        formula=r"\max \lvert \text{logits}_{\text{cache}} - \text{logits}\rvert \le 10^{-5}",
        probe=cache_error,
        rule="at most",
        expected=1e-5,
        tolerance=0,
        reason="Of sums in another order in float32.",
        source="the decoder, which keeps no cache",
    ),
    claim(
        id="7292-G5.2",
        statement="With a cache the work of generating grows as the number of tokens.",
        statement_zh="有缓存时，生成的计算量与词数成正比。",
        formula=r"d \ln(\text{operations}) / d \ln n = 1",
        probe=partial(work_slope, is_cached=True),
        rule="equals",
        expected=1,
        tolerance=0.2,
        reason="Attention itself grows with the text: by a third of the blocks' work at 128 tokens of width 64.",
        source="the decoder, which keeps no cache",
    ),
    claim(
        id="7292-G5.3",
        statement="Without one, as in the article's decoder, it grows as its square.",
        statement_zh="如文中的解码器那样没有缓存时，与词数的平方成正比。",
        formula=r"d \ln(\text{operations}) / d \ln n = 2",
        probe=partial(work_slope, is_cached=False),
        rule="equals",
        expected=2,
        tolerance=0.2,
        reason="As G5.2.",
        source="the decoder, which keeps no cache",
    ),
)
