"""What is left to draw from, against transformers' own and the definition; draws against the law."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from lightning_modules.gpt2.sampling import Truncation

SHARES = torch.tensor([[0.15, 0.5, 0.05, 0.3]])


def whole(truncation: Truncation, logits: Tensor) -> Tensor:
    """The law over the whole vocabulary, (B, V)."""
    shares, tokens = truncation.law(logits)
    return shares if tokens is None else torch.zeros_like(logits).scatter(-1, tokens, shares)


def test_the_edge_rules_differ_by_the_token_that_crosses() -> None:
    kept, dropped = (whole(Truncation(top_p=0.95, edge=edge), SHARES.log()) for edge in ("keep", "drop"))
    torch.testing.assert_close(kept, torch.tensor([[0.15, 0.5, 0, 0.3]]) / 0.95)
    torch.testing.assert_close(dropped, torch.tensor([[0, 0.5, 0, 0.3]]) / 0.8)


@pytest.mark.parametrize("edge", ["keep", "drop"])
def test_the_likeliest_token_always_stays(edge: Any) -> None:
    assert whole(Truncation(top_p=1e-6, edge=edge), SHARES.log()).tolist() == [[0, 1, 0, 0]]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    temperature=st.floats(0.2, 3),
    top_k=st.none() | st.integers(1, 30),
    top_p=st.floats(0.01, 1),
)
def test_the_law_is_that_of_transformers(seed: int, temperature: float, top_k: int | None, top_p: float) -> None:
    logits = 3 * torch.randn(2, 20, generator=torch.Generator().manual_seed(seed))
    steps: list[Any] = [TemperatureLogitsWarper(temperature), *([TopKLogitsWarper(top_k)] if top_k else [])]
    wanted: Any = logits
    for step in (*steps, TopPLogitsWarper(top_p)):
        wanted = step(None, wanted)
    torch.testing.assert_close(whole(Truncation(temperature, top_k, top_p), logits), wanted.softmax(-1))


@pytest.mark.parametrize("truncation", [Truncation(), Truncation(0.7, 3), Truncation(1.3, None, 0.9, "drop")])
def test_evenly_spread_numbers_draw_each_token_as_often_as_the_law_says(truncation: Truncation) -> None:
    n = 10_000
    uniform = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    counts = torch.bincount(truncation.draw(SHARES.log().expand(n, 4), uniform), minlength=4)
    torch.testing.assert_close(counts.float(), n * whole(truncation, SHARES.log())[0], atol=1.01, rtol=0)


def test_a_token_without_a_share_is_never_drawn() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(3, 5)
    ends = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert Truncation().draw(logits, ends).tolist() == [1, 3, 3]


def test_temperature_0_takes_the_likeliest() -> None:
    greedy = Truncation(temperature=0, top_p=0.1)
    assert greedy.draw(SHARES.log(), torch.tensor([0.99])).tolist() == [1]
    assert whole(greedy, SHARES.log()).tolist() == [[0, 1, 0, 0]]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"top_p": 0}, r"top_p = 0: must lie in \(0, 1\]; 0.95 leaves out"),
        ({"top_p": 1.01}, r"top_p = 1.01: must lie in \(0, 1\]"),
        ({"top_k": 0}, "top_k = 0: must be at least 1"),
        ({"temperature": -1}, "temperature = -1: must be at least 0 and finite"),
        ({"edge": "half"}, "edge = 'half': must be keep or drop"),
    ],
)
def test_what_leaves_nothing_to_draw_from_is_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Truncation(**setting)
