"""Claims on the noise of a minibatch's gradient: its size, its shape, its independence (S1, S8, part of S10).

Real data and a real loss: softmax regression on scikit-learn's digits. N samples, B a batch, M draws, D parameters.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from experiments.claims.context import Context
from experiments.claims.intervals import in_blocks, jackknife, slope
from experiments.claims.registry import Axes, Claim, Curve, Evidence, Point

N_SAMPLES = 512
N_BLOCKS = 50  # of draws, left out in turn
DESCENT = 50  # steps of gradient descent before the noise is measured: neither a random nor a special point
LARGEST_BATCH = 256  # half the data


def gradient_noise(rng: np.random.Generator) -> np.ndarray:
    """Gradients of the samples less their mean, (N, D): softmax regression on digits after some gradient descent."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = rng.permutation(len(digits.data))[:N_SAMPLES]
    inputs, labels = digits.data[chosen] / 16, np.eye(10)[digits.target[chosen]]
    W = np.zeros((inputs.shape[1], 10))
    for _ in range(DESCENT):
        W -= inputs.T @ (_softmax(inputs @ W) - labels) / N_SAMPLES
    gradients = inputs[:, :, None] * (_softmax(inputs @ W) - labels)[:, None]
    gradients = gradients.reshape(N_SAMPLES, -1)
    centred: np.ndarray = gradients - gradients.mean(0)
    return centred


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(1, keepdims=True)
    return shares


def rows(rng: np.random.Generator, n_draws: int, n: int, batch: int, replace: bool) -> np.ndarray:
    """Rows (M, B) of `n_draws` independent batches out of n rows."""
    if replace:
        return rng.integers(0, n, size=(n_draws, batch))
    return np.argsort(rng.random((n_draws, n), dtype=np.float32), axis=1)[:, :batch]


def squared_noise(noise: np.ndarray, chosen: np.ndarray, batches: tuple[int, ...]) -> np.ndarray:
    """Squared length (M, len(batches)) of the mean noise of the first B of the chosen rows, for each B.

    Args:
        noise: (N, D), of the samples.
        chosen: (M, B_max) rows.
        batches: the sizes B.
    """
    gram = (noise @ noise.T).astype(np.float32)  # |sum of rows|^2 = counts' Gram counts: D drops out
    counts = np.zeros((len(chosen), len(noise)), dtype=np.float32)
    draws = np.arange(len(chosen))
    squares = []
    for before, batch in zip((0, *batches), batches, strict=False):
        for column in range(before, batch):
            counts[draws, chosen[:, column]] += 1
        squares.append(((counts @ gram) * counts).sum(1) / batch**2)
    return np.stack(squares, 1).astype(float)


def noise_slope(context: Context, replace: bool, corrected: bool = False) -> Evidence:
    """The exponent of the trace of the noise's covariance in B.

    Args:
        context: seed and effort.
        replace: whether a batch may hold a row twice.
        corrected: whether variances are divided by (N - B) / (N - 1) first.
    """
    rng = context.rng(f"noise/{replace}")
    noise = gradient_noise(rng)
    n_draws = context.design("n_draws", 10_000, 100_000)
    batches = tuple(int(2**k) for k in range(int(np.log2(LARGEST_BATCH)) + 1))
    parts = [
        squared_noise(noise, rows(rng, n, N_SAMPLES, LARGEST_BATCH, replace), batches)
        for n in (min(1000, n_draws - done) for done in range(0, n_draws, 1000))
    ]
    sizes = np.array(batches)
    factor = (N_SAMPLES - sizes) / (N_SAMPLES - 1) if corrected else np.ones(len(sizes))
    blocks = in_blocks(np.concatenate(parts) / factor, N_BLOCKS)
    found = jackknife(blocks, lambda variance: slope(np.log(sizes), np.log(variance)))
    trace = float(np.square(noise).sum() / N_SAMPLES)
    points = []
    for k, batch in enumerate(batches):
        cell = jackknife(blocks[:, k], float)
        points.append(Point(batch, cell.estimate, cell.low, cell.high, "measured"))
    return Evidence(
        "slope of ln tr Var in ln B",
        found.estimate,
        found.low,
        found.high,
        found.n,
        tuple(points),
        tuple(Curve(batch, trace / batch, "tr Sigma / B") for batch in batches),
        Axes("batch size B", "trace of the gradient noise's covariance", log_x=True, log_y=True),
    )


def kurtosis_slope(context: Context) -> Evidence:
    """The exponent in B of the excess kurtosis of the noise along its main directions."""
    batches = (1, 2, 4, 8, 16)
    moments = noise_moments(context, batches)
    found = jackknife(moments, lambda m: slope(np.log(batches), np.log(excess_kurtosis(m))))
    points = []
    for k, batch in enumerate(batches):
        cell = jackknife(moments[:, :, k : k + 1], lambda m: float(excess_kurtosis(m)[0]))
        points.append(Point(batch, cell.estimate, cell.low, cell.high, "measured"))
    return Evidence(
        "slope of ln excess kurtosis in ln B",
        found.estimate,
        found.low,
        found.high,
        found.n,
        tuple(points),
        tuple(Curve(batch, points[0].y / batch, "kurtosis of one sample / B") for batch in batches),
        Axes("batch size B", "excess kurtosis of the noise", log_x=True, log_y=True),
    )


def kurtosis_at(context: Context, batch: int) -> Evidence:
    """The excess kurtosis of the noise along its main directions at one B; 0 for a normal law."""
    found = jackknife(noise_moments(context, (batch,)), lambda m: float(excess_kurtosis(m)[0]))
    return found.evidence(f"excess kurtosis of the noise at B = {batch}")


def noise_moments(context: Context, batches: tuple[int, ...]) -> np.ndarray:
    """Mean second and fourth powers (R, 2, len(batches), K) of the noise along K main directions."""
    rng = context.rng("noise/moments")
    noise = gradient_noise(rng)
    _, _, directions = np.linalg.svd(noise, full_matrices=False)
    projected = (noise @ directions[:6].T).astype(np.float32)  # (N, K)
    n_draws = context.design("n_draws", 200_000, 2_000_000)
    size = n_draws // N_BLOCKS
    blocks = np.empty((N_BLOCKS, 2, len(batches), projected.shape[1]))
    for block in blocks:
        for k, batch in enumerate(batches):
            total = np.zeros((size, projected.shape[1]))
            for _ in range(batch):
                total += projected[rng.integers(0, N_SAMPLES, size)]
            square = (total / batch) ** 2
            block[0, k], block[1, k] = square.mean(0), (square**2).mean(0)
    return blocks


def excess_kurtosis(moments: np.ndarray) -> np.ndarray:
    """Mean over directions of the excess kurtosis (len(batches),), from (2, len(batches), K)."""
    excess: np.ndarray = (moments[1] / moments[0] ** 2 - 3).mean(-1)
    return excess


claim = partial(Claim, article=5655)
CLAIMS = (
    claim(
        id="5655-S1",
        statement="The noise of a minibatch's gradient has a variance that falls as 1 / B.",
        statement_zh="小批量梯度的噪声方差随批大小按 1/B 下降。",
        formula=r"\operatorname{tr}\operatorname{Cov}(\nabla L_R) = \operatorname{tr}\Sigma / B",
        probe=partial(noise_slope, replace=True),
        rule="equals",
        expected=-1,
        tolerance=0.03,
        reason="An exponent off by 0.03 is 12 % over a batch grown by 50: less than a learning rate is ever tuned to.",
        source="equation (7), rows drawn with replacement",
        question="5655-batch",
    ),
    claim(
        id="5655-S1.1",
        statement="The noise variance falls as 1 / B just so when a batch's rows are distinct, as loaders draw them.",
        statement_zh="批内样本互不相同（数据加载器的取法）时，噪声方差同样按 1/B 下降。",
        formula=r"\operatorname{tr}\operatorname{Cov}(\nabla L_R) = \operatorname{tr}\Sigma / B",
        probe=partial(noise_slope, replace=False),
        rule="equals",
        expected=-1,
        tolerance=0.03,
        reason="As S1. B reaches half of the data here; far below, the samplers cannot be told apart.",
        source="equation (7), rows drawn without replacement",
        question="5655-batch",
    ),
    claim(
        id="5655-S1.1c",
        statement="Without replacement the noise variance over (N - B) / (N - 1) falls as 1 / B.",
        statement_zh="不放回抽样时，噪声方差除以 (N-B)/(N-1) 之后按 1/B 下降。",
        formula=r"\operatorname{tr}\operatorname{Cov}(\nabla L_R) = \frac{N - B}{N - 1} \operatorname{tr}\Sigma / B",
        probe=partial(noise_slope, replace=False, corrected=True),
        rule="equals",
        expected=-1,
        tolerance=0.03,
        reason="As S1.",
        source="equation (7) with the factor of a finite population",
        question="5655-batch",
    ),
    claim(
        id="5655-S8",
        statement="The noise of a minibatch's gradient is normal, small batches (B = 8) included.",
        statement_zh="小批量梯度的噪声服从正态分布，小批（B = 8）也不例外。",
        formula=r"\xi_n \sim \mathcal{N}(0, \sigma^2)",
        probe=partial(kurtosis_at, batch=8),
        rule="equals",
        expected=0,
        tolerance=0.1,
        reason="An excess kurtosis of 0.1 shows only in some 10,000 draws: more steps than a run spends in one place.",
        source="assumption at equation (7)",
        question="5655-why",
    ),
    claim(
        id="5655-S8c",
        statement="The noise's excess kurtosis falls as 1 / B: it becomes normal as batches grow.",
        statement_zh="噪声的超额峰度按 1/B 下降：批越大越接近正态。",
        formula=r"\kappa_B = \kappa_1 / B",
        probe=kurtosis_slope,
        rule="equals",
        expected=-1,
        tolerance=0.08,
        reason="Fourth moments are known to a few per cent; a law of B^-1/2 or B^-2 lies far outside.",
        source="assumption at equation (7), cumulants of a mean",
        question="5655-why",
    ),
    claim(
        id="5655-S8.1c",
        statement="At B = 128 the noise cannot be told from a normal one in practice.",
        statement_zh="B = 128 时，噪声实际上与正态无异。",
        formula=r"\kappa_{128} \approx 0",
        probe=partial(kurtosis_at, batch=128),
        rule="equals",
        expected=0,
        tolerance=0.1,
        reason="As S8.",
        source="assumption at equation (7)",
        question="5655-why",
    ),
)
