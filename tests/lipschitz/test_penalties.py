"""Penalties against closed forms of linear critics, on flat critics, and within autocast."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.lipschitz import penalties

REAL = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
FAKE = torch.tensor([[0.0, 0.0], [3.0, 2.0]])
EPSILON = torch.tensor([0.25, 0.5])
W = torch.tensor([3.0, 4.0])  # norm 5


def linear(x: Tensor) -> Tensor:
    return x @ W


def half_square(x: Tensor) -> Tensor:
    return x.square().sum(1) / 2  # its gradient is x


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        (penalties.two_sided(linear, REAL, FAKE, EPSILON), 16.0),
        (penalties.two_sided(linear, REAL, FAKE, EPSILON, target=6.0), 1.0),
        (penalties.one_sided(linear, REAL, FAKE, EPSILON), 16.0),
        (penalties.one_sided(linear, REAL, FAKE, EPSILON, target=6.0), 0.0),
        (penalties.zero_centred(linear, REAL), 12.5),
        (penalties.zero_centred(half_square, REAL), (1 + 4) / 2 / 2),
        (penalties.wgan_div(linear, REAL, FAKE, power=2.0), 25.0),
        (penalties.wgan_div(half_square, REAL, FAKE), (1 + 4**3 + 0 + 13**3) / 4),
    ],
)
def test_gradient_penalties_have_their_closed_forms(penalty: Tensor, expected: float) -> None:
    assert penalty.shape == ()
    assert penalty.item() == pytest.approx(expected)


def test_the_norm_is_taken_of_each_sample_at_its_interpolate() -> None:
    points = torch.tensor([[0.25, 0.0], [1.5, 2.0]])
    torch.testing.assert_close(penalties.interpolate(REAL, FAKE, EPSILON), points)
    expected = (points.norm(dim=1) - 1).square().mean()
    torch.testing.assert_close(penalties.two_sided(half_square, REAL, FAKE, EPSILON), expected)


def test_images_are_interpolated_with_one_number_each() -> None:
    images = torch.rand(3, 1, 2, 2)
    epsilon = torch.tensor([1.0, 0.0, 0.5])
    mixed = penalties.interpolate(images, -images, epsilon)
    torch.testing.assert_close(mixed, torch.stack([images[0], -images[1], 0 * images[2]]))


@pytest.mark.parametrize(
    "penalty",
    [
        lambda critic: penalties.two_sided(critic, REAL, FAKE, EPSILON),
        lambda critic: penalties.one_sided(critic, REAL, FAKE, EPSILON),
        lambda critic: penalties.zero_centred(critic, REAL),
        lambda critic: penalties.wgan_div(critic, REAL, FAKE),
    ],
)
def test_a_flat_critic_gives_no_nan(penalty: Callable[[nn.Module], Tensor]) -> None:
    critic = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    nn.init.constant_(critic[0].bias, -100.0)  # type: ignore[arg-type]
    value = penalty(critic)
    torch.autograd.backward(value)
    assert value.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in critic.parameters())


def test_the_gradient_of_a_penalty_in_the_weights_is_that_of_differences() -> None:
    critic = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    weight = critic[0].weight
    assert isinstance(weight, nn.Parameter)

    def value() -> Tensor:
        return penalties.two_sided(critic, REAL.double(), FAKE.double(), EPSILON.double())

    torch.autograd.backward(value())
    assert weight.grad is not None
    slope, h = weight.grad[1, 0].item(), 1e-6
    with torch.no_grad():
        weight[1, 0] += h
    above = value().item()
    with torch.no_grad():
        weight[1, 0] -= 2 * h
    assert slope == pytest.approx((above - value().item()) / (2 * h), rel=1e-5)


def test_penalties_are_the_same_within_autocast() -> None:
    critic = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 1))
    plain = penalties.two_sided(critic, REAL, FAKE, EPSILON)
    with torch.autocast("cpu", torch.bfloat16):
        within = penalties.two_sided(critic, REAL.bfloat16(), FAKE.bfloat16(), EPSILON)
    torch.testing.assert_close(within, plain)


@pytest.mark.parametrize(("order", "distances"), [(1, (0.5, 1.5)), (2, (0.5**0.5, 4.5**0.5))])
def test_gan_qp_divides_the_squared_gap_by_the_distance(order: int, distances: tuple[float, float]) -> None:
    found = penalties.gan_qp(torch.tensor([2.0, 3.0]), torch.tensor([[1.0], [5.0]]).squeeze(1), REAL, FAKE, order)
    assert found.item() == pytest.approx((1 / distances[0] + 4 / distances[1]) / 4)


def test_gan_qp_of_equal_samples_is_finite() -> None:
    assert penalties.gan_qp(torch.ones(2), torch.ones(2), REAL, REAL).item() == 0
