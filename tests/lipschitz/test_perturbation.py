"""Moved weights: how far they go, and that ascent finds the worst where it is known."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from lightning_modules.lipschitz.perturbation import Parameters, gaussian, worst_case


def shares(parameters: Parameters, moved: Parameters) -> list[float]:
    return [float((moved[name] - w).norm() / w.norm()) for name, w in parameters.items() if w.norm() > 0]


def network() -> tuple[nn.Module, Parameters]:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    nn.init.zeros_(made[2].bias)  # type: ignore[arg-type]
    return made, {name: p.detach() for name, p in made.named_parameters()}


@pytest.mark.parametrize("fraction", [0.0, 0.03, 0.1])
def test_each_tensor_moves_by_the_same_share_of_its_norm(fraction: float) -> None:
    _, parameters = network()
    moved = gaussian(parameters, fraction, torch.Generator().manual_seed(0))
    assert shares(parameters, moved) == pytest.approx([fraction] * 3, rel=1e-3, abs=1e-7)
    assert not moved["2.bias"].any()  # zeros stay


@pytest.mark.parametrize("fraction", [0.0, 0.03, 0.1])
def test_the_worst_case_lies_within_the_share_and_above_chance(fraction: float) -> None:
    made, parameters = network()
    x = torch.rand(16, 4)

    def mean_loss(parameters: Parameters) -> Tensor:
        found: Tensor = functional_call(made, parameters, (x,)).square().mean()
        return found

    worst = worst_case(mean_loss, parameters, fraction)
    assert max(shares(parameters, worst)) <= fraction * (1 + 1e-5)
    generator = torch.Generator().manual_seed(0)
    drawn = [float(mean_loss(gaussian(parameters, fraction, generator))) for _ in range(20)]
    assert float(mean_loss(worst)) >= max(drawn) - 1e-7


def test_the_worst_case_of_a_linear_loss_is_reached_exactly() -> None:
    parameters, slope = {"w": torch.tensor([3.0, 4.0])}, torch.tensor([0.6, 0.8])
    worst = worst_case(lambda parameters: parameters["w"] @ slope, parameters, 0.1)
    torch.testing.assert_close(worst["w"], torch.tensor([3.3, 4.4]))


def test_weights_already_at_the_worst_are_kept() -> None:
    parameters = {"w": torch.tensor([1.0, 2.0])}
    assert worst_case(lambda moved: -(moved["w"] - parameters["w"]).square().sum(), parameters, 0.1) is parameters
