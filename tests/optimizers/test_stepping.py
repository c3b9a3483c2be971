"""What all our optimizers share, tested on each of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules.optimizers import OPTIMIZERS
from lightning_modules.optimizers.momentum import Momentum
from lightning_modules.optimizers.rmsprop import RMSprop
from lightning_modules.optimizers.sgd import SGD
from lightning_modules.optimizers.stepping import all_finite, blocks
from lightning_modules.parts import load_class
from tests.optimizers.steps import LAYOUTS, follow, parameters, problem

OURS: dict[str, Any] = {name: load_class(name, OPTIMIZERS) for name in OPTIMIZERS if not name.startswith("torch.")}
BY_NUMBER = {name: kind for name, kind in OURS.items() if name != "adafactor"}  # here no number knows its neighbours
each = pytest.mark.parametrize("kind", OURS.values(), ids=OURS)
each_by_number = pytest.mark.parametrize("kind", BY_NUMBER.values(), ids=BY_NUMBER)
dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])
shapes = st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=5)


@each_by_number
@settings(max_examples=6, deadline=None)
@given(sizes=shapes, dtype=dtypes)
def test_a_step_does_not_depend_on_how_numbers_are_cut_into_tensors(
    kind: Any, sizes: list[tuple[int, ...]], dtype: torch.dtype
) -> None:
    theta, gradients = problem(sizes, 3, dtype)
    apart = follow(kind, theta, gradients, lr=0.01)
    flat = [torch.cat([tensor.reshape(-1) for tensor in tensors]) for tensors in (theta, *gradients)]
    (together,) = follow(kind, flat[:1], [[g] for g in flat[1:]], lr=0.01)
    coarse = dtype in (torch.bfloat16, torch.float16)
    torch.testing.assert_close(
        torch.cat([tensor.reshape(-1) for tensor in apart]),
        together,
        rtol=torch.finfo(dtype).eps * 8,
        atol=1e-2 if coarse else 1e-6,
    )


@each_by_number
def test_a_tensor_larger_than_a_block_steps_as_its_parts(kind: Any) -> None:
    theta, gradients = problem(LAYOUTS["larger than a block"], 2)
    whole = follow(kind, theta, gradients, lr=0.01)[0]
    parts = follow(kind, torch.split(theta[0], 10_000), [torch.split(step[0], 10_000) for step in gradients], lr=0.01)
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-12, atol=1e-14)


@each
def test_strides_do_not_matter(kind: Any) -> None:
    theta, gradients = problem([(270, 250), (3, 2)], 2)
    expected = follow(kind, theta, gradients, lr=0.01)
    transposed = [[tensor.t().contiguous().t() for tensor in tensors] for tensors in (theta, *gradients)]
    mixed = [transposed[0], *gradients]
    for start, *steps in (transposed, mixed):
        torch.testing.assert_close(follow(kind, start, steps, lr=0.01), expected, rtol=1e-12, atol=1e-14)


@each
def test_maximizing_a_function_minimizes_its_negative(kind: Any) -> None:
    theta, gradients = problem(LAYOUTS["several"], 3)
    negated = [[-g for g in step] for step in gradients]
    up = follow(kind, theta, gradients, lr=0.01, maximize=True)
    torch.testing.assert_close(up, follow(kind, theta, negated, lr=0.01), rtol=0, atol=0)


@each
def test_a_parameter_without_gradient_stays_as_it_is(kind: Any) -> None:
    theta, gradients = problem([(3,), (4,)], 3)
    first, second = follow(kind, theta, [[None, step[1]] for step in gradients], lr=0.01, weight_decay=0.1)
    assert torch.equal(first, theta[0])
    alone = follow(kind, theta[1:], [step[1:] for step in gradients], lr=0.01, weight_decay=0.1)
    torch.testing.assert_close([second], alone, rtol=0, atol=0)


@each
def test_a_run_goes_on_from_its_state_dict_bit_by_bit(kind: Any) -> None:
    start, gradients = problem(LAYOUTS["several"], 6)
    expected = follow(kind, start, gradients, lr=0.01)
    theta = parameters(start)
    optimizer = kind(theta, lr=0.01)
    for number, step in enumerate(gradients):
        if number == 3:
            state = optimizer.state_dict()
            theta = parameters([p.detach() for p in theta])
            optimizer = kind(theta, lr=0.5)
            optimizer.load_state_dict(state)
        for p, g in zip(theta, step, strict=True):
            p.grad = g.clone()
        optimizer.step()
    torch.testing.assert_close([p.detach() for p in theta], expected, rtol=0, atol=0)


@each
def test_a_step_with_a_gradient_that_is_not_finite_is_skipped_and_counted(kind: Any) -> None:
    start, gradients = problem([(3,), (2,)], 3)
    bad = [torch.full((3,), math.nan), gradients[1][1]]
    theta = parameters(start)
    optimizer = kind(theta, lr=0.01, skip_nonfinite=True)
    for step in (gradients[0], bad, gradients[2]):
        for p, g in zip(theta, step, strict=True):
            p.grad = g.to(p).clone()
        optimizer.step()
    expected = follow(kind, start, [gradients[0], gradients[2]], lr=0.01)
    torch.testing.assert_close([p.detach() for p in theta], expected, rtol=0, atol=0)
    resumed = kind(theta, lr=0.01)
    resumed.load_state_dict(optimizer.state_dict())
    assert optimizer.skipped_steps == resumed.skipped_steps == 1


@each
def test_gradients_are_read_and_not_written(kind: Any) -> None:
    (theta,), ((g,),) = problem([(70_000,)], 1, torch.float32)
    p = torch.nn.Parameter(theta)
    p.grad = g.clone()
    kind([p], lr=0.01).step()
    assert torch.equal(p.grad, g)


@each
def test_a_closure_is_called_with_gradients_on_and_its_loss_returned(kind: Any) -> None:
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = kind([p], lr=0.01)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    assert optimizer.step(closure).item() == 2
    assert not torch.equal(p, torch.ones(2))


@each
def test_complex_and_sparse_are_refused_by_name(kind: Any) -> None:
    name = kind.__name__
    with pytest.raises(ValueError, match=f"{name}: a parameter is complex; "):
        kind([torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))], lr=0.1)
    with pytest.raises(ValueError, match=rf"{name}: a parameter has layout torch.sparse_coo; dense"):
        kind([torch.ones(2).to_sparse().requires_grad_()], lr=0.1)
    table = torch.nn.Embedding(3, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=rf"{name}: a gradient is sparse; take .* Embedding\(sparse=False\)"):
        kind(table.parameters(), lr=0.1).step()


@each
def test_settings_are_checked_for_every_group(kind: Any) -> None:
    p, q = parameters([torch.ones(1), torch.ones(1)])
    with pytest.raises(ValueError, match=r"^optimizer\.weight_decay = -1: must be at least 0 and finite$"):
        kind([p], lr=0.1, weight_decay=-1)
    with pytest.raises(ValueError, match=r"^optimizer\.lr = nan: must be at least 0 and finite$"):
        kind([{"params": [p]}, {"params": [q], "lr": math.nan}], lr=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@each_by_number
def test_weight_decay_shrinks_before_the_step_and_not_through_the_gradient(kind: Any, dtype: torch.dtype) -> None:
    theta, gradients = problem([(70_000,), (5,)], 1, dtype)
    moved = [p - q for p, q in zip(follow(kind, theta, gradients, lr=0.1), theta, strict=True)]
    expected = [(1 - 0.1 * 0.5) * p + step for p, step in zip(theta, moved, strict=True)]
    torch.testing.assert_close(follow(kind, theta, gradients, lr=0.1, weight_decay=0.5), expected, rtol=1e-6, atol=1e-6)


def test_the_rate_is_read_at_every_step_from_the_parameters_own_group() -> None:
    p, q = parameters([torch.zeros(1), torch.zeros(1)])
    optimizer = SGD([{"params": [p], "lr": 1.0}, {"params": [q]}], lr=0.5)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.1**step)
    for _ in range(2):
        p.grad, q.grad = torch.ones(1), torch.ones(1)
        optimizer.step()
        scheduler.step()
    assert [round(x.item(), 6) for x in (p, q)] == [-1.1, -0.55]


def test_a_group_added_later_starts_its_own_buffers() -> None:
    p, q = parameters([torch.zeros(1), torch.zeros(1)])
    optimizer = Momentum([p], lr=1.0, beta=0.5)
    for _ in range(2):
        if len(optimizer.state) == 1:
            optimizer.add_param_group({"params": [q], "beta": 0.0})
        p.grad, q.grad = torch.ones(1), torch.ones(1)
        optimizer.step()
    assert (p.item(), q.item()) == (-2.5, -1.0)


def test_blocks_hold_every_number_once_and_stay_small() -> None:
    rows = [(torch.arange(float(n)), torch.arange(float(n))) for n in (3, 300_000, 0, 5, 70_000, 60_000, 10)]
    found = list(blocks(rows))
    sizes = [sum(row[0].numel() for row in block) for block in found]
    assert max(sizes) <= 96 * 1024 * torch.get_num_threads()
    assert sum(sizes) == sum(row[0].numel() for row in rows)
    assert all(torch.equal(theta, g) for block in found for theta, g in block)


@given(st.lists(st.floats(width=32), min_size=1, max_size=4))
def test_finite_means_no_number_is_infinite_or_nan(numbers: list[float]) -> None:
    assert all_finite([torch.tensor(numbers), torch.zeros(0)]) == all(map(math.isfinite, numbers))


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"beta": 1.0}, r"optimizer\.beta = 1\.0: must lie in \[0, 1\)"),
        ({"beta": "0.9"}, r"optimizer\.beta = 0\.9: must lie in \[0, 1\)"),
        ({"epsilon": -1e-8}, r"optimizer\.epsilon = -1e-08: must be at least 0 and finite"),
        ({"epsilon_place": "middle"}, r"optimizer\.epsilon_place = middle: must be one of inside, outside"),
        ({"scale": 3}, r"optimizer\.scale = 3: must be one of vector, scalar"),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(given_settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RMSprop(parameters([torch.ones(1)]), **given_settings)
