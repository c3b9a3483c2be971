"""Eigenvalues of Hessians: against dense matrices."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_modules.dynamics import hessian_vector_product, lanczos, top_eigenvalues
from tests.dynamics.measured import as_function, classifier, digits


def symmetric(eigenvalues: Tensor, seed: int = 0) -> Tensor:
    """A matrix with these eigenvalues and random eigenvectors."""
    n = len(eigenvalues)
    generator = torch.Generator().manual_seed(seed)
    turn: Tensor = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    return turn @ torch.diag(eigenvalues.double()) @ turn.T


@pytest.mark.parametrize("more", [{"activation": "tanh"}, {"loss": "mse"}])
def test_top_eigenvalues_equal_those_of_the_dense_hessian(more: dict[str, str]) -> None:
    losses, parameters = as_function(classifier(**more))
    rows = digits(150)
    product = hessian_vector_product(losses, parameters, rows)
    dense = torch.func.vmap(product, chunk_size=256)(torch.eye(1210)).double()
    torch.testing.assert_close(dense, dense.T, rtol=1e-3, atol=1e-5)
    found = top_eigenvalues(losses, parameters, rows, k=3)
    torch.testing.assert_close(found.values, torch.linalg.eigvalsh(dense).flip(0)[:3], rtol=1e-4, atol=0)
    assert found.n_products < 40


def test_the_product_is_with_the_hessian_of_autograd() -> None:
    losses, parameters = as_function(classifier(network="softmax"))
    rows, v = digits(50), torch.randn(650, generator=torch.Generator().manual_seed(0))
    shapes = {name: p.shape for name, p in parameters.items()}

    def loss(theta: Tensor) -> Tensor:
        pieces = theta.split([p.numel() for p in parameters.values()])  # type: ignore[no-untyped-call]
        named = {name: piece.view(shapes[name]) for name, piece in zip(shapes, pieces, strict=True)}
        return losses(named, rows).mean()

    theta = torch.cat([p.flatten() for p in parameters.values()])
    expected = torch.autograd.functional.hvp(loss, theta, v)[1]  # type: ignore[no-untyped-call]
    torch.testing.assert_close(hessian_vector_product(losses, parameters, rows)(v), expected, rtol=1e-4, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=12), st.integers(0, 5))
def test_lanczos_finds_the_largest_eigenvalues_of_any_symmetric_matrix(spectrum: list[int], seed: int) -> None:
    eigenvalues = torch.tensor(sorted(set(spectrum), reverse=True), dtype=torch.float64)
    k = min(2, len(eigenvalues))
    matrix = symmetric(eigenvalues, seed)
    start = torch.randn(len(matrix), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = lanczos(lambda v: matrix @ v, start, k, tolerance=1e-8)
    torch.testing.assert_close(found.values, eigenvalues[:k], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spectrum", [[5.0, 0, 0, 0, 0, 0], [2.0] * 6, [-1.0, -2, -3, -4, -5, -6], [0.0] * 6])
def test_deficient_repeated_negative_and_zero_spectra_are_no_trouble(spectrum: list[float]) -> None:
    matrix = symmetric(torch.tensor(spectrum)).float()
    found = lanczos(lambda v: matrix @ v, torch.ones(6), tolerance=1e-6)
    assert found.values.item() == pytest.approx(spectrum[0], abs=1e-5)


def test_an_eigenvalue_lies_within_the_residual() -> None:
    eigenvalues = torch.linspace(0, 1, 300)
    matrix = symmetric(eigenvalues)
    found = lanczos(lambda v: matrix @ v, torch.ones(300, dtype=torch.float64), most_products=8)
    assert found.n_products == 8
    assert (eigenvalues - found.values).abs().min() < found.residuals.item()


def test_what_is_not_finite_gives_nan_and_no_error() -> None:
    found = lanczos(lambda v: v * math.inf, torch.ones(5), k=2)
    assert found.values.isnan().all()
    assert found.n_products == 1


@pytest.mark.parametrize("k", [0, 6])
def test_more_eigenvalues_than_there_are_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match=rf"^k = {k}: must lie in 1 to 5$"):
        lanczos(lambda v: v, torch.ones(5), k)
