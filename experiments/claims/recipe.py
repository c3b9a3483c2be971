"""Claims on schedules of learning rate and batch size at an equal number of samples (S6).

Least squares from digits (`floors.digits_problem`), whose minimum is known; the loss above it is what is compared.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from experiments.claims.context import Context
from experiments.claims.floors import digits_problem
from experiments.claims.intervals import in_blocks, jackknife
from experiments.claims.registry import Axes, Claim, Evidence, Point
from lightning_modules.optimizers.sgd import SGD

N_BLOCKS = 40
LR, BATCH = 0.1, 8
# In each quarter of the samples: divisor of the learning rate, factor of the batch size.
SCHEDULES: dict[str, tuple[tuple[float, int], ...]] = {
    "constant": ((1, 1), (1, 1), (1, 1), (1, 1)),
    "lr decay": ((1, 1), (2, 1), (4, 1), (8, 1)),
    "batch growth": ((1, 1), (1, 2), (1, 4), (1, 8)),
    "recipe": ((1, 1), (2, 1), (2, 2), (4, 2)),
    "reverse": ((4, 2), (2, 2), (2, 1), (1, 1)),
}


def excess_losses(context: Context, schedule: str) -> np.ndarray:
    """Loss above the least at the end of each quarter (chains, 4); every schedule starts from 0."""
    n_chains, n_samples = context.design("n_chains", 280, 1000), context.design("n_samples", 25_600, 102_400)
    problem, generator = digits_problem(), context.generator(f"recipe/{schedule}")
    theta = torch.nn.Parameter(torch.zeros(n_chains, *problem.minimum.shape))
    optimizer = SGD([theta], lr=LR)
    quarters = []
    for divisor, factor in SCHEDULES[schedule]:
        optimizer.param_groups[0]["lr"] = LR / divisor
        batch = BATCH * factor
        for _ in range(n_samples // 4 // batch):
            rows = torch.randint(len(problem.inputs), (n_chains, batch), generator=generator)
            theta.grad = problem.gradients(theta.detach(), rows)
            optimizer.step()
        quarters.append(problem.excess(theta.detach()))
    return torch.stack(quarters, 1).double().numpy()


def advantage(context: Context, schedule: str, other: str) -> Evidence:
    """Ln of the other schedule's excess loss at the end over this one's; above 0 where this one is better."""
    losses = np.stack([in_blocks(excess_losses(context, name), N_BLOCKS) for name in (schedule, other)], 1)
    found = jackknife(losses[:, :, -1], lambda ends: float(np.log(ends[1] / ends[0])))
    points = []
    for k, name in enumerate((schedule, other)):
        for quarter in range(4):
            one = jackknife(losses[:, k, quarter], float)
            points.append(Point(quarter + 1, one.estimate, one.low, one.high, name))
    return Evidence(
        f"ln(excess loss under {other} / under {schedule})",
        found.estimate,
        found.low,
        found.high,
        found.n,
        tuple(points),
        axes=Axes("quarter of the samples", "loss above the least", log_y=True),
    )


claim = partial(Claim, article=5655)
CLAIMS = (
    claim(
        id="5655-S6",
        statement="A large rate and a small batch first, then a falling rate and a growing batch, beats constant ones.",
        statement_zh="先用小批量大学习率，再慢慢增大批量、减小学习率，优于保持不变。",
        formula=r"\ln\frac{L_{\text{constant}} - L^*}{L_{\text{recipe}} - L^*} > 0",
        probe=partial(advantage, schedule="recipe", other="constant"),
        rule="at least",
        expected=0,
        tolerance=0,
        reason="Better is better; the margin is in the estimate.",
        source="the recipe after equation (9), equal number of samples",
        question="5655-batch",
    ),
    claim(
        id="5655-S6.1",
        statement="The recipe also beats its own reverse, small rate and large batch first.",
        statement_zh="该配方也优于其逆序（先小学习率大批量）。",
        formula=r"\ln\frac{L_{\text{reverse}} - L^*}{L_{\text{recipe}} - L^*} > 0",
        probe=partial(advantage, schedule="recipe", other="reverse"),
        rule="at least",
        expected=0,
        tolerance=0,
        reason="As S6.",
        source="the recipe after equation (9)",
        question="5655-rate",
    ),
    claim(
        id="5655-S6.2",
        statement="Growing the batch does the same as lowering the rate.",
        statement_zh="增大批量与减小学习率效果相同。",
        formula=r"\ln\frac{L_{\text{decay}} - L^*}{L_{\text{growth}} - L^*} = 0",
        probe=partial(advantage, schedule="batch growth", other="lr decay"),
        rule="equals",
        expected=0,
        tolerance=0.2,
        reason="A quarter of a schedule changes the loss by ln 2 = 0.69; the finite rate 0.1 shifts it by 0.05.",
        source="the advice after equation (9), of Smith et al. 2018",
        question="5655-batch",
    ),
)
