"""Claims on WGANs under spectral normalisation and under gradient penalties (L5 to L7).

Legend: R GANs in the plane, one for each seed; GP gradient penalty, SN spectral normalisation.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import torch
from torch import Tensor

from experiments.claims.context import Context
from experiments.claims.registry import Axes, Claim, Evidence
from experiments.claims.repetitions import mean_evidence, mean_points
from experiments.claims.stacked_networks import forward, gradient_norms
from experiments.claims.toy_gans import BATCH, GANs, Recipe, Z, real, trained
from lightning_modules.data.gaussians import centres
from lightning_modules.data.sampling import draw
from lightning_modules.gan.losses import critic_loss
from lightning_modules.gan.networks import Critic
from lightning_modules.lipschitz import Constraint, constraint

ARTICLE, TUNED = 10.0, 0.1  # lambda of GP: the article's, and the best of 0.1, 1 and 10 in this plane
GRID = 25


def gans(context: Context, recipe: Recipe) -> GANs:
    """The GANs of a recipe."""
    return trained(context.seed, context.design("gans", 16, 40), recipe)


def sn(context: Context) -> Recipe:
    """SN on a ring of 8 modes."""
    return Recipe("sn", context.design("steps", 300, 1000))


def cost_ratio(context: Context) -> Evidence:
    """CPU time of a critic's step with GP over that with SN; DCGAN's critic at 3 x 32 x 32, batches of 16."""
    steps = {name: critic_step(context, constraint(name)) for name in ("sn", "gp")}
    for step in steps.values():
        step()
    rounds = [{name: seconds(step) for name, step in steps.items()} for _ in range(context.design("rounds", 10, 50))]
    return mean_evidence("CPU time of GP's critic step / SN's", [each["gp"] / each["sn"] for each in rounds])


def critic_step(context: Context, held: Constraint) -> partial[None]:
    """One step of a critic on random images, to be called."""
    generator = context.generator("images")
    x, fake = (torch.randn(16, 3, 32, 32, generator=generator).tanh() for _ in range(2))
    critic = Critic("dcgan", (3, 32, 32), 32)
    held.apply_to(critic, x[:1])
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-4, fused=True)
    epsilon = torch.rand(len(x), generator=generator)
    return partial(_step, held, critic, optimizer, x, fake, epsilon)


def _step(
    held: Constraint, critic: Critic, optimizer: torch.optim.Optimizer, x: Tensor, fake: Tensor, epsilon: Tensor
) -> None:
    loss = critic_loss("wasserstein", *critic(torch.cat([x, fake])).chunk(2))
    penalty = held.penalty(critic, x, fake, epsilon)
    (loss if penalty is None else loss + penalty).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


def seconds(step: partial[None]) -> float:
    """CPU time of three calls."""
    before = time.process_time()
    for _ in range(3):
        step()
    return time.process_time() - before


def way_ratio(context: Context, weight: float) -> Evidence:
    """Mean over the steps of ln(distance with GP / distance with SN), at equal numbers of steps."""
    held, penalised = gans(context, sn(context)), gans(context, Recipe("gp", sn(context).n_steps, weight))
    shown = slice(4, None, 5)
    points = mean_points(held.marks[shown], held.distance[shown].T, "SN")
    points += mean_points(held.marks[shown], penalised.distance[shown].T, "GP")
    axes = Axes("steps of the generator", "sliced Wasserstein distance to the data", log_y=True)
    name = "ln(distance with GP / with SN), mean over the steps"
    return mean_evidence(name, np.log(penalised.distance / held.distance).mean(0), points, axes=axes)


def equal_cpu_ratio(context: Context) -> Evidence:
    """ln(distance with GP / with SN), where GP has half the steps: its critic's step costs about twice (L5.1)."""
    recipe = sn(context)
    held, penalised = gans(context, recipe), gans(context, Recipe("gp", recipe.n_steps, TUNED))
    late, half = held.distance[-5:].mean(0), len(held.marks) // 2
    ratio = np.log(penalised.distance[half - 5 : half].mean(0) / late)
    return mean_evidence("ln(distance with GP / with SN) at equal CPU time", ratio)


def steep_shares(context: Context, n_modes: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares (R,) of points with |gradient| > 1.1, with GP on a grid of modes.

    Of the points on segments between real and generated samples, and of all in the square [-1, 1]^2.
    """
    found = gans(context, Recipe("gp", sn(context).n_steps, TUNED, "grid", n_modes))
    n, generator = found.distance.shape[1], draw(context.seed, "gans/segments")
    x = real(centres("grid", n_modes), n, 8 * BATCH, generator)
    fake = forward(found.generator, torch.randn(n, 8 * BATCH, Z, generator=generator))
    epsilon = torch.rand(n, 8 * BATCH, 1, generator=generator)
    places = (epsilon * x + (1 - epsilon) * fake, 2 * torch.rand(x.shape, generator=generator) - 1)
    slopes = [gradient_norms(lambda at: forward(found.critic, at), at).detach() for at in places]
    on, all_over = ((slope > 1.1).double().mean(1).numpy() for slope in slopes)
    return on, all_over


def mode_effect(context: Context) -> Evidence:
    """Share of the square with |gradient| > 1.1 at 25 modes less that at 4, with GP."""
    counts = (4, GRID)
    columns = np.stack([steep_shares(context, n_modes)[1] for n_modes in counts], 1)
    axes = Axes("modes", "share of the square with |gradient| > 1.1", log_x=True)
    name = "share of the square with |gradient| > 1.1, at 25 modes less at 4"
    return mean_evidence(name, columns[:, 1] - columns[:, 0], mean_points(counts, columns), axes=axes)


def off_segments(context: Context) -> Evidence:
    """Share of the square with |gradient| > 1.1 less that of the segments, with GP at 25 modes."""
    on, all_over = steep_shares(context, GRID)
    return mean_evidence("share of points with |gradient| > 1.1, in the square less on the segments", all_over - on)


def projection_ratio(context: Context) -> Evidence:
    """ln(distance with SN as a projection / as a reparametrisation), mean over the second half of the steps."""
    held = gans(context, sn(context))
    projected = gans(context, Recipe("sn_projection", sn(context).n_steps))
    half = len(held.marks) // 2
    late = np.log(projected.distance[half:] / held.distance[half:]).mean(0)
    return mean_evidence("ln(distance with projection / with reparametrisation), second half", late)


claim = partial(Claim, article=6051, question="6051-gan")
CLAIMS = (
    claim(
        id="6051-L5.1",
        statement="A critic's step with a gradient penalty costs at least 1.5 times one with spectral normalisation.",
        statement_zh="梯度惩罚下判别器每步的 CPU 时间至少是谱归一化的 1.5 倍。",
        formula=r"t_{\text{GP}} / t_{\text{SN}} \ge 1.5",
        probe=cost_ratio,
        rule="at least",
        expected=1.5,
        tolerance=0,
        reason="Second derivatives promise about 2; 1.5 leaves room for a busy machine.",
        source="the experiment, on speed",
    ),
    claim(
        id="6051-L5.2",
        statement="At the same step WGANs with SN are nearer to the data than with a gradient penalty of weight 10.",
        statement_zh="步数相同时，SN-WGAN 比惩罚权重为 10 的 WGAN-GP 更接近数据分布。",
        formula=r"\langle \ln (d_{\text{GP}} / d_{\text{SN}}) \rangle \ge 0",
        probe=partial(way_ratio, weight=ARTICLE),
        rule="at least",
        expected=0,
        tolerance=0,
        reason="A sign; the article names no size.",
        source="the experiment, on the number of epochs",
    ),
    claim(
        id="6051-L5.3",
        statement="The same holds against the gradient penalty's best weight of 0.1, 1 and 10.",
        statement_zh="对惩罚权重在 0.1、1、10 中取最优者，上述结论仍成立。",
        formula=r"\langle \ln (d_{\text{GP}} / d_{\text{SN}}) \rangle \ge 0",
        probe=partial(way_ratio, weight=TUNED),
        rule="at least",
        expected=0,
        tolerance=0,
        reason="As L5.2.",
        source="the experiment, on the number of epochs",
    ),
    claim(
        id="6051-L5.4",
        statement="At equal CPU time WGANs with SN are nearer to the data than with the best gradient penalty.",
        statement_zh="CPU 时间相同时，SN-WGAN 比最优权重的 WGAN-GP 更接近数据分布。",
        formula=r"\ln \bigl(d_{\text{GP}}(t/2) / d_{\text{SN}}(t)\bigr) \ge 0",
        probe=equal_cpu_ratio,
        rule="at least",
        expected=0,
        tolerance=0,
        reason="As L5.2.",
        source="the experiment, on quality and speed",
    ),
    claim(
        id="6051-L6",
        statement="The gradient penalty fails with many classes: at 25 modes it lets more slopes exceed 1.1 than at 4.",
        statement_zh="类别多时梯度惩罚失效：25 个模式时斜率超过 1.1 的点比 4 个模式时更多。",
        formula=r"P_{25}(\lVert\nabla f\rVert > 1.1) - P_{4}(\lVert\nabla f\rVert > 1.1) \ge 0",
        probe=mode_effect,
        rule="at least",
        expected=0,
        tolerance=0,
        reason="A sign; the article names no size.",
        source="the weak points of the gradient penalty",
    ),
    claim(
        id="6051-L6c",
        statement="At 25 modes slopes above 1.1 are commoner all over the plane than between samples, by 5 %.",
        statement_zh="25 个模式时，斜率超过 1.1 的点在整个平面上比在样本连线上多出至少 5%。",
        formula=r"P_{\text{plane}}(\lVert\nabla f\rVert > 1.1) - P_{\text{on}}(\lVert\nabla f\rVert > 1.1) \ge 0.05",
        probe=off_segments,
        rule="at least",
        expected=0.05,
        tolerance=0,
        reason="A twentieth of the points is more than the outermost modes' surroundings.",
        source="the weak points of the gradient penalty",
    ),
    claim(
        id="6051-L7",
        statement="SN as a projection after the step gives worse samples than SN as a reparametrisation.",
        statement_zh="以每步之后的投影实现谱归一化，样本质量不如重参数化。",
        formula=r"\ln (d_{\text{projection}} / d_{\text{reparametrisation}}) \ge 0",
        probe=projection_ratio,
        rule="at least",
        expected=0,
        tolerance=0,
        reason="A sign; the article shows two pictures.",
        source="the two ways of spectral normalisation in Keras",
    ),
)
