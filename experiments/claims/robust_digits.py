"""Claims on classifiers under Lipschitz constraints (L2 to L4, L9, L10), on scikit-learn's digits.

Legend: R networks, each with its own split; C the product of a network's spectral norms.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
from scipy import stats

from experiments.claims.context import Context
from experiments.claims.digit_classifiers import Classifiers, Recipe, trained
from experiments.claims.registry import Axes, Claim, Evidence, Point
from experiments.claims.repetitions import mean_evidence, mean_points

NONE = Recipe()
DECAY = tuple(Recipe("frobenius", weight) for weight in (3e-4, 1e-3, 3e-3, 1e-2))
SPECTRAL = tuple(Recipe("snr", weight) for weight in (3e-3, 1e-2, 3e-2, 1e-1))
GRADIENT = tuple(Recipe("gp", weight) for weight in (0.1, 0.3, 1.0))
NORMALISED = tuple(Recipe("sn", target=target) for target in (2.0, 5.0, 20.0))
ALL = (NONE, *DECAY, *SPECTRAL, *GRADIENT, *NORMALISED)
SN, COLD = Recipe("sn", target=5.0), Recipe("sn_cold", target=5.0)
Quantity = Literal["sensitivity", "fgsm_accuracy", "nll"]
LABELS: dict[Quantity, str] = {
    "sensitivity": "|f(x + dx) - f(x)| / |dx|",
    "fgsm_accuracy": "accuracy under FGSM",
    "nll": "test loss, nats",
}


def rank_correlation(context: Context, quantity: Quantity, recipes: tuple[Recipe, ...]) -> Evidence:
    """Spearman's correlation of C with a quantity over the recipes, mean over the networks."""
    models = [trained(context, recipe) for recipe in recipes]
    bounds = np.stack([model.bound() for model in models], 1)  # (R, recipes)
    measured = np.stack([_measure(model, quantity) for model in models], 1)
    found = [stats.spearmanr(*pair).statistic for pair in zip(bounds, measured, strict=True)]
    places = zip(recipes, bounds.mean(0).tolist(), measured.mean(0).tolist(), strict=True)
    points = [Point(x, y, series=recipe.name) for recipe, x, y in places]
    axes = Axes("product of spectral norms", LABELS[quantity], log_x=True)
    return mean_evidence(f"rank correlation of the norms' product and {LABELS[quantity]}", found, points, axes=axes)


def _measure(model: Classifiers, quantity: Quantity) -> np.ndarray:
    measures = {"sensitivity": model.sensitivity, "fgsm_accuracy": model.fgsm_accuracy, "nll": model.nll}
    return measures[quantity]()


def decay_ratio(context: Context) -> Evidence:
    """C with the strongest weight decay over C without."""
    bounds = [trained(context, recipe).bound() for recipe in (NONE, *DECAY)]
    ratios = np.stack(bounds, 1) / bounds[0][:, None]
    weights = [recipe.weight for recipe in DECAY]
    axes = Axes("lambda of |W|_F^2", "product of spectral norms / without decay", log_x=True)
    return mean_evidence("C with decay / C without", ratios[:, -1], mean_points(weights, ratios[:, 1:]), axes=axes)


def gain(context: Context, quantity: Quantity, recipe: Recipe) -> Evidence:
    """A quantity under a constraint less that of the same networks without."""
    plain, held = (_measure(trained(context, each), quantity) for each in (NONE, recipe))
    return mean_evidence(f"{quantity} with {recipe.name} less without", held - plain)


def interior_optimum(context: Context) -> Evidence:
    """Test loss at the weaker end of the penalty on spectral norms, and at the stronger, less the lowest between."""
    recipes = (NONE, *SPECTRAL)
    losses = np.stack([trained(context, recipe).nll() for recipe in recipes], 1)
    middle = 1 + losses.mean(0)[1:-1].argmin()
    points = mean_points([1e-3, *(recipe.weight for recipe in SPECTRAL)], losses)
    axes = Axes("lambda of |W|_2^2 (none at 0.001)", "test loss, nats", log_x=True)
    worst = np.minimum(losses[:, 0], losses[:, -1]) - losses[:, middle]
    return mean_evidence("test loss at the better end less that in the middle, nats", worst, points, axes=axes)


def matched_gain(context: Context) -> Evidence:
    """Best accuracy under FGSM with |W|_2^2 less that with |W|_F^2, clean accuracies at most 1 % below none's."""
    floor = trained(context, NONE)
    least = floor.accuracy(floor.x).mean() - 0.01
    best = []
    for family in (DECAY, SPECTRAL):
        models = [trained(context, recipe) for recipe in family]
        allowed = [model.fgsm_accuracy() for model in models if model.accuracy(model.x).mean() >= least]
        best.append(max(allowed, key=np.mean, default=floor.fgsm_accuracy()))
    return mean_evidence("accuracy under FGSM, |W|_2^2 less |W|_F^2", best[1] - best[0])


def bound_ratio(context: Context, recipe: Recipe) -> Evidence:
    """The true C of spectrally normalised networks over the target that they were given."""
    return mean_evidence("product of spectral norms / target", trained(context, recipe).bound() / recipe.target)


def tightness(context: Context) -> Evidence:
    """C of networks without constraint over the largest Jacobian met at a test image."""
    model = trained(context, NONE)
    return mean_evidence("product of spectral norms / largest Jacobian", model.bound() / model.steepest())


def weight_gain(context: Context, recipe: Recipe) -> Evidence:
    """Accuracy with weights moved against the loss by 5 %, under a constraint less without."""
    fraction = 0.05
    plain, held = (trained(context, each).moved_accuracy(fraction, is_worst=True) for each in (NONE, recipe))
    return mean_evidence("accuracy at worst weights within 5 %, with the constraint less without", held - plain)


def pixel_gain(context: Context) -> Evidence:
    """Accuracy under the worst change of one pixel, with SN less without."""
    n_images = context.design("images", 360, 360)
    plain, held = (trained(context, each).one_pixel_accuracy(n_images) for each in (NONE, SN))
    return mean_evidence("accuracy after one pixel has changed, SN less none", held - plain)


claim = partial(Claim, article=6051, question="6051-robust")
CLAIMS = (
    claim(
        id="6051-L2.1",
        statement="Networks with a smaller product of spectral norms answer less to noise in the input.",
        statement_zh="谱范数之积越小，网络对输入噪声的响应越小。",
        formula=r"\rho\bigl(\prod_l \lVert W_l\rVert_2,\ \lVert\Delta f\rVert / \lVert\Delta x\rVert\bigr) \ge 0.8",
        probe=partial(rank_correlation, quantity="sensitivity", recipes=ALL),
        rule="at least",
        expected=0.8,
        tolerance=0,
        reason="Two thirds of the order of ranks.",
        source="the Lipschitz constraint, its meaning",
    ),
    claim(
        id="6051-L2.2",
        statement="Weight decay makes the constraint hold better: lambda = 0.01 halves the product of spectral norms.",
        statement_zh="L2 正则使 Lipschitz 约束更好地满足：λ = 0.01 时谱范数之积减半。",
        formula=r"C_{\lambda = 0.01} / C_0 \le 0.5",
        probe=decay_ratio,
        rule="at most",
        expected=0.5,
        tolerance=0,
        reason="A factor of 2 is far beyond the spread of first weights.",
        source="the Frobenius norm as a regulariser",
    ),
    claim(
        id="6051-L2.3",
        statement="Networks with a smaller product of spectral norms withstand FGSM better, whatever the constraint.",
        statement_zh="无论何种约束，谱范数之积越小越能抵抗 FGSM。",
        formula=r"\rho\bigl(\prod_l \lVert W_l\rVert_2,\ \text{accuracy under FGSM}\bigr) \le -0.9",
        probe=partial(rank_correlation, quantity="fgsm_accuracy", recipes=ALL),
        rule="at most",
        expected=-0.9,
        tolerance=0,
        reason="Nearly the order of the products themselves.",
        source="the Lipschitz constraint, its meaning",
    ),
    claim(
        id="6051-L2.3c",
        statement="Within one constraint, the penalty on spectral norms, a smaller product withstands FGSM better.",
        statement_zh="在同一种约束（谱范数正则）内，谱范数之积越小越能抵抗 FGSM。",
        formula=r"\rho\bigl(\prod_l \lVert W_l\rVert_2,\ \text{accuracy under FGSM}\bigr) \le -0.9",
        probe=partial(rank_correlation, quantity="fgsm_accuracy", recipes=(NONE, *SPECTRAL)),
        rule="at most",
        expected=-0.9,
        tolerance=0,
        reason="As L2.3.",
        source="the Lipschitz constraint, its meaning",
    ),
    claim(
        id="6051-L2.4",
        statement="A smaller Lipschitz constant generalises better: test losses follow the product of spectral norms.",
        statement_zh="Lipschitz 常数越小泛化越好：测试损失随谱范数之积增大。",
        formula=r"\rho\bigl(\prod_l \lVert W_l\rVert_2,\ \text{test loss}\bigr) \ge 0.5",
        probe=partial(rank_correlation, quantity="nll", recipes=ALL),
        rule="at least",
        expected=0.5,
        tolerance=0,
        reason="Less would order hardly more pairs than a coin.",
        source="the Lipschitz constraint and generalisation",
    ),
    claim(
        id="6051-L2.4c",
        statement="A moderate penalty on spectral norms generalises better than none, and than a strong one.",
        statement_zh="适度的谱范数正则比不正则泛化更好，也比过强的正则更好。",
        formula=r"\min(L_0, L_{0.1}) - \min_{0 < \lambda < 0.1} L_\lambda \ge 0",
        probe=interior_optimum,
        rule="at least",
        expected=0,
        tolerance=0,
        reason="A sign.",
        source="the Lipschitz constraint and generalisation",
    ),
    claim(
        id="6051-L2.5",
        statement="A gradient penalty regularises supervised models: lambda = 0.1 lowers the test loss.",
        statement_zh="梯度惩罚可作为监督模型的正则项：λ = 0.1 降低测试损失。",
        formula=r"L_{\text{GP}} - L_0 \le 0",
        probe=partial(gain, quantity="nll", recipe=GRADIENT[0]),
        rule="at most",
        expected=0,
        tolerance=0,
        reason="A sign; the article leaves the question open.",
        source="the gradient penalty, its open question",
    ),
    claim(
        id="6051-L2.6",
        statement="A gradient penalty of lambda = 0.1 adds 5 % to the accuracy of supervised models under FGSM.",
        statement_zh="λ = 0.1 的梯度惩罚使监督模型在 FGSM 下的准确率提高五个百分点以上。",
        formula=r"a_{\text{GP}} - a_0 \ge 0.05",
        probe=partial(gain, quantity="fgsm_accuracy", recipe=GRADIENT[0]),
        rule="at least",
        expected=0.05,
        tolerance=0,
        reason="Three times the error of an accuracy on 360 images.",
        source="the gradient penalty, its open question",
    ),
    claim(
        id="6051-L3",
        statement="At equal clean accuracy the penalty on |W|_2^2 withstands FGSM better than that on |W|_F^2.",
        statement_zh="干净准确率相当时，谱范数正则比 L2 正则更能抵抗 FGSM。",
        formula=r"a_{\lVert W\rVert_2^2} - a_{\lVert W\rVert_F^2} \ge 0",
        probe=matched_gain,
        rule="at least",
        expected=0,
        tolerance=0,
        reason="A sign; the article names no size.",
        source="spectral norm regularisation",
    ),
    claim(
        id="6051-L4.1",
        statement="Spectral normalisation by 5 rounds from ones bounds the trained network by its target, to 10 %.",
        statement_zh="每次从全 1 向量迭代五轮的谱归一化使训练后网络的谱范数之积不超过目标（误差 10%）。",
        formula=r"\prod_l \lVert W_l\rVert_2 \le 1.1\,C",
        probe=partial(bound_ratio, recipe=COLD),
        rule="at most",
        expected=1.1,
        tolerance=0,
        reason="3 % a layer, which a good estimate keeps while weights move.",
        source="the code of the spectral norm, r = 5",
    ),
    claim(
        id="6051-L4.1c",
        statement="With the vector kept from step to step, without gradient, one round bounds it to 10 %.",
        statement_zh="若逐步保留迭代向量且不传梯度，每步一轮即可使其不超过目标（误差 10%）。",
        formula=r"\prod_l \lVert W_l\rVert_2 \le 1.1\,C",
        probe=partial(bound_ratio, recipe=SN),
        rule="at most",
        expected=1.1,
        tolerance=0,
        reason="As L4.1.",
        source="the code of the spectral norm, r = 5",
    ),
    claim(
        id="6051-L4.2",
        statement="The product of spectral norms is within a factor 2 of the largest Jacobian met.",
        statement_zh="谱范数之积不超过实测最大雅可比范数的两倍。",
        formula=r"\prod_l \lVert W_l\rVert_2 \,/\, \max_x \lVert J(x)\rVert_2 \le 2",
        probe=tightness,
        rule="at most",
        expected=2,
        tolerance=0,
        reason="For three layers; it grows with depth.",
        source="the Lipschitz constraint of a network, layer by layer",
    ),
    claim(
        id="6051-L9",
        statement="Spectral normalisation makes a network stable to changes of its weights, relative to their size.",
        statement_zh="谱归一化使网络对（相对大小的）参数扰动稳定。",
        formula=r"a_{\text{SN}}(w + \Delta w) - a_0(w + \Delta w) \ge 0",
        probe=partial(weight_gain, recipe=SN),
        rule="at least",
        expected=0,
        tolerance=0,
        reason="A sign.",
        source="the stability of a model to its parameters",
    ),
    claim(
        id="6051-L9c",
        statement="Weight decay of lambda = 0.003 makes a network stabler to changes of its weights.",
        statement_zh="λ = 0.003 的 L2 正则使网络对参数扰动更稳定。",
        formula=r"a_{L2}(w + \Delta w) - a_0(w + \Delta w) \ge 0",
        probe=partial(weight_gain, recipe=DECAY[2]),
        rule="at least",
        expected=0,
        tolerance=0,
        reason="A sign.",
        source="the stability of a model to its parameters",
    ),
    claim(
        id="6051-L10",
        statement="A network under spectral normalisation withstands the change of one pixel better.",
        statement_zh="谱归一化的网络更能抵抗单像素攻击。",
        formula=r"a_{\text{SN}} - a_0 \ge 0",
        probe=pixel_gain,
        rule="at least",
        expected=0,
        tolerance=0,
        reason="A sign.",
        source="the stability of a model to its inputs",
    ),
)
