"""What is measured of a classifier: certified radii no attack undercuts, order of the attacks, and no trace left."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.lipschitz import audit, constraint
from lightning_modules.lipschitz.robustness import certified_radius, robustness


def losses(scores: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(scores, y, reduction="none")


def fitted() -> tuple[nn.Sequential, Tensor, Tensor]:
    """A network that tells images bright on the left, in the middle or on the right, three pixels wide."""
    torch.manual_seed(0)
    y = torch.arange(90) % 3
    x = (0.5 * F.one_hot(y, 3).float() + 0.5 * torch.rand(90, 3)).view(90, 1, 1, 3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 3))
    constraint("sn", target=4.0).apply_to(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        torch.autograd.backward(losses(network(x), y).mean())
        optimizer.step()
    return network, x, y


def test_the_radius_of_a_linear_classifier_is_the_distance_to_its_border() -> None:
    scores = torch.tensor([[2.0, 0.0]])  # of x = (1, 1) under W = diag(2, 0): the border is at distance 1
    assert certified_radius(scores, torch.tensor([0]), 2.0).item() == pytest.approx(1 / math.sqrt(2))


def test_a_wrong_class_and_an_unknown_bound_certify_nothing() -> None:
    scores, y = torch.tensor([[2.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 1])
    assert certified_radius(scores, y, math.inf).tolist() == [0, 0]
    assert certified_radius(scores, y, 1.0)[1] == 0


def test_no_step_within_the_certified_radius_changes_the_class() -> None:
    network, x, y = fitted()
    network.eval()
    with torch.no_grad():
        radius = certified_radius(network(x), y, audit(network, x).upper)
        assert radius.max() > 0.05
        for _ in range(200):
            direction = torch.randn(x.shape)
            direction /= direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            moved = network(x + 0.999 * radius.view(-1, 1, 1, 1) * direction)
            assert (moved.argmax(1) == y)[radius > 0].all()


def test_stronger_changes_leave_no_more_accuracy() -> None:
    network, x, y = fitted()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = robustness(network, x, y, losses=losses, lipschitz=audit(network, x).upper)
    assert found["accuracy"] > 0.8
    assert found["pgd_accuracy"] <= found["fgsm_accuracy"] <= found["accuracy"]
    assert found["three_pixel_accuracy"] <= found["one_pixel_accuracy"] <= found["accuracy"]
    for percent in (1, 3, 10):
        assert found[f"weights_worst_{percent}_accuracy"] <= found[f"weights_gaussian_{percent}_accuracy"] + 0.01
    assert found["weights_worst_10_accuracy"] <= found["weights_worst_1_accuracy"]
    assert found["certified_radius"] > 0
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_same_seed_measures_the_same_also_in_inference_mode() -> None:
    network, x, y = fitted()
    first = robustness(network, x, y, losses=losses, seed=3)
    with torch.inference_mode():
        assert robustness(network, 1 * x, 1 * y, losses=losses, seed=3) == first
