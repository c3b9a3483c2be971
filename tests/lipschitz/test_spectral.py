"""Power iteration and the three spectral normalisations, against singular value decompositions and dense maps."""

import copy
import io
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import jacrev

from lightning_modules.lipschitz import constraint
from lightning_modules.lipschitz.spectral import MatrixMap, matrix_map, power_iteration, weighted_layers

LAYERS = [
    (nn.Linear(7, 5), (1, 7)),
    (nn.Conv1d(3, 4, 3), (1, 3, 9)),
    (nn.Conv2d(3, 5, 3, stride=2, padding=1), (1, 3, 8, 8)),
    (nn.Conv2d(4, 6, 4, padding=1), (1, 4, 7, 7)),
    (nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1), (1, 4, 5, 5)),
]


def fresh(layer: nn.Module) -> nn.Sequential:
    """A copy with the same initial weights in every session: how fast they converge depends on them."""
    layer = copy.deepcopy(layer)
    torch.manual_seed(0)
    layer.reset_parameters()  # type: ignore[operator]
    return nn.Sequential(layer)


def rotation(angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def iterate(A: Tensor, u: Tensor, n: int) -> Any:
    return power_iteration(lambda v: A @ v, lambda u: A.T @ u, u, n)


def norm_of(layer: nn.Module) -> float:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return float(torch.linalg.matrix_norm(matrix_map(layer).matrix(weight.detach()), 2))


def test_the_error_of_the_vector_falls_as_the_ratio_of_singular_values_to_twice_the_rounds() -> None:
    U, ratio = rotation(0.4), 0.7
    A = U @ torch.diag(torch.tensor([1.0, ratio], dtype=torch.float64)) @ rotation(1.1)
    start = U @ torch.tensor([0.6, 0.8], dtype=torch.float64)
    for n in (1, 3, 6):
        top, second = U.T @ iterate(A, start, n).u
        assert float(second / top) == pytest.approx(ratio ** (2 * n) * 0.8 / 0.6)  # tangent of the angle, exactly


def test_the_error_of_the_estimate_falls_as_the_ratio_to_four_times_the_rounds() -> None:
    A = torch.diag(torch.tensor([1.0, 0.7], dtype=torch.float64))
    start = torch.tensor([0.6, 0.8], dtype=torch.float64)
    errors = [1 - float(iterate(A, start, n).sigma) for n in (6, 7, 8)]
    assert [errors[1] / errors[0], errors[2] / errors[1]] == pytest.approx([0.7**4] * 2, rel=0.05)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_estimate_never_exceeds_the_largest_singular_value(m: int, n: int, rounds: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(m, n, dtype=torch.float64, generator=generator)
    found = iterate(A, torch.randn(m, dtype=torch.float64, generator=generator), rounds)
    assert found.sigma <= torch.linalg.matrix_norm(A, 2) * (1 + 1e-12)
    torch.testing.assert_close(found.sigma, found.u @ A @ found.v)


def test_a_start_orthogonal_to_the_top_vector_finds_another() -> None:
    A = torch.diag(torch.tensor([3.0, 1.0]))
    assert iterate(A, torch.tensor([0.0, 1.0]), 50).sigma == 1


def test_power_iteration_without_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="n = 0: power iteration takes at least 1 round"):
        iterate(torch.eye(2), torch.ones(2), 0)


@pytest.mark.parametrize(("layer", "shape"), [*LAYERS, (nn.Embedding(6, 4), (1, 2))])
def test_a_normalised_layer_has_the_target_as_its_largest_singular_value(
    layer: nn.Module, shape: tuple[int, ...]
) -> None:
    network = fresh(layer)
    constraint("sn", target=3.0).apply_to(network)
    inputs = torch.zeros(shape, dtype=torch.int64) if isinstance(layer, nn.Embedding) else torch.zeros(shape)
    for _ in range(100):
        network(inputs)
    assert norm_of(network[0]) == pytest.approx(3.0, rel=1e-3)


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_the_convolution_norm_bounds_the_map_from_image_to_image(layer: nn.Module, shape: tuple[int, ...]) -> None:
    network = fresh(layer)
    constraint("sn_conv", target=2.0).apply_to(network, torch.zeros(shape))
    for _ in range(150):
        network(torch.zeros(shape))
    size = math.prod(shape)
    dense = jacrev(network.eval())(torch.zeros(shape)).reshape(-1, size).detach()
    assert float(torch.linalg.matrix_norm(dense, 2)) == pytest.approx(2.0, rel=5e-3)


def test_the_gradient_is_that_of_exact_normalisation_once_u_has_converged() -> None:
    layer = fresh(nn.Linear(5, 4))[0].double()
    assert isinstance(layer, nn.Linear)
    weight = layer.weight.detach().clone().requires_grad_()
    constraint("sn", n_power_iterations=200).apply_to(layer)
    direction = torch.randn(4, 5, dtype=torch.float64)
    torch.autograd.backward((layer.weight * direction).sum())
    torch.autograd.backward(((weight / torch.linalg.matrix_norm(weight, 2)) * direction).sum())
    torch.testing.assert_close(next(layer.parametrizations.parameters()).grad, weight.grad, rtol=1e-6, atol=1e-9)  # type: ignore[union-attr]


def test_the_cold_norm_is_the_articles_loop_with_its_gradient() -> None:
    layer = nn.Linear(6, 4)
    w = layer.weight.detach().clone().requires_grad_()
    constraint("sn_cold", n_power_iterations=5).apply_to(layer)
    u = torch.ones(1, 6)
    for _ in range(5):
        v = nn.functional.normalize(u @ w.T)
        u = nn.functional.normalize(v @ w)
    expected = w / (v @ w @ u.T)
    torch.testing.assert_close(layer.weight, expected)
    direction = torch.randn(4, 6)
    torch.autograd.backward((layer.weight * direction).sum())
    torch.autograd.backward((expected * direction).sum())
    torch.testing.assert_close(next(layer.parametrizations.parameters()).grad, w.grad)  # type: ignore[union-attr]


def test_the_cold_estimate_of_a_random_matrix_is_low() -> None:
    layer = nn.Linear(576, 128, bias=False)
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(0))
    constraint("sn_cold").apply_to(layer)
    assert 1.03 < norm_of(layer) < 1.1  # 6 % after 5 rounds


def test_u_starts_close_to_the_top_vector() -> None:
    layer = nn.Linear(576, 128, bias=False)
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(0))
    constraint("sn").apply_to(layer)
    assert 1 <= norm_of(layer.eval()) < 1.02  # 1.25 from a single round


@pytest.mark.parametrize("name", ["sn", "sn_conv"])
def test_u_moves_in_training_mode_only(name: str) -> None:
    network, x = nn.Sequential(nn.Conv2d(1, 3, 3)), torch.rand(2, 1, 6, 6)
    constraint(name).apply_to(network, x)
    (u,) = network.buffers()
    nn.init.normal_(u)
    before = u.clone()
    torch.autograd.backward(network.eval()(x).sum())
    with torch.inference_mode():
        network(x)
    assert torch.equal(u, before)
    network.train()(x)
    assert not torch.equal(u, before)


@pytest.mark.parametrize("name", ["sn", "sn_cold", "sn_conv"])
def test_two_forward_passes_may_precede_one_backward_pass(name: str) -> None:
    network, x = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(48, 1)), torch.rand(2, 1, 6, 6)
    constraint(name).apply_to(network, x)
    torch.autograd.backward((network(x) - network(2 * x)).sum())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", ["sn", "sn_cold", "sn_conv"])
def test_a_layer_of_zeros_stays_zeros(name: str) -> None:
    network, x = nn.Sequential(nn.Conv2d(1, 3, 3)), torch.rand(2, 1, 6, 6)
    nn.init.zeros_(network[0].weight)  # type: ignore[arg-type]
    constraint(name).apply_to(network, x)
    torch.autograd.backward(network(x).sum())
    assert not norm_of(network[0])
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_the_norm_is_taken_in_float32_within_autocast() -> None:
    network = nn.Sequential(nn.Linear(64, 64))
    constraint("sn").apply_to(network)
    network.eval()  # in training each look at the weight is a power step
    full = network[0].weight
    with torch.autocast("cpu", torch.bfloat16):
        inside = network[0].weight
    torch.testing.assert_close(inside, full, rtol=1e-6, atol=1e-7)
    assert inside.dtype == torch.float32


@pytest.mark.parametrize("name", ["sn", "sn_cold", "sn_conv", "snr", "sn_projection"])
def test_copies_and_saved_states_give_the_same_bits(name: str) -> None:
    def network() -> nn.Sequential:
        made = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
        constraint(name).apply_to(made, torch.zeros(1, 1, 6, 6))
        return made

    one, another, x = network(), network(), torch.rand(4, 1, 6, 6)
    one(x)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    another.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(another(x), copy.deepcopy(one)(x))  # in training mode: u counts, too


def test_columns_are_read_in_the_order_of_the_memory_without_a_copy() -> None:
    weight = torch.rand(4, 3, 5, 5).to(memory_format=torch.channels_last)
    assert MatrixMap().matrix(weight).data_ptr() == weight.data_ptr()


def test_layers_are_found_by_name() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Linear(2, 2)))
    assert list(weighted_layers(network)) == ["0", "2.0"]
