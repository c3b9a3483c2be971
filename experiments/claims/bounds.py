"""Claims on the bounds a VAE can be trained with: equations (4), (5) and IWAE's (11) (V3, V6)."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from experiments.claims.context import Context
from experiments.claims.registry import Axes, Claim, Evidence
from experiments.claims.repetitions import exact_evidence, mean_evidence, mean_points
from experiments.claims.small_vaes import (
    Ensemble,
    Recipe,
    as_array,
    ensemble,
    epsilon_shape,
    log_weights,
    losses,
    model,
    test_nll,
)
from lightning_modules.vae.losses import log_mean_exp

VAE = Recipe()
IWAE = Recipe("iwae", k=5)
ONE_SAMPLE = Recipe("one_sample")
N_IMAGES = 200
N_DRAWS = 500


def nll_difference(context: Context, first: Recipe, second: Recipe) -> Evidence:
    """NLL of the first recipe less that of the second, on the same splits, first weights and batches."""
    nlls = [test_nll(ensemble(context, recipe), context.seed) for recipe in (first, second)]
    return mean_evidence(f"NLL of {first.loss} - NLL of {second.loss}, nats", nlls[0] - nlls[1])


def tightening(context: Context) -> Evidence:
    """How much the bound (11) rises from k = 1 to 5, on one VAE; the points go on to k = 100."""
    found, generator, ks = ensemble(context, VAE), context.generator("bounds"), (1, 5, 20, 100)
    rises = []
    for r in range(len(found.test)):
        weights = log_weights(found, r, N_IMAGES, N_DRAWS, generator).log_weights
        bounds = [log_mean_exp(weights.reshape(-1, k)).mean() for k in ks]
        rises.append(as_array(bound - bounds[0] for bound in bounds))
    columns = np.stack(rises)
    axes = Axes("draws k", "bound (11) - bound at k = 1, nats", log_x=True)
    return mean_evidence("bound at k = 5 - bound at k = 1, nats", columns[:, 1], mean_points(ks, columns), axes=axes)


def gaps(found: Ensemble, generator: torch.Generator) -> list[torch.Tensor]:
    """KL of each model's encoder from its own true posterior, ln p(x) - ELBO, a mean over images."""
    drawn = (log_weights(found, r, N_IMAGES, N_DRAWS, generator).log_weights for r in range(len(found.test)))
    return [(log_mean_exp(weights) - weights.mean(1)).mean() for weights in drawn]


def encoder_difference(context: Context) -> Evidence:
    """KL(p(z|x) || true posterior) of the IWAE's encoder less that of the VAE's."""
    iwae, vae = (as_array(gaps(ensemble(context, one), context.generator("gap"))) for one in (IWAE, VAE))
    return mean_evidence("KL from the true posterior, IWAE - VAE, nats", iwae - vae)


def identity(context: Context) -> Evidence:
    """The largest difference between the losses (11) at k = 1 and (5) over images of one model."""
    found, n = ensemble(context, VAE), VAE.batch
    epsilon = torch.randn(epsilon_shape(VAE), generator=context.generator("identity"))
    with torch.no_grad():
        pair = [losses(one, *model(found, 0), found.test[0, :n], epsilon) for one in (Recipe("iwae"), ONE_SAMPLE)]
    return exact_evidence("largest |(11) at k = 1 - (5)|, nats", float((pair[0] - pair[1]).abs().max()), n)


claim = partial(Claim, article=5383, question="5383-why")
CLAIMS = (
    claim(
        id="5383-V3",
        statement="Equation (5), one draw for both terms, trains to the likelihood of (4) within a nat.",
        statement_zh="式 (5)（两项都只采样一次）与式 (4) 训练所得的似然相差不到 1 奈特。",
        formula=r"|\mathrm{NLL}_{(5)} - \mathrm{NLL}_{(4)}| < 1",
        probe=partial(nll_difference, first=ONE_SAMPLE, second=VAE),
        rule="equals",
        expected=0,
        tolerance=1,
        reason="A nat is a twentieth of the NLL here, and far less than two architectures differ by.",
        source="equations (4) and (5)",
    ),
    claim(
        id="5383-V6",
        statement="IWAE's bound (11) is tighter: it rises with k.",
        statement_zh="IWAE 的界 (11) 更紧：随 k 增大而上升。",
        formula=r"-\mathcal{L}_5 > -\mathcal{L}_1",
        probe=tightening,
        rule="at least",
        expected=0,
        tolerance=0,
        reason="An inequality, at the weights of one VAE.",
        source="equation (11)",
    ),
    claim(
        id="5383-V6.1",
        statement="IWAE trains a better decoder: test images are likelier than under the VAE.",
        statement_zh="IWAE 训练出更好的解码器：测试图像的似然高于 VAE。",
        formula=r"\mathrm{NLL}_{\mathrm{IWAE}} < \mathrm{NLL}_{(4)}",
        probe=partial(nll_difference, first=IWAE, second=VAE),
        rule="at most",
        expected=0,
        tolerance=0,
        reason="An inequality; k = 5, as many steps.",
        source="equation (11) and the paragraph after it",
    ),
    claim(
        id="5383-V6.2",
        statement="IWAE trains a worse encoder: it lies farther from the true posterior of its own decoder.",
        statement_zh="IWAE 训练出更差的编码器：离自身解码器的真实后验更远。",
        formula=r"\mathrm{KL}(p(z|x) \,\|\, q(z|x))_{\mathrm{IWAE}} > \mathrm{KL}(p(z|x) \,\|\, q(z|x))_{(4)}",
        probe=encoder_difference,
        rule="at least",
        expected=0,
        tolerance=0,
        reason="An inequality; k = 5.",
        source="the paragraph after equation (11)",
    ),
    claim(
        id="5383-V6.3",
        statement="At k = 1 IWAE's loss (11) is equation (5).",
        statement_zh="k = 1 时 IWAE 的损失 (11) 就是式 (5)。",
        formula=r"\mathcal{L}_1 = (5)",
        probe=identity,
        rule="at most",
        expected=0,
        tolerance=1e-4,
        reason="Rounding of float32 at some 50 nats.",
        source="equations (5) and (11)",
    ),
)
