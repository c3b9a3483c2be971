"""What a probe is given."""

from __future__ import annotations

import functools

import pytest
import torch

from experiments.claims.context import Context, design_names
from experiments.errors import ConfigError
from experiments.trial import PRUNED, TIMED_OUT
from tests.conftest import Writer


def test_draws_depend_on_seed_and_stream_alone() -> None:
    first, again = (Context(3).rng("noise").random(3).tolist() for _ in range(2))
    assert first == again
    assert first != Context(4).rng("noise").random(3).tolist()
    assert first != Context(3).rng("start").random(3).tolist()
    draws = [torch.rand(2, generator=Context(3).generator(name)).tolist() for name in ("a", "a", "b")]
    assert draws[0] == draws[1] != draws[2]


def test_a_design_follows_the_effort_or_the_user_in_its_own_type() -> None:
    custom = Context(custom={"n": "7", "rates": "1,2.5"})
    assert (Context().design("n", 1, 9), Context(effort="full").design("n", 1, 9)) == (1, 9)
    assert (custom.design("n", 1, 9), custom.design("rates", (0.1,), (0.1, 0.2))) == (7, (1.0, 2.5))
    with pytest.raises(ConfigError, match="--set n=many: must be a whole number above 0; this effort's is 1"):
        Context(custom={"n": "many"}).design("n", 1, 9)


def inner(context: Context) -> int:
    return context.design("inner", 1, 2)


@functools.cache
def cached(context: Context) -> int:
    return context.design("cached", 1, 2)


def test_the_names_of_a_design_are_read_from_a_probe_and_what_it_calls() -> None:
    bound = 2

    def probe(context: Context, size: int) -> int:
        return sum(context.design("nested", 1, bound) + inner(context) for _ in range(size)) + cached(context)

    assert design_names(functools.partial(probe, size=3)) == {"nested", "inner", "cached"}
    assert design_names(lambda context: inner(context)) == {"inner"}


def test_the_runs_of_a_study_are_its_finished_trials_oldest_first(writer: Writer) -> None:
    tags = {"taolu.kind": "trial", "taolu.study": "noise"}
    second = writer.run("b", start=9, tags=tags, params={"optimizer.lr": "0.2"}, metrics={"val/loss": [2.0, 1.0]})
    first = writer.run("a", tags=tags, params={"optimizer.lr": "0.1"})
    writer.run("failed", status="FAILED", tags=tags)
    writer.run("pruned", tags={**tags, "taolu.trial_end": PRUNED})
    writer.run("late", tags={**tags, "taolu.trial_end": TIMED_OUT})
    writer.run("other", tags={"taolu.kind": "trial", "taolu.study": "else"})
    rows = Context(store=writer.store).runs("noise")
    assert rows == [
        {"run_id": first, "optimizer.lr": "0.1"},
        {"run_id": second, "optimizer.lr": "0.2", "val/loss": 1.0},
    ]
    assert Context(store=writer.store).runs("none") == []
