"""The audit's bounds: they never cross, are tight where the truth is known, and leave the network alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_modules.lipschitz import audit, constraint
from lightning_modules.lipschitz.audit import Residual, jacobians, plain_copy


def cnn(n_out: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        Residual(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Tanh())),
        Residual(nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(3, 5, 1)),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(20, n_out),
    )


@given(seed=st.integers(0, 999), n_out=st.integers(1, 3), name=st.sampled_from(["none", "sn", "sn_cold", "sn_conv"]))
@settings(max_examples=15, deadline=None)
def test_the_lower_bound_never_exceeds_the_upper_bound(seed: int, n_out: int, name: str) -> None:
    torch.manual_seed(seed)
    network, points = cnn(n_out), 5 * torch.randn(6, 1, 8, 8)
    constraint(name).apply_to(network, points[:1])
    network(points)
    found = audit(network, points, others=torch.rand(4, 1, 8, 8), seed=seed)
    assert 0 < found.lower <= found.upper < math.inf


def test_the_bounds_of_a_linear_network_are_both_its_norm() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 1), nn.Identity())
    weight = network[1].weight
    assert isinstance(weight, nn.Parameter)
    found = audit(network, torch.rand(3, 1, 4, 4))
    assert found.upper == pytest.approx(found.lower, rel=1e-6) == pytest.approx(float(weight.detach().norm()), rel=1e-5)
    assert found.lower <= found.upper


def test_the_bounds_of_orthogonal_layers_meet() -> None:
    layers = [nn.utils.parametrizations.orthogonal(nn.Linear(6, 6)) for _ in range(3)]
    found = audit(nn.Sequential(*layers), torch.rand(3, 6))
    assert (found.lower, found.upper) == pytest.approx((1, 1), rel=1e-5)


def test_the_lower_bound_is_a_slope_that_two_points_show() -> None:
    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    points = torch.randn(20, 2, dtype=torch.float64)
    found = audit(network, points)
    with torch.no_grad():
        slopes = (network(points[:10]) - network(points[10:])).abs().flatten() / (points[:10] - points[10:]).norm(dim=1)
    assert float(slopes.max()) <= found.upper
    assert float(jacobians(network, points).norm(dim=2).max()) <= found.lower


def test_the_search_finds_a_steeper_point_than_it_starts_from() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.Sigmoid())
    nn.init.ones_(network[0].weight)  # type: ignore[arg-type]
    nn.init.zeros_(network[0].bias)  # type: ignore[arg-type]
    points = torch.tensor([[3.0], [4.0]])
    at_points = float(jacobians(network, points).max())
    found = audit(network, points)
    assert at_points < 0.05
    assert 0.2 < found.lower <= found.upper == pytest.approx(0.25)


def test_a_residual_block_adds_the_norms_of_its_two_ways() -> None:
    branch = nn.Linear(3, 3, bias=False)
    branch.weight = nn.Parameter(2 * torch.eye(3))
    assert audit(Residual(branch), torch.rand(2, 3)).upper == pytest.approx(3)
    assert audit(Residual(branch), torch.rand(2, 3)).lower == pytest.approx(3)


def test_a_layer_of_no_known_kind_is_named() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.CELU()), nn.Linear(4, 1))
    found = audit(network, torch.rand(3, 4))
    assert found.upper == math.inf > found.lower
    assert found.unknown == ("1.1.CELU",)


def test_layers_are_listed_with_their_norms() -> None:
    found = audit(nn.Sequential(nn.Sigmoid(), Residual(nn.ReLU())), torch.rand(3, 4))
    assert [(layer.name, layer.norm) for layer in found.layers] == [
        ("0.Sigmoid", 0.25),
        ("1.branch.ReLU", 1.0),
        ("1.shortcut.Identity", 1.0),
    ]


@pytest.mark.parametrize("name", ["none", "sn", "sn_cold", "sn_conv", "snr"])
def test_a_network_is_left_as_it_was(name: str) -> None:
    network, x = cnn(), torch.rand(4, 1, 8, 8)
    constraint(name).apply_to(network, x[:1])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    first, second = audit(network, x), audit(network, x)
    assert first == second
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    torch.autograd.backward(network(x).sum())  # still trainable, still parametrized
    assert all(p.grad is not None for p in network.parameters())


def test_a_plain_copy_computes_the_same() -> None:
    network, x = cnn(), torch.rand(4, 1, 8, 8)
    constraint("sn").apply_to(network)
    network.eval()
    torch.testing.assert_close(plain_copy(network)(x.double()).float(), network(x))
    assert not [name for name, _ in plain_copy(network).named_modules() if "parametrizations" in name]


def test_the_audit_works_where_no_gradient_can_be_taken() -> None:
    network = cnn()
    constraint("sn_conv").apply_to(network, torch.zeros(1, 1, 8, 8))
    points = torch.rand(4, 1, 8, 8)
    expected = audit(network, points)
    with torch.inference_mode():
        assert audit(network, 1 * points) == expected


def test_a_diverged_network_has_no_bound() -> None:
    network = cnn()
    nn.init.constant_(network[0].weight, math.nan)  # type: ignore[arg-type]
    found = audit(network, torch.rand(4, 1, 8, 8))
    assert (found.lower, found.upper) == (0, math.inf)


def test_a_flat_network_has_the_lower_bound_zero() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    nn.init.constant_(network[0].bias, -1000.0)  # type: ignore[arg-type]
    assert audit(network, torch.rand(4, 2)).lower == 0


def test_an_audit_without_points_is_refused() -> None:
    with pytest.raises(ValueError, match="points = 0 rows: the lower bound needs at least 1"):
        audit(cnn(), torch.zeros(0, 1, 8, 8))
