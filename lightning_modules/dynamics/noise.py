"""How noisy a minibatch's gradient is: trace of its covariance, noise scale and temperature, each as a pure function.

Shapes: n rows of training data, N in the whole set; P parameters; B rows of a batch; K pairs of batches.
With g_i the gradient of row i's loss: G is the mean of g_i over the whole set, Sigma their covariance (divided by N).
A batch's gradient has mean G and covariance Sigma / B where its rows are drawn with replacement.
"""

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.utils._pytree import tree_leaves, tree_map

MOST_NUMBERS = 5 * 10**7  # gradients of single rows kept at once: 200 MB of float32

Parameters = Mapping[str, Tensor]
Rows = Any
"""A tensor, or a tuple, list or dictionary of tensors, each with one entry a row, (n, ...)."""
RowLosses = Callable[[Parameters, Rows], Tensor]
"""From parameters and rows to the loss of each row, (n,). A row's loss depends on that row alone, and draws nothing."""


class Interval(NamedTuple):
    """An estimate and the interval that covers the true value with the confidence asked for."""

    estimate: float
    low: float
    high: float


class NoiseScaleEstimate(NamedTuple):
    """Gradient noise and what it is measured against."""

    trace: Interval  # tr Sigma
    norm_squared: Interval  # |G|^2; an unbiased estimate may be negative
    scale: Interval | None  # B_simple = tr Sigma / |G|^2, in rows; None = undetermined: the interval of |G|^2 covers 0


def per_sample_gradients(losses: RowLosses, parameters: Parameters, rows: Rows) -> Tensor:
    """The gradient of each row's loss, (n, P), parameters side by side in their order.

    Cost: about a pass forward and backward over the n rows, and n P numbers of memory.

    >>> square = lambda parameters, x: (parameters["w"] * x).square().sum(1)
    >>> per_sample_gradients(square, {"w": torch.tensor([1.0, 1.0])}, torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
    tensor([[ 2.,  8.],
            [ 0., 18.]])
    """

    def loss(parameters: Parameters, row: Rows) -> Tensor:
        return losses(parameters, tree_map(lambda tensor: tensor.unsqueeze(0), row)).squeeze(0)

    found = vmap(grad(loss), in_dims=(None, 0))(dict(parameters), rows)
    return torch.cat([found[name].flatten(1) for name in parameters], 1)


def noise_trace(gradients: Tensor, population: int | None = None) -> float:
    """Unbiased estimate of tr Sigma from gradients (n, P) of n rows; exact where the rows are the whole set.

    Args:
        gradients: At least 2 rows.
        population: N, where the rows are distinct ones of N; None = drawn independently.

    Raises:
        ValueError: Fewer than 2 rows, or more than N.

    >>> noise_trace(torch.tensor([[1.0], [3.0]])), noise_trace(torch.tensor([[1.0], [3.0]]), population=2)
    (2.0, 1.0)
    """
    n = _checked_count(len(gradients), 2, population)
    deviations = (gradients - gradients.mean(0)).double().square().sum()
    return float(deviations) / (n - 1) * (1.0 if population is None else 1 - 1 / population)


def noise_scale(gradients: Tensor, population: int | None = None, confidence: float = 0.95) -> NoiseScaleEstimate:
    """The trace of Sigma, |G|^2 and their ratio B_simple from gradients (n, P) of n rows.

    The square of a mean gradient overestimates |G|^2 by its own noise, which is taken off. Intervals follow from
    the jackknife, that of the ratio from Fieller's theorem; they shrink to points where the rows are the whole set.

    Args:
        gradients: At least 3 rows.
        population: N, where the rows are distinct ones of N; None = drawn independently.
        confidence: Of each interval.

    Raises:
        ValueError: Fewer than 3 rows, or more than N.

    Source: McCandlish et al. 2018 (arXiv:1812.06162), equation (2.9), for B_simple.
    """
    mean = gradients.mean(0)
    return _noise_scale(mean, *_around(mean, gradients), population, confidence)


def noise_scale_of(
    losses: RowLosses, parameters: Parameters, rows: Rows, population: int | None = None, confidence: float = 0.95
) -> NoiseScaleEstimate:
    """`noise_scale` of the `per_sample_gradients` of these rows, made block by block: 200 MB at most at once."""
    n = len(tree_leaves(rows)[0])
    block = max(1, MOST_NUMBERS // sum(parameter.numel() for parameter in parameters.values()))
    mean = mean_gradient(losses, parameters, rows)
    around = []
    for first in range(0, n, block):
        some = tree_map(lambda tensor, first=first: tensor[first : first + block], rows)
        around.append(_around(mean, per_sample_gradients(losses, parameters, some)))
    squares, projections = (torch.cat(parts) for parts in zip(*around, strict=True))
    return _noise_scale(mean, squares, projections, population, confidence)


def mean_gradient(losses: RowLosses, parameters: Parameters, rows: Rows) -> Tensor:
    """The gradient of the rows' mean loss, (P,), parameters side by side in their order."""
    found = grad(lambda parameters: losses(parameters, rows).mean())(dict(parameters))
    return torch.cat([found[name].reshape(-1) for name in parameters])


def two_batch_noise(
    small: Tensor, large: Tensor, sizes: tuple[int, int], population: int | None = None, confidence: float = 0.95
) -> NoiseScaleEstimate:
    """The trace of Sigma, |G|^2 and their ratio from squared norms of gradients of small and of large batches.

    It needs no gradient of a single row, and the memory of one gradient; the interval is much wider for the same work.

    Args:
        small: (K,), squared norms of the mean gradient of K small batches; K at least 2.
        large: (K,), of K large ones, all drawn independently.
        sizes: Rows of a small and of a large batch.
        population: N, where the rows of a batch are distinct ones of N; None = drawn with replacement.
        confidence: Of each interval.

    Raises:
        ValueError: Sizes that do not grow, or lengths that differ.

    Source: McCandlish et al. 2018 (arXiv:1812.06162), appendix A.1.
    """
    few, many = (_share(size, population) for size in sizes)
    if not few > many or small.shape != large.shape or len(small) < 2:
        raise ValueError(
            f"sizes = {sizes} with {len(small)} and {len(large)} squared norms: "
            "the second size must be larger, and both need the same number, 2 or more"
        )
    small, large = small.double(), large.double()
    pairs = torch.stack([small - large, large * few - small * many], 1) / (few - many)  # (K, 2): tr Sigma, |G|^2
    return _with_intervals(pairs.mean(0), torch.cov(pairs.T) / len(pairs), confidence)


def finite_population(batch_size: int, n_rows: int) -> float:
    """(N - B) / (N - 1): variance of a mean of distinct rows over that of rows drawn with replacement.

    >>> finite_population(1, 100), finite_population(100, 100)
    (1.0, 0.0)
    """
    return (n_rows - batch_size) / (n_rows - 1) if n_rows > 1 else 0.0


def temperature(lr_effective: float, trace: float, n_parameters: int, batch_noise: float) -> float:
    """T = lr_eff s^2 / 2 times the share of s^2 in a batch, of the stationary density exp(-L / T) at small steps.

    s^2 = tr Sigma / P is the variance of one number of a row's gradient, mean over the parameters; the density has one
    temperature only as far as Sigma is a multiple of the identity. Steps whose noise is not independent, as in
    shuffled epochs, are colder than this.

    Args:
        lr_effective: lr, for momentum lr / (1 - beta).
        trace: tr Sigma.
        n_parameters: P.
        batch_noise: 1 / B, times `finite_population` where the rows of a batch are distinct.

    Source: kexue.fm/archives/5655, equation (9), with the step size and the 1/2 its sigma^2 lacks; Mandt et al. 2017.
    """
    return lr_effective * trace / n_parameters * batch_noise / 2


def _share(size: int, population: int | None) -> float:
    """What part of tr Sigma is the squared error of a batch's gradient."""
    return 1 / size * (1.0 if population is None else finite_population(size, population))


def _checked_count(n: int, least: int, population: int | None) -> int:
    if n < least or (population is not None and n > population):
        most = "" if population is None else f", at most the population's {population}"
        raise ValueError(f"gradients of {n} rows: must be at least {least}{most}")
    return n


def _around(mean: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Of each gradient's deviation from the mean: its square and its product with the mean, (n,) float64 each."""
    deviations = gradients - mean  # (n, P)
    return deviations.square().sum(1).double(), (deviations @ mean).double()


def _noise_scale(
    mean: Tensor, squares: Tensor, projections: Tensor, population: int | None, confidence: float
) -> NoiseScaleEstimate:
    n = _checked_count(len(squares), 3, population)
    left_out = 0.0 if population is None else 1 / population  # 1 / n - 1 / N is the share of Sigma in a mean of n rows
    trace_factor = 1 - left_out
    mean_squared = float(mean.double().square().sum())
    spread = float(squares.sum()) / (n - 1)
    estimate = torch.tensor([spread * trace_factor, mean_squared - spread * (1 / n - left_out)], dtype=torch.float64)
    # the same two numbers without row i, for each i
    spreads = (squares.sum() - squares * n / (n - 1)) / (n - 2)
    means_squared = mean_squared - 2 * projections / (n - 1) + squares / (n - 1) ** 2
    without = torch.stack([spreads * trace_factor, means_squared - spreads * (1 / (n - 1) - left_out)], 1)  # (n, 2)
    off = without - without.mean(0)
    covariance = off.T @ off * ((n - 1) / n * (1 - n * left_out))
    return _with_intervals(estimate, covariance, confidence)


def _with_intervals(estimate: Tensor, covariance: Tensor, confidence: float) -> NoiseScaleEstimate:
    """Normal intervals of the two means, Fieller's of their ratio.

    Args:
        estimate: (2,), of tr Sigma and |G|^2.
        covariance: (2, 2), of these two.
        confidence: In (0, 1).
    """
    trace, norm = estimate.tolist()
    (v_trace, v_both), (_, v_norm) = covariance.tolist()
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    around = [Interval(x, x - z * math.sqrt(v), x + z * math.sqrt(v)) for x, v in ((trace, v_trace), (norm, v_norm))]
    scale = None
    if around[1].low > 0:  # the ratios R with (trace - R norm)^2 <= z^2 Var(trace - R norm) lie between two roots
        a, b, c = norm**2 - z**2 * v_norm, trace * norm - z**2 * v_both, trace**2 - z**2 * v_trace
        root = math.sqrt(max(b**2 - a * c, 0.0))
        scale = Interval(trace / norm, (b - root) / a, (b + root) / a)
    return NoiseScaleEstimate(around[0], around[1], scale)
