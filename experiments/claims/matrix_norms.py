"""Claims on norms of matrices and layers, and on power iteration (L1).

Legend: W (m, n) weights; sigma_1, sigma_2 its largest singular values; r rounds of power iteration; k a kernel's side.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from experiments.claims.context import Context
from experiments.claims.registry import Axes, Claim, Evidence
from experiments.claims.repetitions import F64, exact_evidence, mean_evidence, mean_points, slopes
from lightning_modules.lipschitz.norms import linear_norm, matrix_norm, operator_norm
from lightning_modules.lipschitz.spectral import power_iteration

ROUNDS = tuple(range(3, 10))


def orthogonal(n: int, d: int, generator: torch.Generator) -> Tensor:
    """Random orthogonal matrices (n, d, d)."""
    Q: Tensor = torch.linalg.qr(torch.randn(n, d, d, generator=generator, dtype=F64))[0]
    return Q


def lengthening(context: Context) -> Evidence:
    """Largest |Wx| / (|W|_2 |x|) met, x from random ones to the top vector itself."""
    generator = context.generator("inequality")
    W = torch.randn(context.design("matrices", 200, 2000), 20, 30, generator=generator, dtype=F64)
    _, sigma, V = torch.linalg.svd(W, full_matrices=False)
    x = torch.randn(len(W), 30, 50, generator=generator, dtype=F64)
    share = torch.linspace(0, 1, 50, dtype=F64)
    x = (1 - share) * x / x.norm(dim=1, keepdim=True) + share * V.mT[:, :, :1]
    ratios = (W @ x).norm(dim=1) / (sigma[:, :1] * x.norm(dim=1))
    return exact_evidence("largest |Wx| / (|W|_2 |x|)", float(ratios.max()), ratios.numel())


def frobenius(context: Context) -> Evidence:
    """Largest |W|_2 / |W|_F over matrices of every rank."""
    generator = context.generator("frobenius")
    found = []
    for rank in (1, 2, 5, 20):
        parts = torch.randn(2, context.design("matrices", 200, 2000), 20, rank, generator=generator, dtype=F64)
        W = parts[0] @ parts[1].mT
        found.append(torch.linalg.matrix_norm(W, 2) / torch.linalg.matrix_norm(W))
    ratios = torch.stack(found, 1)
    points = mean_points((1, 2, 5, 20), ratios.numpy())
    axes = Axes("rank of W", "|W|_2 / |W|_F", log_x=True)
    return exact_evidence("largest |W|_2 / |W|_F", float(ratios.max()), ratios.numel(), points, axes=axes)


def iteration_exponent(context: Context, *, is_vector: bool) -> Evidence:
    """Exponent in sigma_2 / sigma_1 by which the error of u, or of u'Wv, falls a round."""
    n, d = context.design("matrices", 20, 100), 12
    generator = context.generator("iteration")
    gap = 0.6 + 0.25 * torch.rand(n, generator=generator, dtype=F64)  # sigma_2, where sigma_1 = 1
    sigma = torch.cat([torch.ones(n, 1, dtype=F64), gap[:, None], 0.3 * torch.ones(n, d - 2, dtype=F64)], 1)
    left, right = orthogonal(n, d, generator), orthogonal(n, d, generator)
    start = left.sum(2)  # the same share of every singular vector
    errors = torch.empty(n, len(ROUNDS), dtype=F64)
    for i, (U, W) in enumerate(zip(left, left * sigma[:, None] @ right.mT, strict=True)):
        for j, r in enumerate(ROUNDS):
            found = power_iteration(partial(torch.mv, W), partial(torch.mv, W.T), start[i], r)
            away = found.u - U[:, 0] * (found.u @ U[:, 0])  # across the top vector
            errors[i, j] = away.norm() if is_vector else 1 - found.sigma
    exponents = torch.tensor(slopes(ROUNDS, errors.log().numpy()), dtype=F64) / gap.log()
    name = "error of u" if is_vector else "error of u'Wv"
    axes = Axes("rounds r", f"ln of the {name}")
    return mean_evidence(
        f"exponent of sigma_2 / sigma_1 in the {name}, a round", exponents, mean_points(ROUNDS, errors.log()), axes=axes
    )


def eigenvalue_ratio(context: Context, *, is_normal: bool) -> Evidence:
    """Largest |eigenvalue| over |W|_2 of random square matrices, Gaussian or normal."""
    n, d = context.design("matrices", 50, 500), 16
    generator = context.generator("eigenvalues")
    W = torch.randn(n, d, d, generator=generator, dtype=F64)
    if is_normal:  # 2 x 2 rotations, scaled, in a turned basis
        real, imaginary = torch.randn(2, n, d // 2, generator=generator, dtype=F64)
        blocks = torch.stack([real, -imaginary, imaginary, real], -1).view(n, d // 2, 2, 2)
        Q = orthogonal(n, d, generator)
        W = Q @ torch.stack([torch.block_diag(*each) for each in blocks]) @ Q.mT  # type: ignore[no-untyped-call]
    ratios = torch.linalg.eigvals(W).abs().amax(1) / torch.linalg.matrix_norm(W, 2)
    return mean_evidence("largest |eigenvalue| / |W|_2", ratios)


def cold_shortfall(context: Context, rounds: int) -> Evidence:
    """Share by which the estimate from ones is low on Gaussian matrices of 128 x 576."""
    marks = (1, 2, 5, 10, 40)
    W = torch.randn(context.design("matrices", 16, 100), 128, 576, generator=context.generator("cold"))
    true = torch.linalg.matrix_norm(W, 2)
    found = torch.stack([torch.stack([estimate(each, each.new_ones(576), r) for each in W]) for r in marks], 1)
    low = (1 - found / true[:, None]).double().numpy()
    axes = Axes("rounds r", "share by which the estimate is low", log_x=True, log_y=True)
    return mean_evidence(
        f"share by which {rounds} rounds are low", low[:, marks.index(rounds)], mean_points(marks, low), axes=axes
    )


def estimate(W: Tensor, v: Tensor, rounds: int) -> Tensor:
    """The article's estimate of |W|_2, 0-d, from v (n,)."""
    return power_iteration(partial(torch.mv, W.T), partial(torch.mv, W), v, rounds).sigma


def start_ratio(context: Context, *, is_random: bool) -> Evidence:
    """Smallest estimate after 50 rounds over |W|_2, where the top vector of W is orthogonal to ones."""
    scales = 2.0 ** torch.arange(-5, 0, dtype=F64)
    starts = [torch.ones(2, dtype=F64)]
    if is_random:
        starts = list(torch.randn(context.design("starts", 40, 400), 2, generator=context.generator("u"), dtype=F64))
    rows = [torch.tensor([[1.0, -1.0], [scale, scale]], dtype=F64) for scale in scales.tolist()]
    ratios = [float(estimate(W, start, 50)) / 2**0.5 for W in rows for start in starts]
    return exact_evidence("smallest estimate / |W|_2", min(ratios), len(ratios))


def batch_norm_ratio(context: Context, *, is_operator: bool) -> Evidence:
    """What bounds a BatchNorm of 128 channels over its true norm, mean over random gamma and running variances.

    The article's code takes gamma for a matrix (1, C); the operator norm here is max |gamma| / sigma.
    """
    generator = context.generator("gamma")
    ratios = []
    for _ in range(context.design("layers", 12, 100)):
        layer = nn.BatchNorm1d(128).double().eval()
        with torch.no_grad():
            layer.weight.copy_(1 + 0.2 * torch.randn(128, generator=generator))
        layer.running_var = 0.5 + torch.rand(128, generator=generator).double()
        x = torch.zeros(1, 128, dtype=F64)
        bound = operator_norm(layer, x) if is_operator else matrix_norm(layer.weight[None])
        ratios.append((bound or math.nan) / linear_norm(layer, x))
    return mean_evidence("bound of BatchNorm / its norm", ratios)


def convolution_ratio(context: Context, *, is_largest: bool) -> Evidence:
    """A 3 x 3 convolution's norm over that of its reshaped weights: mean over Gaussian ones, or the largest met.

    Among those for the largest are kernels of ones, which come closest to the bound.
    """
    generator = context.generator("convolution")
    x = torch.zeros(1, 4, 12, 12, dtype=F64)
    kernels = list(torch.randn(context.design("kernels", 12, 100), 8, 4, 3, 3, generator=generator, dtype=F64))
    if is_largest:
        kernels += [torch.ones(8, 4, 3, 3, dtype=F64), torch.ones(8, 4, 3, 3, dtype=F64) + 0.1 * kernels[0]]
    ratios = [
        linear_norm(lambda v, kernel=kernel: nn.functional.conv2d(v, kernel, padding=1), x)  # type: ignore[misc]
        / matrix_norm(kernel.flatten(1))
        for kernel in kernels
    ]
    name = "norm of the convolution / norm of its reshaped weights"
    return exact_evidence(f"largest {name}", max(ratios), len(ratios)) if is_largest else mean_evidence(name, ratios)


claim = partial(Claim, article=6051, question="6051-robust")
CLAIMS = (
    claim(
        id="6051-L1.1",
        statement="A matrix lengthens a vector by at most its spectral norm.",
        statement_zh="矩阵对向量的放大倍数不超过其谱范数。",
        formula=r"\lVert Wx\rVert \le \lVert W\rVert_2\,\lVert x\rVert",
        probe=lengthening,
        rule="at most",
        expected=1,
        tolerance=1e-9,
        reason="Rounding only.",
        source="the definition of the spectral norm",
    ),
    claim(
        id="6051-L1.2",
        statement="The spectral norm is at most the Frobenius norm.",
        statement_zh="谱范数不超过 Frobenius 范数。",
        formula=r"\lVert W\rVert_2 \le \lVert W\rVert_F",
        probe=frobenius,
        rule="at most",
        expected=1,
        tolerance=1e-9,
        reason="Rounding only.",
        source="the Frobenius norm as a bound",
    ),
    claim(
        id="6051-L1.3",
        statement="A round of power iteration multiplies the vector's error by (sigma_2 / sigma_1)^2.",
        statement_zh="幂迭代每轮使向量的误差乘以 (σ_2/σ_1)^2。",
        formula=r"\lVert u_r - u_*\rVert \propto (\sigma_2/\sigma_1)^{2r}",
        probe=partial(iteration_exponent, is_vector=True),
        rule="equals",
        expected=2,
        tolerance=0.06,
        reason="The first rounds still see the smaller singular values: 2 % of the exponent, and 1 % of noise.",
        source="power iteration",
    ),
    claim(
        id="6051-L1.4",
        statement="A round of power iteration multiplies the estimate's error by (sigma_2 / sigma_1)^4.",
        statement_zh="幂迭代每轮使谱范数估计的误差乘以 (σ_2/σ_1)^4。",
        formula=r"\sigma_1 - u_r^\top W v_r \propto (\sigma_2/\sigma_1)^{4r}",
        probe=partial(iteration_exponent, is_vector=False),
        rule="equals",
        expected=4,
        tolerance=0.12,
        reason="As L1.3, for twice the exponent.",
        source="power iteration",
    ),
    claim(
        id="6051-L1.5",
        statement="The spectral norm of a square matrix is its largest |eigenvalue|.",
        statement_zh="方阵的谱范数等于其特征值绝对值的最大者。",
        formula=r"\lVert W\rVert_2 = \max_i |\lambda_i(W)|",
        probe=partial(eigenvalue_ratio, is_normal=False),
        rule="equals",
        expected=1,
        tolerance=0.01,
        reason="1 %, where rounding is far below.",
        source="the meaning of the spectral norm",
    ),
    claim(
        id="6051-L1.5c",
        statement="The spectral norm of a normal matrix, W W' = W' W, is its largest |eigenvalue|.",
        statement_zh="正规矩阵（WW^⊤ = W^⊤W）的谱范数等于其特征值绝对值的最大者。",
        formula=r"WW^\top = W^\top W \Rightarrow \lVert W\rVert_2 = \max_i |\lambda_i(W)|",
        probe=partial(eigenvalue_ratio, is_normal=True),
        rule="equals",
        expected=1,
        tolerance=0.01,
        reason="As L1.5.",
        source="the meaning of the spectral norm",
    ),
    claim(
        id="6051-L1.6",
        statement="Five rounds of power iteration from ones give the spectral norm to 2 %.",
        statement_zh="从全 1 向量出发迭代五轮，所得谱范数误差不超过 2%。",
        formula=r"1 - \hat\sigma_5 / \sigma_1 \le 0.02",
        probe=partial(cold_shortfall, rounds=5),
        rule="at most",
        expected=0.02,
        tolerance=0,
        reason="An error of 2 % in each of ten layers is 20 % in the bound.",
        source="the code of the spectral norm, r = 5",
    ),
    claim(
        id="6051-L1.6c",
        statement="Forty rounds of power iteration from ones give the spectral norm of a random matrix to 2 %.",
        statement_zh="从全 1 向量出发迭代四十轮，随机矩阵谱范数的误差不超过 2%。",
        formula=r"1 - \hat\sigma_{40} / \sigma_1 \le 0.02",
        probe=partial(cold_shortfall, rounds=40),
        rule="at most",
        expected=0.02,
        tolerance=0,
        reason="As L1.6.",
        source="the code of the spectral norm, r = 5",
    ),
    claim(
        id="6051-L1.7",
        statement="Power iteration that starts from ones arrives at the spectral norm.",
        statement_zh="从全 1 向量出发的幂迭代收敛到谱范数。",
        formula=r"u_0 = (1, \dots, 1) \Rightarrow u_r^\top W v_r \to \sigma_1",
        probe=partial(start_ratio, is_random=False),
        rule="at least",
        expected=0.99,
        tolerance=0,
        reason="1 % after 50 rounds, which have brought every other start there.",
        source="power iteration, its start",
    ),
    claim(
        id="6051-L1.7c",
        statement="Power iteration that starts from a random vector arrives at the spectral norm.",
        statement_zh="从随机向量出发的幂迭代收敛到谱范数。",
        formula=r"u_0 \sim N(0, I) \Rightarrow u_r^\top W v_r \to \sigma_1",
        probe=partial(start_ratio, is_random=True),
        rule="at least",
        expected=0.99,
        tolerance=0,
        reason="As L1.7.",
        source="power iteration, its start",
    ),
    claim(
        id="6051-L1.8",
        statement="BatchNorm is held by the spectral norm of gamma as a matrix of one row: its norm is that.",
        statement_zh="把 gamma 视为单行矩阵，其谱范数就是 BN 层的范数。",
        formula=r"\lVert \mathrm{BN} \rVert = \lVert \gamma \rVert_2",
        probe=partial(batch_norm_ratio, is_operator=False),
        rule="equals",
        expected=1,
        tolerance=0.05,
        reason="5 % is far below the factor sqrt(C) in question.",
        source="the constraint on gamma",
    ),
    claim(
        id="6051-L1.8c",
        statement="The norm of BatchNorm is the largest |gamma| / sigma of its channels.",
        statement_zh="BN 层的范数是各通道 |γ|/σ 的最大值。",
        formula=r"\lVert \mathrm{BN} \rVert = \max_c |\gamma_c| / \sigma_c",
        probe=partial(batch_norm_ratio, is_operator=True),
        rule="equals",
        expected=1,
        tolerance=0.001,
        reason="Both are bounds tight to 0.0001.",
        source="the constraint on gamma",
    ),
    claim(
        id="6051-L1.9",
        statement="The norm of a convolution is that of its weights reshaped to a matrix.",
        statement_zh="卷积的范数等于其核重排成矩阵后的谱范数。",
        formula=r"\lVert K * \cdot \rVert = \lVert \mathrm{reshape}(K) \rVert_2",
        probe=partial(convolution_ratio, is_largest=False),
        rule="equals",
        expected=1,
        tolerance=0.05,
        reason="5 % is far below the factors met, 1.2 to 3.",
        source="the code of the spectral norm, its reshaping",
    ),
    claim(
        id="6051-L1.9c",
        statement="The norm of a convolution of k x k is at most k times that of its reshaped weights.",
        statement_zh="k×k 卷积的范数不超过其核重排成矩阵后谱范数的 k 倍。",
        formula=r"\lVert K * \cdot \rVert \le k\,\lVert \mathrm{reshape}(K) \rVert_2",
        probe=partial(convolution_ratio, is_largest=True),
        rule="at most",
        expected=3,
        tolerance=0.001,
        reason="Both norms are bounds tight to 0.0001.",
        source="the code of the spectral norm, its reshaping",
    ),
)
