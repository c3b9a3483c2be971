"""Every constraint: what it promises after training, how it is resumed, and what it refuses."""

import copy
import functools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.lipschitz import CONSTRAINTS, Constraint, audit, constraint
from lightning_modules.lipschitz.audit import plain_copy
from lightning_modules.lipschitz.constraint import DEFAULTS
from lightning_modules.lipschitz.penalties import gradient_norm
from lightning_modules.lipschitz.spectral import matrix_map, weighted_layers

STATEFUL = ["sn", "sn_cold", "sn_conv", "snr", "sn_projection"]


def critic() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(54, 16),
        nn.ReLU(),
        nn.Linear(16, 1),
    )


def samples(step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Real ones are brighter than fake ones on the left."""
    generator = torch.Generator().manual_seed(step)
    real, fake = torch.rand(2, 32, 1, 6, 6, generator=generator)
    real[..., :3] += 1
    return real, fake, torch.rand(32, generator=generator)


def step(network: nn.Module, held: Constraint, optimizer: torch.optim.Optimizer, number: int) -> None:
    """One step of the Wasserstein loss."""
    real, fake, epsilon = samples(number)
    scores = network(real), network(fake)
    penalty = held.penalty(network, real, fake, epsilon, scores=scores)
    loss = (scores[1] - scores[0]).mean() + (0 if penalty is None else penalty)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
    held.after_step(network)


@functools.cache
def trained(name: str, steps: int = 120, lr: float = 2e-3, **settings: Any) -> nn.Sequential:
    network, held = critic(), constraint(name, **settings)
    held.apply_to(network, samples(0)[0][:1])
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    for number in range(steps):
        step(network, held, optimizer, number)
    return network.eval()


def sigmas(network: nn.Module) -> list[float]:
    layers = weighted_layers(plain_copy(network)).values()
    return [
        float(torch.linalg.matrix_norm(matrix_map(layer).matrix(layer.get_parameter("weight")), 2)) for layer in layers
    ]


def slopes(network: nn.Module, at: str = "between") -> Tensor:
    real, fake, epsilon = samples(1000)
    points = {"real": real, "fake": fake, "between": epsilon.view(-1, 1, 1, 1) * (real - fake) + fake}[at]
    return gradient_norm(network, points).detach()


def test_without_a_constraint_the_norms_grow() -> None:
    network = trained("none")
    assert min(sigmas(network)) > 1
    assert audit(network, samples(0)[0]).lower > 5


def test_clipping_keeps_every_weight_within_the_clip() -> None:
    assert max(float(p.detach().abs().max()) for p in trained("clip", clip=0.05).parameters()) == pytest.approx(0.05)


@pytest.mark.parametrize("name", ["sn", "sn_projection"])
@pytest.mark.parametrize("target", [1.0, 8.0])
def test_spectral_normalisation_keeps_the_largest_singular_value_at_the_target(name: str, target: float) -> None:
    assert sigmas(trained(name, target=target)) == pytest.approx([target ** (1 / 3)] * 3, rel=0.03)


def test_the_cold_estimate_is_exploited() -> None:
    cold = sigmas(trained("sn_cold", n_power_iterations=1))
    assert math.prod(cold) > 1.05  # kexue.fm/archives/6051 claims 1
    assert min(cold) > 0.999


def test_the_convolution_norm_holds_what_the_matrix_norm_does_not() -> None:
    held, reshaped = trained("sn_conv"), trained("sn")
    points = samples(0)[0]
    assert audit(held, points).lower <= audit(held, points).upper == pytest.approx(1, rel=0.03)
    assert audit(reshaped, points).upper > 1.1


@pytest.mark.parametrize(("name", "at"), [("gp", "between"), ("r1", "real"), ("r2", "fake"), ("wgan_div", "real")])
def test_gradient_penalties_hold_the_gradient_where_they_are_taken(name: str, at: str) -> None:
    free, held = slopes(trained("none"), at), slopes(trained(name), at)
    assert float(held.square().mean().sqrt()) < 1.3 < float(free.square().mean().sqrt())


def test_the_two_sided_penalty_brings_the_gradient_to_its_target() -> None:
    assert slopes(trained("gp", target=2.0)).mean().item() == pytest.approx(2, rel=0.1)


def test_the_one_sided_penalty_holds_large_gradients_only() -> None:
    assert float(slopes(trained("gp_one_sided")).max()) < 1.3


@pytest.mark.parametrize(("name", "weight"), [("frobenius", 1.0), ("snr", 1.0)])
def test_penalties_on_weights_make_the_norms_smaller(name: str, weight: float) -> None:
    assert math.prod(sigmas(trained(name, weight=weight))) < 0.5 * math.prod(sigmas(trained("none")))


@pytest.mark.parametrize("name", ["gan_qp_l1", "gan_qp_l2"])
def test_gan_qp_bounds_the_gap_by_the_distance(name: str) -> None:
    network = trained(name, steps=300)
    real, fake, _ = samples(1000)
    difference = (real - fake).flatten(1)
    distance = difference.abs().mean(1) if name == "gan_qp_l1" else difference.square().mean(1).sqrt()
    gap = (network(real) - network(fake)).flatten() / (10 * distance)  # at the optimum lambda d, and 1
    assert gap.mean().item() == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_the_audits_bounds_do_not_cross_after_training(name: str) -> None:
    real, fake, _ = samples(1000)
    found = audit(trained(name, steps=30), real, others=fake)
    assert 0 < found.lower <= found.upper < math.inf


@pytest.mark.parametrize("name", [*STATEFUL, "none", "clip"])
def test_a_saved_training_goes_on_bit_for_bit(name: str) -> None:
    def start() -> tuple[nn.Sequential, torch.optim.Optimizer]:
        network = critic()
        held.apply_to(network, samples(0)[0][:1])
        return network, torch.optim.Adam(network.parameters(), lr=1e-2)

    held = constraint(name)
    whole, optimizer = start()
    for number in range(3):
        step(whole, held, optimizer, number)
    saved = copy.deepcopy((whole.state_dict(), optimizer.state_dict()))
    resumed, other = start()
    resumed.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    for number in range(3, 6):
        step(whole, held, optimizer, number)
        step(resumed, held, other, number)
    left, right = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(left[key], right[key]) for key in left)  # u as well


def test_a_critic_with_labels_is_held_on_samples_alone() -> None:
    embedding, x, labels = nn.Linear(3, 4), torch.rand(5, 4), torch.eye(3)[[0, 1, 2, 0, 1]]
    found = constraint("gp").penalty(embedding, x, x, torch.ones(5), critic=lambda x: (embedding(labels) * x).sum(1))
    expected = 10 * (embedding(labels).norm(dim=1) - 1).square().mean()
    torch.testing.assert_close(found, expected)


def test_scores_that_are_known_are_not_computed_again() -> None:
    x, y = torch.rand(4, 2), torch.rand(4, 2)
    network = nn.Linear(2, 1)
    held = constraint("gan_qp_l2")
    torch.testing.assert_close(
        held.penalty(network, x, y, torch.ones(4), scores=(network(x), network(y))),
        held.penalty(network, x, y, torch.ones(4)),
    )


def test_the_mode_of_every_part_is_kept_when_sizes_are_learnt() -> None:
    network = critic()
    network[3].eval()
    constraint("sn_conv").apply_to(network, torch.zeros(1, 1, 6, 6))
    assert network.training
    assert not network[3].training


def test_no_random_state_is_moved() -> None:
    network = critic()
    before = torch.get_rng_state()
    for name in STATEFUL:
        constraint(name).apply_to(copy.deepcopy(network), torch.zeros(1, 1, 6, 6))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_name_has_its_settings() -> None:
    assert tuple(DEFAULTS) == CONSTRAINTS


def test_settings_a_constraint_does_not_have_are_not_read() -> None:
    assert repr(constraint("sn", clip=0.5, weight=3.0)) == repr(constraint("sn"))  # nan is not nan


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("spectral", {}, "constraint = 'spectral': unknown; allowed: none, clip, frobenius"),
        ("gp_onesided", {}, "constraint = 'gp_onesided': unknown (did you mean 'gp_one_sided'?); allowed: none"),
        ("clip", {"clip": 0.0}, "clip = 0.0: must be above 0; with constraint clip 0.01 is usual"),
        ("clip", {"clip": math.nan}, "clip = nan: must be above 0"),
        ("gp", {"weight": -1.0}, "weight = -1.0: must be at least 0; with constraint gp 10 is usual"),
        ("gan_qp_l1", {"weight": 0.0}, "weight = 0.0: must be above 0; with constraint gan_qp_l1 10 is usual"),
        ("sn", {"n_power_iterations": 0}, "n_power_iterations = 0: must be at least 1; with constraint sn 1 is usual"),
        ("sn", {"target": 0.0}, "target = 0.0: must be above 0; with constraint sn 1 is usual"),
        ("gp", {"target": -1.0}, "target = -1.0: must be at least 0; with constraint gp 1 is usual"),
        ("none", {"clip": -1.0}, "clip = -1.0: must be above 0; with constraint none 0.01 is usual"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        constraint(name, **settings)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", STATEFUL)
def test_modules_that_cannot_be_constrained_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="ReLU has no dense, convolution or embedding layer to constrain"):
        constraint(name).apply_to(nn.ReLU())
    network = critic()
    constraint(name).apply_to(network, torch.zeros(1, 1, 6, 6))
    with pytest.raises(ValueError, match="layer 0: its weight is constrained already; apply one constraint, once"):
        constraint(name).apply_to(network, torch.zeros(1, 1, 6, 6))


def test_a_convolution_norm_needs_an_example() -> None:
    with pytest.raises(ValueError, match="constraint 'sn_conv': the size of the images is needed"):
        constraint("sn_conv").apply_to(critic())
