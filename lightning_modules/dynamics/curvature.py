"""The largest eigenvalues of a loss's Hessian, from products with vectors alone.

Shapes: P parameters; n rows of training data; m Lanczos steps.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad, vjp

from lightning_modules.data.sampling import draw
from lightning_modules.dynamics.noise import Parameters, RowLosses, Rows

MOST_PRODUCTS = 100
TOLERANCE = 1e-3  # of the vector; the eigenvalue is off by the order of its square

Product = Callable[[Tensor], Tensor]


class Eigenvalues(NamedTuple):
    """The k largest eigenvalues and how good they are."""

    values: Tensor  # (k,) float64, largest first
    residuals: Tensor  # (k,): |H u - value u|; an eigenvalue lies within it
    n_products: int


def hessian_vector_product(losses: RowLosses, parameters: Parameters, rows: Rows) -> Product:
    """The function v (P,) -> H v (P,), H the Hessian of the mean loss of the rows.

    The gradient is computed once, here; each product is one backward pass through its graph, which stays in memory:
    1 to 2 times the cost of a training step on the n rows.

    >>> cubic = lambda parameters, x: (parameters["w"] * x).pow(3).sum(1)
    >>> product = hessian_vector_product(cubic, {"w": torch.tensor([1.0, 2.0])}, torch.ones(1, 2))
    >>> product(torch.tensor([1.0, 0.0])), product(torch.tensor([0.0, 1.0]))
    (tensor([6., 0.]), tensor([ 0., 12.]))
    """
    names = list(parameters)
    shapes = [parameters[name].shape for name in names]
    sizes = [parameters[name].numel() for name in names]

    def mean_loss(parameters: Parameters) -> Tensor:
        return losses(parameters, rows).mean()

    pull = vjp(grad(mean_loss), dict(parameters))[1]  # H is symmetric: v H = H v

    def product(v: Tensor) -> Tensor:
        pieces = [piece.view(shape) for piece, shape in zip(torch.split(v, sizes), shapes, strict=True)]
        (found,) = pull(dict(zip(names, pieces, strict=True)))
        return torch.cat([found[name].reshape(-1) for name in names])

    return product


def lanczos(
    product: Product,
    start: Tensor,
    k: int = 1,
    *,
    tolerance: float = TOLERANCE,
    most_products: int = MOST_PRODUCTS,
) -> Eigenvalues:
    """The k largest eigenvalues (not the largest in absolute value) of a symmetric operator.

    Each new vector is made orthogonal to all before, twice, so no eigenvalue is found more often than it is there; one
    of several equal ones may be found once only. Costs m products, m vectors (P,) of memory
    and m^2 P operations.

    Args:
        product: Of the operator with a vector (P,).
        start: (P,), any vector with a part along the eigenvectors sought, as a random one.
        k: At most P.
        tolerance: Ends when each residual is below this share of the largest eigenvalue's size.
        most_products: Ends then in any case.

    Returns:
        NaN in all of them, once a product is not finite.

    Raises:
        ValueError: k is not in 1 to min(P, most_products).

    Source: Lanczos 1950; Golub & Van Loan, Matrix Computations, section 10.3, for full reorthogonalisation.

    >>> diagonal = torch.tensor([3.0, -9.0, 1.0, 2.0])
    >>> [round(value, 4) for value in lanczos(lambda v: diagonal * v, torch.ones(4), k=2).values.tolist()]
    [3.0, 2.0]
    """
    if not 1 <= k <= min(len(start), most_products):
        raise ValueError(f"k = {k}: must lie in 1 to {min(len(start), most_products)}")
    basis = (start / start.norm()).unsqueeze(0)  # (m, P)
    diagonal: list[float] = []
    beside: list[float] = []
    found = _unknown(k, 0)
    for m in range(1, min(len(start), most_products) + 1):
        w = product(basis[-1])
        diagonal.append(float(w @ basis[-1]))
        w = _orthogonal(w, basis)
        beside.append(float(w.norm()))
        if not (math.isfinite(diagonal[-1]) and math.isfinite(beside[-1])):
            return _unknown(k, m)
        size = max(map(abs, diagonal + beside))
        if beside[-1] <= torch.finfo(start.dtype).eps * size:  # an invariant subspace: the rest starts anew
            beside[-1] = 0.0
            generator = draw(m, "dynamics/lanczos")
            w = _orthogonal(torch.randn(len(start), generator=generator).to(start), basis)
        if m >= k:
            found = _ritz(diagonal, beside, k)
            if float(found.residuals.max()) <= tolerance * float(found.values.abs().max()):
                break
        basis = torch.cat([basis, (w / w.norm()).unsqueeze(0)])
    return found


def top_eigenvalues(losses: RowLosses, parameters: Parameters, rows: Rows, k: int = 1, seed: int = 0) -> Eigenvalues:
    """The k largest eigenvalues of the Hessian of the rows' mean loss, see `lanczos`.

    Args:
        losses: Of each row, twice differentiable.
        parameters: By name.
        rows: As `losses` takes them.
        k: At most P.
        seed: Of the vector it starts from.
    """
    like = next(iter(parameters.values()))
    n_parameters = sum(parameter.numel() for parameter in parameters.values())
    start = torch.randn(n_parameters, generator=draw(seed, "dynamics/start")).to(like)
    return lanczos(hessian_vector_product(losses, parameters, rows), start, k)


def _orthogonal(w: Tensor, basis: Tensor) -> Tensor:
    """W without its part in the basis; the second pass takes off what the first one's rounding left."""
    for _ in range(2):
        w = w - basis.T @ (basis @ w)
    return w


def _ritz(diagonal: list[float], beside: list[float], k: int) -> Eigenvalues:
    """Of the tridiagonal matrix with these numbers on and beside its diagonal."""
    inner = torch.tensor(beside[:-1], dtype=torch.float64)
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(inner, 1) + torch.diag(inner, -1)
    values, vectors = torch.linalg.eigh(matrix)
    residuals = beside[-1] * vectors[-1].abs()
    return Eigenvalues(values.flip(0)[:k], residuals.flip(0)[:k], len(diagonal))


def _unknown(k: int, n_products: int) -> Eigenvalues:
    nothing = torch.full((k,), math.nan, dtype=torch.float64)
    return Eigenvalues(nothing, nothing, n_products)
