"""Continuations, against transformers' generate, and when they end."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_modules.gpt2.generate import Choice, Length, generate, stream
from lightning_modules.gpt2.sampling import Truncation
from tests.gpt2.small import P, V, network

PROMPTS = [[1, 2, 3], [5], [7, 8, 9, 10, 11, 3, 2]]
GREEDY = Choice(Truncation(temperature=0))


def theirs(model: Any, prompt: list[int], **settings: Any) -> list[int]:
    tokens = torch.tensor([prompt])
    options = {"do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(tokens), **settings}
    found: list[int] = model.generate(tokens, **options)[0, len(prompt) :].tolist()
    return found


@pytest.mark.parametrize("family", ["gpt2", "gpt2_ml"])
def test_greedy_tokens_are_those_of_transformers(family: str) -> None:
    model = network(family)
    found = generate(model, PROMPTS, Length(12), GREEDY)
    assert found == [theirs(model, prompt, max_new_tokens=12) for prompt in PROMPTS]


@pytest.mark.parametrize("end", [None, 4, 7])
def test_beams_find_what_transformers_beams_find(end: int | None) -> None:
    model = network()
    found = generate(model, PROMPTS[:2], Length(8, end=end), Choice(n_beams=3))
    wanted = [theirs(model, prompt, max_new_tokens=8, num_beams=3, eos_token_id=end) for prompt in PROMPTS[:2]]
    assert found == wanted


def test_a_row_draws_the_same_beside_others_and_alone() -> None:
    model, length, choice = network(), Length(15, end=4), Choice(Truncation(0.9, 20, 0.9), seed=3)
    together = generate(model, PROMPTS * 4, length, choice)  # more than are read at once
    for row in (0, 4, 11):
        alone = [token for [token] in stream(model, [(PROMPTS * 4)[row]], length, choice, first_row=row)]
        assert alone == together[row]


def test_the_seed_decides() -> None:
    model = network()
    first, again, other = (generate(model, PROMPTS, Length(9), Choice(seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_nothing_ends_before_min_length_and_nothing_goes_on_after_the_end() -> None:
    model, prompts = network(), [[n] for n in range(30)]
    for row in generate(model, prompts, Length(20, least=3, end=4), Choice()):
        assert 4 not in row[:2]
        assert 4 not in row[:-1]
    passing = generate(model, prompts, Length(20, least=6, end=4, may_pass=True), Choice())
    assert any(4 in row[:5] for row in passing)
    assert all(4 not in row[5:-1] for row in passing)
    assert any(len(row) < 20 for row in passing)


def test_forbidden_tokens_and_rows_without_a_token_are_never_drawn() -> None:
    rows = generate(network(), [[n] for n in range(20)], Length(20), Choice(forbidden=(0, 5), n_tokens=V - 10))
    drawn = {token for row in rows for token in row}
    assert drawn == {*range(V - 10)} - {0, 5}


def test_a_text_fills_the_positions_and_no_more() -> None:
    assert len(generate(network(), [[1] * (P - 5)], Length(), GREEDY)[0]) == 5
    assert len(generate(network(), [[1] * (P - 5)], Length(5), GREEDY)[0]) == 5


@pytest.mark.parametrize(
    ("prompt", "length", "message"),
    [
        ([], Length(), "the prompt is empty"),
        ([1] * P, Length(), f"the prompt has {P} tokens, the model {P} positions; give at most {P - 1}"),
        ([1] * 5, Length(P), f"max_length = {P}: after a prompt of 5 tokens the model has {P - 5} of its {P}"),
        ([1] * 5, Length(least=P), f"max_length = {P}: after a prompt of 5 tokens"),
    ],
)
def test_what_does_not_fit_is_refused(prompt: list[int], length: Length, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(network(), [prompt], length, GREEDY)


def test_lengths_and_beams_that_make_no_text_are_refused() -> None:
    with pytest.raises(ValueError, match="max_length = 3: must be at least 1 and min_length = 4"):
        Length(3, 4)
    with pytest.raises(ValueError, match="min_length = -1: must be at least 0"):
        Length(3, -1)
    with pytest.raises(ValueError, match="num_beams = 0: must be at least 1"):
        Choice(n_beams=0)
