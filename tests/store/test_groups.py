"""Runs of one config over seeds: means, intervals and paired tests, against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.errors import ConfigError
from experiments.store.groups import grouped, mean_of, members_of, paired
from tests.conftest import Writer

numbers = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12).filter(lambda given: np.std(given) > 1e-3)


@given(numbers)
def test_an_interval_is_students(values: list[float]) -> None:
    found = mean_of(values)
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    np.testing.assert_allclose([found.mean, found.low, found.high], [np.mean(values), low, high], rtol=1e-6, atol=1e-6)
    assert found.sd == pytest.approx(np.std(values, ddof=1))


@given(numbers, st.integers(0, 99))
def test_a_paired_test_is_scipys(values: list[float], seed: int) -> None:
    others = np.array(values) + np.random.default_rng(seed).normal(size=len(values))
    first, second = ({str(i): float(value) for i, value in enumerate(side)} for side in (values, others))
    found, known = paired(first, second), stats.ttest_rel(others, values)
    assert found is not None
    assert found.p == pytest.approx(known.pvalue, rel=1e-5, abs=1e-12)
    low, high = known.confidence_interval(0.95)
    np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-5, atol=1e-6)


def test_seeds_only_one_has_and_values_that_are_not_finite_do_not_pair() -> None:
    first = {"0": 1.0, "1": 2.0, "2": math.nan, "3": 4.0}
    second = {"0": 2.0, "1": 3.5, "2": 1.0, "4": 9.0}
    found = paired(first, second)
    assert found is not None
    assert (found.n, found.difference) == (2, 1.25)
    assert paired({"0": 1.0}, {"0": 2.0}) is None


def test_equal_differences_are_certain() -> None:
    assert [paired({"0": 1.0, "1": 2.0}, {"0": 1.0 + gap, "1": 2.0 + gap}).p for gap in (0.0, 1.0)] == [1.0, 0.0]  # type: ignore[union-attr]


def test_a_mean_without_two_values_has_no_interval() -> None:
    assert math.isnan(mean_of([3.0]).low)
    assert math.isnan(mean_of([math.inf]).mean)
    assert (mean_of([math.inf, 1.0]).n, mean_of([math.inf, 1.0]).n_lost) == (1, 1)


def test_groups_are_configs_and_a_seed_counts_once(writer: Writer) -> None:
    ids = []
    for start, (rate, seed) in enumerate([("0.1", "1"), ("0.1", "0"), ("0.2", "10"), ("0.2", "9"), ("0.1", "1")]):
        params = {"model": "vae", "optimizer.lr": rate, "seed": seed, "threads": str(start + 1)}
        ids.append(writer.run("n", start=start, params=params, metrics={"val/elbo": [float(start)]}))
    first, second = grouped(members_of(writer.store, ids))
    assert (first.label, second.label) == ("optimizer.lr 0.1", "optimizer.lr 0.2")
    assert first.values("val/elbo") == {"0": 1.0, "1": 4.0}
    assert list(second.values("val/elbo")) == ["9", "10"]
    assert [group.label for group in grouped(members_of(writer.store, ids[:2]))] == ["vae"]
    aside = {"model": "vae", "optimizer.lr": "0.1", "seed": "5", "trainer.keep.last": "false"}
    ids.append(writer.run("n", experiment="elsewhere", start=9, params=aside, metrics={"val/elbo": [9.0]}))
    assert grouped(members_of(writer.store, ids))[0].values("val/elbo") == {"0": 1.0, "1": 4.0, "5": 9.0}
    fork = {"taolu.parent": ids[0], "taolu.fork": '{"from_step": 7}'}
    ids.append(writer.run("n", start=10, params=aside, metrics={"val/elbo": [9.0]}, tags=fork))
    assert grouped(members_of(writer.store, ids))[-1].label == f"optimizer.lr 0.1, forked from {ids[0][:8]} step 7"
    with pytest.raises(ConfigError, match="holds no run 'nosuch'"):
        members_of(writer.store, ["nosuch"])


def test_a_label_leaves_out_what_only_one_class_has(writer: Writer) -> None:
    sgd = {"optimizer": "sgd", "optimizer.lr": "0.1", "optimizer.skip": "false"}
    adam = {"optimizer": "torch.Adam", "optimizer.lr": "0.1", "optimizer.eps": "1e-08"}
    ids = [writer.run("n", params={**params, "seed": "0"}) for params in (sgd, adam, {**adam, "optimizer.eps": "1"})]
    assert [group.label for group in grouped(members_of(writer.store, ids[:2]))] == [
        "optimizer sgd",
        "optimizer torch.Adam",
    ]
    assert [group.label for group in grouped(members_of(writer.store, ids))] == [
        "optimizer sgd",
        "optimizer torch.Adam, optimizer.eps 1e-08",
        "optimizer torch.Adam, optimizer.eps 1",
    ]


def test_a_config_is_that_of_the_last_session(writer: Writer) -> None:
    ids = [writer.run("n", params={"trainer.max_epochs": "2", "seed": str(seed)}) for seed in range(2)]
    writer.file(ids[0], "config.yaml", "trainer: {max_epochs: 9}\nseed: 0\n")
    assert [group.label for group in grouped(members_of(writer.store, ids))] == [
        "trainer.max_epochs 9",
        "trainer.max_epochs 2",
    ]
