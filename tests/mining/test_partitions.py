"""Partitions against mining in one go; kills, resumption and processes."""

import multiprocessing
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.apriori import mine_itemsets
from mining.baskets import Baskets
from mining.partitions import mine_partitions

Rows = list[list[Any]]
ROWS = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=6), max_size=30)


def drifting(n_rows: int) -> Rows:
    """Baskets whose habits change on the way, so that parts find different sets."""
    rng = np.random.default_rng(0)
    share = np.linspace(0.05, 0.5, 12)
    return [
        [f"i{item}" for item in np.flatnonzero(rng.random(12) < np.roll(share, 4 * row // n_rows))]
        for row in range(n_rows)
    ]


def chunks(rows: Rows, size: int) -> Iterator[Baskets]:
    for at in range(0, len(rows), size):
        yield Baskets.of(rows[at : at + size])


@settings(max_examples=25, deadline=None)
@given(ROWS, st.integers(1, 5), st.integers(1, 12), st.integers(1, 12))
def test_parts_give_what_one_go_gives(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, minimum: int, part_size: int, chunk_size: int
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    found = mine_partitions(chunks(rows, chunk_size), minimum, folder, part_size=part_size)
    assert dict(found) == dict(mine_itemsets(rows, minimum))
    assert found.n_baskets == len(rows)


def test_sets_frequent_in_some_parts_only_are_counted_in_all(tmp_path: Path) -> None:
    rows = drifting(3000)
    found = mine_partitions(chunks(rows, 700), 0.04, tmp_path, part_size=500)
    assert dict(found) == dict(mine_itemsets(rows, 0.04))


def test_a_killed_run_goes_on_with_the_part_it_was_at(tmp_path: Path) -> None:
    rows = drifting(900)

    def dying_map(function: Any, jobs: Any) -> Iterator[Any]:
        for job in jobs:
            if job.number == 2:
                raise KeyboardInterrupt
            yield function(job)

    with pytest.raises(KeyboardInterrupt):
        mine_partitions(chunks(rows, 200), 0.05, tmp_path, part_size=300, map=dying_map)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("sets-*.npz")}
    assert len(written) == 2
    found = mine_partitions(iter(()), 0.05, tmp_path, part_size=300)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert dict(found) == dict(mine_itemsets(rows, 0.05))


def test_parts_can_be_mined_by_other_processes(tmp_path: Path) -> None:
    rows = drifting(600)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = mine_partitions(chunks(rows, 200), 0.05, tmp_path, part_size=200, map=pool.imap)
    assert dict(found) == dict(mine_itemsets(rows, 0.05))


def test_a_part_of_no_baskets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="part_size = 0"):
        mine_partitions(iter(()), 0.1, tmp_path, part_size=0)


def quest(n_baskets: int, seed: int) -> Baskets:
    """Baskets of about ten of 1,000 items, made of patterns of about four (after Agrawal & Srikant 1994)."""
    patterns = np.random.default_rng(1)
    starts = np.concatenate(([0], np.cumsum(patterns.poisson(3, 2000) + 1)))
    members = patterns.integers(0, 1000, starts[-1])
    weights = patterns.exponential(size=2000)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(2000, (n_baskets, 3), p=weights / weights.sum())
    sizes = np.diff(starts)[chosen]
    rows = np.repeat(np.repeat(np.arange(n_baskets), 3), sizes.ravel())
    at = np.arange(len(rows)) - np.repeat(np.cumsum(sizes.ravel()) - sizes.ravel(), sizes.ravel())
    items = members[np.repeat(starts[chosen].ravel(), sizes.ravel()) + at]
    kept = rng.random(len(rows)) < 0.8
    keys = np.unique(rows[kept] * 1000 + items[kept])
    indptr = np.searchsorted(keys, np.arange(n_baskets + 1) * 1000)
    return Baskets(range(1000), indptr.astype(np.int64), (keys % 1000).astype(np.int32))


def mine_quest(folder: Path, n_chunks: int) -> None:
    """Run by a process of its own, whose time and memory are then known."""
    found = mine_partitions((quest(100_000, seed) for seed in range(n_chunks)), 0.001, folder)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = [len(found), int(found.counts.sum()), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6]
    (folder / "figures.txt").write_text(" ".join(map(str, figures)), encoding="utf-8")


def figures_of(folder: Path, n_chunks: int) -> tuple[float, ...]:
    process = multiprocessing.get_context("spawn").Process(target=mine_quest, args=(folder, n_chunks))
    process.start()
    process.join()
    return tuple(map(float, (folder / "figures.txt").read_text(encoding="utf-8").split()))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_million_baskets_need_two_gigabytes_and_a_minute(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "whole").mkdir()
    drawn = [quest(100_000, seed) for seed in range(10)]
    n_sets, total, _, _ = figures_of(tmp_path / "part", 10)
    lengths = np.concatenate([np.diff(c.indptr) for c in drawn])
    indptr = np.concatenate(([0], np.cumsum(lengths)))
    at_once = mine_itemsets(Baskets(range(1000), indptr, np.concatenate([c.indices for c in drawn])), 0.001)
    assert (n_sets, total) == (len(at_once), at_once.counts.sum())
    _, _, seconds, gigabytes = figures_of(tmp_path / "whole", 100)
    assert gigabytes <= 2
    assert seconds <= 60 + drawing_seconds(100)


def drawing_seconds(n_chunks: int) -> float:
    """CPU time of drawing that many chunks."""
    start = time.process_time()
    quest(100_000, 0)
    return (time.process_time() - start) * n_chunks
