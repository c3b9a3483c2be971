"""Operator norms of layers against dense matrices, derivatives on a grid, and brute force."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from lightning_modules.lipschitz.norms import SLOPES, linear_norm, matrix_norm, operator_norm

IMAGE = (1, 2, 6, 6)
LINEAR = [
    nn.Conv2d(2, 3, 3),
    nn.Conv2d(2, 3, 3, stride=2, padding=1),
    nn.Conv2d(2, 4, 3, padding=2, dilation=2, groups=2),
    nn.Conv2d(2, 3, 3, padding="same", dilation=2),
    nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"),
    nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1),
    nn.AvgPool2d(3, stride=2),
    nn.AdaptiveAvgPool2d(1),
    nn.Upsample(scale_factor=2),
    nn.Upsample(scale_factor=2, mode="bilinear"),
]


def dense(layer: nn.Module, x: Tensor) -> Tensor:
    """The Jacobian at x as a matrix; an affine layer's is the same everywhere."""
    jacobian: Tensor = jacrev(layer)(x).reshape(-1, x.numel()).detach()
    return jacobian


@pytest.mark.parametrize("layer", LINEAR, ids=repr)
def test_a_linear_layers_norm_is_that_of_its_dense_matrix_and_never_below(layer: nn.Module) -> None:
    layer, x = layer.double(), torch.zeros(IMAGE, dtype=torch.float64)
    exact = float(torch.linalg.matrix_norm(dense(layer, x), 2))
    found = operator_norm(layer, x)
    assert found == pytest.approx(exact, rel=1e-3)
    assert found is not None
    assert found >= exact


@pytest.mark.parametrize("shape", [(3, 5), (300, 280)])
def test_a_matrix_has_its_largest_singular_value(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    assert exact <= matrix_norm(matrix) <= exact * (1 + 1e-4)


def test_an_affine_functions_constant_is_left_out() -> None:
    assert linear_norm(lambda v: 3 * v + 7, torch.zeros(1, 4, dtype=torch.float64)) == pytest.approx(3)


def test_weights_that_are_not_finite_have_an_infinite_norm() -> None:
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, math.nan)
    assert operator_norm(layer, torch.zeros(1, 2)) == math.inf
    convolution = nn.Conv2d(2, 2, 1)
    nn.init.constant_(convolution.weight, math.nan)
    assert operator_norm(convolution, torch.zeros(IMAGE)) == math.inf


@pytest.mark.parametrize(
    "layer",
    [
        *(kind() for kind in SLOPES if kind.__module__.endswith("activation") and kind is not nn.Softmax),
        nn.LeakyReLU(0.2),
        nn.LeakyReLU(3.0),
        nn.ELU(2.0),
    ],
    ids=repr,
)
def test_an_activations_norm_is_its_largest_slope(layer: nn.Module) -> None:
    grid = torch.linspace(-8, 8, 16001, dtype=torch.float64).requires_grad_()
    (slopes,) = torch.autograd.grad(layer(grid).sum(), grid)
    assert operator_norm(layer, grid) == pytest.approx(float(slopes.abs().max()), rel=1e-3)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Softmax(1), (1, 4)),
        (nn.LayerNorm(4), (1, 4)),
        (nn.GroupNorm(2, 4), (1, 4, 3)),
        (nn.InstanceNorm1d(4), (1, 4, 3)),
        (nn.MaxPool2d(2), IMAGE),
        (nn.MaxPool2d(3, stride=1), IMAGE),
        (nn.MaxPool2d(3, stride=2, padding=1), IMAGE),
        (nn.Flatten(), IMAGE),
    ],
)
def test_no_jacobian_is_larger_than_a_layers_norm(layer: nn.Module, shape: tuple[int, ...]) -> None:
    layer = layer.double()
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(50, *shape, dtype=torch.float64, generator=generator) * torch.logspace(-4, 1, 50).view(
        -1, *[1] * len(shape)
    )
    jacobians = vmap(jacrev(layer))(points).reshape(50, -1, math.prod(shape)).detach()
    norm = operator_norm(layer, points[0])
    assert norm is not None
    assert float(torch.linalg.matrix_norm(jacobians, 2).max()) <= norm * (1 + 1e-9)


def test_one_pixel_can_win_every_window_of_a_pool() -> None:
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1
    layer = nn.MaxPool2d(3, stride=1)
    assert layer(x).norm() == operator_norm(layer, x) == 3


def test_batch_norm_has_its_largest_gamma_over_sigma() -> None:
    layer = nn.BatchNorm1d(2, eps=0)
    layer.weight.data, layer.running_var = torch.tensor([3.0, -8.0]), torch.tensor([1.0, 16.0])
    assert operator_norm(layer, torch.zeros(1, 2)) == pytest.approx(3)
    assert operator_norm(nn.BatchNorm1d(128), torch.zeros(1, 128)) == pytest.approx(1, rel=1e-4)  # not sqrt(128)


def test_an_embedding_has_the_norm_of_its_table() -> None:
    table = nn.Embedding(2, 2, _weight=torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert operator_norm(table, torch.zeros(1, 1)) == pytest.approx(5)


def test_a_layer_of_no_known_kind_has_none() -> None:
    assert operator_norm(nn.GRU(2, 2), torch.zeros(1, 2)) is None
    assert operator_norm(nn.MaxPool2d(2, dilation=2), torch.zeros(IMAGE)) is None
