"""Claims on training with draws of the prior, equation (7): what k and the batch size do (V4).

Two latent dimensions where nothing else is said. NLL is measured with 10,000 draws of the prior for all models.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from experiments.claims.context import Context
from experiments.claims.registry import Axes, Claim, Evidence, Point
from experiments.claims.repetitions import mean_evidence, mean_points, slopes
from experiments.claims.small_vaes import Recipe, ensemble, prior_nll

KS = (10, 50)
BATCHES = (10, 50, 250)


def grid(context: Context) -> np.ndarray:
    """NLL (R, k, B) of models trained with k draws of the prior, which a batch of B shares, in equally many steps."""
    cells = [[Recipe("prior", k, latent_dim=2, batch=batch) for batch in BATCHES] for k in KS]
    found = [[prior_nll(ensemble(context, cell, share=0.5), context.seed) for cell in row] for row in cells]
    return np.moveaxis(np.array(found), 2, 0)


def _points(nll: np.ndarray) -> list[Point]:
    return [point for i, k in enumerate(KS) for point in mean_points(BATCHES, nll[:, i], f"k = {k}")]


AXES = Axes("batch size B", "NLL of test images in nats", log_x=True)


def batch_slope(context: Context) -> Evidence:
    """What a batch e times as large adds to the NLL at the same k."""
    nll = grid(context)
    return mean_evidence("slope of NLL in ln B, nats", slopes(np.log(BATCHES), nll.mean(1)), _points(nll), axes=AXES)


def draws_slope(context: Context) -> Evidence:
    """What e times as many draws add to the NLL at the same B."""
    nll = grid(context)
    return mean_evidence("slope of NLL in ln k, nats", slopes(np.log(KS), nll.mean(2)), _points(nll), axes=AXES)


def equal_ratio(context: Context) -> Evidence:
    """NLL at k = 50 less that at k = 10, at the same k / B."""
    nll = grid(context)
    differences = (nll[:, 1, 1:] - nll[:, 0, :-1]).mean(1)
    return mean_evidence("NLL at k = 50 - at k = 10, k / B equal, nats", differences, _points(nll), axes=AXES)


def against_vae(context: Context, k: int) -> Evidence:
    """NLL after training with k draws of the prior less that of the VAE, both in two dimensions."""
    prior = prior_nll(ensemble(context, Recipe("prior", k, latent_dim=2)), context.seed)
    vae = prior_nll(ensemble(context, Recipe(latent_dim=2)), context.seed)
    return mean_evidence(f"NLL of {k} prior draws - NLL of the VAE, nats", prior - vae)


claim = partial(Claim, article=5383, question="5383-why")
CLAIMS = (
    claim(
        id="5383-V4",
        statement="Training on draws of the prior suffers from large batches, whose images fight for the k draws.",
        statement_zh="用先验采样训练时，批越大越差：一批样本在争夺 k 个 z。",
        formula=r"\partial\, \mathrm{NLL} / \partial \ln B > 0",
        probe=batch_slope,
        rule="at least",
        expected=0,
        tolerance=0,
        reason="An inequality; k and the number of steps are held.",
        source="equation (7) and the paragraph after it",
    ),
    claim(
        id="5383-V4c",
        statement="Training on draws of the prior improves with the number k of draws, whatever the batch.",
        statement_zh="用先验采样训练时，采样数 k 越大越好，与批大小无关。",
        formula=r"\partial\, \mathrm{NLL} / \partial \ln k < 0",
        probe=draws_slope,
        rule="at most",
        expected=0,
        tolerance=0,
        reason="An inequality; B and the number of steps are held.",
        source="equation (7): ln of a mean of k draws is a bound that tightens with k",
    ),
    claim(
        id="5383-V4.1",
        statement="What counts in equation (7) is k over the batch size: equal ratios train equally well.",
        statement_zh="式 (7) 中起作用的是 k 与批大小之比：比值相同则效果相同。",
        formula=r"\mathrm{NLL} = f(k / B)",
        probe=equal_ratio,
        rule="equals",
        expected=0,
        tolerance=0.5,
        reason="Half a nat is a fiftieth of the NLL and less than a tripled k changes.",
        source="the paragraph after equation (7)",
    ),
    claim(
        id="5383-V4.2",
        statement="With k = 10 draws of the prior training does worse than the VAE.",
        statement_zh="先验采样 k = 10 时效果不如 VAE。",
        formula=r"\mathrm{NLL}_{(7),k=10} > \mathrm{NLL}_{(4)}",
        probe=partial(against_vae, k=10),
        rule="at least",
        expected=0,
        tolerance=0,
        reason="An inequality.",
        source="the paragraph after equation (7)",
    ),
    claim(
        id="5383-V4.3",
        statement="With many more than ten draws (k = 100) it is tolerable on easy images.",
        statement_zh="采样数远大于十（k = 100）时，在简单图像上效果尚可。",
        formula=r"\mathrm{NLL}_{(7),k=100} \le \mathrm{NLL}_{(4)} + \tfrac12",
        probe=partial(against_vae, k=100),
        rule="at most",
        expected=0,
        tolerance=0.5,
        reason="Tolerable: half a nat, a fortieth of the NLL.",
        source="the paragraph after equation (7)",
    ),
)
