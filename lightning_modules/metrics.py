"""How near generated samples are to real ones: FID, KID, IS, precision, recall, density, coverage, sliced Wasserstein.

Pure functions of given features: whose they are, an Inception network's or a small classifier's, is the caller's to say
beside the number, with both sample sizes: FID depends on them. Everything is computed in float64 on the CPU, distances
and kernels a block of rows at a time.

Shapes: N real and M generated rows; D features; K classes.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.data.sampling import draw

BLOCK = 2**21  # numbers of a distance or kernel matrix held at once: 16 MB
TIE = 1e-9  # by which balls are drawn larger: as near as the k-th neighbour is inside, whatever the rounding
SAME = 1e-12  # squared distances below this share of the squared norms are rounding: the two rows are one point


class KernelDistance(NamedTuple):
    """KID with the standard error of it."""

    value: float
    standard_error: float


class Overlap(NamedTuple):
    """How the regions that two samples fill overlap; 1 of each is best, density may exceed it."""

    precision: float
    recall: float
    density: float
    coverage: float


def fid(real: Tensor, fake: Tensor) -> float:
    """Squared Frechet distance of two normal distributions with the samples' means and covariances.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), covariances over N - 1, as torchmetrics has it.

    Args:
        real: (N, D), N > D, else C1 is singular and the figure says more of N than of the images.
        fake: (M, D), M > D.

    Source: Heusel et al. 2017, equation (6). Raises ValueError for rows that are too few, not finite or of unlike D.

    >>> points = torch.tensor([[0.0], [1.0], [2.0]])
    >>> fid(points, points + 3)
    9.0
    """
    real, fake = _checked(real, fake)
    for name, rows in (("real", real), ("fake", fake)):
        if len(rows) <= rows.shape[1]:
            raise ValueError(
                f"FID: {len(rows)} {name} samples of {rows.shape[1]} features: the covariance is singular; "
                f"give at least {rows.shape[1] + 1}"
            )
    c1, c2 = _covariance(real), _covariance(fake)
    values, vectors = torch.linalg.eigh(c1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    # tr (C1 C2)^(1/2) = tr (C1^(1/2) C2 C1^(1/2))^(1/2), of a symmetric matrix: its eigenvalues are real
    cross = torch.linalg.eigvalsh(root @ c2 @ root).clamp(min=0).sqrt().sum()
    shift = (real.mean(0) - fake.mean(0)).square().sum()
    return max(float(shift + c1.trace() + c2.trace() - 2 * cross), 0.0)


def kid(real: Tensor, fake: Tensor, subset_size: int | None = None, seed: int = 0) -> KernelDistance:
    """Unbiased squared MMD under the kernel (x'y / D + 1)^3; below 0 by chance where the distributions are one.

    Its standard error estimates both terms of the variance of a two-sample U-statistic: that of one row, and that of
    pairs, which alone is left where the distributions are one. So value / standard_error tests whether they are.

    Args:
        real: (N, D).
        fake: (M, D).
        subset_size: None compares all with all. A number cuts both into as many disjoint subsets of that size, in an
            order drawn, as the smaller has; then value and standard error are those of the mean over the subsets.
        seed: of that order.

    Source: Binkowski et al. 2018, section 4; Gretton et al. 2012, lemma 6. Raises ValueError for a subset larger than
    a sample, rows that are fewer than 2, not finite or of unlike D.
    """
    real, fake = _checked(real, fake)
    if subset_size is None:
        return _kid(real, fake)
    most = min(len(real), len(fake))
    if not 2 <= subset_size <= most:
        raise ValueError(
            f"KID: subset_size = {subset_size}: must lie in 2 to {most}, the smaller sample's size; null takes all"
        )
    orders = [torch.randperm(len(rows), generator=draw(seed, "kid", i)) for i, rows in enumerate((real, fake))]
    subsets = [
        _kid(*(rows[order[start : start + subset_size]] for rows, order in zip((real, fake), orders, strict=True)))
        for start in range(0, most - subset_size + 1, subset_size)
    ]
    if len(subsets) == 1:
        return subsets[0]
    values = torch.tensor([subset.value for subset in subsets], dtype=torch.float64)
    return KernelDistance(float(values.mean()), float(values.std() / math.sqrt(len(subsets))))


def inception_score(probabilities: Tensor) -> float:
    """The exponential of the mean KL(p(y|x) || p(y)): 1 to K, largest where all classes are seen, each with certainty.

    Args:
        probabilities: (M, K), p(y|x) of each generated image, rows sum to 1.

    Source: Salimans et al. 2016, section 4, all samples as one split. Raises ValueError for rows that are no
    probabilities.

    >>> inception_score(torch.eye(4))
    4.0
    """
    p = probabilities.detach().cpu().double()
    if p.ndim != 2 or len(p) < 1:
        raise ValueError(f"IS: probabilities of shape {tuple(p.shape)}: must be (samples, classes)")
    # negated, so that NaN is refused too
    if not bool((p >= 0).all()) or not bool(((p.sum(1) - 1).abs() < 1e-3).all()):
        raise ValueError("IS: the rows are no probabilities: they must be at least 0 and sum to 1; apply softmax first")
    divergence = torch.special.xlogy(p, p).sum(1).mean() - torch.special.xlogy(p.mean(0), p.mean(0)).sum()
    return float(divergence.exp())


def prdc(real: Tensor, fake: Tensor, k_precision: int = 3, k_density: int = 5) -> Overlap:
    """Precision, recall, density and coverage.

    A ball is drawn around each row, out to its k-th neighbour of the same sample. Precision is the share of generated
    rows inside a ball of real ones, recall the share of real rows inside a ball of generated ones; density the mean
    number of real balls a generated row lies in, over k; coverage the share of real balls with a generated row in them.

    Args:
        real: (N, D).
        fake: (M, D).
        k_precision: neighbours for precision and recall.
        k_density: for density and coverage.

    Source: Kynkaanniemi et al. 2019, equations (1) and (2); Naeem et al. 2020, equations (3) and (4). Raises
    ValueError where a sample has no more than k rows, or rows that are not finite or of unlike D.
    """
    real, fake = _checked(real, fake)
    fewest = min(len(real), len(fake))
    for name, k, n in (("k_precision", k_precision, fewest), ("k_density", k_density, len(real))):
        if not 1 <= k < n:
            raise ValueError(f"precision and recall: {name} = {k} with {n} samples: must lie in 1 to {n - 1}")
    origin = real.mean(0)  # near the middle squared distances lose the fewest digits
    real, fake = real - origin, fake - origin
    radii = _radii(real, (k_precision, k_density))
    ball, wide, fake_ball = radii[:, 0], radii[:, 1], _radii(fake, (k_precision,))[:, 0]
    recalled = torch.zeros(len(real), dtype=torch.bool)
    covered = torch.zeros(len(real), dtype=torch.bool)
    n_precise = n_inside = 0
    for rows, squared in _squared_distances(fake, real):  # (rows, N)
        n_precise += int((squared <= ball).any(1).sum())
        inside = squared <= wide
        n_inside += int(inside.sum())
        covered |= inside.any(0)
        recalled |= (squared <= fake_ball[rows, None]).any(0)
    return Overlap(
        precision=n_precise / len(fake),
        recall=float(recalled.double().mean()),
        density=n_inside / (k_density * len(fake)),
        coverage=float(covered.double().mean()),
    )


def sliced_wasserstein(real: Tensor, fake: Tensor, n_projections: int = 128, seed: int = 0) -> float:
    """Root of the mean squared 2-Wasserstein distance of the samples' projections on random directions.

    Of samples unlike in size the quantiles at max(N, M) equidistant levels are compared.

    Args:
        real: (N, D), of pixels as well as features.
        fake: (M, D).
        n_projections: directions, uniform on the sphere.
        seed: of the directions.

    Source: Bonneel et al. 2015, equation (8), by Monte Carlo. Raises ValueError for rows that are not finite or of
    unlike D.
    """
    real, fake = _checked(real, fake)
    directions = torch.randn(real.shape[1], n_projections, generator=draw(seed, "slices"), dtype=torch.float64)
    directions /= directions.norm(dim=0)
    levels = (torch.arange(max(len(real), len(fake)), dtype=torch.float64) + 0.5) / max(len(real), len(fake))
    first, second = (
        (rows @ directions).sort(0).values[(levels * len(rows)).long()] for rows in (real, fake)
    )  # (max(N, M), projections)
    return float((first - second).square().mean().sqrt())


def _checked(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Both samples in float64 on the CPU.

    Raises ValueError for whatever cannot be compared.
    """
    for name, rows in (("real", real), ("fake", fake)):
        if rows.ndim != 2 or not rows.shape[1]:
            raise ValueError(f"{name} features of shape {tuple(rows.shape)}: must be (samples, features); flatten them")
        if len(rows) < 2:
            raise ValueError(f"{len(rows)} {name} samples: at least 2 are needed")
        bad = int((~rows.isfinite()).any(1).sum())
        if bad:
            raise ValueError(f"{bad} of {len(rows)} {name} samples have NaN or infinite features; leave them out")
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"real samples have {real.shape[1]} features, fake ones {fake.shape[1]}: must be as many; use one extractor"
        )
    return real.detach().cpu().double(), fake.detach().cpu().double()


def _covariance(rows: Tensor) -> Tensor:
    """(D, D), over the number of rows less one."""
    centred = rows - rows.mean(0)
    return centred.T @ centred / (len(rows) - 1)


def _kid(real: Tensor, fake: Tensor) -> KernelDistance:
    n, m = len(real), len(fake)
    xx, yy, xy = _kernel(real, real), _kernel(fake, fake), _kernel(real, fake)
    of_real, of_fake = xx.rows - xy.rows, yy.rows - xy.columns  # what each row adds to the figure, up to a factor 2
    value = xx.mean + yy.mean - 2 * xy.mean
    # The variance of a row's mean holds that of its pairs, over their number; what is left is the row's own.
    own = 4 / n * max(float(of_real.var()) - xx.pairs / (n - 1) - xy.pairs / m, 0.0)
    own += 4 / m * max(float(of_fake.var()) - yy.pairs / (m - 1) - xy.pairs / n, 0.0)
    pairs = 2 * xx.pairs / (n * (n - 1)) + 2 * yy.pairs / (m * (m - 1)) + 4 * xy.pairs / (n * m)
    return KernelDistance(value, math.sqrt(own + pairs))


class _Kernel(NamedTuple):
    """A kernel matrix in sums; that of a sample with itself without its diagonal."""

    mean: float
    rows: Tensor  # (N,), means
    columns: Tensor  # (M,), means
    pairs: float  # variance of a pair's value beyond what its row and its column explain


def _kernel(x: Tensor, y: Tensor) -> _Kernel:
    n, m = len(x), len(y)
    is_same = x is y
    count = m - 1 if is_same else m  # of values in a row
    rows, columns, squares = x.new_zeros(n), x.new_zeros(m), 0.0
    for block in _blocks(n, m):
        values = (x[block] @ y.T / x.shape[1]).add_(1).pow_(3)
        if is_same:
            values.diagonal(block.start).zero_()
        rows[block] = values.sum(1) / count
        columns += values.sum(0) / (count if is_same else n)
        squares += float(values.square_().sum())
    mean = float(rows.mean())
    total = squares / (n * count) - mean**2
    explained = sum(float(each.var(correction=0)) for each in (rows, columns))
    return _Kernel(mean, rows, columns, max(total - explained, 0.0))


def _radii(rows: Tensor, ks: tuple[int, ...]) -> Tensor:
    """(N, len(ks)): squared distances of each row to its k-th nearest other row."""
    radii = rows.new_empty(len(rows), len(ks))
    for block, squared in _squared_distances(rows, rows):
        squared.diagonal(block.start).fill_(math.inf)  # nobody is their own neighbour
        nearest = squared.topk(max(ks), largest=False).values  # ascending
        radii[block] = nearest[:, [k - 1 for k in ks]] * (1 + TIE)
    return radii


def _squared_distances(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows of x, and their squared distances to all rows of y, (rows, M); exactly 0 between equal rows."""
    x_norms, y_norms = x.square().sum(1), y.square().sum(1)
    for block in _blocks(len(x), len(y)):
        norms = x_norms[block, None] + y_norms
        squared = torch.addmm(norms, x[block], y.T, alpha=-2)
        yield block, squared.masked_fill_(squared <= SAME * norms, 0.0)


def _blocks(n: int, m: int) -> Iterator[slice]:
    """Rows of an (n, m) matrix, as many at a time as memory is meant to hold."""
    size = max(BLOCK // m, 1)
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
