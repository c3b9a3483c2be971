"""Search spaces: what they hold, what they refuse, and what one holds of another."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.errors import ConfigError
from experiments.space import identity, read_space

LR, SIZE = "optimizer.lr", "data.batch_size"


def test_a_grid_crosses_axes_and_cells() -> None:
    space = read_space({LR: [0.1, 0.3], SIZE: {"low": 16, "high": 48, "step": 16}}, [{"seed": 1}, {"seed": 2}])
    points = space.grid()
    assert len(points) == 2 * 3 * 2
    assert space.overrides(points[0]) == {LR: 0.1, SIZE: 16, "seed": 1}
    assert len({identity(point) for point in points}) == len(points)


def test_cells_tie_values_together_and_may_have_names() -> None:
    space = read_space(None, {"slow": {LR: 0.01, "optimizer.beta": 0.9}, "fast": {LR: 0.1}})
    assert [space.overrides(point) for point in space.grid()] == [{LR: 0.01, "optimizer.beta": 0.9}, {LR: 0.1}]


@pytest.mark.parametrize(
    ("axes", "cells", "message"),
    [
        ({}, None, "space: is empty"),
        (None, None, "space: is empty"),
        ({LR: []}, None, "has no values"),
        ({LR: 0.1}, None, "must be a list of values or {low, high}"),
        ({LR: [0.1, "much"]}, None, "mixes numbers and text"),
        ({LR: [1, True]}, None, "mixes numbers and true/false"),
        ({LR: [0.1, 0.1]}, None, "0.1 stands twice"),
        ({LR: {"low": 1, "high": 0.1}}, None, "low = 1 exceeds high = 0.1"),
        ({LR: {"low": 0, "high": 1, "log": True}}, None, "log needs low above 0"),
        ({LR: {"low": 0.1}}, None, "high = null: must be a number"),
        ({LR: {"lo": 0.1, "high": 1}}, None, "did you mean 'low'?"),
        ({LR: {"choices": [1], "low": 1}}, None, "choices is a list, and stands alone"),
        ({LR: [0.1]}, [{LR: 0.2}], "stands in space too"),
        (None, [{LR: 0.2}, {LR: 0.2}], "one of them stands twice"),
        (None, {"slow": 3}, "must map keys of the experiment to values"),
    ],
)
def test_a_space_nobody_can_search_is_refused_in_a_line(axes: Any, cells: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as caught:
        read_space(axes, cells)
    assert message in str(caught.value)


def test_a_grid_needs_an_end_of_numbers() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.lr: a grid needs a step or a list"):
        read_space({LR: {"low": 0.1, "high": 1}}, None).grid()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(1, 3))
def test_of_a_large_space_every_value_is_checked_beside_every_choice_of_classes(sizes: list[int], n: int) -> None:
    axes: dict[str, Any] = {f"part.key{i}": list(range(size)) for i, size in enumerate(sizes)}
    axes["optimizer"] = [f"kind{i}" for i in range(n)]
    samples = read_space(axes, None).samples()
    for key, values in axes.items():
        for kind in axes["optimizer"] if key != "optimizer" else [None]:
            seen = {point[key] for point in samples if kind in (None, point["optimizer"])}
            assert seen == set(values)


def test_what_a_space_lacks_of_another_is_named() -> None:
    old = read_space({LR: [0.1, 0.3], SIZE: {"low": 16, "high": 64}}, None)
    assert read_space({LR: [0.1, 0.3, 1], SIZE: {"low": 8, "high": 64}}, None).lacks(old) == []
    assert read_space({LR: [0.1], SIZE: {"low": 32, "high": 64}}, None).lacks(old) == [
        "optimizer.lr: [0.3] no longer in it",
        "data.batch_size: was low 16, high 64",
    ]
    assert read_space({LR: [0.1, 0.3], "seed": [1]}, None).lacks(old) == [
        "data.batch_size is no longer swept",
        "seed was not swept",
    ]


def test_a_space_is_read_back_as_it_was_written() -> None:
    space = read_space({LR: {"low": 0.1, "high": 1, "log": True}, SIZE: [16]}, {"a": {"seed": 1}})
    plain = space.plain()
    assert read_space(plain["space"], plain["cells"]) == space
