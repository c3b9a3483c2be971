"""The statistics of the claims of 5655 against closed forms and brute force; all verdicts at seed 0 (slow)."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.linalg import solve_discrete_lyapunov

from experiments.claims import (
    critical_batch,
    edge,
    escape,
    floors,
    momentum,
    noise,
    order,
    recipe,
    shuffling,
    stability,
    temperature,
)
from experiments.claims.context import Context
from experiments.claims.sgd import CLAIMS
from experiments.claims.verdict import decide
from tests.conftest import Writer

FAIL = [
    "S1.1", "S2", "S2.1", "S2.3", "S2.6", "S3", "S3.1", "S4.1", "S4.2", "S4.3",
    "S4.4", "S4.5", "S7", "S7.1", "S7.5", "S8", "S9.2", "S10", "S10.3",
]  # fmt: skip


# S1, S8


def test_squared_noise_is_the_length_of_the_mean_of_rows() -> None:
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((16, 5))
    chosen = noise.rows(rng, 6, 16, 4, replace=True)
    brute = [[np.square(samples[row[:size]].mean(0)).sum() for size in (1, 3, 4)] for row in chosen]
    np.testing.assert_allclose(noise.squared_noise(samples, chosen, (1, 3, 4)), brute, rtol=1e-5)


def test_noise_of_the_whole_set_is_zero() -> None:
    samples = noise.gradient_noise(np.random.default_rng(0))[:64]
    samples -= samples.mean(0)
    chosen = noise.rows(np.random.default_rng(1), 3, 64, 64, replace=False)
    assert noise.squared_noise(samples, chosen, (64,)).max() < 1e-6 * np.square(samples).sum()


def test_gradient_noise_is_that_of_autograd() -> None:
    from sklearn.datasets import load_digits

    found = noise.gradient_noise(np.random.default_rng(0))
    digits = load_digits()
    chosen = np.random.default_rng(0).permutation(len(digits.data))[: noise.N_SAMPLES]
    x, y = torch.from_numpy(digits.data[chosen]) / 16, torch.from_numpy(digits.target[chosen])
    W = torch.zeros(64, 10, dtype=torch.float64, requires_grad=True)
    for _ in range(noise.DESCENT):
        (g,) = torch.autograd.grad(torch.nn.functional.cross_entropy(x @ W, y), W)
        W = (W - g).detach().requires_grad_()
    (g,) = torch.autograd.grad(torch.nn.functional.cross_entropy(x @ W, y), W)
    (first,) = torch.autograd.grad(torch.nn.functional.cross_entropy(x[:1] @ W, y[:1]), W)
    np.testing.assert_allclose(found[0], (first - g).flatten().numpy(), atol=1e-12)


def test_excess_kurtosis_of_a_coin_is_minus_two() -> None:
    assert noise.excess_kurtosis(np.ones((2, 1, 3))) == pytest.approx([-2])


# S2, S10


def test_momentum_law_solves_the_lyapunov_equation() -> None:
    alpha, beta, batch, h = 0.3, 0.8, 4, temperature.CURVATURE
    step = np.array([[1 - alpha * h, beta], [-alpha * h, beta]])  # of (theta, v)
    kick = np.full((2, 2), alpha**2 * h**2 / batch)
    covariance = solve_discrete_lyapunov(step, kick)
    assert temperature.momentum_law(alpha, beta, batch) == pytest.approx(covariance[0, 0])


def test_momentum_law_without_momentum_is_that_of_sgd() -> None:
    assert temperature.momentum_law(0.2, 0.0, 8) == pytest.approx(temperature.sgd_law(0.2, 8))


def test_shuffled_law_is_the_average_over_all_permutations() -> None:
    n, batch, lr, h = 6, 2, 0.15, temperature.CURVATURE
    x = temperature.samples(np.random.default_rng(0), n)
    a, start = 1 - lr * h, np.zeros(1)
    within = []
    for shuffled in itertools.permutations(x):
        theta, places = start, []
        for mean in np.reshape(shuffled, (-1, batch)).mean(1):
            theta = a * theta + lr * h * mean
            places.append(theta[0])
        within.append(places)
    squares = np.square(within).mean(0)  # (batches,), started at 0 with certainty
    powers = a ** (2 * np.arange(1, n // batch + 1))
    before = squares[-1] / (1 - powers[-1])
    law = shuffling.shuffled_law(lr, batch, n)
    assert law == pytest.approx(float((squares + powers * before).mean()))


def test_one_batch_an_epoch_leaves_no_noise() -> None:
    assert shuffling.shuffled_law(0.1, 8, n=8) == pytest.approx(0)


@pytest.mark.parametrize("sampling", ["shuffled", "without_replacement"])
def test_distinct_rows_of_half_the_data_twice_are_all_of_it_only_in_an_epoch(sampling: str) -> None:
    rng = np.random.default_rng(0)
    means = temperature.batch_means(rng, temperature.samples(rng, 8), 4, 50, sampling)  # type: ignore[arg-type]
    together = next(means) + next(means)
    assert bool(np.allclose(together, 0)) is (sampling == "shuffled")


def test_variance_of_a_chain_is_the_law() -> None:
    context = Context(0, custom={"n_chains": "1000", "n_independent": "30"})
    blocks = temperature.sgd_variance(context, 0.2, 4)
    error = blocks.std() / math.sqrt(len(blocks))
    assert abs(blocks.mean() - temperature.sgd_law(0.2, 4)) < 4 * error


def test_least_squares_rest_where_the_gradient_is_zero() -> None:
    problem = floors.digits_problem()
    everything = torch.arange(len(problem.inputs))[None]
    assert problem.gradients(problem.minimum[None], everything).abs().max() < 1e-5
    theta = torch.randn(1, *problem.minimum.shape, generator=torch.Generator().manual_seed(0))

    def loss(theta: torch.Tensor) -> float:
        return float((problem.inputs @ theta - problem.targets).square().sum(1).mean() / 2)

    assert float(problem.excess(theta)) == pytest.approx(loss(theta[0]) - loss(problem.minimum), rel=1e-3)


def _trials(writer: Writer, last: float = 0.0, n_cells: int = 6) -> Context:
    """A store with a study whose losses fall to 0.3 + lr / B; `last` is added to the losses of the largest lr."""
    cells = [(lr, batch) for lr in (0.1, 0.2, 0.4) for batch in (16, 64)]
    for seed in (0, 1):
        for lr, batch in cells[: n_cells + 1 - seed]:
            floor = 0.3 + lr / batch * (1 + 0.001 * seed) + (last if lr == 0.4 else 0)
            writer.run(
                f"{seed} {lr} {batch}",
                params={"seed": str(seed), "optimizer.lr": str(lr), "data.batch_size": str(batch)},
                metrics={"val/loss": [9.0, 5.0, floor + 0.001, floor - 0.001]},
                tags={"taolu.kind": "trial", "taolu.study": floors.STUDY},
            )
    return Context(store=writer.store)


def test_floors_of_a_sweep_give_its_exponent_and_collapse_though_the_least_loss_is_unknown(writer: Writer) -> None:
    context = _trials(writer)
    assert floors.rate_exponent(context).estimate == pytest.approx(1, abs=0.02)
    assert floors.collapse(context).estimate == pytest.approx(1, abs=1e-4)


def test_a_cell_that_diverged_has_no_floor(writer: Writer) -> None:
    assert set(floors.floors(_trials(writer, last=math.nan)).lr) == {0.1, 0.2}


def test_a_sweep_with_a_missing_run_is_refused(writer: Writer) -> None:
    with pytest.raises(ValueError, match=r"1 runs missing.*taolu sweep sgd_batch_lr --resume"):
        floors.floors(_trials(writer, n_cells=4))


# S3


@pytest.mark.parametrize(
    ("scheme", "limit"), [("gradient descent", 2), ("momentum", 3.8), ("half Nesterov", 2), ("Nesterov", 3.8 / 2.8)]
)
def test_stability_limits_are_the_closed_forms(scheme: str, limit: float) -> None:
    assert stability.stability_limit(stability.SCHEMES[scheme]) == pytest.approx(limit, rel=1e-6)


def test_steps_of_tuned_gradient_descent_are_those_of_its_loop() -> None:
    theta, lr, n = np.array([1.0, 10.0]) * 0 + 1, 2 / 11, 0
    while np.abs(theta).max() >= 1e-6:
        theta, n = (1 - lr * np.array([1.0, 10.0])) * theta, n + 1
    assert stability.n_steps_tuned("gradient descent", 10) == n


@pytest.mark.parametrize(("scheme", "exponent"), [("gradient descent", 1.0), ("momentum", 0.53), ("Nesterov", 0.52)])
def test_acceleration_exponents(scheme: str, exponent: float) -> None:
    assert stability.acceleration(Context(), scheme).estimate == pytest.approx(exponent, abs=0.03)


def test_losses_of_networks_side_by_side_are_those_of_each() -> None:
    inputs, targets = edge._digit_sets(torch.Generator().manual_seed(0), 2, n_rows=5)
    weights = edge._initial_weights(torch.Generator().manual_seed(1), 2, n_units=3)
    together = edge._losses(weights, (inputs, targets))
    alone = edge._losses({name: weight[1] for name, weight in weights.items()}, (inputs[1], targets[1]))
    torch.testing.assert_close(together[1], alone)
    assert together.shape == (2, 5)


# S4


def test_hessian_of_the_loss_is_the_derivative_of_its_gradient() -> None:
    theta, step = np.array([0.7, -0.4]), 1e-6
    columns = [(order.gradient(theta + d) - order.gradient(theta - d)) / (2 * step) for d in step * np.eye(2)]
    np.testing.assert_allclose(order.hessian(theta), np.array(columns).T, atol=1e-8)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [("gradient descent", 1), ("leapfrog", 1), ("leapfrog, half-step start", 2), ("Nesterov", 1), ("half Nesterov", 1)],
)
def test_orders(scheme: str, expected: int) -> None:
    assert order.order(Context(), scheme).estimate == pytest.approx(expected, abs=0.03)


def test_time_a_step_is_that_of_equation_15() -> None:
    assert order.time_per_step(Context()).estimate == pytest.approx(math.sqrt(2 / 1.9), rel=1e-3)


# S5, S7


def test_rule_for_beta_is_equation_15_to_first_order() -> None:
    exact = momentum.exact_beta(Context(), 1 / 4).estimate
    half = (1 - 0.9) / (1 + 0.9) / 2  # lambda gamma / 2, halved with gamma but for the change of 1 + beta
    assert exact == pytest.approx((1 - half) / (1 + half), abs=1e-3)


@pytest.mark.parametrize("friction", [0.14, 0.5, 1.0, 2.5])
def test_paths_side_by_side_end_where_the_optimizers_path_ends(friction: float) -> None:
    place = momentum.final_place(Context(), friction).estimate
    assert momentum.ends_of_paths(np.array([friction]))[0] == pytest.approx(place, abs=1e-6)


def test_share_of_a_well_is_half_without_tilt_and_all_of_it_in_the_cold() -> None:
    quiet, loud = escape.noise_at(0.01, 0.1), escape.noise_at(0.2, 0.1)
    assert escape.share_left(loud, 0.0, loud.temperature) == pytest.approx(0.5, abs=1e-4)
    assert escape.share_left(quiet, 0.1, quiet.temperature) > 0.999


def test_escape_rate_is_the_reciprocal_of_the_exact_mean_time() -> None:
    noise_ = escape.noise_at(escape.BARRIER / 2, 0.02)
    T = noise_.temperature

    def loss(x: float) -> float:
        return x**4 / 4 - x**2 / 2

    def weight(x: float) -> float:
        return float(math.exp(loss(x) / T) * quad(lambda y: math.exp(-loss(y) / T), -4, x)[0])

    mean_time = quad(weight, -1, escape.FAR_SIDE)[0] / T
    rates = escape.escape_rates(Context(0), noise_)
    assert 1 / rates.mean() == pytest.approx(mean_time, rel=0.12)  # a step may jump over FAR_SIDE and back unseen


# S6, S9


def test_schedules_use_equally_many_samples_and_three_cool_alike() -> None:
    cooling = {name: [d * f for d, f in quarters] for name, quarters in recipe.SCHEDULES.items()}
    assert (
        cooling["lr decay"] == cooling["batch growth"] == cooling["recipe"] == cooling["reverse"][::-1] == [1, 2, 4, 8]
    )
    assert cooling["constant"] == [1] * 4
    assert all(6400 % (recipe.BATCH * f) == 0 for quarters in recipe.SCHEDULES.values() for _, f in quarters)


def test_best_rate_is_the_vertex_of_a_parabola() -> None:
    rates = np.geomspace(0.1, 10, 7)
    assert critical_batch.best_rate(rates, (np.log(rates) - 0.3) ** 2 + 5) == pytest.approx(math.exp(0.3))


def test_steps_needed_without_noise_are_those_of_gradient_descent() -> None:
    problem = floors.digits_problem()
    found = critical_batch.steps_needed(problem, None, 1, 1, torch.Generator())[0]
    fewest = math.inf
    for lr in np.geomspace(0.01, 1.95, 14):
        theta, n = torch.zeros(1, *problem.minimum.shape), 0
        target = float(problem.excess(theta)) / 50
        while float(problem.excess(theta)) > target and n < 100:
            theta, n = theta - float(lr) * problem.curvature @ (theta - problem.minimum), n + 1
        fewest = min(fewest, n)
    assert found <= fewest < found + 1


# the battery


def test_every_label_from_s1_to_s10_has_a_claim() -> None:
    ids = [claim.id for claim in CLAIMS]
    assert len(ids) == len(set(ids)) >= 60
    assert {f"5655-S{k}" for k in range(1, 11)} <= {name.rstrip("c") for name in ids}


@pytest.mark.slow
def test_verdicts_at_seed_0() -> None:
    battery = [(claim, claim.probe(Context(0))) for claim in CLAIMS]
    found = {c.id: d.verdict for (c, _), d in zip(battery, decide(battery), strict=True)}
    assert found == {c.id: "fails" if c.id.partition("-")[2] in FAIL else "holds" for c in CLAIMS}
