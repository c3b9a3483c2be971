"""Do verdicts depend on the seed? All claims at 20 other seeds; the table lies beside this file, in seeds.txt."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from experiments.claims.lock import read_lock
from experiments.claims.record import Outcome, Settings
from experiments.claims.registry import ARTICLES, imported
from experiments.claims.runner import Task, probe, start_worker
from experiments.claims.verdict import decide
from experiments.store.location import Store

SEEDS = range(1, 21)
TABLE = Path(__file__).with_name("seeds.txt")


def outcomes(store: Store) -> dict[tuple[int, str], Outcome]:
    """(seed, claim) -> what its probe gave at effort quick."""
    tasks = [
        Task(place, claim.id, Settings(seed), store)
        for seed in SEEDS
        for places in ARTICLES.values()
        for place in places
        for claim in imported(place)
    ]
    context = multiprocessing.get_context("spawn")
    workers = min(2, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker) as pool:
        found = list(pool.map(probe, tasks, chunksize=8))
    return {(task.settings.seed, task.id): outcome for task, outcome in zip(tasks, found, strict=True)}


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_verdicts_agree_over_twenty_other_seeds(store: Store) -> None:
    found = outcomes(store)
    locked = read_lock()
    words: dict[str, Counter[str]] = {}
    for places in ARTICLES.values():
        claims = [claim for place in places for claim in imported(place)]
        for seed in SEEDS:
            evidence = [(claim, item) for claim in claims if (item := found[seed, claim.id].evidence) is not None]
            for (claim, _), decision in zip(evidence, decide(evidence), strict=True):
                words.setdefault(claim.id, Counter())[decision.verdict] += 1
    agree = {name: counts[locked[name]] for name, counts in words.items()}
    share = sum(agree.values()) / (len(words) * len(SEEDS))
    lines = [f"Verdicts at seeds {SEEDS[0]} to {SEEDS[-1]}, effort quick, against claims.lock (seed 0).\n\n"]
    for name, counts in words.items():
        others = ", ".join(f"{count} {word}" for word, count in counts.most_common() if word != locked[name])
        lines.append(f"{name:12} {locked[name]:13} {agree[name]:2}/{len(SEEDS)}  {others}".rstrip() + "\n")
    seconds = sum(outcome.seconds for outcome in found.values()) / len(SEEDS)
    lines.append(f"\n{share:.1%} of {len(words)} claims x {len(SEEDS)} seeds agree; {seconds:.0f} CPU-s a seed\n")
    TABLE.write_text("".join(lines), encoding="utf-8")
    assert not [key for key, outcome in found.items() if outcome.error]
    assert share >= 0.95
